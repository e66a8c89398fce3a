//! The ways to a product that the quickstart compares.

use std::sync::Arc;

use cachestack::{BoxError, Tier};

use crate::database::Database;
use crate::product::{Product, ProductId};
use crate::service::Products;

#[derive(Clone)]
pub(crate) enum Way {
    /// Every request is a query.
    Direct(Database),
    /// What services write by hand: look, query, put.
    CacheAside(Products, Database),
    /// What this library is for.
    Load(Products),
}

impl Way {
    /// The product, and who had it.
    pub(crate) async fn product(&self, id: ProductId) -> Result<(Arc<Product>, Tier), BoxError> {
        match self {
            Self::Direct(db) => Ok((db.product(id).await?, Tier::Origin)),
            Self::CacheAside(cache, db) => {
                if let Ok(Some(cached)) = cache.get_cached(&id).await {
                    return Ok((cached.value, cached.tier));
                }
                let product = db.product(id).await?;
                // Of two clients that queried at the same time, L2 may refuse one; the product is there all the same.
                let _ = cache.insert(&id, product.clone()).await;
                Ok((product, Tier::Origin))
            }
            Self::Load(cache) => {
                let cached = cache.load_cached(&id).await?;
                Ok((cached.value, cached.tier))
            }
        }
    }

    pub(crate) fn cache(&self) -> Option<&Products> {
        match self {
            Self::Direct(_) => None,
            Self::CacheAside(cache, _) | Self::Load(cache) => Some(cache),
        }
    }
}
