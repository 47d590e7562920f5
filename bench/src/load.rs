//! The loads that pgbench cannot make.
//!
//! One thread makes them all, on a runtime of its own, so that every route is loaded by the same
//! program in the same way and the other core is left to the servers.

pub mod alarm;
pub mod client;
pub mod clients;
pub mod door;
pub mod latency;
pub mod open_loop;
pub mod random;
pub mod stub;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use postern_tests::wait::is_interrupted;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::limits::LOOK_INTERVAL;

/// Runs a load to its end on this thread.
///
/// # Errors
/// What the load says, that it is not done within `limit`, or that we are interrupted.
pub fn run<T>(limit: Duration, load: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot make a runtime")?;
    LocalSet::new().block_on(&runtime, async {
        tokio::select! {
            outcome = load => outcome,
            () = interrupted() => bail!("interrupted"),
            () = tokio::time::sleep(limit) => {
                bail!("the load is not done in {} s", limit.as_secs())
            }
        }
    })
}

/// Runs a load while another goes on in the background, on a thread of its own so that it does
/// not delay the first; it is broken off when the first is done.
///
/// # Errors
/// What either says, or that they are not done within `limit`.
pub fn beside<T>(
    limit: Duration,
    background: impl AsyncFnOnce() -> Result<()> + Send,
    load: impl Future<Output = Result<T>>,
) -> Result<T> {
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            run(limit, async {
                tokio::select! {
                    // The sender is dropped and never used.
                    _ = stopped => Ok(()),
                    outcome = background() => outcome,
                }
            })
        });
        let outcome = run(limit, load);
        drop(stop);
        let other = thread.join();
        // When the other has failed, that is why the first has.
        other.map_err(|_| anyhow!("the load in the background panicked"))??;
        outcome
    })
}

/// A count for figures; exact up to 2^53.
#[must_use]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// Looks at a condition until it holds.
///
/// # Errors
/// When it does not hold within `limit`; the message names `what`.
pub async fn wait_until(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    while !condition()? {
        ensure!(
            start.elapsed() < limit,
            "not within {} s: {what}",
            limit.as_secs()
        );
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

async fn interrupted() {
    while !is_interrupted() {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
