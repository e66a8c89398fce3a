//! What becomes of a value's bytes between its codec and its record: compressed, then sealed; and the way back.
//!
//! The order is fixed. What is sealed looks random and does not shrink, and a reader must not hand bytes to a decompressor
//! before it knows who wrote them.

// Without the features there is less to do, and less that can fail.
#![cfg_attr(
    not(all(feature = "encryption", any(feature = "lz4", feature = "zstd"))),
    allow(clippy::unused_self, clippy::unnecessary_wraps, unused_mut)
)]

#[cfg(any(feature = "lz4", feature = "zstd"))]
mod compression;
#[cfg(feature = "encryption")]
mod keyring;

#[cfg(any(feature = "lz4", feature = "zstd"))]
pub use compression::Compression;
#[cfg(feature = "encryption")]
pub use keyring::Keyring;

use crate::error::Result;
use crate::key::RemoteKey;
use crate::record::Body;
#[cfg(any(feature = "lz4", feature = "zstd", feature = "encryption"))]
use crate::record::Flags;
use std::borrow::Cow;

/// What a builder was told to do with payloads. Nothing, by default: the payload is what the codec wrote.
#[derive(Debug, Default)]
pub(crate) struct Packing {
    #[cfg(any(feature = "lz4", feature = "zstd"))]
    pub(crate) compression: Option<Compression>,
    #[cfg(feature = "encryption")]
    pub(crate) keyring: Option<Keyring>,
    /// No payload is decompressed to more than this. Known once the builder has checked itself.
    #[cfg(any(feature = "lz4", feature = "zstd"))]
    limit: usize,
}

/// Why a payload is not read. Each is a miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unpackable {
    /// It does not decompress to what it says, or not within the limit. The next load replaces it.
    #[cfg(any(feature = "lz4", feature = "zstd"))]
    Damaged,
    /// It was not sealed by one of our keys for this key and these fields. The next load replaces it.
    #[cfg(feature = "encryption")]
    Forged,
    /// It was sealed by a key that we no longer have. The next load replaces it.
    #[cfg(feature = "encryption")]
    OldKey,
    /// It was sealed by a key that we do not have yet. It is left alone, as a newer schema is.
    #[cfg(feature = "encryption")]
    NewKey,
    /// It needs what this node has not: an algorithm, or a keyring. It is left alone.
    Beyond,
}

impl Packing {
    /// Checks what the builder was told.
    pub(crate) fn checked(mut self, max_value_bytes: usize) -> Result<Self> {
        #[cfg(any(feature = "lz4", feature = "zstd"))]
        {
            self.limit = compression::limit(self.compression.as_ref(), max_value_bytes)?;
        }
        #[cfg(not(any(feature = "lz4", feature = "zstd")))]
        let _ = max_value_bytes;
        #[cfg(feature = "encryption")]
        if let Some(keyring) = &self.keyring {
            keyring.check()?;
        }
        Ok(self)
    }

    /// Turns a body whose payload is what the codec wrote into the one that is stored, under this version.
    ///
    /// Without a configuration it is the same body, and nothing is copied.
    ///
    /// # Errors
    /// [`ErrorKind::Codec`](crate::ErrorKind::Codec) if the system has no random bytes for a nonce.
    pub(crate) fn pack(&self, mut body: Body, version: u64, key: &RemoteKey) -> Result<Body> {
        #[cfg(any(feature = "lz4", feature = "zstd"))]
        if let Some(packed) = self.compression.as_ref().and_then(|compression| compression.pack(&body.payload)) {
            body.payload = packed.into();
            body.flags = body.flags | Flags::COMPRESSED;
        }
        #[cfg(feature = "encryption")]
        if let Some(keyring) = &self.keyring {
            // The flags are sealed in with the rest, so they are set first.
            body.flags = body.flags | Flags::ENCRYPTED;
            body.payload = keyring.seal(&body.payload, &keyring::context(&body, version, key))?.into();
        }
        #[cfg(not(feature = "encryption"))]
        let _ = (version, key);
        Ok(body)
    }

    /// What the codec wrote, from a stored body. A plain payload is borrowed.
    ///
    /// # Errors
    /// [`Unpackable`] says why it cannot be read.
    pub(crate) fn unpack<'a>(&self, body: &'a Body, version: u64, key: &RemoteKey) -> Result<Cow<'a, [u8]>, Unpackable> {
        if !body.flags.is_known() {
            return Err(Unpackable::Beyond);
        }
        let payload = Cow::Borrowed(&body.payload[..]);
        #[cfg(feature = "encryption")]
        let payload = match &self.keyring {
            Some(keyring) if body.flags.contains(Flags::ENCRYPTED) => {
                Cow::Owned(keyring.open(&payload, &keyring::context(body, version, key))?)
            }
            None if body.flags.contains(Flags::ENCRYPTED) => return Err(Unpackable::Beyond),
            // Whoever can write to L2 could otherwise store what he likes by leaving the flag out.
            Some(keyring) if !keyring.accepts_plain() => return Err(Unpackable::Forged),
            _ => payload,
        };
        #[cfg(any(feature = "lz4", feature = "zstd"))]
        let payload = match payload {
            payload if body.flags.contains(Flags::COMPRESSED) => Cow::Owned(compression::unpack(&payload, self.limit)?),
            payload => payload,
        };
        #[cfg(not(feature = "encryption"))]
        let _ = (version, key);
        Ok(payload)
    }
}

#[cfg(all(test, feature = "lz4", feature = "zstd", feature = "encryption"))]
mod tests;
