//! How many commands a hit in L2 is.

use std::sync::Arc;

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

            account.reset()?;
            for id in 0..HITS {
                cache.get(&id).await.ok_or("a key was not found")?;
            }
            rows.push(
                Row::of(NAME, "GET and MGET a hit, one task", "commands", &[per_hit(account.spent(&READS)?.calls)]).at_most(1.0),
            );
            rows.push(
                Row::of(NAME, "scripts a hit, one task", "commands", &[per_hit(account.spent(&SCRIPTS)?.calls)]).at_most(0.0),
            );

            account.reset()?;
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
            let commands = account.spent(&READS)?.calls;
            // The polls look keys up as well.
            let keys = account.lookups()?.saturating_sub(account.spent(&["hmget"])?.calls);
            rows.push(Row::of(NAME, "GET and MGET a hit, 128 tasks", "commands", &[per_hit(commands)]).at_most(1.0));
            rows.push(Row::of(NAME, "keys looked up a hit, 128 tasks", "keys", &[per_hit(keys)]).at_most(1.0));
            rows.push(
                Row::of(NAME, "scripts a hit, 128 tasks", "commands", &[per_hit(account.spent(&SCRIPTS)?.calls)]).at_most(0.0),
            );
            Ok(rows)
        })
    })
}

fn per_hit(count: u64) -> f64 {
    count as f64 / HITS as f64
}
