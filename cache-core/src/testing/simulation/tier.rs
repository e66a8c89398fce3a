//! The server as a node reaches it: every call is a request that takes its time, may vanish, and may be done without anybody hearing so.

use super::fault::Fault;
use super::line::Line;
use super::process::Process;
use super::world::{Executed, Net};
use crate::coherence::{Deployments, Ear, Listening, Meta, Notice};
use crate::embedded::EmbeddedTier;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Namespace, RemoteKey};
use crate::partition::Partition;
use crate::remote::{
    Acquire, Acquired, Fetched, Fill, Filled, Invalidated, Invalidation, Mark, Marked, Put, PutOutcome, Receipt, RemoteTier,
    Source, Told, Unmark,
};
use crate::token::Token;
use async_trait::async_trait;
use futures_util::FutureExt;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// A [`RemoteTier`] whose server is the world's. Cloning shares the node's connections.
#[derive(Clone)]
pub struct SimulatedTier {
    net: Arc<Net>,
    node: usize,
    process: Arc<Process>,
    deployments: Arc<Deployments>,
}

impl fmt::Debug for SimulatedTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedTier").field("node", &self.node).finish_non_exhaustive()
    }
}

/// What is sent.
struct Call {
    verb: &'static str,
    /// It may come twice.
    may_run_twice: bool,
    keys: Vec<RemoteKey>,
    told: Vec<Invalidation>,
}

impl Call {
    fn once(verb: &'static str, key: &RemoteKey) -> Self {
        Self { verb, may_run_twice: false, keys: vec![key.clone()], told: Vec::new() }
    }

    fn twice(verb: &'static str, key: &RemoteKey) -> Self {
        Self { may_run_twice: true, ..Self::once(verb, key) }
    }

    fn telling(self, told: Vec<Invalidation>) -> Self {
        Self { told, ..self }
    }
}

impl SimulatedTier {
    pub(super) fn new(net: Arc<Net>, node: usize, process: Arc<Process>) -> Self {
        Self { net, node, process, deployments: Arc::default() }
    }

    /// Sends something, and waits for its reply for as long as a node does. Whether it is done does not depend on the wait.
    async fn send<R: Send + 'static>(
        &self,
        call: Call,
        run: impl Fn(&EmbeddedTier) -> Result<R> + Send + Sync + 'static,
        receipts: fn(&R) -> &[Receipt],
    ) -> Result<R> {
        let (tell, told) = oneshot::channel();
        let (net, node, process) = (self.net.clone(), self.node, self.process.id());
        let (way, server, verb) = (net.way(node), net.server_number(), call.verb);
        tokio::spawn(async move {
            sleep(way.there).await;
            if way.is_lost || net.suffers(node, Fault::Cut) {
                net.note(format_args!("node{node} {verb} is lost"));
                return;
            }
            let executes = || {
                let done = run(&net.server);
                let receipts = done.as_ref().map(receipts).unwrap_or_default();
                net.note(format_args!("node{node} {verb} ok={} {:?}", done.is_ok(), receipts.first().map(|one| one.sequence)));
                let Call { keys, told, .. } = &call;
                net.watching(|watch| watch.executed(&Executed { verb, process, node, keys, told, receipts }));
                done
            };
            let reachable = server == net.server_number() && !net.suffers(node, Fault::Down);
            let done = if reachable { executes() } else { Err(refused()) };
            let is_cut = net.suffers(node, Fault::Cut);
            if way.is_reply_lost || is_cut {
                net.note(format_args!("node{node} {verb} has its reply lost"));
                drop(tell);
            } else {
                let net = net.clone();
                tokio::spawn(async move {
                    sleep(way.back).await;
                    if !net.suffers(node, Fault::Cut) {
                        let _ = tell.send(done);
                    }
                });
            }
            if let Some(later) = way.again.filter(|_| call.may_run_twice) {
                sleep(later).await;
                if server == net.server_number() && !net.suffers(node, Fault::Down) && !net.suffers(node, Fault::Cut) {
                    let _ = executes();
                }
            }
        });
        let reply = async {
            match told.await {
                Ok(reply) => reply,
                // It is lost, and nobody knows.
                Err(_) => std::future::pending().await,
            }
        };
        timeout(self.net.patience, reply).await.unwrap_or_else(|_| {
            self.net.note(format_args!("node{node} {verb} is given up"));
            Err(Error::new(ErrorKind::Timeout, "simulation: no reply in time"))
        })
    }
}

fn refused() -> Error {
    Error::new(ErrorKind::Unavailable, "simulation: the connection was refused or has ended")
}

/// What the embedded tier answers, which it does at once.
fn now<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    call.now_or_never().unwrap_or_else(|| Err(refused()))
}

fn none<R>(_: &R) -> &[Receipt] {
    &[]
}

#[async_trait]
impl RemoteTier for SimulatedTier {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn timeout(&self) -> Option<Duration> {
        Some(self.net.patience)
    }

    async fn get(&self, key: &RemoteKey) -> Result<Fetched> {
        let (replica, of) = (self.net.replica().cloned(), key.clone());
        if let Some(replica) = replica {
            let read = move |_: &EmbeddedTier| now(replica.get(&of)).map(|read| Fetched { from: Source::Replica, ..read });
            return self.send(Call::twice("get-from-replica", key), read, none).await;
        }
        self.send(Call::twice("get", key), move |server| now(server.get(&of)), none).await
    }

    async fn head(&self, key: &RemoteKey) -> Result<Fetched> {
        let of = key.clone();
        self.send(Call::twice("head", key), move |server| now(server.head(&of)), none).await
    }

    async fn get_many(&self, keys: &[RemoteKey]) -> Result<Vec<Result<Fetched>>> {
        let keys = keys.to_vec();
        let call = Call { verb: "get_many", may_run_twice: true, keys: keys.clone(), told: Vec::new() };
        self.send(call, move |server| now(server.get_many(&keys)), none).await
    }

    async fn acquire(&self, key: &RemoteKey, acquire: &Acquire) -> Result<Acquired> {
        let (of, acquire) = (key.clone(), acquire.clone());
        self.send(Call::once("acquire", key), move |server| now(server.acquire(&of, &acquire)), none).await
    }

    async fn fill(&self, key: &RemoteKey, fill: &Fill) -> Result<Filled> {
        let (of, fill) = (key.clone(), fill.clone());
        self.send(Call::once("fill", key), move |server| now(server.fill(&of, &fill)), none).await
    }

    async fn release(&self, key: &RemoteKey, token: Token) -> Result<bool> {
        let of = key.clone();
        self.send(Call::twice("release", key), move |server| now(server.release(&of, token)), none).await
    }

    async fn invalidate(
        &self,
        keys: &[Invalidation],
        retain: Duration,
        notice: Option<&Notice>,
    ) -> Result<Told<Vec<Invalidated>>> {
        let (told, notice) = (keys.to_vec(), notice.cloned());
        let of = told.iter().map(|told| told.key.clone()).collect();
        let call = Call { verb: "invalidate", may_run_twice: true, keys: of, told: told.clone() };
        self.send(call, move |server| now(server.invalidate(&told, retain, notice.as_ref())), |told| &told.receipts).await
    }

    async fn put(&self, key: &RemoteKey, put: &Put, retain: Duration, notice: Option<&Notice>) -> Result<Told<PutOutcome>> {
        let (of, put, notice) = (key.clone(), put.clone(), notice.cloned());
        let told = Invalidation { key: key.clone(), version: Some(put.version) };
        let call = Call::once("put", key).telling(vec![told]);
        self.send(call, move |server| now(server.put(&of, &put, retain, notice.as_ref())), |told| &told.receipts).await
    }

    async fn mark(&self, key: &RemoteKey, mark: &Mark) -> Result<Marked> {
        let (of, mark) = (key.clone(), mark.clone());
        self.send(Call::twice("mark", key), move |server| now(server.mark(&of, &mark)), none).await
    }

    async fn unmark(&self, key: &RemoteKey, unmark: &Unmark, notice: Option<&Notice>) -> Result<Told<Invalidated>> {
        let (of, unmark, notice) = (key.clone(), unmark.clone(), notice.cloned());
        let told = Invalidation { key: key.clone(), version: unmark.version };
        let call = Call::twice("unmark", key).telling(vec![told]);
        self.send(call, move |server| now(server.unmark(&of, &unmark, notice.as_ref())), |told| &told.receipts).await
    }

    async fn clear(&self, namespace: &Namespace, retain: Duration, notice: Option<&Notice>) -> Result<Told<u64>> {
        let (namespace, notice) = (namespace.clone(), notice.cloned());
        let call = Call { verb: "clear", may_run_twice: false, keys: Vec::new(), told: Vec::new() };
        self.send(call, move |server| now(server.clear(&namespace, retain, notice.as_ref())), |told| &told.receipts).await
    }

    async fn poll(&self, prefix: &str, partitions: &[Partition]) -> Result<Vec<Result<Meta>>> {
        let (prefix, partitions) = (prefix.to_owned(), partitions.to_vec());
        let call = Call { verb: "poll", may_run_twice: false, keys: Vec::new(), told: Vec::new() };
        let (net, node) = (self.net.clone(), self.node);
        let poll = move |server: &EmbeddedTier| {
            if net.suffers(node, Fault::PollsRefused) {
                return Err(Error::new(ErrorKind::Refused, "simulation: the server refuses polls"));
            }
            now(server.poll(&prefix, &partitions))
        };
        let asked = self.net.watching(|watch| watch.asks(self.process.id()));
        let answer = self.send(call, poll, none).await;
        if let (Ok(_), Some(asked)) = (&answer, asked) {
            self.net.watching(|watch| watch.learns(self.process.id(), asked));
        }
        answer
    }

    fn listen(&self, prefix: &str, ear: Weak<dyn Ear>) -> Option<Listening> {
        let line = Line::new(self.net.clone(), self.node, self.process.clone(), ear);
        let (process, prefix) = (self.process.clone(), prefix.to_owned());
        let task = tokio::spawn(async move { process.hold(line.keep(prefix)).await });
        Some(Listening::new(Ends(task.abort_handle())))
    }

    fn deployments(&self) -> Option<&Deployments> {
        Some(&self.deployments)
    }

    async fn close(&self) {}
}

/// Ends a subscription with its [`Listening`].
struct Ends(AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}
