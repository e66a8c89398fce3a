//! What the backplane's keys and channels are called. No cache's name has a `!`, so nothing of a cache's is ever called so.

use cache_core::Partition;

/// The key of a partition's incarnation, sequence and history: beside the partition's records, in their database.
pub(crate) fn meta_key(prefix: &str, partition: Partition) -> Vec<u8> {
    format!("{prefix}{{{}}}:!m", partition.tag()).into_bytes()
}

/// The channel of a partition, in a cluster in the slot of its keys. Channels are common to all databases, so its number is part of the name.
pub(super) fn channel(prefix: &str, partition: Partition, database: i64) -> Vec<u8> {
    format!("{prefix}{{{}}}:!{database}", partition.tag()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::slot_of;
    use cache_core::Namespace;

    #[test]
    fn what_belongs_to_a_partition_is_in_one_slot_and_in_no_namespace() {
        let namespace = Namespace::new("app", "m").unwrap();
        for id in 0..100 {
            let key = namespace.key(&id);
            let (meta, channel) = (meta_key("app", key.partition()), channel("app", key.partition(), 3));
            assert_eq!((slot_of(&meta), slot_of(&channel)), (slot_of(key.as_bytes()), slot_of(key.as_bytes())));
            assert!(!namespace.contains(&meta) && !namespace.contains(&channel));
        }
    }

    #[test]
    fn databases_and_prefixes_have_channels_of_their_own() {
        let partition = Partition::from_index(0);
        assert_ne!(channel("app", partition, 0), channel("app", partition, 1));
        assert_ne!(channel("app", partition, 0), channel("ap", partition, 0));
    }
}
