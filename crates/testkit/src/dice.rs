//! Numbers that look random and come again for the same seed.

/// Marsaglia's xorshift.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Begins with `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1))
    }

    /// For one part of a run: what it throws does not depend on how often the others threw.
    pub fn of_part(seed: u64, part: usize) -> Self {
        Self::new(seed ^ (part as u64 + 1) << 32)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// One of so many, counted from 0.
    pub fn one_of(&mut self, many: usize) -> usize {
        usize::try_from(self.below(many.max(1) as u64)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_parts_differ() {
        let throws =
            |mut dice: Dice| -> Vec<usize> { (0..20).map(|_| dice.one_of(1000)).collect() };
        assert_eq!(throws(Dice::of_part(7, 3)), throws(Dice::of_part(7, 3)));
        assert_ne!(throws(Dice::of_part(7, 3)), throws(Dice::of_part(7, 4)));
        assert_ne!(throws(Dice::of_part(7, 3)), throws(Dice::of_part(8, 3)));
        assert_eq!(Dice::new(1).one_of(0), 0);
    }
}
