//! Writes: commit, then the invalidation in its own order.

use super::{Action, L1, MESSAGES, Mutant, Shared};

/// How far a write is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Phase {
    /// Not begun.
    #[default]
    Idle,
    /// Committed.
    Committed,
    /// Blocked, removed, poisoned.
    Begun,
    /// The first of two scripts has run.
    Half,
    /// The script has run.
    Ran,
    /// Done, the caller is told Ok.
    Ok,
}

/// A write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Write {
    /// How far it is.
    pub phase: Phase,
    /// Its commit, for key A.
    pub version: u8,
    /// Ticks since its INVALIDATE was done for the first time.
    pub done: Option<u8>,
    /// Its message, counted from 1; 0 without one.
    pub message: u8,
}

/// A message, and what the writer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Msg {
    /// The partition's incarnation.
    pub incarnation: u8,
    /// Its sequence.
    pub sequence: u8,
    /// The commit, if key A's; else 0.
    pub version: u8,
    /// The writer's node.
    pub from: u8,
}

impl L1 {
    pub(super) fn write_actions(&self, s: &Shared, actions: &mut Vec<Action>) {
        for (w, (_, key_a)) in self.writers.iter().enumerate() {
            match s.writes[w].phase {
                Phase::Idle => actions.push(Action::Commit(w)),
                Phase::Committed => actions.push(Action::Begin(w)),
                Phase::Begun => {
                    if self.is(Mutant::OkThoughFailed) {
                        actions.push(Action::Ok(w));
                    }
                    if s.messages[MESSAGES - 1].is_none() {
                        match (self.moving, self.is(Mutant::PublishBeforeTombstone)) {
                            (false, _) => actions.push(Action::Script(w)),
                            (true, false) => actions.push(Action::ScriptTombstone(w)),
                            (true, true) => actions.push(Action::ScriptPublish(w)),
                        }
                    }
                    if self.oom && *key_a {
                        actions.push(Action::Unlink(w));
                    }
                }
                Phase::Half if self.is(Mutant::PublishBeforeTombstone) => actions.push(Action::ScriptTombstone(w)),
                Phase::Half => actions.push(Action::ScriptPublish(w)),
                Phase::Ran => {
                    actions.push(Action::Ok(w));
                    if self.unanswered {
                        actions.push(Action::Unanswered(w));
                    }
                }
                Phase::Ok => {}
            }
        }
    }

    pub(super) fn write(&self, s: &mut Shared, action: Action) {
        match action {
            Action::Commit(w) => {
                if self.writers[w].1 {
                    s.db += 1;
                    s.writes[w].version = s.db;
                }
                s.writes[w].phase = Phase::Committed;
            }
            Action::Begin(w) => {
                self.remove_own(s, w);
                s.writes[w].phase = Phase::Begun;
            }
            Action::Script(w) => {
                let current = s.l2.is_some_and(|value| value >= s.writes[w].version);
                self.tombstone(s, w);
                if !(current && self.is(Mutant::CurrentIsSilent)) {
                    self.publish(s, w);
                }
                Self::ran(s, w);
            }
            Action::ScriptTombstone(w) => {
                self.tombstone(s, w);
                Self::half(s, w);
            }
            Action::ScriptPublish(w) => {
                self.publish(s, w);
                Self::half(s, w);
            }
            Action::Unlink(w) => {
                s.l2 = None;
                if !self.is(Mutant::OomKeepsMeta) {
                    s.meta = None;
                }
                s.writes[w].message = 0;
                Self::ran(s, w);
            }
            Action::Unanswered(w) => s.writes[w].phase = Phase::Begun,
            Action::Ok(w) => {
                let (n, write) = (self.writers[w].0, s.writes[w]);
                if !self.is(Mutant::OwnRemovedOnlyBefore) {
                    self.remove_own(s, w);
                }
                if self.readers[n] {
                    let node = &mut s.nodes[n];
                    let message = write.message.checked_sub(1).and_then(|at| s.messages[usize::from(at)]);
                    if let Some(message) = message.filter(|message| message.incarnation == node.incarnation) {
                        node.apply(message.sequence, self);
                    }
                    node.processed = node.processed.max(write.version);
                }
                s.writes[w].phase = Phase::Ok;
            }
            _ => unreachable!(),
        }
    }

    fn remove_own(&self, s: &mut Shared, w: usize) {
        let version = s.writes[w].version;
        if version > 0 {
            s.nodes[self.writers[w].0].remove(version, self);
        }
    }

    fn tombstone(&self, s: &mut Shared, w: usize) {
        if self.writers[w].1 && s.l2.is_some_and(|value| value < s.writes[w].version) {
            s.l2 = None;
        }
    }

    fn publish(&self, s: &mut Shared, w: usize) {
        if s.meta.is_none() {
            s.incarnations += 1;
        }
        let (incarnation, sequence) = s.meta.map_or((s.incarnations, 1), |(incarnation, sequence)| (incarnation, sequence + 1));
        s.meta = Some((incarnation, sequence));
        let message = Msg { incarnation, sequence, version: s.writes[w].version, from: self.writers[w].0 as u8 };
        let Some(at) = s.messages.iter().position(Option::is_none) else { unreachable!() };
        s.messages[at] = Some(message);
        s.writes[w].message = at as u8 + 1;
        for node in &mut s.nodes {
            if node.sub != super::Sub::Off && !node.cut {
                node.coming |= 1 << at;
            }
        }
    }

    fn half(s: &mut Shared, w: usize) {
        if s.writes[w].phase == Phase::Half { Self::ran(s, w) } else { s.writes[w].phase = Phase::Half }
    }

    fn ran(s: &mut Shared, w: usize) {
        s.writes[w].phase = Phase::Ran;
        s.writes[w].done.get_or_insert(0);
    }

    /// Whether a write holds key A on this node.
    pub(super) fn blocked(&self, s: &Shared, n: usize) -> bool {
        self.block
            && !self.is(Mutant::OwnRemovedOnlyBefore)
            && self
                .writers
                .iter()
                .zip(&s.writes)
                .any(|((of, key_a), write)| *of == n && *key_a && matches!(write.phase, Phase::Begun | Phase::Half | Phase::Ran))
    }
}
