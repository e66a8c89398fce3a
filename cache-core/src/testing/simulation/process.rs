//! A simulated process: it has a clock, it can stand still while time goes on, and it can die.

use parking_lot::Mutex;
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
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
    fate: Fate,
    waiting: Vec<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fate {
    #[default]
    Runs,
    Stands,
    Dead,
}

impl Process {
    pub(super) fn new(id: usize, start: Instant) -> Self {
        Self { id, start, read: AtomicU64::new(0), state: Mutex::default() }
    }

    pub(super) fn id(&self) -> usize {
        self.id
    }

    /// Since the world began.
    pub(crate) fn nanos(&self) -> u64 {
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
            match self.fate(cx) {
                Fate::Runs => {}
                Fate::Stands => return Poll::Pending,
                Fate::Dead => {
                    future = None;
                    return Poll::Pending;
                }
            }
            future.as_mut().map_or(Poll::Pending, |future| future.as_mut().poll(cx))
        })
        .await
    }

    fn fate(&self, cx: &Context<'_>) -> Fate {
        let mut state = self.state.lock();
        if state.fate == Fate::Stands {
            state.waiting.push(cx.waker().clone());
        }
        state.fate
    }

    pub(super) fn stand(&self) {
        let mut state = self.state.lock();
        if state.fate == Fate::Runs {
            state.fate = Fate::Stands;
        }
    }

    pub(super) fn go_on(&self) {
        let mut state = self.state.lock();
        if state.fate == Fate::Stands {
            state.fate = Fate::Runs;
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(super) fn die(&self) {
        let mut state = self.state.lock();
        state.fate = Fate::Dead;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.state.lock().fate == Fate::Dead
    }
}
