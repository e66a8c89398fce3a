//! The memory that a cache takes, by what the process grows when it is filled.

use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::args::Args;
use crate::error::Error;
use crate::progress;
use crate::resident::resident_bytes;
use crate::series::{Series, Unit};
use crate::subject::{Key, Subject, Value};

use super::work::{Load, Types, Work};
use super::{BARE_LOOP, Roster};

/// What a cache is filled with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stock {
    pub(crate) capacity: usize,
    pub(crate) ttl: Option<Duration>,
    /// Distinct keys inserted.
    pub(crate) keys: u32,
}

impl Stock {
    /// `keys` entries in a cache with a fifth of its room to spare; or, if `full`, a cache for `keys` that has been offered three times as
    /// many and evicts.
    fn of(work: &Work, full: bool, quick: bool) -> Self {
        let Load::Resident { keys } = work.load else { unreachable!("only works of this kind are weighed") };
        let keys = if quick { keys / 10 } else { keys };
        let (capacity, offered) = if full { (keys, 3 * keys) } else { (keys + keys / 5, keys) };
        Self { capacity: capacity as usize, ttl: work.ttl, keys: offered }
    }
}

/// What was found, as a child process reports it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Weight {
    /// Keys found afterwards.
    live: u64,
    /// By which the resident memory of the process grew.
    bytes: u64,
}

impl Weight {
    /// Nothing where most of what was offered is missing: what the process grew by is then not the entries'.
    fn per_entry(self, capacity: usize) -> Option<f64> {
        (2 * self.live >= capacity as u64).then(|| self.bytes as f64 / self.live as f64)
    }
}

/// Fills a new cache in this process. Only the first call in a process counts: later ones find memory that the allocator has kept.
pub(crate) fn weigh<S: Subject<K, V>, K: Key, V: Value>(stock: Stock) -> Option<Weight> {
    let before = resident_bytes()?;
    let cache = S::new(stock.capacity, stock.ttl);
    for id in 0..stock.keys {
        cache.insert(K::of(id), V::of(id));
    }
    cache.settle();
    let after = resident_bytes()?;
    let live = (0..stock.keys).filter(|id| cache.get(&K::of(*id)).is_some()).count();
    Some(Weight { live: live as u64, bytes: after.saturating_sub(before) })
}

/// The child's part: weighs one subject and prints what it found.
pub(crate) fn weigh_one(args: &Args, work: &Work) -> Result<(), Error> {
    let stock = Stock::of(work, args.full, args.quick);
    let subject = args.only_subject().unwrap_or_default();
    let weight = match work.types {
        Types::Strings => Roster::strings().weigh(subject, stock),
        _ => Roster::words(work).weigh(subject, stock),
    };
    let weight = weight.ok_or_else(|| Error::Child("this subject cannot be weighed here".into()))?;
    println!("{}", serde_json::to_string(&weight).map_err(|error| Error::Child(error.to_string()))?);
    Ok(())
}

/// Weighs every subject in a process of its own and prints them as a table.
pub(crate) fn measure(args: &Args, work: &Work, subjects: &[(&'static str, &'static str)]) -> Result<Vec<Series>, Error> {
    println!("\n{}: {}", work.name, work.about);
    if resident_bytes().is_none() {
        println!("  left out: this system has no /proc to read a process's memory from");
        return Ok(Vec::new());
    }
    let [some, full] = [Stock::of(work, false, args.quick), Stock::of(work, true, args.quick)];
    println!("  first with {} keys and room for {}; then full, {} keys offered", some.keys, some.capacity, full.keys);
    println!("  {:<22}{:>9} {:>12}{:>15} {:>12}  note", "subject", "live", "bytes/entry", "live when full", "bytes/entry");
    let mut series = Vec::new();
    for (subject, note) in subjects.iter().filter(|(name, _)| *name != BARE_LOOP && args.wants_subject(name)) {
        progress::show(&format!("{}: {subject}", work.name));
        let mut line = format!("  {subject:<22}");
        for (full, suffix, stock) in [(false, "", some), (true, "-full", full)] {
            let weight = in_child(args, work, subject, full)?;
            let bytes = weight.per_entry(stock.capacity);
            let shown = bytes.map_or_else(|| "-".into(), |bytes| format!("{bytes:.1}"));
            let _ = write!(line, "{:>1$} {shown:>12}", weight.live, if full { 15 } else { 9 });
            series.extend(bytes.map(|bytes| Series {
                work: format!("{}{suffix}", work.name),
                threads: 1,
                subject,
                note,
                unit: Unit::BytesPerEntry,
                samples: vec![bytes],
            }));
        }
        progress::show("");
        println!("{line}  {note}");
    }
    Ok(series)
}

fn in_child(args: &Args, work: &Work, subject: &str, full: bool) -> Result<Weight, Error> {
    let program = std::env::current_exe().map_err(|error| Error::Child(error.to_string()))?;
    let mut child = Command::new(program);
    child.args(["weigh", "--work", work.name, "--subject", subject]);
    child.args(full.then_some("--full")).args(args.quick.then_some("--quick"));
    let output = child.output().map_err(|error| Error::Child(error.to_string()))?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        Error::Child(format!("{}, {subject}: {}: {}", work.name, output.status, complaint.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::SeqlockTable;

    #[test]
    fn a_cache_that_has_lost_most_of_what_it_was_offered_has_no_figure() {
        assert_eq!(Weight { live: 1_248, bytes: 75_000_000 }.per_entry(100_000), None);
        assert_eq!(Weight { live: 50_000, bytes: 5_000_000 }.per_entry(100_000), Some(100.0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_table_of_known_size_weighs_what_it_is() {
        let _alone = crate::resident::WEIGHING.lock();
        // 2^19 slots of 32 bytes for 200,000 keys: 84 bytes a key, of which hardly any comes from elsewhere.
        let weight = weigh::<SeqlockTable, u64, u64>(Stock { capacity: 200_000, ttl: None, keys: 200_000 }).unwrap();
        assert_eq!(weight.live, 200_000);
        assert!(weight.per_entry(200_000).is_some_and(|bytes| (80.0..95.0).contains(&bytes)), "{weight:?}");
    }
}
