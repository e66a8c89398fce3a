//! What a doctor says.

use crate::partition::Partition;
use std::fmt;

/// How much a [`Finding`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// Looked at, and in order.
    Fine,
    /// To be known: a choice with a price, or something that could not be looked at.
    Note,
    /// It works, and will not under some fault, or not as it was meant.
    Warning,
    /// It does not work.
    Fault,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What was looked at: a word or two.
    pub about: &'static str,
    /// What was found, and what to do about it, in words. No address, user, password, key or value is in it.
    pub text: String,
}

impl Finding {
    /// A finding.
    pub fn new(severity: Severity, about: &'static str, text: impl Into<String>) -> Self {
        Self { severity, about, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Fine => "fine",
            Severity::Note => "note",
            Severity::Warning => "WARNING",
            Severity::Fault => "FAULT",
        };
        write!(f, "{severity:<7}  {}: {}", self.about, self.text)
    }
}

/// Whose store a tier is to [examine](crate::RemoteTier::examine): what is wrong depends on what it is for.
#[derive(Debug, Clone, Copy)]
pub struct Examine<'a> {
    /// The deployment's prefix.
    pub prefix: &'a str,
    /// Whether writes are [announced](crate::Builder::strict) in the store: an announcement that is evicted protects nothing.
    pub strict: bool,
}

/// What a tier knows of its store.
#[derive(Debug, Clone, Default)]
pub struct Examined {
    /// What no verb shows.
    pub findings: Vec<Finding>,
    /// One partition of each server, so that each can be tried; none where there is but one server, or no partition of any is known.
    pub partitions: Vec<Partition>,
}

/// All that [`TieredCache::doctor`](crate::TieredCache::doctor) has found, the worst first. Its [`Display`](fmt::Display) is a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    findings: Vec<Finding>,
}

impl Diagnosis {
    pub(crate) fn new(mut findings: Vec<Finding>) -> Self {
        // Stable: what belongs together stays together.
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Self { findings }
    }

    /// Each thing that was looked at, the worst first.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The worst severity there is.
    pub fn worst(&self) -> Severity {
        self.findings.first().map_or(Severity::Fine, |finding| finding.severity)
    }

    /// Whether there is neither a fault nor a warning.
    pub fn is_well(&self) -> bool {
        self.worst() < Severity::Warning
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))
    }
}
