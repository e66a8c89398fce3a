//! What goes wrong, and when: written down by hand, or drawn from a seed.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What goes wrong. Percentages are of each request, reply or message; durations are the longest that one of them takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing passes in either direction, and nobody is told: requests, replies and messages vanish.
    Cut,
    /// Requests vanish on their way to the server; callers wait for their timeout.
    RequestsLost(u8),
    /// The server has done what was asked, and its reply vanishes.
    RepliesLost(u8),
    /// Requests that may be sent twice come twice, the second one later: see [`Retry`](crate::layers::Retry) for which.
    RequestsDoubled(u8),
    /// Messages of invalidations vanish, and all else looks well.
    MessagesLost(u8),
    /// Messages come twice.
    MessagesDoubled(u8),
    /// Requests and replies take up to so long.
    Slow(Duration),
    /// Messages take up to so long, and overtake each other.
    MessagesSlow(Duration),
    /// The subscription's connection breaks, and none is made anew while this lasts.
    Deaf,
    /// The subscription's connection carries nothing any more, and the node notices up to so long later.
    HalfOpen(Duration),
    /// The server answers, and refuses to tell how far invalidations have come.
    PollsRefused,
    /// The process stands still, as by `SIGSTOP`.
    Paused,
    /// The machine is suspended: the process stands still, and its clock with it, but not wall time.
    Suspended,
    /// The process dies at once, and another one takes its place: see [`Node::again`](super::Node::again).
    Restarted,
    /// The server refuses connections, and those that stand break.
    Down,
    /// A replica becomes the server that has all but what came in the last so-and-so long.
    Failover(Duration),
    /// The server begins anew, empty.
    Wiped,
    /// The server has lost its sequences and nothing else.
    SequencesForgotten,
    /// The server has evicted all records.
    Evicted,
}

/// A fault, its time, and whom it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub(super) at: Duration,
    pub(super) lasts: Duration,
    pub(super) node: Option<usize>,
    pub(super) fault: Fault,
}

impl Event {
    /// A fault of all nodes, or of the server, this long after the simulation began; it does not last, so most want [`lasting`](Self::lasting).
    pub fn at(at: Duration, fault: Fault) -> Self {
        Self { at, lasts: Duration::ZERO, node: None, fault }
    }

    /// It lasts so long. Without effect on what happens in a moment: restarts, failovers, evictions.
    pub fn lasting(self, lasts: Duration) -> Self {
        Self { lasts, ..self }
    }

    /// It is about this node alone; nodes are counted from 0, as they were made.
    pub fn on(self, node: usize) -> Self {
        Self { node: Some(node), ..self }
    }

    /// Whether it does anything at all.
    pub(super) fn is_something(&self) -> bool {
        !(self.fault.needs_time() && self.lasts.is_zero())
    }

    pub(super) fn ends(&self) -> Duration {
        self.at + self.lasts
    }

    pub(super) fn is_about(&self, node: usize) -> bool {
        self.node.is_none_or(|of| of == node)
    }

    pub(super) fn is_on(&self, node: usize, now: Duration) -> bool {
        self.is_about(node) && self.at <= now && now < self.ends()
    }
}

/// Faults to come, in any order. As text it has a line for each, to be written down and read back:
///
/// ```
/// use cache_core::testing::simulation::{Event, Fault, Script};
/// use std::time::Duration;
///
/// let script: Script = "1000ms node1 messages-lost 100 for 5000ms\n8000ms all failover 300ms".parse()?;
/// let cut = Event::at(Duration::from_secs(9), Fault::Cut).on(0).lasting(Duration::from_secs(1));
/// let script = script.with(cut);
/// assert_eq!(script.to_string().lines().last(), Some("9000ms node0 cut for 1000ms"));
/// # Ok::<_, cache_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script(pub(super) Vec<Event>);

impl Script {
    /// No fault.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is a fault like that.
    pub(super) fn has(&self, like: impl Fn(Fault) -> bool) -> bool {
        self.0.iter().any(|event| like(event.fault))
    }

    /// The same and one more.
    pub fn with(mut self, event: Event) -> Self {
        self.0.push(event);
        self
    }
}

/// What a fault is called, and what stands behind that.
enum Operand {
    None,
    Percent(u8),
    Time(Duration),
}

impl Fault {
    /// Whether the process stands still.
    pub(super) fn stops(self) -> bool {
        matches!(self, Self::Paused | Self::Suspended)
    }

    /// Whether it is nothing unless it lasts.
    fn needs_time(self) -> bool {
        !matches!(
            self,
            Self::Deaf
                | Self::HalfOpen(_)
                | Self::Restarted
                | Self::Failover(_)
                | Self::Wiped
                | Self::SequencesForgotten
                | Self::Evicted
        )
    }

    fn parts(self) -> (&'static str, Operand) {
        match self {
            Self::Cut => ("cut", Operand::None),
            Self::RequestsLost(share) => ("requests-lost", Operand::Percent(share)),
            Self::RepliesLost(share) => ("replies-lost", Operand::Percent(share)),
            Self::RequestsDoubled(share) => ("requests-doubled", Operand::Percent(share)),
            Self::MessagesLost(share) => ("messages-lost", Operand::Percent(share)),
            Self::MessagesDoubled(share) => ("messages-doubled", Operand::Percent(share)),
            Self::Slow(time) => ("slow", Operand::Time(time)),
            Self::MessagesSlow(time) => ("messages-slow", Operand::Time(time)),
            Self::Deaf => ("deaf", Operand::None),
            Self::HalfOpen(time) => ("half-open", Operand::Time(time)),
            Self::PollsRefused => ("polls-refused", Operand::None),
            Self::Paused => ("paused", Operand::None),
            Self::Suspended => ("suspended", Operand::None),
            Self::Restarted => ("restarted", Operand::None),
            Self::Down => ("down", Operand::None),
            Self::Failover(lag) => ("failover", Operand::Time(lag)),
            Self::Wiped => ("wiped", Operand::None),
            Self::SequencesForgotten => ("sequences-forgotten", Operand::None),
            Self::Evicted => ("evicted", Operand::None),
        }
    }

    fn read<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        let name = words.next()?;
        let fault = match name {
            "cut" => Self::Cut,
            "requests-lost" => Self::RequestsLost(words.next()?.parse().ok()?),
            "replies-lost" => Self::RepliesLost(words.next()?.parse().ok()?),
            "requests-doubled" => Self::RequestsDoubled(words.next()?.parse().ok()?),
            "messages-lost" => Self::MessagesLost(words.next()?.parse().ok()?),
            "messages-doubled" => Self::MessagesDoubled(words.next()?.parse().ok()?),
            "slow" => Self::Slow(read_ms(words.next()?)?),
            "messages-slow" => Self::MessagesSlow(read_ms(words.next()?)?),
            "deaf" => Self::Deaf,
            "half-open" => Self::HalfOpen(read_ms(words.next()?)?),
            "polls-refused" => Self::PollsRefused,
            "paused" => Self::Paused,
            "suspended" => Self::Suspended,
            "restarted" => Self::Restarted,
            "down" => Self::Down,
            "failover" => Self::Failover(read_ms(words.next()?)?),
            "wiped" => Self::Wiped,
            "sequences-forgotten" => Self::SequencesForgotten,
            "evicted" => Self::Evicted,
            _ => return None,
        };
        Some(fault)
    }
}

fn read_ms(word: &str) -> Option<Duration> {
    word.strip_suffix("ms")?.parse().ok().map(Duration::from_millis)
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms ", self.at.as_millis())?;
        match self.node {
            Some(node) => write!(f, "node{node} ")?,
            None => f.write_str("all ")?,
        }
        let (name, operand) = self.fault.parts();
        f.write_str(name)?;
        match operand {
            Operand::None => {}
            Operand::Percent(share) => write!(f, " {share}")?,
            Operand::Time(time) => write!(f, " {}ms", time.as_millis())?,
        }
        if self.lasts.is_zero() { Ok(()) } else { write!(f, " for {}ms", self.lasts.as_millis()) }
    }
}

impl FromStr for Event {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let read = (|| {
            let at = read_ms(words.next()?)?;
            let node = match words.next()? {
                "all" => None,
                node => Some(node.strip_prefix("node")?.parse().ok()?),
            };
            let fault = Fault::read(&mut words)?;
            let lasts = match words.next() {
                None => Duration::ZERO,
                Some("for") => read_ms(words.next()?)?,
                Some(_) => return None,
            };
            words.next().is_none().then_some(Self { at, lasts, node, fault })
        })();
        read.ok_or_else(|| Error::config("a fault is a line like '1000ms node1 messages-lost 100 for 5000ms'"))
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|event| writeln!(f, "{event}"))
    }
}

impl FromStr for Script {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.lines().filter(|line| !line.trim().is_empty()).map(str::parse).collect::<Result<_>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_go_through_text() {
        let (second, half) = (Duration::from_secs(1), Duration::from_millis(500));
        let faults = [
            Fault::Cut,
            Fault::RequestsLost(1),
            Fault::RepliesLost(2),
            Fault::RequestsDoubled(3),
            Fault::MessagesLost(100),
            Fault::MessagesDoubled(5),
            Fault::Slow(half),
            Fault::MessagesSlow(half),
            Fault::Deaf,
            Fault::HalfOpen(half),
            Fault::PollsRefused,
            Fault::Paused,
            Fault::Suspended,
            Fault::Restarted,
            Fault::Down,
            Fault::Failover(half),
            Fault::Wiped,
            Fault::SequencesForgotten,
            Fault::Evicted,
        ];
        let mut script = Script::new();
        for fault in faults {
            script = script.with(Event::at(second, fault)).with(Event::at(second, fault).on(2).lasting(half));
        }
        assert_eq!(script.to_string().parse::<Script>().unwrap(), script);
        for text in ["1s all cut", "1ms node cut", "1ms all gone", "1ms all slow 3", "1ms all cut for", "1ms all cut for 1ms 2"] {
            assert!(text.parse::<Script>().is_err(), "{text}");
        }
    }
}
