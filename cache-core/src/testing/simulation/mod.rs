//! Deterministic simulation: several nodes over one server, in one thread, in simulated time, with everything that can go wrong between them.
//!
//! What runs is the real code: [`TieredCache`](crate::TieredCache)s with their real L1, and the embedded tier as the server. Simulated are the clock, the network between a
//! node and the server, the processes (they stand still, they die), and chance. So a minute takes milliseconds, and a seed always gives the same run:
//! [`Ran::digest`] tells.
//!
//! [`Simulation`] is for tests of your own: it gives you a [`World`] to make [`Node`]s in. [`Trial`] is the library's: a configuration, a workload and faults drawn from a
//! seed, and a checker of what the promise says.
//!
//! ```
//! use cache_core::testing::simulation::{Script, Simulation};
//! use cache_core::{Freshness, NoLocal, TieredCache, Ttl};
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use std::time::Duration;
//!
//! // Node 2 hears nothing of what the others write, and nothing looks wrong.
//! let script: Script = "0ms node2 messages-lost 100 for 60000ms".parse()?;
//! let ran = Simulation::new(7).script(script).run(|world| async move {
//!     let row = Arc::new(AtomicU64::new(1));
//!     let cache = || {
//!         let (node, row) = (world.node(), row.clone());
//!         let load = move |_key: u64| {
//!             let row = row.clone();
//!             async move { Ok::<_, std::io::Error>(row.load(Ordering::SeqCst)) }
//!         };
//!         // Your L1 in place of `NoLocal`.
//!         let cache = TieredCache::<u64, u64>::builder("prices").l1(NoLocal).l2(node.tier()).clock(node.clock());
//!         cache.ttl(Ttl::minutes(10)).origin(load).build()
//!     };
//!     let [a, _b, c] = [cache()?, cache()?, cache()?];
//!     assert_eq!(c.load(&1).await?, 1);
//!     row.store(2, Ordering::SeqCst);
//!     a.invalidate(&1).await?;
//!     // The bound is 3 s by default, and holds whatever is lost.
//!     world.sleep(Duration::from_secs(4)).await;
//!     let read = c.load_cached(&1).await?;
//!     assert_eq!((read.value, read.freshness), (2, Freshness::Fresh));
//!     Ok::<_, cache_core::Error>(())
//! });
//! ran.outcome?;
//! # Ok::<_, cache_core::Error>(())
//! ```

mod clients;
mod database;
mod fault;
mod judge;
mod line;
mod plan;
mod process;
mod tier;
mod trace;
mod trial;
mod way;
mod world;

pub use database::Row;
pub use fault::{Event, Fault, Script};
pub use judge::Violation;
pub(crate) use process::Process;
pub use tier::SimulatedTier;
pub use trial::{Outcome, Trial};
pub use world::{Node, Ran, Simulation, World};
