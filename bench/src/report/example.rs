//! Made-up reports for tests. No figure in them was ever measured.

use std::collections::BTreeMap;

use crate::bars;
use crate::report::{Report, RouteSummary};
use crate::route::{Encryption, Kind};
use crate::sample::{Metric, Sample, Samples};
use crate::scenario::names;

/// A run in which everything was measured but hardware counters.
pub(crate) fn report() -> Report {
    let mut samples = Samples::default();
    for scenario in [names::SELECT_PREPARED, "tpcb"] {
        for encryption in [Encryption::Plain, Encryption::Tls] {
            for clients in [1.0, 16.0, 64.0, 256.0] {
                transactions(&mut samples, scenario, encryption, clients);
            }
        }
    }
    for scenario in [names::COPY_OUT, names::COPY_IN] {
        for (index, (route, share)) in SHARES.iter().enumerate() {
            let mut put = Put::new(&mut samples, scenario, Encryption::Plain, route);
            put.rounds("", Metric::BytesPerS, 640e6 * (1.0 - share / 4.0), index);
            put.rounds("", Metric::BusyPerByteNs, 1.9 * (1.0 + share), index);
        }
    }
    for (index, (route, share)) in SHARES.iter().enumerate().skip(1) {
        let mut put = Put::new(&mut samples, names::IDLE, Encryption::Plain, route);
        put.rounds(
            "1000 sessions",
            Metric::UserBytesPerSession,
            5_000.0 * share,
            index,
        );
        put.rounds(
            "1000 sessions",
            Metric::TotalBytesPerSession,
            9_000.0 + 9_000.0 * share,
            index,
        );
    }
    let mut put = Put::new(
        &mut samples,
        names::SLOW_READER,
        Encryption::Plain,
        "postern",
    );
    put.rounds(names::ONE_SLOW_READER, Metric::HeldBytes, 196_608.0, 2);
    put.rounds(names::OTHERS_ALONE, Metric::P99Us, 900.0, 0);
    put.rounds(names::OTHERS_BESIDE, Metric::P99Us, 1_000.0, 1);
    for (index, (route, share)) in SHARES.iter().enumerate() {
        let mut put = Put::new(&mut samples, names::LOGINS, Encryption::Tls, route);
        for point in [names::CLIENTS_4, names::CLIENTS_4_RESUMING] {
            put.rounds(point, Metric::RatePerS, 140.0 * (1.0 + share), index);
            put.rounds(point, Metric::P50Us, 30_000.0 / (1.0 + share), index);
        }
    }
    of(samples)
}

/// A run of no scenario.
pub(crate) fn nothing() -> Report {
    of(Samples::default())
}

/// The routes of every made-up report.
pub(crate) fn routes() -> Vec<RouteSummary> {
    let routes = SHARES.iter().map(|(name, _)| RouteSummary {
        name: (*name).to_owned(),
        kind: match *name {
            "direct" => Kind::Direct,
            "postern" => Kind::Postern,
            _ => Kind::Peer,
        },
        version: format!("{name} 1.0"),
        configuration: format!("# {name}\nlisten = 127.0.0.1\nmode = session\n"),
    });
    routes.collect()
}

/// The routes, and about what each adds to direct.
const SHARES: [(&str, f64); 5] = [
    ("direct", 0.0),
    ("postern", 0.31),
    ("pgbouncer", 0.36),
    ("haproxy", 0.38),
    ("nginx", 0.345),
];

fn of(samples: Samples) -> Report {
    let routes = routes();
    let machine = [
        ("cores", "2"),
        ("memory", "24 GiB"),
        ("kernel", "6.18"),
        ("postgresql", "15.18"),
        ("hardware counters", "none"),
    ];
    let machine = machine.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Report {
        extent: "quick".to_owned(),
        machine: BTreeMap::from(machine),
        commit: "0123456789ab+changes".to_owned(),
        began: "2026-01-02T03:04:05Z".to_owned(),
        took_s: 271.4,
        command: "cargo xtask bench --quick --json out.json".to_owned(),
        bars: bars::bars(&samples, &routes),
        routes,
        gaps: vec!["haproxy: it ends no TLS of PostgreSQL's clients".to_owned()],
        samples,
    }
}

fn transactions(samples: &mut Samples, scenario: &str, encryption: Encryption, clients: f64) {
    let point = match clients {
        1.0 => "1 client".to_owned(),
        _ => format!("{clients:.0} clients"),
    };
    let rate = 9_000.0 * clients.sqrt().min(5.0) / (1.0 + clients / 900.0);
    for (index, (route, share)) in SHARES.iter().enumerate() {
        if encryption == Encryption::Tls && *route == "haproxy" {
            continue;
        }
        let mut put = Put::new(samples, scenario, encryption, route);
        put.rounds(&point, Metric::RatePerS, rate * (1.0 - share / 2.0), index);
        let busy = 44.0 * (1.0 + share) + clients / 40.0;
        put.rounds(&point, Metric::BusyPerTransactionUs, busy, index);
        let half = 1e6 * clients / rate * (0.9 + share);
        put.rounds(&point, Metric::P50Us, half, index);
        put.rounds(&point, Metric::P99Us, half * 2.6, index);
        put.rounds(&point, Metric::P999Us, half * 5.1, index);
        if index > 0 {
            put.rounds(
                &point,
                Metric::RouteCpuPerTransactionUs,
                30.0 * share,
                index,
            );
        }
    }
}

struct Put<'a> {
    samples: &'a mut Samples,
    scenario: &'a str,
    encryption: Encryption,
    route: &'a str,
}

impl<'a> Put<'a> {
    fn new(
        samples: &'a mut Samples,
        scenario: &'a str,
        encryption: Encryption,
        route: &'a str,
    ) -> Self {
        Self {
            samples,
            scenario,
            encryption,
            route,
        }
    }

    /// Three rounds about a figure; `shift` makes routes differ in how.
    fn rounds(&mut self, point: &str, metric: Metric, about: f64, shift: usize) {
        let noise = [0.0, 0.02, -0.03];
        for round in 0..noise.len() {
            let noise = noise.get((round + shift) % noise.len());
            self.samples.push(Sample {
                scenario: self.scenario.to_owned(),
                route: self.route.to_owned(),
                encryption: self.encryption,
                point: point.to_owned(),
                round,
                metric,
                value: about * (1.0 + noise.copied().unwrap_or_default()),
            });
        }
    }
}
