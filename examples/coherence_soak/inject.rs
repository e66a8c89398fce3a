//! How each fault is brought about: in rounds, each of which ends with all well again.

use crate::crew::Crew;
use crate::fault::Fault;
use crate::orders::{Way, Writing};
use crate::proxy::{Network, Proxies};
use crate::servers::Servers;
use cachestack::BoxError;
use rustix::process::Signal;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// How long a killed Redis is away, and how long it is left alone then.
const DOWN: Duration = Duration::from_millis(500);
const UP: Duration = Duration::from_secs(2);
/// Between two of the faults that pass at once.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two rounds of the others.
const REST: Duration = Duration::from_secs(1);
const FULL: Duration = Duration::from_millis(1_500);
const STOPPED: Duration = Duration::from_secs(5);
/// Above the bound: a node that can verify nothing for so long has to say so.
const BEYOND: Duration = Duration::from_secs(1);

/// Brings a fault about until its time is over, and to the end of its last round. How many rounds there were.
pub(crate) async fn inject(
    fault: Fault,
    servers: &Servers,
    crew: &mut Crew,
    bound: Duration,
    until: Instant,
) -> Result<u64, BoxError> {
    if fault == Fault::KilledWriter && crew.way() != Way::ByHand {
        crew.write(Writing::Outbox).await?;
    }
    for round in 0.. {
        match fault {
            Fault::None => sleep_until(until).await,
            Fault::LostMessages => {
                crew.proxies().iter().for_each(|proxies| proxies.set(Network::LosesMessages));
                sleep_until(until).await;
                crew.proxies().iter().for_each(|proxies| proxies.set(Network::Whole));
            }
            Fault::HalfOpen => {
                crew.proxies().iter().for_each(Proxies::strand_subscribers);
                sleep(bound).await;
            }
            Fault::StoppedRedis => {
                servers.stop(round, bound + BEYOND).await?;
                sleep(REST).await;
            }
            Fault::KilledRedis => {
                servers.kill(round, DOWN).await?;
                sleep(UP).await;
            }
            Fault::KilledMaster => {
                servers.kill(round, DOWN).await?;
                sleep(REST).await;
            }
            Fault::KilledWriter => {
                let writer = round % crew.writers();
                crew.kill_writer(writer).await?;
                sleep(PAUSE).await;
                crew.replace_writer(writer).await?;
                sleep(REST).await;
            }
            Fault::FlushAll => {
                servers.tell_all("FLUSHALL").await?;
                sleep(PAUSE).await;
            }
            Fault::ClientKill => {
                servers.tell_all("CLIENT KILL TYPE normal").await?;
                servers.tell_all("CLIENT KILL TYPE pubsub").await?;
                sleep(PAUSE).await;
            }
            Fault::SlotMigration => servers.migrate(round).await?,
            Fault::OutOfMemory => {
                servers.tell_all("CONFIG SET maxmemory-policy noeviction maxmemory 1").await?;
                sleep(FULL).await;
                servers.tell_all("CONFIG SET maxmemory 0").await?;
                sleep(REST).await;
            }
            Fault::StoppedReader => {
                let reader = &crew.readers()[round % crew.readers().len()];
                reader.signal(Signal::STOP);
                sleep(STOPPED).await;
                reader.signal(Signal::CONT);
                sleep(REST).await;
            }
            Fault::CutOff => {
                let proxies = &crew.proxies()[round % crew.proxies().len()];
                proxies.set(Network::Silent);
                sleep(bound + BEYOND).await;
                proxies.set(Network::Whole);
                sleep(REST).await;
            }
        }
        if Instant::now() >= until {
            return Ok(if fault == Fault::None { 0 } else { round as u64 + 1 });
        }
    }
    unreachable!("rounds without an end")
}
