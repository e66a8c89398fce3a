//! What the nodes share: one Redis, one with a replica under Sentinel, or a cluster of six; and what is done to it behind the nodes' backs.

use cachestack::{Partition, RemoteKey};
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisResult, ToRedisArgs, cmd};
use test_servers::{Proxy, Redis, RedisCluster, RedisSentinel};
use tokio::task::block_in_place;

pub(crate) enum Servers {
    One(Redis),
    Watched(RedisSentinel),
    Cluster(RedisCluster),
}

/// How a node finds them.
#[derive(Clone)]
pub(crate) enum Way {
    One(String),
    Sentinels(&'static str, Vec<String>),
    Cluster(Vec<String>),
}

impl Servers {
    pub(crate) fn one() -> Self {
        Self::One(block_in_place(Redis::start))
    }

    /// One Redis with a replica, which takes its place by Sentinel's word.
    pub(crate) fn watched() -> Self {
        Self::Watched(block_in_place(RedisSentinel::start))
    }

    pub(crate) fn cluster() -> Self {
        Self::Cluster(block_in_place(RedisCluster::start))
    }

    pub(crate) fn way(&self) -> Way {
        let urls = |servers: &[Redis]| servers.iter().map(Redis::url).collect();
        match self {
            Self::One(redis) => Way::One(redis.url()),
            Self::Watched(group) => Way::Sentinels(RedisSentinel::SERVICE, urls(group.sentinels())),
            Self::Cluster(cluster) => Way::Cluster(urls(cluster.nodes())),
        }
    }

    /// Those with data, in the order of their numbers.
    pub(crate) fn all(&self) -> Vec<&Redis> {
        match self {
            Self::One(redis) => vec![redis],
            Self::Watched(group) => vec![group.server(0), group.server(1)],
            Self::Cluster(cluster) => cluster.nodes().iter().collect(),
        }
    }

    fn number_mut(&mut self, number: usize) -> &mut Redis {
        match self {
            Self::One(redis) => redis,
            Self::Watched(group) => group.server_mut(number),
            Self::Cluster(cluster) => cluster.node_mut(number),
        }
    }

    pub(crate) fn kill(&mut self, number: usize) {
        block_in_place(|| self.number_mut(number).kill());
    }

    pub(crate) fn kill_all(&mut self) {
        (0..self.all().len()).for_each(|number| self.kill(number));
    }

    pub(crate) fn restart_all(&mut self) {
        block_in_place(|| (0..self.all().len()).for_each(|number| self.number_mut(number).restart()));
    }

    pub(crate) fn pause_all(&self) {
        block_in_place(|| self.all().into_iter().for_each(Redis::pause));
    }

    pub(crate) fn resume_all(&self) {
        self.all().into_iter().for_each(Redis::resume);
    }

    /// The number of the master that has this key.
    pub(crate) async fn master_of(&self, key: &RemoteKey) -> usize {
        self.master_of_name(key.as_bytes()).await
    }

    async fn master_of_name(&self, name: &[u8]) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Watched(group) => block_in_place(|| group.master()),
            Self::Cluster(cluster) => {
                let slot = self.slot_of_name(name).await;
                block_in_place(|| cluster.master_of(slot))
            }
        }
    }

    pub(crate) async fn slot_of(&self, key: &RemoteKey) -> u16 {
        self.slot_of_name(key.as_bytes()).await
    }

    async fn slot_of_name(&self, name: &[u8]) -> u16 {
        let running = self.all().into_iter().find(|server| server.is_running()).unwrap();
        Raw::to(running).await.run(cmd("CLUSTER").arg("KEYSLOT").arg(name)).await
    }

    pub(crate) async fn number(&self, number: usize) -> Raw {
        Raw::to(self.all()[number]).await
    }

    /// A connection to the master that has this key.
    pub(crate) async fn at(&self, key: &RemoteKey) -> Raw {
        self.number(self.master_of(key).await).await
    }

    /// The same for the meta key of a partition.
    pub(crate) async fn at_meta(&self, partition: Partition) -> Raw {
        self.number(self.master_of_name(meta_key(partition).as_bytes()).await).await
    }

    /// Has each of the servers do this.
    pub(crate) async fn each(&self, words: &[&str]) {
        for server in self.all() {
            Raw::to(server).await.run::<redis::Value>(&words_of(words)).await;
        }
    }

    /// Publishes as the scripts do. How many have heard it.
    pub(crate) async fn publish(&self, key: &RemoteKey, message: &[u8]) -> u64 {
        let publish = if matches!(self, Self::Cluster(_)) { "SPUBLISH" } else { "PUBLISH" };
        self.at(key).await.run(cmd(publish).arg(channel(key.partition())).arg(message)).await
    }

    /// A connection to the only replica of this master.
    pub(crate) async fn replica_of(&self, master: usize) -> Raw {
        let number = match self {
            Self::One(_) => panic!("it has none"),
            Self::Watched(_) => 1 - master,
            Self::Cluster(cluster) => block_in_place(|| cluster.replica_of(master)).expect("it has one"),
        };
        let raw = self.number(number).await;
        if matches!(self, Self::Cluster(_)) {
            raw.run::<()>(&cmd("READONLY")).await;
        }
        raw
    }

    /// From now on no replica of this master gets what it writes, though both are well. What it has got by now it keeps.
    pub(crate) async fn stop_replication_from(&self, master: usize) {
        let raw = self.number(master).await;
        raw.run::<()>(&words_of(&["ACL", "SETUSER", "default", "-psync", "-sync"])).await;
        raw.run::<u64>(&words_of(&["CLIENT", "KILL", "TYPE", "replica"])).await;
    }

    /// Waits until another server has taken the place of this master.
    pub(crate) fn await_failover(&self, old: usize) {
        block_in_place(|| match self {
            Self::One(_) => panic!("there is no other"),
            Self::Watched(group) => group.await_failover(old),
            Self::Cluster(cluster) => cluster.await_failover(old),
        });
    }
}

/// The way to servers through proxies, one before each.
pub(crate) struct Network {
    proxies: Vec<Proxy>,
    pub(crate) way: Way,
}

impl Network {
    /// Nodes of a cluster tell everybody their proxies' ports from now on.
    pub(crate) async fn before(servers: &Servers) -> Self {
        let proxies: Vec<_> = servers.all().into_iter().map(|server| Proxy::start(server.port())).collect();
        let urls: Vec<_> = proxies.iter().map(Proxy::url).collect();
        let Servers::Cluster(cluster) = servers else {
            return Self { way: Way::One(urls[0].clone()), proxies };
        };
        for (node, proxy) in cluster.nodes().iter().zip(&proxies) {
            let port = proxy.port().to_string();
            Raw::to(node).await.run::<()>(&words_of(&["CONFIG", "SET", "cluster-announce-port", &port])).await;
        }
        for node in cluster.nodes() {
            let raw = Raw::to(node).await;
            crate::nodes::eventually("it knows all ports", async || {
                let known: String = raw.run(&words_of(&["CLUSTER", "NODES"])).await;
                proxies.iter().all(|proxy| known.contains(&format!("127.0.0.1:{}@", proxy.port())))
            })
            .await;
        }
        block_in_place(|| cluster.await_settled());
        Self { way: Way::Cluster(urls), proxies }
    }

    /// Carries nothing and closes nothing.
    pub(crate) fn stall(&self) {
        self.proxies.iter().for_each(Proxy::stall);
    }

    /// Carries what is new, and nothing ever again of what is open now.
    pub(crate) fn strand(&self) {
        self.proxies.iter().for_each(Proxy::strand);
    }

    /// Carries nothing on the subscriptions' connections alone.
    pub(crate) fn stall_subscriptions(&self) {
        // In a cluster SSUBSCRIBE.
        self.proxies.iter().for_each(|proxy| proxy.stall_that_sent(b"SUBSCRIBE"));
    }

    /// Carries everything, what was held back first.
    pub(crate) fn forward(&self) {
        self.proxies.iter().for_each(Proxy::forward);
    }
}

/// The driver alone, on a connection to one server.
#[derive(Clone)]
pub(crate) struct Raw(MultiplexedConnection);

impl Raw {
    pub(crate) async fn to(server: &Redis) -> Self {
        let client = redis::Client::open(server.url()).unwrap();
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        Self(client.get_multiplexed_async_connection_with_config(&config).await.expect("the server runs"))
    }

    pub(crate) async fn try_run<T: FromRedisValue>(&self, command: &redis::Cmd) -> RedisResult<T> {
        command.query_async(&mut self.0.clone()).await
    }

    pub(crate) async fn run<T: FromRedisValue>(&self, command: &redis::Cmd) -> T {
        self.try_run(command).await.expect("the server does it")
    }

    pub(crate) async fn get(&self, key: impl ToRedisArgs) -> Option<Vec<u8>> {
        self.run(cmd("GET").arg(key)).await
    }

    pub(crate) async fn set(&self, key: impl ToRedisArgs, value: &[u8]) {
        self.run::<()>(cmd("SET").arg(key).arg(value)).await;
    }

    pub(crate) async fn delete(&self, key: impl ToRedisArgs) -> u64 {
        self.run(cmd("DEL").arg(key)).await
    }
}

pub(crate) fn words_of(words: &[&str]) -> redis::Cmd {
    let mut command = redis::Cmd::new();
    command.arg(words);
    command
}

/// What stands in Redis for a partition: incarnation, sequence and history, eight bytes each.
pub(crate) fn meta_key(partition: Partition) -> String {
    format!("cs{{{}}}:!m", partition.tag())
}

fn channel(partition: Partition) -> String {
    format!("cs{{{}}}:!0", partition.tag())
}
