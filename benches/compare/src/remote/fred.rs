//! fred, of one node or a cluster.

use bytes::Bytes;
use fred::prelude::{Client as Fred, ClientLike, Expiration, Key, KeysInterface};

use super::value::owner;
use super::{Client, Failure, HOUR, Verb, Writer, text_key};

#[derive(Clone)]
pub(crate) struct FredClient(Fred);

impl FredClient {
    /// A client that has connected.
    pub(crate) async fn connect(client: Fred) -> Result<Self, Failure> {
        client.init().await?;
        Ok(Self(client))
    }
}

impl Client for FredClient {
    type Key = Key;

    fn key(&self, id: u64) -> Key {
        text_key(id).into()
    }

    fn bytes(key: &Key) -> &[u8] {
        key.as_bytes()
    }

    async fn get(&self, key: &Key) -> Result<Option<u64>, Failure> {
        let value: Option<Bytes> = self.0.get(key.clone()).await?;
        Ok(value.map(|value| owner(&value)))
    }

    /// A pipeline of GETs: its MGET takes keys of one slot only.
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<u64>>, Failure> {
        let pipeline = self.0.pipeline();
        for key in keys {
            let () = pipeline.get(key.clone()).await?;
        }
        let values: Vec<Option<Bytes>> = pipeline.all().await?;
        Ok(values.into_iter().map(|value| value.map(|value| owner(&value))).collect())
    }

    async fn fill(&self, key: &Key, value: Vec<u8>) -> Result<(), Failure> {
        self.get(key).await?;
        self.write(Verb::Set, key, value, &mut ()).await
    }
}

impl Writer for FredClient {
    type Hand = ();

    const WRITES: &'static [Verb] = &[Verb::Set, Verb::Del];
    const STORE: Verb = Verb::Set;

    async fn write(&self, verb: Verb, key: &Key, value: Vec<u8>, (): &mut ()) -> Result<(), Failure> {
        if verb == Verb::Del {
            return Ok(self.0.del(key.clone()).await?);
        }
        let life = Expiration::EX(HOUR.as_secs().cast_signed());
        Ok(self.0.set(key.clone(), Bytes::from(value), Some(life), None, false).await?)
    }
}

/// As fred writes a cluster: `redis-cluster://host:port?node=host:port&…`.
pub(crate) fn fred_cluster_url(urls: &[String]) -> String {
    let nodes: Vec<&str> = urls.iter().map(|url| url.trim_start_matches("redis://").trim_end_matches('/')).collect();
    let others: Vec<String> = nodes[1..].iter().map(|node| format!("node={node}")).collect();
    format!("redis-cluster://{}?{}", nodes[0], others.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_named_by_all_its_nodes() {
        let urls = ["redis://127.0.0.1:1/", "redis://127.0.0.1:2/", "redis://127.0.0.1:3/"].map(String::from);
        assert_eq!(fred_cluster_url(&urls), "redis-cluster://127.0.0.1:1?node=127.0.0.1:2&node=127.0.0.1:3");
    }
}
