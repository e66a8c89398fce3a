//! A table in memory, on tokio's clock, that fails when it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::outbox::{Backlog, Claimed, Error, Postponed, Row, Store};

/// What the next calls of one kind do instead of their work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    Refuse,
    Hang,
    Panic,
    /// The work is done, and the answer lost.
    DoneButRefuse,
}

#[derive(Debug)]
struct Kept {
    row: Row,
    attempt: u32,
    due: Instant,
}

/// A clone is the same table.
#[derive(Clone, Debug, Default)]
pub(super) struct Fake(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    last_id: i64,
    rows: BTreeMap<i64, Kept>,
    claims: Vec<(Instant, u32, usize)>,
    faults: BTreeMap<&'static str, (u32, Option<Fault>)>,
    deletes: Vec<Vec<i64>>,
}

impl Fake {
    pub(super) fn with_rows(number: u32) -> Self {
        let fake = Self::default();
        for key in 0..number {
            fake.add("topic", key);
        }
        fake
    }

    /// A row is known to the tests by its key, a number.
    pub(super) fn add(&self, topic: &str, key: u32) -> i64 {
        let mut table = self.0.lock().unwrap();
        table.last_id += 1;
        let id = table.last_id;
        let row = Row::new(topic, key.to_be_bytes()).unwrap();
        table.rows.insert(id, Kept { row, attempt: 0, due: Instant::now() });
        id
    }

    /// The next `times` calls of `verb` fail.
    pub(super) fn fail(&self, verb: &'static str, times: u32, fault: Fault) {
        self.0.lock().unwrap().faults.insert(verb, (times, Some(fault)));
    }

    pub(super) fn rows(&self) -> Vec<u32> {
        self.0.lock().unwrap().rows.values().map(|kept| key(&kept.row)).collect()
    }

    /// The attempts of each row, by its key.
    pub(super) fn attempts(&self) -> BTreeMap<u32, u32> {
        self.0.lock().unwrap().rows.values().map(|kept| (key(&kept.row), kept.attempt)).collect()
    }

    /// When it was asked for rows, for how many, and how many it gave.
    pub(super) fn claims(&self) -> Vec<(Instant, u32, usize)> {
        self.0.lock().unwrap().claims.clone()
    }

    pub(super) fn deletes(&self) -> Vec<Vec<i64>> {
        self.0.lock().unwrap().deletes.clone()
    }

    async fn fault(&self, verb: &'static str) -> Result<bool, Error> {
        // Every call takes a little, so that others happen meanwhile.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let fault = {
            let mut table = self.0.lock().unwrap();
            let (left, fault) = table.faults.entry(verb).or_default();
            let due = *left > 0;
            *left = left.saturating_sub(1);
            fault.filter(|_| due)
        };
        match fault {
            None => Ok(false),
            Some(Fault::Refuse) => Err(refused()),
            Some(Fault::DoneButRefuse) => Ok(true),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Panic) => panic!("a store that panics"),
        }
    }
}

pub(super) fn key(row: &Row) -> u32 {
    u32::from_be_bytes(row.key().try_into().unwrap())
}

fn refused() -> Error {
    Error::store(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
}

impl Store for Fake {
    async fn claim(&self, most: u32, lease: Duration) -> Result<Vec<Claimed>, Error> {
        let lost = self.fault("claim").await?;
        let mut table = self.0.lock().unwrap();
        let now = Instant::now();
        let due = table.rows.iter_mut().filter(|(_, kept)| kept.due <= now).take(most as usize);
        let claimed: Vec<_> = due
            .map(|(&id, kept)| {
                kept.attempt += 1;
                kept.due = now + lease;
                Claimed { id, attempt: kept.attempt, row: kept.row.clone() }
            })
            .collect();
        table.claims.push((now, most, claimed.len()));
        if lost { Err(refused()) } else { Ok(claimed) }
    }

    async fn delete(&self, ids: &[i64]) -> Result<(), Error> {
        let lost = self.fault("delete").await?;
        let mut table = self.0.lock().unwrap();
        table.deletes.push(ids.to_vec());
        table.rows.retain(|id, _| !ids.contains(id));
        if lost { Err(refused()) } else { Ok(()) }
    }

    async fn postpone(&self, rows: &[Postponed]) -> Result<(), Error> {
        let lost = self.fault("postpone").await?;
        let mut table = self.0.lock().unwrap();
        for &Postponed { id, attempt, delay } in rows {
            if let Some(kept) = table.rows.get_mut(&id).filter(|kept| kept.attempt == attempt) {
                kept.due = Instant::now() + delay;
            }
        }
        if lost { Err(refused()) } else { Ok(()) }
    }

    async fn backlog(&self) -> Result<Backlog, Error> {
        Ok(Backlog::new(self.rows().len() as u64, None))
    }
}
