//! What came back from many shards.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::shard::ShardId;

/// Why a shard gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShardError<E> {
    /// The closure returned this error; it is the [`source`](Error::source).
    Failed(E),
    /// The shard took longer than the deadline. Whether a write happened there is unknown.
    DeadlineExceeded {
        /// The deadline that it missed.
        deadline: Duration,
    },
    /// The closure panicked. The panic's own text went where the program's panics go; it is not kept, because it can quote data.
    Panicked,
    /// The runtime shut down before the shard answered.
    Cancelled,
}

impl<E> ShardError<E> {
    /// The closure's own error, if it was one.
    pub fn into_failed(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

impl<E> fmt::Display for ShardError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(_) => f.write_str("the shard could not answer"),
            Self::DeadlineExceeded { deadline } => write!(f, "the shard did not answer within {deadline:?}"),
            Self::Panicked => f.write_str("the code that asked the shard panicked"),
            Self::Cancelled => f.write_str("the runtime shut down before the shard answered"),
        }
    }
}

impl<E: Error + 'static> Error for ShardError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

/// One shard's part of a scatter over all shards.
#[derive(Clone, Debug)]
pub struct ShardAnswer<T, E> {
    /// Which shard.
    pub shard: ShardId,
    /// Its answer, or why there is none.
    pub result: Result<T, ShardError<E>>,
}

/// The answers of all shards, by index: one for each shard, whatever happened to it.
#[derive(Clone, Debug)]
#[must_use = "some shards may have failed"]
pub struct Gathered<T, E> {
    answers: Vec<ShardAnswer<T, E>>,
}

impl<T, E> Gathered<T, E> {
    pub(crate) fn new(answers: Vec<ShardAnswer<T, E>>) -> Self {
        Self { answers }
    }

    /// Each shard's result.
    pub fn answers(&self) -> &[ShardAnswer<T, E>] {
        &self.answers
    }

    /// Each shard's result, by value.
    pub fn into_answers(self) -> Vec<ShardAnswer<T, E>> {
        self.answers
    }

    /// What the shards that answered said.
    pub fn successes(&self) -> impl Iterator<Item = &T> {
        self.answers.iter().filter_map(|answer| answer.result.as_ref().ok())
    }

    /// The shards that did not answer, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&ShardId, &ShardError<E>)> {
        self.answers.iter().filter_map(|answer| answer.result.as_ref().err().map(|error| (&answer.shard, error)))
    }

    /// The answers if every shard gave one, else the first shard that did not: for questions that half an answer does not serve.
    ///
    /// # Errors
    ///
    /// The first failed shard, by index, with its error.
    pub fn complete(self) -> Result<Vec<T>, (ShardId, ShardError<E>)> {
        self.answers.into_iter().map(|answer| answer.result.map_err(|error| (answer.shard, error))).collect()
    }
}

/// One shard's part of a scatter over keys.
#[derive(Clone, Debug)]
pub struct KeysAnswer<K, T, E> {
    /// Which shard.
    pub shard: ShardId,
    /// The keys it was asked for.
    pub keys: Arc<[K]>,
    /// Its answer, or why there is none.
    pub result: Result<T, ShardError<E>>,
}

/// The answers of the shards that hold some keys, by index: one for each shard that was asked.
#[derive(Clone, Debug)]
#[must_use = "some shards may have failed"]
pub struct GatheredKeys<K, T, E> {
    answers: Vec<KeysAnswer<K, T, E>>,
}

impl<K, T, E> GatheredKeys<K, T, E> {
    pub(crate) fn new(answers: Vec<KeysAnswer<K, T, E>>) -> Self {
        Self { answers }
    }

    /// Each shard's result.
    pub fn answers(&self) -> &[KeysAnswer<K, T, E>] {
        &self.answers
    }

    /// Each shard's result, by value.
    pub fn into_answers(self) -> Vec<KeysAnswer<K, T, E>> {
        self.answers
    }

    /// Brings the shards' rows together by key, where a shard's answer is its rows: pairs of a key and a value.
    ///
    /// Every key asked for ends in exactly one place: found, absent (its shard answered without it), or failed (its shard did not answer, so
    /// nothing is known of it). Rows of keys that their shard was not asked for are left out; of two rows of one key the last counts.
    pub fn merge<V>(self) -> Merged<K, V, E>
    where
        K: Eq + Hash + Clone,
        T: IntoIterator<Item = (K, V)>,
    {
        let mut merged = Merged { found: HashMap::new(), absent: HashSet::new(), failed: Vec::new() };
        for KeysAnswer { shard, keys, result } in self.answers {
            match result {
                Ok(rows) => {
                    merged.absent.extend(keys.iter().cloned());
                    let asked: HashSet<&K> = keys.iter().collect();
                    for (key, value) in rows {
                        if asked.contains(&key) {
                            merged.absent.remove(&key);
                            merged.found.insert(key, value);
                        }
                    }
                }
                Err(error) => merged.failed.push(FailedKeys { shard, keys, error }),
            }
        }
        merged
    }
}

/// The answers to a scatter by key. Made by [`GatheredKeys::merge`].
#[derive(Clone, Debug)]
#[must_use = "some keys may have failed"]
pub struct Merged<K, V, E> {
    /// The values that were found.
    pub found: HashMap<K, V>,
    /// The keys whose shard answered and has no row of them. Only these may be taken for "does not exist".
    pub absent: HashSet<K>,
    /// The keys of which nothing is known, by shard. Empty when every shard answered.
    pub failed: Vec<FailedKeys<K, E>>,
}

/// The keys of a shard that did not answer.
#[derive(Clone, Debug)]
pub struct FailedKeys<K, E> {
    /// Which shard.
    pub shard: ShardId,
    /// The keys it was asked for.
    pub keys: Arc<[K]>,
    /// Why it did not answer.
    pub error: ShardError<E>,
}

impl<K, V, E> Merged<K, V, E> {
    /// Every failed key with its shard's failure.
    pub fn failed_keys(&self) -> impl Iterator<Item = (&K, &FailedKeys<K, E>)> {
        self.failed.iter().flat_map(|failed| failed.keys.iter().map(move |key| (key, failed)))
    }

    /// Whether every shard that was asked answered.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }
}
