//! How long things took since the start of the process.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::limits::{DURATION_FIGURES, DURATION_MAX};

/// Every duration of one kind.
#[derive(Debug)]
pub(crate) struct Durations(Mutex<Recorded>);

/// What was recorded.
#[derive(Debug)]
struct Recorded {
    histogram: Option<Histogram<u64>>,
    sum: Duration,
}

/// A summary of durations, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// How many there were.
    pub(crate) count: u64,
    /// The median.
    pub(crate) p50_us: u64,
    /// Of a hundred, the slowest but one.
    pub(crate) p99_us: u64,
    /// The slowest.
    pub(crate) max_us: u64,
}

/// Things counted between bounds: durations in seconds, or sizes in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Buckets {
    /// All of them together.
    pub(crate) sum: f64,
    /// How many there were.
    pub(crate) count: u64,
    /// An upper bound, and how many were above the bound before and not above this one.
    /// The last bound is infinity.
    pub(crate) buckets: Vec<(f64, u64)>,
}

impl Durations {
    /// None yet.
    pub(crate) fn new() -> Self {
        let max_us = u64::try_from(DURATION_MAX.as_micros()).unwrap_or(u64::MAX);
        Self(Mutex::new(Recorded {
            // It is refused only for bounds that make no sense.
            histogram: Histogram::new_with_max(max_us, DURATION_FIGURES).ok(),
            sum: Duration::ZERO,
        }))
    }

    /// Something took so long.
    pub(crate) fn took(&self, duration: Duration) {
        let mut recorded = self.recorded();
        recorded.sum = recorded.sum.saturating_add(duration);
        if let Some(histogram) = recorded.histogram.as_mut() {
            histogram.saturating_record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// What there was so far.
    pub(crate) fn summary(&self) -> Summary {
        self.recorded()
            .histogram
            .as_ref()
            .map_or_else(Summary::default, |it| Summary {
                count: it.len(),
                p50_us: it.value_at_quantile(0.5),
                p99_us: it.value_at_quantile(0.99),
                max_us: it.max(),
            })
    }

    /// What there was so far, counted between bounds in seconds that rise.
    pub(crate) fn buckets(&self, bounds_s: &[f64]) -> Buckets {
        let recorded = self.recorded();
        let mut buckets: Vec<(f64, u64)> = bounds_s.iter().map(|&bound| (bound, 0)).collect();
        buckets.push((f64::INFINITY, 0));
        let histogram = recorded.histogram.as_ref();
        for value in histogram.into_iter().flat_map(|it| it.iter_recorded()) {
            let took_s = Duration::from_micros(value.value_iterated_to()).as_secs_f64();
            if let Some((_, count)) = buckets.iter_mut().find(|(bound, _)| took_s <= *bound) {
                *count += value.count_at_value();
            }
        }
        Buckets {
            sum: recorded.sum.as_secs_f64(),
            count: histogram.map_or(0, Histogram::len),
            buckets,
        }
    }

    /// It is consistent between two statements, so a panic elsewhere does not spoil it.
    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_long_is_in_the_summary_and_what_took_longer_than_can_be_counted_too() {
        let durations = Durations::new();
        assert_eq!(durations.summary(), Summary::default());
        for ms in [10, 10, 20] {
            durations.took(Duration::from_millis(ms));
        }
        durations.took(DURATION_MAX * 2);
        let summary = durations.summary();
        assert_eq!(summary.count, 4);
        assert!((9_900..=10_100).contains(&summary.p50_us), "{summary:?}");
        assert!(summary.max_us >= 3_600_000_000, "{summary:?}");
    }

    #[test]
    fn every_duration_is_in_one_bucket() {
        let durations = Durations::new();
        for ms in [1, 4, 6, 90, 5_000] {
            durations.took(Duration::from_millis(ms));
        }
        let told = durations.buckets(&[0.005, 0.1]);
        let counts: Vec<u64> = told.buckets.iter().map(|it| it.1).collect();
        assert_eq!((counts, told.count), (vec![2, 2, 1], 5));
        assert!((told.sum - 5.101).abs() < 0.000_1, "{told:?}");
    }
}
