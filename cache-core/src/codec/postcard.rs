use super::Codec;
use crate::error::BoxError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Postcard: the smallest payloads, by position. Raise the schema number whenever the type changes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Postcard;

impl<V: Serialize + DeserializeOwned> Codec<V> for Postcard {
    fn id(&self) -> u8 {
        3
    }

    fn encode(&self, value: &V) -> Result<Vec<u8>, BoxError> {
        Ok(postcard::to_stdvec(value)?)
    }

    fn decode(&self, payload: &[u8]) -> Result<V, BoxError> {
        let (value, rest) = postcard::take_from_bytes(payload)?;
        // The one sign of a changed type that a positional format gives.
        if rest.is_empty() { Ok(value) } else { Err("bytes left over behind the value".into()) }
    }
}
