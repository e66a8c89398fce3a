//! `--chaos`: kills the Redis of this run every few seconds, and starts it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cachestack::BoxError;
use tokio::task::JoinHandle;

use crate::second_level::SecondLevel;

/// How long it is left alone, and how long it stays down.
const UP: Duration = Duration::from_secs(2);
const DOWN: Duration = Duration::from_millis(1_500);

pub(crate) struct Chaos {
    task: JoinHandle<()>,
    kills: Arc<AtomicU64>,
}

impl Chaos {
    #[cfg(unix)]
    pub(crate) fn begin(l2: &SecondLevel) -> Result<Self, BoxError> {
        use crate::second_level::Server;
        use std::sync::PoisonError;

        async fn on_server(server: &Server, act: fn(&mut test_servers::Redis)) {
            let server = server.clone();
            let act = move || act(&mut server.lock().unwrap_or_else(PoisonError::into_inner));
            // Its panic has been printed where it happened; the next restart may fare better.
            let _ = tokio::task::spawn_blocking(act).await;
        }

        let server = l2.server().ok_or("--chaos kills a Redis that was started here, and there is none")?.clone();
        let kills = Arc::new(AtomicU64::new(0));
        let counted = kills.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(UP).await;
                on_server(&server, test_servers::Redis::kill).await;
                // Ordering: relaxed; read once, by `end`, which has awaited this task.
                counted.fetch_add(1, Ordering::Relaxed);
                println!("        redis-server killed");
                tokio::time::sleep(DOWN).await;
                on_server(&server, test_servers::Redis::restart).await;
                println!("        redis-server is back, empty");
            }
        });
        Ok(Self { task, kills })
    }

    #[cfg(not(unix))]
    pub(crate) fn begin(_: &SecondLevel) -> Result<Self, BoxError> {
        Err("--chaos starts and kills a redis-server, which it can on Unix only".into())
    }

    /// Returns how often the server was killed.
    pub(crate) async fn end(self) -> u64 {
        self.task.abort();
        let _ = self.task.await;
        self.kills.load(Ordering::Relaxed)
    }
}
