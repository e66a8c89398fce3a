use super::MemoryTier;
use cache_core::testing::{local_reentrancy_suite, local_suite};

#[test]
fn the_conformance_suite_passes_with_one_shard_and_with_many() {
    for shards in [1, 8] {
        local_suite(&MemoryTier::builder(100_000).shards(shards).build(), 7);
    }
    local_suite(&MemoryTier::builder(1_000).policy(crate::Policy::Lru).build(), 7);
}

#[test]
fn user_code_may_use_the_tier_from_anywhere() {
    local_reentrancy_suite(std::sync::Arc::new(MemoryTier::new(1_000)));
}
