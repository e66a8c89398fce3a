//! Replies out of a stream of bytes.
//!
//! What ends where is found here, without recursion, and with a limit on what is kept in memory; what a reply says is the driver's to parse. One form
//! is taken as it is, for it is almost all there is to read, and the parser's way costs it five times as much as all else here: the whole string that
//! answers a GET. A long one is read straight into the memory in which it is handed out.

use crate::resp3::plain;
use bytes::BufMut;
use redis::{RedisError, Value, parse_redis_value};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// What is kept for reading: some hundred small replies a system call.
const CHUNK: usize = 64 << 10;
/// The longest reply of several parts, and the longest first line.
const MOST_PARTS: usize = 64 << 20;
const MOST_LINE: usize = 64 << 10;
/// The most parts of one: each takes some 50 bytes of memory, however short it is. The map of a cluster whose slots are scattered one by one over nodes
/// with two replicas each has 300,000.
const MOST_ELEMENTS: u64 = 1 << 20;
/// Strings from this length on are read into their own memory: to copy them out of a common one would cost more than the further system call.
const LONG: usize = 16 << 10;
/// Where a long string was, another one may follow: no more is read of it into the common memory than surely has its first line.
const HEAD: usize = 512;

/// Splits what a stream reads into replies.
pub(crate) struct Replies {
    bytes: Vec<u8>,
    /// The part of `bytes` that was read and not handed out.
    start: usize,
    end: usize,
    /// How far the reply at `start` has been looked through.
    seen: Seen,
    /// A string that goes on behind what is in `bytes`.
    long: Option<Long>,
    /// How much is read at once at most.
    chunk: usize,
    /// What is still to come of a string that is thrown away.
    skipped: u64,
    /// The longest string that is kept.
    most: usize,
    /// What is left of one that was longer.
    stub: usize,
    /// The longest reply of several parts.
    most_in_parts: usize,
    /// Whether what is no reply is handed out, too.
    pushes: bool,
}

/// A string that is read into its own memory, and what is still to come of it with its end.
struct Long {
    string: Vec<u8>,
    left: usize,
}

/// A place in a reply.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// From its start.
    bytes: usize,
    /// Parts that are still to come.
    parts: u64,
    /// All parts so far, those to come included.
    all: u64,
}

const NOTHING: Seen = Seen { bytes: 0, parts: 1, all: 1 };

/// What follows cannot be told apart.
#[derive(Debug)]
pub(crate) struct Garbled;

/// How the answer to a command with an array for an answer begins.
#[derive(Debug)]
pub(crate) enum Group {
    /// Behind it come so many replies.
    Of(usize),
    /// It is another one.
    None(Value),
}

impl From<RedisError> for Garbled {
    fn from(_: RedisError) -> Self {
        Self
    }
}

impl Replies {
    /// Of a string longer than `most` bytes, no more than the first `stub` are kept.
    pub(crate) fn new(most: usize, stub: usize) -> Self {
        Self {
            bytes: vec![0; CHUNK],
            start: 0,
            end: 0,
            seen: NOTHING,
            long: None,
            chunk: CHUNK,
            skipped: 0,
            most,
            stub: stub.min(most),
            most_in_parts: MOST_PARTS,
            pushes: false,
        }
    }

    /// The same with another limit on replies of several parts.
    pub(crate) fn in_parts_of(self, most: usize) -> Self {
        Self { most_in_parts: most, ..self }
    }

    /// The same, with what a server says unasked: by itself it stands between replies and belongs to none, so it is thrown away.
    pub(crate) fn with_pushes(self) -> Self {
        Self { pushes: true, ..self }
    }

    /// The next reply among the bytes that were read; `None` if there is no whole one left.
    pub(crate) fn next(&mut self) -> Result<Option<Value>, Garbled> {
        if self.long.is_some() {
            return self.long_string();
        }
        loop {
            let read = self.skip()?;
            if read.first() == Some(&b'$') {
                return self.string();
            }
            match self.parsed()? {
                Some(Value::Push { .. }) if !self.pushes => {}
                reply => return Ok(reply),
            }
        }
    }

    /// The next reply, whatever it is.
    fn parsed(&mut self) -> Result<Option<Value>, Garbled> {
        let read = &self.bytes[self.start..self.end];
        let Some(length) = whole(read, &mut self.seen, self.most_in_parts)? else { return Ok(None) };
        let reply = parse_redis_value(&read[..length])?;
        self.start += length;
        self.seen = NOTHING;
        Ok(Some(plain(reply)))
    }

    /// The same where the next reply is an array whose parts are to be had one by one.
    pub(crate) fn next_group(&mut self) -> Result<Option<Group>, Garbled> {
        loop {
            let read = self.skip()?;
            if read.first() == Some(&b'*') {
                let Some(line) = line(read)? else { return Ok(None) };
                let length = length(&read[..line])?.ok_or(Garbled)?;
                self.start += line;
                return Ok(Some(Group::Of(length)));
            }
            if read.first() != Some(&b'>') {
                return Ok(self.next()?.map(Group::None));
            }
            if self.parsed()?.is_none() {
                return Ok(None);
            }
        }
    }

    /// What was read and not thrown away.
    fn skip(&mut self) -> Result<&[u8], Garbled> {
        let count = self.skipped.min((self.end - self.start) as u64);
        self.skipped -= count;
        self.start += usize::try_from(count).map_err(|_| Garbled)?;
        Ok(&self.bytes[self.start..self.end])
    }

    fn string(&mut self) -> Result<Option<Value>, Garbled> {
        let read = &self.bytes[self.start..self.end];
        let Some(line) = line(read)? else { return Ok(None) };
        let Some(length) = length(&read[..line])? else {
            self.start += line;
            return Ok(Some(Value::Nil));
        };
        let total = length.checked_add(line + 2).ok_or(Garbled)?;
        if length > self.most {
            let Some(stub) = read.get(line..line + self.stub) else { return Ok(None) };
            let stub = stub.to_vec();
            self.start += line + self.stub;
            self.skipped = (total - line - self.stub) as u64;
            return Ok(Some(Value::BulkString(stub)));
        }
        let Some(string) = read.get(line..total) else {
            if length < LONG {
                self.seen.bytes = total;
            } else {
                let mut string = Vec::with_capacity(total - line);
                string.extend_from_slice(&read[line..]);
                self.long = Some(Long { left: total - read.len(), string });
                self.start = self.end;
            }
            return Ok(None);
        };
        let string = string.strip_suffix(b"\r\n").ok_or(Garbled)?.to_vec();
        self.start += total;
        self.seen = NOTHING;
        Ok(Some(Value::BulkString(string)))
    }

    fn long_string(&mut self) -> Result<Option<Value>, Garbled> {
        let Some(Long { mut string, .. }) = self.long.take_if(|long| long.left == 0) else { return Ok(None) };
        if !string.ends_with(b"\r\n") {
            return Err(Garbled);
        }
        string.truncate(string.len() - 2);
        self.chunk = HEAD;
        Ok(Some(Value::BulkString(string)))
    }

    /// Reads more, once there is no [`next`](Self::next). `false` at the end of the stream.
    pub(crate) fn poll_more<S: AsyncRead + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        stream: Pin<&mut S>,
    ) -> Poll<io::Result<bool>> {
        if let Some(Long { string, left }) = &mut self.long {
            let mut stream = stream;
            let mut into = string.limit(*left);
            // Polled once and let go: it keeps nothing.
            let count = ready!(pin!(stream.read_buf(&mut into)).poll(cx))?;
            *left -= count;
            return Poll::Ready(Ok(count > 0));
        }
        self.make_room();
        let to = self.bytes.len().min(self.end + self.chunk);
        let mut into = ReadBuf::new(&mut self.bytes[self.end..to]);
        ready!(stream.poll_read(cx, &mut into))?;
        let count = into.filled().len();
        self.end += count;
        self.chunk = CHUNK;
        Poll::Ready(Ok(count > 0))
    }

    /// For the whole of a string whose length is known, and for some more of anything else.
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > CHUNK && self.seen.bytes < CHUNK {
                self.bytes = vec![0; CHUNK];
            }
        }
        let wanted = self.seen.bytes.max(self.end - self.start + 1);
        if self.start > 0 && self.start + wanted > self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if wanted > self.bytes.len() {
            // By doubling, if only to be done with it in few steps.
            self.bytes.resize(wanted.max(self.bytes.len() * 2), 0);
        }
    }
}

/// The length of the line at the start, with its end; `None` if that has not come.
fn line(read: &[u8]) -> Result<Option<usize>, Garbled> {
    match read.iter().position(|byte| *byte == b'\n') {
        Some(end) if end > 1 && read[end - 1] == b'\r' => Ok(Some(end + 1)),
        None if read.len() < MOST_LINE => Ok(None),
        _ => Err(Garbled),
    }
}

/// The number in a line, `None` if it is negative: nothing is there.
fn length(line: &[u8]) -> Result<Option<usize>, Garbled> {
    let digits = &line[1..line.len() - 2];
    if digits.first() == Some(&b'-') {
        return Ok(None);
    }
    if digits.is_empty() || digits.len() > 18 {
        return Err(Garbled);
    }
    let digit = |number: u64, digit: &u8| {
        if digit.is_ascii_digit() { Ok(number * 10 + u64::from(digit - b'0')) } else { Err(Garbled) }
    };
    let number = digits.iter().try_fold(0, digit)?;
    usize::try_from(number).map(Some).map_err(|_| Garbled)
}

/// The length of the reply at the start, once all of it is there. Goes on from what was seen before.
fn whole(read: &[u8], seen: &mut Seen, most: usize) -> Result<Option<usize>, Garbled> {
    while seen.parts > 0 {
        let Some(rest) = read.get(seen.bytes..).filter(|rest| !rest.is_empty()) else { return Ok(None) };
        let Some(line) = line(rest)? else { return Ok(None) };
        let (skip, parts) = match rest[0] {
            b'$' | b'!' | b'=' => (length(&rest[..line])?.map_or(0, |length| length.saturating_add(2)), 0),
            b'*' | b'~' | b'>' => (0, length(&rest[..line])?.unwrap_or(0) as u64),
            b'%' => (0, length(&rest[..line])?.unwrap_or(0) as u64 * 2),
            // Of an attribute, what it belongs to is a part too.
            b'|' => (0, length(&rest[..line])?.unwrap_or(0) as u64 * 2 + 1),
            _ => (0, 0),
        };
        seen.bytes = seen.bytes.saturating_add(line).saturating_add(skip);
        seen.parts = (seen.parts - 1).saturating_add(parts);
        seen.all = seen.all.saturating_add(parts);
        if seen.bytes > most || seen.all > MOST_ELEMENTS {
            return Err(Garbled);
        }
    }
    Ok((seen.bytes <= read.len()).then_some(seen.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::task::Waker;

    const REPLIES: [&[u8]; 12] = [
        b"$5\r\nhello\r\n",
        b"$-1\r\n",
        b"$0\r\n\r\n",
        b"+OK\r\n",
        b"-MOVED 3999 127.0.0.1:6381\r\n",
        b":-42\r\n",
        b"*3\r\n:1\r\n$0\r\n\r\n*2\r\n$3\r\n\r\n.\r\n$-1\r\n",
        b"*0\r\n",
        b">2\r\n+message\r\n*1\r\n%1\r\n+k\r\n_\r\n",
        b"_\r\n",
        b"=8\r\ntxt:info\r\n",
        b"|1\r\n+a\r\n:1\r\n$1\r\nx\r\n",
    ];

    /// Whether any of the bytes were read. Takes them away.
    fn feed(replies: &mut Replies, bytes: &mut &[u8]) -> bool {
        matches!(replies.poll_more(&mut Context::from_waker(Waker::noop()), Pin::new(bytes)), Poll::Ready(Ok(true)))
    }

    /// All replies in bytes that come in pieces of these lengths, over and over.
    fn read(replies: &mut Replies, mut bytes: &[u8], pieces: &[usize]) -> Result<Vec<Value>, Garbled> {
        let mut read = Vec::new();
        for piece in pieces.iter().cycle() {
            while let Some(reply) = replies.next()? {
                read.push(reply);
            }
            let piece = &bytes[..bytes.len().min(*piece)];
            // The reader takes what there is room for.
            let mut left = piece;
            if !feed(replies, &mut left) {
                break;
            }
            bytes = &bytes[piece.len() - left.len()..];
        }
        Ok(read)
    }

    proptest! {
        #[test]
        fn replies_cut_anywhere_come_out_whole_and_in_order(
            order in prop::collection::vec(0..REPLIES.len(), 1..40),
            pieces in prop::collection::vec(1_usize..20, 1..40),
        ) {
            let bytes: Vec<u8> = order.iter().flat_map(|reply| REPLIES[*reply]).copied().collect();
            let wanted: Vec<_> = order.iter().map(|reply| plain(parse_redis_value(REPLIES[*reply]).unwrap())).collect();
            prop_assert_eq!(&read(&mut Replies::new(1_000, 10).with_pushes(), &bytes, &pieces).unwrap(), &wanted);
            let asked: Vec<_> = wanted.into_iter().filter(|reply| !matches!(reply, Value::Push { .. })).collect();
            prop_assert_eq!(&read(&mut Replies::new(1_000, 10), &bytes, &pieces).unwrap(), &asked);
        }

        #[test]
        fn the_parts_of_a_group_come_one_by_one_whatever_the_server_says_in_between(
            keys in prop::collection::vec(prop::sample::select(vec![&b"$1\r\nx\r\n"[..], b"$-1\r\n", b"_\r\n"]), 0..10),
            said in prop::collection::vec(0..3_usize, 11),
            pieces in prop::collection::vec(1_usize..20, 1..40),
        ) {
            let unasked = |count: usize| b">2\r\n+invalidate\r\n_\r\n".repeat(count);
            let mut bytes = [unasked(said[10]), format!("*{}\r\n", keys.len()).into_bytes()].concat();
            keys.iter().zip(&said).for_each(|(key, said)| bytes.extend([&unasked(*said)[..], key].concat()));
            let mut replies = Replies::new(1_000, 10);
            let (mut read, mut group) = (Vec::new(), None);
            let mut bytes = &bytes[..];
            for piece in pieces.iter().cycle() {
                if group.is_none() {
                    group = replies.next_group().unwrap();
                }
                while let (Some(_), Some(reply)) = (&group, replies.next().unwrap()) {
                    read.push(reply);
                }
                let mut piece = &bytes[..bytes.len().min(*piece)];
                let length = piece.len();
                if !feed(&mut replies, &mut piece) {
                    break;
                }
                bytes = &bytes[length - piece.len()..];
            }
            prop_assert!(matches!(group, Some(Group::Of(length)) if length == keys.len()));
            let wanted: Vec<_> = keys.iter().map(|key| parse_redis_value(key).unwrap()).collect();
            prop_assert_eq!(read, wanted);
        }

        #[test]
        fn long_strings_come_out_whole_and_too_long_ones_as_a_stub(
            lengths in prop::collection::vec(0_usize..300_000, 1..8),
            piece in 1_usize..100_000,
        ) {
            let most = 150_000;
            let strings: Vec<_> = lengths.iter().map(|length| (0..*length).map(|at| (at % 251) as u8).collect::<Vec<_>>()).collect();
            let bytes: Vec<u8> = strings.iter().flat_map(|string| {
                [format!("${}\r\n", string.len()).as_bytes(), string, b"\r\n+OK\r\n"].concat()
            }).collect();
            let mut replies = Replies::new(most, 10);
            let read = read(&mut replies, &bytes, &[piece]).unwrap();
            let kept = |string: &Vec<u8>| if string.len() > most { string[..10].to_vec() } else { string.clone() };
            let wanted: Vec<_> = strings.iter().flat_map(|string| [Value::BulkString(kept(string)), Value::Okay]).collect();
            prop_assert_eq!(read, wanted);
            prop_assert!(replies.bytes.len() <= 2 * (most + 20), "{} bytes are kept", replies.bytes.len());
        }

        #[test]
        fn bytes_that_are_no_replies_are_refused_or_read_and_no_panic(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"$*%|>:+-0123456789\r\n"[..])], 0..200),
        ) {
            let mut replies = Replies::new(100, 10);
            feed(&mut replies, &mut &bytes[..]);
            while let Ok(Some(_)) = replies.next() {}
        }
    }

    #[test]
    fn a_reply_nested_too_deep_or_too_long_is_refused_before_memory_is_taken_for_it() {
        let nested = b"*1\r\n".repeat(10_000);
        for bytes in [
            &[&nested[..], b":1\r\n"].concat()[..],
            b"*2\r\n$99999999999\r\n",
            b"*1048576\r\n",
            b"%524288\r\n",
            b"*2\r\n*1048574\r\n",
            b"*3\r\n*0\r\n*1048573\r\n",
            b"$9999999999999999999\r\n",
            b"$1x\r\n",
            b"$\r\n",
            b"\n",
        ] {
            let mut replies = Replies::new(100, 10);
            feed(&mut replies, &mut &*bytes);
            assert!(replies.next().is_err(), "{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(40)]));
            assert_eq!(replies.bytes.len(), CHUNK);
        }
        let mut replies = Replies::new(100, 10);
        assert!(read(&mut replies, &vec![b'+'; MOST_LINE + 1], &[1_000]).is_err(), "a line without an end");
    }

    #[test]
    fn a_reply_of_many_parts_is_read_and_parts_are_counted_in_one_reply_only() {
        let many = [b"*500000\r\n", &b":1\r\n".repeat(500_000)[..]].concat();
        let read = read(&mut Replies::new(100, 10), &many.repeat(3), &[CHUNK]).unwrap();
        assert_eq!(read.len(), 3);
        assert!(read.iter().all(|reply| matches!(reply, Value::Array(parts) if parts.len() == 500_000)));
    }
}
