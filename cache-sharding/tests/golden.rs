//! Where keys land, for ever. Rows lie in databases at these places: a failure here is never mended by editing the expectation.
//!
//! The expectations were computed by another implementation (Python, with the reference xxHash library), from the documentation alone.

use cache_sharding::{Jump, Modulo, Placement, Rendezvous, Ring, SEED, ShardKey};

#[test]
fn hashes_of_keys_are_pinned() {
    assert_eq!(SEED, 0x676e_6964_7261_6873);
    let pinned = [
        ("".shard_hash(), 0xf931_0a14_6169_0745),
        ("a".shard_hash(), 0x12b6_986b_91b7_0039),
        ("user:1".shard_hash(), 0x01db_f59c_1966_6dde),
        ("0123456789abcdef".shard_hash(), 0x173f_6c7a_14fa_5ff2),
        ("naïve".shard_hash(), 0xe380_8e5e_149f_ce15),
        ("x".repeat(300).shard_hash(), 0xbab8_a51b_66a3_0e5f),
        (7_u8.shard_hash(), 0x0679_2097_f317_5c11),
        (7_u16.shard_hash(), 0xc7b6_d4fa_433c_2fb0),
        (7_u32.shard_hash(), 0x490c_ac00_2482_6072),
        (7_u64.shard_hash(), 0x580c_472e_46c2_ef4d),
        (7_u128.shard_hash(), 0x4251_9692_f2d7_b058),
        ((-7_i8).shard_hash(), 0x64d8_9301_7189_4f0a),
        ((-7_i16).shard_hash(), 0xae97_0ac5_07ed_2a5c),
        ((-7_i32).shard_hash(), 0x0622_5259_dd6b_5339),
        ((-7_i64).shard_hash(), 0x2721_ff8f_ba41_bf4b),
        ((-7_i128).shard_hash(), 0x9b71_076a_7b3e_e4c5),
        (("acme", 7_u64).shard_hash(), 0xf2a8_fd12_1e00_1629),
        (("ab", "c").shard_hash(), 0x0643_accf_1060_3480),
        (("a", "bc").shard_hash(), 0xa397_273b_bf2a_55d0),
        ((("a", "b"), "c").shard_hash(), 0xea61_48bb_05f0_36ad),
        ((1_u8, 2_u16, 3_u32, 4_u64, 5_i64, "six").shard_hash(), 0xd128_ecf9_6856_d98b),
    ];
    for (at, (hash, expected)) in pinned.into_iter().enumerate() {
        assert_eq!(hash, expected, "pin number {at}");
    }
}

#[test]
fn places_of_keys_are_pinned() {
    let equal = || (0..16).map(|i| format!("shard-{i}"));
    let weights = [("east", 1), ("west", 2), ("north", 3), ("south", 5)];
    let placements: [(&str, Box<dyn Placement>); 6] = [
        ("modulo", Box::new(Modulo::new(16).unwrap())),
        ("jump", Box::new(Jump::new(16).unwrap())),
        ("rendezvous", Box::new(Rendezvous::new(equal()).unwrap())),
        ("weighted rendezvous", Box::new(Rendezvous::weighted(weights).unwrap())),
        ("ring", Box::new(Ring::new(equal()).unwrap())),
        ("weighted ring", Box::new(Ring::weighted(weights).unwrap())),
    ];
    let table = include_str!("golden/placements.txt");
    let mut rows = 0;
    for row in table.lines().filter(|row| !row.starts_with('#')) {
        let mut cells = row.split_whitespace();
        let key = cells.next().unwrap();
        assert_eq!(key.shard_hash(), u64::from_str_radix(cells.next().unwrap(), 16).unwrap(), "hash of {key}");
        for (name, placement) in &placements {
            let expected: usize = cells.next().unwrap().parse().unwrap();
            assert_eq!(placement.place(key.shard_hash()).get(), expected, "{key} by {name}");
        }
        rows += 1;
    }
    assert_eq!(rows, 256);
}
