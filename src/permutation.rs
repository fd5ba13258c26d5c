//! Random order as a computed permutation: a position in it is a number, and no list of keys is ever held. Pure.
//!
//! A Feistel network permutes the numbers below a power of four; a result that is too large is fed back until one fits
//! (cycle walking), at most about four steps on average.

use rand::{Rng, SeedableRng, rngs::ChaCha8Rng};

use crate::shard::Shard;

/// Sets the round keys apart from all other random numbers that a random seed yields.
const ORDER: u8 = 2;
/// Enough for neighbours to part for good; four already pass statistical tests.
const ROUNDS: usize = 6;

/// A shuffle of the numbers `0..len`.
#[derive(Debug, Clone)]
pub(crate) struct Permutation {
    len: u128,
    half_bits: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// The shuffle that belongs to a random seed, a shard and a pass; each has its own, so that shards do not walk through
    /// neighbouring keys side by side. `len` is at most 2^66.
    pub(crate) fn new(len: u128, random_seed: u64, shard: Shard, pass: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(random_seed);
        rng.set_stream(shard.stream(ORDER));
        rng.set_word_pos(u128::from(pass) * (ROUNDS as u128) * 2);
        let bits = u128::BITS - len.saturating_sub(1).leading_zeros();
        let keys = std::array::from_fn(|_| rng.next_u64());
        Self {
            len,
            half_bits: bits.div_ceil(2).max(1),
            keys,
        }
    }

    pub(crate) fn len(&self) -> u128 {
        self.len
    }

    /// The number at `position`, which is below `len`.
    pub(crate) fn at(&self, position: u128) -> u128 {
        debug_assert!(position < self.len);
        let mut number = self.encrypt(position);
        while number >= self.len {
            number = self.encrypt(number);
        }
        number
    }

    fn encrypt(&self, number: u128) -> u128 {
        let mask = (1_u64 << self.half_bits) - 1;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "masked to half_bits, at most 33"
        )]
        let (mut left, mut right) = (
            (number >> self.half_bits) as u64 & mask,
            number as u64 & mask,
        );
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        u128::from(left) << self.half_bits | u128::from(right)
    }
}

/// The finalizer of `SplitMix64` (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_stands_at_one_position() {
        for len in [1, 2, 3, 4, 5, 16, 17, 1000, 11_154, 100_000] {
            let order = Permutation::new(len, 100, Shard::WHOLE, 0);
            let mut seen: Vec<u128> = (0..len).map(|position| order.at(position)).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..len), "{len}");
        }
    }

    #[test]
    fn the_widest_range_of_keys_fits() {
        let len = u128::from(u64::MAX) + (1 << 63) + 1;
        let order = Permutation::new(len, 1, Shard::WHOLE, 0);
        for position in [0, 1, len / 2, len - 1] {
            assert!(order.at(position) < len);
        }
    }

    #[test]
    fn each_pass_each_seed_and_each_shard_has_an_order_of_its_own() {
        let order = |seed, pass, shard: &str| {
            let order = Permutation::new(1000, seed, shard.parse().unwrap(), pass);
            (0..1000)
                .map(|position| order.at(position))
                .collect::<Vec<_>>()
        };
        assert_eq!(order(1, 0, "1/1"), order(1, 0, "1/1"));
        assert_ne!(order(1, 0, "1/1"), order(1, 1, "1/1"));
        assert_ne!(order(1, 0, "1/1"), order(2, 0, "1/1"));
        assert_ne!(order(1, 0, "1/4"), order(1, 0, "2/4"));
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn neighbours_are_no_longer_neighbours() {
        // The mean distance of successive numbers in a random order is a third of their range.
        let order = Permutation::new(10_000, 7, Shard::WHOLE, 0);
        let sum: u128 = (1..10_000)
            .map(|position| order.at(position).abs_diff(order.at(position - 1)))
            .sum();
        let mean = sum as f64 / 9_999.0;
        assert!((mean - 3333.0).abs() < 100.0, "{mean}");
    }
}
