//! Keys and values whose code asks the tier or panics, and hashes that do not tell keys apart.

use super::*;

/// A key that acts when it is compared.
#[derive(Clone)]
struct Nosy {
    id: u64,
    on_eq: Arc<dyn Fn() + Send + Sync>,
}

impl PartialEq for Nosy {
    fn eq(&self, other: &Self) -> bool {
        (self.on_eq)();
        self.id == other.id
    }
}

impl Eq for Nosy {}

impl Hash for Nosy {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {
        unreachable!("the stack hashes; the tier does not");
    }
}

/// A value that acts when it is cloned or dropped.
struct Busy {
    on_clone: Arc<dyn Fn() + Send + Sync>,
    on_drop: Arc<dyn Fn() + Send + Sync>,
}

impl Clone for Busy {
    fn clone(&self) -> Self {
        (self.on_clone)();
        Self { on_clone: self.on_clone.clone(), on_drop: self.on_drop.clone() }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        (self.on_drop)();
    }
}

thread_local! {
    /// Keeps a re-entrant call from re-entering for ever.
    static INSIDE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Every operation on a tier, once, unless this is already within one.
fn use_all<K, V>(tier: &Weak<MemoryTier<K, V>>, key: impl Fn(u64) -> K, value: impl Fn() -> V, uses: &AtomicUsize)
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    if INSIDE.replace(true) {
        return;
    }
    if let Some(tier) = tier.upgrade() {
        uses.fetch_add(1, Ordering::Relaxed);
        for id in [1, 2] {
            let _ = tier.get(7, &key(id), Moment::from_nanos(1));
            tier.insert(7, key(id), value(), until(LONG), &|| true);
            tier.remove(7, &key(id), Some(9));
        }
        tier.clear();
        assert!(tier.len() <= 1 && tier.evictions() < 1_000);
    }
    INSIDE.set(false);
}

fn still() -> Arc<dyn Fn() + Send + Sync> {
    Arc::new(|| ())
}

fn busy() -> Busy {
    Busy { on_clone: still(), on_drop: still() }
}

#[test]
fn a_comparison_that_uses_the_tier_does_not_deadlock() {
    let uses = Arc::new(AtomicUsize::new(0));
    let tier = Arc::new(MemoryTier::<Nosy, u64>::new(3));
    let key = |id| {
        let (tier, uses) = (Arc::downgrade(&tier), uses.clone());
        Nosy { id, on_eq: Arc::new(move || use_all(&tier, |id| Nosy { id, on_eq: still() }, || 0, &uses)) }
    };
    for id in 0..20 {
        tier.insert(7, key(id % 5), id, until(LONG), &|| true);
        tier.get(7, &key(id % 5), Moment::from_nanos(1));
        tier.remove(7, &key(id % 3), None);
    }
    assert!(uses.load(Ordering::Relaxed) > 10);
    tier.check();
}

/// Fills a tier of three with values that use it when they are cloned or dropped, then counts the uses that `act` causes.
fn uses_caused_by(act: impl Fn(&MemoryTier<u64, Busy>, Busy)) -> usize {
    let uses = Arc::new(AtomicUsize::new(0));
    let tier = Arc::new(MemoryTier::<u64, Busy>::new(3));
    let act_again: Arc<dyn Fn() + Send + Sync> = {
        let (tier, uses) = (Arc::downgrade(&tier), uses.clone());
        Arc::new(move || use_all(&tier, |id| id, busy, &uses))
    };
    let value = || Busy { on_clone: act_again.clone(), on_drop: act_again.clone() };
    INSIDE.set(true);
    for id in 0..3 {
        assert!(tier.insert(7, id, value(), until(100), &|| true));
    }
    INSIDE.set(false);
    act(&tier, value());
    tier.check();
    uses.load(Ordering::Relaxed)
}

#[test]
fn a_clone_and_a_drop_that_use_the_tier_do_not_deadlock() {
    let now = Moment::from_nanos(1);
    let later = Stamp { created: Moment::from_nanos(100), ..until(LONG) };
    assert!(uses_caused_by(|tier, _| _ = tier.get(7, &0, now)) > 0, "cloned");
    assert!(uses_caused_by(|tier, _| _ = tier.get(7, &2, now)) > 0, "cloned from among many");
    assert!(uses_caused_by(|tier, value| _ = tier.insert(7, 9, value, until(LONG), &|| true)) > 0, "evicted");
    assert!(uses_caused_by(|tier, value| _ = tier.insert(7, 9, value, later, &|| true)) > 0, "expired");
    assert!(uses_caused_by(|tier, value| _ = tier.insert(7, 1, value, until(LONG), &|| true)) > 0, "replaced");
    assert!(uses_caused_by(|tier, value| _ = tier.insert(7, 9, value, until(LONG), &|| false)) > 0, "refused");
    assert!(uses_caused_by(|tier, _| _ = tier.remove(7, &1, None)) > 0, "removed");
    assert!(uses_caused_by(|tier, _| tier.clear()) > 0, "cleared");
}

#[test]
fn a_comparison_that_panics_leaves_the_tier_usable() {
    let tier = MemoryTier::new(10);
    let quiet = |id| Nosy { id, on_eq: still() };
    let loud = |id| Nosy { id, on_eq: Arc::new(|| panic!("a comparison that panics, on purpose")) };
    assert!(tier.insert(7, quiet(1), 1, until(LONG), &|| true));
    let panics = |act: &dyn Fn()| assert!(catch_unwind(AssertUnwindSafe(act)).is_err());
    // The key stored is the left side of every comparison.
    tier.insert(8, loud(2), 2, until(LONG), &|| true);
    panics(&|| _ = tier.get(8, &quiet(2), Moment::from_nanos(1)));
    panics(&|| _ = tier.insert(8, quiet(2), 3, until(LONG), &|| true));
    panics(&|| _ = tier.remove(8, &quiet(2), None));
    tier.check();
    assert_eq!(tier.get(7, &quiet(1), Moment::from_nanos(1)).map(|local| local.value), Some(1));
    assert!(tier.remove(7, &quiet(1), None) && tier.len() == 1);
    tier.clear();
    assert!(tier.is_empty());
}

#[test]
fn a_clone_that_panics_leaves_the_tier_usable() {
    let tier = MemoryTier::<u64, Busy>::new(10);
    let loud = Busy { on_clone: Arc::new(|| panic!("a clone that panics, on purpose")), on_drop: still() };
    put(&tier, 1, loud);
    put(&tier, 2, busy());
    assert!(catch_unwind(AssertUnwindSafe(|| read(&tier, 1).is_some())).is_err());
    assert!(read(&tier, 2).is_some() && tier.remove(hash(1), &1, None));
    tier.check();
}

#[test]
fn a_drop_that_panics_leaves_the_tier_usable_and_the_rest_is_dropped() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let tier = MemoryTier::<u64, Busy>::new(5);
    let value = |loud: bool| {
        let dropped = dropped.clone();
        let on_drop = Arc::new(move || {
            dropped.fetch_add(1, Ordering::Relaxed);
            assert!(!loud, "a drop that panics, on purpose");
        });
        Busy { on_clone: still(), on_drop }
    };
    put(&tier, 1, value(true));
    assert!(catch_unwind(AssertUnwindSafe(|| put(&tier, 1, value(true)))).is_err(), "replaced");
    assert!(catch_unwind(AssertUnwindSafe(|| tier.remove(hash(1), &1, None))).is_err(), "removed");
    tier.check();
    assert_eq!((dropped.swap(0, Ordering::Relaxed), len(&tier)), (2, 0));
    for key in 0..5 {
        put(&tier, key, value(key == 2));
    }
    assert!(catch_unwind(AssertUnwindSafe(|| tier.clear())).is_err());
    assert_eq!((dropped.load(Ordering::Relaxed), len(&tier)), (5, 0));
    put(&tier, 9, value(false));
    assert!(read(&tier, 9).is_some());
    tier.check();
}

#[test]
fn keys_that_all_have_one_hash_are_told_apart() {
    let tier = MemoryTier::new(1_000);
    for key in 0..200_u64 {
        assert!(tier.insert(7, key, key, until(LONG), &|| true));
    }
    for key in (0..200).step_by(2) {
        assert!(tier.remove(7, &key, None));
    }
    for key in 0..200 {
        let found = tier.get(7, &key, Moment::from_nanos(1)).map(|local| local.value);
        assert_eq!(found, (key % 2 == 1).then_some(key));
    }
    assert_eq!(len(&tier), 100);
}

#[test]
fn threads_on_keys_of_one_hash_see_their_own_values_only() {
    let tier = MemoryTier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..3_u64 {
            let tier = &tier;
            scope.spawn(move || {
                for round in 0..400 {
                    let key = (round + thread) % 6;
                    tier.insert(7, key, (key, round), until(LONG), &|| true);
                    let found = tier.get(7, &((key + 1) % 6), Moment::from_nanos(1));
                    assert!(found.is_none_or(|local| local.value.0 == (key + 1) % 6));
                    if round % 7 == 0 {
                        tier.remove(7, &key, None);
                    }
                    if round % 101 == 0 {
                        tier.clear();
                    }
                }
            });
        }
    });
    tier.check();
    let held = (0..6).filter(|key| tier.remove(7, key, None)).count();
    assert!(LocalTier::<u64, (u64, u64)>::is_empty(&tier), "{held} were found, and there were more: a key was held twice");
}
