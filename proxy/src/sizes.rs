//! How many bytes sessions had, since the start of the process.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::durations::Buckets;

/// The upper bounds of buckets, in bytes: from a query and its row to a dump of a database.
const BOUNDS: [u64; 9] = [
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
    10_000_000_000,
    100_000_000_000,
];

/// What ended sessions had in each direction.
#[derive(Debug, Default)]
pub(crate) struct SessionSizes {
    /// From the backend to the client.
    pub(crate) to_client: Sizes,
    /// From the client to the backend.
    pub(crate) to_backend: Sizes,
}

/// Sizes of one kind. A splice thread counts them, so that nothing of it waits.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    counts: [AtomicU64; BOUNDS.len()],
    above: AtomicU64,
    sum: AtomicU64,
}

impl Sizes {
    /// Something had so many bytes.
    pub(crate) fn had(&self, bytes: u64) {
        let mut counts = BOUNDS.iter().zip(&self.counts);
        let count = counts.find(|(bound, _)| bytes <= **bound);
        let count = count.map_or(&self.above, |(_, count)| count);
        count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What there was so far.
    pub(crate) fn buckets(&self) -> Buckets {
        let load = |it: &AtomicU64| it.load(Ordering::Relaxed);
        let bounded = BOUNDS.iter().zip(&self.counts);
        let mut buckets: Vec<(f64, u64)> = bounded
            .map(|(bound, count)| (*bound as f64, load(count)))
            .collect();
        buckets.push((f64::INFINITY, load(&self.above)));
        Buckets {
            sum: load(&self.sum) as f64,
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_in_one_bucket() {
        let sizes = Sizes::default();
        for bytes in [0, 1_000, 1_001, 1_000_000_000_000] {
            sizes.had(bytes);
        }
        let told = sizes.buckets();
        let counts: Vec<u64> = told.buckets.iter().map(|it| it.1).collect();
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((told.count, told.sum), (4, 1_000_000_002_001.0));
    }
}
