//! Loads of pgbench, because everybody can repeat them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;

use crate::child;
use crate::meter::Counts;
use crate::route::{Encryption, Route};
use crate::sample::Metric;
use crate::scenario::{Point, Recorder};
use crate::stage::{Stage, psql};

/// How many latencies a run writes down, about: enough for 999 of 1,000, and few against the work
/// of the transactions themselves.
const LATENCIES: f64 = 50_000.0;

/// The longest that one pgbench may run, far above what any scenario asks for.
const RUN_LIMIT: Duration = Duration::from_secs(600);

/// The longest latency that is told from a longer one, in microseconds.
const LATENCY_MAX_US: u64 = 600_000_000;

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

/// Runs a load once for `each` and once for three times as many transactions a client, and
/// records what the two thirds in between cost: the logins and all other set-up cancel.
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
    let run = |name: &str, each: u64| {
        let prefix = folder.join(name);
        stage.meter().around(&route.pids, || {
            run_times(route, point.encryption, load, each, &prefix)
        })
    };
    let (short, short_counts) = run("short", each)?;
    let (long, long_counts) = run("long", 3 * each)?;
    let latencies = latencies(&folder, "long")?;
    fs::remove_dir_all(&folder)?;
    let transactions = long.transactions - short.transactions;
    record_costs(&long_counts.less(&short_counts), transactions, recorder);
    recorder.figure(Metric::RatePerS, long.rate_per_s);
    for (metric, quantile) in [
        (Metric::P50Us, 0.5),
        (Metric::P99Us, 0.99),
        (Metric::P999Us, 0.999),
    ] {
        let latency = u32::try_from(latencies.value_at_quantile(quantile))?;
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

/// Runs a load for `each` transactions a client and writes latencies to files that begin with
/// `prefix`.
fn run_times(
    route: &Route,
    encryption: Encryption,
    load: &Load,
    each: u64,
    prefix: &Path,
) -> Result<Ran> {
    let asked = u32::try_from(load.clients * each)?;
    let mut command = command(route, encryption, load)?;
    command.args(["--transactions", &each.to_string(), "--log"]);
    command.arg("--log-prefix").arg(prefix);
    let share = LATENCIES / f64::from(asked);
    if share < 1.0 {
        command.args(["--sampling-rate", &format!("{share:.4}")]);
    }
    let ran = parse(&finish(&mut command)?)?;
    if ran.transactions < f64::from(asked) {
        bail!("{} of {asked} transactions succeeded", ran.transactions);
    }
    Ok(ran)
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
fn parse(text: &str) -> Result<Ran> {
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

/// Reads the latencies of all files of a run: the third field of a line, in microseconds,
/// <https://www.postgresql.org/docs/current/pgbench.html#id-1.9.4.11.9.7>.
fn latencies(folder: &Path, prefix: &str) -> Result<Histogram<u64>> {
    let mut histogram = Histogram::new_with_max(LATENCY_MAX_US, 3)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        for line in fs::read_to_string(entry.path())?.lines() {
            let latency = line.split(' ').nth(2).and_then(|it| it.parse().ok());
            let latency: u64 = latency.with_context(|| format!("pgbench's log has {line:?}"))?;
            histogram.saturating_record(latency);
        }
    }
    if histogram.is_empty() {
        bail!("pgbench wrote down no latency");
    }
    Ok(histogram)
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

    #[test]
    fn latencies_of_all_threads_are_counted_together() -> Result<()> {
        let scratch = postern_tests::Scratch::new()?;
        for (name, text) in [
            (
                "long.17",
                "0 1 100 0 1700000000 1\n0 2 300 0 1700000000 400\n",
            ),
            ("long.17.1", "1 1 200 0 1700000000 2\n"),
            ("short.16", "1 1 9000 0 1700000000 2\n"),
        ] {
            fs::write(scratch.path().join(name), text)?;
        }
        let latencies = latencies(scratch.path(), "long")?;
        assert_eq!(latencies.len(), 3);
        assert_eq!(latencies.value_at_quantile(0.5), 200);
        assert!(super::latencies(scratch.path(), "none").is_err());
        Ok(())
    }
}
