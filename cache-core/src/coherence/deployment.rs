//! What this process knows of a deployment: one store, one prefix, 256 partitions.

use super::ear::{Ear, Listening};
use super::ledger::{Ledger, Mark, Meta, Verdict};
use super::replay::Replay;
use super::rounds::Ended;
use crate::clock::{Clock, Moment};
use crate::error::ErrorKind;
use crate::mutant::{Mutant, is};
use crate::partition::{PARTITIONS, Partition};
use crate::remote::{Receipt, RemoteTier};
use futures_util::FutureExt;
use parking_lot::{Mutex, MutexGuard, RwLock};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

mod heard;
mod sleep;
mod told;

pub(crate) use told::What;

/// A coarse clock may be so far behind.
const TICK: Duration = Duration::from_millis(10);
/// Leases end that much early.
const EARLY: Duration = TICK.saturating_add(sleep::SLACK);

/// A cache, as its deployment sees it.
pub(crate) trait Member: Send + Sync {
    /// Its name.
    fn name(&self) -> &str;

    /// The random number that it signs its messages with.
    fn signature(&self) -> u64;

    /// Lets go of these keys and of loads that began before. `false` if it could not read one.
    fn let_go_of(&self, keys: &[(&[u8], Option<u64>)]) -> bool;

    /// The same of keys that it may be telling of itself at the moment: one that it has blocked for that it lets go of when it has the answer.
    fn let_go_of_own(&self, keys: &[(&[u8], Option<u64>)]) -> bool;

    /// Removes from L1 what it has of this key, and lets L1 keep nothing that is being loaded: L2 is asked again. `false` if it could not read the key.
    fn ask_again(&self, key: &[u8]) -> bool;

    /// Suspects what it has of a partition, and lets nobody keep what is being loaded.
    fn suspect(&self, partition: Partition);
}

/// Whether an entry of L1 that nobody suspects may be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is not older than the bound.
    Verified,
    /// Nobody can tell, for the store is away, and has not been for long.
    Grace,
    /// It has to be asked about.
    Unknown,
}

/// See the module.
pub(crate) struct Deployment {
    pub(super) tier: Arc<dyn RemoteTier>,
    pub(super) prefix: String,
    /// What it signs messages with that it repeats for its members.
    signature: u64,
    clock: Clock,
    /// The smallest of its caches', in nanoseconds.
    bound: AtomicU64,
    partitions: Box<[Known]>,
    /// The oldest of the partitions' `verified`: what each hit compares.
    all: AtomicU64,
    /// How far wall time was ahead of the clock when the last round was sent, in nanoseconds modulo 2⁶⁴.
    ahead: AtomicU64,
    publishing: Mutex<()>,
    members: RwLock<Vec<Weak<dyn Member>>>,
    pub(super) replay: Mutex<Replay>,
    pub(super) counts: Counts,
    pub(super) poked: Arc<Notify>,
    /// Whether what a failover has lost is being told again.
    pub(super) is_telling: Arc<AtomicBool>,
    /// When the last round was sent, in nanoseconds.
    pub(super) last_sent: AtomicU64,
    /// How many rounds have ended.
    pub(super) ended: Ended,
    /// Whether the task of the rounds runs.
    is_running: Arc<AtomicBool>,
    task: Mutex<Option<Listening>>,
}

/// A partition.
#[derive(Debug, Default)]
struct Known {
    state: Mutex<State>,
    /// When the last poll that counts was sent, in nanoseconds; 0 while none does.
    verified: AtomicU64,
    /// The same, and not forgotten when the subscription ends: from it on grace is counted.
    was_verified: AtomicU64,
    /// Whether the last poll failed.
    is_away: AtomicBool,
    /// When the last poll was sent that the store has answered in whatever way, by refusing it, too; in nanoseconds.
    reached: AtomicU64,
    /// When a poll last told of something that is not applied; 0 if none has since all was. What was loaded before that may be overtaken, as this node knows: grace, which is for
    /// what nobody knows, is none for it. Until a poll counts again, which suspects the partition.
    missed: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    ledger: Ledger,
    is_listening: bool,
    /// Counts subscriptions.
    subscription: u64,
    /// What was answered last, whether or not it counted.
    polled: Option<Meta>,
    /// How many are at suspecting what L1 has; until they are done the mark is ahead of that.
    suspecting: u32,
    /// From when on the partition is verified once they are done, in nanoseconds.
    due: u64,
}

impl State {
    /// Polls that were sent before this do not count.
    fn begin_anew(&mut self) {
        self.subscription += 1;
        self.due = 0;
        self.ledger.deaf();
    }
}

/// What a partition was like when a poll was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    mark: Mark,
    subscription: Option<u64>,
}

/// A task lives. A runtime may drop it before its end.
pub(super) struct Running(Arc<AtomicBool>);

impl Running {
    /// None if there is one already.
    pub(super) fn the_only(runs: &Arc<AtomicBool>) -> Option<Self> {
        // Ordering: acquire pairs with the release of the one before, which has ended.
        (!runs.swap(true, Ordering::AcqRel)).then(|| Self(runs.clone()))
    }

    /// It ends, and that is known.
    pub(super) fn has_said_so(self) {
        std::mem::forget(self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// What has happened, for stats.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) heard: AtomicU64,
    pub(crate) changes: AtomicU64,
    pub(crate) suspicions: AtomicU64,
    pub(crate) polls: AtomicU64,
    pub(crate) poll_errors: AtomicU64,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Deployment {
    pub(super) fn new(tier: Arc<dyn RemoteTier>, prefix: &str, clock: Clock, bound: Duration) -> Self {
        let ahead = AtomicU64::new(sleep::ahead(&clock, clock.now()));
        Self {
            tier,
            prefix: prefix.into(),
            signature: fastrand::u64(1..),
            clock,
            bound: AtomicU64::new(nanos(bound)),
            partitions: (0..PARTITIONS).map(|_| Known::default()).collect(),
            all: AtomicU64::new(0),
            ahead,
            publishing: Mutex::default(),
            members: RwLock::default(),
            replay: Mutex::default(),
            counts: Counts::default(),
            poked: Arc::default(),
            is_telling: Arc::default(),
            last_sent: AtomicU64::new(0),
            ended: Ended::default(),
            is_running: Arc::default(),
            task: Mutex::new(None),
        }
    }

    pub(super) fn signature(&self) -> u64 {
        self.signature
    }

    pub(crate) fn bound(&self) -> Duration {
        Duration::from_nanos(self.bound.load(Ordering::Relaxed))
    }

    /// The smallest bound sets the pace.
    pub(super) fn tighten(&self, bound: Duration) {
        self.bound.fetch_min(nanos(bound), Ordering::Relaxed);
    }

    pub(super) fn goes_by(&self, clock: &Clock) -> bool {
        self.clock.is(clock)
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) fn has_members(&self) -> bool {
        self.members.read().iter().any(|member| member.strong_count() > 0)
    }

    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How many partitions are not verified at the moment, by this bound.
    pub(crate) fn unverified(&self, bound: Duration) -> usize {
        let now = self.now();
        let verified = |known: &&Known| now < ends(known.verified.load(Ordering::Acquire), bound);
        PARTITIONS - self.partitions.iter().filter(verified).count()
    }

    pub(crate) fn admit(&self, member: Weak<dyn Member>) {
        let mut members = self.members.write();
        members.retain(|member| member.strong_count() > 0);
        members.push(member);
    }

    /// A cache is closed. With the last one listening and polling end.
    pub(crate) fn leave(&self, signature: u64) {
        self.members.write().retain(|member| member.upgrade().is_some_and(|member| member.signature() != signature));
        self.poked.notify_one();
    }

    /// Whether no cache is left, so that the task of the rounds is to end; nothing is listened to any more then.
    pub(super) fn is_deserted(&self) -> bool {
        let mut task = self.task.lock();
        let deserted = !self.has_members();
        if deserted {
            *task = None;
            // Under the lock, so that a cache that joins now starts another.
            self.is_running.store(false, Ordering::Release);
            self.deaf(&every_partition());
        }
        deserted
    }

    /// Listens and polls from now on, in the runtime of the caller, if there is one. Cheap to call again.
    pub(crate) fn start(self: &Arc<Self>) {
        if self.is_running.load(Ordering::Acquire) {
            return;
        }
        let mut task = self.task.lock();
        if self.is_running.load(Ordering::Acquire) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        // The runtime that an earlier task ran on has ended, and with it, it may be, what listened.
        if task.take().is_some() {
            self.deaf(&every_partition());
        }
        let ear: Arc<dyn Ear> = self.clone();
        if let Some(listening) = self.tier.listen(&self.prefix, Arc::downgrade(&ear)) {
            self.is_running.store(true, Ordering::Release);
            let running = Running(self.is_running.clone());
            runtime.spawn(self.clock.held(super::rounds::go_round(Arc::downgrade(self), running)));
            *task = Some(listening);
            drop(task);
            // A store in this process listens at once. It is polled before there is anything in L1 that a first poll would have to suspect.
            if self.is_listening(Partition::default()) {
                let _ = self.round().now_or_never();
            }
        }
    }

    /// Whether all partitions are verified at a [moment](Self::moment): what a hit asks before it looks into L1.
    ///
    /// Before, because an entry is suspected before its partition is verified again: who sees the latter sees the former.
    #[inline]
    pub(crate) fn is_verified(&self, now: Moment, lease: Lease) -> bool {
        // Ordering: acquire pairs with the release in `publish`.
        let now = if is(Mutant::StoppedClock) { self.last_sent() } else { now };
        // Nothing is as early as a lease from moment 0.
        now.as_nanos() < self.all.load(Ordering::Acquire).saturating_add(lease.0) || is(Mutant::NoPolls)
    }

    /// How an entry stands that was loaded at `created`. As for `is_verified`: to be asked before the entry is looked at once more.
    pub(crate) fn standing(
        &self,
        partition: Partition,
        created: Moment,
        now: Moment,
        bound: Duration,
        grace: Duration,
    ) -> Standing {
        let known = self.known(partition);
        let created = created.as_nanos();
        // What was loaded within the bound is within it, whatever has been missed since.
        if now < ends(known.verified.load(Ordering::Acquire).max(created), bound) {
            return Standing::Verified;
        }
        let in_grace =
            known.is_away.load(Ordering::Acquire) && self.in_grace(partition, Moment::from_nanos(created), now, bound, grace);
        if in_grace { Standing::Grace } else { Standing::Unknown }
    }

    /// Whether an entry that was loaded at `created` may be served while the store is away.
    pub(crate) fn in_grace(&self, partition: Partition, created: Moment, now: Moment, bound: Duration, grace: Duration) -> bool {
        let known = self.known(partition);
        let from = known.was_verified.load(Ordering::Acquire).max(created.as_nanos());
        // Ordering: acquire pairs with the release in `answered`, for who has seen by whatever else that a poll was answered or has failed since.
        let missed = known.missed.load(Ordering::Acquire);
        let may_be_current = missed == 0 || created.as_nanos() > missed || is(Mutant::GraceForMissed);
        !grace.is_zero() && may_be_current && now < Moment::from_nanos(from).after(bound).after(grace)
    }

    /// Whether a call of a partition's keys that failed like this has failed because the store is away. A server's error may look the same, so polls have the last word: one that
    /// answers those, if only by refusing them, may be asked for values.
    pub(crate) fn is_away(&self, partition: Partition, err: ErrorKind, now: Moment, bound: Duration) -> bool {
        let known = self.known(partition);
        let silent = || now >= Moment::from_nanos(known.reached.load(Ordering::Acquire)).after(bound);
        is_silence(err) && (known.is_away.load(Ordering::Acquire) || silent())
    }

    /// Whether a partition is verified.
    pub(crate) fn vouches(&self, partition: Partition, now: Moment, bound: Duration) -> bool {
        now < ends(self.known(partition).verified.load(Ordering::Acquire), bound)
    }

    /// Whether everything up to a receipt is applied here, so that L1 covers it.
    pub(crate) fn covers(&self, receipt: &Receipt) -> bool {
        let state = self.known(receipt.partition).state.lock();
        let mark = state.ledger.mark();
        state.suspecting == 0 && mark.incarnation == receipt.incarnation && receipt.sequence <= mark.sequence
    }

    /// L1 has let go of what a message tells.
    fn applied(&self, partition: Partition, incarnation: u64, sequence: u64) {
        let mut state = self.known(partition).state.lock();
        let verdict = state.ledger.applied(incarnation, sequence);
        if self.settle(partition, state, verdict) {
            self.publish();
        }
    }

    /// When the last round of polls was sent.
    pub(super) fn last_sent(&self) -> Moment {
        Moment::from_nanos(self.last_sent.load(Ordering::Acquire))
    }

    /// Whether a poll could make a partition verified that is not.
    pub(super) fn is_listening(&self, partition: Partition) -> bool {
        self.known(partition).state.lock().is_listening
    }

    pub(super) fn members(&self) -> Vec<Arc<dyn Member>> {
        self.members.read().iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn before(&self, partition: Partition) -> Before {
        let state = self.known(partition).state.lock();
        Before { mark: state.ledger.mark(), subscription: state.is_listening.then_some(state.subscription) }
    }

    /// A poll failed. Only a store that did not answer is away: one that refuses a poll may be asked for values, and has to be.
    pub(super) fn failed(&self, partition: Partition, err: ErrorKind, sent: Moment) {
        let is_away = is_silence(err) || is(Mutant::RefusedIsAway);
        let known = self.known(partition);
        if !is_away {
            known.reached.fetch_max(sent.as_nanos(), Ordering::Release);
        }
        // Ordering: release pairs with the acquire of whoever asks about grace.
        known.is_away.store(is_away, Ordering::Release);
    }

    /// A poll was answered that was sent at `sent`, when the partition was as `before`. Hits see it once it is published.
    pub(super) fn answered(&self, partition: Partition, meta: Meta, sent: Moment, before: Before) {
        let known = self.known(partition);
        known.is_away.store(false, Ordering::Release);
        known.reached.fetch_max(sent.as_nanos(), Ordering::Release);
        let mut state = known.state.lock();
        let is_another = state.polled.replace(meta).is_none_or(|known| known.history != meta.history);
        self.replay.lock().answered(partition, is_another, sent);
        // Whether or not it counts: it is known now. Not as of when the poll was sent: what was loaded after its answer is no older than what it tells of.
        if state.ledger.lags(meta) {
            known.missed.store(self.now().as_nanos(), Ordering::Release);
        }
        // It counts only under the subscription that stood when it was sent, and stands.
        let stands = before.subscription == Some(state.subscription);
        if !(state.is_listening && stands || is(Mutant::TrustBeforeSubscribed)) {
            return;
        }
        let sent = if is(Mutant::LeaseFromReply) { self.now() } else { sent };
        let verdict = state.ledger.answered(meta, sent, before.mark, self.now(), self.bound());
        let _ = self.settle(partition, state, verdict);
    }

    /// What came of an event. `true` if there is something to publish.
    ///
    /// To suspect is to run the user's code (drops, a listener), so it is done without the lock, which a read may need. What others find verified meanwhile waits for that.
    fn settle<'a>(&'a self, partition: Partition, mut state: MutexGuard<'a, State>, verdict: Verdict) -> bool {
        let known = self.known(partition);
        match verdict {
            Verdict::Nothing => return false,
            Verdict::Verified(sent) => state.due = state.due.max(sent.as_nanos()),
            Verdict::Suspect(sent) => {
                state.due = state.due.max(sent.as_nanos());
                state.suspecting += 1;
                drop(state);
                self.suspect(partition);
                state = known.state.lock();
                state.suspecting -= 1;
            }
        }
        if state.suspecting > 0 {
            return false;
        }
        if !state.ledger.is_waiting() {
            // All that polls have told of is applied, or suspected.
            known.missed.store(0, Ordering::Release);
        }
        let due = std::mem::take(&mut state.due);
        // Ordering: release pairs with the acquire of whoever reads it before L1: the suspicion is seen, and so is what messages have removed.
        known.verified.fetch_max(due, Ordering::AcqRel);
        known.was_verified.fetch_max(due, Ordering::AcqRel);
        due > 0
    }

    fn suspect(&self, partition: Partition) {
        self.members().iter().for_each(|member| self.has_suspect(&**member, partition));
    }

    fn has_suspect(&self, member: &dyn Member, partition: Partition) {
        self.counts.suspicions.fetch_add(1, Ordering::Relaxed);
        member.suspect(partition);
    }

    /// Puts together what hits compare.
    pub(super) fn publish(&self) {
        // One at a time, or one that looked before a subscription ended could have the last word.
        let _one = self.publishing.lock();
        let all = self.partitions.iter().map(|known| known.verified.load(Ordering::Acquire)).min().unwrap_or(0);
        self.all.store(all, Ordering::Release);
    }

    fn known(&self, partition: Partition) -> &Known {
        &self.partitions[usize::from(partition.index())]
    }
}

/// Whether an error means that the store was not heard, and not that it refuses.
fn is_silence(err: ErrorKind) -> bool {
    matches!(err, ErrorKind::Unavailable | ErrorKind::Timeout)
}

/// For how long a poll verifies, in nanoseconds: put together once, for each hit needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease(u64);

impl Lease {
    pub(crate) fn new(bound: Duration) -> Self {
        Self(nanos(bound.saturating_sub(EARLY)))
    }
}

/// The end of a lease that counts from `sent`; never if there is none.
#[inline]
fn ends(sent: u64, bound: Duration) -> Moment {
    if sent == 0 { Moment::from_nanos(0) } else { Moment::from_nanos(sent).after(bound.saturating_sub(EARLY)) }
}

pub(super) fn every_partition() -> Vec<Partition> {
    (0..=255).map(Partition::from_index).collect()
}

impl Drop for Deployment {
    fn drop(&mut self) {
        // The task sleeps without holding this; it ends now that it cannot be found any more.
        self.poked.notify_one();
    }
}

impl fmt::Debug for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deployment").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
