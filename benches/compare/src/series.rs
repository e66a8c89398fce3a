//! The samples of one subject at one work: what rows, bars and charts are made of.

use crate::rounds::Figure;

/// What a sample counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanoseconds,
    BytesPerEntry,
}

/// One sample a round, in the order of the rounds: samples of two series at the same place were taken in the same round.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) work: String,
    pub(crate) threads: usize,
    pub(crate) subject: &'static str,
    /// What sets the subject apart, as its table says it.
    pub(crate) note: &'static str,
    pub(crate) unit: Unit,
    pub(crate) samples: Vec<f64>,
}

impl Series {
    pub(crate) fn figure(&self) -> Figure {
        Figure::of(self.samples.iter().copied())
    }
}

/// The series of this subject at this work, if it was measured.
pub(crate) fn find<'a>(series: &'a [Series], work: &str, threads: usize, subject: &str) -> Option<&'a Series> {
    series.iter().find(|series| series.work == work && series.threads == threads && series.subject == subject)
}
