//! `compare hit-ratio`: the share of reads that hit, over recorded accesses, against what could be had at most.

use std::path::PathBuf;

use serde::Serialize;

use crate::args::Args;
use crate::chart::{Bars, Chart, Panel};
use crate::error::Error;
use crate::progress;
use crate::report::{self, rounded};

use self::cell::Cell;
use self::summary::Summary;
use self::trace::Trace;

mod cell;
mod lru;
mod opt;
mod replay;
mod summary;
mod trace;

const OPT: &str = "OPT";
const LRU: &str = "LRU";
const OURS: &str = "cachestack";

/// Percent of a trace's distinct keys that a cache has room for.
const SHARES: [f64; 3] = [0.1, 1.0, 10.0];
/// A cell says little where the cache holds fewer entries,
const LEAST_ENTRIES: usize = 50;
/// or where not even foresight hits more often, in percent.
const LEAST_OPT: f64 = 3.0;

/// One figure of one subject at one cell. `share` and `hit_ratio` are percent.
#[derive(Debug, Serialize)]
struct Row<'a> {
    trace: &'a str,
    share: f64,
    capacity: usize,
    subject: &'static str,
    hit_ratio: f64,
}

/// Replays what was asked for, prints a line a cell and a summary, and writes the rows if a file was named.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let subjects = replay::subjects();
    let names: Vec<&str> = subjects.iter().map(|subject| subject.name).collect();
    args.check_names(&[], &names)?;
    let files = wanted_files(args)?;
    if let Some(path) = &args.json {
        report::write_json::<Row>(path, &[])?;
    }
    if let Some(path) = &args.svg {
        report::write_text(path, "")?;
    }

    println!("compare hit-ratio: % of reads; read-through, unit weights, one thread; cells are % of the distinct keys");
    println!("left out: cells of less than {LEAST_ENTRIES} entries, and where OPT hits less than {LEAST_OPT} %");
    // The references are always there: without them a cell cannot be judged.
    let chosen: Vec<_> =
        subjects.into_iter().filter(|subject| [OPT, LRU].contains(&subject.name) || args.wants_subject(subject.name)).collect();
    print!("{:<14}{:>6}{:>8}", "trace", "share", "entries");
    for subject in &chosen {
        print!("{:>1$}", subject.name, column(subject.name));
    }
    println!();

    let mut cells = Vec::new();
    for (name, path) in files {
        progress::show(&format!("{name}: reading"));
        let trace = Trace::read(name, &path)?;
        for share in SHARES {
            progress::show(&format!("{}: {share} %", trace.name));
            let Some(cell) = Cell::of(&trace, share, &chosen) else { continue };
            progress::show("");
            print!("{:<14}{share:>5}%{:>8}", cell.trace, cell.capacity);
            for (subject, hit_ratio) in &cell.hit_ratios {
                print!("{hit_ratio:>0$.2}", column(subject));
            }
            println!();
            cells.push(cell);
        }
        if let Some(path) = &args.json {
            report::write_json(path, &rows(&cells))?;
        }
    }
    progress::show("");
    let summaries = Summary::of(&cells);
    summary::print(&cells, &summaries);
    if let Some(path) = &args.svg {
        report::write_text(path, &plot(&summaries, cells.len()))?;
    }
    Ok(())
}

fn column(subject: &str) -> usize {
    subject.len().max(6) + 2
}

/// Names and paths, in the order of the names.
fn wanted_files(args: &Args) -> Result<Vec<(String, PathBuf)>, Error> {
    let folder = args.traces.as_deref().expect("asked for by the command line's reader");
    let files = trace::files(folder)?;
    args.check_traces(&files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())?;
    let wanted: Vec<_> = files.into_iter().filter(|(name, _)| args.wants_trace(name)).collect();
    if wanted.is_empty() {
        return Err(Error::Usage(format!("no NAME.u64.zst in {}", folder.display())));
    }
    Ok(wanted)
}

fn rows(cells: &[Cell]) -> Vec<Row<'_>> {
    let of = |cell: &'_ Cell| {
        let rows = cell.hit_ratios.clone().into_iter();
        let (share, capacity) = (cell.share, cell.capacity);
        rows.map(move |(subject, hit_ratio)| (share, capacity, subject, rounded(hit_ratio, 2))).collect::<Vec<_>>()
    };
    let flat = cells.iter().flat_map(|cell| of(cell).into_iter().map(move |row| (cell.trace.as_str(), row)));
    flat.map(|(trace, (share, capacity, subject, hit_ratio))| Row { trace, share, capacity, subject, hit_ratio }).collect()
}

fn plot(summaries: &[Summary], cells: usize) -> String {
    // What no user of moka has does not belong into a picture.
    let shown = summaries.iter().filter(|summary| summary.subject != replay::MOKA_SETTLED);
    let bars = |summary: &Summary| {
        let ours = summary.subject.starts_with(OURS);
        Bars { label: summary.subject.into(), ours, values: vec![summary.share_of_opt] }
    };
    let mut groups: Vec<Bars> = shown.map(bars).collect();
    groups.sort_by(|one, other| other.values[0].total_cmp(&one.values[0]));
    let title = format!("Hit ratio, % of what foresight (OPT) would reach, mean over {cells} cells (more is better)");
    let panels = vec![Panel { title: String::new(), groups }];
    Chart { title, legend: Vec::new(), panels, footnote: String::new() }.svg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_five_fields_that_readers_of_the_file_expect() {
        let cell = Cell { trace: "web07".into(), share: 0.1, capacity: 20, hit_ratios: vec![(OPT, 12.345_6)] };
        let json = r#"[{"trace":"web07","share":0.1,"capacity":20,"subject":"OPT","hit_ratio":12.35}]"#;
        assert_eq!(serde_json::to_string(&rows(&[cell])).unwrap(), json);
    }
}
