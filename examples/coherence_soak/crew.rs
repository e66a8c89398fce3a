//! All nodes of a run: the first half writes too and reaches Redis directly, the others read only, each through proxies of its own.

use crate::orders::{Answer, Order, Settings, Swept, Tally, Way, Writing};
use crate::process::Process;
use crate::proxy::Proxies;
use cachestack::BoxError;

pub(crate) struct Crew {
    /// The node number and the phase that the next one gets, and what all have in common.
    next: Settings,
    writing: Writing,
    writers: Vec<Process>,
    readers: Vec<Process>,
    /// Of the readers, in their order.
    proxies: Vec<Proxies>,
    /// All that there ever were.
    nodes: Vec<u32>,
}

impl Crew {
    /// Starts them, writing, in the phase that the settings tell. `ports` are those of the servers. Returns when all have read every key.
    pub(crate) async fn start(settings: Settings, nodes: u32, ports: &[u16]) -> Result<Self, BoxError> {
        let (writers, readers) = (nodes / 2, nodes - nodes / 2);
        let share = settings.writes_per_second / f64::from(writers);
        let next = Settings { writes_per_second: share, ..settings };
        let mut crew = Self {
            next,
            writing: Writing::Paused,
            writers: Vec::new(),
            readers: Vec::new(),
            proxies: Vec::new(),
            nodes: Vec::new(),
        };
        for _ in 0..writers {
            let writer = crew.launch(true, crew.next.urls.clone()).await?;
            crew.writers.push(writer);
        }
        for _ in 0..readers {
            let proxies = Proxies::start(ports).await?;
            let reader = crew.launch(false, proxies.urls().to_vec()).await?;
            crew.readers.push(reader);
            crew.proxies.push(proxies);
        }
        for node in crew.writers.iter_mut().chain(&mut crew.readers) {
            node.await_ready().await?;
        }
        crew.write(Writing::Plain).await?;
        Ok(crew)
    }

    async fn launch(&mut self, writes: bool, urls: Vec<String>) -> Result<Process, BoxError> {
        let settings = Settings { writes, urls, ..self.next.clone() };
        self.nodes.push(settings.node);
        self.next.node += 1;
        Process::start(&settings).await
    }

    /// Begins a phase: what all did in the one before.
    pub(crate) async fn begin(&mut self, phase: u32) -> Result<Tally, BoxError> {
        self.next.phase = phase;
        let mut all = Tally::default();
        for node in self.writers.iter_mut().chain(&mut self.readers) {
            node.order(Order::Phase(phase)).await?;
        }
        for node in self.writers.iter_mut().chain(&mut self.readers) {
            match node.answer().await? {
                Answer::Done(tally) => all = all.plus(tally),
                other => return Err(node.unexpected(&other)),
            }
        }
        Ok(all)
    }

    /// Changes how writers write; returns when no write of the former kind runs.
    pub(crate) async fn write(&mut self, writing: Writing) -> Result<(), BoxError> {
        self.writing = writing;
        for writer in &mut self.writers {
            writer.order(Order::Write(writing)).await?;
        }
        for writer in &mut self.writers {
            writes(writer).await?;
        }
        Ok(())
    }

    /// Has every node read every key: what each found.
    pub(crate) async fn sweep(&mut self) -> Result<Vec<(u32, Swept)>, BoxError> {
        let mut all = Vec::new();
        for node in self.writers.iter_mut().chain(&mut self.readers) {
            node.order(Order::Sweep).await?;
        }
        for node in self.writers.iter_mut().chain(&mut self.readers) {
            match node.answer().await? {
                Answer::Swept(swept) => all.push((node.node, swept)),
                other => return Err(node.unexpected(&other)),
            }
        }
        Ok(all)
    }

    pub(crate) fn way(&self) -> Way {
        self.next.way
    }

    /// Ends all nodes. What the next crew's first one may be called.
    pub(crate) fn end(&mut self) -> u32 {
        self.writers.clear();
        self.readers.clear();
        self.proxies.clear();
        self.next.node
    }

    /// How many writers there are.
    pub(crate) fn writers(&self) -> usize {
        self.writers.len()
    }

    pub(crate) fn readers(&self) -> &[Process] {
        &self.readers
    }

    /// In the order of the readers.
    pub(crate) fn proxies(&self) -> &[Proxies] {
        &self.proxies
    }

    /// All nodes that there ever were.
    pub(crate) fn nodes(&self) -> &[u32] {
        &self.nodes
    }

    /// How often the readers' networks harmed anything.
    pub(crate) fn harm(&self) -> u64 {
        self.proxies.iter().map(Proxies::harm).sum()
    }

    /// Whether `kill -9` is what ended it.
    pub(crate) async fn kill_writer(&mut self, number: usize) -> Result<bool, BoxError> {
        self.writers[number].kill().await
    }

    /// Another in the place of one that was killed; returns when it writes.
    pub(crate) async fn replace_writer(&mut self, number: usize) -> Result<(), BoxError> {
        let mut writer = self.launch(true, self.next.urls.clone()).await?;
        writer.await_ready().await?;
        writer.order(Order::Write(self.writing)).await?;
        writes(&mut writer).await?;
        self.writers[number] = writer;
        Ok(())
    }
}

async fn writes(writer: &mut Process) -> Result<(), BoxError> {
    match writer.answer().await? {
        Answer::Writing => Ok(()),
        other => Err(writer.unexpected(&other)),
    }
}
