//! A load's value on its way into L2, which may come to its end behind the answer.

use super::Inner;
use super::allowance::Allowance;
use super::second::Second;
use crate::counters::Event;
use crate::error::Result;
use crate::key::RemoteKey;
use crate::local::LocalTier;
use crate::mutant::{Mutant, is};
use crate::record::Life;
use crate::remote::Filled;
use crate::token::Token;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;

/// A lease that a load holds.
#[derive(Clone, Copy)]
pub(super) struct Lease {
    pub(super) token: Token,
    /// When it was granted, in ms of L2's time.
    pub(super) at: u64,
    /// What is older than this version was invalidated.
    pub(super) floor: u64,
}

/// A fill that is under way.
pub(super) type Filling<'a> = Pin<Box<dyn Future<Output = Result<Filled>> + Send + 'a>>;

/// What is known of a fill once its load may land.
pub(super) struct Stowed<'a> {
    /// Whether L1 may have the value.
    pub(super) keep: bool,
    /// A lease to give back.
    pub(super) release: Option<Token>,
    /// L2 takes its time: what becomes of the value is seen behind the landing.
    pub(super) late: Option<(Token, Filling<'a>)>,
}

impl Stowed<'_> {
    pub(super) fn settled((keep, release): (bool, Option<Token>)) -> Self {
        Self { keep, release, late: None }
    }
}

impl<K, V, L> Inner<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    /// Fills L2.
    #[allow(clippy::too_many_arguments)]
    pub(super) async fn fill<'a>(
        &self,
        l2: &'a Second<K, V>,
        key: &'a RemoteKey,
        Lease { token, at, floor }: Lease,
        version: u64,
        life: Life,
        value: &V,
        allowance: &mut Allowance,
    ) -> Stowed<'a> {
        // Whether or not L2 can take it.
        if version < floor && !is(Mutant::NoFloor) {
            self.counters.count(Event::L2Refused);
            tracing::debug!("the value is older than what was invalidated: nobody keeps it");
            return Stowed::settled((false, Some(token)));
        }
        let body = match l2.encode(key, value, version, life) {
            Ok(body) => body,
            Err(err) => {
                self.counters.count(Event::L2Unstorable);
                tracing::debug!(kind = ?err.kind(), "the value is not stored in L2");
                return Stowed::settled((true, Some(token)));
            }
        };
        let mut filling: Filling<'a> = Box::pin(l2.fill(key, token, version, at, body));
        match allowance.wait(filling.as_mut()).await {
            Some(filled) => Stowed::settled(self.filled(token, filled)),
            // L1 has the value until L2 has refused it, a timeout later at most. That is no hole: what gets a fill refused takes a sequence and is told, so this entry is like any that L1 has had
            // since before. The message poisons the ticket or removes it, and where that is lost, a poll says so within the bound. Two things tell nobody. A mark does not, of what was
            // loaded just before it as of what was loaded long before; its unmark does, which comes before the write's `Ok`. A lease that went with its server does not; another
            // server is another history, which suspects the entry.
            None => Stowed { keep: true, release: None, late: Some((token, filling)) },
        }
    }

    /// Whether L1 may keep a value, by what became of its fill, and the lease if it is to be given back.
    pub(super) fn filled(&self, token: Token, filled: Result<Filled>) -> (bool, Option<Token>) {
        match filled {
            Ok(Filled::Stored) => (true, None),
            Ok(refusal) => {
                self.counters.count(Event::L2Refused);
                tracing::debug!(?refusal, "the key changed while it was loaded: nobody keeps the value");
                (false, (refusal == Filled::TooOld).then_some(token))
            }
            Err(err) => {
                // It may have been refused for good (out of memory): the lease must not stay behind.
                self.l2_failed("fill", &err);
                (true, Some(token))
            }
        }
    }
}
