//! The keys evicted lately, as fingerprints.

/// How many traces share a bucket: a cache line of them.
const WAYS: usize = 8;

/// Remembers the last so many hashes that it was told, in 8 bytes each and without a queue.
///
/// A trace is a fingerprint and the number of hashes told up to it; it counts while fewer than `span` came after it. A bucket
/// full of live traces forgets its oldest early, which a third more room than `span` needs makes rare. One strange hash in
/// 500 million is taken for a remembered one; it costs an entry the wrong queue and nothing else. After the S3-FIFO paper
/// (Yang et al., SOSP 2023), its section on implementation.
#[derive(Debug)]
pub(super) struct Ghost {
    buckets: Vec<[Trace; WAYS]>,
    span: u32,
    told: u32,
}

#[derive(Debug, Clone, Copy)]
struct Trace {
    fingerprint: u32,
    /// The count of hashes told when it was made; zero is a trace of none.
    at: u32,
}

impl Ghost {
    /// Takes no memory before it is first told of a hash.
    pub(super) fn new(span: u32) -> Self {
        Self { buckets: Vec::new(), span, told: 0 }
    }

    pub(super) fn remember(&mut self, hash: u64) {
        if self.buckets.is_empty() {
            let room = (self.span as usize).saturating_mul(4) / 3;
            let buckets = room.div_ceil(WAYS).next_power_of_two();
            self.buckets = vec![[Trace { fingerprint: 0, at: 0 }; WAYS]; buckets];
        }
        self.told = self.told.checked_add(1).unwrap_or(1);
        let (told, trace) = (self.told, Trace { fingerprint: hash as u32, at: self.told });
        let bucket = self.bucket(hash);
        let oldest = bucket.iter_mut().max_by_key(|place| match place {
            Trace { at: 0, .. } => u32::MAX,
            Trace { fingerprint, .. } if *fingerprint == trace.fingerprint => u32::MAX,
            Trace { at, .. } => told.wrapping_sub(*at),
        });
        if let Some(place) = oldest {
            *place = trace;
        }
    }

    /// Whether the hash is remembered; it is not any more.
    pub(super) fn recall(&mut self, hash: u64) -> bool {
        if self.buckets.is_empty() {
            return false;
        }
        let (told, span) = (self.told, self.span);
        let found = self.bucket(hash).iter_mut().find(|trace| trace.at != 0 && trace.fingerprint == hash as u32);
        found.is_some_and(|trace| {
            let at = std::mem::replace(&mut trace.at, 0);
            told.wrapping_sub(at) < span
        })
    }

    /// The fingerprint is the low half of the hash, so the bucket is from the other. There must be buckets.
    fn bucket(&mut self, hash: u64) -> &mut [Trace; WAYS] {
        let mask = self.buckets.len() - 1;
        &mut self.buckets[(hash >> 32) as usize & mask]
    }
}
