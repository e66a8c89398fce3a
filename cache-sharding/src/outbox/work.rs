//! What a relay does: claim, deliver, write down.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{self, Instant};

use super::caught::caught;
use super::error::Error;
use super::settings::{Backoff, Settings};
use super::stats::Counters;
use super::store::{Claimed, Postponed, Store};

/// How long outcomes may wait for others to be written down with, while there is more to deliver. Each round trip writes many that way; and a
/// relay that dies has delivered little that will be delivered again.
const GATHER: Duration = Duration::from_millis(20);

/// One relay's loop and all that it holds. At most a batch and the running deliveries are in memory: nothing is claimed while anything
/// waits to be started or written down.
pub(super) struct Work<S, D> {
    store: Arc<S>,
    deliver: Arc<D>,
    settings: Settings,
    counters: Arc<Counters>,
    /// Claimed, not begun, and until when the claims last.
    waiting: VecDeque<(Claimed, Instant)>,
    /// Each returns where its row goes. Dropped with the loop, which aborts them.
    running: JoinSet<Outcome>,
    delivered: Vec<i64>,
    postponed: Vec<Postponed>,
    /// When the first of those two came.
    unwritten_since: Instant,
    next_claim: Instant,
    /// Not before, after the database refused.
    next_settlement: Instant,
    /// Questions to the database that failed since the last that did not.
    failures: u32,
}

enum Outcome {
    Delivered(i64),
    Postponed(Postponed),
}

impl<S, D, F, E> Work<S, D>
where
    S: Store,
    D: Fn(Claimed) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: 'static,
{
    pub(super) fn new(store: Arc<S>, deliver: D, settings: Settings, counters: Arc<Counters>) -> Self {
        let now = Instant::now();
        Self {
            store,
            deliver: Arc::new(deliver),
            settings,
            counters,
            waiting: VecDeque::new(),
            running: JoinSet::new(),
            delivered: Vec::new(),
            postponed: Vec::new(),
            unwritten_since: now,
            next_claim: now,
            next_settlement: now,
            failures: 0,
        }
    }

    /// Runs until it is told to stop and has written down all it holds.
    pub(super) async fn run(mut self, wake: Arc<Notify>, mut stopped: watch::Receiver<bool>) {
        loop {
            let stopping = *stopped.borrow_and_update();
            if stopping {
                self.give_back();
            }
            self.begin();
            while let Some(ended) = self.running.try_join_next() {
                self.note(ended);
            }
            let (now, unwritten) = (Instant::now(), self.has_unwritten());
            let may_claim = !stopping && !unwritten && self.waiting.is_empty() && !self.is_full();
            let settlement = self.settlement(now);
            if unwritten && now >= settlement {
                self.settle().await;
            } else if may_claim && now >= self.next_claim {
                self.claim().await;
            } else if stopping && !unwritten && self.running.is_empty() {
                return;
            } else {
                tokio::select! {
                    Some(ended) = self.running.join_next() => self.note(ended),
                    () = time::sleep_until(settlement), if unwritten => {}
                    () = time::sleep_until(self.next_claim), if may_claim => {}
                    () = wake.notified(), if may_claim && self.failures == 0 => self.next_claim = now,
                    // Without a sender the relay is gone, and is about to abort this task.
                    told = stopped.changed() => if told.is_err() { return },
                }
            }
        }
    }

    fn is_full(&self) -> bool {
        self.running.len() >= self.settings.concurrency.get()
    }

    fn has_unwritten(&self) -> bool {
        !self.delivered.is_empty() || !self.postponed.is_empty()
    }

    /// When to write down what is unwritten.
    fn settlement(&self, now: Instant) -> Instant {
        let gathered = if self.waiting.is_empty() { now } else { self.unwritten_since + GATHER };
        gathered.max(self.next_settlement)
    }

    async fn claim(&mut self) {
        let (batch, lease) = (self.settings.batch.get(), self.settings.lease);
        // Before the database reads its clock, so that ours never believes in a claim that has ended.
        let ends = Instant::now() + lease;
        let answer = asked(lease, self.store.claim(batch, lease)).await;
        self.counters.store_answered(&answer);
        let pause = match &answer {
            // There may be more at once.
            Ok(rows) if rows.len() >= batch as usize => Duration::ZERO,
            Ok(_) => self.settings.poll_every,
            Err(_) => self.pause_after_failure(),
        };
        self.next_claim = Instant::now() + pause;
        if let Ok(rows) = answer {
            self.failures = 0;
            self.counters.claimed.add(rows.len() as u64);
            self.waiting.extend(rows.into_iter().map(|row| (row, ends)));
        }
    }

    /// Begins deliveries up to the concurrency. Where the claim might end before the delivery does, the row is given back: another relay
    /// is about to have it.
    fn begin(&mut self) {
        while !self.is_full() {
            let Some((claimed, ends)) = self.waiting.pop_front() else { return };
            if Instant::now() + self.settings.timeout > ends {
                self.return_row(&claimed, self.settings.poll_every);
                continue;
            }
            if claimed.attempt > 1 {
                self.counters.retried.add(1);
            }
            let (deliver, counters) = (Arc::clone(&self.deliver), Arc::clone(&self.counters));
            self.running.spawn(attempt(deliver, counters, claimed, self.settings.timeout, self.settings.retry));
        }
    }

    fn give_back(&mut self) {
        while let Some((claimed, _)) = self.waiting.pop_front() {
            self.return_row(&claimed, Duration::ZERO);
        }
    }

    fn return_row(&mut self, claimed: &Claimed, delay: Duration) {
        self.counters.given_back.add(1);
        self.postponed.push(Postponed { id: claimed.id, attempt: claimed.attempt, delay });
    }

    fn note(&mut self, ended: Result<Outcome, JoinError>) {
        if !self.has_unwritten() {
            self.unwritten_since = Instant::now();
        }
        match ended.ok() {
            Some(Outcome::Delivered(id)) => self.delivered.push(id),
            Some(Outcome::Postponed(row)) => self.postponed.push(row),
            // A panic while a panicked delivery was dropped, or the end of the runtime: the row is due again when its lease ends.
            None => self.counters.settled.add(1),
        }
    }

    /// Writes down what has ended. What the database refuses is kept for the next time.
    async fn settle(&mut self) {
        let lease = self.settings.lease;
        let mut answer = Ok(());
        if !self.delivered.is_empty() {
            answer = asked(lease, self.store.delete(&self.delivered)).await;
            if answer.is_ok() {
                self.counters.settled.add(self.delivered.len() as u64);
                self.delivered.clear();
            }
        }
        if answer.is_ok() && !self.postponed.is_empty() {
            answer = asked(lease, self.store.postpone(&self.postponed)).await;
            if answer.is_ok() {
                self.counters.settled.add(self.postponed.len() as u64);
                self.postponed.clear();
            }
        }
        self.counters.store_answered(&answer);
        match answer {
            Ok(()) => self.failures = 0,
            Err(_) => self.next_settlement = Instant::now() + self.pause_after_failure(),
        }
    }

    fn pause_after_failure(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.settings.retry.pause(self.failures)
    }
}

/// Delivers one row.
async fn attempt<D, F, E>(
    deliver: Arc<D>,
    counters: Arc<Counters>,
    claimed: Claimed,
    timeout: Duration,
    retry: Backoff,
) -> Outcome
where
    D: Fn(Claimed) -> F,
    F: Future<Output = Result<(), E>>,
{
    let (id, attempt) = (claimed.id, claimed.attempt);
    // The call stands inside as well: it may panic before there is a future.
    let delivery = caught(async { deliver(claimed).await.is_ok() });
    let (delivered, count) = match time::timeout(timeout, delivery).await {
        Ok(Some(true)) => (true, &counters.delivered),
        Ok(Some(false)) => (false, &counters.refused),
        Ok(None) => (false, &counters.panicked),
        Err(_) => (false, &counters.timed_out),
    };
    count.add(1);
    if delivered { Outcome::Delivered(id) } else { Outcome::Postponed(Postponed { id, attempt, delay: retry.pause(attempt) }) }
}

/// Asks the store, whose driver may wait for ever and whose code may panic.
async fn asked<T>(limit: Duration, question: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match time::timeout(limit, caught(question)).await {
        Ok(Some(answer)) => answer,
        Ok(None) => Err(Error::StorePanicked),
        Err(_) => Err(Error::StoreTimeout),
    }
}
