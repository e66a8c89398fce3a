//! The conformance suite of a local tier.

use crate::clock::Moment;
use crate::local::{Local, LocalTier, Stamp, Terms};
use crate::partition::Partition;
use crate::token::Token;
use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

/// Checks a tier of strings to numbers: random operations against a map, lives and terms, suspicion, and the rule of
/// [`LocalTier::insert`] under concurrent invalidations. The tier must be empty, hold at least 1,000 entries, and serve
/// nothing else meanwhile. What a tier may not do under its locks is for
/// [`local_reentrancy_suite`](super::local_reentrancy_suite).
///
/// # Panics
/// On the first fault, saying which.
pub fn local_suite<T: LocalTier<String, u64>>(tier: &T, seed: u64) {
    assert!(tier.capacity().is_some_and(|capacity| capacity >= 1_000), "the suite needs room for 1,000 entries");
    let mut scene = Scene { tier, start: Moment::ORIGIN.after(HOUR) };
    agrees_with_a_map(&scene, seed);
    let checks: [fn(&Scene<'_, T>); 14] = [
        expires_at_last,
        gives_the_terms_back,
        forgets_what_nobody_reads,
        keeps_what_is_read_until_its_last,
        counts_idleness_from_the_last_read,
        counts_idleness_from_a_late_insert,
        goes_by_the_terms_of_the_last_insert,
        refuses_what_is_not_admitted,
        keeps_newer_versions,
        bumps_once_whatever_it_finds,
        suspects_what_is_there_and_not_what_comes,
        suspects_however_often,
        forgets_all_when_cleared,
        super::local_races::local_races,
    ];
    for check in checks {
        scene.start = scene.start.after(HOUR);
        check(&scene);
    }
    scene.start = scene.start.after(HOUR);
    keeps_an_endless_life(&scene);
}

/// Longer than the lives within one check, so that the suite's time, like a cache's, only goes forward.
const HOUR: Duration = Duration::from_secs(3_600);

pub(super) fn hash(key: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::new().hash_one(key)
}

fn partition(key: &str) -> Partition {
    Partition::from_index((hash(key) % 4) as u8)
}

/// A tier, and when a check of it began.
pub(super) struct Scene<'a, T> {
    pub(super) tier: &'a T,
    start: Moment,
}

impl<T: LocalTier<String, u64>> Scene<'_, T> {
    /// So many seconds into the check.
    pub(super) fn at(&self, seconds: u64) -> Moment {
        self.start.after(Duration::from_secs(seconds))
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp { created: self.at(0), soft: self.at(60), hard: self.at(120), last: self.at(180) }
    }

    pub(super) fn terms(&self) -> Terms {
        self.stamp().into()
    }

    fn put(&self, key: &str, value: u64) {
        self.put_on(key, value, &self.terms());
    }

    fn put_on(&self, key: &str, value: u64, terms: &Terms) {
        assert!(self.insert(key, value, terms, &|| true), "an admitted insert is stored");
    }

    pub(super) fn insert(&self, key: &str, value: u64, terms: &Terms, admit: &dyn Fn() -> bool) -> bool {
        self.tier.insert(hash(key), key.to_owned(), value, terms, self.at(0), admit)
    }

    pub(super) fn remove(&self, key: &str, version: Option<u64>, bump: &dyn Fn()) -> bool {
        self.tier.remove(hash(key), key, version, bump)
    }

    /// Read in place, and taken out: the same.
    fn look(&self, key: &str, now: Moment) -> Option<Local<u64>> {
        let in_place = self.tier.get(hash(key), key, now);
        let taken_out = self.tier.get(hash(key), key, now);
        assert_eq!(in_place, taken_out, "{key}: with and get see the same");
        taken_out
    }

    pub(super) fn read(&self, key: &str, seconds: u64) -> Option<u64> {
        self.look(key, self.at(seconds)).map(|local| local.value)
    }

    fn terms_of(&self, key: &str, seconds: u64) -> Option<Terms> {
        self.tier.terms(hash(key), key, self.at(seconds))
    }

    fn is_suspect(&self, key: &str) -> Option<bool> {
        self.look(key, self.at(0)).map(|local| local.suspect)
    }
}

fn agrees_with_a_map<T: LocalTier<String, u64>>(scene: &Scene<'_, T>, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut model: HashMap<String, (u64, bool)> = HashMap::new();
    for step in 0..5_000 {
        let key = format!("k{}", rng.u32(0..200));
        match rng.u32(0..1_000) {
            0..=379 => {
                let value = rng.u64(..);
                scene.put_on(&key, value, &Terms { partition: partition(&key), ..scene.terms() });
                model.insert(key, (value, false));
            }
            380..=579 => {
                let removed = scene.remove(&key, None, &|| ());
                assert_eq!(removed, model.remove(&key).is_some(), "step {step}: remove says whether there was an entry");
            }
            580..=589 => {
                let suspected = partition(&key);
                scene.tier.suspect(suspected);
                model.iter_mut().filter(|(key, _)| partition(key) == suspected).for_each(|(_, entry)| entry.1 = true);
            }
            590 => {
                scene.tier.clear();
                model.clear();
            }
            _ => {
                let found = scene.look(&key, scene.at(0)).map(|local| (local.value, local.suspect));
                assert_eq!(found, model.get(&key).copied(), "step {step}: a read sees the value, and whether it is suspect");
            }
        }
    }
}

fn expires_at_last<T: LocalTier<String, u64>>(scene: &Scene<'_, T>) {
    scene.put("life", 1);
    for (second, found) in [(0, Some(1)), (59, Some(1)), (61, Some(1)), (179, Some(1)), (180, None), (181, None)] {
        assert_eq!(scene.read("life", second), found, "second {second} of an entry whose last is 180");
        let terms = scene.terms_of("life", second);
        assert_eq!(terms.is_some(), found.is_some(), "second {second}: terms finds what a read finds");
    }
}

fn keeps_an_endless_life<T: LocalTier<String, u64>>(scene: &Scene<'_, T>) {
    let end = Moment::NEVER;
    scene.put_on("endless", 1, &Stamp { hard: end, last: end, ..scene.stamp() }.into());
    let found = scene.look("endless", scene.at(50 * 365 * 86_400)).expect("an endless life ended within fifty years");
    assert_eq!((found.stamp.hard, found.stamp.last), (end, end), "what never ends is kept so");
}

fn gives_the_terms_back<T: LocalTier<String, u64>>(scene: &Scene<'_, T>) {
    let plain = scene.terms();
    let full = Terms {
        idle: Some(Duration::from_secs(100)),
        partition: Partition::from_index(255),
        version: u64::MAX - 1,
        token: Token::from_bytes([0xA5; 16]),
        ..plain
    };
    let long = Stamp { last: scene.at(30 * 86_400), ..plain.stamp };
    // A value that came from L2 may have been made before this process began, and be past its hard life already.
    let old = Stamp { created: scene.at(0).before(Duration::from_secs(100 * 86_400)), ..long };
    let stale = Stamp { soft: scene.at(0), hard: scene.at(0), ..plain.stamp };
    for given in [full, plain, full, long.into(), old.into(), stale.into()] {
        scene.put_on("terms", 1, &given);
        let kept = scene.terms_of("terms", 0).expect("an entry that was just stored has terms");
        is_almost(&kept.stamp, &given.stamp);
        assert_eq!(kept.idle.is_some(), given.idle.is_some(), "idle");
        if let (Some(kept), Some(given)) = (kept.idle, given.idle) {
            assert!(kept <= given && given.saturating_sub(kept) <= slack(given), "idle: {kept:?} for {given:?}");
        }
        let named = |terms: &Terms| (terms.partition, terms.version, terms.token);
        assert_eq!(named(&kept), named(&given), "partition, version and token are those of the last insert");
        let found = scene.look("terms", scene.at(0)).expect("an entry that was just stored");
        assert_eq!((found.stamp, found.suspect), (kept.stamp, false), "a read sees the stamp that terms gives");
    }
    assert_eq!(scene.terms_of("none", 0), None, "what is not there has no terms");
}

/// How early a tier may let something of this length end.
fn slack(life: Duration) -> Duration {
    life / 1_000 + Duration::from_millis(2)
}

fn is_almost(kept: &Stamp, given: &Stamp) {
    let early = |kept: Moment, given: Moment, slack: Duration, what: &str| {
        assert!(kept <= given, "{what} is kept late, by {:?}", kept.since(given));
        assert!(given.since(kept) <= slack, "{what} is kept early by {:?}, of {slack:?} allowed", given.since(kept));
    };
    let whole = if given.last == Moment::NEVER { Duration::ZERO } else { given.last.since(given.created) };
    early(kept.created, given.created, whole / 100_000 + Duration::from_millis(3), "created");
    let ends = |stamp: &Stamp| [("soft", stamp.soft), ("hard", stamp.hard), ("last", stamp.last)];
    for ((what, kept), (_, end)) in ends(kept).into_iter().zip(ends(given)) {
        early(kept, end, slack(end.since(given.created)), what);
    }
}

/// Terms of an entry that is forgotten when nobody reads it for ten seconds.
fn idle<T: LocalTier<String, u64>>(scene: &Scene<'_, T>) -> Terms {
    Terms { idle: Some(Duration::from_secs(10)), ..scene.terms() }
}

fn forgets_what_nobody_reads<T: LocalTier<String, u64>>(scene: &Scene<'_, T>) {
    scene.put_on("unread", 1, &idle(scene));
    assert_eq!(scene.read("unread", 10), None, "ten seconds without a read");
}

fn keeps_what_is_read_until_its_last<T: LocalTier<String, u64>>(scene: &Scene<'_, T>) {
    scene.put_on("read", 1, &idle(scene));
    for second in (5..180).step_by(5) {
        assert_eq!(scene.read("read", second), Some(1), "second {second}: it was read five seconds ago");
    }
    assert_eq!(scene.read("read", 180), None, "reads prolong no life");
}

fn counts_idleness_from_the_last_read<T: LocalTier<String, u64>>(scene: &Scene<'_, T>) {
    scene.put_on("left", 1, &idle(scene));
    assert_eq!((scene.read("left", 7), scene.read("left", 14)), (Some(1), Some(1)));
    assert_eq!(scene.terms_of("left", 24), None, "ten seconds after the last read there are no terms");
    assert_eq!(scene.read("left", 24), None, "ten seconds after the last read");
}

fn counts_idleness_from_a_late_insert<T: LocalTier<String, u64>>(scene: &Scene<'_, T>) {
    scene.tier.insert(hash("late"), "late".to_owned(), 1, &idle(scene), scene.at(100), &|| true);
    assert_eq!((scene.read("late", 105), scene.read("late", 115)), (Some(1), None));
}

fn goes_by_the_terms_of_the_last_insert<T: LocalTier<String, u64>>(scene: &Scene<'_, T>) {
    scene.put_on("patient", 1, &idle(scene));
    scene.put("patient", 2);
    assert_eq!(scene.read("patient", 170), Some(2));
}

fn refuses_what_is_not_admitted<T: LocalTier<String, u64>>(scene: &Scene<'_, T>) {
    let stored = scene.insert("refused", 1, &scene.terms(), &|| false);
    assert!(!stored && scene.read("refused", 0).is_none(), "an insert that is not admitted is not readable");
}

fn keeps_newer_versions<T: LocalTier<String, u64>>(scene: &Scene<'_, T>) {
    let remove = |below| scene.remove("row", Some(below), &|| ());
    scene.put_on("row", 1, &Terms { version: 5, ..scene.terms() });
    assert!(!remove(5), "an entry of the version stays");
    assert!(!remove(4), "a newer entry stays");
    assert_eq!(scene.read("row", 0), Some(1));
    assert!(remove(6), "an older entry goes");
    assert_eq!(scene.read("row", 0), None);
}

fn bumps_once_whatever_it_finds<T: LocalTier<String, u64>>(scene: &Scene<'_, T>) {
    let bumped = |version| {
        let bumps = Cell::new(0);
        let removed = scene.remove("bump", version, &|| bumps.set(bumps.get() + 1));
        (removed, bumps.get())
    };
    assert_eq!(bumped(None), (false, 1), "nothing is there");
    assert_eq!(bumped(Some(1)), (false, 1), "nothing of any version is there");
    scene.put_on("bump", 1, &Terms { version: 5, ..scene.terms() });
    assert_eq!(bumped(Some(5)), (false, 1), "it stays");
    assert_eq!(bumped(Some(6)), (true, 1), "it goes");
}

fn suspects_what_is_there_and_not_what_comes<T: LocalTier<String, u64>>(scene: &Scene<'_, T>) {
    let within = |index| Terms { partition: Partition::from_index(index), ..scene.terms() };
    let suspects = || ["s0", "s1", "s255"].map(|key| scene.is_suspect(key));
    for (key, index) in [("s0", 0), ("s1", 1), ("s255", 255)] {
        scene.put_on(key, 1, &within(index));
    }
    assert_eq!(suspects(), [Some(false); 3]);
    scene.tier.suspect(Partition::from_index(1));
    assert_eq!(suspects(), [Some(false), Some(true), Some(false)], "the partition's, and no other");
    scene.tier.suspect(Partition::from_index(255));
    assert_eq!(suspects(), [Some(false), Some(true), Some(true)]);
    assert!(!scene.insert("s1", 2, &within(1), &|| false));
    assert_ne!(scene.is_suspect("s1"), Some(false), "an insert that was refused clears nothing");
    scene.put_on("s1", 2, &within(1));
    assert_eq!(suspects(), [Some(false), Some(false), Some(true)], "an insert stores something new");
    scene.tier.suspect(Partition::from_index(1));
    assert_eq!(suspects(), [Some(false), Some(true), Some(true)], "and that can be suspected again");
    scene.put_on("s1", 3, &within(0));
    assert_eq!(scene.is_suspect("s1"), Some(false), "the partition is that of the last insert");
    scene.tier.clear();
    assert_eq!(suspects(), [None; 3]);
    scene.put_on("s255", 4, &within(255));
    assert_eq!(scene.is_suspect("s255"), Some(false), "suspicion does not outlive a clear");
}

/// Epochs that are kept in few bits come round.
fn suspects_however_often<T: LocalTier<String, u64>>(scene: &Scene<'_, T>) {
    let terms = Terms { partition: Partition::from_index(9), ..scene.terms() };
    scene.put_on("old", 1, &terms);
    scene.put_on("other", 1, &Terms { partition: Partition::from_index(10), ..scene.terms() });
    for count in 1..=600 {
        scene.tier.suspect(terms.partition);
        assert_ne!(scene.is_suspect("old"), Some(false), "after {count} times");
        assert_eq!(scene.is_suspect("other"), Some(false), "another partition's, after {count} times");
        scene.put_on("new", 1, &terms);
        assert_eq!(scene.is_suspect("new"), Some(false), "after {count} times");
    }
}

fn forgets_all_when_cleared<T: LocalTier<String, u64>>(scene: &Scene<'_, T>) {
    for round in 0..50 {
        // The last insert comes right before the clear: moka #155 lost the race of equal timestamps.
        for key in 0..20 {
            scene.put(&format!("c{key}"), round);
        }
        scene.tier.clear();
        for key in 0..20 {
            assert_eq!(scene.read(&format!("c{key}"), 0), None, "round {round}: an entry outlived a clear");
        }
        scene.put("after", round);
        assert_eq!(scene.read("after", 0), Some(round), "what is inserted after a clear stays");
    }
}
