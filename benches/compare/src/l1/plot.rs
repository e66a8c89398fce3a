//! The chart of a run: what a hit costs.

use crate::chart::{Bars, Chart, Panel};
use crate::series::{self, Series};

use super::{BARE_LOOP, OURS};

/// A panel each, where they were measured.
const WORKS: [(&str, &str); 2] = [
    ("u64-zipf-ttl", "u64 to u64, zipf 0.99 over 100,000 resident keys, TTL 60 s"),
    ("string-zipf-ttl", "String of 24 B to Arc<[u8; 128]>, looked up by &str, else the same"),
];
const THREADS: [usize; 2] = [1, 2];
/// Marks a subject that does less than the work asks for.
const LESS: &str = "*";

/// Nanoseconds a hit and thread, by subject. Linear: a bar's length is its time.
pub(crate) fn hits(series: &[Series]) -> String {
    let panels = WORKS.iter().map(|(work, title)| panel(series, work, title)).filter(|panel| !panel.groups.is_empty());
    Chart {
        title: "A hit in process, ns per operation and thread (less is better)".into(),
        legend: THREADS.map(|threads| format!("{threads} thread{}", if threads == 1 { "" } else { "s" })).into(),
        panels: panels.collect(),
        footnote: format!("{LESS} does not expire entries, or does not evict them: less work than the others do"),
    }
    .svg()
}

fn panel(series: &[Series], work: &str, title: &str) -> Panel {
    let of_work = series.iter().filter(|series| series.work == work && series.threads == THREADS[0]);
    let mut groups: Vec<Bars> = of_work
        .filter(|series| series.subject != BARE_LOOP)
        .filter_map(|first| {
            let values = THREADS.map(|threads| Some(series::find(series, work, threads, first.subject)?.figure().median));
            let values = values.into_iter().collect::<Option<Vec<f64>>>()?;
            let less = first.note.contains("no expiry") || first.note.contains("no eviction");
            let label = format!("{}{}", first.subject, if less { LESS } else { "" });
            Some(Bars { label, ours: first.subject.starts_with(OURS), values })
        })
        .collect();
    groups.sort_by(|one, other| one.values[0].total_cmp(&other.values[0]));
    Panel { title: title.into(), groups }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Unit;

    #[test]
    fn subjects_stand_in_the_order_of_their_time_and_the_bare_loop_is_left_out() {
        let one = |threads, subject, ns| Series {
            work: "u64-zipf-ttl".into(),
            threads,
            subject,
            note: "",
            unit: Unit::Nanoseconds,
            samples: vec![ns],
        };
        let series = [
            one(1, "moka-sync", 500.0),
            one(2, "moka-sync", 700.0),
            one(1, OURS, 10.0),
            one(2, OURS, 10.0),
            one(1, BARE_LOOP, 1.0),
            one(2, BARE_LOOP, 1.0),
            one(1, "cached", 100.0),
        ];
        let labels: Vec<String> = panel(&series, "u64-zipf-ttl", "").groups.into_iter().map(|group| group.label).collect();
        assert_eq!(labels, [OURS, "moka-sync"]);
    }
}
