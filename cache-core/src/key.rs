//! Keys: one injective encoding, so that no two keys ever share a record.

use crate::partition::Partition;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// Encoded keys longer than this are stored under their digest.
const LONGEST_PLAIN_KEY: usize = 200;

/// What can name an entry in L2.
///
/// A key writes itself as one or more *parts*. A key of one part is stored as it is, so that `redis-cli` shows it; parts of
/// a longer key are length-prefixed (`(3:abc2:42`), so that no choice of bytes in one part can imitate another key. Any
/// bytes are fine, none included, and a key of a megabyte is stored under its 256-bit digest.
///
/// Integers, `bool`, `char`, strings, byte arrays and vectors, tuples of these, `Arc` and references are keys already. A
/// type of your own is three lines:
///
/// ```
/// use cache_core::{Key, KeyParts, PartsOfKey};
///
/// #[derive(Clone, PartialEq, Eq, Hash)]
/// struct ProductId(u64);
///
/// impl Key for ProductId {
///     fn write(&self, parts: &mut KeyParts) {
///         self.0.write(parts);
///     }
///
///     fn read(parts: &mut PartsOfKey<'_>) -> Option<Self> {
///         u64::read(parts).map(Self)
///     }
/// }
/// ```
///
/// The encoding must be injective for the type: two keys that differ write different parts.
pub trait Key {
    /// Writes this key's parts.
    fn write(&self, parts: &mut KeyParts);

    /// Reads a key from what [`write`](Self::write) wrote: an invalidation by another node names the key so. `None` if these parts are no key of this
    /// type: a newer program's, or hostile.
    ///
    /// A type may leave it out. Each invalidation by another node then has this one ask L2 again for whatever L1 has of a 256th of all keys: as right,
    /// and slower where there are many.
    fn read(parts: &mut PartsOfKey<'_>) -> Option<Self>
    where
        Self: Sized,
    {
        let _ = parts;
        None
    }
}

/// What a [`Key`] is read from: its parts, one after the other.
#[derive(Debug)]
pub struct PartsOfKey<'a> {
    /// The one part that there is, or a list as [`KeyParts`] writes it, without its beginning.
    rest: Parts<'a>,
}

#[derive(Debug)]
enum Parts<'a> {
    Single(Option<&'a [u8]>),
    List(&'a [u8]),
}

impl<'a> PartsOfKey<'a> {
    fn of(encoded: &'a [u8]) -> Self {
        let rest = match encoded.strip_prefix(&[LIST]) {
            Some(list) => Parts::List(list),
            None => Parts::Single(Some(encoded)),
        };
        Self { rest }
    }

    /// The next part; `None` if there is none.
    pub fn next_part(&mut self) -> Option<&'a [u8]> {
        match &mut self.rest {
            Parts::Single(part) => part.take(),
            Parts::List(list) => {
                let colon = list.iter().position(|byte| *byte == b':')?;
                let length: usize = std::str::from_utf8(&list[..colon]).ok()?.parse().ok()?;
                let part = list.get(colon + 1..)?.get(..length)?;
                *list = &list[colon + 1 + length..];
                Some(part)
            }
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self.rest, Parts::Single(None) | Parts::List([]))
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.next_part()?).ok()
    }
}

/// The key of these encoded bytes, if they are one of this type: what it would be written as.
pub(crate) fn read_key<K: Key>(encoded: &[u8]) -> Option<K> {
    let mut parts = PartsOfKey::of(encoded);
    let key = K::read(&mut parts).filter(|_| parts.is_empty())?;
    let mut written = KeyParts::new();
    key.write(&mut written);
    // Another way to write the same key (`007`) would be another key's record.
    (written.encode() == encoded).then_some(key)
}

/// Where a [`Key`] writes its parts.
#[derive(Debug)]
pub struct KeyParts {
    /// `(`, then each part as `length:bytes`.
    list: Vec<u8>,
    parts: usize,
    last: usize,
}

/// Begins a list of parts. A single part that begins with it is written as a list too, so that neither imitates the other.
const LIST: u8 = b'(';

impl KeyParts {
    fn new() -> Self {
        Self { list: vec![LIST], parts: 0, last: 0 }
    }

    /// Appends one part of any bytes.
    pub fn push(&mut self, part: &[u8]) {
        self.list.extend_from_slice(part.len().to_string().as_bytes());
        self.list.push(b':');
        self.last = self.list.len();
        self.list.extend_from_slice(part);
        self.parts += 1;
    }

    fn encode(mut self) -> Vec<u8> {
        if self.parts == 1 && self.list.get(self.last) != Some(&LIST) { self.list.split_off(self.last) } else { self.list }
    }
}

macro_rules! integer_keys {
    ($($int:ty)*) => {$(
        impl Key for $int {
            fn write(&self, parts: &mut KeyParts) {
                parts.push(self.to_string().as_bytes());
            }

            fn read(parts: &mut PartsOfKey<'_>) -> Option<Self> {
                parts.text()?.parse().ok()
            }
        }
    )*};
}
integer_keys!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize bool char);

impl Key for str {
    fn write(&self, parts: &mut KeyParts) {
        parts.push(self.as_bytes());
    }
}

impl Key for String {
    fn write(&self, parts: &mut KeyParts) {
        parts.push(self.as_bytes());
    }

    fn read(parts: &mut PartsOfKey<'_>) -> Option<Self> {
        parts.text().map(Self::from)
    }
}

impl Key for [u8] {
    fn write(&self, parts: &mut KeyParts) {
        parts.push(self);
    }
}

impl Key for Vec<u8> {
    fn write(&self, parts: &mut KeyParts) {
        parts.push(self);
    }

    fn read(parts: &mut PartsOfKey<'_>) -> Option<Self> {
        parts.next_part().map(Self::from)
    }
}

impl<const N: usize> Key for [u8; N] {
    fn write(&self, parts: &mut KeyParts) {
        parts.push(self);
    }

    fn read(parts: &mut PartsOfKey<'_>) -> Option<Self> {
        parts.next_part()?.try_into().ok()
    }
}

impl<T: Key + ?Sized> Key for &T {
    fn write(&self, parts: &mut KeyParts) {
        (**self).write(parts);
    }
}

macro_rules! pointer_keys {
    ($($pointer:ident)*) => {$(
        impl<T: Key> Key for $pointer<T> {
            fn write(&self, parts: &mut KeyParts) {
                (**self).write(parts);
            }

            fn read(parts: &mut PartsOfKey<'_>) -> Option<Self> {
                T::read(parts).map(Self::new)
            }
        }

        impl Key for $pointer<str> {
            fn write(&self, parts: &mut KeyParts) {
                (**self).write(parts);
            }

            fn read(parts: &mut PartsOfKey<'_>) -> Option<Self> {
                parts.text().map(Self::from)
            }
        }

        impl Key for $pointer<[u8]> {
            fn write(&self, parts: &mut KeyParts) {
                (**self).write(parts);
            }

            fn read(parts: &mut PartsOfKey<'_>) -> Option<Self> {
                parts.next_part().map(Self::from)
            }
        }
    )*};
}
pointer_keys!(Arc Box);

macro_rules! tuple_keys {
    ($($name:ident)+) => {
        impl<$($name: Key),+> Key for ($($name,)+) {
            #[allow(non_snake_case)]
            fn write(&self, parts: &mut KeyParts) {
                let ($($name,)+) = self;
                $($name.write(parts);)+
            }

            fn read(parts: &mut PartsOfKey<'_>) -> Option<Self> {
                Some(($($name::read(parts)?,)+))
            }
        }
    };
}
tuple_keys!(A);
tuple_keys!(A B);
tuple_keys!(A B C);
tuple_keys!(A B C D);
tuple_keys!(A B C D E);
tuple_keys!(A B C D E F);

/// Sixteen bytes of a key's digest, kept in its record and compared on every read: no answer under one key ever holds what
/// was stored under another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Echo([u8; 16]);

impl Echo {
    /// An echo from its bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// A key as L2 knows it: the whole Redis key, the echo for its record, and its partition.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteKey {
    bytes: Bytes,
    echo: Echo,
    partition: Partition,
    encoded: Encoded,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Encoded {
    /// The rest of the Redis key, from here on.
    From(usize),
    /// The Redis key has its digest only.
    Long(Bytes),
}

impl RemoteKey {
    /// The bytes to send as the Redis key: `prefix{tag}:namespace:key`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The key as its [`Key::write`] wrote it.
    pub fn encoded(&self) -> &[u8] {
        match &self.encoded {
            Encoded::From(start) => &self.bytes[*start..],
            Encoded::Long(encoded) => encoded,
        }
    }

    /// What its record must echo.
    pub fn echo(&self) -> Echo {
        self.echo
    }

    /// The partition it belongs to.
    pub fn partition(&self) -> Partition {
        self.partition
    }
}

impl fmt::Debug for RemoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A key may be an e-mail address or a session: logs get the echo, which finds it again and tells nothing.
        write!(f, "RemoteKey({:02x?})", &self.echo.0[..4])
    }
}

/// A cache's identity in L2: the prefix of a deployment, and the name of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    prefix: Arc<str>,
    name: Arc<str>,
}

impl Namespace {
    /// A namespace. Both parts: 1 to 64 of `A-Z a-z 0-9 . _ -` (an empty prefix is fine).
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) says which part is wrong.
    pub fn new(prefix: &str, name: &str) -> crate::Result<Self> {
        let plain = |text: &str| text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if name.is_empty() || !plain(name) {
            return Err(crate::Error::config("the cache's name must be 1 to 64 of A-Z a-z 0-9 . _ -"));
        }
        if !plain(prefix) {
            return Err(crate::Error::config("the key prefix must be at most 64 of A-Z a-z 0-9 . _ -"));
        }
        Ok(Self { prefix: prefix.into(), name: name.into() })
    }

    /// The cache's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What stands before the hash tag in each Redis key.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether a Redis key lies in this namespace.
    pub fn contains(&self, key: &[u8]) -> bool {
        Named::parse(&self.prefix, key).is_some_and(|named| named.name == self.name.as_bytes())
    }

    /// The Redis key of a key: `prefix{tag}:name:key`, or `prefix{tag}:name#digest` for a long one.
    pub fn key<K: Key + ?Sized>(&self, key: &K) -> RemoteKey {
        self.encode(|parts| key.write(parts))
    }

    /// The partition of a key, without the rest of what [`encode`](Self::encode) makes of it.
    pub(crate) fn partition(write: impl FnOnce(&mut KeyParts)) -> Partition {
        let mut parts = KeyParts::new();
        write(&mut parts);
        Partition::of(&parts.encode())
    }

    pub(crate) fn encode(&self, write: impl FnOnce(&mut KeyParts)) -> RemoteKey {
        let mut parts = KeyParts::new();
        write(&mut parts);
        let encoded = parts.encode();
        // The name is length-prefixed in what is hashed, or ("a", "b:c") and ("a:b", "c") would share an echo.
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(self.name.len() as u64).to_be_bytes());
        hasher.update(self.name.as_bytes());
        hasher.update(&encoded);
        let digest = hasher.finalize();
        let partition = Partition::of(&encoded);
        let tag = partition.tag();
        let mut bytes = Vec::with_capacity(self.prefix.len() + tag.len() + self.name.len() + encoded.len().min(64) + 4);
        bytes.extend_from_slice(self.prefix.as_bytes());
        bytes.push(b'{');
        bytes.extend_from_slice(tag.as_bytes());
        bytes.extend_from_slice(b"}:");
        bytes.extend_from_slice(self.name.as_bytes());
        let encoded = if encoded.len() <= LONGEST_PLAIN_KEY {
            bytes.push(b':');
            let start = bytes.len();
            bytes.extend_from_slice(&encoded);
            Encoded::From(start)
        } else {
            bytes.push(b'#');
            bytes.extend_from_slice(digest.to_hex().as_bytes());
            Encoded::Long(encoded.into())
        };
        let mut echo = [0; 16];
        echo.copy_from_slice(&digest.as_bytes()[..16]);
        RemoteKey { bytes: bytes.into(), echo: Echo(echo), partition, encoded }
    }
}

/// What a Redis key says of itself: see [`Namespace::key`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    tag: &'a [u8],
    /// Of the cache.
    pub(crate) name: &'a [u8],
    /// The key as its [`Key::write`] wrote it; `None` if there is its digest only.
    pub(crate) encoded: Option<&'a [u8]>,
}

impl<'a> Named<'a> {
    /// `None` if no cache of this prefix would write such a key.
    pub(crate) fn parse(prefix: &str, key: &'a [u8]) -> Option<Self> {
        let rest = key.strip_prefix(prefix.as_bytes())?.strip_prefix(b"{")?;
        let (tag, rest) = rest.split_at(rest.iter().position(|&b| b == b'}')?);
        let rest = rest.strip_prefix(b"}:")?;
        // Names have neither.
        let (name, rest) = rest.split_at(rest.iter().position(|b| b":#".contains(b))?);
        Some(Self { tag, name, encoded: rest.strip_prefix(b":") })
    }

    /// By its tag.
    pub(crate) fn partition(&self) -> Option<Partition> {
        Partition::tagged(self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded<K: Key>(key: &K) -> Vec<u8> {
        let mut parts = KeyParts::new();
        key.write(&mut parts);
        parts.encode()
    }

    fn namespace() -> Namespace {
        Namespace::new("app", "product").unwrap()
    }

    #[test]
    fn a_single_part_is_readable_and_several_are_length_prefixed() {
        assert_eq!(encoded(&42_u64), b"42");
        assert_eq!(encoded(&("abc", 42)), b"(3:abc2:42");
        assert_eq!(encoded(&("", "")), b"(0:0:");
        assert_eq!(encoded(&""), b"");
    }

    #[test]
    fn h2_hostile_parts_cannot_choose_slot_or_imitate_another_key() {
        let key = namespace().key("{evil}:\0\r\n}");
        assert!(key.as_bytes().starts_with(format!("app{{{}}}:product:", key.partition().tag()).as_bytes()));
        assert_ne!(encoded(&("a:1", "b")), encoded(&("a", "1:b")));
        assert_ne!(encoded(&("abc", 42)), encoded(&"(3:abc2:42"));
    }

    #[test]
    fn h1_empty_and_megabyte_keys_are_keys() {
        let empty = namespace().key("");
        assert!(empty.as_bytes().ends_with(b":product:"));
        let long = namespace().key(&"x".repeat(1 << 20));
        assert!(long.as_bytes().len() < 100);
        // A long key's digest is in another place than any plain key could be.
        assert_ne!(long.as_bytes(), namespace().key(&String::from_utf8_lossy(&long.as_bytes()[16..]).into_owned()).as_bytes());
        assert!(namespace().contains(long.as_bytes()) && namespace().contains(empty.as_bytes()));
    }

    #[test]
    fn namespaces_with_like_names_do_not_contain_each_other() {
        let longer = Namespace::new("app", "product2").unwrap();
        assert!(!namespace().contains(longer.key(&1).as_bytes()));
        assert!(!longer.contains(namespace().key(&1).as_bytes()));
        assert_ne!(namespace().key(&1).echo(), longer.key(&1).echo());
    }

    #[test]
    fn names_that_could_break_the_layout_are_refused() {
        for name in ["", "a:b", "a{b}", "ä", &"x".repeat(65)] {
            assert!(Namespace::new("", name).is_err(), "{name}");
        }
        assert!(Namespace::new("a b", "ok").is_err());
    }

    #[test]
    fn keys_do_not_show_in_debug() {
        let text = format!("{:?}", namespace().key("secret@example.org"));
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn keys_are_read_as_they_were_written() {
        fn goes_round<K: Key + PartialEq + std::fmt::Debug>(key: K) {
            assert_eq!(read_key(&encoded(&key)), Some(key));
        }
        goes_round(-7_i64);
        goes_round('ß');
        goes_round(Arc::<str>::from("(a"));
        goes_round(Box::new([0_u8, 255]));
        goes_round((1_u8, String::from("("), vec![b':'], true));
        goes_round((String::new(),));
    }

    #[test]
    fn h1_bytes_that_no_key_is_written_as_are_no_key() {
        assert_eq!(read_key::<u64>(b"007"), None);
        assert_eq!(read_key::<u64>(b"+7"), None);
        assert_eq!(read_key::<u64>(b"(1:7"), None, "a list of one is written without the list");
        assert_eq!(read_key::<(u64, u64)>(b"(1:71:8junk"), None);
        assert_eq!(read_key::<(u64, u64)>(b"(1:7"), None);
        assert_eq!(read_key::<(u64, u64)>(b"(18446744073709551615:71:8"), None);
        assert_eq!(read_key::<String>(b"\xff"), None);
    }

    proptest! {
        #[test]
        fn h1_any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>(), key in any::<(Vec<u8>, String, u64)>()) {
            let _ = read_key::<(String, u64)>(&bytes);
            prop_assert_eq!(read_key(&encoded(&key)), Some(key.clone()));
            prop_assert_eq!(read_key(&encoded(&key.0)), Some(key.0));
        }

        #[test]
        fn h1_encoding_is_injective(a in any::<(Vec<u8>, Vec<u8>)>(), b in any::<(Vec<u8>, Vec<u8>)>()) {
            prop_assert_eq!(a == b, encoded(&a) == encoded(&b));
        }

        #[test]
        fn h1_moving_bytes_between_parts_gives_another_key(bytes in proptest::collection::vec(any::<u8>(), 1..40), cut in 0_usize..40, other in 0_usize..40) {
            let (cut, other) = (cut % (bytes.len() + 1), other % (bytes.len() + 1));
            let key = |at: usize| encoded(&(&bytes[..at], &bytes[at..]));
            prop_assert_eq!(cut == other, key(cut) == key(other));
        }
    }
}
