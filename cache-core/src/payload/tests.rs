use super::*;
use crate::key::Namespace;
use crate::record::Life;
use bytes::Bytes;
use proptest::prelude::*;
use std::time::Duration;

const MIB: usize = 1 << 20;
const VERSION: u64 = 7;

fn key(name: &str) -> RemoteKey {
    Namespace::new("app", "product").unwrap().key(name)
}

fn body(payload: impl Into<Bytes>) -> Body {
    let life = Life { soft: Duration::from_secs(1), hard: Duration::from_secs(2), last: Duration::from_secs(3) };
    let (echo, payload) = (key("k").echo(), payload.into());
    Body { schema: 3, generation: 4, life, flags: Flags::NONE, codec: 1, echo, payload }
}

fn packing(compression: Option<Compression>, keyring: Option<Keyring>) -> Packing {
    Packing { compression, keyring, limit: 0 }.checked(MIB).unwrap()
}

fn sealing() -> Packing {
    packing(None, Some(ring()))
}

fn ring() -> Keyring {
    Keyring::new(2, &[2; 32]).opens(1, &[1; 32])
}

fn every_algorithm() -> [Compression; 3] {
    [Compression::lz4().above(0), Compression::zstd(3).above(0), Compression::zstd(-5).above(0)]
}

fn every_packing() -> Vec<Packing> {
    let algorithms = || every_algorithm().map(Some).into_iter().chain([None]);
    [None, Some(ring())].iter().flat_map(|ring| algorithms().map(|algorithm| packing(algorithm, ring.clone()))).collect()
}

fn pack(packing: &Packing, payload: &[u8]) -> Body {
    packing.pack(body(payload.to_vec()), VERSION, &key("k")).unwrap()
}

fn unpack(packing: &Packing, body: &Body) -> Result<Vec<u8>, Unpackable> {
    packing.unpack(body, VERSION, &key("k")).map(Cow::into_owned)
}

/// Bytes that compress: words of a small vocabulary.
fn text() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec("[a-d]{1,9}", 0..600).prop_map(|words| words.join(" ").into_bytes())
}

/// Bytes that do not.
fn noise(len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
}

#[test]
fn where_nothing_is_configured_nothing_is_copied() {
    let (packing, plain) = (packing(None, None), body(vec![b'a'; 10_000]));
    let at = plain.payload.as_ptr();
    let packed = packing.pack(plain, VERSION, &key("k")).unwrap();
    assert_eq!((packed.flags, packed.payload.as_ptr()), (Flags::NONE, at));
    let unpacked = packing.unpack(&packed, VERSION, &key("k")).unwrap();
    assert!(matches!(unpacked, Cow::Borrowed(bytes) if bytes.as_ptr() == at));
}

#[test]
fn only_what_is_large_enough_and_shrinks_by_an_eighth_is_compressed() {
    for compression in every_algorithm() {
        let flags = |compression, payload: &[u8]| pack(&packing(Some(compression), None), payload).flags;
        assert_eq!(flags(compression, &[b'a'; 1_000]), Flags::COMPRESSED);
        assert_eq!(flags(compression.above(1_000), &[b'a'; 1_000]), Flags::NONE);
        assert_eq!(flags(compression.above(1_000), &[b'a'; 1_001]), Flags::COMPRESSED);
        assert_eq!(flags(compression, b""), Flags::NONE);
        assert_eq!(flags(compression, &noise(10_000)), Flags::NONE);
        // About a sixteenth is repeated, then about a fifth.
        let repeating = |times| [noise(9_400), vec![b'a'; times]].concat();
        assert_eq!(flags(compression, &repeating(600)), Flags::NONE);
        assert_eq!(flags(compression, &repeating(2_400)), Flags::COMPRESSED);
    }
}

#[test]
fn e3_a_lie_about_the_length_is_damage() {
    for compression in every_algorithm() {
        let packing = packing(Some(compression), None);
        let good = pack(&packing, &[b'a'; 1_000]);
        for claim in [0, 1, 999, 1_001, 2_000, 8 << 20, (8 << 20) + 1, u32::MAX] {
            let mut lie = good.payload.to_vec();
            lie[1..5].copy_from_slice(&claim.to_be_bytes());
            let lie = Body { payload: lie.into(), ..good.clone() };
            assert_eq!(unpack(&packing, &lie), Err(Unpackable::Damaged), "{compression:?} claims {claim}");
        }
    }
}

#[test]
fn e3_what_is_larger_than_the_limit_is_not_decompressed() {
    for compression in every_algorithm() {
        let large = pack(&packing(Some(compression), None), &vec![b'a'; 2 * MIB]);
        assert_eq!(unpack(&packing(None, None), &large).map(|plain| plain.len()), Ok(2 * MIB), "the default limit is 8 MiB");
        let limited = packing(Some(compression.at_most(2 * MIB - 1)), None);
        assert_eq!(unpack(&limited, &large), Err(Unpackable::Damaged));
    }
}

#[test]
fn an_algorithm_of_a_later_version_is_left_alone() {
    let later = Body { flags: Flags::COMPRESSED, ..body(vec![77, 0, 0, 0, 1, 0]) };
    assert_eq!(unpack(&packing(None, None), &later), Err(Unpackable::Beyond));
    let later = Body { flags: Flags::from_byte(8), ..body("v") };
    assert_eq!(unpack(&packing(None, None), &later), Err(Unpackable::Beyond));
}

#[test]
fn h5_what_is_sealed_for_one_place_is_refused_in_any_other() {
    let (packing, good) = (sealing(), pack(&sealing(), b"value"));
    assert_eq!(unpack(&packing, &good).as_deref(), Ok(&b"value"[..]));
    let moved = |name: &str, body: Body, version: u64, key: RemoteKey| {
        assert_eq!(packing.unpack(&body, version, &key), Err(Unpackable::Forged), "{name}");
    };
    let (body, life, here) = (good.clone(), good.life, key("k"));
    let longer = Duration::from_secs(9);
    moved("schema", Body { schema: 4, ..body.clone() }, VERSION, here.clone());
    moved("generation", Body { generation: 5, ..body.clone() }, VERSION, here.clone());
    moved("soft", Body { life: Life { soft: longer, ..life }, ..body.clone() }, VERSION, here.clone());
    moved("hard", Body { life: Life { hard: longer, ..life }, ..body.clone() }, VERSION, here.clone());
    moved("last", Body { life: Life { last: longer, ..life }, ..body.clone() }, VERSION, here.clone());
    moved("flags", Body { flags: Flags::COMPRESSED | Flags::ENCRYPTED, ..body.clone() }, VERSION, here.clone());
    moved("codec", Body { codec: 2, ..body.clone() }, VERSION, here.clone());
    moved("version", body.clone(), VERSION + 1, here);
    moved("key", body.clone(), VERSION, key("l"));
    moved("namespace", body.clone(), VERSION, Namespace::new("app", "session").unwrap().key("k"));
    moved("deployment", body, VERSION, Namespace::new("staging", "product").unwrap().key("k"));
}

#[test]
fn one_key_seals_and_all_open() {
    let with = |ring| packing(None, Some(ring));
    let (first, second) = (Keyring::new(1, &[1; 32]), Keyring::new(2, &[2; 32]));
    let (old, new) = (pack(&with(first.clone()), b"v"), pack(&with(second.clone()), b"v"));
    for (seals, between) in [(1, first.clone().opens(2, &[2; 32])), (2, second.clone().opens(1, &[1; 32]))] {
        assert_eq!(pack(&with(between.clone()), b"v").payload[..4], [0, 0, 0, seals]);
        for sealed in [&old, &new] {
            assert_eq!(unpack(&with(between.clone()), sealed).as_deref(), Ok(&b"v"[..]));
        }
    }
    assert_eq!(unpack(&with(first), &new), Err(Unpackable::NewKey));
    assert_eq!(unpack(&with(second), &old), Err(Unpackable::OldKey));
    assert_eq!(unpack(&with(Keyring::new(1, &[9; 32])), &old), Err(Unpackable::Forged), "another key of that number");
    assert_eq!(unpack(&packing(None, None), &old), Err(Unpackable::Beyond), "a node without a keyring leaves it alone");
}

#[test]
fn a_plain_record_is_refused_where_there_is_a_keyring_unless_it_accepts_them() {
    let plain = body("v");
    assert_eq!(unpack(&sealing(), &plain), Err(Unpackable::Forged));
    let migrating = packing(None, Some(ring().accept_plain(true)));
    assert_eq!(unpack(&migrating, &plain).as_deref(), Ok(&b"v"[..]));
    assert!(pack(&migrating, b"v").flags.contains(Flags::ENCRYPTED), "what it writes is sealed all the same");
}

#[test]
fn encryption_alone_compresses_nothing() {
    let sealed = pack(&sealing(), &[b'a'; 10_000]);
    assert_eq!((sealed.flags, sealed.payload.len()), (Flags::ENCRYPTED, 10_000 + 44));
}

#[test]
fn no_two_seals_of_a_value_are_alike() {
    let (first, second) = (pack(&sealing(), b"value"), pack(&sealing(), b"value"));
    assert_ne!(first.payload[4..28], second.payload[4..28], "nonces");
    assert_ne!(first.payload[28..], second.payload[28..]);
}

/// Written by the first version. What stands in Redis outlives a deployment.
#[test]
fn the_formats_never_change() {
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let sealed_lz4 = "000000014511840caab59306fbc3f7615882e138ac899140f512bb83bc709714a61f3df0c0c88120\
                      7b568c4a6fca1e85b3eb28270dcd3b4742b7954283";
    let sealed = Body { flags: Flags::COMPRESSED | Flags::ENCRYPTED, ..body(bytes(sealed_lz4)) };
    assert_eq!(unpack(&sealing(), &sealed).as_deref(), Ok(&[b'a'; 100][..]));
    let zstd = Body { flags: Flags::COMPRESSED, ..body(bytes("020000006428b52ffd206445000010616101003f012c")) };
    assert_eq!(unpack(&packing(None, None), &zstd).as_deref(), Ok(&[b'a'; 100][..]));
    assert_eq!((Flags::COMPRESSED.byte(), Flags::ENCRYPTED.byte()), (1, 4));
}

#[test]
fn keys_do_not_show_and_are_wiped() {
    fn wiped<T: zeroize::ZeroizeOnDrop>() {}
    wiped::<chacha20poly1305::XChaCha20Poly1305>();
    let text = format!("{:?} {:#?}", Keyring::new(3, &[171; 32]), Keyring::new(3, &[0xab; 32]));
    assert!(text.contains("numbers: [3]") && !text.contains("171") && !text.contains("ab, "), "{text}");
}

#[test]
fn configurations_that_cannot_work_are_refused() {
    let check = |compression: Option<Compression>, keyring: Option<Keyring>| {
        Packing { compression, keyring, limit: 0 }.checked(MIB).map(|packing| packing.limit).map_err(|err| err.kind())
    };
    let config = Err(crate::ErrorKind::Config);
    assert_eq!(check(None, Some(ring().opens(2, &[3; 32]))), config);
    assert_eq!(check(Some(Compression::zstd(23)), None), config);
    assert_eq!(check(Some(Compression::lz4().at_most(MIB - 1)), None), config);
    assert_eq!(check(Some(Compression::lz4().at_most(MIB)), None), Ok(MIB));
    assert_eq!(check(None, None), Ok(8 * MIB));
    let roomy = Packing::default().checked(20 * MIB).unwrap();
    assert_eq!(roomy.limit, 20 * MIB, "a node reads what others store");
}

proptest! {
    // A case runs through each algorithm, unoptimized: enough of them for every run, and fuzz/ is for more.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_configuration_reads_what_it_wrote(text in text(), noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        for packing in every_packing() {
            for payload in [&text, &noise] {
                prop_assert_eq!(&unpack(&packing, &pack(&packing, payload)).unwrap(), payload);
            }
        }
    }

    #[test]
    fn a_sealed_payload_bent_or_cut_is_never_read(text in text(), bit in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>()) {
        for packing in every_packing().into_iter().filter(|packing| packing.keyring.is_some()) {
            let good = pack(&packing, &text);
            let mut bent = good.payload.to_vec();
            let bit = bit.index(bent.len() * 8);
            bent[bit / 8] ^= 1 << (bit % 8);
            let bent = Body { payload: bent.into(), ..good.clone() };
            prop_assert!(unpack(&packing, &bent).is_err());
            let cut = Body { payload: good.payload.slice(..cut.index(good.payload.len())), ..good };
            prop_assert!(unpack(&packing, &cut).is_err());
        }
    }

    #[test]
    fn a_compressed_payload_bent_or_cut_never_panics_and_never_grows(
        text in text(), bit in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>(),
    ) {
        for compression in every_algorithm() {
            let packing = packing(Some(compression.at_most(MIB)), None);
            let good = pack(&packing, &text);
            if good.flags == Flags::NONE {
                continue;
            }
            let mut bent = good.payload.to_vec();
            let bit = bit.index(bent.len() * 8);
            bent[bit / 8] ^= 1 << (bit % 8);
            // The CRC is what notices; here it is only that nothing worse comes of it.
            if let Ok(plain) = unpack(&packing, &Body { payload: bent.into(), ..good.clone() }) {
                prop_assert_eq!(plain.len(), text.len());
            }
            let cut = Body { payload: good.payload.slice(..cut.index(good.payload.len())), ..good };
            prop_assert!(unpack(&packing, &cut).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_never_pass_for_sealed(
        flags in any::<u8>(), head in 0_u8..4, claim in 0_u32..3_000, bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let likely = [&[head][..], &claim.to_be_bytes(), &bytes].concat();
        for payload in [bytes, likely] {
            for flags in [flags, 1, 4, 5].map(Flags::from_byte) {
                let body = Body { flags, ..body(payload.clone()) };
                if let Ok(plain) = unpack(&packing(None, None), &body) {
                    prop_assert!(plain.len() <= 8 * MIB);
                }
                prop_assert!(unpack(&sealing(), &body).is_err());
            }
        }
    }
}
