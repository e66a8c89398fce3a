//! How long a value will live, and for how long Redis shall keep it.

use super::foreign;
use crate::script::{SCRIPTS, digits};
use crate::tier::RedisTier;
use crate::verbs::not_understood;
use cache_core::record::millis;
use cache_core::{RemoteKey, Result};
use std::time::Duration;

/// How much is left of a value's three lives, by Redis' clock; zero for a life that has ended. In whole milliseconds.
///
/// No life is longer than Redis will keep the value, which [`RedisTier::touch`] can make less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Remaining {
    /// For so long it is fresh.
    pub soft: Duration,
    /// For so long it is served, while it is refreshed once it is not fresh.
    pub hard: Duration,
    /// For so long it is served if the origin fails.
    pub last: Duration,
}

/// # Lives
///
/// Answers come from the record's header, by Redis' own time: no payload is read, so a payload that is damaged is not noticed.
impl RedisTier {
    /// Whether a read would find a value that may be served: before its hard life, fresh or not. One round trip.
    ///
    /// # Errors
    /// As [`remaining`](Self::remaining).
    pub async fn exists(&self, key: &RemoteKey) -> Result<bool> {
        Ok(self.remaining(key).await?.is_some_and(|left| !left.hard.is_zero()))
    }

    /// How long the key's value will live; `None` if it has none: absent, invalidated, past its last life, only a lease, or of a format that
    /// is newer than this reader. One round trip, whatever the value's size. Safe to cancel.
    ///
    /// ```no_run
    /// # async fn example(tier: cache_redis::RedisTier) -> cache_core::Result<()> {
    /// let key = cache_core::Namespace::new("shop", "product")?.key(&42);
    /// let fresh_for = tier.remaining(&key).await?.map(|left| left.soft);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Foreign`](cache_core::ErrorKind::Foreign): what stands under the key is not ours. Otherwise as
    /// [`RemoteTier::get`](cache_core::RemoteTier::get).
    pub async fn remaining(&self, key: &RemoteKey) -> Result<Option<Remaining>> {
        let mut call = SCRIPTS.remaining.call(1);
        call.arg(key.as_bytes()).arg(key.echo().as_bytes());
        let (word, lives) = self.run("remaining", self.deadline(), key.as_bytes(), &SCRIPTS.remaining, &call).await?;
        match &*word {
            b"value" => {
                let lives: &[u8; 18] = lives.as_ref().try_into().map_err(|_| not_understood())?;
                let life = |at: usize| {
                    let ms = lives[at..at + 6].iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte));
                    Duration::from_millis(ms)
                };
                Ok(Some(Remaining { soft: life(0), hard: life(6), last: life(12) }))
            }
            b"none" => Ok(None),
            b"foreign" => Err(foreign()),
            _ => Err(not_understood()),
        }
    }

    /// Has Redis forget the key's value in `keep` from now, sooner or later than so far, but never after its last life: a time to idle for L2,
    /// if it is called with each use. Returns how long the value is kept now, `None` if there is none. One round trip. `keep` is a
    /// millisecond at least.
    ///
    /// It makes no value fresh again: soft, hard and last life count from the load that made the value, and that is what bounds how long
    /// a change that nobody told of can stay unseen. To renew a value, load it.
    ///
    /// A value with a version, or one that is being refreshed, is not let go of sooner: its version is what holds off an older row that a
    /// lagging replica may still give. Cancelled, it may have happened or not; either is sound, and to repeat it too.
    ///
    /// ```no_run
    /// # async fn example(tier: cache_redis::RedisTier) -> cache_core::Result<()> {
    /// # use std::time::Duration;
    /// let key = cache_core::Namespace::new("shop", "session")?.key("s-1");
    /// let kept = tier.touch(&key, Duration::from_secs(600)).await?; // gone 10 minutes after its last use
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`remaining`](Self::remaining).
    pub async fn touch(&self, key: &RemoteKey, keep: Duration) -> Result<Option<Duration>> {
        let mut call = SCRIPTS.touch.call(1);
        call.arg(key.as_bytes()).arg(key.echo().as_bytes()).arg(millis(keep).max(1));
        let (word, kept) = self.run("touch", self.deadline(), key.as_bytes(), &SCRIPTS.touch, &call).await?;
        match &*word {
            b"kept" => {
                let ms = digits(&kept).ok_or_else(not_understood)?;
                Ok(Some(Duration::from_millis(ms)))
            }
            b"none" => Ok(None),
            b"foreign" => Err(foreign()),
            _ => Err(not_understood()),
        }
    }
}
