//! Arrivals that do not wait for answers.
//!
//! People do not ask later because the server is slow. So the moments of all arrivals are fixed
//! beforehand, and a latency is counted from the moment that was intended, whether or not the
//! client could begin then: a stall is seen by everybody who would have come meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::time::timeout_at;

use crate::limits::{OPEN_LOOP_GRACE, OPEN_LOOP_LATE_SHARE_MAX};
use crate::load::alarm::Alarm;
use crate::load::float;
use crate::load::latency::Latencies;
use crate::load::random::Random;

/// What all clients together are to do.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Arrivals a second, of all clients together.
    pub rate_per_s: f64,
    /// How long there are arrivals.
    pub duration: Duration,
    /// Another seed gives other moments.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Every arrival's latency, from the intended start. One that was not served counts until
    /// nobody waited any more.
    pub latencies: Latencies,
    /// How many were served only after the last arrival, or not at all.
    pub late: u64,
    /// How many were not served at all.
    pub unserved: u64,
}

impl Outcome {
    /// Of no arrival.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new() -> Result<Self> {
        Ok(Self {
            latencies: Latencies::new()?,
            late: 0,
            unserved: 0,
        })
    }

    /// Adds what came of another client's arrivals.
    ///
    /// # Errors
    /// Never: all histograms have the same bounds.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        self.late += other.late;
        self.unserved += other.unserved;
        self.latencies.add(&other.latencies)
    }

    /// Whether the rate was held: hardly anything was left to do after the last arrival.
    #[must_use]
    pub fn is_held(&self) -> bool {
        float(self.late) <= float(self.latencies.count()) * OPEN_LOOP_LATE_SHARE_MAX
    }
}

/// The moments at which one client's requests arrive, from the start of the load: a Poisson
/// process, as of people who know nothing of each other.
#[derive(Debug, Clone)]
pub struct Arrivals {
    random: Random,
    mean_gap_s: f64,
    last_s: f64,
    end_s: f64,
}

impl Arrivals {
    /// The arrivals of one of `clients`, counted from 0. The arrivals of all are a Poisson
    /// process too, of the plan's rate.
    ///
    /// # Errors
    /// If the rate is not above 0.
    pub fn of_client(plan: Plan, client: u32, clients: u32) -> Result<Self> {
        let rate = plan.rate_per_s;
        ensure!(rate.is_finite() && rate > 0.0, "a rate of {rate} a second");
        let mut seeds = Random::new(plan.seed.wrapping_add(u64::from(client)));
        Ok(Self {
            random: Random::new(seeds.next_u64()),
            mean_gap_s: f64::from(clients) / rate,
            last_s: 0.0,
            end_s: plan.duration.as_secs_f64(),
        })
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.last_s -= self.random.share().ln() * self.mean_gap_s;
        let arrives = self.last_s < self.end_s;
        arrives.then(|| Duration::from_secs_f64(self.last_s))
    }
}

/// When a load begins, and how long there are arrivals.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// From here on the moments of the arrivals count.
    pub start: Instant,
    /// As in [`Plan`].
    pub duration: Duration,
}

/// Does one client's work at every arrival, one after the other.
///
/// Returns `false` when something was not served in time: the client is in the middle of it then.
///
/// # Errors
/// What the work says.
pub async fn serve(
    arrivals: Arrivals,
    window: Window,
    outcome: &mut Outcome,
    mut work: impl AsyncFnMut() -> Result<()>,
) -> Result<bool> {
    let mut alarm = Alarm::new()?;
    let end = window.start + window.duration;
    let limit = end + OPEN_LOOP_GRACE;
    let mut in_time = true;
    for arrival in arrivals {
        let intended = window.start + arrival;
        if in_time {
            alarm.wait_until(intended).await?;
            match timeout_at(limit.into(), work()).await {
                Ok(done) => done?,
                Err(_) => in_time = false,
            }
        }
        let done = if in_time { Instant::now() } else { limit };
        outcome.latencies.record(done.duration_since(intended));
        outcome.late += u64::from(done > end);
        outcome.unserved += u64::from(!in_time);
    }
    Ok(in_time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::run;

    const LIMIT: Duration = Duration::from_secs(60);

    fn plan(rate_per_s: f64, duration_ms: u64) -> Plan {
        Plan {
            rate_per_s,
            duration: Duration::from_millis(duration_ms),
            seed: 42,
        }
    }

    /// What comes of one client whose work is done at once, but stalls once for `stall`.
    fn stalled(plan: Plan, stall: Duration) -> Result<Outcome> {
        run(LIMIT, async {
            let mut outcome = Outcome::new()?;
            let mut alarm = Alarm::new()?;
            let window = Window {
                start: Instant::now(),
                duration: plan.duration,
            };
            let mut done = 0;
            let arrivals = Arrivals::of_client(plan, 0, 1)?;
            let work = async || {
                done += 1;
                if done == 10 {
                    alarm.wait_until(Instant::now() + stall).await?;
                }
                Ok(())
            };
            serve(arrivals, window, &mut outcome, work).await?;
            Ok(outcome)
        })
    }

    #[test]
    fn arrivals_have_the_rate_and_the_spread_of_a_poisson_process() -> Result<()> {
        let plan = plan(1000.0, 100_000);
        let mut all = 0_u32;
        let mut gaps = (0.0, 0.0);
        for client in 0..4 {
            let mut last = Duration::ZERO;
            for arrival in Arrivals::of_client(plan, client, 4)? {
                assert!(arrival >= last && arrival < plan.duration);
                let gap = (arrival - last).as_secs_f64();
                gaps = (gaps.0 + gap, gaps.1 + gap * gap);
                last = arrival;
                all += 1;
            }
        }
        let count = f64::from(all);
        assert!((98_000.0..102_000.0).contains(&count), "{count}");
        // The variance of an exponential distribution is the square of its mean.
        let mean = gaps.0 / count;
        let spread = (gaps.1 / count - mean * mean) / (mean * mean);
        assert!((0.95..1.05).contains(&spread), "{spread}");
        Ok(())
    }

    #[test]
    fn the_same_seed_gives_the_same_moments_and_clients_differ() -> Result<()> {
        let plan = plan(100.0, 1_000);
        let of = |client| Arrivals::of_client(plan, client, 2).map(Iterator::collect::<Vec<_>>);
        assert_eq!(of(0)?, of(0)?);
        assert_ne!(of(0)?, of(1)?);
        assert!(Arrivals::of_client(self::plan(0.0, 1_000), 0, 1).is_err());
        Ok(())
    }

    #[test]
    fn a_stall_is_seen_by_all_who_would_have_come_meanwhile() -> Result<()> {
        // About 500 arrivals in half a second, of which about 200 fall into the stall. Timed from
        // the real start only one of them would be slow, and the median of none.
        let outcome = stalled(plan(1000.0, 500), Duration::from_millis(200))?;
        let p99 = outcome.latencies.at_us(0.99).unwrap_or_default();
        assert!(p99 > 150_000.0, "{p99}");
        let p75 = outcome.latencies.at_us(0.75).unwrap_or_default();
        assert!(p75 > 20_000.0, "{p75}");
        Ok(())
    }

    #[test]
    fn a_rate_that_is_not_held_is_noticed() -> Result<()> {
        let outcome = stalled(plan(1000.0, 200), Duration::from_millis(300))?;
        assert!(!outcome.is_held(), "{outcome:?}");
        assert_eq!(outcome.unserved, 0);
        // One in a hundred may be late.
        let mut outcome = Outcome::new()?;
        for _ in 0..200 {
            outcome.latencies.record(Duration::ZERO);
        }
        outcome.late = 2;
        assert!(outcome.is_held());
        outcome.late = 3;
        assert!(!outcome.is_held());
        Ok(())
    }
}
