use super::Codec;
use crate::error::BoxError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Deeper than any sane value, shallow enough for a task's stack.
const DEEPEST: usize = 128;

/// MessagePack with named fields, the default: binary, and readable by older and newer versions of the type.
#[derive(Debug, Clone, Copy, Default)]
pub struct MessagePack;

impl<V: Serialize + DeserializeOwned> Codec<V> for MessagePack {
    fn id(&self) -> u8 {
        1
    }

    fn encode(&self, value: &V) -> Result<Vec<u8>, BoxError> {
        Ok(rmp_serde::to_vec_named(value)?)
    }

    fn decode(&self, payload: &[u8]) -> Result<V, BoxError> {
        let mut bytes = rmp_serde::Deserializer::from_read_ref(payload);
        bytes.set_max_depth(DEEPEST);
        Ok(V::deserialize(&mut bytes)?)
    }
}
