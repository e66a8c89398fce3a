//! What can be routed: keys as bytes, without ambiguity.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use crate::hash;

/// A key that decides a shard.
///
/// A key feeds bytes; the 64-bit XXH3 of those bytes under [`SEED`](crate::SEED) is its place for ever. The bytes are fixed by the type:
///
/// | Type | Bytes |
/// |---|---|
/// | `u8` … `u128`, `i8` … `i128` | little-endian, at the type's full width |
/// | `str`, `String`, `Cow<str>` | UTF-8, as they are |
/// | `[u8]`, `[u8; N]`, `Vec<u8>` | as they are |
/// | tuples of two to six | each part's bytes, then their length as a little-endian `u64`: `("ab", "c")` and `("a", "bc")` differ |
/// | `&T`, `Box<T>`, `Arc<T>`, `Rc<T>` | those of `T` |
///
/// The width is part of the key: `7_u32` and `7_u64` are two keys and may land on two shards, so decide on one type per table. `usize` is
/// not a key, because its width depends on the host.
///
/// # Example
///
/// A key of one's own is written part by part:
///
/// ```
/// use cache_sharding::{KeyBytes, ShardKey};
///
/// struct OrderId {
///     tenant: String,
///     number: u64,
/// }
///
/// impl ShardKey for OrderId {
///     fn feed(&self, bytes: &mut KeyBytes) {
///         bytes.part(&self.tenant);
///         bytes.part(&self.number);
///     }
/// }
///
/// let id = OrderId { tenant: "acme".into(), number: 7 };
/// assert_eq!(id.shard_hash(), ("acme", 7_u64).shard_hash());
/// ```
///
/// To keep all of a tenant's orders on one shard, feed the tenant alone.
pub trait ShardKey {
    /// Feeds the key's bytes. Two keys that differ must feed different bytes, and a key must feed the same bytes for ever.
    fn feed(&self, bytes: &mut KeyBytes);

    /// The hash that placements see.
    ///
    /// Override it only to save the copy where the key already lies in memory as the bytes that [`feed`](Self::feed) feeds; the result must be
    /// the same.
    #[inline]
    fn shard_hash(&self) -> u64 {
        let mut bytes = KeyBytes::new();
        self.feed(&mut bytes);
        hash::of(bytes.as_slice())
    }
}

/// Keys up to this many bytes are gathered on the stack: room for a tuple of three 64-bit parts with their lengths.
const INLINE: usize = 48;

/// The bytes of a key while they are gathered; longer keys than 48 bytes that do not lie in memory as one slice allocate.
#[derive(Clone, Debug)]
pub struct KeyBytes {
    inline: [u8; INLINE],
    len: usize,
    /// Holds every byte once there are more than `INLINE`, and nothing before.
    spilled: Vec<u8>,
}

impl KeyBytes {
    #[inline]
    fn new() -> Self {
        Self { inline: [0; INLINE], len: 0, spilled: Vec::new() }
    }

    /// The bytes of `key`, for a look at what is hashed or for another implementation to compare with.
    pub fn of(key: &(impl ShardKey + ?Sized)) -> Self {
        let mut bytes = Self::new();
        key.feed(&mut bytes);
        bytes
    }

    /// Adds bytes as they are. Between two parts of variable length this is ambiguous: use [`part`](Self::part) there.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if end <= INLINE {
            self.inline[self.len..end].copy_from_slice(bytes);
        } else {
            if self.spilled.is_empty() {
                self.spilled.extend_from_slice(&self.inline[..self.len]);
            }
            self.spilled.extend_from_slice(bytes);
        }
        self.len = end;
    }

    /// Adds one part of a key of several: its bytes, then how many they were. Read from the end, the parts come apart again in one way only.
    #[inline]
    pub fn part(&mut self, part: &(impl ShardKey + ?Sized)) {
        let start = self.len;
        part.feed(self);
        let len = (self.len - start) as u64;
        self.push(&len.to_le_bytes());
    }

    /// The bytes so far.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        if self.len <= INLINE { &self.inline[..self.len] } else { &self.spilled }
    }
}

macro_rules! integer_keys {
    ($($integer:ty)*) => {$(
        impl ShardKey for $integer {
            #[inline]
            fn feed(&self, bytes: &mut KeyBytes) {
                bytes.push(&self.to_le_bytes());
            }

            #[inline]
            fn shard_hash(&self) -> u64 {
                hash::of(&self.to_le_bytes())
            }
        }
    )*};
}

integer_keys! { u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 }

macro_rules! keys_in_one_slice {
    ($([$($generics:tt)*] $key:ty, $self:ident => $slice:expr;)*) => {$(
        impl<$($generics)*> ShardKey for $key {
            #[inline]
            fn feed(&$self, bytes: &mut KeyBytes) {
                bytes.push($slice);
            }

            #[inline]
            fn shard_hash(&$self) -> u64 {
                hash::of($slice)
            }
        }
    )*};
}

keys_in_one_slice! {
    [] str, self => self.as_bytes();
    [] String, self => self.as_bytes();
    [] [u8], self => self;
    [] Vec<u8>, self => self;
    [const N: usize] [u8; N], self => self;
}

macro_rules! pointer_keys {
    ($([$($generics:tt)*] $key:ty;)*) => {$(
        impl<$($generics)*> ShardKey for $key {
            #[inline]
            fn feed(&self, bytes: &mut KeyBytes) {
                (**self).feed(bytes);
            }

            #[inline]
            fn shard_hash(&self) -> u64 {
                (**self).shard_hash()
            }
        }
    )*};
}

pointer_keys! {
    [T: ShardKey + ?Sized] &T;
    [T: ShardKey + ?Sized] Box<T>;
    [T: ShardKey + ?Sized] Arc<T>;
    [T: ShardKey + ?Sized] Rc<T>;
    [T: ShardKey + ToOwned + ?Sized] Cow<'_, T>;
}

macro_rules! tuple_keys {
    ($(($($part:ident $at:tt),+);)*) => {$(
        impl<$($part: ShardKey),+> ShardKey for ($($part,)+) {
            #[inline]
            fn feed(&self, bytes: &mut KeyBytes) {
                $(bytes.part(&self.$at);)+
            }
        }
    )*};
}

tuple_keys! {
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
    (A 0, B 1, C 2, D 3, E 4);
    (A 0, B 1, C 2, D 3, E 4, F 5);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(key: &(impl ShardKey + ?Sized)) -> Vec<u8> {
        KeyBytes::of(key).as_slice().to_vec()
    }

    /// `shard_hash` may be overridden for speed; this is the hash that it must equal.
    fn hash_of_bytes(key: &(impl ShardKey + ?Sized)) -> u64 {
        hash::of(&bytes_of(key))
    }

    #[test]
    fn integers_are_little_endian_at_full_width() {
        assert_eq!(bytes_of(&0x0102_u16), [2, 1]);
        assert_eq!(bytes_of(&-2_i32), [0xFE, 0xFF, 0xFF, 0xFF]);
        assert_eq!(bytes_of(&1_u128).len(), 16);
        assert_ne!(7_u32.shard_hash(), 7_u64.shard_hash());
    }

    #[test]
    fn tuples_are_their_parts_each_followed_by_its_length() {
        assert_eq!(bytes_of(&("ab", 7_u8)), [b'a', b'b', 2, 0, 0, 0, 0, 0, 0, 0, 7, 1, 0, 0, 0, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn every_form_of_a_key_has_the_hash_of_its_bytes(text in ".{0,80}", number: u128) {
            let hash = hash_of_bytes(text.as_str());
            prop_assert_eq!(text.as_str().shard_hash(), hash);
            prop_assert_eq!(text.clone().shard_hash(), hash);
            prop_assert_eq!(text.as_bytes().shard_hash(), hash);
            prop_assert_eq!(text.clone().into_bytes().shard_hash(), hash);
            prop_assert_eq!(Arc::<str>::from(text.as_str()).shard_hash(), hash);
            prop_assert_eq!(Cow::Borrowed(text.as_str()).shard_hash(), hash);
            prop_assert_eq!((&&text).shard_hash(), hash);
            prop_assert_eq!(number.shard_hash(), hash_of_bytes(&number));
            prop_assert_eq!(number.to_le_bytes().shard_hash(), number.shard_hash());
            prop_assert_eq!((number as i16).shard_hash(), hash_of_bytes(&(number as i16)));
        }

        #[test]
        fn one_text_cut_in_two_ways_makes_two_keys(text in "[a-z]{0,12}", one: prop::sample::Index, other: prop::sample::Index) {
            let (one, other) = (one.index(text.len() + 1), other.index(text.len() + 1));
            prop_assert_eq!(bytes_of(&text.split_at(one)) == bytes_of(&text.split_at(other)), one == other);
        }

        #[test]
        fn bytes_survive_the_move_from_the_stack_to_the_heap(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6)) {
            let mut bytes = KeyBytes::new();
            for part in &parts {
                bytes.push(part);
            }
            prop_assert_eq!(bytes.as_slice(), parts.concat());
        }
    }
}
