//! MARK and UNMARK: writes that are announced. An unmark is an invalidation besides, and shares the end of its script.

use crate::backplane::Telling;
use crate::invalidate::{Lot, known, needs_two_steps, tombstones};
use crate::script::SCRIPTS;
use crate::tier::{RedisTier, Unable};
use crate::verbs::{at_least_one, not_understood};
use cache_core::record::millis;
use cache_core::{Invalidated, Invalidation, Mark, Marked, Notice, RemoteKey, Result, Told, Unmark};
use std::time::Instant;

impl RedisTier {
    pub(crate) async fn run_mark(&self, key: &RemoteKey, mark: &Mark) -> Result<Marked> {
        self.note(key.as_bytes(), mark.life.max(mark.retain));
        let mut call = SCRIPTS.mark.call(1);
        call.arg(key.as_bytes()).arg(announced(key, mark));
        let (word, _) = self.run("mark", self.deadline(), key.as_bytes(), &SCRIPTS.mark, &call).await?;
        match &*word {
            b"marked" => Ok(Marked::Announced),
            b"full" => Ok(Marked::TooMany),
            b"foreign" => Ok(Marked::Foreign),
            _ => Err(not_understood()),
        }
    }

    pub(crate) async fn unmark_told(
        &self,
        key: &RemoteKey,
        unmark: &Unmark,
        notice: Option<&Notice>,
    ) -> Result<Told<Invalidated>> {
        let deadline = self.deadline();
        let telling = notice.map(|notice| {
            let told = Invalidation { key: key.clone(), version: unmark.version };
            Telling::new(self, notice, key.partition(), notice.frame([&told].into_iter()))
        });
        let lot = match (self.run_unmark(deadline, key, unmark, telling.as_ref()).await, &telling) {
            (Err(err), Some(telling)) if needs_two_steps(&err) => {
                let Lot { letters, .. } = self.run_unmark(deadline, key, unmark, None).await?;
                Lot { letters, receipt: self.tell("unmark", deadline, telling).await? }
            }
            (ended, _) => ended?,
        };
        let outcome = match &*lot.letters {
            b"T" => Invalidated::Tombstoned,
            b"C" => Invalidated::Current,
            b"F" => Invalidated::Foreign,
            _ => return Err(not_understood()),
        };
        Ok(Told { outcome, receipts: lot.receipt.into_iter().collect() })
    }

    async fn run_unmark(&self, deadline: Instant, key: &RemoteKey, unmark: &Unmark, telling: Option<&Telling>) -> Result<Lot> {
        let wanted = vec![(key.as_bytes(), known(key, unmark.version))];
        self.note(key.as_bytes(), unmark.retain);
        let script = if telling.is_some() { &SCRIPTS.unmark_told } else { &SCRIPTS.unmark };
        let mut call = script.call(1 + usize::from(telling.is_some()));
        call.arg(key.as_bytes());
        if let Some(telling) = telling {
            call.arg(telling.meta());
        }
        call.arg([unmark.token.as_bytes(), &tombstones(&wanted, unmark.retain)[..]].concat());
        if let Some(telling) = telling {
            telling.add_to(&mut call);
        }
        match self.try_plain("unmark", deadline, key.as_bytes(), script, script.request(&call)).await? {
            Ok(letter) => Lot::read(letter, 1, telling),
            Err(Unable::Moving) => Err(Unable::Moving.error()),
            // Which works without memory: the mark ends by itself. Where it cannot either, the record goes, with all its marks.
            Err(Unable::Memory) => self.run_invalidate("unmark", deadline, unmark.retain, wanted, telling).await,
        }
    }
}

/// The argument of a mark: see mark.lua.
fn announced(key: &RemoteKey, mark: &Mark) -> Vec<u8> {
    let keep = at_least_one(mark.retain).max(millis(mark.life)).to_string();
    [mark.token.as_bytes(), &millis(mark.life).to_be_bytes()[2..], key.echo().as_bytes(), keep.as_bytes()].concat()
}
