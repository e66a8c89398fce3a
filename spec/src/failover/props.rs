//! The promise, as long as no failover has lost what it rests on, and again once that was repeated.

use super::{B, Failover, Load, Mutant, Phase, Shared};
use stateright::Property;

impl Failover {
    /// The newest commit that L2 was told of so many ticks ago, and has not lost.
    fn told_before(s: &Shared, ticks: u8) -> u8 {
        let told = s.writes.iter().filter(|write| matches!(write.phase, Phase::Told | Phase::Raised));
        told.filter(|write| !write.lost && write.age >= ticks).map(|write| write.version).max().unwrap_or(0)
    }

    /// What L2 has for a reader that knows the generation.
    fn in_l2(&self, s: &Shared) -> Option<u8> {
        let rec = &s.master.rec;
        let generation = match s.master.meta {
            Some(meta) => meta.generation,
            None if self.is(Mutant::GenerationFromZero) => 0,
            None => return None,
        };
        (rec.has_value() && rec.generation == generation).then_some(rec.value)
    }

    pub(super) fn all_properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![Property::always(
            "I1: what an invalidation that is done and not lost has replaced is not in L2",
            |model: &Self, s: &Shared| model.in_l2(s).is_none_or(|value| value >= Self::told_before(s, 0)),
        )];
        if self.loads > 0 {
            all.push(Property::sometimes("a value is in L2 after an invalidation", |model: &Self, s: &Shared| {
                model.in_l2(s).is_some_and(|value| value > 0)
            }));
        }
        if self.promotions > 0 {
            all.push(Property::sometimes("an old value returns, until it is told again", |model: &Self, s: &Shared| {
                s.writes.iter().any(|write| write.lost && model.in_l2(s).is_some_and(|value| value < write.version))
            }));
        }
        if self.promotions > 0 && !self.is(Mutant::NoReplay) {
            all.push(Property::sometimes("what was lost is told again", |_, s: &Shared| {
                s.promoted > 0
                    && s.writes.iter().any(|write| write.phase == Phase::Told && write.run == s.run && !write.replicated)
            }));
        }
        if self.is(Mutant::NoReplay) {
            // Without the exception: the promise is then broken for good.
            all.push(Property::always(
                "I1 for good: once all is told and nobody has anything left to do",
                |model: &Self, s: &Shared| {
                    let done = s.writes[..model.writes].iter().all(|write| write.phase == Phase::Told);
                    let quiet = s.loads.iter().all(|load| matches!(load, Load::Idle | Load::Done));
                    !done || !quiet || model.in_l2(s).is_none_or(|value| value == s.db)
                },
            ));
        }
        if self.forget {
            all.push(Property::sometimes("a record of an earlier generation is passed over", |model: &Self, s: &Shared| {
                s.master.rec.has_value() && model.in_l2(s).is_none() && s.master.meta.is_some()
            }));
        }
        if self.reader {
            all.push(Property::always("I3: what is served as verified is no older than B", |_, s: &Shared| {
                s.node.hit().is_none_or(|entry| entry.value >= Self::told_before(s, B))
            }));
            all.push(Property::always("I3: who joins a flight is given nothing older than B", |_, s: &Shared| {
                let joined = s.node.flight.filter(|flight| s.node.verified > 0 || flight.good > 0);
                joined.and_then(|flight| flight.value).is_none_or(|value| value >= Self::told_before(s, B))
            }));
            all.push(Property::always("I1 within B: L2 gives a reader nothing that is older", |model: &Self, s: &Shared| {
                model.read_l2(s).is_none_or(|value| value >= Self::told_before(s, B))
            }));
            all.push(Property::always("I2: who has processed an invalidation has nothing older", |_, s: &Shared| {
                let flight = s.node.flight.and_then(|flight| flight.value);
                s.node.entry.map(|entry| entry.value).into_iter().chain(flight).all(|value| value >= s.node.processed)
            }));
            all.push(Property::sometimes("an entry older than B is served verified", |_, s: &Shared| {
                s.node.hit().is_some_and(|entry| entry.good == 0 && entry.value > 0)
            }));
            all.push(Property::sometimes("an entry outlives its suspicion", |_, s: &Shared| {
                s.node.entry.is_some_and(|entry| entry.suspect) && s.node.verified > 0
            }));
        }
        all
    }
}
