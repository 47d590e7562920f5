//! How long things took, in a histogram.

use std::time::Duration;

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;

use crate::limits::LATENCY_US_MAX;
use crate::load::float;

/// Digits that a figure keeps.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Latencies from 1 microsecond to [`LATENCY_US_MAX`], to three digits.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new() -> Result<Self> {
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, SIGNIFICANT_DIGITS);
        let histogram = histogram.map_err(|error| anyhow!("a histogram: {error}"))?;
        Ok(Self(histogram))
    }

    /// Adds one; what is longer than the histogram's end counts as its end.
    pub fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(us.max(1));
    }

    /// Adds all of another.
    ///
    /// # Errors
    /// Never: both have the same bounds.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        let added = self.0.add(&other.0);
        added.map_err(|error| anyhow!("a histogram: {error}"))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that a share of all, 0.99 say, do not exceed, in microseconds; `None` of none.
    #[must_use]
    pub fn at_us(&self, share: f64) -> Option<f64> {
        let us = self.0.value_at_quantile(share);
        (self.count() > 0).then(|| float(us))
    }

    /// The longest, in microseconds; `None` of none.
    #[must_use]
    pub fn longest_us(&self) -> Option<f64> {
        self.at_us(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_three_digits_and_nothing_is_lost_at_the_ends() -> Result<()> {
        let mut latencies = Latencies::new()?;
        assert_eq!(latencies.at_us(0.5), None);
        latencies.record(Duration::ZERO);
        latencies.record(Duration::from_micros(1234));
        latencies.record(Duration::from_secs(3600));
        let mut all = Latencies::new()?;
        all.add(&latencies)?;
        assert_eq!(all.count(), 3);
        let half = all.at_us(0.5).unwrap_or_default();
        assert!((1233.0..=1235.0).contains(&half), "{half}");
        let longest = all.longest_us().unwrap_or_default();
        assert!((59.9e6..=60.1e6).contains(&longest), "{longest}");
        Ok(())
    }
}
