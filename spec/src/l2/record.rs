//! The record, small enough to be kept a million times: what is left of each time, and one byte of value.

use super::{MOST, mark_token};
use bytes::Bytes;
use cache_core::marks::{marked, open_marks};
use cache_core::record::{Body, Life, Record, State};
use cache_core::{Echo, Slot, Token};
use std::time::Duration;

/// The moment at which every command runs; deadlines are kept as distances from it.
pub(crate) const NOW: u64 = 1_000;

static VALUES: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

/// A value's bytes: the version that was committed with it.
pub(crate) fn payload(value: u8) -> Bytes {
    Bytes::from_static(&VALUES[usize::from(value)..=usize::from(value)])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Rec {
    /// `None`: absent.
    pub(crate) state: Option<State>,
    pub(crate) version: u8,
    /// First byte of the token, which all its bytes are.
    pub(crate) token: u8,
    /// Until the lease, or the last mark, ends.
    pub(crate) left: u8,
    /// Until Redis forgets the record.
    pub(crate) stay: u8,
    /// Since the value was made.
    pub(crate) age: u8,
    pub(crate) value: u8,
    /// Of the partition when the load began; 0 in `crate::l2`.
    pub(crate) generation: u8,
    /// A value's three lives are `LIFE`, or, without time, 100.
    pub(crate) long: bool,
    /// Until each writer's mark ends.
    pub(crate) marks: [u8; MOST],
}

impl Rec {
    pub(crate) const ABSENT: Self = Self {
        state: None,
        version: 0,
        token: 0,
        left: 0,
        stay: 0,
        age: 0,
        value: 0,
        generation: 0,
        long: false,
        marks: [0; MOST],
    };

    pub(crate) fn has_value(&self) -> bool {
        self.state.is_some_and(State::has_value)
    }

    /// The record as the machine takes it.
    pub(crate) fn slot(&self) -> Slot {
        let Some(state) = self.state else { return Slot::Absent };
        let expires = NOW + u64::from(self.stay);
        if state == State::Marked {
            let marks: Vec<_> =
                (0..MOST).filter(|w| self.marks[*w] > 0).map(|w| (mark_token(w), NOW + u64::from(self.marks[w]))).collect();
            return Slot::Held { record: marked(&marks, self.version.into(), Echo::default()), expires };
        }
        let mut body = Body::empty(0, self.generation.into(), Echo::default());
        if state.has_value() {
            let [soft, hard, last] = if self.long { [100; 3] } else { super::LIFE };
            let ms = |ticks: u8| Duration::from_millis(ticks.into());
            body = Body { life: Life { soft: ms(soft), hard: ms(hard), last: ms(last) }, payload: payload(self.value), ..body };
        }
        let record = Record {
            state,
            version: self.version.into(),
            token: Token::from_bytes([self.token; 16]),
            deadline: if self.left > 0 { NOW + u64::from(self.left) } else { 0 },
            created: if state.has_value() { NOW - u64::from(self.age) } else { 0 },
            marks: 0,
            body,
        };
        Slot::Held { record, expires }
    }

    /// What the machine made of it.
    pub(crate) fn of(slot: Slot) -> Self {
        let Slot::Held { record, expires } = slot else { return Self::ABSENT };
        let value = record.state.has_value();
        let mut marks = [0; MOST];
        for (token, deadline) in open_marks(&record, NOW) {
            marks[usize::from(token.as_bytes()[0] - 100)] = (deadline - NOW) as u8;
        }
        Self {
            state: Some(record.state),
            version: record.version as u8,
            token: record.token.as_bytes()[0],
            left: record.deadline.saturating_sub(NOW) as u8,
            stay: expires.saturating_sub(NOW) as u8,
            age: if value { (NOW - record.created) as u8 } else { 0 },
            value: if value { record.body.payload[0] } else { 0 },
            generation: record.body.generation as u8,
            long: value && record.body.life.soft.as_millis() == 100,
            marks,
        }
    }

    /// A millisecond passes.
    pub(crate) fn tick(&mut self) {
        if self.state.is_none() {
            return;
        }
        self.stay = self.stay.saturating_sub(1);
        if self.stay == 0 {
            *self = Self::ABSENT;
            return;
        }
        self.left = self.left.saturating_sub(1);
        for mark in &mut self.marks {
            *mark = mark.saturating_sub(1);
        }
        if self.has_value() {
            self.age += 1;
        }
    }
}
