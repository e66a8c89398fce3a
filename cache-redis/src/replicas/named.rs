//! The replicas that Sentinels name.

use super::{Replica, pick};
use crate::config::{Address, Config, Sentinels};
use crate::sentinel;
use arc_swap::ArcSwap;
use cache_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

/// Sentinels are asked for the replicas this often, and when none is of use no more often than the second.
const ASK_EVERY: Duration = Duration::from_secs(10);
const ASK_SPACING: Duration = Duration::from_secs(1);

/// The replicas that Sentinels name, and the task that asks for them.
pub(crate) struct Named {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
    closed: AtomicBool,
}

struct Shared {
    config: Arc<Config>,
    sentinels: Arc<Sentinels>,
    replicas: ArcSwap<HashMap<(String, u16), Arc<Replica>>>,
    doubt: Notify,
    /// Whether they have been asked, well or not.
    asked: watch::Sender<bool>,
}

impl Named {
    pub(crate) fn new(config: Arc<Config>, sentinels: Arc<Sentinels>) -> Self {
        let shared =
            Shared { config, sentinels, replicas: ArcSwap::default(), doubt: Notify::new(), asked: watch::Sender::new(false) };
        Self { shared: Arc::new(shared), task: Mutex::new(None), closed: AtomicBool::new(false) }
    }

    pub(super) fn pick(&self, ticket: usize, now: Instant) -> Option<Arc<Replica>> {
        let replicas = self.shared.replicas.load();
        let picked = pick(replicas.values(), ticket, now);
        if picked.is_none() {
            self.start();
            self.doubt();
        }
        picked
    }

    /// Has the Sentinels asked before their time.
    pub(super) fn doubt(&self) {
        self.shared.doubt.notify_one();
    }

    /// The replicas, once the Sentinels have been asked.
    pub(super) async fn first(&self) -> Result<Vec<Arc<Replica>>> {
        self.start();
        let mut asked = self.shared.asked.subscribe();
        // Ended with the runtime, it is started by a later read.
        let _ = asked.wait_for(|asked| *asked).await;
        Ok(self.shared.replicas.load().values().cloned().collect())
    }

    /// Starts the task if none runs: at first use, and after the runtime it ran on has ended.
    fn start(&self) {
        let mut task = self.task.lock();
        let is_running = task.as_ref().is_some_and(|task| !task.is_finished());
        if is_running || self.closed.load(Ordering::Relaxed) {
            return;
        }
        // Without a runtime the call that wants it fails by itself.
        if let Ok(runtime) = Handle::try_current() {
            *task = Some(runtime.spawn(follow(self.shared.clone())));
        }
    }

    pub(super) async fn stop(&self) {
        let task = {
            let mut task = self.task.lock();
            // Under the lock, or a start could come in between.
            self.closed.store(true, Ordering::Relaxed);
            task.take()
        };
        if let Some(task) = task {
            task.abort();
            let _ = task.await;
        }
        for replica in self.shared.replicas.swap(Arc::default()).values() {
            replica.node.stop().await;
        }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut() {
            task.abort();
        }
    }
}

/// Asks the Sentinels for the replicas at first, when one fails, and now and then, until its task is aborted.
async fn follow(shared: Arc<Shared>) {
    loop {
        let named = timeout(shared.config.connect_timeout, sentinel::replicas(shared.config.tls.as_ref(), &shared.sentinels));
        match named.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "no Redis Sentinel answered in time"))) {
            Ok(named) => shared.publish(named),
            // Those that are known stay.
            Err(err) => debug!(error = %err, "the Redis Sentinels do not name the replicas"),
        }
        shared.asked.send_replace(true);
        sleep(ASK_SPACING).await;
        // Jittered, so that the processes of a service do not ask together.
        let _ = timeout(ASK_EVERY.mul_f64(0.5 + fastrand::f64()), shared.doubt.notified()).await;
    }
}

impl Shared {
    fn publish(&self, named: Vec<(String, u16)>) {
        let known = self.replicas.load();
        let replica = |(host, port): (String, u16)| {
            let at = (host.clone(), port);
            let known = known.get(&at).cloned();
            (at, known.unwrap_or_else(|| Arc::new(Replica::new(self.config.clone(), Address::Tcp(host, port)))))
        };
        let replicas: HashMap<_, _> = named.into_iter().map(replica).collect();
        for replica in replicas.values() {
            // Refused only once it is closed.
            let _ = replica.node.start();
        }
        if replicas.len() != known.len() {
            info!(replicas = replicas.len(), "the Redis Sentinels name the replicas");
        }
        self.replicas.store(Arc::new(replicas));
    }
}
