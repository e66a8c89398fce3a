//! What a node knows of a partition: the pure part of the protocol. `spec/src/l1` is its model.

use crate::clock::Moment;
use crate::mutant::{Mutant, is};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Sequences that came before others which are missing; beyond so many they are not kept, and the gap is closed with suspicion.
const MOST_BEYOND: usize = 4_096;
/// Answers to polls that wait for a message.
const MOST_ANSWERS: usize = 8;

/// What the store says of a partition: of which history of its sequences it is, and how far they have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Meta {
    /// Drawn at random by whoever had to begin the sequences anew: absent before, another server's, or restored.
    pub incarnation: u64,
    /// The last sequence taken in this partition.
    pub sequence: u64,
    /// Of the server that answered: another one has other writes, and may lack some. 0 where there is only ever one.
    pub history: u64,
}

/// How far the sequences of an incarnation are applied without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    /// 0 is none: nothing is known so far.
    pub(crate) incarnation: u64,
    pub(crate) sequence: u64,
}

/// What came of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Verdict {
    /// Nothing.
    Nothing,
    /// All that was told before this moment is applied.
    Verified(Moment),
    /// The same, once what L1 has of the partition is suspect: something was missed.
    Suspect(Moment),
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    mark: Mark,
    /// Applied beyond the mark.
    beyond: BTreeSet<u64>,
    /// Sequences that polls told of, which had not come by then, and when those were sent.
    answers: VecDeque<(u64, Moment)>,
    /// When the last poll that counted was sent.
    verified: Option<Moment>,
}

impl Ledger {
    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }

    /// Whether the message of a sequence was applied.
    pub(crate) fn has(&self, incarnation: u64, sequence: u64) -> bool {
        incarnation == self.mark.incarnation && (sequence <= self.mark.sequence || self.beyond.contains(&sequence))
    }

    /// A message was applied to L1. One of another incarnation counts for nothing: only polls teach incarnations.
    pub(crate) fn applied(&mut self, incarnation: u64, sequence: u64) -> Verdict {
        let same = incarnation == self.mark.incarnation || is(Mutant::NoIncarnation);
        if !same || sequence <= self.mark.sequence {
            return Verdict::Nothing;
        }
        if is(Mutant::GapByMax) {
            self.mark.sequence = sequence;
        }
        if self.beyond.len() < MOST_BEYOND {
            self.beyond.insert(sequence);
        }
        self.settle();
        let mut verdict = Verdict::Nothing;
        while let Some((wanted, sent)) = self.answers.front().copied()
            && wanted <= self.mark.sequence
        {
            self.answers.pop_front();
            verdict = self.verify(sent);
        }
        verdict
    }

    /// Whether a poll has told of something that was not applied: what L1 has from before that may be overtaken.
    pub(crate) fn lags(&self, meta: Meta) -> bool {
        let is_absent = is(Mutant::AbsentIsUnchanged) && meta.incarnation == 0;
        !is_absent
            && self.mark.incarnation != 0
            && (meta.incarnation != self.mark.incarnation || meta.sequence > self.mark.sequence)
    }

    /// Whether answers to polls wait for a message.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.answers.is_empty()
    }

    fn settle(&mut self) {
        while let Some(next) = self.mark.sequence.checked_add(1)
            && self.beyond.remove(&next)
        {
            self.mark.sequence = next;
        }
        self.beyond = self.beyond.split_off(&self.mark.sequence.saturating_add(1));
    }

    fn verify(&mut self, sent: Moment) -> Verdict {
        self.verified = self.verified.max(Some(sent));
        Verdict::Verified(sent)
    }

    /// A poll was answered that was sent at `sent`, when the mark was `then`. It has been sent and answered under the subscription that stands now.
    pub(crate) fn answered(&mut self, meta: Meta, sent: Moment, then: Mark, now: Moment, bound: Duration) -> Verdict {
        if is(Mutant::AbsentIsUnchanged) && meta.incarnation == 0 {
            return self.verify(sent);
        }
        let same = meta.incarnation == self.mark.incarnation || is(Mutant::NoIncarnation);
        let went_back = then.incarnation == meta.incarnation && meta.sequence < then.sequence;
        if same && !went_back {
            if meta.sequence <= self.mark.sequence {
                return self.verify(sent);
            }
            if self.verified.is_some_and(|verified| now < verified.after(bound)) {
                // The message may still come. If it does not, the lease runs out, and the next answer is taken with suspicion.
                if self.answers.len() == MOST_ANSWERS {
                    self.answers.pop_front();
                }
                self.answers.push_back((meta.sequence, sent));
                return Verdict::Nothing;
            }
        }
        if !same || went_back {
            self.beyond.clear();
            self.mark.incarnation = meta.incarnation;
        }
        self.mark.sequence = meta.sequence;
        self.answers.clear();
        self.settle();
        let verified = self.verify(sent);
        if is(Mutant::AdoptWithoutSuspicion) { verified } else { Verdict::Suspect(sent) }
    }

    /// The subscription has ended: what it might have told is not known to have come, and kept answers were given under it.
    pub(crate) fn deaf(&mut self) {
        self.answers.clear();
        self.verified = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(3);

    fn at(seconds: u64) -> Moment {
        Moment::ORIGIN.after(Duration::from_secs(seconds))
    }

    fn meta(incarnation: u64, sequence: u64) -> Meta {
        Meta { incarnation, sequence, history: 0 }
    }

    /// A ledger that has been verified at second 0, at this sequence.
    fn verified(sequence: u64) -> Ledger {
        let mut ledger = Ledger::default();
        let verdict = ledger.answered(meta(1, sequence), at(0), Mark::default(), at(0), BOUND);
        assert_eq!(verdict, Verdict::Suspect(at(0)), "what it had before is not known to be current");
        ledger
    }

    fn poll(ledger: &mut Ledger, sequence: u64, sent: u64, now: u64) -> Verdict {
        let then = ledger.mark();
        ledger.answered(meta(1, sequence), at(sent), then, at(now), BOUND)
    }

    #[test]
    fn the_lease_counts_from_when_the_poll_was_sent() {
        let mut ledger = verified(5);
        assert_eq!(poll(&mut ledger, 5, 1, 2), Verdict::Verified(at(1)));
    }

    #[test]
    fn d1_a_gap_extends_nothing_and_ends_in_suspicion() {
        let mut ledger = verified(5);
        assert_eq!(ledger.applied(1, 7), Verdict::Nothing);
        assert_eq!(poll(&mut ledger, 7, 1, 1), Verdict::Nothing, "6 is missing, whatever came after it");
        assert_eq!(poll(&mut ledger, 7, 2, 2), Verdict::Nothing);
        assert_eq!(poll(&mut ledger, 7, 3, 3), Verdict::Suspect(at(3)));
        assert_eq!(ledger.mark(), Mark { incarnation: 1, sequence: 7 });
        assert_eq!(poll(&mut ledger, 7, 4, 4), Verdict::Verified(at(4)));
    }

    #[test]
    fn a_message_a_moment_behind_the_poll_makes_its_answer_count() {
        let mut ledger = verified(5);
        assert_eq!(poll(&mut ledger, 7, 1, 1), Verdict::Nothing);
        assert_eq!(ledger.applied(1, 7), Verdict::Nothing);
        assert_eq!(ledger.applied(1, 6), Verdict::Verified(at(1)));
        ledger.deaf();
        assert_eq!(ledger.applied(1, 8), Verdict::Nothing);
    }

    #[test]
    fn d3_order_and_repetition_do_not_matter() {
        let mut ledger = verified(0);
        for sequence in [3, 1, 1, 3, 2, 2, 5] {
            let _ = ledger.applied(1, sequence);
        }
        assert!((1..=3).all(|sequence| ledger.has(1, sequence)) && ledger.has(1, 5) && !ledger.has(1, 4));
        assert_eq!(ledger.mark().sequence, 3);
        assert!(!ledger.has(2, 1), "another incarnation's");
    }

    #[test]
    fn another_incarnation_or_a_sequence_that_went_back_is_suspect() {
        let mut ledger = verified(5);
        let then = ledger.mark();
        assert_eq!(ledger.answered(meta(2, 5), at(1), then, at(1), BOUND), Verdict::Suspect(at(1)));
        let then = ledger.mark();
        assert_eq!(ledger.answered(meta(2, 4), at(2), then, at(2), BOUND), Verdict::Suspect(at(2)));
        assert_eq!(ledger.applied(1, 6), Verdict::Nothing);
        assert_eq!(ledger.mark(), Mark { incarnation: 2, sequence: 4 });
    }

    #[test]
    fn an_answer_older_than_messages_that_came_since_is_no_step_back() {
        let mut ledger = verified(5);
        let then = ledger.mark();
        let _ = ledger.applied(1, 6);
        assert_eq!(ledger.answered(meta(1, 5), at(1), then, at(1), BOUND), Verdict::Verified(at(1)));
        assert_eq!(ledger.mark().sequence, 6);
    }

    #[test]
    fn no_number_of_gaps_takes_more_memory() {
        let mut ledger = verified(0);
        for sequence in 2..200_000 {
            let _ = ledger.applied(1, sequence);
        }
        assert!(ledger.beyond.len() <= MOST_BEYOND);
        let _ = ledger.applied(1, u64::MAX);
        assert_eq!(poll(&mut ledger, u64::MAX, 9, 9), Verdict::Suspect(at(9)));
        assert_eq!(ledger.beyond.len(), 0);
    }
}
