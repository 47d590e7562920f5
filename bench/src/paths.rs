//! Which way of moving bulk bytes from one socket to another is cheapest: `bulk-paths`.
//!
//! A backend that writes as PostgreSQL does, a client that reads as libpq does and checks every
//! byte, and a relay between them that is nothing but one of the ways. All three are threads of
//! this process, so its CPU time is what the way costs the machine, whatever else runs; and they
//! can be in network namespaces, so that the bytes cross devices with an MTU.

mod clock;
mod load;
mod network;
mod relay;
mod ring;
mod table;
mod trial;
mod way;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use postern_tests::wait;

use self::clock::Parties;
use self::load::Load;
use self::network::{Network, Segments};
use self::table::{Figures, Table};
use self::trial::Trial;
use self::way::Way;

/// The command line.
#[derive(Debug, Clone, Parser)]
#[command(name = "bulk-paths", version)]
pub struct Arguments {
    /// How often each way is measured; the ways take turns.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Bytes a burst, in KiB.
    #[arg(long, value_name = "KIB", default_value_t = 128 * 1024,
          value_parser = clap::value_parser!(u64).range(1..))]
    burst: u64,
    /// Bursts a measurement; one begins 2 ms after the client has all of the one before.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..))]
    bursts: u32,
    /// Bytes of a burst beyond --burst, which end it off the marks of all buffers.
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    more: u64,
    /// Bytes that the backend writes at a time, in KiB.
    #[arg(long, value_name = "KIB,...", value_delimiter = ',', default_values_t = [8, 64])]
    writes: Vec<usize>,
    /// Sizes of the relay's socket buffers to ask for, in KiB; 0 leaves them to the system.
    #[arg(long, value_name = "KIB,...", value_delimiter = ',', default_values_t = [0, 4096])]
    sockets: Vec<usize>,
    /// What the backend computes before each write, in microseconds of CPU time.
    #[arg(long, value_name = "US,...", value_delimiter = ',', default_values_t = [0, 20])]
    work: Vec<u64>,
    /// Only the networks whose name contains one of these; names have commas in them.
    #[arg(long, value_name = "NAME;...", value_delimiter = ';')]
    networks: Vec<String>,
    /// Only the ways whose name contains one of these.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    ways: Vec<String>,
    /// Write every raw figure to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Between two bursts: longer than any timer of a relay.
const PAUSE: Duration = Duration::from_millis(2);

/// Measures and prints the tables.
///
/// # Errors
/// If a measurement fails or we are interrupted. A network that cannot be made here is a line of
/// the output and no error.
pub fn run(arguments: &Arguments) -> Result<()> {
    let (networks, gaps) = networks(&arguments.networks)?;
    let wanted = |way: &Way| {
        let name = way.to_string();
        arguments.ways.is_empty() || arguments.ways.iter().any(|it| name.contains(it))
    };
    let ways: Vec<Way> = way::all().into_iter().filter(wanted).collect();
    if networks.is_empty() || ways.is_empty() {
        bail!("no network or no way has such a name");
    }
    let bench = Bench {
        arguments,
        rings: ring::Relays::start(&ways)?,
        ways,
        parties: Parties::new()?,
        steps_per_us: load::steps_per_us()?,
    };
    let mut table = Table::default();
    for round in 0..arguments.rounds {
        for network in &networks {
            eprintln!(
                "round {} of {}: {}",
                round + 1,
                arguments.rounds,
                network.name
            );
            bench.round(network, round, &mut table)?;
        }
    }
    print!("{table}");
    for bytes in arguments.sockets.iter().copied().filter(|&it| it > 0) {
        let circuit = Network::loopback().circuit(true, Some(bytes * 1024))?;
        let (receive, send) = circuit.relay_buffers()?;
        let (receive, send) = (receive / 1024, send / 1024);
        println!("socket buffers of {bytes} KiB: the kernel counts {receive} and {send} KiB");
    }
    for gap in gaps {
        println!("not measured: {gap}");
    }
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&table.figures)?;
        fs::write(file, text).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// What stays the same from round to round.
struct Bench<'a> {
    arguments: &'a Arguments,
    ways: Vec<Way>,
    parties: Parties,
    rings: ring::Relays,
    steps_per_us: u64,
}

impl Bench<'_> {
    /// One round of all loads and ways on one network.
    fn round(&self, network: &Network, round: u32, table: &mut Table) -> Result<()> {
        for &socket_kib in &self.arguments.sockets {
            for &write_kib in &self.arguments.writes {
                for &work_us in &self.arguments.work {
                    let load = self.load(write_kib, work_us);
                    for &way in &self.ways {
                        if wait::is_interrupted() {
                            bail!("interrupted");
                        }
                        let trial = Trial {
                            parties: &self.parties,
                            rings: &self.rings,
                            network,
                            way,
                            load,
                            socket_bytes: (socket_kib > 0).then_some(socket_kib * 1024),
                        };
                        let outcome = trial::run(trial)
                            .with_context(|| format!("{way} on {}", network.name))?;
                        table
                            .figures
                            .push(Figures::new((round, work_us), trial, &outcome));
                    }
                }
            }
        }
        Ok(())
    }

    fn load(&self, write_kib: usize, work_us: u64) -> Load {
        Load {
            burst_bytes: self.arguments.burst * 1024 + self.arguments.more,
            bursts: self.arguments.bursts,
            write_bytes: write_kib * 1024,
            work_steps: work_us * self.steps_per_us,
            pause: PAUSE,
        }
    }
}

/// The networks that were asked for and can be made, and what cannot.
fn networks(wanted: &[String]) -> Result<(Vec<Network>, Vec<String>)> {
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|it| name.contains(it));
    let mut networks = Vec::new();
    let mut gaps = Vec::new();
    if is_wanted(&Network::loopback().name) {
        networks.push(Network::loopback());
    }
    for segments in [Segments::Whole, Segments::Gathered, Segments::Single] {
        for mtu in [1500, 9000] {
            if wait::is_interrupted() {
                bail!("interrupted");
            }
            let name = Network::name_of(mtu, segments);
            if is_wanted(&name) {
                match Network::pairs(mtu, segments) {
                    Ok(network) => networks.push(network),
                    Err(why) => gaps.push(format!("{name}: {why:#}")),
                }
            }
        }
    }
    Ok((networks, gaps))
}
