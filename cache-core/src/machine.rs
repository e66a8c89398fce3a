//! The record's state machine, written once, as a pure function: state × command × now → state × reply.
//!
//! The embedded tier runs it under a mutex; the Redis scripts are tested against it, command by command
//! ([`crate::testing::remote_suite`]).

use crate::key::Echo;
use crate::marks::{step_mark, step_unmark};
use crate::mutant::{Mutant, is};
use crate::record::{Body, Record, State, millis};
use crate::remote::{Acquire, Acquired, Claim, Fill, Filled, Invalidated, Mark, Marked, Put, PutOutcome, Unmark};
use crate::token::Token;
use std::time::Duration;

/// What a key holds in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// Nothing.
    Absent,
    /// A record, and when the store forgets it (ms of its clock).
    Held {
        /// The record.
        record: Record,
        /// When it is forgotten.
        expires: u64,
    },
    /// A record of a later format, or one cut short: its head is ours, its body cannot be read.
    Newer {
        /// Its version or floor, which every format keeps in the same place.
        version: u64,
    },
    /// Something that is not ours.
    Foreign,
}

/// A command on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command<'a> {
    /// [`RemoteTier::acquire`](crate::RemoteTier::acquire) with the key's echo.
    Acquire(&'a Acquire, Echo),
    /// [`RemoteTier::fill`](crate::RemoteTier::fill).
    Fill(&'a Fill),
    /// [`RemoteTier::release`](crate::RemoteTier::release).
    Release(Token),
    /// [`RemoteTier::invalidate`](crate::RemoteTier::invalidate) of one key.
    Invalidate {
        /// The committed version, if known.
        version: Option<u64>,
        /// How long the tombstone stays.
        retain: Duration,
        /// The key's echo.
        echo: Echo,
    },
    /// [`RemoteTier::put`](crate::RemoteTier::put).
    Put(&'a Put, Duration),
    /// [`RemoteTier::mark`](crate::RemoteTier::mark) with the key's echo.
    Mark(&'a Mark, Echo),
    /// [`RemoteTier::unmark`](crate::RemoteTier::unmark) with the key's echo.
    Unmark(&'a Unmark, Echo),
}

/// The answer to a [`Command`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// To an acquire.
    Acquire(Acquired),
    /// To a fill.
    Fill(Filled),
    /// To a release: whether the lease was held.
    Release(bool),
    /// To an invalidation.
    Invalidate(Invalidated),
    /// To a put.
    Put(PutOutcome),
    /// To a mark.
    Mark(Marked),
    /// To an unmark.
    Unmark(Invalidated),
}

/// One step of the machine. `now` is the store's time in ms.
pub fn step(slot: Slot, command: &Command<'_>, now: u64) -> (Slot, Reply) {
    let slot = match slot {
        Slot::Held { expires, .. } if expires <= now => Slot::Absent,
        slot => slot,
    };
    match command {
        Command::Acquire(acquire, echo) => {
            let (slot, reply) = step_acquire(slot, acquire, *echo, now);
            (slot, Reply::Acquire(reply))
        }
        Command::Fill(fill) => {
            let (slot, reply) = step_fill(slot, fill);
            (slot, Reply::Fill(reply))
        }
        Command::Release(token) => {
            let (slot, held) = step_release(slot, *token);
            (slot, Reply::Release(held))
        }
        Command::Invalidate { version, retain, echo } => {
            let (slot, reply) = step_invalidate(slot, *version, *retain, *echo, now);
            (slot, Reply::Invalidate(reply))
        }
        Command::Put(put, retain) => {
            let (slot, reply) = step_put(slot, put, *retain, now);
            (slot, Reply::Put(reply))
        }
        Command::Mark(mark, echo) => {
            let (slot, reply) = step_mark(slot, mark, *echo, now);
            (slot, Reply::Mark(reply))
        }
        Command::Unmark(unmark, echo) => {
            let (slot, reply) = step_unmark(slot, unmark, *echo, now);
            (slot, Reply::Unmark(reply))
        }
    }
}

fn step_acquire(slot: Slot, acquire: &Acquire, echo: Echo, now: u64) -> (Slot, Acquired) {
    let lease = |floor: u64, expires: u64| {
        let record = Record {
            state: State::Lease,
            version: floor,
            token: acquire.token,
            deadline: now + millis(acquire.lease),
            created: 0,
            marks: 0,
            body: Body::empty(acquire.schema, acquire.generation, echo),
        };
        let stay = millis(acquire.retain).max(millis(acquire.lease)).max(1);
        (Slot::Held { record, expires: expires.max(now + stay) }, Acquired::Granted { floor, at: now })
    };
    let (record, expires) = match slot {
        Slot::Absent => return lease(0, 0),
        Slot::Newer { .. } => return (slot, Acquired::Newer),
        Slot::Foreign => return (slot, Acquired::Foreign),
        Slot::Held { record, expires } => (record, expires),
    };
    let held = |record| Slot::Held { record, expires };
    if record.body.schema > acquire.schema {
        return (held(record), Acquired::Newer);
    }
    let force = acquire.claim == Claim::Force;
    let live = record.deadline > now;
    if live && (record.state == State::Marked || !force) {
        let left = Duration::from_millis(record.deadline - now);
        return (held(record), Acquired::Busy(left));
    }
    if !record.state.has_value() {
        return lease(record.version, expires);
    }
    if force || record.body.schema < acquire.schema || record.body.generation != acquire.generation {
        return lease(record.version, 0);
    }
    let fresh_for = match acquire.claim {
        Claim::Stale => record.body.life.soft,
        Claim::Vacant | Claim::Force => record.body.life.hard,
    };
    if now < record.created + millis(fresh_for) {
        return (held(record), Acquired::Hit);
    }
    // The value stays readable while it is refreshed: it is the last resort if the origin fails.
    let floor = record.version;
    let deadline = now + millis(acquire.lease);
    let record = Record { state: State::Refresh, token: acquire.token, deadline, ..record };
    (Slot::Held { record, expires }, Acquired::Granted { floor, at: now })
}

fn step_fill(slot: Slot, fill: &Fill) -> (Slot, Filled) {
    if is(Mutant::SetNx) && !matches!(&slot, Slot::Held { record, .. } if record.state.has_value()) {
        return (value(fill.token, fill.version, fill.created, &fill.body, 0), Filled::Stored);
    }
    let Slot::Held { record, expires } = slot else { return (slot, Filled::LeaseLost) };
    let leased = matches!(record.state, State::Lease | State::Refresh) && record.token == fill.token;
    if !leased && !is(Mutant::FillWithoutLease) {
        return (Slot::Held { record, expires }, Filled::LeaseLost);
    }
    if fill.version < record.version && !is(Mutant::NoFloor) {
        return (Slot::Held { record, expires }, Filled::TooOld);
    }
    // A floor is remembered for as long as the record it came from would have stayed.
    let retained = if record.version > 0 { expires } else { 0 };
    let Fill { token, version, created, ref body } = *fill;
    (value(token, version, created, body, retained), Filled::Stored)
}

fn step_release(slot: Slot, token: Token) -> (Slot, bool) {
    let Slot::Held { record, expires } = slot else { return (slot, false) };
    if record.token != token {
        return (Slot::Held { record, expires }, false);
    }
    match record.state {
        // Without a floor there is nothing to remember.
        State::Lease if record.version == 0 => (Slot::Absent, true),
        State::Lease => {
            let record = Record { state: State::Tombstone, deadline: 0, token: Token::default(), ..record };
            (Slot::Held { record, expires }, true)
        }
        // The value goes on under the refresh's token; the old one is forgotten.
        State::Refresh => {
            let record = Record { state: State::Value, deadline: 0, ..record };
            (Slot::Held { record, expires }, true)
        }
        State::Value | State::Tombstone | State::Marked => (Slot::Held { record, expires }, false),
    }
}

pub(crate) fn step_invalidate(slot: Slot, version: Option<u64>, retain: Duration, echo: Echo, now: u64) -> (Slot, Invalidated) {
    let stay = now + millis(retain).max(1);
    let known = version.unwrap_or(0);
    let tombstone = |floor: u64, body: Body, expires: u64| {
        let record =
            Record { state: State::Tombstone, version: floor, token: Token::default(), deadline: 0, created: 0, marks: 0, body };
        (Slot::Held { record, expires }, Invalidated::Tombstoned)
    };
    match slot {
        _ if is(Mutant::SetNx) => (Slot::Absent, Invalidated::Tombstoned),
        Slot::Absent => tombstone(known, Body::empty(0, 0, echo), stay),
        Slot::Newer { version } => tombstone(known.max(version), Body::empty(0, 0, echo), stay),
        Slot::Foreign => (slot, Invalidated::Foreign),
        Slot::Held { record, expires } => {
            if record.state.has_value() && version.is_some_and(|version| record.version >= version) {
                return (Slot::Held { record, expires }, Invalidated::Current);
            }
            let floor = if is(Mutant::FloorOverwritten) { known } else { known.max(record.version) };
            if record.state == State::Marked && record.deadline > now {
                let record = Record { version: floor, ..record };
                return (Slot::Held { record, expires: expires.max(stay) }, Invalidated::Tombstoned);
            }
            // A floor outlives no less than it would have.
            let expires = if record.state.has_value() { stay } else { expires.max(stay) };
            tombstone(floor, Body::empty(0, 0, echo), expires)
        }
    }
}

/// A put replaces values and creates none: that a key has none proves nothing, for a newer write's value or floor may have been evicted or have expired, and
/// the lease or tombstone there may be younger than that. A value does: after a newer write there is no older one. (`spec`, `PutAnywhere`.)
fn step_put(slot: Slot, put: &Put, retain: Duration, now: u64) -> (Slot, PutOutcome) {
    match slot {
        Slot::Newer { version } if version >= put.version => return (slot, PutOutcome::NotNewer),
        Slot::Foreign => return (slot, PutOutcome::Foreign),
        Slot::Held { record, expires } if record.state == State::Marked && record.deadline > now => {
            let record = Record { version: record.version.max(put.version), ..record };
            let expires = expires.max(now + millis(retain).max(1));
            return (Slot::Held { record, expires }, PutOutcome::Marked);
        }
        Slot::Held { ref record, .. } if record.state.has_value() => {
            if put.version <= record.version {
                return (slot, PutOutcome::NotNewer);
            }
            let created = now.saturating_sub(millis(put.age));
            return (value(put.token, put.version, created, &put.body, now + millis(retain).max(1)), PutOutcome::Stored);
        }
        _ => {}
    }
    let (slot, _) = step_invalidate(slot, Some(put.version), retain, put.body.echo, now);
    (slot, PutOutcome::Tombstoned)
}

fn value(token: Token, version: u64, created: u64, body: &Body, retained: u64) -> Slot {
    let record = Record { state: State::Value, version, token, deadline: 0, created, marks: 0, body: body.clone() };
    // `last` counts from creation; a load slower than that leaves a value which is at once past everything.
    let expires = created.saturating_add(millis(body.life.last)).max(retained);
    Slot::Held { record, expires }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Flags, Life};
    use bytes::Bytes;

    const NOW: u64 = 1_795_000_000_000;
    const MINUTE: Duration = Duration::from_secs(60);

    fn token(n: u8) -> Token {
        Token::from_bytes([n; 16])
    }

    fn body() -> Body {
        let life = Life { soft: MINUTE, hard: 2 * MINUTE, last: 10 * MINUTE };
        let echo = Echo::default();
        Body { schema: 1, generation: 0, life, flags: Flags::NONE, codec: 1, echo, payload: Bytes::from_static(b"v") }
    }

    /// One key, driven step by step.
    struct Key(Slot);

    impl Key {
        fn acquire(&mut self, n: u8, claim: Claim, now: u64) -> Acquired {
            let acquire =
                Acquire { token: token(n), lease: Duration::from_secs(2), retain: MINUTE, claim, schema: 1, generation: 0 };
            match self.step(&Command::Acquire(&acquire, Echo::default()), now) {
                Reply::Acquire(reply) => reply,
                reply => panic!("{reply:?}"),
            }
        }

        fn fill(&mut self, n: u8, version: u64, now: u64) -> Filled {
            match self.step(&Command::Fill(&Fill { token: token(n), version, created: now, body: body() }), now) {
                Reply::Fill(reply) => reply,
                reply => panic!("{reply:?}"),
            }
        }

        fn invalidate(&mut self, version: Option<u64>, now: u64) -> Invalidated {
            match self.step(&Command::Invalidate { version, retain: MINUTE, echo: Echo::default() }, now) {
                Reply::Invalidate(reply) => reply,
                reply => panic!("{reply:?}"),
            }
        }

        fn put(&mut self, version: u64, now: u64) -> PutOutcome {
            match self.step(&Command::Put(&Put { token: token(99), version, age: Duration::ZERO, body: body() }, MINUTE), now) {
                Reply::Put(reply) => reply,
                reply => panic!("{reply:?}"),
            }
        }

        /// A value of this version.
        fn hold(&mut self, n: u8, version: u64, now: u64) {
            assert!(matches!(self.acquire(n, Claim::Force, now), Acquired::Granted { .. }));
            assert_eq!(self.fill(n, version, now), Filled::Stored);
        }

        fn release(&mut self, n: u8, now: u64) -> bool {
            self.step(&Command::Release(token(n)), now) == Reply::Release(true)
        }

        fn step(&mut self, command: &Command<'_>, now: u64) -> Reply {
            let (slot, reply) = step(self.0.clone(), command, now);
            self.0 = slot;
            reply
        }

        fn state(&self) -> Option<State> {
            match &self.0 {
                Slot::Held { record, .. } => Some(record.state),
                _ => None,
            }
        }
    }

    fn granted(floor: u64, at: u64) -> Acquired {
        Acquired::Granted { floor, at }
    }

    #[test]
    fn a_fill_needs_the_token_that_its_own_load_wrote() {
        let mut key = Key(Slot::Absent);
        assert_eq!(key.acquire(1, Claim::Vacant, NOW), granted(0, NOW));
        assert_eq!(key.acquire(2, Claim::Vacant, NOW), Acquired::Busy(Duration::from_secs(2)));
        // The first load is slow, its lease ends, a second takes over: the first's value comes too late.
        assert_eq!(key.acquire(2, Claim::Vacant, NOW + 2_000), granted(0, NOW + 2_000));
        assert_eq!(key.fill(1, 0, NOW + 2_001), Filled::LeaseLost);
        assert_eq!(key.fill(2, 0, NOW + 2_002), Filled::Stored);
        assert_eq!(key.fill(2, 0, NOW + 2_003), Filled::LeaseLost, "a lease is used once");
    }

    #[test]
    fn a_passed_deadline_alone_refuses_nothing() {
        let mut key = Key(Slot::Absent);
        key.acquire(1, Claim::Vacant, NOW);
        assert_eq!(key.fill(1, 0, NOW + 30_000), Filled::Stored);
    }

    #[test]
    fn a_fill_after_an_invalidation_is_refused_though_the_key_is_leased_again() {
        let mut key = Key(Slot::Absent);
        key.acquire(1, Claim::Vacant, NOW);
        assert_eq!(key.invalidate(None, NOW), Invalidated::Tombstoned);
        assert_eq!(key.fill(1, 0, NOW), Filled::LeaseLost);
        key.acquire(2, Claim::Vacant, NOW);
        assert_eq!(key.fill(1, 0, NOW), Filled::LeaseLost);
    }

    #[test]
    fn floors_only_rise() {
        // The mutant table: commit 1, commit 2, inv 2, lease, inv 1, lease, a replica reads 1, fill 1.
        let mut key = Key(Slot::Absent);
        key.invalidate(Some(2), NOW);
        key.acquire(1, Claim::Vacant, NOW);
        key.invalidate(Some(1), NOW);
        assert_eq!(key.acquire(2, Claim::Vacant, NOW), granted(2, NOW));
        assert_eq!(key.fill(2, 1, NOW), Filled::TooOld);
        assert_eq!(key.fill(2, 2, NOW), Filled::Stored);
    }

    #[test]
    fn a_floor_survives_release_and_a_short_lived_value() {
        let mut key = Key(Slot::Absent);
        key.invalidate(Some(7), NOW);
        key.acquire(1, Claim::Vacant, NOW);
        assert!(key.release(1, NOW));
        assert_eq!(key.state(), Some(State::Tombstone));
        assert_eq!(key.acquire(2, Claim::Vacant, NOW), granted(7, NOW));
        let short = Body { life: Life { soft: Duration::ZERO, hard: Duration::ZERO, last: Duration::ZERO }, ..body() };
        key.step(&Command::Fill(&Fill { token: token(2), version: 7, created: NOW, body: short }), NOW);
        assert_eq!(key.acquire(3, Claim::Vacant, NOW + 50_000), granted(7, NOW + 50_000));
    }

    #[test]
    fn an_unversioned_release_leaves_nothing() {
        let mut key = Key(Slot::Absent);
        key.acquire(1, Claim::Vacant, NOW);
        assert!(!key.release(2, NOW), "only the holder releases");
        assert!(key.release(1, NOW));
        assert_eq!(key.0, Slot::Absent);
    }

    #[test]
    fn a_value_at_least_as_new_as_the_write_stays() {
        let mut key = Key(Slot::Absent);
        key.hold(1, 4, NOW);
        assert_eq!(key.put(5, NOW), PutOutcome::Stored);
        assert_eq!(key.put(5, NOW), PutOutcome::NotNewer);
        assert_eq!(key.invalidate(Some(5), NOW), Invalidated::Current);
        assert_eq!(key.invalidate(Some(6), NOW), Invalidated::Tombstoned);
        assert_eq!(key.invalidate(None, NOW), Invalidated::Tombstoned, "without a version it goes whatever it is");
    }

    #[test]
    fn a_put_creates_no_value_where_there_is_none() {
        let mut key = Key(Slot::Absent);
        assert_eq!(key.put(5, NOW), PutOutcome::Tombstoned);
        assert_eq!(key.acquire(1, Claim::Vacant, NOW), granted(5, NOW), "its version is a floor");
        assert_eq!(key.put(6, NOW), PutOutcome::Tombstoned);
        assert_eq!(key.fill(1, 9, NOW), Filled::LeaseLost, "and a load that began before it is refused");
        assert_eq!(key.put(4, NOW), PutOutcome::Tombstoned);
        assert_eq!(key.acquire(2, Claim::Vacant, NOW), granted(6, NOW), "the highest is");
    }

    #[test]
    fn a_refresh_keeps_the_value_and_its_failure_gives_it_back() {
        let mut key = Key(Slot::Absent);
        key.acquire(1, Claim::Vacant, NOW);
        key.fill(1, 0, NOW);
        let (soft, hard) = (NOW + 60_000, NOW + 120_000);
        assert_eq!(key.acquire(2, Claim::Stale, soft - 1), Acquired::Hit);
        assert_eq!(key.acquire(2, Claim::Vacant, soft), Acquired::Hit, "stale is served, unless a refresh is asked for");
        assert_eq!(key.acquire(2, Claim::Stale, soft), granted(0, soft));
        assert_eq!(key.state(), Some(State::Refresh));
        assert_eq!(key.acquire(3, Claim::Stale, soft), Acquired::Busy(Duration::from_secs(2)));
        assert!(key.release(2, soft));
        assert_eq!(key.state(), Some(State::Value));
        assert_eq!(key.acquire(4, Claim::Vacant, hard), granted(0, hard), "past hard, anybody may load");
        assert_eq!(key.state(), Some(State::Refresh), "and the value stays as the last resort");
        assert_eq!(key.fill(4, 0, hard), Filled::Stored);
    }

    #[test]
    fn force_takes_values_and_leases_and_stops_at_announced_writes() {
        let mut key = Key(Slot::Absent);
        key.acquire(1, Claim::Vacant, NOW);
        assert_eq!(key.acquire(2, Claim::Force, NOW), granted(0, NOW));
        key.fill(2, 0, NOW);
        assert_eq!(key.acquire(3, Claim::Force, NOW), granted(0, NOW));
        let Slot::Held { record, expires } = key.0 else { panic!("a lease") };
        let mut key = Key(Slot::Held { record: Record { state: State::Marked, deadline: NOW + 9, ..record }, expires });
        assert_eq!(key.acquire(4, Claim::Force, NOW), Acquired::Busy(Duration::from_millis(9)));
        assert_eq!(key.put(8, NOW), PutOutcome::Marked);
        assert_eq!(key.acquire(4, Claim::Force, NOW + 9), granted(8, NOW + 9));
    }

    #[test]
    fn what_is_not_ours_is_touched_by_nothing() {
        let mut key = Key(Slot::Foreign);
        assert_eq!(key.acquire(1, Claim::Force, NOW), Acquired::Foreign);
        assert_eq!(key.fill(1, 0, NOW), Filled::LeaseLost);
        assert_eq!(key.invalidate(None, NOW), Invalidated::Foreign);
        assert_eq!(key.put(1, NOW), PutOutcome::Foreign);
        assert!(!key.release(1, NOW));
        assert_eq!(key.0, Slot::Foreign);
    }

    #[test]
    fn a_later_format_is_not_filled_over_but_invalidated() {
        let mut key = Key(Slot::Newer { version: 4 });
        assert_eq!(key.acquire(1, Claim::Force, NOW), Acquired::Newer);
        assert_eq!(key.put(4, NOW), PutOutcome::NotNewer);
        assert_eq!(Key(Slot::Newer { version: 4 }).put(5, NOW), PutOutcome::Tombstoned);
        assert_eq!(key.invalidate(Some(3), NOW), Invalidated::Tombstoned);
        assert_eq!(key.acquire(1, Claim::Vacant, NOW), granted(4, NOW), "its version is a floor");
    }

    #[test]
    fn the_start_of_a_load_stamps_its_value() {
        let mut key = Key(Slot::Absent);
        key.acquire(1, Claim::Vacant, NOW);
        let fill = Fill { token: token(1), version: 0, created: NOW - 3_000, body: body() };
        key.step(&Command::Fill(&fill), NOW);
        let Slot::Held { record, expires } = key.0 else { panic!("a value") };
        assert_eq!((record.created, expires), (NOW - 3_000, NOW - 3_000 + 600_000));
    }
}
