//! Any bytes as what a Redis server says: the same replies however they are cut, no string longer than wanted, and no panic.
#![no_main]

// The tier keeps its reader to itself, so its very text is compiled here once more.
#[path = "../../cache-redis/src/multiplexer/replies.rs"]
#[allow(dead_code)]
mod replies;

/// What replies mean is the tier's affair, and they are left as they are.
mod resp3 {
    pub(crate) fn plain(reply: redis::Value) -> redis::Value {
        reply
    }
}

use libfuzzer_sys::fuzz_target;
use redis::Value;
use replies::{Garbled, Replies};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

const MOST: usize = 40_000;
const STUB: usize = 92;
const MOST_IN_PARTS: usize = 1 << 20;

// The first byte says what is asked for, the second where it is cut.
fuzz_target!(|data: &[u8]| {
    let [how, step, bytes @ ..] = data else { return };
    // Each piece costs a look at the line that it is in: long ones are cut into no more than some thousand.
    let step = usize::from(*step).max(1 + bytes.len() / 4_096);
    assert_eq!(read(bytes, *how, usize::MAX), read(bytes, *how, step));
});

/// All replies, and whether bytes follow that are none.
fn read(mut bytes: &[u8], how: u8, step: usize) -> (Vec<String>, bool) {
    let mut replies = Replies::new(MOST, STUB).in_parts_of(MOST_IN_PARTS);
    if how & 1 == 1 {
        replies = replies.with_pushes();
    }
    let (mut read, mut is_group) = (Vec::new(), how & 2 == 2);
    loop {
        loop {
            let next = if is_group {
                replies.next_group().map(|group| group.map(|group| format!("{group:?}")))
            } else {
                replies.next().map(|reply| reply.map(text))
            };
            match next {
                Ok(Some(text)) => read.push(text),
                Ok(None) => break,
                Err(Garbled) => return (read, true),
            }
            is_group = false;
        }
        if bytes.is_empty() {
            return (read, false);
        }
        let mut piece = &bytes[..bytes.len().min(step)];
        let length = piece.len();
        let polled = replies.poll_more(&mut Context::from_waker(Waker::noop()), Pin::new(&mut piece));
        assert!(matches!(polled, Poll::Ready(Ok(true))), "there is room for some of it, always");
        bytes = &bytes[length - piece.len()..];
    }
}

/// No number that is none is equal to itself, but its text is.
fn text(reply: Value) -> String {
    if let Value::BulkString(string) = &reply {
        assert!(string.len() <= MOST);
    }
    format!("{reply:?}")
}
