//! Strict writes: announced in L2 before they are committed, so that nobody finds the older value there meanwhile.

use super::Inner;
use super::origin::{BoxFuture, guarded};
use super::second::{Second, foreign};
use super::write::{Block, untold};
use crate::clock::Deadline;
use crate::counters::Event;
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::key::RemoteKey;
use crate::local::LocalTier;
use crate::mutant::{Mutant, is};
use crate::remote::{Invalidation, Marked};
use crate::token::Token;
use crate::written::WriteToken;
use std::future::poll_fn;
use std::hash::Hash;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// What a writer has to hear of its mark and to commit, besides the time that the write may take.
const ANNOUNCING: Duration = Duration::from_secs(1);
/// So much longer the mark lives in L2: its clock may be set meanwhile, or run faster than ours.
const MARGIN: Duration = Duration::from_secs(1);

/// What a write has committed, and its version; `None` if it was given up with its mark.
type Committed<V> = Option<(Option<u64>, V)>;

impl<K, V, L> Inner<K, V, L>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    L: LocalTier<K, V>,
{
    /// Mark, commit, unmark. The key is blocked all the while, as it is by an invalidation.
    pub(super) async fn write_announced(
        self: &Arc<Self>,
        l2: &Second<K, V>,
        key: &K,
        commit: BoxFuture<Result<V, BoxError>>,
    ) -> Result<(V, WriteToken)> {
        self.wake();
        let failures = self.recovery.failures();
        let (hash, remote, token) = (self.hash(key), l2.key(key), Token::unique());
        let block = Block::new(&self.flights, hash);
        let until = self.announce(l2, &remote, token).await?;
        // Not sooner: a write that is refused leaves L1 as it is.
        self.let_go(hash, key, None);
        let (version, committed) = match self.commit_before(until, commit).await {
            Ok((version, value)) => (version, Ok(value)),
            // It may have committed: a timeout on the way back from COMMIT looks the same.
            Err(err) => (None, Err(err)),
        };
        self.counters.count(Event::Invalidation);
        let told = Invalidation { key: remote, version };
        let servers = self.servers();
        let unmarked = l2.unmark(&told, token).await;
        self.let_go(hash, key, version);
        match unmarked {
            Ok(receipts) => {
                self.no_longer_owed(&told, failures);
                self.note_told(servers, &[told], &receipts);
                committed.map(|value| (value, WriteToken::new(&receipts)))
            }
            Err(err) => {
                self.invalidation_failed("unmark", &err);
                // As an invalidation, which is what others need to hear; the mark ends by itself.
                if self.owe(key, hash, &told, &err) {
                    block.hand_over();
                }
                if committed.is_err() {
                    tracing::warn!(cache = %self.name, kind = ?err.kind(), "a write failed, and so did its invalidation");
                }
                committed.and(Err(untold(err)))
            }
        }
    }

    /// Returns until when the write may be committed.
    async fn announce(self: &Arc<Self>, l2: &Second<K, V>, key: &RemoteKey, token: Token) -> Result<Deadline> {
        let counted_on = self.load_timeout + ANNOUNCING;
        // From when it is sent: in L2 it lives from when it comes there.
        let until = self.clock.deadline(counted_on);
        if is(Mutant::NoMark) {
            return Ok(until);
        }
        let cause = match l2.mark(key, token, counted_on + MARGIN).await {
            Ok(Marked::Announced) if !until.over() || is(Mutant::CommitAfterMark) => return Ok(until),
            Ok(Marked::Announced) => Error::new(ErrorKind::Timeout, "L2 took so long that the announcement is over"),
            Ok(Marked::TooMany) => {
                return Err(Error::new(
                    ErrorKind::Unannounced,
                    "the write was not begun: too many writes of the key are under way",
                ));
            }
            Ok(Marked::Foreign) => foreign(),
            Err(err) => {
                self.l2_failed("mark", &err);
                err
            }
        };
        // The mark may stand, though nobody heard so: the key should not wait for its end.
        if matches!(cause.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) {
            let (told, servers) = (Invalidation { key: key.clone(), version: None }, self.servers());
            match l2.unmark(&told, token).await {
                Ok(receipts) => self.note_told(servers, &[told], &receipts),
                Err(err) => self.l2_failed("unmark", &err),
            }
        }
        Err(Error::new(ErrorKind::Unannounced, "the write was not begun: L2 could not be told of it").with_source(cause))
    }

    /// Runs the user's write for as long as its mark stands.
    async fn commit_before(&self, until: Deadline, mut commit: BoxFuture<Result<V, BoxError>>) -> Result<(Option<u64>, V)> {
        let version_of = self.version_of;
        let limit = self.load_timeout.min(until.left());
        let has_ended = move || until.over() && !is(Mutant::CommitAfterMark);
        let ended = has_ended.clone();
        let announced = async move {
            // Asked before each step: a process that was stopped within its write, or suspended with its machine, must not go on to commit it.
            let step = poll_fn(|cx| if ended() { Poll::Ready(None) } else { commit.as_mut().poll(cx).map(Some) });
            let Some(value) = step.await.transpose()? else { return Ok(None) };
            // In here, for it is the user's code and may panic.
            let version = version_of.map(|version_of| version_of(&value));
            Ok(Some((version, value)))
        };
        let done: Committed<V> = guarded("write", limit, Box::pin(announced)).await?;
        let outlived =
            || Error::new(ErrorKind::Timeout, "the write took longer than its announcement stands; it may have committed");
        done.filter(|_| !has_ended()).ok_or_else(outlived)
    }
}
