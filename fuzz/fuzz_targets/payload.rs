//! A record of any flags and any payload, its CRC right, read through the whole stack.
#![no_main]

use cache_core::record::{Body, Flags, Life, Record, State};
use cache_core::{BoxError, Codec, Compression, EmbeddedTier, Keyring, Namespace, NoLocal, RemoteKey, TieredCache, Token};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::runtime::Runtime;

const LIMIT: usize = 1 << 20;

/// Any bytes are a value: nothing behind the decompressor refuses what it lets through.
struct Raw;

impl Codec<Vec<u8>> for Raw {
    fn id(&self) -> u8 {
        200
    }

    fn encode(&self, value: &Vec<u8>) -> Result<Vec<u8>, BoxError> {
        Ok(value.clone())
    }

    fn decode(&self, payload: &[u8]) -> Result<Vec<u8>, BoxError> {
        Ok(payload.to_vec())
    }
}

struct World {
    runtime: Runtime,
    l2: EmbeddedTier,
    key: RemoteKey,
    open: TieredCache<u64, Vec<u8>, NoLocal>,
    sealed: TieredCache<u64, Vec<u8>, NoLocal>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let l2 = EmbeddedTier::new();
    let builder =
        || TieredCache::<u64, Vec<u8>>::builder("t").l2_with(l2.clone(), Raw).compression(Compression::lz4().at_most(LIMIT));
    World {
        runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
        key: Namespace::new("cs", "t").unwrap().key(&1_u64),
        open: builder().build().unwrap(),
        sealed: builder().encryption(Keyring::new(1, &[7; 32])).build().unwrap(),
        l2,
    }
});

// The first byte says what is tried, so that the fuzzer need not find out what a compressed payload looks like.
fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else { return };
    let (flags, payload, expected) = match first % 8 {
        0 => (Flags::COMPRESSED, packed(1, rest, lz4_flex::block::compress(rest)), Some(rest)),
        1 => (Flags::COMPRESSED, packed(2, rest, zstd::bulk::compress(rest, 1).unwrap()), Some(rest)),
        2 => (Flags::NONE, rest.to_vec(), Some(rest)),
        3 => (Flags::COMPRESSED, rest.to_vec(), None),
        4 => (Flags::ENCRYPTED, [&[0, 0, 0, 1], rest].concat(), None),
        _ => (Flags::from_byte(first), rest.to_vec(), None),
    };
    let world = &*WORLD;
    let life =
        Life { soft: Duration::from_secs(1 << 30), hard: Duration::from_secs(1 << 30), last: Duration::from_secs(1 << 30) };
    let body = Body { schema: 1, generation: 0, life, flags, codec: 200, echo: world.key.echo(), payload: payload.into() };
    let record =
        Record { state: State::Value, version: 0, token: Token::default(), deadline: 0, created: 1 << 40, marks: 0, body };
    world.l2.plant(&world.key, record.encode());
    let found = world.runtime.block_on(world.open.get(&1));
    if let Some(expected) = expected {
        assert_eq!(found.as_deref(), Some(expected));
    }
    assert!(found.is_none_or(|value| value.len() <= LIMIT.max(data.len())));
    assert_eq!(world.runtime.block_on(world.sealed.get(&1)), None, "nobody but us has the key");
});

fn packed(algorithm: u8, plain: &[u8], body: Vec<u8>) -> Vec<u8> {
    [&[algorithm][..], &(plain.len() as u32).to_be_bytes(), &body].concat()
}
