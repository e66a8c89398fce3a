//! A hit asks nothing of the kernel. The kernel says so: under strict secure computing it kills a thread that calls it, but to read and write files.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use cache_memory::MemoryCache;
use rustix::thread::{SecureComputingMode, gettid, set_secure_computing_mode};
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

const TIMES: u64 = 10_000;

/// Does `work` again and again in a thread that may not call the kernel. How often it did, or `None` where the kernel has no such mode.
fn without_the_kernel<T>(prepare: impl FnOnce() -> T + Send + 'static, work: impl Fn(&T) + Send + 'static) -> Option<u64> {
    let (tell, told) = mpsc::channel();
    let (mut nothing, never) = std::io::pipe().expect("a pipe");
    let done = Arc::new(AtomicU64::new(0));
    let count = done.clone();
    std::thread::spawn(move || {
        let prepared = prepare();
        tell.send(gettid()).expect("the test waits");
        if set_secure_computing_mode(SecureComputingMode::Strict).is_err() {
            count.store(u64::MAX, Ordering::Release);
            return;
        }
        for _ in 0..TIMES {
            work(&prepared);
            count.fetch_add(1, Ordering::Release);
        }
        // For ever: to end would be another call. The process's end ends it.
        _ = nothing.read(&mut [0]);
    });
    let thread = told.recv().expect("it begins");
    let alive = PathBuf::from(format!("/proc/self/task/{}", thread.as_raw_nonzero()));
    // A thread that is killed tells nobody. Looked at before the count, which may come to its end in between.
    while alive.exists() && done.load(Ordering::Acquire) < TIMES {
        std::thread::yield_now();
    }
    // Closed, it would have the thread go on.
    std::mem::forget(never);
    Some(done.load(Ordering::Acquire)).filter(|done| *done != u64::MAX)
}

#[test]
fn a_hit_makes_no_system_call() {
    let prepare = || {
        let cache = MemoryCache::<u64, u64>::builder().capacity(1_000).time_to_live(std::time::Duration::from_secs(600)).build();
        (0..100).for_each(|key| assert!(cache.insert(key, key)));
        // The first read of a thread takes a record, and memory for it.
        assert_eq!(cache.get(&1), Some(1));
        (cache, AtomicU64::new(0))
    };
    let hit = |(cache, turn): &(MemoryCache<u64, u64>, AtomicU64)| {
        let key = turn.fetch_add(1, Ordering::Relaxed) % 100;
        assert_eq!(cache.get(&key), Some(key));
        assert_eq!(cache.with(&key, |value| value + 1), Some(key + 1));
        assert!(cache.contains_key(&key) && !cache.contains_key(&(key + 100)));
    };
    match without_the_kernel(prepare, hit) {
        Some(hits) => assert_eq!(hits, TIMES, "one of them called the kernel"),
        None => eprintln!("not run: this kernel has no strict secure computing"),
    }
}

/// Or the test above would say nothing.
#[test]
fn a_system_call_would_be_noticed() {
    let calls = without_the_kernel(|| (), |()| std::thread::yield_now());
    assert!(matches!(calls, None | Some(0)), "{calls:?} calls that the kernel let pass");
}
