//! Real Redis and PostgreSQL servers for tests, Redis also as a cluster and under Sentinel, and a TCP proxy that breaks the way
//! networks do.
//!
//! A server starts on a free loopback port in a private directory under `TMPDIR`, and is gone, directory included, when its value
//! is dropped. It is also gone when the process never gets to drop anything: a panic, `exit`, Ctrl-C or `kill -9` closes a pipe
//! on which a small `sh` watchdog waits, and the watchdog ends the server and removes its directory. A server may therefore live
//! in a `static`:
//!
//! ```
//! use std::sync::OnceLock;
//! use test_servers::Redis;
//!
//! fn redis() -> &'static Redis {
//!     static SHARED: OnceLock<Redis> = OnceLock::new();
//!     SHARED.get_or_init(Redis::start)
//! }
//!
//! assert!(redis().url().starts_with("redis://127.0.0.1:"));
//! ```
//!
//! Everything is synchronous and works from sync and async tests alike; a call blocks for as long as its documentation says. The
//! servers listen on 127.0.0.1 only, yet any user of the machine can reach them there: keep secrets out of them.
//!
//! Ports come from 10 000 to 21 999, below the range from which Linux and macOS serve outgoing connections. A port inside that
//! range could be lost to any client between `kill` and `restart`, and a client that redials a dead port there can connect to
//! itself.
//!
//! Unix only: it needs `sh`, signals, and `redis-server` or PostgreSQL's `initdb` and `postgres` installed.
#![forbid(unsafe_code)]

mod certificate;
mod cluster;
mod command;
mod error;
mod port;
mod postgres;
mod program;
mod proxy;
mod redis;
mod sentinel;
mod signal;
mod wait;
mod watchdog;

pub use self::certificate::{CertificateAuthority, ServerCertificate};
pub use self::cluster::{RedisCluster, RedisClusterBuilder};
pub use self::error::StartError;
pub use self::postgres::Postgres;
pub use self::proxy::Proxy;
pub use self::redis::{Redis, RedisBuilder};
pub use self::sentinel::RedisSentinel;
