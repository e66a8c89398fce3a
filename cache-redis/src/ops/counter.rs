//! Counters: a kind of their own beside records, in keys that no record has.

use super::foreign;
use crate::error::{from_driver, is_wrong_type};
use crate::multiplexer::Request;
use crate::script::SCRIPTS;
use crate::tier::{RedisTier, failed, read};
use crate::verbs::not_understood;
use bytes::Bytes;
use cache_core::record::millis;
use cache_core::{Error, ErrorKind, RemoteKey, Result};
use futures_util::future::join_all;
use std::time::Duration;
use std::time::Instant;

/// # Counters
///
/// A counter is a plain Redis integer of 64 bits with a TTL, in the same slot as the record of its key, but under a Redis key of its own: a
/// `+` stands where a record has a `:`. So a key may have a value and a counter, a read never takes one for the other, and neither
/// `invalidate` nor `clear` touches a counter. Counts are Redis' own, not exact: a failover may lose the latest, and an eviction any.
///
/// How often a client has called in this minute, and how often a name was mentioned:
///
/// ```no_run
/// # async fn example(tier: cache_redis::RedisTier, client: &str, minute: u64) -> cache_core::Result<()> {
/// use cache_core::Namespace;
/// use std::time::Duration;
///
/// let rates = Namespace::new("shop", "rate")?;
/// let calls = tier.increment(&rates.key(&(client, minute)), 1, Duration::from_secs(120)).await?;
/// let allowed = calls <= 100;
///
/// let mentions = Namespace::new("shop", "mentions")?;
/// tier.increment_many(&[(mentions.key("ferris"), 2), (mentions.key("corro"), 1)], Duration::from_secs(86_400)).await;
/// let stored = tier.reset_counter(&mentions.key("ferris")).await?; // what there was, for a table
/// # Ok(())
/// # }
/// ```
impl RedisTier {
    /// Adds to a counter, which begins at zero, and returns the sum. The TTL is set with the first increment, in the same script, and later
    /// ones leave it as it is: a window of that length begins with its first event. At least a millisecond.
    ///
    /// One round trip, about as dear to Redis as a release. Ends within the tier's timeout. A call that is cancelled, or that
    /// fails with [`Timeout`](ErrorKind::Timeout) or [`Unavailable`](ErrorKind::Unavailable), may have counted: it is not repeated
    /// by itself.
    ///
    /// # Errors
    /// [`ErrorKind::Foreign`]: what stands under the counter's key is no integer; it was left as it is. [`ErrorKind::TooLarge`]: the sum
    /// would not fit; nothing was added. Otherwise as [`RemoteTier::put`](cache_core::RemoteTier::put).
    pub async fn increment(&self, key: &RemoteKey, by: i64, ttl: Duration) -> Result<i64> {
        self.increment_by(self.deadline(), key, by, ttl).await
    }

    /// Adds to many counters, a result for each in their order. They go together, within one timeout; none waits for another's node.
    ///
    /// A key that is named twice is counted twice. A counter each is atomic, all of them are not.
    ///
    /// # Errors
    /// For each counter as for [`increment`](Self::increment).
    pub async fn increment_many(&self, counts: &[(RemoteKey, i64)], ttl: Duration) -> Vec<Result<i64>> {
        let deadline = self.deadline();
        join_all(counts.iter().map(|(key, by)| self.increment_by(deadline, key, *by, ttl))).await
    }

    /// What a counter stands at; `None` if it has never been incremented, or not within its TTL. One GET.
    ///
    /// # Errors
    /// [`ErrorKind::Foreign`]: what stands under the counter's key is no integer. Otherwise as
    /// [`RemoteTier::get`](cache_core::RemoteTier::get).
    pub async fn counter(&self, key: &RemoteKey) -> Result<Option<i64>> {
        self.read_counter(self.deadline(), key).await
    }

    /// What many counters stand at, a result for each in their order. They go together, within one timeout.
    ///
    /// # Errors
    /// For each counter as for [`counter`](Self::counter).
    pub async fn counters(&self, keys: &[RemoteKey]) -> Vec<Result<Option<i64>>> {
        let deadline = self.deadline();
        join_all(keys.iter().map(|key| self.read_counter(deadline, key))).await
    }

    /// Removes a counter and returns what it stood at, in one step: no increment falls in between. The next increment begins at zero, with its
    /// own TTL.
    ///
    /// Whoever cancels it may lose the count: it may be removed without being told.
    ///
    /// # Errors
    /// As [`counter`](Self::counter); what is foreign is left as it is.
    pub async fn reset_counter(&self, key: &RemoteKey) -> Result<Option<i64>> {
        let key = counter_key(key);
        let mut call = SCRIPTS.reset.call(1);
        call.arg(&key[..]);
        let (word, count) = self.run("reset_counter", self.deadline(), &key, &SCRIPTS.reset, &call).await?;
        match &*word {
            b"counted" => parse(&count).map(Some),
            b"absent" => Ok(None),
            b"foreign" => Err(foreign()),
            _ => Err(not_understood()),
        }
    }

    async fn increment_by(&self, deadline: Instant, key: &RemoteKey, by: i64, ttl: Duration) -> Result<i64> {
        let key = counter_key(key);
        let mut call = SCRIPTS.increment.call(1);
        call.arg(&key[..]).arg(by).arg(millis(ttl).max(1));
        let (word, sum) = self.run("increment", deadline, &key, &SCRIPTS.increment, &call).await?;
        match &*word {
            b"counted" => parse(&sum),
            b"full" => Err(Error::new(ErrorKind::TooLarge, "the counter's sum does not fit 64 bits")),
            b"foreign" => Err(foreign()),
            _ => Err(not_understood()),
        }
    }

    async fn read_counter(&self, deadline: Instant, key: &RemoteKey) -> Result<Option<i64>> {
        let key = counter_key(key);
        let mut cmd = redis::cmd("GET");
        cmd.arg(&key[..]);
        let called = self.nodes().send(deadline, &key, Request::Run(&cmd)).await;
        let count = called.and_then(|called| match called.reply {
            Err(err) if is_wrong_type(&err) => Err(foreign()),
            Err(err) => Err(from_driver(&err)),
            reply => read::<Option<Bytes>>(reply)?.map(|count| parse(&count)).transpose(),
        });
        count.inspect_err(|err| failed("counter", err))
    }
}

/// The counter's Redis key, `prefix{tag}+name:key`: another than any record's, and in the slot of the record's own.
fn counter_key(key: &RemoteKey) -> Vec<u8> {
    let mut bytes = key.as_bytes().to_vec();
    // The first brace that closes is the tag's, for a prefix holds none. A colon follows it.
    if let Some(colon) = bytes.iter().position(|byte| *byte == b'}').and_then(|close| bytes.get_mut(close + 1)) {
        *colon = b'+';
    }
    bytes
}

fn parse(count: &[u8]) -> Result<i64> {
    std::str::from_utf8(count).ok().and_then(|count| count.parse().ok()).ok_or_else(foreign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::slot_of;
    use cache_core::Namespace;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_counter_s_key_is_no_record_s_and_no_other_counter_s(one in ".{0,20}|x{250}", other in ".{0,20}|x{250}") {
            let namespace = Namespace::new("app", "count").unwrap();
            let (one, other) = (namespace.key(&one), namespace.key(&other));
            let (counter, another) = (counter_key(&one), counter_key(&other));
            prop_assert!(!namespace.contains(&counter));
            prop_assert!(counter != other.as_bytes());
            prop_assert_eq!(counter == another, one == other);
            prop_assert_eq!(slot_of(&counter), slot_of(one.as_bytes()));
        }
    }

    #[test]
    fn what_is_no_number_of_64_bits_is_foreign() {
        assert_eq!(parse(b"-9223372036854775808").unwrap(), i64::MIN);
        for text in ["", "9223372036854775808", "1.5", " 1", "\u{661}"] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().kind(), ErrorKind::Foreign, "{text}");
        }
    }
}
