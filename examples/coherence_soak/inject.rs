//! How each fault is brought about, and what shows that it was: in rounds, each of which ends with all well again.

use crate::crew::Crew;
use crate::fault::Fault;
use crate::orders::{Way, Writing};
use crate::proxy::{Network, Proxies};
use crate::servers::Servers;
use cachestack::BoxError;
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
/// Above the bound: a reader that goes on then has old values, and has to know it.
const ASLEEP: Duration = Duration::from_secs(2);
/// Above the bound, or bound and grace: a node that can verify nothing for so long has to say so, or to have loaded anew.
const BEYOND: Duration = Duration::from_secs(1);

pub(crate) struct Injected {
    pub(crate) rounds: u64,
    /// What the system itself showed of it: a number of [`Fault::effect`].
    pub(crate) effect: u64,
}

/// Brings a fault about until its time is over, and to the end of its last round.
pub(crate) async fn inject(
    fault: Fault,
    servers: &Servers,
    crew: &mut Crew,
    (bound, grace): (Duration, Duration),
    until: Instant,
) -> Result<Injected, BoxError> {
    let mut effect = 0;
    if fault == Fault::KilledWriter && crew.way() != Way::ByHand {
        crew.write(Writing::Outbox).await?;
    }
    for round in 0.. {
        effect += match fault {
            Fault::None => {
                sleep_until(until).await;
                0
            }
            Fault::LostMessages => {
                let before = crew.harm();
                crew.proxies().iter().for_each(|proxies| proxies.set(Network::LosesMessages));
                sleep_until(until).await;
                crew.proxies().iter().for_each(|proxies| proxies.set(Network::Whole));
                crew.harm() - before
            }
            Fault::HalfOpen => {
                let before = crew.harm();
                crew.proxies().iter().for_each(Proxies::strand_subscribers);
                sleep(bound).await;
                crew.harm() - before
            }
            Fault::StoppedRedis => {
                let silent = servers.stop(round, bound + BEYOND).await?;
                sleep(REST).await;
                silent
            }
            Fault::KilledRedis => {
                let killed = servers.kill(round, DOWN).await?;
                sleep(UP).await;
                killed
            }
            Fault::KilledMaster => {
                let replaced = servers.kill(round, DOWN).await?;
                sleep(REST).await;
                replaced
            }
            Fault::KilledWriter => {
                let writer = round % crew.writers();
                let is_killed = crew.kill_writer(writer).await?;
                sleep(PAUSE).await;
                crew.replace_writer(writer).await?;
                sleep(REST).await;
                u64::from(is_killed)
            }
            Fault::FlushAll => {
                let forgotten = servers.flush().await?;
                sleep(PAUSE).await;
                forgotten
            }
            Fault::ClientKill => {
                let closed = servers.kill_clients().await?;
                sleep(PAUSE).await;
                closed
            }
            Fault::SlotMigration => servers.migrate(round).await?,
            Fault::OutOfMemory => {
                let before = servers.refused().await?;
                servers.limit_memory(1).await?;
                sleep(FULL).await;
                servers.limit_memory(0).await?;
                sleep(REST).await;
                servers.refused().await?.saturating_sub(before)
            }
            Fault::StoppedReader => {
                let reader = &crew.readers()[round % crew.readers().len()];
                reader.stop().await?;
                let since = Instant::now();
                sleep(bound + ASLEEP).await;
                let stopped = if reader.is_stopped()? { since.elapsed() } else { Duration::ZERO };
                reader.go_on();
                sleep(REST).await;
                stopped.as_millis() as u64
            }
            Fault::CutOff => {
                let before = crew.harm();
                let proxies = &crew.proxies()[round % crew.proxies().len()];
                proxies.set(Network::Silent);
                sleep(bound + grace + BEYOND).await;
                proxies.set(Network::Whole);
                let held = crew.harm() - before;
                sleep(REST).await;
                held
            }
        };
        if Instant::now() >= until {
            return Ok(Injected { rounds: if fault == Fault::None { 0 } else { round as u64 + 1 }, effect });
        }
    }
    unreachable!("rounds without an end")
}
