//! The peers, each behind an adapter that adds nothing to what a user of that crate would write.

mod cached;
mod cachet;
mod foyer;
mod moka;
mod multi_tier;
mod noop;
mod papaya;
mod quick_cache;
mod scc;
mod seqlock;
mod stretto;

pub(crate) use self::cached::{CachedLru, CachedLruTtl};
pub(crate) use self::cachet::Cachet;
pub(crate) use self::foyer::{FoyerLfu, FoyerLru, FoyerS3Fifo, FoyerSieve};
pub(crate) use self::moka::{MiniMoka, MokaFuture, MokaSync, MokaSyncLru};
pub(crate) use self::multi_tier::MultiTier;
pub(crate) use self::noop::Noop;
pub(crate) use self::papaya::{Papaya, PapayaBorrow};
pub(crate) use self::quick_cache::{QuickCache, QuickCacheCoarse, QuickCacheDeadline};
pub(crate) use self::scc::{SccHashCache, SccHashCacheBorrow};
pub(crate) use self::seqlock::SeqlockTable;
pub(crate) use self::stretto::{Stretto, StrettoBorrow};
