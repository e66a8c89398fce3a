//! Scripts of one time that are one call: each for a key of its own, with answers of their own.

use super::{Caller, Waiting, pack_key};
use crate::script::{Each, Script};

/// Keys of one call: it costs Redis half of as many calls, and keeps it from others for some 50 µs.
const MOST_KEYS: usize = 16;
/// Longer arguments go by themselves: what a call costs before it begins is little beside them, and others would wait for them.
const MOST_ARGUMENTS: usize = 4 << 10;

/// Calls of one script that wait to be written, packed.
#[derive(Default)]
pub(super) struct Lot {
    script: Option<&'static Script>,
    keys: Vec<u8>,
    arguments: Vec<u8>,
    /// How many these are.
    count: usize,
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
        pack_key(each.key, &mut self.keys);
        for argument in each.arguments {
            pack_key(argument, &mut self.arguments);
        }
        self.count += each.arguments.len();
        self.callers.push(caller);
        self.callers.len() == MOST_KEYS
    }

    /// Moves all to what is written next, as one call.
    pub(super) fn close(&mut self, packed: &mut Vec<u8>, waiting: &mut Vec<Waiting>) {
        let Some(script) = self.script.take() else { return };
        let keys = self.callers.len();
        pack_start(script, keys, self.count, packed);
        packed.append(&mut self.keys);
        packed.append(&mut self.arguments);
        self.count = 0;
        if keys > 1 {
            waiting.push(Waiting { caller: Caller::Group(keys), deadline: None });
        }
        waiting.append(&mut self.callers);
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len() + self.arguments.len()
    }

    pub(super) fn take_callers(&mut self) -> Vec<Waiting> {
        std::mem::take(self).callers
    }
}

/// Packs a call by itself.
pub(super) fn pack_alone(each: &Each<'_>, out: &mut Vec<u8>) {
    pack_start(each.script(), 1, each.arguments.len(), out);
    pack_key(each.key, out);
    for argument in each.arguments {
        pack_key(argument, out);
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
