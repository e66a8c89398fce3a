//! What a trial is about: a configuration and faults, drawn from its seed.

use super::fault::{Event, Fault, Script};
use crate::key::Namespace;
use crate::partition::Partition;
use fastrand::Rng;
use std::sync::OnceLock;
use std::time::Duration;

pub(super) const PREFIX: &str = "cs";
pub(super) const NAME: &str = "trial";

/// How long a node has to be well until it has told all that it owes, and told again what a failover lost: pauses of up to a second, and a request's timeout.
const RECOVERS_IN: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) nodes: usize,
    /// Two of them at least are of one partition.
    pub(super) keys: Vec<u64>,
    pub(super) bound: Duration,
    pub(super) grace: Duration,
    pub(super) versioned: bool,
    pub(super) strict: bool,
    /// The server tracks writes, and a program that knows nothing of caches commits and removes records, on average this often.
    pub(super) foreign: Option<Duration>,
    /// Loads read a replica of the database that is up to so far behind.
    pub(super) lag: Option<Duration>,
    /// A replica of the server answers so many reads, so far behind.
    pub(super) replicas: Option<(u8, Duration)>,
    pub(super) request_timeout: Duration,
    pub(super) load_timeout: Duration,
    pub(super) lease: Duration,
    pub(super) soft: Duration,
    pub(super) stale_for: Duration,
    /// Between two calls of a client, on average.
    pub(super) pace: Duration,
    /// Calls of 100 that write, until faults end. Then all is read: what was not told is old for ever.
    pub(super) writes: u8,
    /// Loads and commits of 100 that take long.
    pub(super) slow: u8,
    /// When faults end.
    pub(super) calm_from: Duration,
    pub(super) length: Duration,
    pub(super) script: Script,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn one_of<T: Copy>(dice: &mut Rng, of: &[T]) -> T {
    of[dice.usize(..of.len())]
}

impl Plan {
    pub(super) fn draw(seed: u64) -> Self {
        let dice = &mut Rng::with_seed(seed ^ 0x0070_6c61_6e00);
        let bound = one_of(dice, &[ms(300), ms(300), ms(300), ms(500), ms(1_000), ms(2_000)]);
        let grace = one_of(dice, &[ms(0), ms(500), ms(1_000), ms(3_000)]);
        let strict = dice.u8(..100) < 25;
        let versioned = dice.bool();
        let lag = (versioned && !strict && dice.u8(..100) < 40).then(|| ms(dice.u64(1..1_500)));
        let replicas = (dice.u8(..100) < 20).then(|| (one_of(dice, &[10, 50]), ms(dice.u64(1..1_000))));
        let active = (bound * 7).max(ms(5_000));
        let nodes = dice.usize(2..=4);
        let mut plan = Self {
            nodes,
            keys: keys()[..dice.usize(2..=6)].to_vec(),
            bound,
            grace,
            versioned,
            strict,
            foreign: None,
            lag,
            replicas,
            request_timeout: one_of(dice, &[ms(200), ms(500), ms(1_000)]),
            load_timeout: if strict {
                one_of(dice, &[ms(300), ms(1_000)])
            } else {
                one_of(dice, &[ms(1_000), ms(3_000), ms(10_000)])
            },
            lease: one_of(dice, &[ms(200), ms(1_000), ms(2_000)]),
            soft: one_of(dice, &[ms(500), ms(60_000), ms(60_000)]),
            stale_for: one_of(dice, &[ms(0), ms(2_000)]),
            pace: one_of(dice, &[ms(60), ms(150), ms(300)]),
            writes: one_of(dice, &[2, 8, 25]),
            slow: one_of(dice, &[2, 10, 30]),
            calm_from: active,
            length: active + RECOVERS_IN + bound * 2 + ms(1_000),
            script: Script::new(),
        };
        let faults = dice.usize(1..=6);
        for _ in 0..faults {
            let fault = plan.fault(dice);
            plan.script.0.push(fault);
            // Messages are lost as well, where it matters most: around another fault.
            if dice.u8(..100) < 40 {
                let at = fault.at.saturating_sub(bound.mul_f64(dice.f64()));
                let lasts = (fault.ends().saturating_sub(at) + bound).min(active.saturating_sub(at));
                plan.script.0.push(Event { at, lasts, fault: Fault::MessagesLost(100), ..fault });
            }
        }
        plan.vary(seed);
        plan
    }

    /// What was thought of later, from dice of its own: kept seeds stay what they were.
    fn vary(&mut self, seed: u64) {
        let dice = &mut Rng::with_seed(seed ^ 0x0066_6f72_6569_676e);
        for event in &mut self.script.0 {
            event.fault = match event.fault {
                Fault::Paused if dice.bool() => Fault::Suspended,
                Fault::Deaf if dice.bool() => Fault::HalfOpen(ms(dice.u64(1..1_500))),
                fault => fault,
            };
        }
        // Nobody hears, and polls do not help, or their answers take long.
        if dice.u8(..100) < 25 {
            let at = ms(dice.u64(200..self.calm_from.as_millis() as u64));
            let lasts = (self.bound * 3 + ms(dice.u64(0..1_000))).min(self.calm_from.saturating_sub(at)).max(ms(1));
            let node = Some(dice.usize(..self.nodes));
            let fault = if dice.bool() { Fault::PollsRefused } else { Fault::Slow(self.request_timeout / 2) };
            self.script.0.push(Event { at, lasts, node, fault });
            self.script.0.push(Event { at, lasts, node, fault: Fault::MessagesLost(100) });
        }
        // A foreign program removes floors and marks, and does not tell again what a failover lost.
        let may_be_foreign = !self.strict && self.lag.is_none() && !self.script.has(|fault| matches!(fault, Fault::Failover(_)));
        if may_be_foreign && dice.u8(..100) < 50 {
            self.foreign = Some(one_of(dice, &[ms(100), ms(300)]));
        }
    }

    /// These faults in place of its own, but for those that the promise excepts for such a configuration: see [`excepts`](Self::excepts).
    pub(super) fn take(&mut self, script: &Script) {
        let events = script.0.iter().filter(|event| !self.excepts(event.fault));
        self.script = Script(events.copied().collect());
    }

    /// What loses a mark, or a floor that nothing else has.
    fn excepts(&self, fault: Fault) -> bool {
        match fault {
            Fault::Wiped | Fault::Evicted => self.strict || self.lag.is_some(),
            Fault::Failover(_) => self.strict || self.foreign.is_some(),
            _ => false,
        }
    }

    fn fault(&self, dice: &mut Rng) -> Event {
        let end = self.calm_from.as_millis() as u64;
        let at = ms(dice.u64(200..end));
        let longest = ms(end).saturating_sub(at);
        let some = (self.bound + self.grace) * 2 + ms(1_000);
        let lasts = ms(dice.u64(1..=some.as_millis() as u64)).min(longest);
        let share = one_of(dice, &[20, 50, 100]);
        let time = ms(dice.u64(10..1_500));
        let fault = match dice.u8(..100) {
            0..=9 => Fault::Cut,
            10..=16 => Fault::RequestsLost(share),
            17..=24 => Fault::RepliesLost(share),
            25..=28 => Fault::RequestsDoubled(share),
            29..=45 => Fault::MessagesLost(share),
            46..=49 => Fault::MessagesDoubled(share),
            50..=57 => Fault::Slow(time),
            58..=63 => Fault::MessagesSlow(time),
            64..=67 => Fault::Deaf,
            68..=75 => Fault::Paused,
            76..=79 => Fault::Restarted,
            80..=83 => Fault::Down,
            84..=90 => Fault::Failover(ms(dice.u64(1..2_000))),
            91..=94 => Fault::SequencesForgotten,
            95..=97 => Fault::Wiped,
            _ => Fault::Evicted,
        };
        let fault = match fault {
            fault if !self.excepts(fault) => fault,
            Fault::Wiped | Fault::Evicted if self.lag.is_some() => Fault::SequencesForgotten,
            _ => Fault::Paused,
        };
        let lasts = match fault {
            Fault::Restarted | Fault::Failover(_) | Fault::SequencesForgotten | Fault::Wiped | Fault::Evicted => Duration::ZERO,
            // A stop that outlives a mark.
            Fault::Paused if self.strict => (lasts + ms(3_000)).min(longest),
            _ => lasts,
        };
        let whole = matches!(fault, Fault::Failover(_) | Fault::SequencesForgotten | Fault::Wiped | Fault::Evicted | Fault::Down);
        let node = (!whole && dice.u8(..100) < 80).then(|| dice.usize(..self.nodes));
        Event { at, lasts, node, fault }
    }

    pub(super) fn namespace() -> Namespace {
        Namespace::new(PREFIX, NAME).expect("both are short and plain")
    }

    /// When a node that has something to tell has told it for certain; `None` if it dies before, or time ends.
    pub(super) fn told_by(&self, node: usize, from: Duration) -> Option<Duration> {
        let wanted = RECOVERS_IN + self.bound / 3;
        let mut began = from;
        loop {
            let disturbed = self
                .script
                .0
                .iter()
                .filter(|event| event.is_about(node) && (disturbs(event.fault) || event.fault == Fault::PollsRefused));
            let over = disturbed.filter(|event| event.at < began + wanted && event.ends() + ms(1) > began).map(Event::ends).max();
            match over {
                Some(over) => began = over + ms(1),
                None => break,
            }
        }
        let told = began + wanted;
        let dies =
            |event: &Event| event.is_about(node) && event.fault == Fault::Restarted && event.at >= from && event.at <= told;
        (!self.script.0.iter().any(dies)).then_some(told)
    }

    /// Whether calls of a node may have failed in between.
    pub(super) fn disturbed(&self, node: usize, from: Duration, to: Duration) -> bool {
        self.script.0.iter().any(|event| event.is_about(node) && disturbs(event.fault) && event.at <= to && event.ends() >= from)
    }

    /// For how long of a time the node stood still.
    pub(super) fn stood(&self, node: usize, from: Duration, to: Duration) -> Duration {
        let mut pauses: Vec<_> = self.script.0.iter().filter(|event| event.is_about(node) && event.fault.stops()).collect();
        pauses.sort_by_key(|pause| pause.at);
        let (mut stood, mut until) = (Duration::ZERO, from);
        for pause in pauses {
            let end = pause.ends().min(to);
            stood += end.saturating_sub(pause.at.max(until));
            until = until.max(end);
        }
        stood
    }
}

/// Whether calls may fail by it.
fn disturbs(fault: Fault) -> bool {
    !matches!(
        fault,
        Fault::RequestsDoubled(_)
            | Fault::MessagesLost(_)
            | Fault::MessagesDoubled(_)
            | Fault::MessagesSlow(_)
            | Fault::Deaf
            | Fault::HalfOpen(_)
            | Fault::PollsRefused
            | Fault::SequencesForgotten
            | Fault::Evicted
            | Fault::Restarted
    )
}

/// Six keys of three partitions: the first two are of one.
fn keys() -> &'static [u64] {
    static KEYS: OnceLock<Vec<u64>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let namespace = Plan::namespace();
        let partition = |key: &u64| namespace.key(key).partition();
        let of = |wanted: Partition, count: usize| (1..).filter(|key| partition(key) == wanted).take(count).collect::<Vec<u64>>();
        let (a, b) = (of(partition(&1), 3), of(partition(&2), 2));
        vec![a[0], a[1], b[0], a[2], b[1], 3]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan_and_its_keys_share_a_partition() {
        assert_eq!(format!("{:?}", Plan::draw(7)), format!("{:?}", Plan::draw(7)));
        assert_ne!(format!("{:?}", Plan::draw(7)), format!("{:?}", Plan::draw(8)));
        let (namespace, keys) = (Plan::namespace(), &Plan::draw(7).keys);
        assert_eq!(namespace.key(&keys[0]).partition(), namespace.key(&keys[1]).partition());
        assert_ne!(keys[0], keys[1]);
    }

    #[test]
    fn what_is_owed_is_told_once_a_node_was_well_for_long_enough() {
        let mut plan = Plan { bound: ms(300), ..Plan::draw(1) };
        plan.script = "1000ms node0 cut for 500ms\n3000ms node0 paused for 100ms\n9000ms node1 restarted".parse().unwrap();
        assert_eq!(plan.told_by(0, ms(0)), Some(ms(3_101 + 3_100)));
        assert_eq!(plan.told_by(1, ms(0)), Some(ms(3_100)));
        assert_eq!(plan.told_by(1, ms(8_000)), None);
        assert_eq!(plan.stood(0, ms(3_050), ms(9_000)), ms(50));
    }
}
