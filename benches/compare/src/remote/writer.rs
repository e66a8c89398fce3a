//! What clients do beside reading: what `faults` times call by call.

use serde::{Deserialize, Serialize};

use super::{Client, Failure};

/// One call. `Set` and `Del` are those of drivers, which have none of ours but `Get`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verb {
    Get,
    Acquire,
    Fill,
    Put,
    Invalidate,
    Set,
    Del,
}

impl Verb {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Acquire => "acquire",
            Self::Fill => "fill",
            Self::Put => "put",
            Self::Invalidate => "invalidate",
            Self::Set => "set",
            Self::Del => "del",
        }
    }
}

/// A client that writes.
pub(crate) trait Writer: Client {
    /// What a task that writes keeps from one call to the next.
    type Hand: Default + Send + Sync + 'static;

    /// What a key goes through, in this order.
    const WRITES: &'static [Verb];
    /// The one of them that carries the value to the server, whatever stands there.
    const STORE: Verb;

    /// Makes one of these calls. That it changed nothing, since another was first, is an answer.
    fn write(
        &self,
        verb: Verb,
        key: &Self::Key,
        value: Vec<u8>,
        hand: &mut Self::Hand,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}
