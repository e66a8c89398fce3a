//! Announced writes: the marks of a `Q` record, and what MARK and UNMARK do to a key.
//!
//! A mark is a token and a deadline of its own, and a `Q` record's payload is the list of them. A bare count would be taken down by a
//! writer whose mark has long ended, or twice by one that repeats its UNMARK, and with it goes another writer's protection (`spec`,
//! `MarksCounted` and `UnmarkRepeated`).

use crate::key::Echo;
use crate::machine::{Slot, step_invalidate};
use crate::mutant::{Mutant, is};
use crate::record::{Body, LONGEST_MS, Record, State, millis};
use crate::remote::{Invalidated, Mark, Marked, Unmark};
use crate::token::Token;
use bytes::Bytes;

/// What a mark takes in the payload.
const MARK_LEN: usize = 22;
/// So many may be open on a key at a time; whatever stands behind them in a payload is not looked at.
pub const MOST_MARKS: usize = 64;

/// The `Q` record of these marks: each a token, and when it ends in ms of the store's clock. Without any it is a tombstone in all but its state.
pub fn marked(marks: &[(Token, u64)], floor: u64, echo: Echo) -> Record {
    let mut payload = Vec::with_capacity(marks.len() * MARK_LEN);
    for (token, deadline) in marks {
        payload.extend_from_slice(token.as_bytes());
        payload.extend_from_slice(&deadline.to_be_bytes()[2..]);
    }
    Record {
        state: State::Marked,
        version: floor,
        token: Token::default(),
        deadline: marks.iter().map(|(_, deadline)| *deadline).max().unwrap_or(0),
        created: 0,
        marks: marks.len() as u16,
        body: Body { payload: Bytes::from(payload), ..Body::empty(0, 0, echo) },
    }
}

/// The marks of a record that have not ended at `now`: each a token, and when it ends.
pub fn open_marks(record: &Record, now: u64) -> Vec<(Token, u64)> {
    if record.state != State::Marked {
        return Vec::new();
    }
    let marks = record.body.payload.chunks_exact(MARK_LEN).take(MOST_MARKS).map(|mark| {
        let (mut token, mut deadline) = ([0; 16], [0; 8]);
        token.copy_from_slice(&mark[..16]);
        deadline[2..].copy_from_slice(&mark[16..]);
        (Token::from_bytes(token), u64::from_be_bytes(deadline))
    });
    marks.filter(|(_, deadline)| *deadline > now).collect()
}

/// What was there is gone, its version stays as the floor, and no lease is granted before the mark ends.
pub(crate) fn step_mark(slot: Slot, mark: &Mark, echo: Echo, now: u64) -> (Slot, Marked) {
    let (floor, stay, mut marks) = match &slot {
        Slot::Absent => (0, 0, Vec::new()),
        Slot::Newer { version } => (*version, 0, Vec::new()),
        Slot::Foreign => return (slot, Marked::Foreign),
        // A value's own time says nothing of its floor; where there is none, the floor stays for as long as it would have.
        Slot::Held { record, .. } if record.state.has_value() => (record.version, 0, Vec::new()),
        Slot::Held { record, expires } => (record.version, *expires, open_marks(record, now)),
    };
    // A repeated MARK is the same mark.
    marks.retain(|(of, _)| *of != mark.token);
    if marks.len() >= MOST_MARKS {
        return (slot, Marked::TooMany);
    }
    marks.push((mark.token, (now + millis(mark.life)).min(LONGEST_MS)));
    let expires = stay.max(now + millis(mark.retain.max(mark.life)).max(1));
    (Slot::Held { record: marked(&marks, floor, echo), expires }, Marked::Announced)
}

/// Whether or not the mark is still there, the key is invalidated; while others' marks are open it stays marked.
pub(crate) fn step_unmark(slot: Slot, unmark: &Unmark, echo: Echo, now: u64) -> (Slot, Invalidated) {
    let slot = match slot {
        Slot::Held { record, expires } if record.state == State::Marked => {
            let mut marks = open_marks(&record, now);
            marks.retain(|(of, _)| *of != unmark.token && !is(Mutant::UnmarkTakesAll));
            Slot::Held { record: marked(&marks, record.version, record.body.echo), expires }
        }
        slot => slot,
    };
    step_invalidate(slot, unmark.version, unmark.retain, echo, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Command, Reply, step};
    use crate::remote::{Acquire, Acquired, Claim};
    use std::time::Duration;

    const NOW: u64 = 1_795_000_000_000;
    const RETAIN: Duration = Duration::from_secs(60);

    /// One key, driven step by step.
    struct Key(Slot);

    impl Key {
        fn mark(&mut self, of: u8, life: u64, now: u64) -> Marked {
            let mark = Mark { token: token(of), life: Duration::from_millis(life), retain: RETAIN };
            match self.step(&Command::Mark(&mark, Echo::default()), now) {
                Reply::Mark(reply) => reply,
                reply => panic!("{reply:?}"),
            }
        }

        fn unmark(&mut self, of: u8, version: Option<u64>, now: u64) -> Invalidated {
            let unmark = Unmark { token: token(of), version, retain: RETAIN };
            match self.step(&Command::Unmark(&unmark, Echo::default()), now) {
                Reply::Unmark(reply) => reply,
                reply => panic!("{reply:?}"),
            }
        }

        fn acquire(&mut self, now: u64) -> Acquired {
            let (lease, claim) = (Duration::from_secs(2), Claim::Force);
            let acquire = Acquire { token: token(250), lease, retain: RETAIN, claim, schema: 1, generation: 0 };
            match self.step(&Command::Acquire(&acquire, Echo::default()), now) {
                Reply::Acquire(reply) => reply,
                reply => panic!("{reply:?}"),
            }
        }

        fn step(&mut self, command: &Command<'_>, now: u64) -> Reply {
            let (slot, reply) = step(self.0.clone(), command, now);
            self.0 = slot;
            reply
        }

        fn held(&self) -> (&Record, u64) {
            let Slot::Held { record, expires } = &self.0 else { panic!("{:?}", self.0) };
            (record, *expires)
        }
    }

    fn token(of: u8) -> Token {
        Token::from_bytes([of; 16])
    }

    #[test]
    fn marks_are_bytes_of_the_record_as_it_is() {
        let mut key = Key(Slot::Absent);
        key.mark(1, 2_000, NOW);
        key.mark(2, 3_000, NOW);
        let (record, _) = key.held();
        assert_eq!(Record::decode_any(&record.encode().into()).as_ref(), Ok(record));
        assert_eq!(open_marks(record, NOW + 2_000), [(token(2), NOW + 3_000)], "the first has ended");
        assert_eq!((record.marks, record.deadline), (2, NOW + 3_000));
        let last = Mark { token: token(3), life: Duration::MAX, retain: RETAIN };
        key.step(&Command::Mark(&last, Echo::default()), NOW);
        assert_eq!(Record::decode_any(&key.held().0.encode().into()).as_ref(), Ok(key.held().0), "six bytes a deadline");
    }

    #[test]
    fn a_marked_key_has_no_value_and_keeps_its_version_as_the_floor() {
        let value = marked(&[], 7, Echo::default());
        let value = Record { state: State::Value, token: token(9), created: NOW, ..value };
        let mut key = Key(Slot::Held { record: value, expires: NOW + 86_400_000 });
        assert_eq!(key.mark(1, 2_000, NOW), Marked::Announced);
        let (record, expires) = key.held();
        assert_eq!((record.state, record.version, expires), (State::Marked, 7, NOW + 60_000));
        assert_eq!(key.acquire(NOW), Acquired::Busy(Duration::from_secs(2)));
        assert_eq!(key.acquire(NOW + 1_999), Acquired::Busy(Duration::from_millis(1)));
        assert!(matches!(key.acquire(NOW + 2_000), Acquired::Granted { floor: 7, .. }), "a dead writer's mark ends by itself");
    }

    #[test]
    fn an_unmark_takes_its_own_mark_and_no_other() {
        let mut key = Key(Slot::Absent);
        key.mark(1, 2_000, NOW);
        key.mark(2, 3_000, NOW);
        for _ in 0..2 {
            assert_eq!(key.unmark(1, Some(7), NOW), Invalidated::Tombstoned);
            assert_eq!((key.held().0.state, key.held().0.version, key.held().0.marks), (State::Marked, 7, 1));
        }
        key.unmark(2, Some(6), NOW);
        assert_eq!((key.held().0.state, key.held().0.version), (State::Tombstone, 7));
        assert_eq!(key.unmark(2, Some(8), NOW), Invalidated::Tombstoned, "without its mark it is an invalidation");
        assert!(matches!(key.acquire(NOW), Acquired::Granted { floor: 8, .. }));
    }

    #[test]
    fn a_repeated_mark_is_renewed_and_not_added() {
        let mut key = Key(Slot::Absent);
        key.mark(1, 2_000, NOW);
        key.mark(1, 2_000, NOW + 1_500);
        assert_eq!(open_marks(key.held().0, NOW), [(token(1), NOW + 3_500)]);
        key.unmark(1, None, NOW);
        assert_eq!(key.held().0.state, State::Tombstone);
    }

    #[test]
    fn marks_that_have_ended_go_whenever_the_list_is_written() {
        let mut key = Key(Slot::Absent);
        key.mark(1, 1_000, NOW);
        key.mark(2, 5_000, NOW);
        key.mark(3, 5_000, NOW + 1_000);
        assert_eq!(key.held().0.marks, 2, "by a mark");
        key.mark(4, 9_000, NOW + 1_000);
        key.unmark(3, None, NOW + 5_000);
        assert_eq!(key.held().0.marks, 1, "and by an unmark");
    }

    #[test]
    fn a_65th_mark_is_refused_and_changes_nothing() {
        let mut key = Key(Slot::Absent);
        for of in 0..64 {
            assert_eq!(key.mark(of, 2_000, NOW), Marked::Announced);
        }
        let full = key.0.clone();
        assert_eq!(key.mark(64, 2_000, NOW), Marked::TooMany);
        assert_eq!(key.0, full);
        assert_eq!(key.mark(63, 2_500, NOW), Marked::Announced, "one of them may be renewed");
        assert_eq!(key.mark(64, 2_000, NOW + 2_000), Marked::Announced, "once one of them has ended");
    }

    #[test]
    fn what_is_foreign_is_left_and_said_and_a_later_format_is_marked() {
        let mut key = Key(Slot::Foreign);
        assert_eq!((key.mark(1, 2_000, NOW), key.unmark(1, None, NOW)), (Marked::Foreign, Invalidated::Foreign));
        assert_eq!(key.0, Slot::Foreign);
        let mut key = Key(Slot::Newer { version: 4 });
        assert_eq!(key.mark(1, 2_000, NOW), Marked::Announced);
        assert_eq!((key.held().0.state, key.held().0.version), (State::Marked, 4));
    }
}
