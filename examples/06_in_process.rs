//! A cache of this process alone, without a runtime: read in place, bounded by bytes, told of all that leaves.
//!
//! `cargo run --example 06_in_process`. The clock is moved by hand, so nothing here waits.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use cachestack::{Cause, Compute, Computed, Expiry, ManualClock, MemoryCache};

const SECOND: Duration = Duration::from_secs(1);

/// Which pages have left, and why, in their order.
#[derive(Clone, Default)]
struct Departures(Arc<Mutex<Vec<(String, Cause)>>>);

impl Departures {
    fn note(&self, path: &str, cause: Cause) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((path.to_owned(), cause));
    }

    /// Those since the last call.
    fn take(&self) -> Vec<(String, Cause)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn page(letter: &str) -> Arc<str> {
    letter.repeat(100).into()
}

fn main() {
    let (clock, departures) = (ManualClock::new(), Departures::default());
    let pages = MemoryCache::<String, Arc<str>>::builder()
        .capacity(1_000)
        // Bytes; the start page weighs nothing, so no other page can push it out.
        .weigher(|path, body| if path == "/" { 0 } else { body.len() as u32 })
        .time_to_live(60 * SECOND)
        .time_to_idle(10 * SECOND)
        .clock(clock.clock())
        .listener({
            let departures = departures.clone();
            move |path: &String, _, cause| departures.note(path, cause)
        })
        .build();

    pages.insert_for("/".to_owned(), page("s"), Expiry::default());
    pages.insert("/a".to_owned(), page("a"));
    assert_eq!(pages.with("/a", Arc::strong_count), Some(1));
    assert_eq!(pages.get("/a").as_ref().map(Arc::strong_count), Some(2));
    println!("read in its place, an Arc keeps its count of 1; taken out, it has 2");

    for number in 0..20 {
        pages.insert(format!("/{number}"), page("n"));
        assert!(pages.stats().weight <= 1_000);
    }
    let left = departures.take();
    assert!(left.len() == 11 && left.iter().all(|(_, cause)| *cause == Cause::Size));
    assert!(pages.contains_key("/"));
    println!("22 pages of 100 bytes into 1,000: {} had to go, the pinned start page stays", left.len());

    pages.resize(300);
    assert_eq!((pages.stats().weight, departures.take().len()), (300, 7));
    let mut paths: Vec<_> = pages.iter().map(|(path, _)| path).collect();
    paths.sort();
    assert_eq!((paths.len(), paths[0].as_str()), (4, "/"));
    println!("resized to 300: 7 more went at once, 4 are left: {}", paths.join(" "));

    pages.clear();
    assert!(pages.is_empty());
    pages.sweep();
    let left = departures.take();
    assert!(left.len() == 4 && left.iter().all(|(_, cause)| *cause == Cause::Removed));
    println!("cleared at once; those 4 were told of by the writes after it, or here by a sweep");

    pages.insert("/read".to_owned(), page("r"));
    pages.insert("/idle".to_owned(), page("i"));
    for _ in 0..7 {
        clock.advance(8 * SECOND);
        assert!(pages.get("/read").is_some());
    }
    assert!(!pages.contains_key("/idle"));
    clock.advance(8 * SECOND);
    assert_eq!(pages.get("/read"), None);
    pages.sweep();
    let mut left = departures.take();
    left.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(left, [("/idle".to_owned(), Cause::Expired), ("/read".to_owned(), Cause::Expired)]);
    println!("unread for 10 s, /idle expired; /read, read every 8 s, after 60 s all the same");

    pages.insert("/old".to_owned(), page("1"));
    pages.insert("/old".to_owned(), page("2"));
    pages.remove("/old");
    assert_eq!(departures.take(), [("/old".to_owned(), Cause::Replaced), ("/old".to_owned(), Cause::Removed)]);
    println!("a new value is told of as replaced, then as removed");

    let counts = MemoryCache::<&str, u64>::builder().build();
    thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                for _ in 0..1_000 {
                    let done = counts.compute("views", |count| Compute::Put(count.map_or(1, |count| count + 1)));
                    assert_eq!(done, Computed::Stored);
                }
            });
        }
    });
    assert_eq!(counts.get("views"), Some(4_000));
    println!("four threads counted to 4,000: compute loses no update");
}
