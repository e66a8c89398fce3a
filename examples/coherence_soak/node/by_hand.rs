//! `--guards off`: memory over Redis as it is often written by hand. GET, else load and SET; DEL and PUBLISH after a write; and a subscriber that removes what it
//! hears of and subscribes again when its connection ends. Nothing in it is a caricature: each part is what tutorials show.

use super::counts::Count;
use crate::database::Database;
use crate::item::Item;
use crate::orders::{Settings, Tally};
use cachestack::{BoxError, MemoryCache};
use futures_util::StreamExt;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{Client, Cmd, FromRedisValue, RedisError, cmd};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

const CHANNEL: &str = "invalidated";
const TTL_SECONDS: u64 = 24 * 3_600;
const REDIAL: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_millis(100);

pub(super) struct ByHand {
    memory: MemoryCache<u64, Item>,
    redis: Redis,
    database: Database,
    l1_hits: Count,
    l1_misses: Count,
    l2_hits: Count,
    loads: Count,
}

enum Redis {
    One(Box<One>),
    // Finds its nodes, and dials them again, by itself.
    Cluster(ClusterConnection),
}

struct One {
    client: Client,
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl ByHand {
    pub(super) async fn connect(settings: &Settings, database: &Database) -> Result<Arc<Self>, BoxError> {
        let redis = if settings.is_cluster {
            let client = ClusterClient::builder(settings.urls.clone()).response_timeout(TIMEOUT).build()?;
            Redis::Cluster(client.get_async_connection().await?)
        } else {
            Redis::One(Box::new(One { client: Client::open(&*settings.urls[0])?, connection: Mutex::new(None) }))
        };
        let memory = MemoryCache::builder().capacity(settings.keys * 2).build();
        let counts = (Count::default(), Count::default(), Count::default(), Count::default());
        let by_hand = Self {
            memory,
            redis,
            database: database.clone(),
            l1_hits: counts.0,
            l1_misses: counts.1,
            l2_hits: counts.2,
            loads: counts.3,
        };
        let by_hand = Arc::new(by_hand);
        tokio::spawn(by_hand.clone().listen(settings.urls.clone()));
        Ok(by_hand)
    }

    /// Plain messages reach all nodes of a cluster: any one will do.
    async fn listen(self: Arc<Self>, urls: Vec<String>) {
        for url in urls.iter().cycle() {
            // What ended it is no more known to the cache than it is to most.
            let _ = self.hear(url).await;
            tokio::time::sleep(REDIAL).await;
        }
    }

    async fn hear(&self, url: &str) -> Result<(), BoxError> {
        let mut subscriber = Client::open(url)?.get_async_pubsub().await?;
        subscriber.subscribe(CHANNEL).await?;
        let mut messages = subscriber.into_on_message();
        while let Some(message) = messages.next().await {
            self.memory.remove(&message.get_payload::<u64>()?);
        }
        Ok(())
    }

    pub(super) async fn read(&self, key: u64) -> Result<Item, BoxError> {
        if let Some(item) = self.memory.get(&key) {
            self.l1_hits.add_one();
            return Ok(item);
        }
        self.l1_misses.add_one();
        let stored = self.redis.ask::<Option<String>>(cmd("GET").arg(name(key))).await;
        if let Ok(Some(text)) = &stored {
            self.l2_hits.add_one();
            let item: Item = serde_json::from_str(text)?;
            self.memory.insert(key, item.clone());
            return Ok(item);
        }
        self.loads.add_one();
        let item = self.database.read(key).await?;
        let text = serde_json::to_string(&item)?;
        // A cache that cannot be written is no error to a reader.
        let _ = self.redis.ask::<()>(cmd("SET").arg(name(key)).arg(text).arg("EX").arg(TTL_SECONDS)).await;
        self.memory.insert(key, item.clone());
        Ok(item)
    }

    pub(super) async fn invalidate(&self, key: u64) -> Result<(), BoxError> {
        self.memory.remove(&key);
        self.redis.ask::<()>(cmd("DEL").arg(name(key))).await?;
        self.redis.ask::<()>(cmd("PUBLISH").arg(CHANNEL).arg(key)).await?;
        Ok(())
    }

    pub(super) fn counts(&self) -> Tally {
        Tally {
            l1_hits: self.l1_hits.get(),
            l1_misses: self.l1_misses.get(),
            l2_hits: self.l2_hits.get(),
            loads: self.loads.get(),
            ..Tally::default()
        }
    }
}

impl Redis {
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        match self {
            Self::One(one) => one.ask(command).await,
            Self::Cluster(connection) => command.query_async(&mut connection.clone()).await,
        }
    }
}

impl One {
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let mut connected = {
            let mut connection = self.connection.lock().await;
            match &mut *connection {
                Some(connection) => connection.clone(),
                none => none.insert(dial(&self.client).await?).clone(),
            }
        };
        let reply = command.query_async(&mut connected).await;
        if reply.as_ref().is_err_and(|err: &RedisError| err.is_unrecoverable_error()) {
            *self.connection.lock().await = None;
        }
        reply
    }
}

async fn dial(client: &Client) -> Result<MultiplexedConnection, RedisError> {
    let settings = redis::AsyncConnectionConfig::new().set_response_timeout(Some(TIMEOUT)).set_connection_timeout(Some(TIMEOUT));
    client.get_multiplexed_async_connection_with_config(&settings).await
}

fn name(key: u64) -> String {
    format!("item:{key}")
}
