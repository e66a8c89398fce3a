//! The record's state machine, written once, as a pure function: state × command × now → state × reply.
//!
//! The embedded tier runs it under a mutex; the Redis scripts are tested against it, command by command
//! ([`crate::testing::remote_suite`]).

use crate::key::Echo;
use crate::record::{Body, Record, State, millis};
use crate::remote::{Acquire, Acquired, Claim, Fill, Filled, Invalidated, Put, PutOutcome};
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
            let (slot, reply) = step_fill(slot, fill, now);
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
        (Slot::Held { record, expires: expires.max(now + stay) }, Acquired::Granted { floor })
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
    (Slot::Held { record, expires }, Acquired::Granted { floor })
}

fn step_fill(slot: Slot, fill: &Fill, now: u64) -> (Slot, Filled) {
    let Slot::Held { record, expires } = slot else { return (slot, Filled::LeaseLost) };
    if !matches!(record.state, State::Lease | State::Refresh) || record.token != fill.token {
        return (Slot::Held { record, expires }, Filled::LeaseLost);
    }
    if fill.version < record.version {
        return (Slot::Held { record, expires }, Filled::TooOld);
    }
    // A floor is remembered for as long as the record it came from would have stayed.
    let retain = if record.version > 0 { expires.saturating_sub(now) } else { 0 };
    (value(fill.token, fill.version, fill.age, &fill.body, retain, now), Filled::Stored)
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

fn step_invalidate(slot: Slot, version: Option<u64>, retain: Duration, echo: Echo, now: u64) -> (Slot, Invalidated) {
    let stay = now + millis(retain).max(1);
    let known = version.unwrap_or(0);
    let tombstone = |floor: u64, body: Body, expires: u64| {
        let record =
            Record { state: State::Tombstone, version: floor, token: Token::default(), deadline: 0, created: 0, marks: 0, body };
        (Slot::Held { record, expires }, Invalidated::Tombstoned)
    };
    match slot {
        Slot::Absent => tombstone(known, Body::empty(0, 0, echo), stay),
        Slot::Newer { version } => tombstone(known.max(version), Body::empty(0, 0, echo), stay),
        Slot::Foreign => (slot, Invalidated::Foreign),
        Slot::Held { record, expires } => {
            if record.state.has_value() && version.is_some_and(|version| record.version >= version) {
                return (Slot::Held { record, expires }, Invalidated::Current);
            }
            let floor = known.max(record.version);
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

fn step_put(slot: Slot, put: &Put, retain: Duration, now: u64) -> (Slot, PutOutcome) {
    let store = || (value(put.token, put.version, put.age, &put.body, millis(retain), now), PutOutcome::Stored);
    match slot {
        Slot::Newer { version } if version >= put.version => (slot, PutOutcome::NotNewer),
        // A later format's value that is older than this write must go; what this one stores, the later format can read.
        Slot::Absent | Slot::Newer { .. } => store(),
        Slot::Foreign => (slot, PutOutcome::Foreign),
        Slot::Held { record, expires } => {
            if record.state == State::Marked && record.deadline > now {
                let record = Record { version: record.version.max(put.version), ..record };
                let expires = expires.max(now + millis(retain).max(1));
                return (Slot::Held { record, expires }, PutOutcome::Marked);
            }
            // A value must be beaten; a floor need only be reached.
            let beaten = if record.state.has_value() { put.version > record.version } else { put.version >= record.version };
            if beaten { store() } else { (Slot::Held { record, expires }, PutOutcome::NotNewer) }
        }
    }
}

fn value(token: Token, version: u64, age: Duration, body: &Body, retain: u64, now: u64) -> Slot {
    let created = now.saturating_sub(millis(age));
    let record = Record { state: State::Value, version, token, deadline: 0, created, marks: 0, body: body.clone() };
    // `last` counts from creation; a load slower than that leaves a value which is at once past everything.
    let expires = (created + millis(body.life.last)).max(now + retain.max(1));
    Slot::Held { record, expires }
}
