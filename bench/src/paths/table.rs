//! What was measured, raw and as a table.

use std::fmt;

use serde::Serialize;

use super::trial::{Outcome, Trial};
use super::way::{self, Way};
use crate::sample::median;

/// The figures of one measurement.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figures {
    round: u32,
    network: String,
    /// What was asked for, in bytes; 0 when the system decided.
    socket_bytes: usize,
    write_bytes: usize,
    /// What the backend computed before each write.
    work_us: u64,
    bursts: u32,
    way: String,
    /// CPU time of all three parties a byte, without that work.
    cpu_ns_per_byte: f64,
    /// CPU time of the relay's thread a byte.
    relay_cpu_ns_per_byte: Option<f64>,
    bytes_per_s: f64,
    /// Times that the relay entered the kernel a MiB.
    calls_per_mib: Option<f64>,
    bytes_per_receive: Option<f64>,
    /// The same a burst.
    cpu_us_per_burst: f64,
    /// One burst in ten took no longer: what it takes when nothing else has the CPU.
    burst_p10_us: f64,
    burst_p50_us: f64,
    burst_p99_us: f64,
}

/// What tells one table from another: network, socket buffers, writes, work.
type Group<'a> = (&'a str, usize, usize, u64);

const MIB: f64 = 1024.0 * 1024.0;

impl Figures {
    /// Those of an outcome.
    pub(super) fn new((round, work_us): (u32, u64), trial: Trial<'_>, outcome: &Outcome) -> Self {
        let load = trial.load;
        let count = f64::from(load.bursts);
        let bytes = float(load.burst_bytes) * count;
        let relay = outcome.relay;
        let bursts = outcome.bursts.iter();
        let mut bursts_us: Vec<f64> = bursts.map(|it| it.as_secs_f64() * 1e6).collect();
        bursts_us.sort_by(f64::total_cmp);
        let took_us: f64 = bursts_us.iter().sum();
        let last = bursts_us.len().saturating_sub(1);
        let percentile = |of_100: usize| bursts_us.get(last * of_100 / 100).copied();
        Self {
            round,
            network: trial.network.name.clone(),
            socket_bytes: trial.socket_bytes.unwrap_or(0),
            write_bytes: load.write_bytes,
            work_us,
            bursts: load.bursts,
            way: trial.way.to_string(),
            cpu_ns_per_byte: float(outcome.cpu_ns) / bytes,
            relay_cpu_ns_per_byte: relay.map(|it| float(it.cpu_ns) / bytes),
            bytes_per_s: bytes / took_us * 1e6,
            calls_per_mib: relay.map(|it| float(it.calls) / bytes * MIB),
            bytes_per_receive: relay.map(|it| bytes / float(it.receives)),
            cpu_us_per_burst: float(outcome.cpu_ns) / 1e3 / count,
            burst_p10_us: percentile(10).unwrap_or(f64::NAN),
            burst_p50_us: percentile(50).unwrap_or(f64::NAN),
            burst_p99_us: percentile(99).unwrap_or(f64::NAN),
        }
    }

    fn group(&self) -> Group<'_> {
        (
            &self.network,
            self.socket_bytes,
            self.write_bytes,
            self.work_us,
        )
    }
}

/// All figures; shown as one table a network and load.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) figures: Vec<Figures>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups = Vec::new();
        for it in &self.figures {
            if !groups.contains(&it.group()) {
                groups.push(it.group());
            }
        }
        for group in groups {
            self.show(f, group)?;
        }
        Ok(())
    }
}

impl Table {
    fn show(&self, f: &mut fmt::Formatter<'_>, group: Group<'_>) -> fmt::Result {
        let (network, socket_bytes, write_bytes, work_us) = group;
        let sockets = match socket_bytes {
            0 => "socket buffers as the system has them".to_owned(),
            bytes => format!("socket buffers of {} KiB", bytes / 1024),
        };
        let write_kib = write_bytes / 1024;
        writeln!(
            f,
            "\n{network}, writes of {write_kib} KiB after {work_us} us of work, {sockets}\n"
        )?;
        write!(f, "| {:<23} | {:>8} | {:>8} |", "way", "CPU ns/B", "added")?;
        write!(f, " {:>13} | {:>5} | {:>5} |", "spread", "ratio", "relay")?;
        write!(
            f,
            " {:>9} | {:>8} | {:>5} |",
            "calls/MiB", "B a recv", "MB/s"
        )?;
        writeln!(
            f,
            " {:>8} | {:>8} | {:>8} |",
            "us/burst", "p10 us", "p50 us"
        )?;
        writeln!(f, "|---|{}", "---:|".repeat(11))?;
        let mine = self.figures.iter().filter(|it| it.group() == group);
        let mine: Vec<&Figures> = mine.collect();
        let of = |way: &str| -> Vec<&Figures> {
            mine.iter().copied().filter(|it| it.way == way).collect()
        };
        let direct = of(&Way::Direct.to_string());
        let reference = added(&of(&way::REFERENCE.to_string()), &direct);
        for way in way::all() {
            let rounds = of(&way.to_string());
            if !rounds.is_empty() {
                row(f, &rounds, &added(&rounds, &direct), &reference)?;
            }
        }
        Ok(())
    }
}

/// What a way costs more than no relay, in nanoseconds a byte, round by round.
fn added(rounds: &[&Figures], direct: &[&Figures]) -> Vec<(u32, f64)> {
    let pairs = rounds.iter().filter_map(|it| {
        let other = direct.iter().find(|other| other.round == it.round)?;
        Some((it.round, it.cpu_ns_per_byte - other.cpu_ns_per_byte))
    });
    pairs.collect()
}

fn row(
    f: &mut fmt::Formatter<'_>,
    rounds: &[&Figures],
    added: &[(u32, f64)],
    reference: &[(u32, f64)],
) -> fmt::Result {
    let values = || added.iter().map(|it| it.1);
    let least = values().fold(f64::INFINITY, f64::min);
    let most = values().fold(f64::NEG_INFINITY, f64::max);
    let ratios = added.iter().filter_map(|(round, value)| {
        let (_, other) = reference.iter().find(|it| it.0 == *round)?;
        Some(value / other)
    });
    let of =
        |figure: fn(&Figures) -> Option<f64>| median(rounds.iter().filter_map(|it| figure(it)));
    let way = rounds.first().map_or("", |it| &it.way);
    write!(
        f,
        "| {way:<23} | {:>8} |",
        number(of(|it| Some(it.cpu_ns_per_byte)), 3)
    )?;
    let spread = format!("{least:.3}-{most:.3}");
    write!(f, " {:>8} | {spread:>13} |", number(median(values()), 3))?;
    write!(f, " {:>5} |", number(median(ratios), 2))?;
    write!(f, " {:>5} |", number(of(|it| it.relay_cpu_ns_per_byte), 2))?;
    write!(f, " {:>9} |", number(of(|it| it.calls_per_mib), 1))?;
    write!(f, " {:>8} |", number(of(|it| it.bytes_per_receive), 0))?;
    write!(
        f,
        " {:>5} |",
        number(of(|it| Some(it.bytes_per_s / 1e6)), 0)
    )?;
    write!(f, " {:>8} |", number(of(|it| Some(it.cpu_us_per_burst)), 0))?;
    write!(f, " {:>8} |", number(of(|it| Some(it.burst_p10_us)), 0))?;
    writeln!(f, " {:>8} |", number(of(|it| Some(it.burst_p50_us)), 0))
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |it| format!("{it:.digits$}"))
}

#[allow(
    clippy::cast_precision_loss,
    reason = "bytes and nanoseconds are far below 2^52"
)]
fn float(value: u64) -> f64 {
    value as f64
}
