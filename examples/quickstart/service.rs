//! The product service: all of it that is about caching.

use std::sync::Arc;

use cachestack::{MemoryTier, RemoteTier, Result, TieredCache, Ttl};

use crate::database::Database;
use crate::product::{Product, ProductId};

pub(crate) type Products = TieredCache<ProductId, Arc<Product>>;

/// What differs from run to run.
pub(crate) struct Settings {
    /// Sets this run apart from others in a shared Redis.
    pub(crate) prefix: String,
    /// How many products L1 holds.
    pub(crate) l1: u64,
    pub(crate) ttl: Ttl,
}

/// Memory over L2 over the database: `products.load(&id)`.
pub(crate) fn products(settings: Settings, l2: impl RemoteTier, db: Database) -> Result<Products> {
    TieredCache::<ProductId, Arc<Product>>::builder("product")
        .prefix(settings.prefix)
        .l1(MemoryTier::new(settings.l1))
        .l2(l2)
        .ttl(settings.ttl)
        .origin(move |id: ProductId| {
            let db = db.clone();
            async move { db.product(id).await }
        })
        .build()
}

/// Memory alone, with no origin: to be used by hand, `get` and `insert`.
pub(crate) fn memory_only(l1: u64, ttl: Ttl) -> Result<Products> {
    TieredCache::<ProductId, Arc<Product>>::builder("product").l1(MemoryTier::new(l1)).ttl(ttl).build()
}
