//! What a store tells whoever listens to it.

use crate::partition::Partition;
use std::fmt;

/// Whoever hears what a store publishes.
pub trait Ear: Send + Sync + 'static {
    /// The store has confirmed that from now on everything published in these partitions comes.
    fn listening(&self, partitions: &[Partition]);

    /// Something may be missed in these partitions from now on, or may have been already: the connection has ended, was silent, or is to another server
    /// than has them now.
    fn deaf(&self, partitions: &[Partition]);

    /// A message of a partition.
    fn hear(&self, partition: Partition, message: &[u8]);

    /// What the store has under this key, as it is written there, was changed or has ended, whoever did it. A store that tracks writes says so of each,
    /// those of its listeners too; in no order with messages.
    fn changed(&self, key: &[u8]);

    /// The same of any keys of these partitions. A store that tracks writes says so before it is [`listening`](Self::listening), for it cannot know what
    /// was changed unseen.
    fn may_have_changed(&self, partitions: &[Partition]);
}

/// A subscription; it ends when this is dropped.
pub struct Listening {
    _ends: Box<dyn Send + Sync>,
}

impl Listening {
    /// One that ends when `ends` is dropped.
    pub fn new(ends: impl Send + Sync + 'static) -> Self {
        Self { _ends: Box::new(ends) }
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").finish_non_exhaustive()
    }
}
