//! Which bytes of a blob are here: sorted ranges that do not touch.

/// Ranges of bytes, each from first (inclusive) to last (exclusive).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds a range.
    pub(super) fn add(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let first = self.0.partition_point(|(_, end)| *end < from);
        let last = self.0.partition_point(|(start, _)| *start <= to);
        let (mut from, mut to) = (from, to);
        if first < last {
            from = from.min(self.0[first].0);
            to = to.max(self.0[last - 1].1);
        }
        self.0.splice(first..last, [(from, to)]);
    }

    /// How many bytes are here from byte 0 on without a gap.
    pub(super) fn prefix(&self) -> u64 {
        match self.0.first() {
            Some((0, to)) => *to,
            _ => 0,
        }
    }

    /// Bytes that are here.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from).sum()
    }

    /// What is missing of `size` bytes.
    pub(super) fn missing(&self, size: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut at = 0;
        for (from, to) in &self.0 {
            if at < *from {
                gaps.push((at, *from));
            }
            at = *to;
        }
        if at < size {
            gaps.push((at, size));
        }
        gaps
    }

    /// Forgets what lies beyond `size`.
    pub(super) fn clip(&mut self, size: u64) {
        self.0.retain_mut(|(from, to)| {
            *to = (*to).min(size);
            *from < *to
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_and_leave_gaps() {
        let mut ranges = Ranges::default();
        for (from, to) in [(10, 20), (30, 40), (20, 25), (5, 5)] {
            ranges.add(from, to);
        }
        assert_eq!(ranges.missing(50), [(0, 10), (25, 30), (40, 50)]);
        assert_eq!((ranges.prefix(), ranges.bytes()), (0, 25));
        ranges.add(0, 35);
        assert_eq!((ranges.prefix(), ranges.missing(40)), (40, vec![]));
        ranges.clip(7);
        assert_eq!(ranges.missing(10), [(7, 10)]);
    }

    proptest::proptest! {
        #[test]
        fn they_hold_what_a_set_of_bytes_holds(adds in proptest::collection::vec((0_u64..64, 0_u64..16), 0..20)) {
            let mut ranges = Ranges::default();
            let mut set = [false; 96];
            for (from, length) in adds {
                ranges.add(from, from + length);
                (from..from + length).for_each(|b| set[b as usize] = true);
            }
            let mut missing = [true; 96];
            for (from, to) in ranges.missing(96) {
                (from..to).for_each(|b| missing[b as usize] = false);
            }
            proptest::prop_assert_eq!(set, missing);
            proptest::prop_assert_eq!(ranges.bytes(), set.iter().filter(|b| **b).count() as u64);
            proptest::prop_assert!(ranges.0.windows(2).all(|w| w[0].1 < w[1].0));
        }
    }
}
