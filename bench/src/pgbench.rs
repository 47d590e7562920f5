//! Loads of pgbench, because everybody can repeat them.

mod log;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use log::Middle;

use crate::child;
use crate::meter::Counts;
use crate::route::{Encryption, Route};
use crate::sample::Metric;
use crate::scenario::{Point, Recorder};
use crate::stage::{Stage, psql};

/// The longest that one pgbench may run, far above what any scenario asks for.
const RUN_LIMIT: Duration = Duration::from_secs(600);

/// What pgbench is asked to do.
#[derive(Debug, Clone)]
pub struct Load {
    /// Its script, and how it sends statements: `-S -M prepared`.
    pub script: Vec<String>,
    /// How many clients.
    pub clients: u64,
}

/// What pgbench said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ran {
    /// Transactions of all clients.
    pub transactions: f64,
    /// Transactions a second, without the time in which the clients connected.
    pub rate_per_s: f64,
}

impl Load {
    /// Reads of one row.
    #[must_use]
    pub fn select(protocol: &str, clients: u64) -> Self {
        Self {
            script: ["--select-only", "--protocol", protocol]
                .map(str::to_owned)
                .into(),
            clients,
        }
    }

    /// pgbench's own mix of reads and writes.
    #[must_use]
    pub fn tpcb_like(clients: u64) -> Self {
        Self {
            script: ["--builtin", "tpcb-like"].map(str::to_owned).into(),
            clients,
        }
    }

    /// Threads of pgbench: half of the machine, the same for all routes.
    fn threads(&self) -> Result<u64> {
        let cores = u64::try_from(std::thread::available_parallelism()?.get())?;
        Ok((cores / 2).clamp(1, self.clients.max(1)))
    }
}

/// Runs a load for `each` transactions a client and records what a transaction costs at steady
/// state: of 4N transactions the 2N in the middle count, (C(3N) - C(N)) / 2N, so that neither the
/// logins and all other set-up nor the end, when some clients are done, come in.
///
/// # Errors
/// If pgbench fails, or not every transaction succeeds.
pub fn measure(
    stage: &Stage,
    route: &Route,
    point: &Point,
    (load, each): (&Load, u64),
    recorder: &mut Recorder<'_>,
) -> Result<()> {
    let folder = stage.scratch().subfolder("pgbench")?;
    let (_, series) = stage.meter().watch(&route.pids, || {
        run_times(route, point.encryption, load, each, &folder)
    })?;
    let middle = Middle::of(log::read(&folder)?)?;
    fs::remove_dir_all(&folder)?;
    let counts = series.between(middle.from_s, middle.to_s);
    record_costs(&counts, middle.transactions, recorder);
    let rate = middle.transactions / (middle.to_s - middle.from_s);
    recorder.figure(Metric::RatePerS, rate);
    for (metric, quantile) in [
        (Metric::P50Us, 0.5),
        (Metric::P99Us, 0.99),
        (Metric::P999Us, 0.999),
    ] {
        let latency = u32::try_from(middle.latencies.value_at_quantile(quantile))?;
        recorder.figure(metric, f64::from(latency));
    }
    Ok(())
}

/// Records what one transaction cost.
fn record_costs(counts: &Counts, transactions: f64, recorder: &mut Recorder<'_>) {
    let each = |count: f64| count / transactions;
    let instructions = counts.instructions.map(each);
    recorder.figure_if_any(Metric::InstructionsPerTransaction, instructions);
    recorder.figure_if_any(Metric::CyclesPerTransaction, counts.cycles.map(each));
    recorder.figure(Metric::BusyPerTransactionUs, each(counts.busy_s) * 1e6);
    recorder.figure(Metric::RouteCpuPerTransactionUs, each(counts.cpu_s) * 1e6);
    recorder.figure(Metric::SwitchesPerTransaction, each(counts.switches));
    recorder.figure(Metric::SegmentsPerTransaction, each(counts.segments));
}

/// Runs a load for some seconds.
///
/// # Errors
/// If pgbench fails.
pub fn run_for(route: &Route, encryption: Encryption, load: &Load, seconds: u64) -> Result<Ran> {
    let mut command = command(route, encryption, load)?;
    parse(&finish(command.args(["--time", &seconds.to_string()]))?)
}

/// Runs a load for `each` transactions a client; its logs go to a folder.
fn run_times(
    route: &Route,
    encryption: Encryption,
    load: &Load,
    each: u64,
    folder: &Path,
) -> Result<()> {
    let asked = u32::try_from(load.clients * each)?;
    let mut command = command(route, encryption, load)?;
    command.args(["--transactions", &each.to_string(), "--log"]);
    command.arg("--log-prefix").arg(folder.join("log"));
    let ran = parse(&finish(&mut command)?)?;
    if ran.transactions < f64::from(asked) {
        bail!("{} of {asked} transactions succeeded", ran.transactions);
    }
    Ok(())
}

fn command(route: &Route, encryption: Encryption, load: &Load) -> Result<Command> {
    let mut command = psql(route, encryption).client("pgbench", &["--no-vacuum"])?;
    if route.host == "localhost" {
        // The name is for the certificate. Without the address, every connection would be tried
        // with the other kind of address first.
        command.env("PGHOSTADDR", "127.0.0.1");
    }
    command.args(&load.script);
    command.args(["--client", &load.clients.to_string()]);
    command.args(["--jobs", &load.threads()?.to_string()]);
    Ok(command)
}

fn finish(command: &mut Command) -> Result<String> {
    let ended = child::finish(command, RUN_LIMIT)?;
    if !ended.status.success() {
        bail!("pgbench failed: {}", ended.stderr.trim());
    }
    Ok(ended.stdout)
}

/// Reads what pgbench prints at its end.
pub fn parse(text: &str) -> Result<Ran> {
    let after = |prefix: &str| {
        let mut lines = text.lines();
        let found = lines.find_map(|it| it.strip_prefix(prefix)?.split([' ', '/']).next());
        let number = found.and_then(|it| it.parse().ok());
        number.with_context(|| format!("pgbench did not print {prefix:?}"))
    };
    // PostgreSQL 13 prints two rates; the last is without the time of connecting.
    let mut rates = text.lines().filter_map(|it| it.strip_prefix("tps = "));
    let rate = rates
        .next_back()
        .and_then(|it| it.split(' ').next()?.parse().ok());
    Ok(Ran {
        transactions: after("number of transactions actually processed: ")?,
        rate_per_s: rate.context("pgbench did not print its rate")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_number_are_read_from_old_and_new_versions() -> Result<()> {
        let new = "transaction type: <builtin: select only>\n\
                   number of transactions actually processed: 3000/3000\n\
                   number of failed transactions: 0 (0.000%)\n\
                   latency average = 0.101 ms\ninitial connection time = 3.2 ms\n\
                   tps = 9876.543210 (without initial connection time)\n";
        let old = "number of transactions actually processed: 3000/3000\n\
                   tps = 9000.5 (including connections establishing)\n\
                   tps = 9876.54321 (excluding connections establishing)\n";
        let timed = "number of transactions actually processed: 3000\n\
                     tps = 9876.54321 (without initial connection time)\n";
        for text in [new, old, timed] {
            let expected = Ran {
                transactions: 3_000.0,
                rate_per_s: 9_876.543_21,
            };
            assert_eq!(parse(text)?, expected);
        }
        assert!(parse("pgbench: error").is_err());
        Ok(())
    }
}
