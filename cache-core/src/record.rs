//! The record: one Redis string a key. This file holds its only byte table.
//!
//! | offset | bytes | field | written by |
//! |---:|---:|---|---|
//! | 0 | 1 | format, `0xC1` | both |
//! | 1 | 1 | state: `V` value, `L` lease, `S` value with a refresh lease, `T` tombstone, `Q` write marks | script |
//! | 2 | 4 | check over state, version, deadline and created | script |
//! | 6 | 8 | version of the value, or the floor that a fill must reach | both |
//! | 14 | 16 | token of the load: the lease's, then the value's identity | both |
//! | 30 | 6 | lease deadline, Redis time in ms | script |
//! | 36 | 6 | created (when the load began), Redis time in ms | script |
//! | 42 | 4 | schema number of the value's type | client |
//! | 46 | 4 | namespace generation | client |
//! | 50 | 6 | soft life, ms after created | client |
//! | 56 | 6 | hard life, ms after created | client |
//! | 62 | 6 | last life, ms after created | client |
//! | 68 | 2 | write marks (`Q`), how many there are | script |
//! | 70 | 1 | flags: 1 compressed, 2 negative (reserved), 4 encrypted | client |
//! | 71 | 1 | codec | client |
//! | 72 | 16 | key echo | client |
//! | 88 | 4 | CRC-32 of version, what the client wrote from 42 on, and the payload | client |
//! | 92 | … | payload | client |
//!
//! The token is under neither check: a refresh lease replaces it in place, and a damaged one only gets a fill refused.
//!
//! The payload is what the codec wrote, unless flags say otherwise: first compressed, then encrypted.
//!
//! | flag | offset in the payload | bytes | field |
//! |---|---:|---:|---|
//! | compressed | 0 | 1 | algorithm: 1 LZ4 block, 2 Zstandard frame |
//! | | 1 | 4 | length before compression |
//! | | 5 | … | compressed bytes |
//! | encrypted | 0 | 4 | number of the key |
//! | | 4 | 24 | nonce |
//! | | 28 | … | encrypted bytes, XChaCha20-Poly1305 |
//! | | last 16 | 16 | tag, over them and: `cachestack payload 1`, the client's bytes from 42 to 87 (marks 0), version, whole key |
//!
//! The payload of a `Q` is its write marks, none of which has a CRC, one behind the other. The head's deadline is the latest of theirs.
//!
//! | offset in a mark | bytes | field |
//! |---:|---:|---|
//! | 0 | 16 | token of the write |
//! | 16 | 6 | when it ends, Redis time in ms |
//!
//! All numbers are big-endian. The first 42 bytes, the *head*, are what scripts read and write, and stay where they are in
//! every later format: a later format changes the low half of the first byte and anything behind the head.

use crate::key::Echo;
use crate::token::Token;
use bytes::Bytes;
use std::time::Duration;

/// The format byte of this version.
pub const FORMAT: u8 = 0xC1;
/// Every format of ours has this high half; with the state byte behind it no UTF-8 text looks alike.
const FAMILY: u8 = 0xC0;
/// Length of the head, which scripts read and write.
pub const HEAD_LEN: usize = 42;
/// Length of head and body; the payload begins here.
pub const HEADER_LEN: usize = 92;
/// Longest time that six bytes of milliseconds hold, about 8,900 years.
pub(crate) const LONGEST_MS: u64 = (1 << 48) - 1;

/// What a record is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// A value.
    Value,
    /// No value; a load holds the lease.
    Lease,
    /// A value past its soft life; a refresh holds the lease.
    Refresh,
    /// No value: the key was invalidated. Keeps the floor.
    Tombstone,
    /// No value; writers have announced commits.
    Marked,
}

impl State {
    /// The byte in the record.
    pub fn byte(self) -> u8 {
        match self {
            Self::Value => b'V',
            Self::Lease => b'L',
            Self::Refresh => b'S',
            Self::Tombstone => b'T',
            Self::Marked => b'Q',
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            b'V' => Self::Value,
            b'L' => Self::Lease,
            b'S' => Self::Refresh,
            b'T' => Self::Tombstone,
            b'Q' => Self::Marked,
            _ => return None,
        })
    }

    /// Whether a reader finds a value here.
    pub fn has_value(self) -> bool {
        matches!(self, Self::Value | Self::Refresh)
    }
}

/// How long a value lives, from its creation: each at least as long as the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Life {
    /// Fresh until here.
    pub soft: Duration,
    /// Served while it is refreshed until here.
    pub hard: Duration,
    /// Served when the origin fails until here; Redis then forgets it.
    pub last: Duration,
}

/// What a record says of a value besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u8);

impl Flags {
    /// A plain value.
    pub const NONE: Self = Self(0);
    /// The payload is compressed.
    pub const COMPRESSED: Self = Self(1);
    /// The payload is encrypted; a compressed one was compressed before.
    pub const ENCRYPTED: Self = Self(4);
    /// Flags this build understands.
    const KNOWN: u8 = (cfg!(any(feature = "lz4", feature = "zstd")) as u8 * Self::COMPRESSED.0)
        | (cfg!(feature = "encryption") as u8 * Self::ENCRYPTED.0);

    /// Flags from their byte.
    pub fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// Their byte.
    pub fn byte(self) -> u8 {
        self.0
    }

    /// Whether this build knows what all the flags mean: compression and encryption are features.
    pub fn is_known(self) -> bool {
        self.0 & !Self::KNOWN == 0
    }

    /// Whether all of these flags are set.
    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
}

impl std::ops::BitOr for Flags {
    type Output = Self;

    fn bitor(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }
}

/// What the client writes of a value: everything the scripts pass through without looking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Number of the value type's shape; a newer one wins.
    pub schema: u32,
    /// Generation of the namespace, raised by a clear.
    pub generation: u32,
    /// The value's three lives.
    pub life: Life,
    /// Flags of the payload.
    pub flags: Flags,
    /// Which codec wrote the payload.
    pub codec: u8,
    /// Digest of the key.
    pub echo: Echo,
    /// The encoded value, compressed and encrypted as the flags say; empty where the state has none.
    pub payload: Bytes,
}

impl Body {
    /// A body without a value, for leases and tombstones.
    pub fn empty(schema: u32, generation: u32, echo: Echo) -> Self {
        Self { schema, generation, life: Life::default(), flags: Flags::NONE, codec: 0, echo, payload: Bytes::new() }
    }

    /// The bytes behind the head: the fifty of the table, then the payload.
    ///
    /// `version` stands in the head but is covered by this body's CRC.
    pub fn encode(&self, version: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN - HEAD_LEN + self.payload.len());
        self.encode_fields(&mut out);
        let crc = self.crc(version);
        out.extend_from_slice(&crc.to_be_bytes());
        out.extend_from_slice(&self.payload);
        out
    }

    /// All that the client writes but the CRC and the payload: the bytes 42 to 87 of a record without marks.
    pub(crate) fn encode_fields(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.schema.to_be_bytes());
        out.extend_from_slice(&self.generation.to_be_bytes());
        for life in [self.life.soft, self.life.hard, self.life.last] {
            push_u48(out, millis(life));
        }
        out.extend_from_slice(&[0, 0, self.flags.byte(), self.codec]);
        out.extend_from_slice(self.echo.as_bytes());
    }

    fn crc(&self, version: u64) -> u32 {
        let mut fields = Vec::with_capacity(46);
        self.encode_fields(&mut fields);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&version.to_be_bytes());
        crc.update(&fields);
        crc.update(&self.payload);
        crc.finalize()
    }
}

/// A record, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub state: State,
    /// Version of the value, or the floor.
    pub version: u64,
    /// Token of the lease, or of the load that made the value.
    pub token: Token,
    /// When the lease ends, ms of Redis time; 0 without a lease.
    pub deadline: u64,
    /// When the load that made the value began, ms of Redis time; 0 without a value.
    pub created: u64,
    /// How many writers have announced commits.
    pub marks: u16,
    /// What the client wrote.
    pub body: Body,
}

/// Why bytes under a key are no record for this reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unreadable {
    /// Not written by this library.
    Foreign,
    /// Written by a later version of this library.
    NewerFormat,
    /// Truncated, or a check does not hold.
    Corrupt,
    /// The record of another key.
    WrongKey,
}

impl Record {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN + self.body.payload.len());
        out.push(FORMAT);
        out.push(self.state.byte());
        out.extend_from_slice(&check(self.state, self.version, self.deadline, self.created).to_be_bytes());
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(self.token.as_bytes());
        push_u48(&mut out, self.deadline);
        push_u48(&mut out, self.created);
        self.body.encode_fields(&mut out);
        out[68..70].copy_from_slice(&self.marks.to_be_bytes());
        // Where there is no value, nobody computes a CRC: scripts write leases and tombstones.
        let crc = if self.state.has_value() { self.body.crc(self.version) } else { 0 };
        out.extend_from_slice(&crc.to_be_bytes());
        out.extend_from_slice(&self.body.payload);
        out
    }

    /// Reads a record that is expected to be the one of a key.
    ///
    /// # Errors
    /// [`Unreadable`] says why it is none. A reader treats each as a miss and counts it.
    pub fn decode(bytes: &Bytes, echo: Echo) -> Result<Self, Unreadable> {
        let record = Self::decode_any(bytes)?;
        if record.body.echo != echo {
            return Err(Unreadable::WrongKey);
        }
        Ok(record)
    }

    /// Reads a record of whatever key. The payload is a slice of `bytes`, not a copy.
    ///
    /// # Errors
    /// As [`Record::decode`], [`Unreadable::WrongKey`] excepted.
    pub fn decode_any(bytes: &Bytes) -> Result<Self, Unreadable> {
        let (&[format, state], true) = (bytes.first_chunk::<2>().ok_or(Unreadable::Foreign)?, bytes.len() >= HEAD_LEN) else {
            return Err(Unreadable::Foreign);
        };
        let (true, Some(state)) = (format & 0xF0 == FAMILY, State::from_byte(state)) else {
            return Err(Unreadable::Foreign);
        };
        if format != FORMAT {
            return Err(Unreadable::NewerFormat);
        }
        if bytes.len() < HEADER_LEN {
            return Err(Unreadable::Corrupt);
        }
        let record = Self::decode_unchecked(state, bytes);
        if u32::from_be_bytes(field(bytes, 2)) != check(state, record.version, record.deadline, record.created) {
            return Err(Unreadable::Corrupt);
        }
        if state.has_value() && u32::from_be_bytes(field(bytes, 88)) != record.body.crc(record.version) {
            return Err(Unreadable::Corrupt);
        }
        Ok(record)
    }

    /// The fields of a record of this format and of full length, its checks not looked at: what a script sees.
    fn decode_unchecked(state: State, bytes: &Bytes) -> Self {
        Self {
            state,
            version: u64::from_be_bytes(field(bytes, 6)),
            token: Token::from_bytes(field(bytes, 14)),
            deadline: u48(bytes, 30),
            created: u48(bytes, 36),
            marks: u16::from_be_bytes(field(bytes, 68)),
            body: Body {
                schema: u32::from_be_bytes(field(bytes, 42)),
                generation: u32::from_be_bytes(field(bytes, 46)),
                life: Life {
                    soft: Duration::from_millis(u48(bytes, 50)),
                    hard: Duration::from_millis(u48(bytes, 56)),
                    last: Duration::from_millis(u48(bytes, 62)),
                },
                flags: Flags::from_byte(bytes[70]),
                codec: bytes[71],
                echo: Echo::from_bytes(field(bytes, 72)),
                payload: bytes.slice(HEADER_LEN..),
            },
        }
    }

    /// What a script sees: a record of this format, damaged or not; `None` if it is foreign, of a later format, or cut short.
    pub(crate) fn decode_as_script(bytes: &Bytes) -> Option<Self> {
        let state = State::from_byte(*bytes.get(1)?)?;
        (bytes[0] == FORMAT && bytes.len() >= HEADER_LEN).then(|| Self::decode_unchecked(state, bytes))
    }

    /// Time since the load that made the value began, as of `now` (ms of Redis time).
    pub fn age(&self, now: u64) -> Duration {
        Duration::from_millis(now.saturating_sub(self.created))
    }

    /// Time until the lease ends, zero if it has ended.
    pub fn lease_left(&self, now: u64) -> Duration {
        Duration::from_millis(self.deadline.saturating_sub(now))
    }
}

/// Whether a header, behind which the payload may be missing, is of the value that the load with this token has made.
pub(crate) fn is_value_of(header: &Bytes, echo: Echo, token: Token) -> bool {
    Record::decode_as_script(header).is_some_and(|record| {
        let checked =
            u32::from_be_bytes(field(header, 2)) == check(record.state, record.version, record.deadline, record.created);
        checked && record.state == State::Value && record.token == token && record.body.echo == echo
    })
}

/// Whether these bytes carry a head of ours, of any format. The scripts ask the same before they touch a key.
pub fn is_ours(bytes: &[u8]) -> bool {
    bytes.len() >= HEAD_LEN && bytes[0] & 0xF0 == FAMILY && State::from_byte(bytes[1]).is_some()
}

/// The prime below 2³² that the check is taken by.
const CHECK_PRIME: u64 = 4_294_967_291;

/// Guards the fields that scripts write, where no CRC is at hand: a weighted sum, exact in the scripts' doubles for times
/// up to the year 2500. The modulus is prime and larger than each weight, so any one flipped bit changes it.
pub fn check(state: State, version: u64, deadline: u64, created: u64) -> u32 {
    let sum = u64::from(state.byte()) * 7
        + (version >> 32) * 8_191
        + (version & 0xFFFF_FFFF) * 131_071
        + deadline.min(LONGEST_MS) * 31
        + created.min(LONGEST_MS) * 127;
    (sum % CHECK_PRIME) as u32
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn u48(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 6].iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn push_u48(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.min(LONGEST_MS).to_be_bytes()[2..]);
}

/// A duration as a record keeps it: whole milliseconds, at most what six bytes hold.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(LONGEST_MS).min(LONGEST_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> Record {
        let body = Body {
            schema: 3,
            generation: 1,
            life: Life {
                soft: Duration::from_secs(5 * 60),
                hard: Duration::from_secs(65 * 60),
                last: Duration::from_secs(24 * 3_600),
            },
            flags: Flags::NONE,
            codec: 1,
            echo: Echo::from_bytes([7; 16]),
            payload: Bytes::from_static(b"a payload of some bytes"),
        };
        let (version, token) = (0xFFFF_FFFF_0000_0001, Token::from_bytes([9; 16]));
        Record { state: State::Value, version, token, deadline: 0, created: 1_795_000_000_123, marks: 0, body }
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        for state in [State::Value, State::Lease, State::Refresh, State::Tombstone, State::Marked] {
            let record = Record { state, marks: 2, deadline: 1_795_000_000_456, ..value() };
            assert_eq!(Record::decode(&record.encode().into(), record.body.echo), Ok(record));
        }
    }

    #[test]
    fn head_and_body_joined_are_the_record() {
        let record = value();
        let bytes = record.encode();
        assert_eq!(bytes[HEAD_LEN..], record.body.encode(record.version));
    }

    #[test]
    fn every_flipped_bit_of_a_value_is_noticed() {
        let record = value();
        let good = record.encode();
        for bit in 0..good.len() * 8 {
            // The token is guarded by comparison, and a value has no marks.
            if (14 * 8..30 * 8).contains(&bit) || (68 * 8..70 * 8).contains(&bit) {
                continue;
            }
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::decode(&bad.into(), record.body.echo).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let record = value();
        let good = Bytes::from(record.encode());
        for len in 0..good.len() {
            assert!(Record::decode(&good.slice(..len), record.body.echo).is_err(), "length {len}");
        }
    }

    #[test]
    fn the_record_of_another_key_is_no_answer() {
        let bytes = value().encode().into();
        assert_eq!(Record::decode(&bytes, Echo::from_bytes([8; 16])), Err(Unreadable::WrongKey));
    }

    #[test]
    fn a_later_format_is_told_from_a_foreign_value() {
        let mut bytes = value().encode();
        bytes[0] = FORMAT + 1;
        assert!(is_ours(&bytes));
        assert_eq!(Record::decode_any(&bytes.into()), Err(Unreadable::NewerFormat));
        let text = Bytes::from("ÁV".repeat(60));
        assert!(!is_ours(&text));
        assert_eq!(Record::decode_any(&text), Err(Unreadable::Foreign));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Record::decode_any(&bytes.into());
        }
    }
}
