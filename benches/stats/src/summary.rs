//! Summaries of samples: order statistics and a histogram.

use core::fmt;

/// Order statistics of a set of samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Smallest sample.
    pub min: u64,
    /// The sample in the middle; the lower of two.
    pub median: u64,
    /// 99 of 100 samples are not above this.
    pub p99: u64,
    /// Largest sample.
    pub max: u64,
    /// Number of samples.
    pub count: usize,
}

impl Summary {
    /// Of samples, which it sorts. `None` without any.
    #[must_use]
    pub fn of(samples: &mut [u64]) -> Option<Self> {
        samples.sort_unstable();
        let count = samples.len();
        let at = |index: usize| samples.get(index).copied();
        Some(Self {
            min: at(0)?,
            median: at((count - 1) / 2)?,
            p99: at((count * 99).div_ceil(100).saturating_sub(1))?,
            max: at(count - 1)?,
            count,
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min, median, p99, max, count } = self;
        write!(out, "min={min} median={median} p99={p99} max={max} n={count}")
    }
}

/// A histogram of sorted samples, printed as `LOWER:COUNT,...`. Buckets are an eighth of a power of two wide, so that
/// each is known to 12 %; empty ones are left out.
#[derive(Clone, Copy, Debug)]
pub struct Histogram<'a>(pub &'a [u64]);

/// Bits of a sample that its bucket keeps.
const PRECISION: u32 = 4;

/// Lower end of a sample's bucket.
#[must_use]
pub const fn bucket(sample: u64) -> u64 {
    let bits = u64::BITS - sample.leading_zeros();
    let dropped = bits.saturating_sub(PRECISION);
    sample >> dropped << dropped
}

impl fmt::Display for Histogram<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = self.0.chunk_by(|a, b| bucket(*a) == bucket(*b));
        for (index, group) in groups.enumerate() {
            let separator = if index == 0 { "" } else { "," };
            let lower = group.first().map_or(0, |sample| bucket(*sample));
            write!(out, "{separator}{lower}:{}", group.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;
    use std::{format, string::ToString, vec::Vec};

    #[test]
    fn order_statistics_are_samples() {
        let mut samples: Vec<u64> = (1..=1000).rev().collect();
        let summary = Summary::of(&mut samples).unwrap();
        assert_eq!(summary.to_string(), "min=1 median=500 p99=990 max=1000 n=1000");
        assert_eq!(Summary::of(&mut []), None);
        let one = Summary::of(&mut [7]).unwrap();
        assert_eq!((one.min, one.median, one.p99, one.max), (7, 7, 7, 7));
    }

    #[test]
    fn a_histogram_lists_what_is_there() {
        let samples = [3, 3, 283, 283, 287, 288, 10_000];
        assert_eq!(format!("{}", Histogram(&samples)), "3:2,256:3,288:1,9216:1");
    }

    proptest! {
        #[test]
        fn a_bucket_is_close_below_its_samples(sample: u64) {
            prop_assert!(bucket(sample) <= sample && sample - bucket(sample) <= sample / 8);
            prop_assert_eq!(bucket(bucket(sample)), bucket(sample));
        }
    }
}
