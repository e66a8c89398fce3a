//! What this node has told of late, to be told again to a server that may have lost it: a master that was promoted, or restored.
//!
//! A replica lags by seconds. But a failover may take long to come, so what counts is not how long ago something was told, but for how long after that the server which was
//! told has answered polls.

use crate::clock::Moment;
use crate::key::{Namespace, RemoteKey};
use crate::partition::{PARTITIONS, Partition};
use crate::remote::Invalidation;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Longer than a replica lags behind a master that answers.
const KEPT_FOR: Duration = Duration::from_secs(30);
const MOST: usize = 100_000;
/// Keys that are told in one call: some milliseconds for a server.
const LOT: usize = 500;

/// The invalidations of a node that a failover may have lost: those of the last 30 s in which their server answered, and 100,000 of all servers at most.
#[derive(Debug)]
pub(super) struct Replay {
    partitions: Box<[Told]>,
    /// How many keys there are in all.
    kept: usize,
    /// The last clear of each namespace.
    clears: Vec<(Moment, Namespace)>,
    /// Namespaces that have to be cleared again, and how often that came up.
    owed: Vec<(Namespace, u64)>,
    /// See [`servers`](Self::servers).
    servers: u64,
}

/// What was told of a partition.
#[derive(Debug, Default)]
struct Told {
    /// Those that are owed come first; behind them in the order in which they were told.
    keys: VecDeque<Key>,
    /// How many are owed.
    owed: usize,
    /// Counts its servers.
    server: u64,
    /// When the last poll was sent that the server has answered which was told all this.
    answered: Moment,
    /// Namespaces of which some had to go before their time, and when the last of them did.
    overflowed: Vec<(Moment, Namespace)>,
}

#[derive(Debug)]
struct Key {
    told: Moment,
    namespace: Namespace,
    what: Invalidation,
}

/// Keys of one namespace that are owed to the server of a partition.
#[derive(Debug)]
pub(super) struct Lot {
    pub(super) namespace: Namespace,
    pub(super) keys: Vec<Invalidation>,
    server: u64,
}

impl Default for Replay {
    fn default() -> Self {
        let partitions = (0..PARTITIONS).map(|_| Told::default()).collect();
        Self { partitions, kept: 0, clears: Vec::new(), owed: Vec::new(), servers: 0 }
    }
}

impl Told {
    /// Whether its server has answered for long enough since.
    fn is_safe(&self, told: Moment) -> bool {
        self.answered.since(told) >= KEPT_FOR
    }

    /// Forgets what is safe, and says how much that was.
    fn prune(&mut self) -> usize {
        let kept = self.keys.len();
        // What is owed keeps all that came later: it is not for long.
        while self.owed == 0 && self.keys.front().is_some_and(|key| self.is_safe(key.told)) {
            self.keys.pop_front();
        }
        kept - self.keys.len()
    }

    /// Owes all that is not safe, each key once: without a version if it was ever told so, which is the stronger, else with the latest. Returns how many went by that.
    fn owe_all(&mut self, now: Moment) -> usize {
        self.owed = 0;
        self.server += 1;
        let pruned = self.prune();
        let kept = self.keys.len();
        let mut once: BTreeMap<RemoteKey, (Namespace, Option<u64>)> = BTreeMap::new();
        for Key { namespace, what, .. } in self.keys.drain(..) {
            let (_, version) = once.entry(what.key).or_insert((namespace, what.version));
            *version = version.zip(what.version).map(|(one, other)| one.max(other));
        }
        // By names, so that a namespace's come together. As if they were told now: they will be later than that.
        let keys =
            once.into_iter().map(|(key, (namespace, version))| Key { told: now, namespace, what: Invalidation { key, version } });
        self.keys.extend(keys);
        self.owed = self.keys.len();
        pruned + kept - self.owed
    }
}

impl Replay {
    /// A key was told. If that is owed at once, nobody knows which server was told.
    pub(super) fn note(&mut self, namespace: &Namespace, what: &Invalidation, now: Moment, is_owed: bool) {
        let at = usize::from(what.key.partition().index());
        self.kept -= self.partitions[at].prune();
        if self.kept >= MOST {
            self.kept -= self.partitions.iter_mut().map(Told::prune).sum::<usize>();
        }
        if self.kept >= MOST {
            // Its own oldest: other partitions' are none of its server's.
            let told = &mut self.partitions[at];
            let gone = told.keys.pop_front();
            let is_stored = gone.is_some();
            let lost = gone.map_or_else(|| namespace.clone(), |gone| gone.namespace);
            let was_owed = if is_stored { told.owed > 0 } else { is_owed };
            told.owed = told.owed.saturating_sub(1);
            told.overflowed.retain(|(_, of)| *of != lost);
            told.overflowed.push((now, lost.clone()));
            if was_owed {
                self.owe_clear(&lost);
            }
            if !is_stored {
                return;
            }
            self.kept -= 1;
        }
        let told = &mut self.partitions[at];
        let key = Key { told: now, namespace: namespace.clone(), what: what.clone() };
        if is_owed {
            told.keys.insert(told.owed, key);
            told.owed += 1;
        } else {
            told.keys.push_back(key);
        }
        self.kept += 1;
    }

    /// How many servers polls have told of, first ones and each partition's counted. Whoever tells something asks before: if it is another number behind that, part of it may have been
    /// told to a server that is no more.
    pub(super) fn servers(&self) -> u64 {
        self.servers
    }

    /// A clear that began when there had been so many [servers](Self::servers). A failover may lose any part of it; `false` if one may have done so already, and is known.
    pub(super) fn note_clear(&mut self, namespace: &Namespace, servers: u64, now: Moment) -> bool {
        let answered = self.all_answered();
        self.clears.retain(|(told, of)| of != namespace && answered.since(*told) < KEPT_FOR);
        self.clears.push((now, namespace.clone()));
        self.servers == servers
    }

    /// A namespace has to be cleared again.
    pub(super) fn owe_clear(&mut self, namespace: &Namespace) {
        match self.owed.iter_mut().find(|(of, _)| of == namespace) {
            Some((_, times)) => *times += 1,
            None => self.owed.push((namespace.clone(), 1)),
        }
    }

    /// A partition's server has answered a poll that was sent then. If it is another one than before, all is owed that it may not have.
    pub(super) fn answered(&mut self, partition: Partition, is_another: bool, sent: Moment) {
        let answered = self.all_answered();
        let told = &mut self.partitions[usize::from(partition.index())];
        if is_another {
            self.servers += 1;
            self.kept -= told.owe_all(sent);
            let overflowed = told.overflowed.iter().filter(|(then, _)| !told.is_safe(*then));
            let cleared = self.clears.iter().filter(|(then, _)| answered.since(*then) < KEPT_FOR);
            // Once for all partitions: a clear reaches every master.
            for (_, namespace) in overflowed.chain(cleared).cloned().collect::<Vec<_>>() {
                self.owe_clear(&namespace);
            }
        }
        let told = &mut self.partitions[usize::from(partition.index())];
        // What is owed does not get older.
        if told.owed == 0 {
            told.answered = sent;
        }
    }

    fn all_answered(&self) -> Moment {
        self.partitions.iter().map(|told| told.answered).min().unwrap_or_default()
    }

    pub(super) fn is_owing(&self) -> bool {
        !self.owed.is_empty() || self.partitions.iter().any(|told| told.owed > 0)
    }

    /// To which partitions something is owed now, and which namespaces have to be cleared.
    pub(super) fn owed(&self) -> (Vec<Partition>, Vec<(Namespace, u64)>) {
        let owed = (0..=u8::MAX).map(Partition::from_index).zip(&self.partitions).filter(|(_, told)| told.owed > 0);
        (owed.map(|(partition, _)| partition).collect(), self.owed.clone())
    }

    /// Some of the keys that are owed to a partition; `None` if there are none any more.
    pub(super) fn next_lot(&self, partition: Partition) -> Option<Lot> {
        let told = &self.partitions[usize::from(partition.index())];
        let mut owed = told.keys.iter().take(told.owed).take(LOT).peekable();
        let namespace = owed.peek()?.namespace.clone();
        let keys = owed.take_while(|key| key.namespace == namespace).map(|key| key.what.clone()).collect();
        Some(Lot { namespace, keys, server: told.server })
    }

    /// They were told again, and another failover may lose that.
    pub(super) fn told_again(&mut self, partition: Partition, lot: &Lot, now: Moment) {
        let told = &mut self.partitions[usize::from(partition.index())];
        // A server that came meanwhile is owed all of them.
        if told.server != lot.server {
            return;
        }
        for key in &lot.keys {
            // In the same order, but for those that had to go.
            if told.owed > 0
                && told.keys.front().is_some_and(|first| first.what == *key)
                && let Some(first) = told.keys.pop_front()
            {
                told.keys.push_back(Key { told: now, ..first });
                told.owed -= 1;
            }
        }
    }

    /// It was cleared again, by who found that it had come up so often, when there had been so many [servers](Self::servers).
    pub(super) fn cleared_again(&mut self, namespace: &Namespace, times: u64, servers: u64, now: Moment) {
        if self.note_clear(namespace, servers, now) {
            self.owed.retain(|owed| *owed != (namespace.clone(), times));
        }
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

    /// As many keys of the first one's partition.
    fn many(count: usize) -> Vec<Invalidation> {
        (1..).map(key).filter(|key| key.key.partition() == partition(1)).take(count).collect()
    }

    fn note(replay: &mut Replay, what: &Invalidation, now: u64) {
        replay.note(&namespace(), what, at(now), false);
    }

    /// There is another server: what is owed to it of the key's partition.
    fn failover(replay: &mut Replay, of: u64, now: u64) -> Vec<Invalidation> {
        replay.answered(partition(of), true, at(now));
        replay.next_lot(partition(of)).map_or(Vec::new(), |lot| lot.keys)
    }

    /// All is told again that is owed to the key's partition.
    fn tell(replay: &mut Replay, of: u64, now: u64) -> usize {
        let mut lots = 0;
        while let Some(lot) = replay.next_lot(partition(of)) {
            replay.told_again(partition(of), &lot, at(now));
            lots += 1;
        }
        lots
    }

    #[test]
    fn c6_what_was_told_in_the_last_30_s_in_which_the_server_answered_is_told_again() {
        for (answered, owed) in [(29, vec![key(1)]), (30, vec![])] {
            let mut replay = Replay::default();
            note(&mut replay, &key(1), 0);
            replay.answered(partition(1), false, at(answered));
            assert_eq!(failover(&mut replay, 1, answered), owed);
        }
    }

    #[test]
    fn c6_a_failover_that_takes_minutes_to_come_is_told_what_was_told_before_it() {
        let mut replay = Replay::default();
        replay.answered(partition(1), false, at(0));
        note(&mut replay, &key(1), 1);
        // The master dies at 1 s, and there is another one at 100 s.
        assert_eq!(failover(&mut replay, 1, 100), [key(1)]);
        assert_eq!(replay.owed().0, [partition(1)]);
        // It cannot be told before 200 s.
        replay.answered(partition(1), false, at(200));
        note(&mut replay, &key(1), 200);
        assert_eq!(tell(&mut replay, 1, 200), 1);
        assert!(!replay.is_owing());
        replay.answered(partition(1), false, at(229));
        assert_eq!(failover(&mut replay, 1, 230), [key(1)], "which may lose what it was told again");
        tell(&mut replay, 1, 230);
        replay.answered(partition(1), false, at(260));
        assert_eq!(failover(&mut replay, 1, 260), []);
    }

    #[test]
    fn each_key_is_told_again_once_with_the_strongest_of_what_was_told() {
        let mut replay = Replay::default();
        let with = |version| Invalidation { version, ..key(1) };
        for version in [Some(3), Some(9), Some(7)] {
            note(&mut replay, &with(version), 0);
        }
        assert_eq!(failover(&mut replay, 1, 1), [with(Some(9))]);
        note(&mut replay, &with(None), 1);
        note(&mut replay, &with(Some(11)), 1);
        assert_eq!(failover(&mut replay, 1, 2), [with(None)]);
        assert_eq!(replay.kept, 1);
    }

    #[test]
    fn what_was_told_again_is_no_longer_owed_though_the_rest_could_not_be_told() {
        let mut replay = Replay::default();
        let keys = many(LOT + 10);
        for key in &keys {
            note(&mut replay, key, 0);
        }
        assert_eq!(failover(&mut replay, 1, 1).len(), LOT);
        let lot = replay.next_lot(partition(1)).unwrap();
        replay.told_again(partition(1), &lot, at(2));
        let rest = replay.next_lot(partition(1)).unwrap().keys;
        assert_eq!(rest.len(), 10);
        assert!(rest.iter().all(|key| !lot.keys.contains(key)));
        assert_eq!(tell(&mut replay, 1, 3), 1);
    }

    #[test]
    fn a_lot_that_the_second_of_three_servers_was_told_is_owed_to_the_third() {
        let mut replay = Replay::default();
        note(&mut replay, &key(1), 0);
        failover(&mut replay, 1, 1);
        let lot = replay.next_lot(partition(1)).unwrap();
        failover(&mut replay, 1, 2);
        replay.told_again(partition(1), &lot, at(2));
        assert!(replay.is_owing());
        assert!(replay.note_clear(&namespace(), 2, at(2)));
        failover(&mut replay, 1, 3);
        let ((_, clears), servers) = (replay.owed(), replay.servers());
        failover(&mut replay, 1, 4);
        replay.cleared_again(&clears[0].0, clears[0].1, servers, at(4));
        assert_eq!(replay.owed().1.len(), 1);
    }

    #[test]
    fn what_nobody_knows_the_server_of_is_owed_at_once_and_keys_that_were_told_before_it_are_not() {
        let mut replay = Replay::default();
        let [one, other] = <[_; 2]>::try_from(many(2)).unwrap();
        note(&mut replay, &one, 0);
        replay.note(&namespace(), &other, at(1), true);
        assert_eq!(replay.next_lot(partition(1)).unwrap().keys, [other]);
        assert_eq!(tell(&mut replay, 1, 1), 1);
    }

    #[test]
    fn a_clear_is_owed_to_another_server_until_it_is_told_again() {
        let (one, other) = (namespace(), Namespace::new("", "m").unwrap());
        let mut replay = Replay::default();
        let all_answer = |replay: &mut Replay, then| {
            (0..=u8::MAX).for_each(|index| replay.answered(Partition::from_index(index), false, then));
        };
        assert!(replay.note_clear(&one, 0, at(0)));
        assert!(replay.note_clear(&one, 0, at(10)));
        all_answer(&mut replay, at(39));
        replay.answered(partition(1), true, at(40));
        assert_eq!(replay.owed().1, [(one.clone(), 1)]);
        replay.cleared_again(&one, 1, 1, at(40));
        assert!(!replay.is_owing());
        all_answer(&mut replay, at(70));
        assert!(replay.note_clear(&other, 1, at(71)));
        replay.answered(partition(1), true, at(72));
        assert_eq!(replay.owed().1, [(other, 1)], "the first one is safe");
    }

    /// A first server counts, too: nobody knows of one before it.
    #[test]
    fn a_clear_amid_of_which_there_is_another_server_is_not_sure_and_one_that_is_told_again_stays_owed() {
        let mut replay = Replay::default();
        let servers = replay.servers();
        replay.answered(partition(1), true, at(0));
        assert!(!replay.note_clear(&namespace(), servers, at(0)));
        let servers = replay.servers();
        assert!(replay.note_clear(&namespace(), servers, at(1)));
        failover(&mut replay, 1, 2);
        // It takes a minute, so what was told before it is safe, and there is yet another server by then.
        (0..=u8::MAX).for_each(|index| replay.answered(Partition::from_index(index), false, at(62)));
        failover(&mut replay, 1, 62);
        let (_, clears) = replay.owed();
        replay.cleared_again(&namespace(), clears[0].1, servers, at(62));
        assert_eq!(replay.owed().1, clears, "the second one may not have been scanned");
        replay.cleared_again(&namespace(), clears[0].1, replay.servers(), at(63));
        assert!(!replay.is_owing());
    }

    #[test]
    fn more_than_is_kept_ends_in_one_clear_of_each_cache_that_lost_some() {
        let mut replay = Replay::default();
        let (full, other) = (many(1).remove(0), (2..1_000).map(key).find(|key| key.key.partition() != partition(1)).unwrap());
        for _ in 0..=MOST {
            note(&mut replay, &full, 0);
        }
        // Another partition has no room either.
        let elsewhere = Namespace::new("", "m").unwrap();
        replay.note(&elsewhere, &other, at(1), false);
        assert_eq!((replay.kept, replay.is_owing()), (MOST, false));
        for partition in (0..=u8::MAX).map(Partition::from_index) {
            replay.answered(partition, true, at(2));
        }
        let (partitions, clears) = replay.owed();
        assert_eq!((partitions, replay.kept), (vec![partition(1)], 1), "one key, however often it was told");
        assert_eq!(clears.len(), 2, "one for each cache");
        for (of, times) in &clears {
            replay.cleared_again(of, *times, replay.servers(), at(2));
        }
        tell(&mut replay, 1, 2);
        assert!(!replay.is_owing());
        // In time it is forgotten that there was more.
        (0..=u8::MAX).for_each(|index| replay.answered(Partition::from_index(index), false, at(32)));
        assert_eq!(failover(&mut replay, 1, 33), []);
        assert!(!replay.is_owing());
    }
}
