//! A simulated process: it has a clock, it can stand still while time goes on, alone or with its machine, and it can die.

use parking_lot::Mutex;
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};
use tokio::time::Instant;

/// See the module.
#[derive(Debug)]
pub(crate) struct Process {
    /// Counts the processes of a world.
    id: usize,
    /// When the world began.
    start: Instant,
    /// The latest time that was read: a runtime that has ended has no simulated time any more.
    read: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_dead: bool,
    /// How many faults have it stand still, and how many of them its clock.
    stands: u32,
    sleeps: u32,
    /// Since when the machine is suspended, in nanoseconds, and for how long it was before.
    asleep: Option<u64>,
    slept: u64,
    waiting: Vec<Waker>,
}

impl Process {
    pub(super) fn new(id: usize, start: Instant) -> Self {
        Self { id, start, read: AtomicU64::new(0), state: Mutex::default() }
    }

    pub(super) fn id(&self) -> usize {
        self.id
    }

    /// Since the world began, but for the time that the machine was suspended.
    pub(crate) fn nanos(&self) -> u64 {
        let wall = self.wall_nanos();
        let state = self.state.lock();
        state.asleep.unwrap_or(wall) - state.slept
    }

    /// Since the world began.
    pub(crate) fn wall_nanos(&self) -> u64 {
        if tokio::runtime::Handle::try_current().is_ok() {
            let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX / 4);
            // Ordering: relaxed, for a simulation has one thread.
            self.read.store(now, Ordering::Relaxed);
        }
        self.read.load(Ordering::Relaxed)
    }

    /// Runs a future as this process does: it is not polled while the process stands, and never again once it is dead.
    pub(crate) async fn hold<F: Future>(&self, future: F) -> F::Output {
        let mut future = Some(Box::pin(future));
        poll_fn(|cx| {
            let mut state = self.state.lock();
            if state.is_dead {
                drop(state);
                future = None;
                return Poll::Pending;
            }
            if state.stands > 0 {
                state.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            drop(state);
            future.as_mut().map_or(Poll::Pending, |future| future.as_mut().poll(cx))
        })
        .await
    }

    /// It stands still, and if its machine is suspended its clock with it.
    pub(super) fn stand(&self, is_suspended: bool) {
        let now = self.wall_nanos();
        let mut state = self.state.lock();
        state.stands += 1;
        if is_suspended {
            state.sleeps += 1;
            state.asleep.get_or_insert(now);
        }
    }

    /// The end of what was begun so.
    pub(super) fn go_on(&self, was_suspended: bool) {
        let now = self.wall_nanos();
        let mut state = self.state.lock();
        state.stands -= 1;
        if was_suspended {
            state.sleeps -= 1;
            if state.sleeps == 0 {
                state.slept += state.asleep.take().map_or(0, |since| now - since);
            }
        }
        if state.stands > 0 {
            return;
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(super) fn die(&self) {
        let mut state = self.state.lock();
        state.is_dead = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.state.lock().is_dead
    }
}
