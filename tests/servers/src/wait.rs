//! Waiting for servers that must first agree.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::StartError;

/// Far more than a group takes for anything on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// Asks again and again until nothing is missing. An error ends it at once.
pub(crate) fn until(
    group: &'static str,
    mut check: impl FnMut() -> Result<Result<(), String>, StartError>,
) -> Result<(), StartError> {
    let deadline = Instant::now() + PATIENCE;
    while let Err(missing) = check()? {
        if Instant::now() > deadline {
            return Err(StartError::NotFormed { group, waited: PATIENCE, missing });
        }
        thread::sleep(POLL);
    }
    Ok(())
}
