//! Time per operation, at each number of threads.

use std::sync::Arc;

use crate::args::Args;
use crate::error::Error;
use crate::progress;
use crate::report::{Line, Table};
use crate::rounds::alternate;
use crate::series::{Series, Unit};
use crate::subject::{Key, Value};

use super::roster::Roster;
use super::script::Script;
use super::tally::Tally;
use super::work::Work;
use super::{BARE_LOOP, OURS};

/// Measures every wanted subject and prints them as a table.
pub(crate) fn measure<K: Key, V: Value>(args: &Args, work: &Work, roster: Roster<K, V>) -> Result<Vec<Series>, Error> {
    let most_threads = args.threads.iter().copied().max().unwrap_or(1);
    progress::show(&format!("{}: filling", work.name));
    let script = Arc::new(Script::<K>::of(work, most_threads));
    let mut contenders = roster.build(&script, |name| args.wants_subject(name))?;
    if contenders.is_empty() {
        progress::show("");
        return Ok(Vec::new());
    }

    let (mut turn, turns) = (0, args.rounds * contenders.len());
    // One sample at each number of threads a round, so that those too can be compared within a round.
    let samples = alternate(&mut contenders, args.rounds, |contender| {
        turn += 1;
        progress::show(&format!("{}: {turn} of {turns}", work.name));
        args.threads.iter().map(|threads| contender.sample(*threads, args.window)).collect::<Result<Vec<Tally>, Error>>()
    })?;
    progress::show("");

    let mut series = Vec::new();
    let mut lines = Vec::with_capacity(contenders.len());
    for (contender, rounds) in contenders.iter().zip(samples) {
        let (subject, note, least) = (contender.name(), contender.note(), work.least_hits);
        let hit_ratio = rounds.iter().flatten().copied().sum::<Tally>().hit_ratio();
        if hit_ratio < least {
            return Err(Error::TooManyMisses { work: work.name, subject, hit_ratio, least });
        }
        let of_subject: Vec<Series> = args
            .threads
            .iter()
            .enumerate()
            .map(|(index, &threads)| {
                let samples = rounds.iter().map(|tallies| tallies[index].ns_per_op()).collect();
                Series { work: work.name.into(), threads, subject, note, unit: Unit::Nanoseconds, samples }
            })
            .collect();
        let figures = of_subject.iter().map(Series::figure).collect();
        lines.push(Line { subject, note, figures, hit_ratio });
        series.extend(of_subject);
    }
    let reference = reference(&lines);
    println!("\n{}: {}; ratios to {}", work.name, work.about, reference.map_or("nothing", |line| line.subject));
    print!("{}", Table { threads: &args.threads, lines: &lines, reference });
    Ok(series)
}

fn reference(lines: &[Line]) -> Option<&Line> {
    let ours = lines.iter().find(|line| line.subject == OURS);
    ours.or_else(|| lines.iter().find(|line| line.subject != BARE_LOOP))
}
