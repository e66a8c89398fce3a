//! What this node has told of late, to be told again to a server that may have lost it: a master that was promoted, or restored.
//!
//! A replica lags by seconds. But a failover may take long to come, so what counts is not how long ago something was told, but for how long after that the server which was
//! told has answered polls.

use crate::clock::Moment;
use crate::key::Namespace;
use crate::partition::{PARTITIONS, Partition};
use crate::remote::Invalidation;
use std::collections::VecDeque;
use std::time::Duration;

/// Longer than a replica lags behind a master that answers.
const KEPT_FOR: Duration = Duration::from_secs(30);
const MOST: usize = 100_000;

/// The invalidations of a node that a failover may have lost: those of the last 30 s in which their server answered, and 100,000 of all servers at most.
#[derive(Debug)]
pub(super) struct Replay {
    partitions: Box<[Told]>,
    /// How many keys there are in all.
    kept: usize,
    /// The last clear of each namespace.
    clears: Vec<(Moment, Namespace)>,
    /// What has to be told again: partitions, and namespaces that were cleared.
    owed: Owed,
}

#[derive(Debug, Default)]
struct Told {
    keys: VecDeque<(Moment, Namespace, Invalidation)>,
    /// When the last poll was sent that the server has answered which was told all this.
    answered: Moment,
    /// When the last of them had to go before its time.
    overflowed: Option<Moment>,
}

/// See [`Replay`].
#[derive(Debug, Default)]
struct Owed {
    partitions: Vec<Partition>,
    clears: Vec<Namespace>,
}

/// What is to be told again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// These keys.
    Keys(Vec<(Namespace, Vec<Invalidation>)>),
    /// More than were kept.
    All,
}

impl Default for Replay {
    fn default() -> Self {
        let partitions = (0..PARTITIONS).map(|_| Told::default()).collect();
        Self { partitions, kept: 0, clears: Vec::new(), owed: Owed::default() }
    }
}

impl Told {
    fn is_safe(&self, told: Moment) -> bool {
        self.answered.since(told) >= KEPT_FOR
    }

    /// Forgets what is safe, and says how much that was.
    fn prune(&mut self) -> usize {
        let kept = self.keys.len();
        while self.keys.front().is_some_and(|(then, ..)| self.is_safe(*then)) {
            self.keys.pop_front();
        }
        kept - self.keys.len()
    }
}

impl Replay {
    pub(super) fn note(&mut self, namespace: &Namespace, keys: &[Invalidation], now: Moment) {
        for key in keys {
            let at = usize::from(key.key.partition().index());
            self.kept -= self.partitions[at].prune();
            if self.kept >= MOST {
                self.kept -= self.partitions.iter_mut().map(Told::prune).sum::<usize>();
            }
            let told = &mut self.partitions[at];
            if self.kept >= MOST {
                // Its own oldest: other partitions' are none of its server's.
                told.overflowed = Some(now);
                if told.keys.pop_front().is_none() {
                    continue;
                }
                self.kept -= 1;
            }
            told.keys.push_back((now, namespace.clone(), key.clone()));
            self.kept += 1;
        }
    }

    /// A clear, of which a failover may have lost any part.
    pub(super) fn note_clear(&mut self, namespace: &Namespace, now: Moment) {
        let answered = self.all_answered();
        self.clears.retain(|(told, of)| of != namespace && answered.since(*told) < KEPT_FOR);
        self.clears.push((now, namespace.clone()));
    }

    /// A partition's server has answered a poll that was sent then. If it is another one than before, all is owed that it may not have.
    pub(super) fn answered(&mut self, partition: Partition, is_another: bool, sent: Moment) {
        if is_another && !self.owed.partitions.contains(&partition) {
            self.owed.partitions.push(partition);
            let answered = self.all_answered();
            for (_, namespace) in self.clears.iter().filter(|(told, _)| answered.since(*told) < KEPT_FOR) {
                if !self.owed.clears.contains(namespace) {
                    self.owed.clears.push(namespace.clone());
                }
            }
        }
        // What is owed does not get older.
        if !self.owed.partitions.contains(&partition) {
            self.partitions[usize::from(partition.index())].answered = sent;
        }
    }

    fn all_answered(&self) -> Moment {
        self.partitions.iter().map(|told| told.answered).min().unwrap_or_default()
    }

    /// What is owed now, until it was [told](Self::told_again) or [cleared](Self::cleared_again).
    pub(super) fn owed(&self) -> (Vec<Partition>, Vec<Namespace>) {
        (self.owed.partitions.clone(), self.owed.clears.clone())
    }

    /// It was told again.
    pub(super) fn told_again(&mut self, partition: Partition) {
        self.owed.partitions.retain(|owed| *owed != partition);
    }

    /// It was cleared again.
    pub(super) fn cleared_again(&mut self, namespace: &Namespace) {
        self.owed.clears.retain(|owed| owed != namespace);
    }

    /// What was told of a partition, by namespace.
    pub(super) fn of(&self, partition: Partition) -> Again {
        let told = &self.partitions[usize::from(partition.index())];
        if told.overflowed.is_some_and(|then| !told.is_safe(then)) {
            return Again::All;
        }
        let mut keys: Vec<(Namespace, Vec<Invalidation>)> = Vec::new();
        for (_, namespace, key) in told.keys.iter().filter(|(then, ..)| !told.is_safe(*then)) {
            match keys.iter_mut().find(|(of, _)| of == namespace) {
                Some((_, keys)) => keys.push(key.clone()),
                None => keys.push((namespace.clone(), vec![key.clone()])),
            }
        }
        Again::Keys(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::ORIGIN.after(Duration::from_secs(seconds))
    }

    fn namespace() -> Namespace {
        Namespace::new("", "n").unwrap()
    }

    fn key(key: u64) -> Invalidation {
        Invalidation { key: namespace().key(&key), version: Some(key) }
    }

    fn partition(key: u64) -> Partition {
        namespace().key(&key).partition()
    }

    fn keys(replay: &Replay, of: u64) -> Vec<Invalidation> {
        match replay.of(partition(of)) {
            Again::Keys(keys) => keys.into_iter().flat_map(|(_, keys)| keys).collect(),
            Again::All => panic!("it has overflowed"),
        }
    }

    #[test]
    fn c6_what_was_told_in_the_last_30_s_in_which_the_server_answered_is_told_again() {
        let mut replay = Replay::default();
        replay.note(&namespace(), &[key(1)], at(0));
        replay.answered(partition(1), false, at(29));
        assert_eq!(keys(&replay, 1), [key(1)]);
        replay.answered(partition(1), false, at(30));
        assert_eq!(keys(&replay, 1), []);
    }

    #[test]
    fn c6_a_failover_that_takes_minutes_to_come_is_told_what_was_told_before_it() {
        let mut replay = Replay::default();
        replay.answered(partition(1), false, at(0));
        replay.note(&namespace(), &[key(1)], at(1));
        // The master dies at 1 s, and there is another one at 100 s.
        replay.answered(partition(1), true, at(100));
        assert_eq!(replay.owed().0, [partition(1)]);
        assert_eq!(keys(&replay, 1), [key(1)]);
        // It cannot be told before 200 s.
        replay.answered(partition(1), false, at(200));
        replay.note(&namespace(), &[key(1)], at(200));
        assert_eq!(keys(&replay, 1), [key(1), key(1)]);
        replay.told_again(partition(1));
        assert!(replay.owed().0.is_empty());
        replay.answered(partition(1), false, at(231));
        assert_eq!(keys(&replay, 1), []);
    }

    #[test]
    fn a_clear_is_owed_to_another_server_until_it_is_told_again() {
        let (one, other) = (namespace(), Namespace::new("", "m").unwrap());
        let mut replay = Replay::default();
        let all_answer = |replay: &mut Replay, then| {
            (0..=u8::MAX).for_each(|index| replay.answered(Partition::from_index(index), false, then));
        };
        replay.note_clear(&one, at(0));
        replay.note_clear(&one, at(10));
        all_answer(&mut replay, at(39));
        replay.answered(partition(1), true, at(40));
        assert_eq!(replay.owed().1, std::slice::from_ref(&one));
        replay.cleared_again(&one);
        replay.told_again(partition(1));
        all_answer(&mut replay, at(40));
        replay.note_clear(&other, at(41));
        replay.answered(partition(1), true, at(42));
        assert_eq!(replay.owed().1, [other]);
    }

    #[test]
    fn more_than_is_kept_is_known_to_be_more() {
        let mut replay = Replay::default();
        replay.note(&namespace(), &vec![key(1); MOST + 1], at(0));
        assert_eq!((replay.of(partition(1)), replay.kept), (Again::All, MOST));
        // Another partition has no room either, and says so.
        replay.note(&namespace(), &[key(2)], at(1));
        assert_eq!((replay.of(partition(2)), replay.kept), (Again::All, MOST));
        replay.answered(partition(1), false, at(30));
        assert_eq!(replay.of(partition(1)), Again::Keys(vec![]));
        replay.note(&namespace(), &[key(1)], at(30));
        assert_eq!(replay.kept, 1);
    }
}
