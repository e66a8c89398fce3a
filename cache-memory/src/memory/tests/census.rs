//! Keys and values that are counted: each is born once and dropped once.

use std::borrow::Borrow;
use std::sync::{Arc, Mutex};

/// Who was born, by number, and how often each was dropped.
#[derive(Debug, Clone, Default)]
pub(super) struct Census(Arc<Mutex<Vec<u8>>>);

impl Census {
    /// Panics if one was dropped twice. How many live.
    pub(super) fn living(&self) -> u64 {
        let drops = self.0.lock().unwrap();
        assert!(drops.iter().all(|times| *times <= 1), "dropped twice");
        drops.iter().map(|times| u64::from(*times == 0)).sum()
    }

    pub(super) fn citizen(&self) -> Citizen {
        let mut drops = self.0.lock().unwrap();
        drops.push(0);
        Citizen { number: drops.len() - 1, census: self.clone(), loud: false }
    }

    pub(super) fn key(&self, id: u64) -> Key {
        Key { id, _citizen: self.citizen() }
    }

    pub(super) fn value(&self, id: u64, weight: u32) -> Value {
        Value { id, weight, citizen: self.citizen() }
    }
}

#[derive(Debug)]
pub(super) struct Citizen {
    number: usize,
    census: Census,
    /// Whether its drop panics, once it is counted.
    pub(super) loud: bool,
}

impl Clone for Citizen {
    fn clone(&self) -> Self {
        self.census.citizen()
    }
}

impl Drop for Citizen {
    fn drop(&mut self) {
        self.census.0.lock().unwrap()[self.number] += 1;
        if self.loud && !std::thread::panicking() {
            super::quiet_panic();
        }
    }
}

/// A key that is found by its number.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) id: u64,
    _citizen: Citizen,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Key {}

impl Borrow<u64> for Key {
    fn borrow(&self) -> &u64 {
        &self.id
    }
}

#[derive(Debug, Clone)]
pub(super) struct Value {
    pub(super) id: u64,
    pub(super) weight: u32,
    pub(super) citizen: Citizen,
}

impl Value {
    pub(super) fn loud(mut self, loud: bool) -> Self {
        self.citizen.loud = loud;
        self
    }
}
