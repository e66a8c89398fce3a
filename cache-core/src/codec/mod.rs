//! Codecs stand on the border between L1, which holds values, and L2, which holds bytes.

#[cfg(feature = "bincode")]
mod bincode;
#[cfg(feature = "json")]
mod json;
mod msgpack;
#[cfg(feature = "postcard")]
mod postcard;

#[cfg(feature = "bincode")]
pub use bincode::Bincode;
#[cfg(feature = "json")]
pub use json::Json;
pub use msgpack::MessagePack;
#[cfg(feature = "postcard")]
pub use postcard::Postcard;

use crate::error::BoxError;

/// Turns values into the payload of a record and back.
///
/// Decoding sees bytes that another program may have written: it must fail, not allocate without bound, on any input. A
/// payload that does not decode is a miss and is counted ([`TierStats::unreadable`](crate::TierStats::unreadable)).
///
/// | codec | survives added, removed, reordered fields | bytes of a 7-field struct | |
/// |---|---|---|---|
/// | [`MessagePack`] (default) | yes, in both directions | names and values | binary |
/// | `Json` | yes, in both directions | largest | readable in `redis-cli` |
/// | `Postcard` | **no**: reads garbage without an error; raise [`schema`](crate::Builder::schema) | smallest | |
/// | `Bincode` | **no**, as `Postcard` | small | unmaintained upstream (RUSTSEC-2025-0141) |
pub trait Codec<V>: Send + Sync + 'static {
    /// Names the codec in the record, so that a change of codec reads as a miss. 128 and above are yours. Raise the
    /// [`schema`](crate::Builder::schema) with it, or old and new nodes replace each other's values while both run.
    fn id(&self) -> u8;

    /// Encodes a value, whole: only then is its length compared with [`max_value_bytes`](crate::Builder::max_value_bytes). A codec of yours that
    /// meets huge values may well fail sooner.
    ///
    /// # Errors
    /// Whatever keeps the value from being encoded; it is then served, kept in L1, and not stored in L2.
    fn encode(&self, value: &V) -> Result<Vec<u8>, BoxError>;

    /// Decodes a payload.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    fn decode(&self, payload: &[u8]) -> Result<V, BoxError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Serialize};
    use std::sync::Arc;

    #[derive(Debug, PartialEq, Serialize, Deserialize, Clone)]
    struct Old {
        id: u64,
        name: String,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize, Clone)]
    struct New {
        name: String,
        #[serde(default)]
        tags: Vec<String>,
        id: u64,
    }

    fn all<V: Serialize + DeserializeOwned + 'static>() -> Vec<Box<dyn Codec<V>>> {
        vec![
            Box::new(MessagePack),
            #[cfg(feature = "json")]
            Box::new(Json),
            #[cfg(feature = "postcard")]
            Box::new(Postcard),
            #[cfg(feature = "bincode")]
            Box::new(Bincode),
        ]
    }

    fn old() -> Old {
        Old { id: 7, name: "anvil".into() }
    }

    #[test]
    fn every_codec_reads_what_it_wrote_through_an_arc() {
        let value = Arc::new(old());
        for codec in all::<Arc<Old>>() {
            let bytes = codec.encode(&value).unwrap();
            assert_eq!(codec.decode(&bytes).unwrap(), value, "codec {}", codec.id());
        }
    }

    #[test]
    fn codec_ids_never_change() {
        assert_eq!(Codec::<u8>::id(&MessagePack), 1);
        #[cfg(feature = "json")]
        assert_eq!(Codec::<u8>::id(&Json), 2);
        #[cfg(feature = "postcard")]
        assert_eq!(Codec::<u8>::id(&Postcard), 3);
        #[cfg(feature = "bincode")]
        assert_eq!(Codec::<u8>::id(&Bincode), 4);
    }

    #[test]
    fn the_default_codec_survives_added_and_reordered_fields_both_ways() {
        let bytes = MessagePack.encode(&old()).unwrap();
        let new: New = MessagePack.decode(&bytes).unwrap();
        assert_eq!((new.id, new.name.as_str(), new.tags.len()), (7, "anvil", 0));
        let bytes = MessagePack.encode(&New { name: "vise".into(), tags: vec!["x".into()], id: 8 }).unwrap();
        assert_eq!(Codec::<Old>::decode(&MessagePack, &bytes).unwrap(), Old { id: 8, name: "vise".into() });
    }

    #[test]
    fn truncated_payloads_are_errors() {
        for codec in all::<Old>() {
            let bytes = codec.encode(&old()).unwrap();
            for len in 0..bytes.len() {
                assert!(codec.decode(&bytes[..len]).is_err(), "codec {}, {len} bytes", codec.id());
            }
        }
    }

    #[test]
    fn e3_length_bombs_and_nesting_bombs_are_errors() {
        // A MessagePack array and string that claim 4 Gi elements, and 100,000 nested arrays.
        for bomb in [vec![0xdd, 0xff, 0xff, 0xff, 0xff, 1], vec![0xdb, 0xff, 0xff, 0xff, 0xff, 1], vec![0x91; 100_000]] {
            assert!(Codec::<Vec<Nested>>::decode(&MessagePack, &bomb).is_err());
        }
        for codec in all::<Vec<u64>>() {
            assert!(codec.decode(&[0xff; 9]).is_err(), "codec {}", codec.id());
        }
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Nested(Vec<Nested>);
}
