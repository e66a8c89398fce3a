//! What an invalidation publishes: bytes that other nodes, of other versions too, take or refuse.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | incarnation, 8: sequence; written by the store, right before it publishes |
//! | 1 | format of what follows: 1 |
//! | 8 | node: the cache that publishes, one of a process |
//! | 1 | kind: `K` keys, `A` all keys of the namespace in this partition may have changed |
//! | 1 | length of the name, and the name of the cache |
//! | 2 | how many keys; each: 1 whether a version follows (0, 1), 8 the version if so, 2 length, the encoded key |
//!
//! Numbers are big-endian. Whoever does not understand a frame suspects its partition; none is ignored.

use crate::key::Namespace;
use crate::remote::Invalidation;

/// What the store puts before a frame.
#[cfg(test)]
const STAMP_LEN: usize = 16;
const FORMAT: u8 = 1;
const KEYS: u8 = b'K';
const ALL: u8 = b'A';
/// A longer key is not sent: who hears of it suspects its partition.
const LONGEST_KEY: usize = 4_096;
/// The same for a frame.
const LONGEST_FRAME: usize = 256 << 10;

/// Who announces an invalidation, and for which cache: what turns it into a message to other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The cache that does, a random number: it has let go of the keys itself.
    pub node: u64,
    /// Whose keys they are.
    pub namespace: Namespace,
}

impl Notice {
    /// What is published of keys of one partition, to be preceded by incarnation and sequence.
    pub fn frame<'a>(&self, keys: impl ExactSizeIterator<Item = &'a Invalidation>) -> Vec<u8> {
        let count = keys.len();
        let mut frame = self.begin(KEYS, count * 32);
        frame.extend_from_slice(&(count as u16).to_be_bytes());
        for Invalidation { key, version } in keys {
            frame.push(u8::from(version.is_some()));
            frame.extend(version.iter().flat_map(|version| version.to_be_bytes()));
            let key = key.encoded();
            if key.len() > LONGEST_KEY || frame.len() > LONGEST_FRAME {
                return self.frame_of_all();
            }
            frame.extend_from_slice(&(key.len() as u16).to_be_bytes());
            frame.extend_from_slice(key);
        }
        if count > usize::from(u16::MAX) { self.frame_of_all() } else { frame }
    }

    /// What is published where no keys are named: each of the namespace in this partition may have changed.
    pub fn frame_of_all(&self) -> Vec<u8> {
        self.begin(ALL, 0)
    }

    fn begin(&self, kind: u8, room: usize) -> Vec<u8> {
        let name = self.namespace.name().as_bytes();
        let mut frame = Vec::with_capacity(16 + name.len() + room);
        frame.push(FORMAT);
        frame.extend_from_slice(&self.node.to_be_bytes());
        frame.push(kind);
        // At most 64 bytes long.
        frame.push(name.len() as u8);
        frame.extend_from_slice(name);
        frame
    }
}

/// A frame as it is heard.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) incarnation: u64,
    pub(crate) sequence: u64,
    /// `None` if what it says is not understood.
    pub(crate) news: Option<News<'a>>,
}

/// What a frame says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct News<'a> {
    pub(crate) node: u64,
    pub(crate) name: &'a [u8],
    /// The keys, or `None` for all.
    pub(crate) keys: Option<Vec<(&'a [u8], Option<u64>)>>,
}

impl<'a> Frame<'a> {
    /// `None` if not even its sequence can be read.
    pub(crate) fn decode(mut bytes: &'a [u8]) -> Option<Self> {
        let (incarnation, sequence) = (number(&mut bytes)?, number(&mut bytes)?);
        Some(Self { incarnation, sequence, news: News::decode(bytes) })
    }
}

impl<'a> News<'a> {
    fn decode(mut bytes: &'a [u8]) -> Option<Self> {
        let bytes = &mut bytes;
        if take(bytes, 1)? != [FORMAT] {
            return None;
        }
        let node = number(bytes)?;
        let kind = take(bytes, 1)?[0];
        let length = take(bytes, 1)?[0];
        let name = take(bytes, length.into())?;
        let keys = match kind {
            ALL => None,
            KEYS => {
                let count = short(bytes)?;
                // Three bytes a key at least, so that a count alone allocates nothing.
                if bytes.len() < count * 3 {
                    return None;
                }
                Some((0..count).map(|_| key(bytes)).collect::<Option<_>>()?)
            }
            _ => return None,
        };
        bytes.is_empty().then_some(Self { node, name, keys })
    }
}

fn key<'a>(bytes: &mut &'a [u8]) -> Option<(&'a [u8], Option<u64>)> {
    let version = match take(bytes, 1)?[0] {
        0 => None,
        1 => Some(number(bytes)?),
        _ => return None,
    };
    let length = short(bytes)?;
    Some((take(bytes, length)?, version))
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(take(bytes, 8)?.try_into().ok()?))
}

fn short(bytes: &mut &[u8]) -> Option<usize> {
    Some(u16::from_be_bytes(take(bytes, 2)?.try_into().ok()?).into())
}

/// Puts the store's stamp before a frame.
pub(crate) fn stamped(incarnation: u64, sequence: u64, frame: &[u8]) -> Vec<u8> {
    [&incarnation.to_be_bytes()[..], &sequence.to_be_bytes(), frame].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn notice() -> Notice {
        Notice { node: 7, namespace: Namespace::new("app", "product").unwrap() }
    }

    fn invalidation(key: &[u8], version: Option<u64>) -> Invalidation {
        Invalidation { key: notice().namespace.key(key), version }
    }

    #[test]
    fn d6_what_a_frame_of_another_version_says_is_not_understood_but_its_sequence_is() {
        let mut frame = stamped(3, 9, &notice().frame([invalidation(b"a", None)].iter()));
        frame[STAMP_LEN] = 2;
        assert_eq!(Frame::decode(&frame), Some(Frame { incarnation: 3, sequence: 9, news: None }));
        frame[STAMP_LEN] = FORMAT;
        frame[STAMP_LEN + 9] = b'?';
        assert_eq!(Frame::decode(&frame).unwrap().news, None, "another kind");
    }

    #[test]
    fn a_key_too_long_to_send_stands_for_all() {
        let frame = notice().frame([invalidation(&[b'x'; 5_000], None)].iter());
        let frame = stamped(1, 1, &frame);
        assert_eq!(Frame::decode(&frame).unwrap().news.unwrap().keys, None);
    }

    proptest! {
        #[test]
        fn h1_what_was_put_in_comes_out(keys in proptest::collection::vec((any::<Vec<u8>>(), any::<Option<u64>>()), 0..20)) {
            let keys: Vec<_> = keys.iter().map(|(key, version)| invalidation(key, *version)).collect();
            let frame = stamped(u64::MAX, 5, &notice().frame(keys.iter()));
            let frame = Frame::decode(&frame).unwrap();
            let wanted: Vec<_> = keys.iter().map(|key| (key.key.encoded(), key.version)).collect();
            prop_assert_eq!((frame.incarnation, frame.sequence), (u64::MAX, 5));
            prop_assert_eq!(frame.news, Some(News { node: 7, name: b"product", keys: Some(wanted) }));
        }

        #[test]
        fn h5_any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>(), cut in 0_usize..64) {
            let _ = Frame::decode(&bytes);
            let frame = stamped(1, 2, &notice().frame([invalidation(&bytes, Some(4))].iter()));
            let cut = cut.min(frame.len());
            let short = Frame::decode(&frame[..frame.len() - cut]);
            prop_assert!(cut == 0 || short.is_none_or(|frame| frame.news.is_none()));
        }
    }
}
