//! What happened, line by line, as a digest: two runs of one seed have the same.

use parking_lot::Mutex;
use std::fmt;
use std::time::Duration;

#[derive(Default)]
pub(super) struct Trace(Mutex<Lines>);

#[derive(Default)]
struct Lines {
    hasher: blake3::Hasher,
    /// Kept where somebody wants to read them.
    kept: Option<Vec<String>>,
}

impl Trace {
    pub(super) fn new(kept: bool) -> Self {
        Self(Mutex::new(Lines { hasher: blake3::Hasher::new(), kept: kept.then(Vec::new) }))
    }

    pub(super) fn note(&self, at: Duration, what: fmt::Arguments<'_>) {
        use std::io::Write;
        let mut lines = self.0.lock();
        let _ = writeln!(lines.hasher, "{} {what}", at.as_micros());
        if let Some(kept) = &mut lines.kept {
            kept.push(format!("{:>9.3} ms  {what}", at.as_secs_f64() * 1e3));
        }
    }

    pub(super) fn digest(&self) -> u64 {
        let digest = self.0.lock().hasher.finalize();
        digest.as_bytes().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    pub(super) fn take(&self) -> Vec<String> {
        self.0.lock().kept.take().unwrap_or_default()
    }
}
