//! Clients of a Redis, as a service would hold them: what `l2` and `faults` drive.

use std::error::Error;

mod fred;
mod multi_tier;
mod ours;
mod redis_rs;
mod value;
mod writer;

pub(crate) use self::fred::{FredClient, fred_cluster_url};
pub(crate) use self::multi_tier::MultiTierL2;
pub(crate) use self::ours::OursRemote;
pub(crate) use self::redis_rs::{BareConnection, ClusterClient, ManagedConnection};
pub(crate) use self::value::payload;
pub(crate) use self::writer::{Verb, Writer};

/// Why a call failed, in the client's own words.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// A client under test. Every implementation is a thin adapter: it adds nothing to what a user of that crate would write.
///
/// A read gives the number of the key that the value was stored for, so that a foreign value is seen; none for a miss.
pub(crate) trait Client: Clone + Send + Sync + 'static {
    /// A key in the form that costs this client's user the least to pass.
    type Key: Send + Sync + 'static;

    fn key(&self, id: u64) -> Self::Key;

    /// A key as it stands in Redis.
    fn bytes(key: &Self::Key) -> &[u8];

    fn get(&self, key: &Self::Key) -> impl Future<Output = Result<Option<u64>, Failure>> + Send;

    /// Reads many keys of any slots in the client's best way.
    fn get_many(&self, keys: &[Self::Key]) -> impl Future<Output = Result<Vec<Option<u64>>, Failure>> + Send {
        let _ = keys;
        async { Err("this client is not asked for many keys".into()) }
    }

    /// Reads the key, where nothing is expected, and stores the value for an hour, as a cache's load does.
    fn fill(&self, key: &Self::Key, value: Vec<u8>) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The key of a client that takes text: 24 bytes, as long as a typical `entity:id` key.
fn text_key(id: u64) -> String {
    format!("user:{id:019}")
}

/// Of the values that are stored: none expires inside a run.
const HOUR: std::time::Duration = std::time::Duration::from_hours(1);
