//! Asking several, of whom one is enough.

use cache_core::{Error, ErrorKind, Result};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::time::Duration;
use tokio::time::timeout;

/// So long each gets before the next is asked beside it. A packet's way within a data centre takes a hundredth of it.
const STAGGER: Duration = Duration::from_millis(50);

/// What the first of the attempts to succeed has. They begin in their order: one that is dead holds up the next for 50 ms, and one that fails for nothing.
///
/// Else one of their errors, what a person must mend before weather; `none` where there are no attempts. Safe to cancel.
pub(crate) async fn first<T>(attempts: impl IntoIterator<Item = impl Future<Output = Result<T>>>, none: Error) -> Result<T> {
    let (mut waiting, mut running) = (attempts.into_iter().fuse(), FuturesUnordered::new());
    let mut last = none;
    loop {
        running.extend(waiting.next());
        match timeout(STAGGER, running.next()).await {
            Ok(Some(Ok(answer))) => return Ok(answer),
            Ok(Some(Err(err))) if !matches!(last.kind(), ErrorKind::Config | ErrorKind::Credentials) => last = err,
            // All have failed.
            Ok(None) => return Err(last),
            Ok(Some(Err(_))) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::time::{Instant, sleep};

    const MS: Duration = Duration::from_millis(1);

    /// Ends after so long, or never.
    async fn attempt(after: Option<u32>, answer: Result<u32, ErrorKind>) -> Result<u32> {
        match after {
            Some(after) => sleep(MS * after).await,
            None => pending().await,
        }
        answer.map_err(|kind| Error::new(kind, "an attempt failed"))
    }

    async fn of(attempts: &[(Option<u32>, Result<u32, ErrorKind>)]) -> (Result<u32, ErrorKind>, Duration) {
        let began = Instant::now();
        let none = Error::new(ErrorKind::Unavailable, "there are none");
        let ended = first(attempts.iter().map(|(after, answer)| attempt(*after, *answer)), none).await;
        (ended.map_err(|err| err.kind()), began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn the_dead_hold_up_the_living_for_a_moment_each_and_who_refuses_not_at_all() {
        let (dead, refuses) = ((None, Ok(0)), (Some(0), Err(ErrorKind::Unavailable)));
        let (ended, took) = of(&[dead, dead, dead, (Some(10), Ok(1))]).await;
        assert_eq!(ended, Ok(1));
        assert!(took >= STAGGER * 3 && took <= STAGGER * 3 + 15 * MS, "{took:?}");
        let (ended, took) = of(&[refuses, refuses, (Some(10), Ok(1))]).await;
        assert!(ended == Ok(1) && took <= 15 * MS, "{ended:?} after {took:?}");
        // Who is slow is still listened to, beside those asked after it.
        let (ended, took) = of(&[(Some(120), Ok(1)), dead, dead]).await;
        assert!(ended == Ok(1) && took <= 125 * MS, "{ended:?} after {took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_person_must_mend_outweighs_weather_whichever_comes_first() {
        let (weather, refused) = ((Some(0), Err(ErrorKind::Unavailable)), (Some(0), Err(ErrorKind::Credentials)));
        let late = (Some(0), Err(ErrorKind::Timeout));
        assert_eq!(of(&[weather, late, refused, weather]).await.0, Err(ErrorKind::Credentials));
        assert_eq!(of(&[refused, weather]).await.0, Err(ErrorKind::Credentials));
        assert_eq!(of(&[weather]).await.0, Err(ErrorKind::Unavailable));
        assert_eq!(of(&[]).await.0, Err(ErrorKind::Unavailable), "there are none");
    }
}
