//! Sealed payloads: the key's number in four bytes, a nonce in 24, the encrypted bytes, a tag in 16.

use super::Unpackable;
use crate::error::{Error, ErrorKind, Result};
use crate::key::RemoteKey;
use crate::record::Body;
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};
use std::fmt;
use std::sync::Arc;

const NUMBER_LEN: usize = 4;
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
const HEADER_LEN: usize = NUMBER_LEN + NONCE_LEN;

/// Stands before what is sealed in, so that a key which is used elsewhere too seals nothing that passes for a payload.
const DOMAIN: &[u8] = b"cachestack payload 1";

/// The keys that seal and open payloads in L2 (feature `encryption`): XChaCha20-Poly1305, a random nonce for each value.
///
/// Who reads L2 learns keys, lengths and times, not values. Who writes to L2 can make values disappear, and no more: a
/// payload that was not sealed by one of these keys, for this very key of the cache, version, schema, generation, codec and
/// life, is a miss. It is counted in [`TierStats::forged`](crate::TierStats::forged), and the next load replaces it.
///
/// **What it cannot tell:** who writes to L2 can put back an older value of the same key and version, with a younger
/// date: Redis stamps the dates, and has no key. In a [`versioned`](crate::Builder::versioned) cache an old value so comes back
/// as its old version. A [`schema`](crate::Builder::schema) that rises shuts out all that was sealed before.
///
/// # Rotation
/// One key seals, all open. Give all nodes the new key with [`opens`](Self::opens), then let it seal, and take the old one away
/// once its values' lives are over; so nothing is missed.
///
/// Numbers only rise, each key's above those before. A record under a number above all that a node has was sealed by a
/// later deployment, and is left alone; one under a lower number that it has not was sealed by a key that was taken away,
/// and the next load replaces it. Both are misses, counted in [`TierStats::unknown_key`](crate::TierStats::unknown_key).
///
/// # Turning it on, and off
/// Plain records are refused, or leaving the flag out would get around it all. Nodes without a keyring leave sealed records
/// alone and cannot read them. On: give the nodes the keyring; [`accept_plain`](Self::accept_plain) while values from before are still
/// to be read. Off: raise the [`schema`](crate::Builder::schema) as the keyring goes, or sealed records stay misses until they
/// expire.
///
/// # Cost
/// 44 bytes a value. To seal or open takes about three microseconds and two more for each KiB, on the runtime's thread, behind the
/// 70 that Redis takes; a hit in L1 is not touched. Lengths are not hidden: see [secrets](crate::Compression#secrets) before you compress as well.
///
/// Keys do not show in `Debug`, and are overwritten when the last clone of the ring goes. The caller's own copy is the caller's.
///
/// ```
/// use cache_core::{EmbeddedTier, Keyring, TieredCache};
///
/// # let (key_of_may, key_of_june) = ([5; 32], [6; 32]);
/// let cache = TieredCache::<u64, String>::builder("session")
///     .l2(EmbeddedTier::new())
///     .encryption(Keyring::new(6, &key_of_june).opens(5, &key_of_may))
///     .build()?;
/// # Ok::<_, cache_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Keyring {
    /// The first seals. Behind pointers, so that a growing ring leaves no copies of keys behind.
    keys: Vec<(u32, Arc<XChaCha20Poly1305>)>,
    accept_plain: bool,
}

impl Keyring {
    /// A ring of one key, which seals and opens. The key is 32 bytes of a cryptographic random source or key derivation, not a
    /// password.
    pub fn new(number: u32, key: &[u8; 32]) -> Self {
        Self { keys: Vec::new(), accept_plain: false }.opens(number, key)
    }

    /// Adds a key that only opens: the last one, or the next. A number that is there already is an error of the builder.
    pub fn opens(mut self, number: u32, key: &[u8; 32]) -> Self {
        self.keys.push((number, Arc::new(XChaCha20Poly1305::new(key.into()))));
        self
    }

    /// Whether plain records are read as well, as long as values from before the encryption are alive. `false` by default.
    /// While it is `true`, who can write to L2 can forge values.
    pub fn accept_plain(mut self, accept: bool) -> Self {
        self.accept_plain = accept;
        self
    }

    pub(super) fn accepts_plain(&self) -> bool {
        self.accept_plain
    }

    pub(super) fn check(&self) -> Result<()> {
        for (at, (number, _)) in self.keys.iter().enumerate() {
            if self.keys[..at].iter().any(|(other, _)| other == number) {
                return Err(Error::config("the keyring has two keys of one number: a record names its key by it"));
            }
        }
        Ok(())
    }

    /// Seals a payload. `context` is sealed in with it and not stored.
    pub(super) fn seal(&self, plain: &[u8], context: &[u8]) -> Result<Vec<u8>> {
        let (number, cipher) = &self.keys[0];
        // Of 192 random bits none ever comes twice, so no count has to be kept that a restart could lose.
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce)
            .map_err(|_| Error::new(ErrorKind::Codec, "the value could not be sealed: the system has no random bytes"))?;
        let mut sealed = Vec::with_capacity(HEADER_LEN + plain.len() + TAG_LEN);
        sealed.extend_from_slice(&number.to_be_bytes());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let tag = cipher
            .encrypt_inout_detached(&XNonce::from(nonce), context, (&mut sealed[HEADER_LEN..]).into())
            .map_err(|_| Error::new(ErrorKind::Codec, "the value could not be sealed: it is too large"))?;
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Opens what one of these keys sealed with the same context.
    pub(super) fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Vec<u8>, Unpackable> {
        let (number, rest) = sealed.split_first_chunk::<NUMBER_LEN>().ok_or(Unpackable::Forged)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(Unpackable::Forged)?;
        let (body, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(Unpackable::Forged)?;
        let number = u32::from_be_bytes(*number);
        let Some((_, cipher)) = self.keys.iter().find(|(other, _)| *other == number) else {
            let newer = self.keys.iter().all(|(other, _)| *other < number);
            return Err(if newer { Unpackable::NewKey } else { Unpackable::OldKey });
        };
        let mut plain = body.to_vec();
        cipher
            .decrypt_inout_detached(&XNonce::from(*nonce), context, plain.as_mut_slice().into(), &Tag::from(*tag))
            .map_err(|_| Unpackable::Forged)?;
        Ok(plain)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<_> = self.keys.iter().map(|(number, _)| number).collect();
        f.debug_struct("Keyring").field("numbers", &numbers).field("accept_plain", &self.accept_plain).finish()
    }
}

/// What is sealed in with a payload: all of the record that its writer decides, and the whole key.
///
/// The version is in it: no script changes the version of a value, and a value that could be lifted to a higher one would
/// survive invalidations. State, token, deadline and created are not: the scripts write them, and have no key. The lengths of
/// all parts but the last are fixed, so no two contexts are the same bytes.
pub(super) fn context(body: &Body, version: u64, key: &RemoteKey) -> Vec<u8> {
    let mut context = Vec::with_capacity(DOMAIN.len() + 64 + key.as_bytes().len());
    context.extend_from_slice(DOMAIN);
    body.encode_fields(&mut context);
    context.extend_from_slice(&version.to_be_bytes());
    context.extend_from_slice(key.as_bytes());
    context
}
