//! A node's connection for messages: it is made, confirmed, lost, noticed to be lost, and made anew.

use super::fault::Fault;
use super::process::Process;
use super::world::Net;
use crate::coherence::Ear;
use crate::partition::Partition;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;

/// See the module.
pub(super) struct Line {
    net: Arc<Net>,
    node: usize,
    process: Arc<Process>,
    ear: Weak<dyn Ear>,
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Default)]
struct State {
    /// Counts connections; what is on its way to an earlier one is lost.
    connection: u64,
    /// The server has let go of it, and nobody knows so far.
    is_severed: bool,
}

/// What the server publishes to.
struct Mouth {
    line: Weak<Line>,
    connection: u64,
}

impl Line {
    pub(super) fn new(net: Arc<Net>, node: usize, process: Arc<Process>, ear: Weak<dyn Ear>) -> Arc<Self> {
        let line = Arc::new(Self { net, node, process, ear, state: Mutex::default(), ended: Notify::new() });
        line.net.connect(&line);
        line
    }

    pub(super) fn node(&self) -> usize {
        self.node
    }

    /// From now on nothing comes.
    pub(super) fn sever(&self) {
        self.state.lock().is_severed = true;
    }

    /// The node notices.
    pub(super) fn notice(&self) {
        if self.state.lock().is_severed {
            self.ended.notify_one();
        }
    }

    /// Listens, again and again, until it is dropped.
    pub(super) async fn keep(self: Arc<Self>, prefix: String) {
        let all: Vec<_> = (0..=u8::MAX).map(Partition::from_index).collect();
        loop {
            let Some(_mouth) = self.subscribe(&prefix).await else {
                sleep(Duration::from_millis(50) + self.net.draw(200)).await;
                continue;
            };
            let Some(ear) = self.ear.upgrade() else { return };
            self.net.note(format_args!("node{} listens", self.node));
            self.net.watching(|watch| watch.listens(self.process.id(), true));
            if self.net.tracks {
                ear.may_have_changed(&all);
            }
            ear.listening(&all);
            drop(ear);
            self.ended.notified().await;
            let Some(ear) = self.ear.upgrade() else { return };
            self.net.note(format_args!("node{} is deaf", self.node));
            self.net.watching(|watch| watch.listens(self.process.id(), false));
            ear.deaf(&all);
        }
    }

    /// `None` if it came to nothing.
    async fn subscribe(self: &Arc<Self>, prefix: &str) -> Option<Arc<dyn Ear>> {
        let way = self.net.way(self.node);
        sleep(way.there).await;
        let refused = [Fault::Cut, Fault::Deaf, Fault::Down].into_iter().any(|fault| self.net.suffers(self.node, fault));
        if way.is_lost || refused {
            return None;
        }
        let connection = {
            let mut state = self.state.lock();
            *state = State { connection: state.connection + 1, is_severed: false };
            state.connection
        };
        let mouth: Arc<dyn Ear> = Arc::new(Mouth { line: Arc::downgrade(self), connection });
        let _ = crate::remote::RemoteTier::listen(&self.net.server, prefix, Arc::downgrade(&mouth));
        sleep(way.back).await;
        (!way.is_reply_lost).then_some(mouth)
    }

    fn is(&self, connection: u64) -> bool {
        let state = self.state.lock();
        state.connection == connection && !state.is_severed
    }
}

impl Mouth {
    /// Has the node told something in a while, if it comes there, once or twice.
    fn carry(&self, tell: impl Fn(&Line, &dyn Ear) + Clone + Send + Sync + 'static) {
        let Some(line) = self.line.upgrade().filter(|line| line.is(self.connection)) else { return };
        for time in line.net.arrivals(line.node) {
            let (line, tell, connection) = (line.clone(), tell.clone(), self.connection);
            let process = line.process.clone();
            tokio::spawn(async move {
                sleep(time).await;
                process
                    .hold(async {
                        let is_cut = line.net.suffers(line.node, Fault::Cut);
                        if let Some(ear) = line.ear.upgrade().filter(|_| line.is(connection) && !is_cut) {
                            tell(&line, &*ear);
                        }
                    })
                    .await;
            });
        }
    }
}

impl Ear for Mouth {
    fn listening(&self, _: &[Partition]) {}

    fn deaf(&self, _: &[Partition]) {}

    fn hear(&self, partition: Partition, message: &[u8]) {
        let message = message.to_vec();
        self.carry(move |line, ear| {
            line.net.note(format_args!("node{} hears of partition {}", line.node, partition.index()));
            ear.hear(partition, &message);
            line.net.watching(|watch| watch.heard(line.process.id(), partition, &message));
        });
    }

    fn changed(&self, key: &[u8]) {
        let Some(line) = self.line.upgrade() else { return };
        let change = line.net.watching(|watch| watch.change(key)).flatten();
        let key = key.to_vec();
        self.carry(move |line, ear| {
            line.net.note(format_args!("node{} hears of a change of {}", line.node, key.escape_ascii()));
            ear.changed(&key);
            line.net.watching(|watch| change.inspect(|change| watch.changed(line.process.id(), change)));
        });
    }

    fn may_have_changed(&self, _: &[Partition]) {}
}
