//! Partitions: what a key's record, its meta key and its invalidations share.

use std::sync::OnceLock;
use twox_hash::XxHash3_64;

/// How many partitions a deployment has. Part of the wire format: a change would move every record.
pub const PARTITIONS: usize = 256;

/// Seed of the partition hash, the same for ever on every host.
const SEED: u64 = 0x6361_6368_6573_7461; // "cachesta"

/// Slots of a Redis Cluster.
const SLOTS: u16 = 16_384;

/// One of the 256 groups that keys fall into, alike in every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Partition(u8);

impl Partition {
    /// The partition of an encoded key.
    pub fn of(encoded_key: &[u8]) -> Self {
        Self((XxHash3_64::oneshot_with_seed(SEED, encoded_key) % PARTITIONS as u64) as u8)
    }

    /// The partition with this number.
    pub fn from_index(index: u8) -> Self {
        Self(index)
    }

    /// Its number.
    pub fn index(self) -> u8 {
        self.0
    }

    /// The partition with this tag.
    pub(crate) fn tagged(tag: &[u8]) -> Option<Self> {
        (0..=u8::MAX).map(Self).find(|partition| partition.tag().as_bytes() == tag)
    }

    /// The Redis Cluster hash tag, without braces, that puts this partition's keys into one slot.
    ///
    /// Tags are chosen by us and never by the caller's key, so that nobody can aim keys at one node, and so that the 256
    /// partitions lie evenly: partition `p` has a slot between `64 p` and `64 p + 63`.
    pub fn tag(self) -> &'static str {
        static TAGS: OnceLock<Vec<String>> = OnceLock::new();
        &TAGS.get_or_init(find_tags)[usize::from(self.0)]
    }
}

/// For each partition the first number, written in base 36, whose slot lies in the partition's range.
fn find_tags() -> Vec<String> {
    let mut tags = vec![String::new(); PARTITIONS];
    let mut missing = PARTITIONS;
    let width = SLOTS / PARTITIONS as u16;
    for number in 0_u32.. {
        let tag = base36(number);
        let place = usize::from(slot(tag.as_bytes()) / width);
        if tags[place].is_empty() {
            tags[place] = tag;
            missing -= 1;
            if missing == 0 {
                break;
            }
        }
    }
    tags
}

fn base36(mut number: u32) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit(number % 36, 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            break;
        }
    }
    digits.iter().rev().collect()
}

/// CRC16 (XMODEM) modulo 16,384, as the Redis Cluster specification defines the slot of a hash tag.
fn slot(tag: &[u8]) -> u16 {
    let mut crc = 0_u16;
    for &byte in tag {
        crc ^= u16::from(byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_matches_the_cluster_specification() {
        // The check value of CRC16/XMODEM, and the specification's own example.
        assert_eq!(slot(b"123456789"), 0x31C3 % SLOTS);
        assert_eq!(slot(b"foo"), 12_182);
    }

    #[test]
    fn every_partition_has_a_tag_in_its_own_slot_range() {
        for index in 0..=255_u8 {
            let tag = Partition(index).tag();
            assert_eq!(slot(tag.as_bytes()) / 64, u16::from(index), "tag {tag}");
        }
    }

    #[test]
    fn partitions_and_tags_stay_where_the_first_release_put_them() {
        let golden: Vec<(u8, &str)> =
            [&b""[..], b"1", b"product", b"(3:abc2:42"].iter().map(|key| Partition::of(key)).map(|p| (p.0, p.tag())).collect();
        assert_eq!(golden, GOLDEN);
        let all = (0..=255).map(|index| Partition(index).tag()).collect::<Vec<_>>().join(",");
        assert_eq!(XxHash3_64::oneshot(all.as_bytes()), GOLDEN_TAGS);
    }

    const GOLDEN: &[(u8, &str)] = &[(152, "34"), (25, "36"), (134, "7i"), (238, "11x")];
    const GOLDEN_TAGS: u64 = 14_298_597_462_211_578_397;
}
