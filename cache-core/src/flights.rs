//! Single-flight: one load a key, however many ask, and tickets that an invalidation poisons.
//!
//! A *flight* is a load in progress; its leader runs in a task of its own and followers wait for the outcome. A *ticket* is
//! taken before anything is asked of L2 or the origin, by whoever means to store the answer in L1; an invalidation poisons
//! the key's tickets, so that an answer that may be older than the invalidation is given to its callers and kept by nobody.
//! A poisoned flight is out of the table: who comes later starts another.
//!
//! User code (`Eq` and `Drop` of keys and values) never runs under the stripes' locks.

use crate::error::{Error, ErrorKind, Result};
use hashbrown::HashTable;
use parking_lot::Mutex;
use std::borrow::Borrow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// Enough that threads seldom meet on one lock; a flight is held by its stripe for its table operations only.
const STRIPES: usize = 64;

/// Leave to store an answer in L1.
#[derive(Debug)]
pub(crate) struct Ticket {
    hash: u64,
    poisoned: AtomicBool,
}

impl Ticket {
    fn new(hash: u64) -> Self {
        Self { hash, poisoned: AtomicBool::new(false) }
    }

    /// The hash of the key it is for.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Whether nothing was invalidated since the ticket was taken. See [`LocalTier::insert`](crate::LocalTier::insert).
    pub(crate) fn is_live(&self) -> bool {
        // Ordering: SeqCst here and in `poison`, so that a tier without locks can pair its own fence with it.
        !self.poisoned.load(Ordering::SeqCst)
    }

    fn poison(&self) {
        self.poisoned.store(true, Ordering::SeqCst);
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
}

struct Stripe<K, V> {
    flights: HashTable<Arc<Flight<K, V>>>,
    tickets: Vec<Arc<Ticket>>,
    /// Counts insertions, so that who compared keys outside the lock knows whether to compare again.
    changes: u64,
}

impl<K, V> Stripe<K, V> {
    /// Takes the flights of a hash off the table, to be dropped outside the lock.
    fn take_flights(&mut self, hash: u64) -> Vec<Arc<Flight<K, V>>> {
        let mut gone = Vec::new();
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
        let stripe = || Mutex::new(Stripe { flights: HashTable::new(), tickets: Vec::new(), changes: 0 });
        Self { stripes: (0..STRIPES).map(|_| stripe()).collect() }
    }

    fn stripe(&self, hash: u64) -> &Mutex<Stripe<K, V>> {
        // The top bits: a table in L1 or here uses the lower ones.
        &self.stripes[(hash >> 58) as usize % STRIPES]
    }

    /// Joins the key's flight, or begins one. `key` is made owned only to begin one.
    pub(crate) fn join_or_begin<Q>(self: &Arc<Self>, hash: u64, key: &Q) -> Turn<K, V>
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
                        stripe.tickets.push(flight.ticket.clone());
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
                return Turn::Follow(flight);
            }
            begun.get_or_insert_with(|| {
                let ticket = Arc::new(Ticket::new(hash));
                Arc::new(Flight { key: key.to_owned(), ticket, outcome: OnceLock::new(), landed: Notify::new() })
            });
        }
    }

    /// A ticket without a flight, for a read of L2 or an insert.
    pub(crate) fn ticket(self: &Arc<Self>, hash: u64) -> Boarding<K, V> {
        let ticket = Arc::new(Ticket::new(hash));
        self.stripe(hash).lock().tickets.push(ticket.clone());
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

    /// Poisons everything.
    pub(crate) fn poison_all(&self) {
        for stripe in &self.stripes {
            let mut stripe = stripe.lock();
            stripe.tickets.iter().for_each(|ticket| ticket.poison());
            let gone: Vec<_> = stripe.flights.drain().collect();
            drop(stripe);
            drop(gone);
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

    fn lead(flights: &Arc<Flights<String, u32>>, hash: u64, key: &str) -> Option<Lead<String, u32>> {
        match flights.join_or_begin(hash, key) {
            Turn::Lead(lead) => Some(lead),
            Turn::Follow(_) => None,
        }
    }

    #[tokio::test]
    async fn a_follower_gets_the_leaders_outcome_however_late_it_waits() {
        let flights = Arc::new(Flights::new());
        let first = lead(&flights, 1, "a").unwrap();
        let Turn::Follow(follower) = flights.join_or_begin(1, "a") else { panic!("a second leader") };
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
        let Turn::Follow(follower) = flights.join_or_begin(1, "a") else { panic!("a second leader") };
        drop(first);
        assert_eq!(follower.wait().await.unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(lead(&flights, 1, "a").is_some());
    }

    #[test]
    fn a_poisoned_flight_is_joined_by_nobody_and_ends_without_touching_its_successor() {
        let flights = Arc::new(Flights::new());
        let first = lead(&flights, 1, "a").unwrap();
        let read = flights.ticket(1);
        let other = flights.ticket(2);
        flights.poison(1);
        assert!(!first.flight().ticket.is_live() && !read.is_live() && other.is_live());
        let second = lead(&flights, 1, "a").expect("a new flight after the poison");
        first.land(Ok(answer(1)));
        assert!(lead(&flights, 1, "a").is_none(), "the second flight is still the key's");
        assert!(second.flight().ticket.is_live());
        flights.poison_all();
        assert!(!second.flight().ticket.is_live() && !other.is_live());
    }
}
