//! Compressed payloads: one byte that names the algorithm, the decompressed length in four, then the compressed bytes.

use super::Unpackable;
use crate::error::{Error, Result};

/// Nothing is decompressed to more than this, unless told: 8 MiB.
const DEFAULT_LIMIT: usize = 8 << 20;
/// Below it a few saved bytes are not worth the time: 1 KiB.
const DEFAULT_ABOVE: usize = 1 << 10;
const HEADER_LEN: usize = 5;

#[cfg(feature = "lz4")]
const LZ4: u8 = 1;
#[cfg(feature = "zstd")]
const ZSTD: u8 = 2;

/// Whether and how payloads are compressed on their way to L2 (features `lz4` and `zstd`). Off by default.
///
/// | option | default | meaning |
/// |---|---|---|
/// | [`above`](Self::above) | 1 KiB | only values that encode to more bytes are compressed |
/// | [`at_most`](Self::at_most) | 8 MiB, at least `max_value_bytes` | nothing is decompressed to more |
///
/// A payload that does not shrink by an eighth is stored as it is. What a payload claims to decompress to is held against
/// the limit before memory is allocated for it, and a claim that is not true is a miss, counted in
/// [`TierStats::unreadable`](crate::TierStats::unreadable).
///
/// The option is about writing. Every node whose build has the algorithm reads what others compressed, so it can be turned on
/// and off node by node. A node without it leaves such records alone: they are misses there, and are not written over.
///
/// A hit in L1 never sees compressed bytes. In L2 a hit costs one decompression, a load one compression; both run on
/// the runtime's thread. LZ4 compresses 4 KiB of JSON to two fifths in 10 µs and back in 2; zstd at level 1 to a quarter in
/// 30 and back in 16, of which ten go into its context, however small the value is.
///
/// # Secrets
/// Compression tells by its length what a value repeats. Who can place text of his own into a value beside a secret and sees the
/// lengths in L2 or on the wire can guess the secret (CRIME, BREACH), and [encryption](crate::Builder) does not hide the
/// length. Do not compress values that mix the two. Encryption alone never turns compression on.
///
/// ```
/// # #[cfg(feature = "lz4")] {
/// use cache_core::{Compression, EmbeddedTier, TieredCache};
///
/// let cache = TieredCache::<u64, String>::builder("page")
///     .l2(EmbeddedTier::new())
///     .compression(Compression::lz4().above(4_096))
///     .build()?;
/// # }
/// # Ok::<_, cache_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Compression {
    algorithm: Algorithm,
    above: usize,
    at_most: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Algorithm {
    #[cfg(feature = "lz4")]
    Lz4,
    #[cfg(feature = "zstd")]
    Zstd { level: i32 },
}

impl Compression {
    /// LZ4: the one to begin with.
    #[cfg(feature = "lz4")]
    pub fn lz4() -> Self {
        Self::new(Algorithm::Lz4)
    }

    /// Zstandard, at one of its own levels: 1 is fast, 3 its default, 22 the tightest, and those below zero are faster yet.
    /// Any other is an error of the builder.
    #[cfg(feature = "zstd")]
    pub fn zstd(level: i32) -> Self {
        Self::new(Algorithm::Zstd { level })
    }

    fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, above: DEFAULT_ABOVE, at_most: None }
    }

    /// Compresses only values that encode to more bytes than this.
    pub fn above(mut self, bytes: usize) -> Self {
        self.above = bytes;
        self
    }

    /// Decompresses nothing to more bytes than this. Not below [`max_value_bytes`](crate::Builder::max_value_bytes), or
    /// a node could not read what it wrote itself: that is an error of the builder. Alike on all nodes.
    pub fn at_most(mut self, bytes: usize) -> Self {
        self.at_most = Some(bytes);
        self
    }

    /// The compressed payload with its header; `None` where it is better stored as it is.
    pub(super) fn pack(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let len = u32::try_from(plain.len()).ok().filter(|_| plain.len() > self.above)?;
        let (name, room) = match self.algorithm {
            #[cfg(feature = "lz4")]
            Algorithm::Lz4 => (LZ4, lz4_flex::block::get_maximum_output_size(plain.len())),
            #[cfg(feature = "zstd")]
            Algorithm::Zstd { .. } => (ZSTD, zstd::zstd_safe::compress_bound(plain.len())),
        };
        let mut packed = vec![0; HEADER_LEN + room];
        packed[0] = name;
        packed[1..HEADER_LEN].copy_from_slice(&len.to_be_bytes());
        let (_, body) = packed.split_at_mut(HEADER_LEN);
        let written = match self.algorithm {
            #[cfg(feature = "lz4")]
            Algorithm::Lz4 => lz4_flex::block::compress_into(plain, body).ok()?,
            #[cfg(feature = "zstd")]
            Algorithm::Zstd { level } => zstd::bulk::compress_to_buffer(plain, body, level).ok()?,
        };
        packed.truncate(HEADER_LEN + written);
        (packed.len() <= plain.len() - plain.len() / 8).then_some(packed)
    }
}

/// What a node decompresses to at most, and whether that fits the rest of its configuration.
pub(super) fn limit(compression: Option<&Compression>, max_value_bytes: usize) -> Result<usize> {
    let Some(compression) = compression else { return Ok(DEFAULT_LIMIT.max(max_value_bytes)) };
    #[cfg(feature = "zstd")]
    if let Compression { algorithm: Algorithm::Zstd { level }, .. } = compression
        && !zstd::compression_level_range().contains(level)
    {
        return Err(Error::config("zstd has no such compression level: 1 to 22, or below zero for speed"));
    }
    match compression.at_most {
        Some(at_most) if at_most < max_value_bytes => {
            Err(Error::config("Compression::at_most lies below max_value_bytes: larger values would be stored and never read"))
        }
        Some(at_most) => Ok(at_most),
        None => Ok(DEFAULT_LIMIT.max(max_value_bytes)),
    }
}

/// The payload before it was compressed. Memory is allocated once the claimed length has passed for possible.
pub(super) fn unpack(packed: &[u8], limit: usize) -> Result<Vec<u8>, Unpackable> {
    let (&[name, claim @ ..], body) = packed.split_first_chunk::<HEADER_LEN>().ok_or(Unpackable::Damaged)?;
    let claim = u32::from_be_bytes(claim) as usize;
    if claim > limit {
        return Err(Unpackable::Damaged);
    }
    match name {
        #[cfg(feature = "lz4")]
        LZ4 => unpack_lz4(body, claim),
        #[cfg(feature = "zstd")]
        ZSTD => unpack_zstd(body, claim),
        _ => Err(Unpackable::Beyond),
    }
}

#[cfg(feature = "lz4")]
fn unpack_lz4(body: &[u8], claim: usize) -> Result<Vec<u8>, Unpackable> {
    // No byte of an LZ4 block stands for more than 255.
    if claim > body.len().saturating_mul(255) {
        return Err(Unpackable::Damaged);
    }
    let mut plain = vec![0; claim];
    match lz4_flex::block::decompress_into(body, &mut plain) {
        Ok(len) if len == claim => Ok(plain),
        _ => Err(Unpackable::Damaged),
    }
}

#[cfg(feature = "zstd")]
fn unpack_zstd(body: &[u8], claim: usize) -> Result<Vec<u8>, Unpackable> {
    // The frame says its length too. A lie would have to be told twice, and the limit holds all the same.
    if !matches!(zstd::zstd_safe::get_frame_content_size(body), Ok(Some(len)) if len == claim as u64) {
        return Err(Unpackable::Damaged);
    }
    let mut plain = Vec::with_capacity(claim);
    // It writes no further than the capacity, which the allocator may have rounded up.
    match zstd::bulk::Decompressor::new().and_then(|mut zstd| zstd.decompress_to_buffer(body, &mut plain)) {
        Ok(len) if len == claim => Ok(plain),
        _ => Err(Unpackable::Damaged),
    }
}
