//! What this node has told of late, to be told again to a server that may have lost it: a master that was promoted, or restored.

use crate::clock::Moment;
use crate::key::Namespace;
use crate::partition::Partition;
use crate::remote::Invalidation;
use std::collections::VecDeque;
use std::time::Duration;

/// Longer than a replica lags, with the time in which a failover is noticed.
const KEPT_FOR: Duration = Duration::from_secs(30);
const MOST: usize = 100_000;

/// The last invalidations of a node, of 30 s and 100,000 keys at most.
#[derive(Debug, Default)]
pub(super) struct Replay {
    ring: VecDeque<(Moment, Namespace, Invalidation)>,
    /// The last clear of each namespace.
    clears: Vec<(Moment, Namespace)>,
    /// When the last entry had to go before its time.
    overflowed: Option<Moment>,
}

/// What is to be told again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// These keys.
    Keys(Vec<(Namespace, Vec<Invalidation>)>),
    /// More than were kept.
    All,
}

impl Replay {
    pub(super) fn note(&mut self, namespace: &Namespace, keys: &[Invalidation], now: Moment) {
        while self.ring.front().is_some_and(|(told, ..)| now.since(*told) >= KEPT_FOR) {
            self.ring.pop_front();
        }
        for key in keys {
            if self.ring.len() == MOST {
                self.ring.pop_front();
                self.overflowed = Some(now);
            }
            self.ring.push_back((now, namespace.clone(), key.clone()));
        }
    }

    /// A clear, of which a failover may have lost any part.
    pub(super) fn note_clear(&mut self, namespace: &Namespace, now: Moment) {
        self.clears.retain(|(told, of)| of != namespace && now.since(*told) < KEPT_FOR);
        self.clears.push((now, namespace.clone()));
    }

    /// The namespaces that were cleared of late.
    pub(super) fn clears(&self, now: Moment) -> Vec<Namespace> {
        let late = self.clears.iter().filter(|(told, _)| now.since(*told) < KEPT_FOR);
        late.map(|(_, namespace)| namespace.clone()).collect()
    }

    /// What was told of a partition, by namespace.
    pub(super) fn of(&self, partition: Partition, now: Moment) -> Again {
        if self.overflowed.is_some_and(|then| now.since(then) < KEPT_FOR) {
            return Again::All;
        }
        let mut keys: Vec<(Namespace, Vec<Invalidation>)> = Vec::new();
        for (told, namespace, key) in &self.ring {
            if key.key.partition() == partition && now.since(*told) < KEPT_FOR {
                match keys.iter_mut().find(|(of, _)| of == namespace) {
                    Some((_, keys)) => keys.push(key.clone()),
                    None => keys.push((namespace.clone(), vec![key.clone()])),
                }
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

    #[test]
    fn c6_what_was_told_in_the_last_30_s_is_told_again() {
        let namespace = Namespace::new("", "n").unwrap();
        let key = |key: u64| Invalidation { key: namespace.key(&key), version: Some(key) };
        let mut replay = Replay::default();
        replay.note(&namespace, &[key(1)], at(0));
        replay.note(&namespace, &[key(2)], at(20));
        let partition = |key: u64| namespace.key(&key).partition();
        assert_eq!(replay.of(partition(1), at(29)), Again::Keys(vec![(namespace.clone(), vec![key(1)])]));
        assert_eq!(replay.of(partition(1), at(30)), Again::Keys(vec![]));
        assert_eq!(replay.of(partition(2), at(30)), Again::Keys(vec![(namespace.clone(), vec![key(2)])]));
    }

    #[test]
    fn a_clear_of_the_last_30_s_is_remembered() {
        let (one, other) = (Namespace::new("", "n").unwrap(), Namespace::new("", "m").unwrap());
        let mut replay = Replay::default();
        replay.note_clear(&one, at(0));
        replay.note_clear(&one, at(10));
        replay.note_clear(&other, at(20));
        assert_eq!(replay.clears(at(39)), [one, other.clone()]);
        assert_eq!(replay.clears(at(40)), [other]);
    }

    #[test]
    fn more_than_is_kept_is_known_to_be_more() {
        let namespace = Namespace::new("", "n").unwrap();
        let key = Invalidation { key: namespace.key(&1), version: None };
        let mut replay = Replay::default();
        replay.note(&namespace, &vec![key.clone(); MOST + 1], at(0));
        assert_eq!(replay.of(key.key.partition(), at(1)), Again::All);
        assert_eq!(replay.of(key.key.partition(), at(30)), Again::Keys(vec![]));
        assert_eq!(replay.ring.len(), MOST);
    }
}
