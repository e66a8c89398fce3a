//! What every replay of one run shares, and how the run begins and ends.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cachestack::{BoxError, Result, Ttl};

use crate::database::Database;
use crate::replay::CLIENTS;
use crate::report::count;
use crate::second_level::SecondLevel;
use crate::service::{self, Products, Settings};
use crate::stop::Stop;
use crate::trace::Trace;

/// How long what still runs may take when a cache is closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

pub(crate) struct Run {
    pub(crate) trace: Trace,
    pub(crate) db: Database,
    pub(crate) l2: SecondLevel,
    pub(crate) stop: Stop,
    /// In no other run's keys.
    id: String,
}

impl Run {
    pub(crate) async fn prepare() -> Result<Self, BoxError> {
        let stop = Stop::on_ctrl_c();
        let trace = Trace::web07()?;
        let l2 = SecondLevel::choose().await?;
        let db = Database::open().await?;
        db.fill(&trace.products).await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let id = format!("quickstart-{}-{:x}", std::process::id(), now.as_millis());
        Ok(Self { trace, db, l2, stop, id })
    }

    /// A tenth of the products.
    fn l1(&self) -> u64 {
        self.trace.products.len() as u64 / 10
    }

    pub(crate) fn describe(&self) {
        let (views, products) = (count(self.trace.views.len() as u64), count(self.trace.products.len() as u64));
        println!("requests   {views} page views of {products} products (web07, a web shop in July 2013)");
        println!("clients    {CLIENTS} at a time");
        println!("L1         memory, {} products at most: 10 %", count(self.l1()));
        println!("L2         {}", self.l2.describe());
        println!("database   {}", self.db.describe());
    }

    /// A cache with nothing in any tier. `purpose` tells it from the run's other ones.
    pub(crate) fn products(&self, purpose: &str, ttl: Ttl) -> Result<Products> {
        let settings = Settings { prefix: format!("{}-{purpose}", self.id), l1: self.l1(), ttl };
        self.l2.products(settings, self.db.clone())
    }

    /// The same without L2.
    pub(crate) fn memory_only(&self, ttl: Ttl) -> Result<Products> {
        service::memory_only(self.l1(), ttl)
    }

    pub(crate) async fn close(self) {
        self.db.close().await;
    }
}

/// Leaves nothing of a cache in L2.
pub(crate) async fn put_away(cache: &Products) {
    if let Err(err) = cache.clear().await {
        eprintln!("L2 was not cleared ({err}): what is left there expires by itself");
    }
    cache.close(CLOSE_LIMIT).await;
}
