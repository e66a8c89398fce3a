//! Single-flight: one load a key, however many ask, and tickets that an invalidation poisons.
//!
//! A *flight* is a load in progress; its leader runs in a task of its own and followers wait for the outcome. A *ticket* is
//! taken before anything is asked of L2 or the origin, by whoever means to store the answer in L1; an invalidation poisons
//! the key's tickets, so that an answer that may be older than the invalidation is given to its callers and kept by nobody.
//! A poisoned flight is out of the table: who comes later starts another. A key can also be *blocked*, while an invalidation of it is under way or
//! could not be told: the tickets that are taken meanwhile are *barred*, they ask no L2 and keep nothing.
//!
//! User code (`Eq` and `Drop` of keys and values) never runs under the stripes' locks.

use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::mutant::{Mutant, is};
use crate::partition::Partition;
use hashbrown::HashTable;
use parking_lot::Mutex;
use std::borrow::Borrow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// Enough that threads seldom meet on one lock; a flight is held by its stripe for its table operations only.
const STRIPES: usize = 64;

/// Leave to store an answer in L1.
#[derive(Debug)]
pub(crate) struct Ticket {
    hash: u64,
    partition: Partition,
    /// When it was taken.
    taken: Moment,
    /// Set before it is in a stripe, and not changed after that.
    barred: AtomicBool,
    poisoned: AtomicBool,
    /// The same for L1 alone: its partition was suspected, or what L2 has of it was changed.
    suspect: AtomicBool,
}

/// For what a ticket is taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passage {
    pub(crate) hash: u64,
    /// Of the key; any where there is no L2.
    pub(crate) partition: Partition,
    pub(crate) now: Moment,
}

impl Ticket {
    fn new(Passage { hash, partition, now }: Passage) -> Self {
        Self {
            hash,
            partition,
            taken: now,
            barred: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
            suspect: AtomicBool::new(false),
        }
    }

    pub(crate) fn partition(&self) -> Partition {
        self.partition
    }

    /// When it was taken: what is stored under it is no older.
    pub(crate) fn taken(&self) -> Moment {
        self.taken
    }

    /// Whether its key was blocked when it was taken.
    pub(crate) fn is_barred(&self) -> bool {
        self.barred.load(Ordering::Relaxed)
    }

    /// The hash of the key it is for.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Whether nothing was invalidated since the ticket was taken. See [`LocalTier::insert`](crate::LocalTier::insert).
    pub(crate) fn is_live(&self) -> bool {
        // Ordering: SeqCst here and in `poison`, so that a tier without locks can pair its own fence with it.
        !self.is_overtaken() && !self.suspect.load(Ordering::SeqCst)
    }

    /// Whether the key was invalidated since the ticket was taken, or was blocked then.
    fn is_overtaken(&self) -> bool {
        self.poisoned.load(Ordering::SeqCst) || self.is_barred()
    }

    fn poison(&self) {
        self.poisoned.store(!is(Mutant::NoPoison), Ordering::SeqCst);
    }
}

/// The outcome of a flight, shared by all who wait.
pub(crate) type Outcome<V> = Result<crate::answer::Answer<V>>;

/// A load in progress.
pub(crate) struct Flight<K, V> {
    pub(crate) key: K,
    pub(crate) ticket: Arc<Ticket>,
    outcome: OnceLock<Outcome<V>>,
    landed: Notify,
}

impl<K, V: Clone> Flight<K, V> {
    /// Waits for the outcome. Cancelling a wait harms nobody.
    pub(crate) async fn wait(&self) -> Outcome<V> {
        let landed = self.landed.notified();
        let mut landed = std::pin::pin!(landed);
        // Registered before the check: an outcome that comes in between wakes us all the same.
        landed.as_mut().enable();
        if let Some(outcome) = self.outcome.get() {
            return outcome.clone();
        }
        landed.await;
        self.outcome.get().cloned().unwrap_or_else(|| Err(cancelled()))
    }
}

impl<K, V> Flight<K, V> {
    fn land(&self, outcome: Outcome<V>) {
        if self.outcome.set(outcome).is_ok() {
            self.landed.notify_waiters();
        }
    }
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the load was dropped before it ended")
}

/// The loads in progress of one cache, and its tickets.
pub(crate) struct Flights<K, V> {
    stripes: Box<[Mutex<Stripe<K, V>>]>,
    /// How often every key is blocked. Read under a stripe's lock.
    all_blocked: AtomicUsize,
}

struct Stripe<K, V> {
    flights: HashTable<Arc<Flight<K, V>>>,
    tickets: Vec<Arc<Ticket>>,
    /// Hashes of blocked keys, as often as they are blocked.
    blocked: Vec<u64>,
    /// Counts insertions, so that who compared keys outside the lock knows whether to compare again.
    changes: u64,
}

impl<K, V> Stripe<K, V> {
    /// A ticket is taken under the stripe's lock, so that it is either barred, or there to be poisoned by who blocks the key.
    fn board(&mut self, ticket: &Arc<Ticket>, all_blocked: &AtomicUsize) {
        if self.blocked.contains(&ticket.hash) || all_blocked.load(Ordering::SeqCst) > 0 {
            ticket.barred.store(true, Ordering::Relaxed);
        }
        self.tickets.push(ticket.clone());
    }

    /// Takes the flights of a hash off the table, to be dropped outside the lock.
    fn take_flights(&mut self, hash: u64) -> Vec<Arc<Flight<K, V>>> {
        let mut gone = Vec::new();
        if is(Mutant::JoinPoisoned) {
            return gone;
        }
        while let Ok(entry) = self.flights.find_entry(hash, |flight| flight.ticket.hash == hash) {
            gone.push(entry.remove().0);
        }
        gone
    }
}

/// Whose turn it is to load.
pub(crate) enum Turn<K, V> {
    /// The caller's: it owes the flight a landing.
    Lead(Lead<K, V>),
    /// Another's: wait for it.
    Follow(Arc<Flight<K, V>>),
}

impl<K, V> Flights<K, V> {
    pub(crate) fn new() -> Self {
        let stripe = || Mutex::new(Stripe { flights: HashTable::new(), tickets: Vec::new(), blocked: Vec::new(), changes: 0 });
        Self { stripes: (0..STRIPES).map(|_| stripe()).collect(), all_blocked: AtomicUsize::new(0) }
    }

    fn stripe(&self, hash: u64) -> &Mutex<Stripe<K, V>> {
        // The top bits: a table in L1 or here uses the lower ones.
        &self.stripes[(hash >> 58) as usize % STRIPES]
    }

    /// Joins the key's flight, or begins one; also where there is one that may not be joined, which is then given up. `key` is made owned only to
    /// begin one.
    pub(crate) fn join_or_begin<Q>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        passage: impl Fn(&K) -> Passage,
        may_join: impl Fn(&Ticket) -> bool,
    ) -> Turn<K, V>
    where
        K: Borrow<Q>,
        Q: Eq + ToOwned<Owned = K> + ?Sized,
    {
        let mut begun: Option<Arc<Flight<K, V>>> = None;
        // Keys are compared outside the lock; `compared` tells up to which change of the stripe that has been done.
        let mut compared = None;
        loop {
            let rivals: Vec<Arc<Flight<K, V>>> = {
                let mut stripe = self.stripe(hash).lock();
                let rivals: Vec<_> =
                    stripe.flights.iter_hash(hash).filter(|flight| flight.ticket.hash == hash).cloned().collect();
                if rivals.is_empty() || compared == Some(stripe.changes) {
                    if let Some(flight) = begun {
                        stripe.changes += 1;
                        stripe.board(&flight.ticket, &self.all_blocked);
                        stripe.flights.insert_unique(hash, flight.clone(), |flight| flight.ticket.hash);
                        drop(stripe);
                        return Turn::Lead(Lead { flights: self.clone(), flight: Some(flight) });
                    }
                } else {
                    compared = Some(stripe.changes);
                }
                rivals
            };
            if let Some(flight) = rivals.into_iter().find(|flight| flight.key.borrow() == key) {
                if may_join(&flight.ticket) {
                    return Turn::Follow(flight);
                }
                self.give_up(&flight);
                compared = None;
            }
            begun.get_or_insert_with(|| {
                let key = key.to_owned();
                let ticket = Arc::new(Ticket::new(passage(&key)));
                Arc::new(Flight { key, ticket, outcome: OnceLock::new(), landed: Notify::new() })
            });
        }
    }

    /// A ticket without a flight, for a read of L2 or an insert.
    pub(crate) fn ticket(self: &Arc<Self>, passage: Passage) -> Boarding<K, V> {
        let ticket = Arc::new(Ticket::new(passage));
        self.stripe(passage.hash).lock().board(&ticket, &self.all_blocked);
        Boarding { flights: self.clone(), ticket }
    }

    /// Poisons a key's tickets and takes its flight out of the table. (Any key of the same 64-bit hash shares its fate,
    /// which costs that key one more load.)
    pub(crate) fn poison(&self, hash: u64) {
        let mut stripe = self.stripe(hash).lock();
        stripe.tickets.iter().filter(|ticket| ticket.hash == hash).for_each(|ticket| ticket.poison());
        let gone = stripe.take_flights(hash);
        drop(stripe);
        drop(gone);
    }

    /// As [`poison`](Self::poison), one ticket spared: for who is about to store something newer under it.
    pub(crate) fn poison_others(&self, spared: &Boarding<K, V>) {
        let hash = spared.ticket.hash;
        let mut stripe = self.stripe(hash).lock();
        let others = stripe.tickets.iter().filter(|ticket| ticket.hash == hash && !Arc::ptr_eq(ticket, &spared.ticket));
        others.for_each(|ticket| ticket.poison());
        let gone = stripe.take_flights(hash);
        drop(stripe);
        drop(gone);
    }

    /// Takes a flight off the table that did not land in time, so that the next caller begins another.
    pub(crate) fn give_up(&self, flight: &Arc<Flight<K, V>>) {
        flight.ticket.poison();
        self.take_off_table(flight);
    }

    /// Bars the tickets of a key from now on, until [`unblock`](Self::unblock) was called as often as this. Those that are out are to be poisoned then.
    pub(crate) fn block(&self, hash: u64) {
        self.stripe(hash).lock().blocked.push(hash);
    }

    pub(crate) fn unblock(&self, hash: u64) {
        let mut stripe = self.stripe(hash).lock();
        if let Some(at) = stripe.blocked.iter().position(|blocked| *blocked == hash) {
            stripe.blocked.swap_remove(at);
        }
    }

    /// Whether tickets of a key are barred.
    pub(crate) fn is_blocked(&self, hash: u64) -> bool {
        self.stripe(hash).lock().blocked.contains(&hash) || self.all_blocked.load(Ordering::SeqCst) > 0
    }

    /// Bars every ticket from now on, until [`unblock_all`](Self::unblock_all) was called as often as this. Those that are out are to be poisoned then.
    pub(crate) fn block_all(&self) {
        self.all_blocked.fetch_add(1, Ordering::SeqCst);
    }

    /// Keys that are blocked themselves stay so.
    pub(crate) fn unblock_all(&self) {
        self.all_blocked.fetch_sub(1, Ordering::SeqCst);
    }

    /// Lets nobody keep in L1 what is on its way to a key. Its flight goes on, and may be joined: whoever fills L2 changes what L2 has, and hears of that.
    pub(crate) fn suspect(&self, hash: u64) {
        let stripe = self.stripe(hash).lock();
        let suspects = stripe.tickets.iter().filter(|ticket| ticket.hash == hash);
        suspects.for_each(|ticket| ticket.suspect.store(true, Ordering::SeqCst));
    }

    /// Lets nobody keep in L1 what is on its way to a partition's keys, and takes their flights out of the table.
    pub(crate) fn poison_partition(&self, partition: Partition) {
        // Dropped when all is done: a panic of the user's code must not leave a ticket as it was.
        let mut gone = Vec::new();
        for stripe in &self.stripes {
            let mut stripe = stripe.lock();
            let suspects = stripe.tickets.iter().filter(|ticket| ticket.partition == partition);
            suspects.for_each(|ticket| ticket.suspect.store(true, Ordering::SeqCst));
            gone.extend(stripe.flights.extract_if(|flight| flight.ticket.partition == partition));
        }
    }

    /// Poisons everything.
    pub(crate) fn poison_all(&self) {
        // As above.
        let mut gone = Vec::new();
        for stripe in &self.stripes {
            let mut stripe = stripe.lock();
            stripe.tickets.iter().for_each(|ticket| ticket.poison());
            gone.extend(stripe.flights.drain());
        }
    }

    /// How many tickets are out. Zero when nothing runs.
    #[cfg(test)]
    fn tickets_out(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.lock().tickets.len()).sum()
    }

    fn retire(&self, ticket: &Arc<Ticket>) {
        let mut stripe = self.stripe(ticket.hash).lock();
        if let Some(at) = stripe.tickets.iter().position(|other| Arc::ptr_eq(other, ticket)) {
            stripe.tickets.swap_remove(at);
        }
    }

    fn take_off_table(&self, flight: &Arc<Flight<K, V>>) {
        let hash = flight.ticket.hash;
        let mut stripe = self.stripe(hash).lock();
        let gone = stripe.flights.find_entry(hash, |other| Arc::ptr_eq(other, flight)).ok().map(|entry| entry.remove().0);
        drop(stripe);
        drop(gone);
    }
}

/// A ticket that is handed back when dropped.
pub(crate) struct Boarding<K, V> {
    flights: Arc<Flights<K, V>>,
    ticket: Arc<Ticket>,
}

impl<K, V> Boarding<K, V> {
    pub(crate) fn is_live(&self) -> bool {
        self.ticket.is_live()
    }

    pub(crate) fn is_barred(&self) -> bool {
        self.ticket.is_barred()
    }

    /// Whether what is stored in L2 now might be older than an invalidation.
    pub(crate) fn is_overtaken(&self) -> bool {
        self.ticket.is_overtaken()
    }
}

impl<K, V> Drop for Boarding<K, V> {
    fn drop(&mut self) {
        self.flights.retire(&self.ticket);
    }
}

/// The leader's obligation: whatever happens to its task, the flight lands.
pub(crate) struct Lead<K, V> {
    flights: Arc<Flights<K, V>>,
    flight: Option<Arc<Flight<K, V>>>,
}

impl<K, V> Lead<K, V> {
    pub(crate) fn flight(&self) -> &Arc<Flight<K, V>> {
        self.flight.as_ref().expect("a lead has its flight until it lands")
    }
}

impl<K, V> Lead<K, V> {
    /// Ends the flight with its outcome. What L1 is to hold is in L1 by then.
    pub(crate) fn land(mut self, outcome: Outcome<V>) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome<V>) {
        if let Some(flight) = self.flight.take() {
            self.flights.take_off_table(&flight);
            self.flights.retire(&flight.ticket);
            flight.land(outcome);
        }
    }
}

impl<K, V> Drop for Lead<K, V> {
    fn drop(&mut self) {
        // A task that was dropped or has panicked outside the loader: waiters get an error, the key is free.
        self.end(Err(cancelled()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{Answer, Freshness, Tier};
    use crate::clock::Moment;

    fn answer(value: u32) -> Answer<u32> {
        Answer { value, tier: Tier::Origin, created: Moment::default(), freshness: Freshness::Fresh }
    }

    /// Of a key whose partition is told by its hash.
    fn passage(hash: u64) -> Passage {
        Passage { hash, partition: Partition::from_index(hash as u8), now: Moment::default() }
    }

    fn lead(flights: &Arc<Flights<String, u32>>, hash: u64, key: &str) -> Option<Lead<String, u32>> {
        match flights.join_or_begin(hash, key, |_| passage(hash), |_| true) {
            Turn::Lead(lead) => Some(lead),
            Turn::Follow(_) => None,
        }
    }

    #[tokio::test]
    async fn a_follower_gets_the_leaders_outcome_however_late_it_waits() {
        let flights = Arc::new(Flights::new());
        let first = lead(&flights, 1, "a").unwrap();
        let Turn::Follow(follower) = flights.join_or_begin(1, "a", |_| passage(1), |_| true) else { panic!("a second leader") };
        first.land(Ok(answer(7)));
        assert_eq!(follower.wait().await.unwrap().value, 7);
        assert!(lead(&flights, 1, "a").is_some(), "the key is free again");
        assert_eq!(flights.tickets_out(), 0);
    }

    #[test]
    fn keys_of_one_hash_fly_apart() {
        let flights = Arc::new(Flights::new());
        let first = lead(&flights, 1, "a").unwrap();
        let second = lead(&flights, 1, "b").unwrap();
        assert!(lead(&flights, 1, "a").is_none());
        assert!(lead(&flights, 1, "b").is_none());
        drop((first, second));
        assert_eq!(flights.tickets_out(), 0);
    }

    #[tokio::test]
    async fn a_dropped_leader_frees_the_key_and_tells_its_followers() {
        let flights = Arc::new(Flights::new());
        let first = lead(&flights, 1, "a").unwrap();
        let Turn::Follow(follower) = flights.join_or_begin(1, "a", |_| passage(1), |_| true) else { panic!("a second leader") };
        drop(first);
        assert_eq!(follower.wait().await.unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(lead(&flights, 1, "a").is_some());
    }

    #[test]
    fn a_poisoned_flight_is_joined_by_nobody_and_ends_without_touching_its_successor() {
        let flights = Arc::new(Flights::new());
        let first = lead(&flights, 1, "a").unwrap();
        let read = flights.ticket(passage(1));
        let other = flights.ticket(passage(2));
        flights.poison(1);
        assert!(!first.flight().ticket.is_live() && !read.is_live() && other.is_live());
        let second = lead(&flights, 1, "a").expect("a new flight after the poison");
        first.land(Ok(answer(1)));
        assert!(lead(&flights, 1, "a").is_none(), "the second flight is still the key's");
        assert!(second.flight().ticket.is_live());
        flights.poison_all();
        assert!(!second.flight().ticket.is_live() && !other.is_live());
    }

    #[test]
    fn a_flight_that_may_not_be_joined_gives_way_to_another() {
        let flights = Arc::new(Flights::new());
        let first = lead(&flights, 1, "a").unwrap();
        let Turn::Lead(second) = flights.join_or_begin(1, "a", |_| passage(1), |_| false) else { panic!("it was joined") };
        assert!(!first.flight().ticket.is_live() && second.flight().ticket.is_live());
        assert!(lead(&flights, 1, "a").is_none(), "the second is the key's");
        drop((first, second));
        assert_eq!(flights.tickets_out(), 0);
    }

    #[test]
    fn a_blocked_key_is_loaded_once_and_kept_by_nobody() {
        let flights = Arc::new(Flights::new());
        flights.block(1);
        flights.block(1);
        flights.unblock(1);
        let barred = lead(&flights, 1, "a").unwrap();
        assert!(barred.flight().ticket.is_barred() && !barred.flight().ticket.is_live());
        assert!(lead(&flights, 1, "a").is_none(), "others wait for it");
        assert!(flights.ticket(passage(1)).is_barred() && flights.ticket(passage(2)).is_live());
        flights.unblock(1);
        assert!(barred.flight().ticket.is_barred(), "what was barred stays so");
        assert!(flights.ticket(passage(1)).is_live());
        flights.block_all();
        flights.block_all();
        flights.unblock_all();
        assert!(flights.ticket(passage(2)).is_barred());
        flights.unblock_all();
        assert!(flights.ticket(passage(2)).is_live());
    }

    #[test]
    fn suspicion_poisons_the_flights_of_its_partition_and_no_others() {
        let flights = Arc::new(Flights::new());
        let boarding = flights.ticket(passage(1));
        let (first, second) = (lead(&flights, 1, "a").unwrap(), lead(&flights, 2, "b").unwrap());
        flights.poison_partition(Partition::from_index(1));
        assert!(!first.flight().ticket.is_live() && second.flight().ticket.is_live());
        assert!(lead(&flights, 1, "a").is_some() && lead(&flights, 2, "b").is_none());
        assert!(!boarding.is_live() && !boarding.is_overtaken(), "L2 may have it");
    }
}
