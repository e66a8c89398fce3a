//! The nodes behind a tier, and which of them has a key.

use crate::coalescer::Request;
use crate::node::{Called, Node};
use cache_core::Result;
use redis::{RedisResult, Value};
use tokio::time::Instant;

/// One node so far.
pub(crate) struct Nodes(Node);

impl Nodes {
    pub(crate) fn one(node: Node) -> Self {
        Self(node)
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.0.is_connected()
    }

    /// Waits for the first dial. Only what a person must mend is an error.
    pub(crate) async fn first_dial(&self) -> Result<()> {
        self.0.first_dial().await
    }

    /// Sends a command to the node that has the key. An error that the server answered with is a reply.
    pub(crate) async fn send(&self, deadline: Instant, _key: &[u8], request: Request) -> Result<Called<RedisResult<Value>>> {
        self.0.send(deadline, request).await
    }

    pub(crate) async fn stop(&self) {
        self.0.stop().await;
    }
}
