//! The server's own account of what it did, by INFO.

use redis::{Client, Connection, cmd};
use test_servers::Redis;

use crate::remote::Failure;

/// Over a connection of its own, which calls nothing but INFO and CONFIG RESETSTAT.
pub(crate) struct Account(Connection);

/// What a command, or several, came to since the last reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) calls: u64,
    /// Server time.
    pub(crate) micros: u64,
}

impl Account {
    pub(crate) fn open(redis: &Redis) -> Result<Self, Failure> {
        Ok(Self(Client::open(redis.url())?.get_connection()?))
    }

    /// Begins to count anew.
    pub(crate) fn reset(&mut self) -> Result<(), Failure> {
        Ok(cmd("CONFIG").arg("RESETSTAT").exec(&mut self.0)?)
    }

    /// What the commands of these names came to, as INFO names them: in lower case.
    pub(crate) fn spent(&mut self, commands: &[&str]) -> Result<Spent, Failure> {
        sum(&self.info("commandstats")?, commands)
    }

    /// Keys that were looked up to be read.
    pub(crate) fn lookups(&mut self) -> Result<u64, Failure> {
        let stats = self.info("stats")?;
        Ok(number::<u64>(&stats, "keyspace_hits")? + number::<u64>(&stats, "keyspace_misses")?)
    }

    /// Processor time of all of the server's threads since it started, in seconds.
    pub(crate) fn cpu_seconds(&mut self) -> Result<f64, Failure> {
        let cpu = self.info("cpu")?;
        Ok(number::<f64>(&cpu, "used_cpu_user")? + number::<f64>(&cpu, "used_cpu_sys")?)
    }

    fn info(&mut self, section: &str) -> Result<String, Failure> {
        Ok(cmd("INFO").arg(section).query(&mut self.0)?)
    }
}

/// A line of INFO.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn number<T: std::str::FromStr>(info: &str, name: &str) -> Result<T, Failure> {
    field(info, name).and_then(|text| text.parse().ok()).ok_or_else(|| format!("INFO has no {name}").into())
}

/// A command that was not called has no line, and cost nothing.
fn sum(stats: &str, commands: &[&str]) -> Result<Spent, Failure> {
    let mut total = Spent::default();
    for line in commands.iter().filter_map(|command| field(stats, &format!("cmdstat_{command}"))) {
        let part = |name: &str| {
            let of_name = line.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            of_name.and_then(|text| text.parse::<u64>().ok()).ok_or_else(|| format!("commandstats has no {name}"))
        };
        total.calls += part("calls")?;
        total.micros += part("usec")?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATS: &str = "# Commandstats\r\n\
        cmdstat_mget:calls=2,usec=9,usec_per_call=4.50,rejected_calls=0,failed_calls=0\r\n\
        cmdstat_getrange:calls=7,usec=70,usec_per_call=10.00,rejected_calls=0,failed_calls=0\r\n\
        cmdstat_get:calls=3,usec=5,usec_per_call=1.67,rejected_calls=0,failed_calls=0\r\n";

    #[test]
    fn commands_are_found_by_their_whole_names_and_added_up() {
        assert_eq!(sum(STATS, &["get", "mget"]).unwrap(), Spent { calls: 5, micros: 14 });
        assert_eq!(sum(STATS, &["get", "evalsha"]).unwrap(), Spent { calls: 3, micros: 5 });
        assert_eq!(sum(STATS, &["evalsha"]).unwrap(), Spent::default());
    }

    #[test]
    fn a_line_that_is_not_understood_is_no_nought() {
        assert!(sum("cmdstat_get:calls=x,usec=1", &["get"]).is_err());
        assert!(number::<f64>("used_cpu_user_children:1.5", "used_cpu_user").is_err());
        assert!((number::<f64>("used_cpu_user:1.5\r\n", "used_cpu_user").unwrap() - 1.5).abs() < 1e-9);
    }
}
