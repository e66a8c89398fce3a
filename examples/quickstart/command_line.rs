//! The command line.

use std::time::Duration;

use lexopt::prelude::{Long, Short, ValueExt};

pub(crate) const HELP: &str = "\
Replays the page views of a shop through a product service: memory over Redis over a sharded database.

usage: cargo run --release --example quickstart -- [--loop SECONDS [--chaos]]

  --loop SECONDS  repeat the views through the full stack for so long, with a line per second;
                  exit code 1 if a single request failed
  --chaos         while it loops, kill the Redis started here every few seconds and start it again
  --help          this text

environment:
  REDIS_URL       the Redis to use as L2; otherwise a redis-server on the PATH is started on a free
                  port, and without one the embedded tier of this process takes its place
  SHARD_URLS      postgres:// URLs, separated by commas: the shards of the database; their table
                  quickstart_product is created and filled; otherwise four SQLite files for this run
";

pub(crate) enum Command {
    Help,
    /// One pass for each of the ways that are compared.
    Compare,
    Loop {
        limit: Duration,
        chaos: bool,
    },
}

impl Command {
    pub(crate) fn from_env() -> Result<Self, lexopt::Error> {
        let mut arguments = lexopt::Parser::from_env();
        let (mut limit, mut chaos) = (None, false);
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("help") | Short('h') => return Ok(Self::Help),
                Long("loop") => limit = Some(arguments.value()?.parse_with(seconds)?),
                Long("chaos") => chaos = true,
                other => return Err(other.unexpected()),
            }
        }
        match limit {
            Some(limit) => Ok(Self::Loop { limit, chaos }),
            None if chaos => Err("--chaos needs --loop SECONDS".into()),
            None => Ok(Self::Compare),
        }
    }
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    match text.parse() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("not a whole number of seconds from 1 to 86400"),
    }
}
