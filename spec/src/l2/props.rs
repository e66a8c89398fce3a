//! The invariants of the record, and what must happen for them to mean anything.

use super::{L2, Load, Op, Shared};
use cache_core::record::State;
use stateright::Property;

impl L2 {
    pub(super) fn all_properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always("I1: what an INVALIDATE that is done has replaced is not in L2", |_, s: &Shared| {
                !s.rec.has_value() || s.rec.value >= s.acked
            }),
            Property::always("I4: only the load whose grant the lease is has filled", |_, s: &Shared| !s.usurped),
            Property::always("I14: no lease outlives its load", |_: &Self, s: &Shared| {
                let ended = |load: &Load| !matches!(load, Load::Idle | Load::Leased | Load::Read(_) | Load::Failed | Load::Died);
                let leased = matches!(s.rec.state, Some(State::Lease | State::Refresh));
                !leased || s.holder == 0 || !ended(&s.loads[usize::from(s.holder) - 1])
            }),
            Property::sometimes("a fill succeeds", |_, s: &Shared| s.loads.contains(&Load::Stored)),
            Property::sometimes("a fill succeeds after an invalidation", |_, s: &Shared| s.rec.has_value() && s.rec.value > 0),
        ];
        if self.loads > 1 {
            all.push(Property::sometimes("a load finds another's value", |_, s: &Shared| {
                s.loads.iter().any(|load| matches!(load, Load::Hit(_)))
            }));
        }
        if !self.naive() {
            all.push(Property::sometimes("a fill is refused", |_, s: &Shared| s.loads.contains(&Load::Refused)));
        }
        if self.strict() {
            all.push(Property::always("I11: what a commit within its mark's life has replaced is not in L2", |_, s: &Shared| {
                !s.rec.has_value() || s.rec.value >= s.db
            }));
            all.push(Property::sometimes("a mark holds a load off", |_, s: &Shared| {
                s.rec.state == Some(State::Marked) && s.rec.left > 0 && s.loads.contains(&Load::Idle)
            }));
        }
        if self.time {
            all.push(Property::sometimes("a value stays while it is refreshed", |_, s: &Shared| {
                s.rec.state == Some(State::Refresh)
            }));
        }
        if self.replica {
            all.push(Property::sometimes("a fill is too old", |_, s: &Shared| {
                s.rec.state == Some(State::Lease) && s.loads.contains(&Load::Failed) && s.rec.version > 0
            }));
        }
        if self.writers.contains(&Op::Put) {
            all.push(Property::sometimes("a put stores", |_, s: &Shared| s.rec.has_value() && s.rec.token >= 100));
        }
        all
    }
}
