//! Time of single reads while another thread inserts.

use std::sync::Arc;
use std::time::Duration;

use crate::args::Args;
use crate::error::Error;
use crate::progress;
use crate::rounds::{Figure, alternate};
use crate::series::{Series, Unit};
use crate::subject::{Key, Value};

use super::roster::Roster;
use super::script::Script;
use super::under_writer::{Pace, UnderWriter};
use super::work::Work;

/// A million inserts a second, and as many as the cache takes.
const PACES: [(&str, Pace); 2] = [("paced", Pace::Every(Duration::from_micros(1))), ("nonstop", Pace::Nonstop)];
/// Of a throughput sample's length: a tail needs more calls than a mean does.
const WINDOWS: u32 = 2;
/// The reader and the writer.
const THREADS: usize = 2;

/// A column: the end of its rows' name, its heading and what it takes from a sample.
type Column = (&'static str, &'static str, fn(&UnderWriter) -> f64);

const COLUMNS: [Column; 5] = [
    ("p50", "p50", |sample| sample.percentile_ns(0.5)),
    ("p99", "p99", |sample| sample.percentile_ns(0.99)),
    ("p999", "p99.9", |sample| sample.percentile_ns(0.999)),
    ("max", "max", UnderWriter::max_ns),
    ("insert", "ns/insert", |sample| sample.ns_per_insert),
];

/// Measures every wanted subject under both writers and prints a table each.
pub(crate) fn measure<K: Key, V: Value>(args: &Args, work: &Work, roster: Roster<K, V>) -> Result<Vec<Series>, Error> {
    progress::show(&format!("{}: filling", work.name));
    let script = Arc::new(Script::<K>::of(work, THREADS));
    let mut contenders = roster.build(&script, |name| args.wants_subject(name))?;
    let window = WINDOWS * args.window;
    let (mut turn, turns) = (0, args.rounds * contenders.len());
    let samples = alternate(&mut contenders, args.rounds, |contender| {
        turn += 1;
        progress::show(&format!("{}: {turn} of {turns}", work.name));
        PACES.iter().map(|(_, pace)| contender.under_writer(*pace, window)).collect::<Result<Vec<UnderWriter>, Error>>()
    })?;
    progress::show("");

    let mut series = Vec::new();
    for (index, (pace, _)) in PACES.iter().enumerate() {
        println!("\n{}, {pace} writer: {}; samples of {} ms", work.name, work.about, window.as_millis());
        print!("  {:<22}", "subject");
        for (_, heading, _) in COLUMNS {
            print!("{heading:>12} {:>5}", "±");
        }
        println!("{:>9}  note", "hits");
        for (contender, rounds) in contenders.iter().zip(&samples) {
            print!("  {:<22}", contender.name());
            for (suffix, _, of) in COLUMNS {
                let samples: Vec<f64> = rounds.iter().map(|paces| of(&paces[index])).collect();
                let Figure { median, spread } = Figure::of(samples.iter().copied());
                print!("{median:>12.0} {:>4.0}%", 100.0 * spread);
                let (work, subject, note) = (format!("{}-{pace}-{suffix}", work.name), contender.name(), contender.note());
                series.push(Series { work, threads: THREADS, subject, note, unit: Unit::Nanoseconds, samples });
            }
            let (misses, calls) = rounds
                .iter()
                .map(|paces| &paces[index])
                .fold((0, 0), |sum, sample| (sum.0 + sample.misses, sum.1 + sample.calls));
            println!("{:>8.1}%  {}", 100.0 * (1.0 - misses as f64 / calls.max(1) as f64), contender.note());
        }
    }
    Ok(series)
}
