//! What an invalidation costs the server: its script, by the server's own account.

use std::collections::HashMap;
use std::sync::Arc;

use cachestack::{Namespace, Partition};
use tokio::runtime::Runtime;

use crate::args::Args;
use crate::error::Error;
use crate::remote::Failure;
use crate::rounds::alternate;

use super::account::Account;
use super::bed::{self, Node};
use super::row::Row;

pub(crate) const NAME: &str = "script";
const BAR_OF_ONE: f64 = 6.0;
const BAR_OF_MANY: f64 = 2.0;
const SMALL: usize = 100;
const LARGE: usize = 64 << 10;
/// Keys of a call of many.
const BATCH: usize = 100;
const BATCHES: usize = 20;

/// Calls, each for these keys, of which each has a value of so many bytes.
struct Case {
    what: &'static str,
    value_bytes: usize,
    /// Each makes one call after the other. By one task the server has slept before each call, by many it has not.
    tasks: usize,
    calls: Arc<[Vec<u64>]>,
    bar: f64,
}

pub(crate) fn measure(args: &Args) -> Result<Vec<Row>, Error> {
    let mut cases = cases();
    let samples = bed::with_server(NAME, |redis, runtime| {
        let node = runtime.block_on(bed::node(redis))?;
        let mut account = Account::open(redis)?;
        alternate(&mut cases, args.rounds, |case| sample(case, runtime, &node, &mut account))
    })?;
    let row = |(case, samples): (&Case, Vec<f64>)| Row::of(NAME, case.what, "us a key", &samples).at_most(case.bar);
    Ok(cases.iter().zip(samples).map(row).collect())
}

/// Microseconds of server time a key.
fn sample(case: &Case, runtime: &Runtime, node: &Node, account: &mut Account) -> Result<f64, Failure> {
    runtime.block_on(bed::store(node, case.calls.iter().flatten().copied(), case.value_bytes))?;
    account.reset()?;
    runtime.block_on(async {
        let call = |task| tokio::spawn(invalidate(node.clone(), case.calls.clone(), task, case.tasks));
        for task in (0..case.tasks).map(call).collect::<Vec<_>>() {
            task.await??;
        }
        Ok::<_, Failure>(())
    })?;
    let spent = account.spent(&["evalsha"])?;
    // Those of one time go together.
    if spent.calls == 0 {
        return Err("there were no scripts".into());
    }
    Ok(spent.micros as f64 / case.calls.iter().map(Vec::len).sum::<usize>() as f64)
}

/// One task's calls.
async fn invalidate(node: Node, calls: Arc<[Vec<u64>]>, task: usize, tasks: usize) -> Result<(), Failure> {
    for keys in calls.iter().skip(task).step_by(tasks) {
        if let [key] = keys[..] {
            node.invalidate(&key).await?;
        } else {
            node.invalidate_many(keys).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        }
    }
    Ok(())
}

fn cases() -> Vec<Case> {
    let singly = |count: u64| (0..count).map(|id| vec![id]).collect::<Vec<_>>();
    let any = (0..(BATCHES * BATCH) as u64).collect::<Vec<_>>().chunks(BATCH).map(<[u64]>::to_vec).collect();
    let case = |what, value_bytes, tasks, calls: Vec<Vec<u64>>, bar| Case { what, value_bytes, tasks, calls: calls.into(), bar };
    vec![
        case("one key, 100 B, one task", SMALL, 1, singly(1_000), BAR_OF_ONE),
        case("one key, 64 KiB, one task", LARGE, 1, singly(500), BAR_OF_ONE),
        case("one key, 100 B, 16 tasks", SMALL, 16, singly(1_000), BAR_OF_ONE),
        case("one key, 64 KiB, 16 tasks", LARGE, 16, singly(500), BAR_OF_ONE),
        case("100 keys of one partition", SMALL, 1, of_one_partition(), BAR_OF_MANY),
        case("100 keys of any partitions", SMALL, 1, any, BAR_OF_MANY),
    ]
}

/// Batches, each of keys of the same partition.
fn of_one_partition() -> Vec<Vec<u64>> {
    let namespace = Namespace::new("cs", bed::NAME).expect("the name is valid");
    let mut partitions: HashMap<Partition, Vec<u64>> = HashMap::new();
    let mut full = Vec::new();
    for id in 0.. {
        let partition = namespace.key(&id).partition();
        let keys = partitions.entry(partition).or_default();
        keys.push(id);
        if keys.len() == BATCH {
            full.extend(partitions.remove(&partition));
            if full.len() == BATCHES {
                break;
            }
        }
    }
    full
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_a_hundred_keys_and_of_one_partition_where_it_says_so() {
        let namespace = Namespace::new("cs", bed::NAME).unwrap();
        let partitions = |keys: &[u64]| {
            let mut partitions: Vec<_> = keys.iter().map(|id| namespace.key(id).partition()).collect();
            partitions.sort();
            partitions.dedup();
            partitions.len()
        };
        let [.., same, any] = &cases()[..] else { panic!("there are two of many keys") };
        assert!(same.calls.iter().chain(&*any.calls).all(|keys| keys.len() == BATCH));
        assert!(same.calls.iter().all(|keys| partitions(keys) == 1));
        assert!(any.calls.iter().all(|keys| partitions(keys) > 50));
    }
}
