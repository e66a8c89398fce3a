//! How long the coldest entries of the main queue have not been used.

/// The part of the entries that are colder.
const COLDER: f64 = 1.0 / 16.0;

/// The estimate moves by this part of itself for an entry that it takes by surprise.
const STEP: f64 = 1.0 / 16.0;

/// And at least by so many pulses.
const LEAST_STEP: f64 = 0.25;

/// An age, in pulses, that one entry in 16 exceeds, estimated from one entry after another.
///
/// It takes the place of the recency of LIRS's last hot block. That is known exactly only to a stack, which hits would have to write. The
/// estimate is a stochastic approximation (Robbins and Monro, 1951): ages above it raise it, the others lower it by a 15th as much.
#[derive(Debug)]
pub(super) struct Coldest {
    age: f64,
}

impl Coldest {
    pub(super) const fn new() -> Self {
        Self { age: 0.0 }
    }

    /// Takes note of the age of an entry.
    pub(super) fn met(&mut self, age: u32) {
        let step = (self.age * STEP).max(LEAST_STEP);
        if f64::from(age) > self.age {
            self.age += step * (1.0 - COLDER);
        } else {
            self.age = (self.age - step * COLDER).max(0.0);
        }
    }

    /// Whether it has not been used for longer than this.
    pub(super) fn is_colder_than(&self, age: u32) -> bool {
        self.age > f64::from(age)
    }
}
