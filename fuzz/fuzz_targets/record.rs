//! Any bytes as a record: none, or one that encodes to the same bytes again.
#![no_main]

use bytes::Bytes;
use cache_core::record::{FORMAT, HEADER_LEN, Record, State, check, is_ours};
use libfuzzer_sys::fuzz_target;

const STATES: [State; 5] = [State::Value, State::Refresh, State::Lease, State::Tombstone, State::Marked];

fuzz_target!(|data: &[u8]| {
    read(data);
    // No fuzzer guesses a CRC.
    if data.len() >= HEADER_LEN {
        assert!(read(&mended(data)), "both checks hold");
    }
});

/// Whether it is a record.
fn read(data: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(data);
    let Ok(record) = Record::decode_any(&bytes) else { return false };
    assert!(is_ours(data));
    let mut again = record.encode();
    // Where there is no value nobody looks at the CRC.
    if !record.state.has_value() {
        again[88..92].copy_from_slice(&data[88..92]);
    }
    assert_eq!(again, data);
    assert_eq!(Record::decode(&bytes, record.body.echo), Ok(record));
    true
}

/// The same with a state, and with the checks of the byte table made right.
fn mended(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    let state = STATES[usize::from(data[1]) % STATES.len()];
    (data[0], data[1]) = (FORMAT, state.byte());
    let number = |at: std::ops::Range<usize>| data[at].iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
    let head = check(state, number(6..14), number(30..36), number(36..42));
    data[2..6].copy_from_slice(&head.to_be_bytes());
    let mut crc = crc32fast::Hasher::new();
    for part in [&data[6..14], &data[42..68], &[0, 0], &data[70..88], &data[HEADER_LEN..]] {
        crc.update(part);
    }
    data[88..92].copy_from_slice(&crc.finalize().to_be_bytes());
    data
}
