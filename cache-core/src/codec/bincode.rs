use super::Codec;
use crate::error::BoxError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// No value may make the decoder allocate more than this.
const LARGEST: usize = 64 << 20;

/// Bincode 2, by position. Raise the schema number whenever the type changes. Unmaintained upstream (RUSTSEC-2025-0141), so
/// prefer [`Postcard`](https://docs.rs/postcard) for something new.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bincode;

impl<V: Serialize + DeserializeOwned> Codec<V> for Bincode {
    fn id(&self) -> u8 {
        4
    }

    fn encode(&self, value: &V) -> Result<Vec<u8>, BoxError> {
        Ok(bincode::serde::encode_to_vec(value, bincode::config::standard())?)
    }

    fn decode(&self, payload: &[u8]) -> Result<V, BoxError> {
        let config = bincode::config::standard().with_limit::<LARGEST>();
        let (value, read) = bincode::serde::decode_from_slice(payload, config)?;
        if read == payload.len() { Ok(value) } else { Err("bytes left over behind the value".into()) }
    }
}
