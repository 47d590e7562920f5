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

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::LocalSet;

/// Runs a load to its end on this thread.
///
/// # Errors
/// What the load says, or that it is not done within `limit`.
pub fn run<T>(limit: Duration, load: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot make a runtime")?;
    LocalSet::new().block_on(&runtime, async {
        let outcome = tokio::time::timeout(limit, load).await;
        outcome.with_context(|| format!("the load is not done in {} s", limit.as_secs()))?
    })
}
