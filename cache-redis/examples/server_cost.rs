//! What each verb costs Redis and the caller: `cargo run --release -p cache-redis --example server_cost`.
//!
//! Starts a `redis-server` of its own. Server time is Redis' own account (`INFO commandstats`, microseconds a call).
//!
//! What no other work on the machine sways is the server's instructions: run it under Callgrind, once with 100 calls of a kind and once with 400,
//! and divide the difference by 300 (`valgrind --tool=callgrind redis-server --port PORT --save '' --hz 1`, then the calls, then `SHUTDOWN NOSAVE`;
//! it prints the sum).

use cache_core::record::{Body, Flags, Life};
use cache_core::{Acquire, Claim, Fill, Invalidation, Namespace, Notice, Partition, Put, RemoteKey, RemoteTier, Token};
use cache_redis::RedisTier;
use std::time::{Duration, Instant};
use test_servers::Redis;

const ROUNDS: usize = 5_000;
const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let redis = Redis::start();
    let mut raw = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
    let tier = RedisTier::builder(&redis.url()).timeout(Duration::from_secs(10)).connect().await?;
    let namespace = Namespace::new("", "cost")?;
    let keys: Vec<RemoteKey> = (0..ROUNDS).map(|key| namespace.key(&key)).collect();

    println!("{:<12} {:>12} {:>12}", "server us", "100 B", "64 KiB");
    let mut table: Vec<(&str, Vec<f64>)> = Vec::new();
    for size in [100, 64 << 10] {
        redis::cmd("FLUSHALL").query_async::<()>(&mut raw).await?;
        let mut row = 0;
        let mut note = |verb: &'static str, cost: f64| {
            if row == table.len() {
                table.push((verb, Vec::new()));
            }
            table[row].1.push(cost);
            row += 1;
        };
        let token = Token::unique();
        let acquire = |claim| Acquire { token, lease: HOUR, retain: HOUR, claim, schema: 1, generation: 0 };

        reset(&mut raw).await?;
        for key in &keys {
            tier.acquire(key, &acquire(Claim::Vacant)).await?;
        }
        note("acquire", cost(&mut raw, "evalsha").await?);
        let now = tier.get(&keys[0]).await?.now;
        reset(&mut raw).await?;
        for key in &keys {
            tier.fill(key, &Fill { token, version: 0, created: now, body: body(key, size) }).await?;
        }
        note("fill", cost(&mut raw, "evalsha").await?);
        reset(&mut raw).await?;
        for key in &keys {
            tier.get(key).await?;
        }
        note("get", cost(&mut raw, "get").await?);
        reset(&mut raw).await?;
        for key in &keys {
            tier.acquire(key, &acquire(Claim::Vacant)).await?;
        }
        note("acquire: hit", cost(&mut raw, "evalsha").await?);
        // Every value is past a soft life of nothing.
        reset(&mut raw).await?;
        for key in &keys {
            tier.acquire(key, &acquire(Claim::Stale)).await?;
        }
        note("refresh", cost(&mut raw, "evalsha").await?);
        reset(&mut raw).await?;
        for key in &keys {
            tier.release(key, token).await?;
        }
        note("release", cost(&mut raw, "evalsha").await?);
        reset(&mut raw).await?;
        for key in &keys {
            tier.invalidate(&[Invalidation { key: key.clone(), version: None }], HOUR, None).await?;
        }
        note("invalidate", cost(&mut raw, "evalsha").await?);
        reset(&mut raw).await?;
        for key in &keys {
            let put = Put { token, version: 7, age: Duration::ZERO, body: body(key, size) };
            tier.put(key, &put, HOUR, None).await?;
        }
        note("put", cost(&mut raw, "evalsha").await?);
        reset(&mut raw).await?;
        for keys in keys.chunks(128) {
            let keys: Vec<_> = keys.iter().map(|key| Invalidation { key: key.clone(), version: None }).collect();
            tier.invalidate(&keys, HOUR, None).await?;
        }
        note("128 keys", cost(&mut raw, "evalsha").await?);
    }
    for (verb, costs) in table {
        println!("{verb:<12} {:>12.2} {:>12.2}", costs[0], costs[1]);
    }
    telling(&mut raw, &tier, &namespace, &keys).await?;

    println!("\n{:<22} {:>10} {:>9} {:>9}", "round trips, 100 B", "calls/s", "p50 us", "p99 us");
    for key in &keys[..1_000] {
        let put = Put { token: Token::unique(), version: 8, age: Duration::ZERO, body: body(key, 100) };
        tier.put(key, &put, HOUR, None).await?;
    }
    for clients in [1, 16, 128] {
        round_trips("get", clients, &tier, &keys, async |tier, key| drop(tier.get(key).await)).await;
    }
    round_trips("acquire: hit", 1, &tier, &keys, async |tier, key| {
        let acquire =
            Acquire { token: Token::unique(), lease: HOUR, retain: HOUR, claim: Claim::Vacant, schema: 1, generation: 0 };
        drop(tier.acquire(key, &acquire).await);
    })
    .await;
    Ok(())
}

/// What it costs the server that other nodes are told, and that they ask.
async fn telling(
    raw: &mut redis::aio::MultiplexedConnection,
    tier: &RedisTier,
    namespace: &Namespace,
    keys: &[RemoteKey],
) -> Result<(), Box<dyn std::error::Error>> {
    let notice = Notice { node: 1, namespace: namespace.clone() };
    println!("\n{:<28} {:>10}", "server us, nobody listens", "a call");
    let of = |key: &RemoteKey| Invalidation { key: key.clone(), version: None };
    for notice in [None, Some(&notice)] {
        reset(raw).await?;
        for key in keys {
            tier.invalidate(&[of(key)], HOUR, notice).await?;
        }
        let told = if notice.is_some() { ", told" } else { "" };
        println!("{:<28} {:>10.2}", format!("invalidate{told}"), cost(raw, "evalsha").await?);
        let partition = Partition::from_index(1);
        let same: Vec<_> = (0_u64..).map(|id| namespace.key(&id)).filter(|key| key.partition() == partition).take(100).collect();
        let same: Vec<_> = same.iter().map(of).collect();
        reset(raw).await?;
        for _ in 0..100 {
            tier.invalidate(&same, HOUR, notice).await?;
        }
        println!("{:<28} {:>10.2}", format!("100 keys of a partition{told}"), cost(raw, "evalsha").await?);
    }
    let all: Vec<_> = (0..=u8::MAX).map(Partition::from_index).collect();
    tier.poll(namespace.prefix(), &all).await?;
    reset(raw).await?;
    for _ in 0..100 {
        tier.poll(namespace.prefix(), &all).await?;
    }
    println!("{:<28} {:>10.2}", "poll of 256: INFO", cost(raw, "info").await?);
    println!("{:<28} {:>10.2}", "poll of 256: MGET", cost(raw, "mget").await?);
    Ok(())
}

fn body(key: &RemoteKey, size: usize) -> Body {
    let life = Life { soft: Duration::ZERO, hard: HOUR, last: HOUR };
    Body { schema: 1, generation: 0, life, flags: Flags::NONE, codec: 1, echo: key.echo(), payload: vec![7; size].into() }
}

async fn reset(raw: &mut redis::aio::MultiplexedConnection) -> redis::RedisResult<()> {
    redis::cmd("CONFIG").arg("RESETSTAT").query_async(raw).await
}

/// Microseconds a call since the reset.
async fn cost(raw: &mut redis::aio::MultiplexedConnection, command: &str) -> Result<f64, Box<dyn std::error::Error>> {
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(raw).await?;
    let begin = format!("cmdstat_{command}:");
    let line = stats.lines().find(|line| line.starts_with(&begin)).ok_or("the command was not called")?;
    let cost = line.split("usec_per_call=").nth(1).and_then(|rest| rest.split(',').next()).ok_or("no usec_per_call")?;
    Ok(cost.parse()?)
}

async fn round_trips(
    what: &str,
    clients: usize,
    tier: &RedisTier,
    keys: &[RemoteKey],
    call: impl AsyncFn(&RedisTier, &RemoteKey) + Clone + Send + Sync + 'static,
) {
    let per_client = 40_000 / clients.max(4);
    let start = Instant::now();
    let local = tokio::task::LocalSet::new();
    let mut times = local
        .run_until(async {
            let tasks: Vec<_> = (0..clients)
                .map(|client| {
                    let (tier, keys, call) = (tier.clone(), keys[..1_000].to_vec(), call.clone());
                    tokio::task::spawn_local(async move {
                        let mut times = Vec::with_capacity(per_client);
                        for round in 0..per_client {
                            let start = Instant::now();
                            call(&tier, &keys[(client * 37 + round) % keys.len()]).await;
                            times.push(start.elapsed().as_nanos() as u64);
                        }
                        times
                    })
                })
                .collect();
            let mut all = Vec::new();
            for task in tasks {
                all.extend(task.await.unwrap_or_default());
            }
            all
        })
        .await;
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize] as f64 / 1_000.0;
    println!("{:<22} {rate:>10.0} {:>9.1} {:>9.1}", format!("{what}, {clients} clients"), at(0.5), at(0.99));
}
