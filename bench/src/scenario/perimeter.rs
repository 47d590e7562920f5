//! What the perimeter costs: a packet, a load, its memory, and PostgreSQL behind a gateway.

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use aya::maps::MapData;
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use postern_tests::config_file::ConfigFile;
use postern_tests::network::{DATABASE, HOST, Namespace, Network, PROXY, Subnet};
use postern_tests::policy::Policy;
use postern_tests::{Postgres, needs};

use super::names::{
    GATEWAY, GATEWAY_CONNECTIONS, GATEWAY_OPEN, GATEWAY_OPEN_CONNECTIONS, GATEWAY_PROGRAMS,
    GATEWAY_PROGRAMS_CONNECTIONS, PACKET,
};
use super::{Extent, Point, Recorder, Scenario, names};
use crate::child;
use crate::load::float;
use crate::pgbench;
use crate::route::{Encryption, Kind, Route};
use crate::sample::Metric;
use crate::stage::Stage;

/// The port of the database that is protected.
const PORT: u16 = 5432;
/// The prefixes that are protected beside the database's, as many as a large site has.
const PREFIXES: u32 = 10_000;
/// How often the kernel runs a program on one packet, in a row.
const REPEATS: u32 = 1_000_000;
/// How long one run of pgbench or of a command may take.
const LIMIT: Duration = Duration::from_secs(120);
/// Clients of pgbench.
const CLIENTS: &str = "4";

/// A policy of 10,000 prefixes, and a gateway with and without it.
#[derive(Debug)]
pub(super) struct Perimeter;

impl Scenario for Perimeter {
    fn name(&self) -> &'static str {
        names::PERIMETER
    }

    fn shows(&self) -> &'static str {
        "a policy of 10,000 prefixes: a packet's verdict, the load, its memory; pgbench -S, and \
         -C -S, from one network namespace to another through a gateway, with and without it"
    }

    fn points(&self, _extent: Extent) -> Vec<Point> {
        vec![Point {
            name: PACKET.to_owned(),
            encryption: Encryption::Plain,
            amount: u64::from(PREFIXES),
        }]
    }

    fn rounds(&self, extent: Extent) -> usize {
        match extent {
            Extent::Quick => 1,
            Extent::Full => 3,
        }
    }

    fn measures(&self, route: &Route) -> bool {
        route.kind == Kind::Postern
    }

    fn run(
        &self,
        stage: &Stage,
        _route: &Route,
        _point: &Point,
        recorder: &mut Recorder<'_>,
    ) -> Result<()> {
        if !needs::is_root() {
            recorder.gap("perimeter: only root may make networks and load policies");
            return Ok(());
        }
        let site = Site::start(stage)?;
        let start = Instant::now();
        site.policy.must(&["load"])?;
        let took = start.elapsed();
        recorder.figure(Metric::LoadUs, took.as_secs_f64() * 1e6);
        recorder.figure(Metric::PolicyBytes, float(memory(site.policy.pins())?));
        recorder.figure(Metric::PacketNs, site.packet_ns()?);
        let (windows, seconds) = match stage.extent() {
            Extent::Quick => (3, 1),
            Extent::Full => (8, 2),
        };
        let mut sums = [[0.0; 2]; GATES.len()];
        for _ in 0..windows {
            for ((gate, _), sums) in GATES.iter().zip(&mut sums) {
                site.set(*gate)?;
                for (sum, rate) in sums.iter_mut().zip(site.rates(seconds)?) {
                    *sum += rate / f64::from(windows);
                }
            }
        }
        for ((_, names), rates) in GATES.into_iter().zip(sums) {
            for (name, rate) in names.into_iter().zip(rates) {
                recorder.at(name).figure(Metric::RatePerS, rate);
            }
        }
        Ok(())
    }
}

/// How the gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// Without a policy.
    Open,
    /// With the programs, and not the default drop of nftables.
    Programs,
    /// With both, as a policy is unless it says otherwise.
    Guarded,
}

/// Each with what its reads, and its connections, are called.
const GATES: [(Gate, [&str; 2]); 3] = [
    (Gate::Open, [GATEWAY_OPEN, GATEWAY_OPEN_CONNECTIONS]),
    (
        Gate::Programs,
        [GATEWAY_PROGRAMS, GATEWAY_PROGRAMS_CONNECTIONS],
    ),
    (Gate::Guarded, [GATEWAY, GATEWAY_CONNECTIONS]),
];

/// Three subnets, a database in one of them, and a policy for the router between them.
struct Site {
    // Ended in this order: what runs in a network goes before it.
    policy: Policy,
    _postgres: Postgres,
    network: Network,
    config: ConfigFile,
}

impl Site {
    fn start(stage: &Stage) -> Result<Self> {
        let network = Network::start()?;
        let postgres =
            Postgres::start_inside(stage.scratch(), stage.certificates(), &network.database)?;
        let tables = [
            "--initialize",
            "--quiet",
            "--unlogged-tables",
            "--scale",
            "5",
        ];
        let mut fill = postgres.superuser("postgres").client("pgbench", &tables)?;
        succeed(&mut fill)?;
        let mut config = ConfigFile::new();
        stage.postern()?.configure(|whole| config = whole.clone());
        describe(&mut config);
        let policy = Policy::new(stage.scratch(), &network.router, &config)?;
        Ok(Self {
            policy,
            _postgres: postgres,
            network,
            config,
        })
    }

    /// Puts the gateway into a state, whatever it was in before.
    fn set(&self, gate: Gate) -> Result<()> {
        if gate == Gate::Open {
            return self.policy.unload();
        }
        let mut config = self.config.clone();
        config.set("perimeter", "default_drop", gate == Gate::Guarded);
        self.policy.configure(&config)?;
        self.policy.must(&["load"]).map(drop)
    }

    /// How long the kernel takes for a packet from the proxy to the database, as it leaves the
    /// gateway; what the loop around it takes is in it.
    fn packet_ns(&self) -> Result<f64> {
        let router = &self.network.router;
        let arrival = index(router, "proxy")?;
        let path = self.policy.pins().join("programs/gate");
        let program =
            SchedClassifier::from_pin(&path).with_context(|| path.display().to_string())?;
        let frame = frame();
        // struct __sk_buff (linux/bpf.h): ingress_ifindex is its tenth word.
        let mut context = [0; 192];
        context[9 * 4..10 * 4].copy_from_slice(&arrival.to_ne_bytes());
        let ran = router.enter(|| {
            let options = TestRunOptions {
                data_in: Some(&frame),
                ctx_in: Some(&context),
                repeat: REPEATS,
                ..TestRunOptions::new()
            };
            Ok(program.test_run(options)?)
        })?;
        if ran.return_value != u32::MAX {
            bail!("the gateway does not let the proxy's packet pass");
        }
        Ok(ran.duration.as_secs_f64() * 1e9)
    }

    /// Transactions a second with connections that stay, and with one for each.
    fn rates(&self, seconds: u64) -> Result<[f64; 2]> {
        let pgbench = needs::postgres_client("pgbench").context("pgbench is not installed")?;
        let seconds = seconds.to_string();
        let mut rates = [0.0; 2];
        for (rate, more) in rates.iter_mut().zip([&[][..], &["--connect"]]) {
            let mut command = Command::new(&pgbench);
            command.args(["--select-only", "--no-vacuum", "--client", CLIENTS]);
            command.args(["--host", &DATABASE.v4(HOST).to_string()]);
            command
                .args(["--username", "postgres", "--time", &seconds])
                .args(more);
            command.arg("postgres");
            let output = succeed(&mut self.network.proxy.inside(&command))?;
            *rate = pgbench::parse(&output)?.rate_per_s;
        }
        Ok(rates)
    }
}

/// The gateway's policy: the proxy may reach the database, and nobody 10,000 other prefixes.
fn describe(config: &mut ConfigFile) {
    let table = "perimeter";
    config
        .set(table, "place", "gateway")
        .set(table, "mode", "enforce");
    config.set(table, "interfaces", ["application", "proxy", "database"]);
    let protect = "perimeter.protect";
    config
        .begin(protect)
        .set(protect, "prefixes", DATABASE.prefixes().to_vec());
    config.set(protect, "ports", [PORT]);
    let others = (0..PREFIXES).map(|number| {
        let base = u32::from(Ipv4Addr::new(10, 128, 0, 0));
        format!("{}/30", Ipv4Addr::from_bits(base + number * 4))
    });
    config
        .begin(protect)
        .set(protect, "prefixes", others.collect::<Vec<_>>());
    let allow = "perimeter.allow";
    config
        .begin(allow)
        .set(allow, "sources", PROXY.hosts(HOST).to_vec());
    config.set(allow, "interfaces", ["proxy"]);
}

/// A first segment from the proxy to the database.
fn frame() -> Vec<u8> {
    let of = |subnet: Subnet| subnet.v4(HOST).octets();
    let mut frame = vec![2; 12];
    frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0]);
    frame.extend(of(PROXY));
    frame.extend(of(DATABASE));
    frame.extend(40_000_u16.to_be_bytes());
    frame.extend(PORT.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    frame.resize(60, 0);
    frame
}

/// The kernel's number of an interface.
fn index(namespace: &Namespace, device: &str) -> Result<u32> {
    let said = namespace.ip(&["-o", "link", "show", "dev", device])?;
    let number = said.split(':').next().unwrap_or_default().trim();
    number.parse().with_context(|| format!("ip says {said:?}"))
}

/// What the kernel has for the maps of a policy, in bytes.
fn memory(pins: &Path) -> Result<u64> {
    let mut bytes = 0;
    for pin in fs::read_dir(pins.join("maps"))? {
        let map = MapData::from_pin(pin?.path())?;
        let file = map.fd().as_fd().as_raw_fd();
        let about = fs::read_to_string(format!("/proc/self/fdinfo/{file}"))?;
        let said = about.lines().find_map(|it| it.strip_prefix("memlock:"));
        let of_map: u64 = said.context("the kernel says no memlock")?.trim().parse()?;
        bytes += of_map;
    }
    Ok(bytes)
}

fn succeed(command: &mut Command) -> Result<String> {
    let ended = child::finish(command, LIMIT)?;
    if !ended.status.success() {
        let name = command.get_program().to_string_lossy().into_owned();
        bail!("{name} failed: {}", ended.stderr.trim());
    }
    Ok(ended.stdout)
}
