//! Randomness whose numbers are the same on every machine and with every release of the crates below.

use rand::{Rng, SeedableRng, rngs::ChaCha8Rng};

/// What a stream of numbers is drawn for; streams of different kinds share nothing.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Post = 1,
    User = 2,
}

/// A stream of numbers of its own for each (seed, purpose, number), so that any post can be made without those before it.
#[derive(Debug)]
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// The key is laid out here: `seed_from_u64` and `random_range` may change their numbers in a later release.
    pub(super) fn new(random_seed: u64, purpose: Purpose, number: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&random_seed.to_le_bytes());
        key[8..16].copy_from_slice(&number.to_le_bytes());
        key[16] = purpose as u8;
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product is below `bound`; the bias is less than bound / 2^64.
        let product = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or_default()
    }

    /// A number below `bound` that is small more often than not: the n-th has about ln(bound / n) of the weight.
    pub(super) fn small_below(&mut self, bound: u64) -> u64 {
        let bound = self.below(bound) + 1;
        self.below(bound)
    }

    /// Whether something happens that happens `permille` times in a thousand.
    pub(super) fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// Picks the first of a list more often than the last.
    pub(super) fn pick_early<T: Copy>(&mut self, of: &[T]) -> T {
        let bound = self.index(of.len()) + 1;
        of[self.index(bound)]
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// An index into a list of this length, which is not 0.
    #[expect(clippy::cast_possible_truncation, reason = "below a usize")]
    pub(super) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }
}
