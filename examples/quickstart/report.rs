//! What the quickstart prints.

use std::time::Duration;

use cachestack::Stats;

use crate::replay::{Latencies, Tally};

/// One way of the comparison.
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) queries: u64,
    pub(crate) tally: &'a Tally,
}

pub(crate) fn rows_head() {
    println!("{:24} {:>16} {:>15} {:>8} {:>14}", "", "database queries", "of all requests", "took", "requests/s");
}

pub(crate) fn row(row: &Row<'_>) {
    let Row { name, queries, tally } = row;
    println!(
        "{name:24} {:>16} {:>13.1} % {:>6.2} s {:>14}",
        count(*queries),
        percent(*queries, tally.requests),
        tally.took.as_secs_f64(),
        count(per_second(tally.requests, tally.took)),
    );
}

pub(crate) fn failures(tally: &Tally) {
    if let Some(first) = &tally.first_failure {
        println!("{} requests FAILED, the first because: {first}", count(tally.failed));
    }
}

/// The last row in detail.
pub(crate) fn full_stack(tally: &Tally, stats: &Stats, shards: &[(&str, u64)]) {
    let line = |name: &str, number: u64| println!("{name:24} {:>16} {:>13.1} %", count(number), percent(number, tally.requests));
    println!("\nThe last way, L1 + L2 + single-flight, in detail\n");
    line("requests", tally.requests);
    line("hits in L1", stats.l1.hits);
    line("hits in L2", stats.l2.hits);
    line("coalesced waits", stats.coalesced);
    line("loads", stats.loads);
    for (shard, loads) in shards {
        println!("{:24} {:>16}", format!("  {shard}"), count(*loads));
    }
    println!("{:24} {:>32.1} %", "hit rate", stats.hit_rate() * 100.0);
    println!("{:24} {:>16}", "failed requests", count(tally.failed));
    println!("\n{:24} {:>10} {:>10} {:>10}", "latency", "p50", "p99", "p99.9");
    quantiles("hits in L1", &tally.l1_hits);
    quantiles("hits in L2", &tally.l2_hits);
    quantiles("loads, waits included", &tally.loads);
}

fn quantiles(name: &str, latencies: &Latencies) {
    let at = |quantile| time(Duration::from_nanos(latencies.value_at_quantile(quantile)));
    println!("{name:24} {:>10} {:>10} {:>10}", at(0.5), at(0.99), at(0.999));
}

pub(crate) fn second_head() {
    println!(
        "{:>6} {:>12} {:>9} {:>9} {:>10} {:>16}",
        "second", "requests/s", "hit rate", "loads/s", "L2 errors", "failed requests"
    );
}

/// A second of the loop; failed requests since it began.
pub(crate) fn second(second: u64, requests: u64, stats: &Stats, failed: u64) {
    println!(
        "{second:>6} {:>12} {:>7.1} % {:>9} {:>10} {:>16}",
        count(requests),
        stats.hit_rate() * 100.0,
        count(stats.loads),
        count(stats.l2.errors),
        count(failed),
    );
}

pub(crate) fn loop_end(tally: &Tally, stats: &Stats) {
    println!(
        "\n{} requests in {:.1} s, hit rate {:.1} %, {} loads, {} L2 errors: {} failed requests.",
        count(tally.requests),
        tally.took.as_secs_f64(),
        stats.hit_rate() * 100.0,
        count(stats.loads),
        count(stats.l2.errors),
        count(tally.failed),
    );
    failures(tally);
}

/// With a comma between thousands.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn per_second(number: u64, took: Duration) -> u64 {
    (number as f64 / took.as_secs_f64().max(1e-9)) as u64
}

/// Two or three digits and a unit.
fn time(time: Duration) -> String {
    let nanos = time.as_nanos() as f64;
    let (number, unit) = match time.as_nanos() {
        0..1_000 => return format!("{nanos} ns"),
        1_000..1_000_000 => (nanos / 1e3, "µs"),
        1_000_000..1_000_000_000 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    if number < 10.0 { format!("{number:.1} {unit}") } else { format!("{number:.0} {unit}") }
}
