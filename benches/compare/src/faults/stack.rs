//! A whole cache over the recommended layers: what its callers see while its second level is away.

use std::io;
use std::time::{Duration, Instant};

use cachestack::layers::{BreakerRules, Guarded};
use cachestack::{RedisTier, Tier, TieredCache, Ttl};
use fastrand::Rng;
use tokio::time::sleep;

use crate::remote::{Failure, Verb};

use super::caller::PATIENCE;
use super::roster::TIMEOUT;
use super::trial::{Call, Course, Keys, Outcome, PACE, TASKS, Trial, Watch};

/// Without L1: every load asks L2 first.
type Cache = TieredCache<u64, u64, cachestack::NoLocal>;

/// That are in L2 before the fault. Few, so that those which a restart lost are soon loaded and found again.
const KEPT: u64 = 32;

/// Within what time the tier inside answers: of the layers' in the same proportion as by default, 100 ms of 150.
fn within() -> Duration {
    TIMEOUT * 2 / 3
}

/// Redis in its layers, whose calls end within the timeout of all subjects.
pub(crate) async fn second_level(url: &str, breaker: BreakerRules) -> Result<Guarded<RedisTier>, Failure> {
    let tier = RedisTier::builder(url).timeout(within()).connect().await?;
    Ok(Guarded::builder(tier).timeout(TIMEOUT).breaker(breaker).build())
}

/// Takes a cache over the bed through its fault. To be called within the cache's runtime.
pub(crate) async fn trial(url: &str, course: Course) -> Result<Trial, Failure> {
    let l2 = second_level(url, BreakerRules::default()).await?;
    let origin = |id: u64| async move { Ok::<_, io::Error>(value_of(id)) };
    let cache = TieredCache::<u64, u64>::builder("faults").l2(l2).ttl(Ttl::minutes(60)).origin(origin).build()?;
    let until = Instant::now() + PATIENCE;
    for id in 0..KEPT {
        while cache.load_cached(&id).await?.tier != Tier::L2 {
            if Instant::now() > until {
                return Err("L2 does not keep what was loaded".into());
            }
            sleep(PACE).await;
        }
    }
    let (watch, calls) = Watch::new();
    let tasks = (0..TASKS as u64).map(|number| (Keys::All, tokio::spawn(call(cache.clone(), number, watch.clone())))).collect();
    course.run(tasks, || None, watch, calls).await
}

/// No key's own number, which is what a mixed up key would show.
fn value_of(id: u64) -> u64 {
    !id
}

/// One task: by turns a load of a key that was in L2 before the fault, and one of a key that nobody has loaded, which L2 is asked for, acquires and is
/// filled with.
async fn call(cache: Cache, number: u64, watch: Watch) {
    let mut rng = Rng::with_seed(number);
    let mut turn = number;
    while !watch.is_over() {
        let (verb, id) =
            if turn.is_multiple_of(2) { (Verb::Get, rng.u64(..KEPT)) } else { (Verb::Fill, KEPT + turn * TASKS as u64 + number) };
        let began = Instant::now();
        let outcome = match cache.load_cached(&id).await {
            Ok(found) if found.value != value_of(id) => Outcome::Wrong,
            Ok(found) if found.tier == Tier::L2 => Outcome::Answered,
            Ok(_) => Outcome::Loaded,
            Err(_) => Outcome::Failed,
        };
        watch.saw(Call { keys: Keys::All, verb, began, ended: Instant::now(), outcome });
        turn += 1;
        sleep(PACE).await;
    }
}
