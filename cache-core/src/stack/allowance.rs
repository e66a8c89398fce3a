//! How long one answer waits for L2, in whatever calls.

use crate::error::{Error, ErrorKind, Result};
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The time that a tier's calls for one answer may take together: one [timeout](crate::RemoteTier::timeout) of it. A miss asks for the value, then for the lease, and
/// stores what was loaded: where each took nearly its timeout, it would be late by three.
pub(super) struct Allowance {
    /// `None` where the tier states no timeout.
    whole: Option<Duration>,
    spent: Duration,
}

impl Allowance {
    pub(super) fn new(whole: Option<Duration>) -> Self {
        Self { whole, spent: Duration::ZERO }
    }

    /// What was waited for since was another's load.
    pub(super) fn renew(&mut self) {
        self.spent = Duration::ZERO;
    }

    /// Waits for a call, which may be asked again where `None` says that it is not done within what is left.
    pub(super) async fn wait<R>(&mut self, call: impl Future<Output = R>) -> Option<R> {
        let began = Instant::now();
        let answer = match self.whole {
            // The first call: the tier's own timeout ends it.
            Some(_) if self.spent.is_zero() => Some(call.await),
            Some(whole) => timeout(whole.saturating_sub(self.spent), call).await.ok(),
            None => Some(call.await),
        };
        self.spent = self.spent.saturating_add(began.elapsed());
        answer
    }

    /// Waits for a call, which ends when nothing is left.
    pub(super) async fn of<T>(&mut self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let late = || Err(Error::new(ErrorKind::Timeout, "L2 was too slow in all that was asked of it for one answer"));
        self.wait(call).await.unwrap_or_else(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use tokio::time::sleep;

    const WHOLE: Duration = Duration::from_millis(100);

    async fn call(ms: u64) -> Result<u64> {
        sleep(Duration::from_millis(ms)).await;
        Ok(ms)
    }

    #[tokio::test(start_paused = true)]
    async fn calls_share_one_time_and_the_one_that_goes_beyond_it_ends() {
        let (began, mut allowance) = (Instant::now(), Allowance::new(Some(WHOLE)));
        assert_eq!(allowance.of(call(60)).await.unwrap(), 60);
        assert_eq!(allowance.of(call(30)).await.unwrap(), 30);
        assert_eq!(allowance.of(call(30)).await.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(began.elapsed() <= WHOLE + Duration::from_millis(2), "{:?}", began.elapsed());
        assert_eq!(allowance.of(call(1)).await.unwrap_err().kind(), ErrorKind::Timeout, "nothing is left");
        allowance.renew();
        assert_eq!(allowance.of(call(70)).await.unwrap(), 70);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_done_in_time_goes_on_when_it_is_asked_again() {
        let mut allowance = Allowance::new(Some(WHOLE));
        allowance.of(call(90)).await.unwrap();
        let mut long = pin!(call(300));
        assert!(allowance.wait(long.as_mut()).await.is_none());
        assert_eq!(long.await.unwrap(), 300);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tier_that_states_no_timeout_is_waited_for() {
        let mut allowance = Allowance::new(None);
        assert_eq!(allowance.of(call(5_000)).await.unwrap(), 5_000);
        assert_eq!(allowance.of(call(5_000)).await.unwrap(), 5_000);
    }
}
