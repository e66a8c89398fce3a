//! Compressed and sealed values, all the way to what stands in L2: what another node, an older or newer deployment, or
//! somebody with write access to L2 makes of a record is a value that was stored there for this key, or a miss.

use cache_core::record::{Flags, Record};
use cachestack::{Compression, EmbeddedTier, Keyring, Namespace, NoLocal, RemoteKey, RemoteTier, Tier};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// Notes the largest allocation of each thread. What zstd's C code allocates for itself does not come by here.
struct Watching;

// SAFETY: every call goes to the system allocator unchanged; `alloc_zeroed` and `realloc` come through `alloc`.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.set(LARGEST.get().max(layout.size()));
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// Without an L1, so that every read goes to L2.
type Node = cache_core::TieredCache<String, String, NoLocal>;
type Builder = cache_core::Builder<String, String>;

const FIRST: [u8; 32] = [1; 32];
const SECOND: [u8; 32] = [2; 32];

fn node(l2: &EmbeddedTier, options: impl FnOnce(Builder) -> Builder) -> Node {
    let load = |key: String| async move { Ok::<_, io::Error>(value(&key)) };
    options(Node::builder("t").l2(l2.clone()).versioned(|value| value.len() as u64).origin(load)).build().unwrap()
}

fn sealing(l2: &EmbeddedTier) -> Node {
    node(l2, |builder| builder.encryption(Keyring::new(1, &FIRST)))
}

fn value(key: &str) -> String {
    format!("the value of {key}. ").repeat(500)
}

fn key(name: &str) -> RemoteKey {
    Namespace::new("cs", "t").unwrap().key(name)
}

async fn record(l2: &EmbeddedTier, name: &str) -> Record {
    Record::decode(&l2.get(&key(name)).await.unwrap().record.unwrap(), key(name).echo()).unwrap()
}

/// Where a load found its value.
async fn load(node: &Node, name: &str) -> Tier {
    let cached = node.load_cached(name).await.unwrap();
    assert_eq!(cached.value, value(name));
    cached.tier
}

/// A read that misses because of what stands in L2, and is counted as it should.
async fn misses(node: &Node, name: &str, forged: u64, unknown_key: u64) {
    let before = node.stats();
    assert_eq!(node.get(name).await, None);
    let l2 = node.stats().since(&before).l2;
    assert_eq!((l2.misses, l2.unreadable, l2.forged, l2.unknown_key, l2.errors), (1, 1, forged, unknown_key, 0));
}

#[tokio::test]
async fn a_value_is_neither_readable_in_l2_nor_larger_than_it_need_be() {
    let l2 = EmbeddedTier::new();
    let node = node(&l2, |builder| builder.encryption(Keyring::new(1, &FIRST)).compression(Compression::lz4()));
    assert_eq!(load(&node, "k").await, Tier::Origin);
    assert_eq!(load(&node, "k").await, Tier::L2);
    let stored = record(&l2, "k").await;
    assert_eq!(stored.body.flags, Flags::COMPRESSED | Flags::ENCRYPTED);
    assert!(stored.body.payload.len() < value("k").len() / 10);
    assert!(!stored.body.payload.windows(5).any(|window| window == b"value"));
}

#[tokio::test]
async fn h5_a_record_moved_to_another_key_is_a_miss_and_the_next_load_replaces_it() {
    let l2 = EmbeddedTier::new();
    let node = sealing(&l2);
    load(&node, "a").await;
    load(&node, "b").await;
    let mut moved = record(&l2, "a").await;
    moved.body.echo = key("b").echo();
    l2.plant(&key("b"), moved.encode());
    misses(&node, "b", 1, 0).await;
    assert_eq!(load(&node, "b").await, Tier::Origin);
    assert_eq!(load(&node, "b").await, Tier::L2);
}

#[tokio::test]
async fn h5_a_forged_record_is_a_miss() {
    let l2 = EmbeddedTier::new();
    let node = sealing(&l2);
    load(&node, "k").await;
    let good = record(&l2, "k").await;
    // As `rmp_serde` writes a string of five bytes.
    let mut plain = good.clone();
    (plain.body.flags, plain.body.payload) = (Flags::NONE, b"\xa5false"[..].into());
    let mut lifted = good.clone();
    lifted.version += 1;
    let mut lasting = good.clone();
    lasting.body.life.soft += lasting.body.life.soft;
    let mut other_key = record(&l2, "k").await;
    let payload: Vec<_> = other_key.body.payload.iter().map(|byte| byte ^ 1).collect();
    other_key.body.payload = payload.into();
    for forged in [plain.clone(), lifted, lasting] {
        l2.plant(&key("k"), forged.encode());
        misses(&node, "k", 1, 0).await;
    }
    l2.plant(&key("k"), other_key.encode());
    misses(&node, "k", 0, 1).await;
    // For as long as values from before the encryption are to be read.
    l2.plant(&key("k"), plain.encode());
    let migrating = self::node(&l2, |builder| builder.encryption(Keyring::new(1, &FIRST).accept_plain(true)));
    assert_eq!(migrating.get("k").await.as_deref(), Some("false"));
}

#[tokio::test]
async fn a_rotated_key_reads_what_the_old_one_sealed_and_a_removed_one_is_a_miss_until_the_next_load() {
    let l2 = EmbeddedTier::new();
    load(&sealing(&l2), "k").await;
    let rotated = node(&l2, |builder| builder.encryption(Keyring::new(2, &SECOND).opens(1, &FIRST)));
    assert_eq!(load(&rotated, "k").await, Tier::L2);
    let removed = node(&l2, |builder| builder.encryption(Keyring::new(2, &SECOND)));
    misses(&removed, "k", 0, 1).await;
    assert_eq!(load(&removed, "k").await, Tier::Origin);
    assert_eq!(load(&removed, "k").await, Tier::L2);
    // A node of before the rotation: it reads past what it cannot open, and writes nothing over it.
    let kept = record(&l2, "k").await;
    let late = sealing(&l2);
    misses(&late, "k", 0, 1).await;
    assert_eq!(load(&late, "k").await, Tier::Origin);
    assert_eq!(record(&l2, "k").await, kept);
}

#[tokio::test]
async fn e1_nodes_with_and_without_a_keyring_do_not_write_over_each_other_for_ever() {
    let l2 = EmbeddedTier::new();
    let (plain, sealing) = (node(&l2, |builder| builder), sealing(&l2));
    assert_eq!(load(&plain, "k").await, Tier::Origin);
    misses(&sealing, "k", 1, 0).await;
    assert_eq!(load(&sealing, "k").await, Tier::Origin);
    let sealed = record(&l2, "k").await;
    for _ in 0..3 {
        assert_eq!(load(&plain, "k").await, Tier::Origin);
        assert_eq!(load(&sealing, "k").await, Tier::L2);
    }
    assert_eq!(record(&l2, "k").await, sealed);
    // The way back.
    let next = node(&l2, |builder| builder.schema(2));
    assert_eq!(load(&next, "k").await, Tier::Origin);
    assert_eq!(load(&next, "k").await, Tier::L2);
}

#[tokio::test]
async fn e1_a_flag_of_a_later_version_is_left_alone_in_this_schema_and_replaced_in_an_older_one() {
    let l2 = EmbeddedTier::new();
    let here = node(&l2, |builder| builder);
    load(&here, "k").await;
    let mut later = record(&l2, "k").await;
    later.body.flags = Flags::from_byte(128);
    l2.plant(&key("k"), later.encode());
    misses(&here, "k", 0, 0).await;
    assert_eq!(load(&here, "k").await, Tier::Origin);
    assert_eq!(record(&l2, "k").await, later);
    let next = node(&l2, |builder| builder.schema(2));
    assert_eq!(load(&next, "k").await, Tier::Origin);
    assert_eq!(load(&next, "k").await, Tier::L2);
}

#[tokio::test]
async fn nodes_with_and_without_compression_read_each_other() {
    let l2 = EmbeddedTier::new();
    let compressions = [Some(Compression::lz4()), Some(Compression::zstd(3)), None];
    let nodes = compressions.map(|compression| node(&l2, |builder| compression.into_iter().fold(builder, Builder::compression)));
    for (at, writer) in nodes.iter().enumerate() {
        let name = at.to_string();
        assert_eq!(load(writer, &name).await, Tier::Origin);
        assert_eq!(record(&l2, &name).await.body.flags == Flags::COMPRESSED, compressions[at].is_some());
        for reader in &nodes {
            assert_eq!(load(reader, &name).await, Tier::L2);
        }
    }
}

/// The tests' runtime has one thread, and a `get` runs on it.
#[tokio::test]
async fn e3_a_bomb_is_refused_before_memory_is_allocated_for_it() {
    let l2 = EmbeddedTier::new();
    let node = node(&l2, |builder| builder.compression(Compression::lz4().at_most(1 << 22)));
    load(&node, "k").await;
    let good = record(&l2, "k").await;
    let bomb = |name: u8, claim: u32, body: &[u8]| [&[name][..], &claim.to_be_bytes(), body].concat();
    let limit = 1 << 22;
    // A true LZ4 bomb above the limit, one that claims less, lies of the largest kind, and an honest zstd frame above the limit.
    let zeros = vec![0; 2 * limit];
    let lz4 = lz4_flex::block::compress(&zeros);
    let zstd = zstd::bulk::compress(&zeros, 3).unwrap();
    let bombs = [
        bomb(1, 2 * limit as u32, &lz4),
        bomb(1, 1_000, &lz4),
        bomb(1, limit as u32, b"short"),
        bomb(1, u32::MAX, &lz4),
        bomb(2, 2 * limit as u32, &zstd),
        bomb(2, limit as u32, &zstd),
        bomb(2, u32::MAX, b"short"),
    ];
    for payload in bombs {
        let mut record = good.clone();
        (record.body.flags, record.body.payload) = (Flags::COMPRESSED, payload.into());
        l2.plant(&key("k"), record.encode());
        LARGEST.set(0);
        misses(&node, "k", 0, 0).await;
        assert!(LARGEST.get() < 1 << 16, "{} bytes at once", LARGEST.get());
    }
    assert_eq!(load(&node, "k").await, Tier::Origin, "replaced");
    assert_eq!(load(&node, "k").await, Tier::L2);
}
