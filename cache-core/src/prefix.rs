//! What keys of a namespace begin with, seen through their encoding.

use crate::key::Namespace;
use std::fmt;

/// Begins the encoding of a key of several parts; see [`Key`](crate::Key).
const LIST: u8 = b'(';

/// What the keys of a sweep begin with. Made of a key's own bytes, not of a pattern: no character means anything but itself.
///
/// ```
/// use cache_core::KeyPrefix;
///
/// let of_one_part = KeyPrefix::text("user:17:");       // keys such as "user:17:orders"
/// let of_several = KeyPrefix::parts(["17", "orders"]); // keys such as (17, "orders", 2026)
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPrefix(Prefix);

#[derive(Clone, PartialEq, Eq)]
enum Prefix {
    /// The first bytes of a key of one part.
    Text(Vec<u8>),
    /// The first parts, encoded, and the part itself if it is one.
    Parts(Vec<u8>, Option<Vec<u8>>),
}

impl fmt::Debug for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys stay out of logs, and so do their beginnings.
        f.write_str("KeyPrefix")
    }
}

impl KeyPrefix {
    /// Keys of one part (a string, an integer in decimal, bytes) that begin with these bytes. Empty: every key of the namespace.
    pub fn text(prefix: impl AsRef<[u8]>) -> Self {
        Self(Prefix::Text(prefix.as_ref().to_vec()))
    }

    /// Keys of several parts (a tuple) whose first parts are these, whole. An integer's part is its decimal text. None: every key of the
    /// namespace.
    pub fn parts<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Self {
        let parts: Vec<P> = parts.into_iter().collect();
        let mut encoded = Vec::new();
        for part in &parts {
            let part = part.as_ref();
            if encoded.is_empty() {
                encoded.push(LIST);
            }
            encoded.extend_from_slice(part.len().to_string().as_bytes());
            encoded.push(b':');
            encoded.extend_from_slice(part);
        }
        let only = match &parts[..] {
            [part] => Some(part.as_ref().to_vec()),
            _ => None,
        };
        Self(Prefix::Parts(encoded, only))
    }

    /// Whether a key in L2 of this namespace begins so, or may: of a long key only a digest is known. For tiers.
    pub fn may_match(&self, namespace: &Namespace, key: &[u8]) -> bool {
        let Some(close) = key.iter().position(|byte| *byte == b'}') else { return false };
        let name_ends = close + 2 + namespace.name().len();
        match key.get(name_ends..) {
            Some([b':', encoded @ ..]) => self.matches(encoded),
            Some([b'#', ..]) => true,
            _ => false,
        }
    }

    fn matches(&self, encoded: &[u8]) -> bool {
        match &self.0 {
            Prefix::Text(text) if text.first() == Some(&LIST) => sole_part(encoded).is_some_and(|part| part.starts_with(text)),
            Prefix::Text(text) => encoded.starts_with(text),
            // A key of one part is written plainly.
            Prefix::Parts(list, only) => encoded.starts_with(list) || only.as_deref() == Some(encoded),
        }
    }
}

/// The part of a list of one, which is how a part is written that begins like a list.
fn sole_part(encoded: &[u8]) -> Option<&[u8]> {
    let list = encoded.strip_prefix(&[LIST])?;
    let colon = list.iter().position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&list[..colon]).ok()?.parse().ok()?;
    Some(&list[colon + 1..]).filter(|part| part.len() == length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Key, RemoteKey};
    use proptest::prelude::*;

    fn namespace() -> Namespace {
        Namespace::new("app", "thing").unwrap()
    }

    fn key<K: Key + ?Sized>(key: &K) -> RemoteKey {
        namespace().key(key)
    }

    fn matches(prefix: &KeyPrefix, key: &RemoteKey) -> bool {
        prefix.may_match(&namespace(), key.as_bytes())
    }

    #[test]
    fn whole_parts_match_and_halves_do_not() {
        let seventeen = KeyPrefix::parts(["17"]);
        assert!(matches(&seventeen, &key(&(17, "orders"))));
        assert!(matches(&seventeen, &key(&(17, 2, 3))));
        assert!(matches(&seventeen, &key(&17)), "a key that is this part alone");
        assert!(!matches(&seventeen, &key(&(170, "orders"))));
        assert!(!matches(&seventeen, &key(&171)));
        assert!(!matches(&seventeen, &key(&("1", "7"))));
        let two = KeyPrefix::parts(["17", "orders"]);
        assert!(matches(&two, &key(&(17, "orders", 2026))));
        assert!(!matches(&two, &key(&(17, "order", "s"))));
    }

    #[test]
    fn an_empty_prefix_is_every_key_s() {
        for prefix in [KeyPrefix::text(""), KeyPrefix::parts([""; 0])] {
            assert!(matches(&prefix, &key("a")) && matches(&prefix, &key(&("a", 1))) && matches(&prefix, &key("(")));
        }
    }

    #[test]
    fn a_long_key_may_begin_with_anything() {
        assert!(matches(&KeyPrefix::text("abc"), &key(&"x".repeat(201))));
        assert!(matches(&KeyPrefix::parts(["abc"]), &key(&"x".repeat(201))));
    }

    #[test]
    fn a_prefix_does_not_show_in_debug() {
        assert_eq!(format!("{:?}", KeyPrefix::text("secret@example.org")), "KeyPrefix");
    }

    proptest! {
        #[test]
        fn text_matches_as_bytes_begin(text in "[(:1a*\\[]{1,3}", rest in "[(:1a*\\[]{0,4}") {
            let prefix = KeyPrefix::text(&text);
            let longer = format!("{text}{rest}");
            prop_assert!(matches(&prefix, &key(&longer)));
            prop_assert_eq!(matches(&prefix, &key(&rest)), rest.starts_with(&text));
        }

        #[test]
        fn text_matches_no_key_of_several_parts(text in "[(:12a]{1,4}", one in "[(:12a]{0,4}", two in "[(:12a]{0,4}") {
            prop_assert!(!matches(&KeyPrefix::text(&text), &key(&(one, two))));
        }
    }
}
