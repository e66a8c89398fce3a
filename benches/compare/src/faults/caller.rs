//! A client by itself: tasks that call it, reads and writes by turns.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::time::sleep;

use crate::remote::{Failure, Verb, Writer, payload};

use super::bed::is_victims;
use super::fault::Fault;
use super::flood::flood;
use super::trial::{Call, Course, Keys, Outcome, PACE, TASKS, Trial, Watch};

/// That are there from the start and stay, and behind them those that the tasks write; tasks read all.
const KEPT: u64 = 256;
const WRITTEN: u64 = 256;
const VALUE_BYTES: usize = 128;
/// What is stored before the fault may take so long: a busy machine is no fault of the client's.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Takes a client, which is connected to the bed, through a fault of the bed. To be called within the client's runtime.
pub(crate) async fn trial<C: Writer>(client: C, course: Course) -> Result<Trial, Failure> {
    let fault = course.fault;
    let ids: Arc<[(u64, C::Key)]> = (0..KEPT + WRITTEN).map(|id| (id, client.key(id))).collect();
    for (id, key) in &ids[..KEPT as usize] {
        store(&client, *id, key).await?;
    }
    let (watch, calls) = Watch::new();
    let tasks: Vec<_> = (0..TASKS)
        .map(|number| {
            let keys = if fault.is_of_cluster() { [Keys::Victims, Keys::Others][number % 2] } else { Keys::All };
            let is_of = |id: &usize| keys == Keys::All || is_victims(slot::<C>(&ids[*id].1)) == (keys == Keys::Victims);
            let places: Vec<usize> = (0..ids.len()).filter(is_of).collect();
            let own = places.iter().copied().filter(|id| *id >= KEPT as usize && id % TASKS == number).collect();
            let rng = Rng::with_seed(number as u64);
            let (client, ids, watch) = (client.clone(), ids.clone(), watch.clone());
            let caller = Caller { client, ids, places, own, keys, rng, watch, hand: C::Hand::default() };
            (keys, tokio::spawn(caller.call(number)))
        })
        .collect();
    let beside = watch.clone();
    let flood = || (fault == Fault::Flooded).then(|| tokio::spawn(flood(client, KEPT + WRITTEN, beside)));
    course.run(tasks, flood, watch, calls).await
}

/// Stores a key's value and sees that it is there, again and again while that fails. An acquire takes over the lease of one whose grant was lost.
async fn store<C: Writer>(client: &C, id: u64, key: &C::Key) -> Result<(), Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        match store_once(client, id, key).await {
            Err(_) if Instant::now() < until => sleep(PACE).await,
            stored => return stored,
        }
    }
}

async fn store_once<C: Writer>(client: &C, id: u64, key: &C::Key) -> Result<(), Failure> {
    let mut hand = C::Hand::default();
    for verb in C::WRITES {
        client.write(*verb, key, payload(id, VALUE_BYTES), &mut hand).await?;
        if *verb == C::STORE {
            break;
        }
    }
    if client.get(key).await? == Some(id) { Ok(()) } else { Err("what was stored is not there".into()) }
}

fn slot<C: Writer>(key: &C::Key) -> u16 {
    fred::util::redis_keyslot(C::bytes(key))
}

/// One task.
struct Caller<C: Writer> {
    client: C,
    ids: Arc<[(u64, C::Key)]>,
    /// Of the keys that it reads, and of those that it alone writes.
    places: Vec<usize>,
    own: Vec<usize>,
    keys: Keys,
    rng: Rng,
    watch: Watch,
    hand: C::Hand,
}

impl<C: Writer> Caller<C> {
    /// Reads and writes by turns, from this turn on: tasks that begin at several do not all do the same at a time.
    async fn call(mut self, first: usize) {
        let writes = C::WRITES.len();
        let mut turn = first;
        while !self.watch.is_over() {
            let (verb, began, outcome) = if turn.is_multiple_of(2) {
                let place = self.places[self.rng.usize(..self.places.len())];
                self.read(place).await
            } else {
                let written = turn / 2;
                let place = self.own[written / writes % self.own.len()];
                self.write(C::WRITES[written % writes], place).await
            };
            self.watch.saw(Call { keys: self.keys, verb, began, ended: Instant::now(), outcome });
            turn += 1;
            sleep(PACE).await;
        }
    }

    async fn read(&self, place: usize) -> (Verb, Instant, Outcome) {
        let (id, key) = &self.ids[place];
        let began = Instant::now();
        let outcome = match self.client.get(key).await {
            Ok(Some(owner)) if owner != *id => Outcome::Wrong,
            Ok(_) => Outcome::Answered,
            Err(_) => Outcome::Failed,
        };
        (Verb::Get, began, outcome)
    }

    async fn write(&mut self, verb: Verb, place: usize) -> (Verb, Instant, Outcome) {
        let (id, key) = &self.ids[place];
        let value = payload(*id, VALUE_BYTES);
        let began = Instant::now();
        let outcome = Outcome::of(&self.client.write(verb, key, value, &mut self.hand).await);
        (verb, began, outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::remote::Client;

    /// A client of one key, whose first so many calls fail.
    #[derive(Clone)]
    struct Shaky {
        failures: Arc<AtomicU64>,
        value: Arc<AtomicU64>,
    }

    impl Shaky {
        fn fails(&self) -> Result<(), Failure> {
            // Ordering: relaxed; one task calls.
            let left = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            if left.is_ok() { Err("too slow".into()) } else { Ok(()) }
        }
    }

    impl Client for Shaky {
        type Key = u64;

        fn key(&self, id: u64) -> u64 {
            id
        }

        fn bytes(_: &u64) -> &[u8] {
            &[]
        }

        async fn get(&self, _: &u64) -> Result<Option<u64>, Failure> {
            self.fails()?;
            Ok(Some(self.value.load(Ordering::Relaxed)).filter(|id| *id != 0))
        }

        async fn fill(&self, _: &u64, _: Vec<u8>) -> Result<(), Failure> {
            Err("not asked for".into())
        }
    }

    impl Writer for Shaky {
        /// Whether it has the lease.
        type Hand = bool;

        const WRITES: &'static [Verb] = &[Verb::Acquire, Verb::Fill, Verb::Invalidate];
        const STORE: Verb = Verb::Fill;

        async fn write(&self, verb: Verb, key: &u64, _: Vec<u8>, hand: &mut bool) -> Result<(), Failure> {
            self.fails()?;
            match verb {
                Verb::Acquire => *hand = true,
                Verb::Fill if *hand => self.value.store(*key, Ordering::Relaxed),
                _ => self.value.store(0, Ordering::Relaxed),
            }
            Ok(())
        }
    }

    #[test]
    fn what_fails_before_the_fault_is_stored_again_until_it_is_there() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        // At the acquire, the fill, and the look whether it is there.
        for failures in [0, 1, 3] {
            let client = Shaky { failures: Arc::new(failures.into()), value: Arc::new(0.into()) };
            runtime.block_on(store(&client, 7, &7)).unwrap();
            assert_eq!(client.value.load(Ordering::Relaxed), 7);
        }
    }
}
