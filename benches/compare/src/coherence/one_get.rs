//! How many commands a hit in L2 is.

use std::sync::Arc;
use std::time::Duration;

use cachestack::{TieredCache, Ttl};

use crate::args::Args;
use crate::error::Error;
use crate::remote::Failure;

use super::account::Account;
use super::bed::{self, AsIs};
use super::row::Row;

pub(crate) const NAME: &str = "l2-hit";
const HITS: u64 = 10_000;
const TASKS: u64 = 128;
const VALUE_BYTES: usize = 128;
const READS: [&str; 2] = ["get", "mget"];
/// A poll looks at so many keys, by one MGET.
const PARTITIONS: u64 = 256;
/// It has long been answered after so long.
const A_POLL: Duration = Duration::from_millis(20);
const TRIES: usize = 20;
/// Whatever runs a script.
const SCRIPTS: [&str; 4] = ["evalsha", "eval", "evalsha_ro", "fcall"];

/// One call at a time, each is a command of its own; many at once share commands, so there the keys are counted too.
pub(crate) fn measure(_: &Args) -> Result<Vec<Row>, Error> {
    bed::with_server(NAME, |redis, runtime| {
        runtime.block_on(async {
            let tier = bed::tier(redis).await?;
            let builder = TieredCache::<u64, Vec<u8>>::builder(bed::NAME).l2_with(tier, AsIs).ttl(Ttl::minutes(60));
            let cache = Arc::new(builder.build()?);
            for stored in cache.insert_many((0..HITS).map(|id| (id, vec![7; VALUE_BYTES]))).await {
                stored?;
            }
            let mut account = Account::open(redis)?;
            let mut rows = Vec::new();

            let polls = || cache.stats().coherence.polls;
            let one = async || {
                for id in 0..HITS {
                    cache.get(&id).await.ok_or("a key was not found")?;
                }
                Ok(())
            };
            let Counted { commands, scripts, .. } = counted(&mut account, polls, one).await?;
            rows.push(Row::of(NAME, "GET and MGET a hit, one task", "commands", &[per_hit(commands)]).at_most(1.0));
            rows.push(Row::of(NAME, "scripts a hit, one task", "commands", &[per_hit(scripts)]).at_most(0.0));

            let many = async || {
                let tasks: Vec<_> = (0..TASKS)
                    .map(|task| {
                        let cache = cache.clone();
                        tokio::spawn(async move {
                            for id in (task..HITS).step_by(TASKS as usize) {
                                cache.get(&id).await.ok_or("a key was not found")?;
                            }
                            Ok::<_, Failure>(())
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await??;
                }
                Ok(())
            };
            let Counted { commands, keys, scripts } = counted(&mut account, polls, many).await?;
            rows.push(Row::of(NAME, "GET and MGET a hit, 128 tasks", "commands", &[per_hit(commands)]).at_most(1.0));
            rows.push(Row::of(NAME, "keys looked up a hit, 128 tasks", "keys", &[per_hit(keys)]).at_most(1.0));
            rows.push(Row::of(NAME, "scripts a hit, 128 tasks", "commands", &[per_hit(scripts)]).at_most(0.0));
            Ok(rows)
        })
    })
}

/// What the server counted without the polls, which look their keys up by an MGET.
struct Counted {
    commands: u64,
    keys: u64,
    scripts: u64,
}

/// Counts what is done while no poll is sent, or none that is under way at either end.
async fn counted(
    account: &mut Account,
    polls: impl Fn() -> u64,
    work: impl AsyncFn() -> Result<(), Failure>,
) -> Result<Counted, Failure> {
    let quiet = async |before: u64| {
        tokio::time::sleep(A_POLL).await;
        polls() == before
    };
    for _ in 0..TRIES {
        let before = polls();
        if !quiet(before).await {
            continue;
        }
        account.reset()?;
        work().await?;
        let (commands, keys) = (account.spent(&READS)?.calls, account.lookups()?);
        let scripts = account.spent(&SCRIPTS)?.calls;
        let polled = polls();
        if quiet(polled).await {
            let polled = polled - before;
            return Ok(Counted { commands: commands - polled, keys: keys - polled * PARTITIONS, scripts });
        }
    }
    Err("polls were under way each time".into())
}

fn per_hit(count: u64) -> f64 {
    count as f64 / HITS as f64
}
