//! Replies out of a stream of bytes.

use redis::{Parser, RedisError, Value};
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// What one system call reads: some hundred small replies. A longer one takes several.
const CHUNK: usize = 64 << 10;

/// Parses what a stream reads, as it comes: the driver's parser keeps its place in a reply that is not whole yet.
pub(super) struct Replies {
    parser: Parser,
    chunk: Box<[u8]>,
    /// The part of the chunk that the parser has not had.
    rest: std::ops::Range<usize>,
    /// Whether the parser has no whole reply either.
    is_dry: bool,
}

/// A reader of bytes that are there. No more of them is not the end.
struct Rest<'a> {
    bytes: &'a [u8],
    is_dry: bool,
}

impl Read for Rest<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.is_dry = self.bytes.is_empty();
        if self.is_dry { Err(io::ErrorKind::WouldBlock.into()) } else { self.bytes.read(into) }
    }
}

impl Replies {
    pub(super) fn new() -> Self {
        Self { parser: Parser::new(), chunk: vec![0; CHUNK].into(), rest: 0..0, is_dry: true }
    }

    /// The next reply among the bytes that were read; `None` if there is no whole one left. An error is the end: what follows cannot be told apart.
    pub(super) fn next(&mut self) -> Result<Option<Value>, RedisError> {
        if self.is_dry {
            return Ok(None);
        }
        let mut rest = Rest { bytes: &self.chunk[self.rest.clone()], is_dry: false };
        let parsed = self.parser.parse_value(&mut rest);
        self.rest.start = self.rest.end - rest.bytes.len();
        match parsed {
            Ok(reply) => Ok(Some(reply)),
            Err(_) if rest.is_dry => {
                self.is_dry = true;
                Ok(None)
            }
            Err(err) => Err(err),
        }
    }

    /// Reads more, once there is no [`next`](Self::next). `false` at the end of the stream.
    pub(super) fn poll_more<S: AsyncRead>(&mut self, cx: &mut Context<'_>, stream: Pin<&mut S>) -> Poll<io::Result<bool>> {
        debug_assert!(self.rest.is_empty(), "the parser takes all there is");
        let mut into = ReadBuf::new(&mut self.chunk);
        ready!(stream.poll_read(cx, &mut into))?;
        self.rest = 0..into.filled().len();
        self.is_dry = self.rest.is_empty();
        Poll::Ready(Ok(!self.is_dry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use redis::parse_redis_value;
    use std::task::Waker;

    const REPLIES: [&[u8]; 7] = [
        b"$5\r\nhello\r\n",
        b"$-1\r\n",
        b"+OK\r\n",
        b"-MOVED 3999 127.0.0.1:6381\r\n",
        b":-42\r\n",
        b"*3\r\n:1\r\n$0\r\n\r\n*1\r\n$3\r\n\r\n.\r\n",
        b"*0\r\n",
    ];

    proptest! {
        #[test]
        fn replies_cut_anywhere_come_out_whole_and_in_order(
            order in prop::collection::vec(0..REPLIES.len(), 1..40),
            cuts in prop::collection::vec(1_usize..20, 1..40),
        ) {
            let bytes: Vec<u8> = order.iter().flat_map(|reply| REPLIES[*reply]).copied().collect();
            let mut replies = Replies::new();
            let (mut left, mut cuts, mut read) = (&bytes[..], cuts.iter().cycle(), Vec::new());
            loop {
                while let Some(reply) = replies.next().unwrap() {
                    read.push(reply);
                }
                let (mut piece, later) = left.split_at(left.len().min(*cuts.next().unwrap()));
                left = later;
                let more = replies.poll_more(&mut Context::from_waker(Waker::noop()), Pin::new(&mut piece));
                if matches!(more, Poll::Ready(Ok(false))) {
                    break;
                }
            }
            let wanted: Vec<_> = order.iter().map(|reply| parse_redis_value(REPLIES[*reply]).unwrap()).collect();
            prop_assert_eq!(read, wanted);
        }

        #[test]
        fn bytes_that_are_no_replies_are_an_error_or_a_reply_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut replies = Replies::new();
            let mut bytes = &bytes[..];
            let _ = replies.poll_more(&mut Context::from_waker(Waker::noop()), Pin::new(&mut bytes));
            while let Ok(Some(_)) = replies.next() {}
        }
    }

    #[test]
    fn a_reply_nested_too_deep_is_an_error() {
        let mut replies = Replies::new();
        let mut bytes = &b"*1\r\n".repeat(10_000)[..];
        let _ = replies.poll_more(&mut Context::from_waker(Waker::noop()), Pin::new(&mut bytes));
        assert!(replies.next().is_err());
    }
}
