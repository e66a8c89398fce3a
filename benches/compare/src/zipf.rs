//! Zipf-distributed key ids.

use fastrand::Rng;

/// Draws from `0..n`, where the `r`th most wanted id is drawn with a probability proportional to `1 / r^exponent`. Which id has which rank
/// is shuffled by a fixed seed: neighbours in popularity are no neighbours in memory, and every run asks for the same keys.
#[derive(Debug)]
pub(crate) struct Zipf {
    /// Of each rank: how much of the whole weight lies at it and before it.
    cumulative: Vec<f64>,
    id_of_rank: Vec<u32>,
}

impl Zipf {
    /// `n` ids, at least one.
    pub(crate) fn new(n: u32, exponent: f64) -> Self {
        let mut total = 0.0;
        let cumulative = (1..=n)
            .map(|rank| {
                total += f64::from(rank).powf(-exponent);
                total
            })
            .collect();
        let mut id_of_rank: Vec<u32> = (0..n).collect();
        Rng::with_seed(0x5EED).shuffle(&mut id_of_rank);
        Self { cumulative, id_of_rank }
    }

    /// One id, by inverting the exact distribution: about 0.1 µs, so to be called before the clock starts.
    pub(crate) fn draw(&self, rng: &mut Rng) -> u32 {
        let last = self.cumulative.len() - 1;
        let point = rng.f64() * self.cumulative[last];
        let rank = self.cumulative.partition_point(|&below| below <= point);
        self.id_of_rank[rank.min(last)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_drawn_as_often_as_zipf_says() {
        const DRAWS: u32 = 200_000;
        let zipf = Zipf::new(1_000, 0.99);
        let mut rng = Rng::with_seed(1);
        let mut counts = vec![0_u32; 1_000];
        for _ in 0..DRAWS {
            counts[zipf.draw(&mut rng) as usize] += 1;
        }
        let total: f64 = (1..=1_000).map(|rank| f64::from(rank).powf(-0.99)).sum();
        for rank in [1_u32, 2, 10, 100] {
            let expected = f64::from(DRAWS) * f64::from(rank).powf(-0.99) / total;
            let drawn = f64::from(counts[zipf.id_of_rank[rank as usize - 1] as usize]);
            assert!((drawn - expected).abs() < 6.0 * expected.sqrt(), "rank {rank}: {drawn} drawn, {expected} expected");
        }
    }

    #[test]
    fn the_most_wanted_ids_are_scattered() {
        let zipf = Zipf::new(100_000, 0.99);
        let neighbours = zipf.id_of_rank.windows(2).take(100).filter(|pair| pair[0].abs_diff(pair[1]) < 100).count();
        assert!(neighbours < 5);
    }

    #[test]
    fn a_single_id_is_always_drawn() {
        assert_eq!(Zipf::new(1, 0.99).draw(&mut Rng::with_seed(7)), 0);
    }
}
