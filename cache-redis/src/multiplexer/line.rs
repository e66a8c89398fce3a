//! How many calls may be in line for their replies: fewer than usual while the way is too slow for what is asked of it.
//!
//! A way that carries a tenth of what callers ask for makes all of them late if all are let in: each reply comes behind those of callers that have gone,
//! for ever, and since bytes keep coming nothing speaks against the connection. So while the oldest in line is late all the time, no more are let in than
//! were answered in the time that a call has. The others are refused at once, before anything of theirs is sent. `CoDel` (RFC 8289) judges queues likewise.

use std::time::Duration;
use tokio::time::Instant;

/// Calls in line at most, whatever the way is like: with their replies' channels some 50 MiB.
pub(super) const MOST: usize = 1 << 18;
/// And at least, so that there are always some to measure by, and to put a connection in doubt that falls silent.
const LEAST: usize = 8;

/// What is known of the way, by what was read from it.
pub(super) struct Line {
    most: usize,
    /// Began to judge.
    since: Instant,
    /// Answered since then.
    answered: usize,
    /// How long whoever was answered had waited then, at least.
    shortest: Duration,
    heard: Instant,
    timeout: Duration,
}

impl Line {
    pub(super) fn new(now: Instant) -> Self {
        Self { most: MOST, since: now, answered: 0, shortest: Duration::MAX, heard: now, timeout: Duration::MAX }
    }

    /// How many calls may be in line.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Up to which deadline calls are refused that come in addition. Those with a later one come after as long a silence as a call may last, and are let
    /// in: they find out whether anybody is there.
    pub(super) fn refused_until(&self) -> Instant {
        self.heard.checked_add(self.timeout.saturating_mul(2)).unwrap_or(self.heard)
    }

    /// Takes in that so many calls were answered.
    pub(super) fn answered(&mut self, count: usize) {
        self.answered += count;
    }

    /// Takes in that something was read, for calls of which the first was sent then and had so long.
    pub(super) fn heard(&mut self, now: Instant, sent: Instant, timeout: Duration) {
        if now.saturating_duration_since(self.heard) > timeout / 2 {
            // After a silence all have waited for long, and that may be over.
            (self.since, self.answered, self.shortest) = (now, 0, Duration::MAX);
        }
        (self.heard, self.timeout) = (now, timeout);
        self.shortest = self.shortest.min(now.saturating_duration_since(sent));
        if now.saturating_duration_since(self.since) < timeout {
            return;
        }
        self.most = if self.shortest > timeout {
            // Somewhat less, or those that wait already would be late for ever.
            (self.answered * 3 / 4).clamp(LEAST, MOST)
        } else if self.shortest < timeout / 4 {
            (self.most * 2).min(MOST)
        } else {
            (self.most + self.most / 8).min(MOST)
        };
        (self.since, self.answered, self.shortest) = (now, 0, Duration::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(100);
    const MS: Duration = Duration::from_millis(1);

    /// Answers so many calls every millisecond for so long, each of which has waited for this time.
    fn answers(line: &mut Line, now: &mut Instant, answered: usize, lasts: Duration, waited: Duration) {
        let end = *now + lasts;
        while *now < end {
            *now += MS;
            line.answered(answered);
            line.heard(*now, *now - waited, TIMEOUT);
        }
    }

    fn line() -> (Line, Instant) {
        let start = Instant::now() + Duration::from_secs(3_600);
        (Line::new(start), start)
    }

    #[test]
    fn a_way_on_which_all_are_late_takes_no_more_than_it_carries_and_more_again_when_it_is_well() {
        let (mut line, mut now) = line();
        answers(&mut line, &mut now, 4, TIMEOUT * 5, TIMEOUT / 2);
        assert_eq!(line.most(), MOST, "nobody is late");
        answers(&mut line, &mut now, 4, TIMEOUT * 2, TIMEOUT * 3);
        assert!((280..=310).contains(&line.most()), "{}", line.most());
        let limited = line.most();
        answers(&mut line, &mut now, 4, TIMEOUT * 2, TIMEOUT / 2);
        assert!((limited + 1..limited * 3 / 2).contains(&line.most()), "a little more at a time: {}", line.most());
        answers(&mut line, &mut now, 4, TIMEOUT * 15, MS);
        assert_eq!(line.most(), MOST);
    }

    #[test]
    fn a_pause_after_which_all_are_answered_at_once_limits_nothing() {
        let (mut line, mut now) = line();
        for _ in 0..10 {
            answers(&mut line, &mut now, 1, TIMEOUT, MS);
            now += TIMEOUT * 3;
            answers(&mut line, &mut now, 100, TIMEOUT / 4, TIMEOUT * 2);
        }
        assert_eq!(line.most(), MOST);
    }

    #[test]
    fn a_few_are_always_let_in_and_anybody_after_a_silence() {
        let (mut line, mut now) = line();
        answers(&mut line, &mut now, 0, TIMEOUT * 3, TIMEOUT * 3);
        assert_eq!(line.most(), LEAST);
        assert_eq!(line.refused_until(), now + TIMEOUT * 2, "whoever comes a timeout after the last byte has that deadline");
    }
}
