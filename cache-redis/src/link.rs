//! The state of the connection as callers see it, and the supervisor that keeps it up.

use crate::config::{Address, Config};
use crate::dial::dial;
use crate::live::Live;
use crate::vitals::Loss;
use arc_swap::ArcSwap;
use cache_core::{Error, ErrorKind};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{debug, info, warn};

/// First and longest wait between two dials.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// Wait after credentials were refused: a person has to act, and servers log or ban who keeps trying.
pub(crate) const REFUSED_BACKOFF: Duration = Duration::from_secs(2);
/// A connection that lived this long was a good one; a shorter one does not shorten the backoff.
pub(crate) const STABLE: Duration = Duration::from_secs(1);
/// How often an idle connection is probed, and the server's clock measured.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// What callers find.
pub(crate) enum State {
    /// No call has been made yet, and no dial.
    Idle,
    /// The first dial is under way; callers wait for it.
    Dialing,
    /// Connected.
    Up(Arc<Live>),
    /// Not connected: callers fail at once, with this error.
    Down(Error),
    /// Closed for good.
    Closed,
}

/// What the callers and the supervisor share.
pub(crate) struct Link {
    pub(crate) config: Arc<Config>,
    pub(crate) address: Address,
    /// Whether it leads to a replica, for reads.
    to_replica: bool,
    state: ArcSwap<State>,
    changed: Notify,
}

impl Link {
    pub(crate) fn new(config: Arc<Config>, address: Address) -> Self {
        Self { config, address, to_replica: false, state: ArcSwap::from_pointee(State::Idle), changed: Notify::new() }
    }

    pub(crate) fn to_replica(config: Arc<Config>, address: Address) -> Self {
        Self { to_replica: true, ..Self::new(config, address) }
    }

    pub(crate) fn state(&self) -> arc_swap::Guard<Arc<State>> {
        self.state.load()
    }

    pub(crate) fn publish(&self, state: State) {
        self.state.store(Arc::new(state));
        self.changed.notify_waiters();
    }

    /// Returns once the first dial has ended, well or not.
    pub(crate) async fn settled(&self) {
        loop {
            // Registered before the look, so that no change falls between the two.
            let changed = self.changed.notified();
            if !matches!(**self.state(), State::Idle | State::Dialing) {
                return;
            }
            changed.await;
        }
    }
}

/// Dials, publishes, watches, and dials again, until its task is aborted.
pub(crate) async fn supervise(link: Arc<Link>) {
    let mut backoff = Backoff::new();
    let mut outage: Option<Outage> = None;
    loop {
        let wait = match dial(&link.config, &link.address, link.to_replica).await {
            Ok((live, task)) => {
                if let Some(outage) = outage.take() {
                    info!(outage_ms = outage.ms(), "the connection to Redis is back");
                } else {
                    debug!("connected to Redis");
                }
                let (live, since) = (Arc::new(live), Instant::now());
                link.publish(State::Up(live.clone()));
                let loss = watch(&live, task, link.config.timeout).await;
                link.publish(State::Down(Error::new(ErrorKind::Unavailable, "there is no connection to Redis")));
                warn!(reason = loss.reason(), "the connection to Redis is lost");
                outage = Some(Outage::new(ErrorKind::Unavailable));
                if since.elapsed() >= STABLE {
                    backoff = Backoff::new();
                }
                backoff.next()
            }
            Err(err) => {
                let kind = err.kind();
                // One warning an outage, and another if it turns out to need a person.
                if outage.as_ref().is_some_and(|outage| outage.kind == kind) {
                    debug!(error = %err, "Redis is still away");
                } else {
                    warn!(error = %err, "there is no connection to Redis");
                    outage.get_or_insert_with(|| Outage::new(kind)).kind = kind;
                }
                link.publish(State::Down(err));
                if kind == ErrorKind::Unavailable { backoff.next() } else { jittered(REFUSED_BACKOFF) }
            }
        };
        sleep(wait).await;
    }
}

/// Watches a connection until it is of no more use.
async fn watch(live: &Live, mut task: JoinHandle<()>, timeout: Duration) -> Loss {
    tokio::select! {
        _ = &mut task => Loss::Closed,
        loss = live.vitals().doubted() => loss,
        never = probe_for_ever(live, timeout) => match never {},
    }
}

/// Measures the server's clock now and then, and finds an idle connection that is dead.
async fn probe_for_ever(live: &Live, timeout: Duration) -> Infallible {
    let mut pause = PROBE_EVERY;
    loop {
        sleep(pause).await;
        // After a silent probe the next follows at once, so that an idle dead connection is replaced soon as well.
        pause = if live.probe(timeout).await { PROBE_EVERY } else { Duration::ZERO };
    }
}

/// A time without connection, and what its last warning was about.
struct Outage {
    since: Instant,
    kind: ErrorKind,
}

impl Outage {
    fn new(kind: ErrorKind) -> Self {
        Self { since: Instant::now(), kind }
    }

    fn ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Doubling waits.
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(BACKOFF.0)
    }

    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(BACKOFF.1);
        jittered(wait)
    }
}

/// Between half of it and all of it, so that the nodes of a service do not dial together.
pub(crate) fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::Wire;
    use crate::multiplexer::{Guard, Multiplexer};

    #[tokio::test(start_paused = true)]
    async fn a_probe_under_way_hides_no_doubt_about_the_connection() {
        let (client, _server) = tokio::io::duplex(1 << 20);
        let (multiplexer, task) = Multiplexer::open(client, 1_000, true);
        let live = Live::new(Wire::Own(multiplexer), Guard(task.abort_handle()));
        let vitals = live.vitals().clone();
        let began = tokio::time::Instant::now();
        let finding = async {
            // The probe goes unanswered.
            sleep(PROBE_EVERY * 2).await;
            vitals.read_only();
        };
        let (loss, ()) = tokio::join!(watch(&live, task, PROBE_EVERY * 10), finding);
        assert_eq!((loss, began.elapsed()), (Loss::ReadOnly, PROBE_EVERY * 2));
    }

    #[test]
    fn waits_double_from_10_to_250_ms_with_jitter() {
        let mut backoff = Backoff::new();
        for whole in [10, 20, 40, 80, 160, 250, 250] {
            let wait = backoff.next();
            assert!(wait * 2 >= Duration::from_millis(whole) && wait <= Duration::from_millis(whole), "{wait:?} of {whole}");
        }
    }
}
