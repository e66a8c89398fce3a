//! MARK and UNMARK, the two verbs of strict mode that the record's machine does not have yet, written as it is: slot × command ×
//! now → slot × reply. They are meant to move there.
//!
//! A mark is a token and a deadline of its own, 22 bytes; a `Q` record's payload is the list of them. A bare count would be
//! taken down by a writer whose mark has long ended, or twice by one that repeats its UNMARK, and with it goes another writer's
//! protection (the mutants `MarksCounted` and `UnmarkRepeated`).

use bytes::Bytes;
use cache_core::record::{Body, Record, State};
use cache_core::{Command, Echo, Invalidated, Reply, Slot, Token, step};
use std::time::Duration;

const MARK_LEN: usize = 22;

/// MARK: announces a commit. What was there is gone, its version stays as the floor, and no lease is granted before the mark ends.
pub fn mark(slot: Slot, token: Token, life: u64, retain: u64, now: u64) -> Slot {
    let (floor, stay, mut marks) = match slot {
        Slot::Held { record, expires } if expires > now => (record.version, expires, open_marks(&record, now)),
        Slot::Absent | Slot::Held { .. } => (0, 0, Vec::new()),
        Slot::Newer { version } => (version, 0, Vec::new()),
        Slot::Foreign => return slot,
    };
    // A repeated MARK is the same mark.
    marks.retain(|(of, _)| *of != token);
    marks.push((token, now + life));
    marked(&marks, floor, stay.max(now + retain.max(life)))
}

/// UNMARK: ends a mark after the commit, or after it was given up (`version` is then `None`). Whether or not the mark is still
/// there, the key is invalidated; while others' marks are open it stays marked.
pub fn unmark(slot: Slot, token: Token, version: Option<u64>, retain: u64, now: u64) -> (Slot, Invalidated) {
    let (slot, rest) = match slot {
        Slot::Held { record, expires } if record.state == State::Marked && expires > now => {
            let mut marks = open_marks(&record, now);
            marks.retain(|(of, _)| *of != token);
            let rest = !marks.is_empty();
            (if rest { marked(&marks, record.version, expires) } else { unlocked(&record, expires) }, rest)
        }
        slot => (slot, false),
    };
    let retain = Duration::from_millis(retain);
    match step(slot, &Command::Invalidate { version, retain, echo: Echo::default() }, now) {
        (slot, Reply::Invalidate(reply)) => {
            debug_assert!(!rest || matches!(&slot, Slot::Held { record, .. } if record.state == State::Marked));
            (slot, reply)
        }
        (_, reply) => unreachable!("{reply:?}"),
    }
}

/// A `Q` record with its last mark taken away is a tombstone.
fn unlocked(record: &Record, expires: u64) -> Slot {
    let body = Body::empty(0, 0, record.body.echo);
    let record = Record { state: State::Tombstone, deadline: 0, marks: 0, body, ..record.clone() };
    Slot::Held { record, expires }
}

/// The `Q` record of these marks.
pub fn marked(marks: &[(Token, u64)], floor: u64, expires: u64) -> Slot {
    let mut payload = Vec::with_capacity(marks.len() * MARK_LEN);
    for (token, deadline) in marks {
        payload.extend_from_slice(token.as_bytes());
        payload.extend_from_slice(&deadline.to_be_bytes()[2..]);
    }
    let record = Record {
        state: State::Marked,
        version: floor,
        token: Token::default(),
        deadline: marks.iter().map(|(_, deadline)| *deadline).max().unwrap_or(0),
        created: 0,
        marks: marks.len() as u16,
        body: Body { payload: Bytes::from(payload), ..Body::empty(0, 0, Echo::default()) },
    };
    Slot::Held { record, expires }
}

/// The marks of a record that have not ended; those that have are forgotten.
pub fn open_marks(record: &Record, now: u64) -> Vec<(Token, u64)> {
    if record.state != State::Marked {
        return Vec::new();
    }
    let marks = record.body.payload.chunks_exact(MARK_LEN).map(|mark| {
        let (mut token, mut deadline) = ([0; 16], [0; 8]);
        token.copy_from_slice(&mark[..16]);
        deadline[2..].copy_from_slice(&mark[16..]);
        (Token::from_bytes(token), u64::from_be_bytes(deadline))
    });
    marks.filter(|(_, deadline)| *deadline > now).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_000_000_000;

    fn token(of: u8) -> Token {
        Token::from_bytes([of; 16])
    }

    fn record(slot: &Slot) -> &Record {
        let Slot::Held { record, .. } = slot else { panic!("{slot:?}") };
        record
    }

    #[test]
    fn marks_are_bytes_of_the_record_as_it_is() {
        let slot = mark(mark(Slot::Absent, token(1), 2_000, 60_000, NOW), token(2), 3_000, 60_000, NOW);
        let read = Record::decode_any(&record(&slot).encode().into());
        assert_eq!(read.as_ref(), Ok(record(&slot)));
        let marks = open_marks(record(&slot), NOW + 2_000);
        assert_eq!(marks, [(token(2), NOW + 3_000)], "the first has ended");
        assert_eq!((record(&slot).marks, record(&slot).deadline), (2, NOW + 3_000));
    }

    #[test]
    fn an_unmark_takes_its_own_mark_and_no_other() {
        let slot = mark(mark(Slot::Absent, token(1), 2_000, 60_000, NOW), token(2), 3_000, 60_000, NOW);
        let (slot, _) = unmark(slot, token(1), Some(7), 60_000, NOW);
        let (slot, _) = unmark(slot, token(1), Some(7), 60_000, NOW);
        assert_eq!((record(&slot).state, record(&slot).version), (State::Marked, 7));
        let (slot, _) = unmark(slot, token(2), Some(6), 60_000, NOW);
        assert_eq!((record(&slot).state, record(&slot).version), (State::Tombstone, 7));
    }
}
