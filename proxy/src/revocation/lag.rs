//! How long it takes from hearing of a loss until the last backend has gone.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::limits::{LAG_FIGURES, LAG_MAX};

/// The lags since the start of the process.
#[derive(Debug)]
pub(crate) struct Lag(Mutex<Option<Histogram<u64>>>);

/// A summary of the lags, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LagSummary {
    /// How many people have lost access.
    pub(crate) count: u64,
    /// The median.
    pub(crate) p50_us: u64,
    /// Of a hundred, the slowest but one.
    pub(crate) p99_us: u64,
    /// The slowest.
    pub(crate) max_us: u64,
}

impl Lag {
    /// None yet.
    pub(crate) fn new() -> Self {
        let max_us = u64::try_from(LAG_MAX.as_micros()).unwrap_or(u64::MAX);
        // It is refused only for bounds that make no sense.
        Self(Mutex::new(
            Histogram::new_with_max(max_us, LAG_FIGURES).ok(),
        ))
    }

    /// Somebody's access was gone after so long.
    pub(super) fn took(&self, lag: Duration) {
        if let Some(histogram) = self.histogram().as_mut() {
            histogram.saturating_record(u64::try_from(lag.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// What there was so far.
    pub(crate) fn summary(&self) -> LagSummary {
        self.histogram()
            .as_ref()
            .map_or_else(LagSummary::default, |it| LagSummary {
                count: it.len(),
                p50_us: it.value_at_quantile(0.5),
                p99_us: it.value_at_quantile(0.99),
                max_us: it.max(),
            })
    }

    /// It is consistent between two statements, so a panic elsewhere does not spoil it.
    fn histogram(&self) -> MutexGuard<'_, Option<Histogram<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_long_is_in_the_summary_and_what_took_longer_than_can_be_counted_too() {
        let lag = Lag::new();
        assert_eq!(lag.summary(), LagSummary::default());
        for ms in [10, 10, 20] {
            lag.took(Duration::from_millis(ms));
        }
        lag.took(LAG_MAX * 2);
        let summary = lag.summary();
        assert_eq!(summary.count, 4);
        assert!((9_900..=10_100).contains(&summary.p50_us), "{summary:?}");
        assert!(summary.max_us >= 3_600_000_000, "{summary:?}");
    }
}
