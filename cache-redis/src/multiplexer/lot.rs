//! Scripts of one time that are one call: each for keys of its own, with answers of their own.

use super::{Caller, Waiting, pack_key};
use crate::script::{Each, Script};

/// Calls in one: it costs Redis half of as many, and keeps it from others for some 50 µs, with invalidations for 250.
const MOST_CALLS: usize = 16;
/// With so many keys it is full, so that invalidations of many keys do not keep Redis from others for more than a millisecond.
const MOST_KEYS: usize = 64;
/// Longer arguments go by themselves: what a call costs before it begins is little beside them, and others would wait for them.
const MOST_ARGUMENTS: usize = 4 << 10;

/// Calls of one script that wait to be written, packed.
#[derive(Default)]
pub(super) struct Lot {
    script: Option<&'static Script>,
    /// Keys that come before the others.
    first: Vec<u8>,
    keys: Vec<u8>,
    arguments: Vec<u8>,
    /// How many keys and arguments these are.
    key_count: usize,
    argument_count: usize,
    ends_with_history: bool,
    callers: Vec<Waiting>,
}

impl Lot {
    /// Whether a call is one to go with others.
    pub(super) fn suits(each: &Each<'_>) -> bool {
        each.arguments.iter().map(|argument| argument.len()).sum::<usize>() <= MOST_ARGUMENTS
    }

    pub(super) fn is_empty(&self) -> bool {
        self.callers.is_empty()
    }

    /// Takes in a call. Whether the lot is full now.
    pub(super) fn push(&mut self, each: &Each<'_>, caller: Waiting) -> bool {
        self.script = Some(each.script());
        self.ends_with_history = each.ends_with_history();
        each.first.iter().for_each(|key| pack_key(key, &mut self.first));
        each.keys.iter().for_each(|key| pack_key(key, &mut self.keys));
        each.arguments.iter().for_each(|argument| pack_key(argument, &mut self.arguments));
        self.key_count += each.key_count();
        self.argument_count += each.arguments.len();
        self.callers.push(caller);
        self.callers.len() == MOST_CALLS || self.key_count >= MOST_KEYS
    }

    /// Moves all to what is written next, as one call, to a server of this history.
    pub(super) fn close(&mut self, history: u64, packed: &mut Vec<u8>, waiting: &mut Vec<Waiting>) {
        let Some(script) = self.script.take() else { return };
        pack_start(script, self.key_count, self.argument_count + usize::from(self.ends_with_history), packed);
        packed.append(&mut self.first);
        packed.append(&mut self.keys);
        packed.append(&mut self.arguments);
        if self.ends_with_history {
            pack_key(&history.to_be_bytes(), packed);
        }
        (self.key_count, self.argument_count) = (0, 0);
        let calls = self.callers.len();
        if calls > 1 {
            waiting.push(Waiting { caller: Caller::Group(calls), deadline: None });
        }
        waiting.append(&mut self.callers);
    }

    pub(super) fn len(&self) -> usize {
        self.first.len() + self.keys.len() + self.arguments.len()
    }

    pub(super) fn take_callers(&mut self) -> Vec<Waiting> {
        std::mem::take(self).callers
    }
}

/// Packs a call by itself, to a server of this history.
pub(super) fn pack_alone(each: &Each<'_>, history: u64, out: &mut Vec<u8>) {
    let ends_with_history = each.ends_with_history();
    pack_start(each.script(), each.key_count(), each.arguments.len() + usize::from(ends_with_history), out);
    for part in each.first.iter().chain(each.keys).chain(each.arguments) {
        pack_key(part, out);
    }
    if ends_with_history {
        pack_key(&history.to_be_bytes(), out);
    }
}

/// What stands before the keys of a script's call.
fn pack_start(script: &Script, keys: usize, arguments: usize, out: &mut Vec<u8>) {
    out.push(b'*');
    out.extend_from_slice(itoa::Buffer::new().format(3 + keys + arguments).as_bytes());
    out.extend_from_slice(b"\r\n$7\r\nEVALSHA\r\n");
    pack_key(script.digest().as_bytes(), out);
    pack_key(itoa::Buffer::new().format(keys).as_bytes(), out);
}
