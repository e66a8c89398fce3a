//! Calls that are dropped when a part of their reply is here and the rest is not: the rest is nobody's, whatever is asked next.

mod common;

use cache_core::record::Record;
use cache_core::{Acquired, Claim, Fetched, RemoteKey, RemoteTier, Result, Token};
use cache_redis::RedisTier;
use common::{Raw, asks, namespace, store, tier, until};
use futures_util::poll;
use std::pin::pin;
use test_servers::{Proxy, Redis};

/// Our own driver has one command for calls of one time. `fred.rs` runs these tests with one for each.
const GATHERS: bool = !matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"fred");

struct Bed {
    _redis: Redis,
    proxy: Proxy,
    tier: RedisTier,
    raw: Raw,
}

impl Bed {
    async fn start() -> Self {
        let redis = Redis::start();
        let proxy = Proxy::start(redis.port());
        let (tier, raw) = (tier(&proxy.url()).await, Raw::connect(&redis.url()).await);
        Self { _redis: redis, proxy, tier, raw }
    }

    /// Waits until the tier has read what the proxy lets pass.
    async fn arrived(&self) {
        until("the proxy has let it pass", async || self.proxy.has_forwarded()).await;
        // A runtime of one thread looks at its sockets after 61 turns at most.
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }

    /// How often a command was called.
    async fn calls(&self, command: &str) -> u64 {
        let stats: String = self.raw.run(&["INFO", "commandstats"]).await;
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |line| line.split(',').next().expect("a number").parse().expect("a number"))
    }
}

fn payload(key: &RemoteKey, fetched: Result<Fetched>) -> Option<Vec<u8>> {
    let record = fetched.expect("an answer").record?;
    Some(Record::decode(&record, key.echo()).expect("the record of this very key").body.payload.to_vec())
}

#[tokio::test]
async fn b8_a_call_cancelled_in_the_midst_of_a_long_reply_leaves_nothing_of_it_to_others() {
    let bed = Bed::start().await;
    let namespace = namespace();
    let [cancelled, next, long] = [1, 2, 3].map(|id| namespace.key(&id));
    store(&bed.tier, &cancelled, vec![7; 100_000]).await;
    store(&bed.tier, &next, "of the next").await;
    store(&bed.tier, &long, vec![9; 50_000]).await;
    let connections = bed.proxy.accepted();
    // `$100092`, the line's end, the record's header and its payload, the end: 100,103 bytes.
    for cut in [1, 4, 8, 9, 60, 101, 16 << 10, (16 << 10) + 9, 64 << 10, (64 << 10) + 1, 100_100, 100_101, 100_102] {
        bed.proxy.forward_bytes(cut);
        {
            let mut call = pin!(bed.tier.get(&cancelled));
            assert!(poll!(&mut call).is_pending());
            bed.arrived().await;
            assert!(poll!(&mut call).is_pending(), "{cut} bytes were taken for a reply");
        }
        // One is on its way before the rest of the reply is, one comes behind.
        let mut early = pin!(bed.tier.get(&next));
        assert!(poll!(&mut early).is_pending());
        tokio::task::yield_now().await;
        bed.proxy.forward();
        assert_eq!(payload(&next, early.await).as_deref(), Some(&b"of the next"[..]), "{cut}");
        assert_eq!(payload(&long, bed.tier.get(&long).await), Some(vec![9; 50_000]), "{cut}");
        assert_eq!(payload(&cancelled, bed.tier.get(&cancelled).await), Some(vec![7; 100_000]), "{cut}");
    }
    assert_eq!(bed.proxy.accepted(), connections, "it is the same connection all the time");
}

#[tokio::test]
async fn b8_reads_cancelled_in_the_midst_of_the_reply_to_several_leave_the_others_theirs() {
    let bed = Bed::start().await;
    let namespace = namespace();
    let keys: Vec<_> = (0..5).map(|id| namespace.key(&id)).collect();
    let values = [Some(vec![0; 10]), Some(vec![1; 20_000]), None, Some(vec![3; 300]), Some(vec![4; 40])];
    for (key, value) in keys.iter().zip(&values) {
        if let Some(value) = value {
            store(&bed.tier, key, value.clone()).await;
        }
    }
    let (connections, before) = (bed.proxy.accepted(), bed.calls("mget").await);
    let ([next], keys) = (&keys[4..], &keys[..4]) else { unreachable!("there are five") };
    let mut rounds = 0;
    // `*4`, then strings of 102, 20,092, none and 392 bytes: 20,621 bytes, or 20,617 where each is the reply to one command.
    for cut in [1, 3, 4, 8, 60, 112, 113, 117, 130, 10_000, 17_000, 20_213, 20_216, 20_219, 20_223, 20_616] {
        for cancelled in [0b1111, 0b0001, 0b0010, 0b0111, 0b1010_u32] {
            bed.proxy.forward_bytes(cut);
            let mut calls: Vec<_> = keys.iter().map(|key| Some(Box::pin(bed.tier.get(key)))).collect();
            for call in calls.iter_mut().flatten() {
                assert!(poll!(call).is_pending());
            }
            bed.arrived().await;
            for (at, call) in calls.iter_mut().enumerate() {
                call.take_if(|_| cancelled >> at & 1 == 1);
            }
            let mut later = pin!(bed.tier.get(next));
            assert!(poll!(&mut later).is_pending());
            tokio::task::yield_now().await;
            bed.proxy.forward();
            for (at, call) in calls.into_iter().enumerate() {
                if let Some(call) = call {
                    assert_eq!(payload(&keys[at], call.await), values[at], "{cut} {cancelled:b}");
                }
            }
            assert_eq!(payload(next, later.await), values[4], "{cut} {cancelled:b}");
            rounds += 1;
        }
    }
    assert_eq!(bed.proxy.accepted(), connections, "it is the same connection all the time");
    assert_eq!(bed.calls("mget").await - before, if GATHERS { rounds } else { 0 }, "four reads are one command");
}

#[tokio::test]
async fn b8_scripts_cancelled_in_the_midst_of_the_reply_to_several_leave_the_others_theirs() {
    let bed = Bed::start().await;
    let namespace = namespace();
    let keys: Vec<_> = (0..5).map(|id| namespace.key(&id)).collect();
    let [held, leased, foreign, _, next] = &keys[..] else { unreachable!("there are five") };
    store(&bed.tier, held, "held").await;
    store(&bed.tier, next, "of the next").await;
    bed.tier.acquire(leased, &asks(Token::unique(), Claim::Vacant)).await.expect("an answer");
    bed.raw.query::<()>(redis::cmd("SADD").arg(foreign.as_bytes()).arg("x")).await;
    // Each of the four has an answer that none of the others could have.
    let claims = [Claim::Vacant, Claim::Vacant, Claim::Vacant, Claim::Force];
    let is_its_own = |at: usize, acquired: &Acquired| match at {
        0 => *acquired == Acquired::Hit,
        1 => matches!(acquired, Acquired::Busy(_)),
        2 => *acquired == Acquired::Foreign,
        _ => matches!(acquired, Acquired::Granted { .. }),
    };
    let (connections, before) = (bed.proxy.accepted(), bed.calls("evalsha").await);
    let mut rounds = 0;
    // `*4`, then the time and a word each: some 140 bytes, and 20 fewer at the start of a second.
    for cut in (1..=110).step_by(3) {
        for cancelled in [0b1111, 0b0001, 0b0010, 0b0111, 0b1010_u32] {
            bed.proxy.forward_bytes(cut);
            let asked = claims.map(|claim| asks(Token::unique(), claim));
            let mut calls: Vec<_> =
                keys.iter().zip(&asked).map(|(key, asked)| Some(Box::pin(bed.tier.acquire(key, asked)))).collect();
            for call in calls.iter_mut().flatten() {
                assert!(poll!(call).is_pending());
            }
            bed.arrived().await;
            for (at, call) in calls.iter_mut().enumerate() {
                call.take_if(|_| cancelled >> at & 1 == 1);
            }
            let asks = asks(Token::unique(), Claim::Vacant);
            let (mut read, mut acquire) = (pin!(bed.tier.get(next)), pin!(bed.tier.acquire(foreign, &asks)));
            assert!(poll!(&mut read).is_pending() && poll!(&mut acquire).is_pending());
            tokio::task::yield_now().await;
            bed.proxy.forward();
            for (at, call) in calls.into_iter().enumerate() {
                if let Some(call) = call {
                    let acquired = call.await.expect("an answer");
                    assert!(is_its_own(at, &acquired), "{cut} {cancelled:b}: call {at} got {acquired:?}");
                }
            }
            assert_eq!(payload(next, read.await).as_deref(), Some(&b"of the next"[..]), "{cut} {cancelled:b}");
            assert_eq!(acquire.await.expect("an answer"), Acquired::Foreign, "{cut} {cancelled:b}");
            rounds += 1;
        }
    }
    assert_eq!(bed.proxy.accepted(), connections, "it is the same connection all the time");
    assert_eq!(bed.calls("evalsha").await - before, if GATHERS { 2 * rounds } else { 5 * rounds }, "four calls are one command");
}
