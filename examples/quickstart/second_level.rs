//! Which L2 there is: the Redis of `REDIS_URL`, one started for this run, or none.

use std::sync::Arc;

use cachestack::{EmbeddedTier, RedisTier, RemoteTier, Result};

use crate::database::Database;
use crate::service::{Products, Settings, products};

pub(crate) struct SecondLevel {
    tier: Arc<dyn RemoteTier>,
    description: String,
    #[cfg(unix)]
    server: Option<Server>,
}

/// A `redis-server` that ends with this process.
#[cfg(unix)]
pub(crate) type Server = Arc<std::sync::Mutex<test_servers::Redis>>;

impl SecondLevel {
    pub(crate) async fn choose() -> Result<Self> {
        if let Ok(url) = std::env::var("REDIS_URL") {
            let tier = RedisTier::connect(&url).await?;
            let weather = if tier.is_connected() { "" } else { ", which does not answer now: reads go on without it" };
            return Ok(Self::new(tier, format!("the Redis of REDIS_URL{weather}")));
        }
        #[cfg(unix)]
        match test_servers::Redis::try_start() {
            Ok(server) => {
                let tier = RedisTier::connect(&server.url()).await?;
                let description = format!("a redis-server started for this run on 127.0.0.1:{}", server.port());
                let server = Some(Server::new(server.into()));
                return Ok(Self { server, ..Self::new(tier, description) });
            }
            Err(test_servers::StartError::NotInstalled { .. }) => {}
            Err(err) => eprintln!("redis-server did not start: {err}"),
        }
        let description = "embedded in this process, as there is neither REDIS_URL nor a redis-server on the PATH";
        Ok(Self::new(EmbeddedTier::new(), description.into()))
    }

    fn new(tier: impl RemoteTier, description: String) -> Self {
        Self {
            tier: Arc::new(tier),
            description,
            #[cfg(unix)]
            server: None,
        }
    }

    /// A cache over it.
    pub(crate) fn products(&self, settings: Settings, db: Database) -> Result<Products> {
        products(settings, self.tier.clone(), db)
    }

    pub(crate) fn describe(&self) -> &str {
        &self.description
    }

    /// The Redis that was started for this run.
    #[cfg(unix)]
    pub(crate) fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }
}
