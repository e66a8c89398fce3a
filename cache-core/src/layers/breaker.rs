//! Stops asking a tier that does not answer, and finds out when it does again.

use super::circuit::{BreakerRules, Circuit, CircuitStats, Verdict};
use super::forward::{Call, forward_verbs};
use super::verb::Verb;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::remote::RemoteTier;

/// Refuses calls of a tier that keeps failing, at once and with [`ErrorKind::Unavailable`], instead of letting each of them wait for its
/// timeout; lets a few through after a while, and closes again when they succeed.
///
/// There are two circuits, because a Redis that is out of memory, or has become a replica, answers reads and fails writes:
///
/// | verbs | circuit |
/// |---|---|
/// | `get`, `get_many` | [`reads`](Self::reads) |
/// | `acquire`, `fill`, `release`, `put`, `mark` | [`changes`](Self::changes) |
/// | `invalidate`, `unmark`, `clear` | none: they are always tried, and tell the circuits nothing |
///
/// An invalidation is a promise, and an open circuit a guess from other calls. Refused, it would leave the old value readable until its
/// TTL, perhaps on a server that is back already, or that only takes no new values. Trying costs its caller one timeout at most, and its
/// error is an error. Reads, of which there are many more, wait for none of that.
///
/// [`ErrorKind::Unavailable`] and [`ErrorKind::Timeout`] are failures, unless they are those of [a part](Error::is_partial): with one master of
/// a cluster dead, the keys of the others go on. Other errors say nothing about the tier's health, nor does a
/// call that is cancelled: half-open, its place goes to another call. A call that ends after the circuit has moved on is not
/// counted either. A probe that never ended would keep its place for ever: have a [`Timeout`](super::Timeout) inside.
///
/// Transitions are traced: `WARN` when a circuit opens, `INFO` when it is half-open and when it closes. A healthy call costs two loads of
/// an atomic, a refused one a short lock and no wait.
///
/// ```
/// use cache_core::layers::{Breaker, BreakerRules, BreakerState};
/// use cache_core::{EmbeddedTier, Namespace, RemoteTier};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let tier = Breaker::new(EmbeddedTier::new(), BreakerRules::default());
/// let key = Namespace::new("app", "product")?.key(&7_u64);
/// tier.get(&key).await?;
/// assert_eq!(tier.reads().state, BreakerState::Closed);
/// # Ok::<_, cache_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Breaker<T> {
    inner: T,
    rules: BreakerRules,
    reads: Circuit,
    changes: Circuit,
}

impl<T: RemoteTier> Breaker<T> {
    /// A tier whose circuits open and close by these rules. Closed at first.
    pub fn new(inner: T, rules: BreakerRules) -> Self {
        let [reads, changes] = circuits(&inner, &rules, Clock::default());
        Self { inner, rules, reads, changes }
    }

    /// The clock of the delay before probes; the circuits start anew.
    pub fn clock(mut self, clock: Clock) -> Self {
        [self.reads, self.changes] = circuits(&self.inner, &self.rules, clock);
        self
    }
}

impl<T> Breaker<T> {
    /// The tier inside.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// The circuit of reads.
    pub fn reads(&self) -> CircuitStats {
        self.reads.stats()
    }

    /// The circuit of what changes the store, invalidations excepted.
    pub fn changes(&self) -> CircuitStats {
        self.changes.stats()
    }

    fn circuit(&self, verb: Verb) -> Option<&Circuit> {
        match verb {
            Verb::Get | Verb::GetMany => Some(&self.reads),
            Verb::Acquire | Verb::Fill | Verb::Release | Verb::Put | Verb::Mark => Some(&self.changes),
            Verb::Invalidate | Verb::Unmark | Verb::Clear => None,
        }
    }

    async fn through<'a, R>(&'a self, verb: Verb, call: impl Fn() -> Call<'a, R>) -> Result<R> {
        let Some(circuit) = self.circuit(verb) else { return call().await };
        let permit = circuit.admit().ok_or_else(refused)?;
        let answer = call().await;
        permit.settle(verdict(&answer));
        answer
    }
}

forward_verbs!(Breaker);

fn circuits<T: RemoteTier>(inner: &T, rules: &BreakerRules, clock: Clock) -> [Circuit; 2] {
    let circuit = |name, clock| Circuit::new(rules.clone(), clock, (inner.name(), name));
    [circuit("reads", clock.clone()), circuit("changes", clock)]
}

fn verdict<R>(answer: &Result<R>) -> Verdict {
    match answer {
        Ok(_) => Verdict::Success,
        Err(err) if err.is_partial() => Verdict::Neither,
        Err(err) if matches!(err.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => Verdict::Failure,
        Err(_) => Verdict::Neither,
    }
}

fn refused() -> Error {
    Error::new(ErrorKind::Unavailable, "the circuit breaker is open: L2 was not asked")
}
