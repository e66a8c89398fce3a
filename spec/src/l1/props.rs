//! What a reader may be given in each state, and the invariants of it.

use super::{B, Entry, G, L1, Mutant, Node, Shared, Sub};
use stateright::Property;

/// What a reader that comes now would be given without asking anyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// The commit whose value it is.
    pub value: u8,
    /// Whether it counts as verified; else it is marked.
    pub verified: bool,
}

impl L1 {
    /// Whether an entry is served as verified: of this epoch, not marked, and either verified, or so young that a bound of B holds anyway.
    pub(super) fn is_hit(&self, node: &Node, entry: Entry) -> bool {
        let trusted = node.verified > 0 || (self.lease && entry.age < B);
        !entry.suspect && !entry.marked && trusted
    }

    /// All that readers on this node might be given now.
    pub fn given(&self, s: &Shared, n: usize) -> impl Iterator<Item = Given> + use<> {
        let node = s.nodes[n];
        let open = !node.stopped && !self.blocked(s, n);
        let entry = node.entry.filter(|_| open).and_then(|entry| {
            let hit = self.is_hit(&node, entry);
            let grace = node.cut
                && (!entry.suspect || self.is(Mutant::GraceForSuspects))
                && !entry.marked
                && (node.grace > 0 || entry.age < B + G);
            (hit || grace).then_some(Given { value: entry.value, verified: hit })
        });
        let flight = node.flight.filter(|_| open).and_then(|flight| {
            let young = node.verified > 0 || flight.age < B || !self.lease;
            let joined = (!flight.poisoned && (young || self.is(Mutant::JoinUnverified))) || self.is(Mutant::JoinPoisoned);
            let value = flight.value.filter(|_| joined && flight.ticket && !flight.marked)?;
            Some(Given { value, verified: true })
        });
        entry.into_iter().chain(flight)
    }

    /// The newest commit to A whose INVALIDATE was done so many ticks ago.
    fn done_before(s: &Shared, ticks: u8) -> u8 {
        s.writes.iter().filter(|write| write.done.is_some_and(|age| age >= ticks)).map(|write| write.version).max().unwrap_or(0)
    }

    fn each(&self, s: &Shared, holds: impl Fn(&Node, Given) -> bool) -> bool {
        (0..s.nodes.len()).all(|n| self.given(s, n).all(|given| holds(&s.nodes[n], given)))
    }

    pub(super) fn all_properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always("I1: what an INVALIDATE that is done has replaced is not in L2", |_, s: &Shared| {
                s.l2.is_none_or(|value| value >= Self::done_before(s, 0))
            }),
            Property::always(
                "I2: who has processed an invalidation, or told Ok, gives nothing older",
                |model: &Self, s: &Shared| {
                    model.each(s, |node, given| given.value >= node.processed)
                        && s.nodes.iter().all(|node| node.entry.is_none_or(|entry| entry.value >= node.processed))
                },
            ),
            Property::always("I12: who has all up to a write's sequence gives nothing older", |model: &Self, s: &Shared| {
                s.messages.iter().flatten().all(|message| {
                    model.each(s, |node, given| {
                        let covers = node.incarnation == message.incarnation && node.applied >= message.sequence;
                        !covers || given.value >= message.version
                    })
                })
            }),
            Property::sometimes("a value is stored after an invalidation", |_, s: &Shared| {
                s.nodes.iter().any(|node| node.entry.is_some_and(|entry| entry.value > 0))
            }),
        ];
        if self.lease {
            all.push(Property::always("I3: what is given as verified is no older than B", |model: &Self, s: &Shared| {
                let floor = Self::done_before(s, B);
                model.each(s, |_, given| !given.verified || given.value >= floor)
            }));
            all.push(Property::sometimes("an entry older than B is served verified", |model: &Self, s: &Shared| {
                s.nodes.iter().any(|node| node.entry.is_some_and(|entry| entry.age >= B && model.is_hit(node, entry)))
            }));
            all.push(Property::sometimes("a flight that is older than B is joined", |_, s: &Shared| {
                s.nodes.iter().any(|node| node.verified > 0 && node.flight.is_some_and(|flight| flight.age >= B))
            }));
        } else {
            all.push(Property::always(
                "I2: whoever trusts its subscription, and has had all, gives nothing older",
                |model: &Self, s: &Shared| {
                    let floor = Self::done_before(s, 0);
                    model.each(s, |node, given| {
                        node.coming != 0 || node.sub != Sub::On || node.verified == 0 || given.value >= floor
                    })
                },
            ));
        }
        if self.lease && (self.lose || self.evict > 0 || self.oom || self.breaks > 0) {
            all.push(Property::sometimes("a suspect entry outlives its suspicion", |_, s: &Shared| {
                s.nodes.iter().any(|node| node.entry.is_some_and(|entry| entry.suspect) && node.verified > 0)
            }));
        }
        if self.cut {
            all.push(Property::always(
                "I3: what is given in the time of grace is no older than B + G",
                |model: &Self, s: &Shared| {
                    let floor = Self::done_before(s, B + G);
                    model.each(s, |_, given| given.value >= floor)
                },
            ));
            all.push(Property::sometimes("an entry is served in the time of grace", |model: &Self, s: &Shared| {
                (0..s.nodes.len()).any(|n| model.given(s, n).any(|given| !given.verified))
            }));
        }
        if self.foreign > 0 {
            all.push(Property::always("I2 of tracking: after its push nothing older is given", |model: &Self, s: &Shared| {
                model.each(s, |node, given| given.value >= node.pushed)
            }));
            all.push(Property::sometimes("a marked entry waits for its header", |_, s: &Shared| {
                s.nodes.iter().any(|node| node.entry.is_some_and(|entry| entry.marked))
            }));
        }
        all
    }
}
