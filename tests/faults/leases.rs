//! Two processes, one lease: its holder dies, or takes longer than it has.

use crate::{Bare, PATIENCE, doubling, tier, until};
use cache_core::record::{Record, State};
use cachestack::{MemoryTier, Namespace, RedisTier, RemoteTier, Tier, TieredCache};
use std::future::pending;
use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use test_servers::Redis;
use tokio::sync::Semaphore;

/// A lease's holder has loaded nothing so far.
async fn is_leased(l2: &RedisTier) -> bool {
    let key = Namespace::new("cs", "t").unwrap().key(&1_u64);
    let record = l2.get(&key).await.unwrap().record;
    record.is_some_and(|record| Record::decode(&record, key.echo()).is_ok_and(|record| record.state == State::Lease))
}

/// Waits for a lease for half of its load timeout: longer than any lease here, however slow the machine.
fn patient(l2: &RedisTier) -> cache_core::Builder<u64, u64> {
    cache_core::TieredCache::<u64, u64>::builder("t").l2(l2.clone()).load_timeout(Duration::from_secs(60))
}

/// The holder is a process of its own, which is killed: the test runs itself again for it.
#[tokio::test]
async fn b10_a_lease_whose_holder_is_killed_passes_to_another_node_and_is_not_busy_for_ever() {
    const TEST: &str = "leases::b10_a_lease_whose_holder_is_killed_passes_to_another_node_and_is_not_busy_for_ever";
    const URL: &str = "FAULTS_LEASE_URL";
    if let Ok(url) = std::env::var(URL) {
        let load = |_| pending::<Result<u64, io::Error>>();
        let holder: Bare<u64, u64> = patient(&tier(&url).await).lease(Duration::from_secs(1)).origin(load).build().unwrap();
        // Should nobody kill it, it ends by itself.
        let _ = tokio::time::timeout(PATIENCE, holder.load(&1)).await;
        return;
    }
    let redis = Redis::start();
    let l2 = tier(&redis.url()).await;
    let mut holder = Command::new(std::env::current_exe().unwrap());
    holder.args(["--exact", TEST]).env(URL, redis.url()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut holder = holder.spawn().unwrap();
    until("the other process holds the lease", async || is_leased(&l2).await).await;
    holder.kill().unwrap();
    holder.wait().unwrap();

    let load = |key: u64| async move { Ok::<_, io::Error>(key * 2) };
    let heir: Bare<u64, u64> = patient(&l2).origin(load).build().unwrap();
    let loaded = heir.load_cached(&1).await.unwrap();
    assert_eq!((loaded.value, loaded.tier), (2, Tier::Origin));
    // Stored, so the lease was its own: it did not merely lose patience.
    assert_eq!(doubling(l2).load_cached(&1).await.unwrap().tier, Tier::L2);
}

/// The same within one process: the holder's runtime is gone, and with it all that ran there.
#[tokio::test]
async fn b10_a_lease_whose_holder_s_tasks_are_gone_passes_to_another_node() {
    let redis = Redis::start();
    let l2 = tier(&redis.url()).await;
    let url = redis.url();
    let ends = Arc::new(Semaphore::new(0));
    let holder = std::thread::spawn({
        let ends = ends.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let load = |_| pending::<Result<u64, io::Error>>();
                let l2 = tier(&url).await;
                let holder: Bare<u64, u64> = patient(&l2).lease(Duration::from_secs(1)).origin(load).build().unwrap();
                tokio::select! {
                    _ = holder.load(&1) => unreachable!("it never ends"),
                    _ = ends.acquire() => {}
                }
            });
        }
    });
    until("it holds the lease", async || is_leased(&l2).await).await;
    ends.add_permits(1);
    holder.join().unwrap();
    let load = |key: u64| async move { Ok::<_, io::Error>(key * 2) };
    let heir: Bare<u64, u64> = patient(&l2).origin(load).build().unwrap();
    assert_eq!(heir.load_cached(&1).await.unwrap().tier, Tier::Origin);
    assert_eq!(doubling(l2).load_cached(&1).await.unwrap().tier, Tier::L2);
}

/// An origin that reads its row when it is asked, and is slow to bring what it read.
#[derive(Clone)]
struct Slow {
    row: Arc<AtomicU64>,
    begun: Arc<AtomicU64>,
    go: Arc<Semaphore>,
}

impl Slow {
    fn new(row: &Arc<AtomicU64>) -> Self {
        Self { row: row.clone(), begun: Arc::default(), go: Arc::new(Semaphore::new(0)) }
    }

    async fn load(self) -> Result<u64, io::Error> {
        let value = self.row.load(Ordering::SeqCst);
        self.begun.fetch_add(1, Ordering::SeqCst);
        drop(self.go.acquire().await);
        Ok(value)
    }

    async fn has_begun(&self) {
        until("the load has begun", async || self.begun.load(Ordering::SeqCst) > 0).await;
    }

    fn let_go(&self) {
        self.go.add_permits(1);
    }
}

#[tokio::test]
async fn b11_a_load_that_outlives_its_lease_stores_nothing_whether_its_successor_has_stored_or_loads_still() {
    let redis = Redis::start();
    for successor_is_done in [true, false] {
        let row = Arc::new(AtomicU64::new(1));
        let (late, next) = (Slow::new(&row), Slow::new(&row));
        let origin = late.clone();
        let a = TieredCache::<u64, u64>::builder("t").l1(MemoryTier::new(10)).l2(tier(&redis.url()).await);
        let a =
            a.lease(Duration::from_millis(100)).load_timeout(PATIENCE).origin(move |_| origin.clone().load()).build().unwrap();
        let l2 = tier(&redis.url()).await;
        let origin = next.clone();
        let b: Bare<u64, u64> = patient(&l2).origin(move |_| origin.clone().load()).build().unwrap();

        let first = a.clone();
        let first = tokio::spawn(async move { first.load(&1).await.unwrap() });
        late.has_begun().await;
        row.store(2, Ordering::SeqCst);
        let second = b.clone();
        let second = tokio::spawn(async move { second.load(&1).await.unwrap() });
        // Granted when the lease has ended by Redis' clock.
        next.has_begun().await;
        if successor_is_done {
            next.let_go();
            until("the successor has stored", async || b.get(&1).await == Some(2)).await;
        }
        late.let_go();
        assert_eq!(first.await.unwrap(), 1, "its own callers get what they waited for");
        assert_eq!(a.stats().l2.refused, 1, "its fill is refused");
        assert_eq!(a.get_local(&1), None, "and no cache keeps it");
        next.let_go();
        assert_eq!(second.await.unwrap(), 2);
        let found = a.load_cached(&1).await.unwrap();
        assert_eq!((found.value, found.tier), (2, Tier::L2), "the newer value stays");
        b.invalidate(&1).await.unwrap();
    }
}
