use super::Codec;
use crate::error::BoxError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// JSON, for who wants to read values in `redis-cli`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl<V: Serialize + DeserializeOwned> Codec<V> for Json {
    fn id(&self) -> u8 {
        2
    }

    fn encode(&self, value: &V) -> Result<Vec<u8>, BoxError> {
        Ok(serde_json::to_vec(value)?)
    }

    fn decode(&self, payload: &[u8]) -> Result<V, BoxError> {
        Ok(serde_json::from_slice(payload)?)
    }
}
