//! The promise of a clear: once it is done and no failover has lost any of it, and again once that was repeated.

use super::{B, Clear, Load, Mutant, Shared, Told};
use stateright::Property;

impl Clear {
    fn has_older(&self, s: &Shared) -> bool {
        let mut masters = s.masters.iter().enumerate().filter(|(m, _)| self.is_in_play(*m));
        masters.any(|(_, master)| master.rec.has_value() && master.rec.value < s.db)
    }

    /// The clear is done, all failovers are known, and nothing is left to do.
    fn is_settled(s: &Shared) -> bool {
        let known = s.masters.iter().all(|master| master.polled == master.run);
        s.memory.told != Told::No && !s.memory.owed && s.memory.repeat == 0 && s.sweep.is_none() && known
    }

    pub(super) fn all_properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always(
                "I1: once a clear is done and nothing of it lost, L2 has nothing older",
                |model: &Self, s: &Shared| s.seen.whole.is_none() || !model.has_older(s),
            ),
            Property::always(
                "I1 for good: who knows of all failovers and has nothing to repeat finds nothing older in L2",
                |model: &Self, s: &Shared| !Self::is_settled(s) || !model.has_older(s),
            ),
        ];
        if !self.loads.is_empty() {
            all.push(Property::sometimes("a load over the whole clear is refused", |_, s: &Shared| {
                s.loads.contains(&Load::Refused) && s.seen.whole.is_some()
            }));
            all.push(Property::sometimes("a value is in L2 after a clear", |_, s: &Shared| {
                s.seen.whole.is_some() && s.masters.iter().any(|master| master.rec.has_value())
            }));
        }
        if self.promotions > 0 {
            all.push(Property::sometimes("an old value returns after Ok", |model: &Self, s: &Shared| {
                s.memory.told == Told::Ok && s.sweep.is_none() && model.has_older(s)
            }));
            all.push(Property::sometimes("what was lost is repeated", |_, s: &Shared| {
                s.seen.repeated && s.memory.repeat == 0 && s.seen.whole.is_some()
            }));
        }
        if self.fails > 0 {
            all.push(Property::sometimes("a clear that failed is done later", |_, s: &Shared| {
                s.memory.told == Told::Error && s.seen.whole.is_some()
            }));
        }
        if self.forget {
            all.push(Property::sometimes("a clear is forgotten, and a replica promoted", |_, s: &Shared| {
                s.seen.whole.is_some() && Self::is_settled(s) && !s.memory.noted && s.promoted > 0
            }));
        }
        if self.reader.is_some() {
            self.of_reader(&mut all);
        }
        all
    }

    fn of_reader(&self, all: &mut Vec<Property<Self>>) {
        all.push(Property::always("I3: what is given as verified is no older than B", |_, s: &Shared| {
            s.seen.whole.is_none_or(|age| age < B) || s.node.given().all(|value| value >= s.db)
        }));
        if self.is_own() {
            all.push(Property::always("I2: who has told its caller, Ok or not, gives nothing older from L1", |_, s: &Shared| {
                !s.seen.bound || s.node.given().all(|value| value >= s.db)
            }));
            all.push(Property::sometimes("a value is stored after a clear", |_, s: &Shared| {
                s.seen.bound && s.node.entry.is_some_and(|entry| entry.value > 0)
            }));
        }
        if !self.is(Mutant::NoMessages) {
            all.push(Property::sometimes("an entry outlives its suspicion", |_, s: &Shared| {
                s.node.entry.is_some_and(|entry| entry.suspect) && s.node.verified > 0
            }));
        }
        all.push(Property::sometimes("an entry older than B is served verified after a clear", |_, s: &Shared| {
            s.seen.whole.is_some() && s.node.hit().is_some_and(|entry| entry.age >= B && entry.value > 0)
        }));
    }
}
