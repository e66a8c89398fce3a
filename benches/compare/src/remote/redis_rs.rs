//! The redis crate: one connection, one that redials, and its cluster client.

use redis::aio::{ConnectionLike, ConnectionManager, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, cmd};

use super::value::owner;
use super::{Client, Failure, HOUR, Verb, Writer, text_key};

/// `MultiplexedConnection`: never redials.
pub(crate) type BareConnection = Driver<MultiplexedConnection>;
/// `ConnectionManager`: the same and redials.
pub(crate) type ManagedConnection = Driver<ConnectionManager>;
/// `ClusterConnection`.
pub(crate) type ClusterClient = Driver<ClusterConnection>;

/// A handle that is cloned for each call, as its authors mean it to be.
#[derive(Clone)]
pub(crate) struct Driver<C>(C);

impl<C> Driver<C> {
    pub(crate) fn new(connection: C) -> Self {
        Self(connection)
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Client for Driver<C> {
    type Key = String;

    fn key(&self, id: u64) -> String {
        text_key(id)
    }

    fn bytes(key: &String) -> &[u8] {
        key.as_bytes()
    }

    async fn get(&self, key: &String) -> Result<Option<u64>, Failure> {
        let value: Option<Vec<u8>> = Cmd::get(key).query_async(&mut self.0.clone()).await?;
        Ok(value.map(|value| owner(&value)))
    }

    /// One MGET. The cluster client splits it by slot.
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<u64>>, Failure> {
        let values: Vec<Option<Vec<u8>>> = cmd("MGET").arg(keys).query_async(&mut self.0.clone()).await?;
        Ok(values.into_iter().map(|value| value.map(|value| owner(&value))).collect())
    }

    async fn fill(&self, key: &String, value: Vec<u8>) -> Result<(), Failure> {
        self.get(key).await?;
        self.write(Verb::Set, key, value, &mut ()).await
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Writer for Driver<C> {
    type Hand = ();

    const WRITES: &'static [Verb] = &[Verb::Set, Verb::Del];
    const STORE: Verb = Verb::Set;

    async fn write(&self, verb: Verb, key: &String, value: Vec<u8>, (): &mut ()) -> Result<(), Failure> {
        let mut command = Cmd::new();
        match verb {
            Verb::Del => command.arg("DEL").arg(key),
            _ => command.arg("SET").arg(key).arg(value).arg("EX").arg(HOUR.as_secs()),
        };
        Ok(command.query_async(&mut self.0.clone()).await?)
    }
}
