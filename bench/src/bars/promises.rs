//! Every promise that the bench checks, as a table.
//!
//! SPECIFICATION.md lists each of these names; `cargo xtask tidy` compares the two.

use crate::report::Sense;
use crate::route::Encryption::{self, Plain, Tls};
use crate::sample::Metric;
use crate::scenario::names;

/// One promised figure.
#[derive(Debug)]
pub struct Promise {
    /// The bar's name, stable from run to run.
    pub name: &'static str,
    /// What is promised.
    pub bound: f64,
    /// On which side of the bound a value must be.
    pub sense: Sense,
    /// The unit of the bound.
    pub unit: &'static str,
    /// How the value is worked out.
    pub of: Of,
}

/// Where in a run a figure is found.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// The scenario.
    pub scenario: &'static str,
    /// Whether the client's leg is encrypted.
    pub encryption: Encryption,
    /// The point; `None` for the only one of the scenario, whatever it is called.
    pub point: Option<&'static str>,
}

/// A cost, and what it is read off where the machine does not count instructions.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Instructions.
    pub exact: Metric,
    /// Busy time.
    pub stand_in: Metric,
}

/// How a value is worked out of the samples.
#[derive(Debug, Clone, Copy)]
pub enum Of {
    /// (Postern - direct) / (best peer - direct), where the best peer is the one that adds least.
    AddedToBestPeer {
        /// Where.
        at: At,
        /// Which cost.
        cost: Cost,
        /// What is aimed at beyond the bound.
        goal: Option<f64>,
    },
    /// (Postern - direct) / (this peer - direct).
    AddedToPeer {
        /// Where.
        at: At,
        /// Of what.
        metric: Metric,
        /// The peer's name.
        peer: &'static str,
    },
    /// Postern / the peer that has most.
    OfBestPeer {
        /// Where.
        at: At,
        /// Of what.
        metric: Metric,
    },
    /// Postern / direct.
    OfDirect {
        /// Where.
        at: At,
        /// Of what.
        metric: Metric,
        /// Another point whose ratio the note tells.
        aside: Option<&'static str>,
    },
    /// Postern's own figure, in the promise's unit.
    Own {
        /// Where.
        at: At,
        /// Of what.
        metric: Metric,
    },
    /// Postern at one point / Postern at another of the same scenario.
    OfOtherPoint {
        /// Where.
        at: At,
        /// The other point.
        other: &'static str,
        /// Of what.
        metric: Metric,
        /// A third point whose ratio to the other the note tells.
        aside: Option<&'static str>,
    },
}

const PER_TRANSACTION: Cost = Cost {
    exact: Metric::InstructionsPerTransaction,
    stand_in: Metric::BusyPerTransactionUs,
};

const PER_BYTE: Cost = Cost {
    exact: Metric::InstructionsPerByte,
    stand_in: Metric::BusyPerByteNs,
};

const fn at(scenario: &'static str, encryption: Encryption, point: &'static str) -> At {
    At {
        scenario,
        encryption,
        point: Some(point),
    }
}

const fn added(encryption: Encryption, clients: &'static str, goal: Option<f64>) -> Of {
    Of::AddedToBestPeer {
        at: at(names::SELECT_PREPARED, encryption, clients),
        cost: PER_TRANSACTION,
        goal,
    }
}

const fn added_by_byte(scenario: &'static str) -> Of {
    Of::AddedToBestPeer {
        at: at(scenario, Plain, names::ONLY_POINT),
        cost: PER_BYTE,
        goal: None,
    }
}

const fn throughput(clients: &'static str) -> Of {
    Of::OfBestPeer {
        at: at(names::SELECT_PREPARED, Plain, clients),
        metric: Metric::RatePerS,
    }
}

const fn copy_rate(scenario: &'static str) -> Of {
    Of::OfDirect {
        at: at(scenario, Plain, names::ONLY_POINT),
        metric: Metric::BytesPerS,
        aside: None,
    }
}

const fn idle(encryption: Encryption, metric: Metric) -> Of {
    Of::Own {
        at: At {
            scenario: names::IDLE,
            encryption,
            // Its name says how many sessions there are.
            point: None,
        },
        metric,
    }
}

const fn revocation(point: &'static str, metric: Metric) -> Of {
    Of::Own {
        at: at(names::REVOCATION, Plain, point),
        metric,
    }
}

/// What is aimed at beyond the bounds of added instructions.
const GOAL: Option<f64> = Some(0.85);

/// All promises, in the order of the report.
pub const PROMISES: &[Promise] = &[
    Promise {
        name: "plain, 16 clients: added instructions a transaction, against the best peer",
        bound: 0.93,
        sense: Sense::AtMost,
        unit: "ratio",
        of: added(Plain, names::CLIENTS_16, GOAL),
    },
    Promise {
        name: "plain, 64 clients: added instructions a transaction, against the best peer",
        bound: 0.87,
        sense: Sense::AtMost,
        unit: "ratio",
        of: added(Plain, names::CLIENTS_64, GOAL),
    },
    Promise {
        name: "plain, 256 clients: added instructions a transaction, against the best peer",
        bound: 0.90,
        sense: Sense::AtMost,
        unit: "ratio",
        of: added(Plain, names::CLIENTS_256, GOAL),
    },
    Promise {
        name: "client TLS, 16 clients: added instructions a transaction, against the best peer",
        bound: 0.95,
        sense: Sense::AtMost,
        unit: "ratio",
        of: added(Tls, names::CLIENTS_16, None),
    },
    Promise {
        name: "client TLS, 64 clients: added instructions a transaction, against the best peer",
        bound: 0.95,
        sense: Sense::AtMost,
        unit: "ratio",
        of: added(Tls, names::CLIENTS_64, None),
    },
    Promise {
        name: "client TLS, 256 clients: added instructions a transaction, against the best peer",
        bound: 0.95,
        sense: Sense::AtMost,
        unit: "ratio",
        of: added(Tls, names::CLIENTS_256, None),
    },
    Promise {
        name: "plain, 16 clients: throughput, against the best peer",
        bound: 1.0,
        sense: Sense::AtLeast,
        unit: "ratio",
        of: throughput(names::CLIENTS_16),
    },
    Promise {
        name: "plain, 64 clients: throughput, against the best peer",
        bound: 1.0,
        sense: Sense::AtLeast,
        unit: "ratio",
        of: throughput(names::CLIENTS_64),
    },
    Promise {
        name: "plain, 1 client: added p50, against PgBouncer",
        bound: 1.0,
        sense: Sense::AtMost,
        unit: "ratio",
        of: Of::AddedToPeer {
            at: at(names::SELECT_PREPARED, Plain, names::CLIENTS_1),
            metric: Metric::P50Us,
            peer: "pgbouncer",
        },
    },
    Promise {
        name: "COPY out, plain: throughput, against direct",
        bound: 0.95,
        sense: Sense::AtLeast,
        unit: "ratio",
        of: copy_rate(names::COPY_OUT),
    },
    Promise {
        name: "COPY in, plain: throughput, against direct",
        bound: 0.95,
        sense: Sense::AtLeast,
        unit: "ratio",
        of: copy_rate(names::COPY_IN),
    },
    Promise {
        name: "COPY out, plain: added instructions a byte, against the best peer",
        bound: 0.90,
        sense: Sense::AtMost,
        unit: "ratio",
        of: added_by_byte(names::COPY_OUT),
    },
    Promise {
        name: "COPY in, plain: added instructions a byte, against the best peer",
        bound: 0.90,
        sense: Sense::AtMost,
        unit: "ratio",
        of: added_by_byte(names::COPY_IN),
    },
    Promise {
        name: "idle session, plain: user space",
        bound: 2_048.0,
        sense: Sense::AtMost,
        unit: "bytes",
        of: idle(Plain, Metric::UserBytesPerSession),
    },
    Promise {
        name: "idle session, plain: with the kernel",
        bound: 12_288.0,
        sense: Sense::AtMost,
        unit: "bytes",
        of: idle(Plain, Metric::TotalBytesPerSession),
    },
    Promise {
        name: "idle session, client TLS: user space",
        bound: 24_576.0,
        sense: Sense::AtMost,
        unit: "bytes",
        of: idle(Tls, Metric::UserBytesPerSession),
    },
    Promise {
        name: "slow reader: bytes held, a direction",
        bound: 262_144.0,
        sense: Sense::AtMost,
        unit: "bytes",
        of: Of::Own {
            at: at(names::SLOW_READER, Plain, names::ONE_SLOW_READER),
            metric: Metric::HeldBytes,
        },
    },
    Promise {
        name: "slow reader: p99 of the others, against without it",
        bound: 1.05,
        sense: Sense::AtMost,
        unit: "ratio",
        of: Of::OfOtherPoint {
            at: at(names::SLOW_READER, Plain, names::OTHERS_BESIDE),
            other: names::OTHERS_ALONE,
            metric: Metric::P99Us,
            aside: None,
        },
    },
    Promise {
        name: "warm login with TLS and a fresh backend: rate, against direct TLS and SCRAM",
        bound: 1.0,
        sense: Sense::AtLeast,
        unit: "ratio",
        of: Of::OfDirect {
            at: at(names::LOGINS, Tls, names::CLIENTS_4),
            metric: Metric::RatePerS,
            aside: Some(names::CLIENTS_4_RESUMING),
        },
    },
    Promise {
        name: "logins against a stopped directory: throughput of running sessions",
        bound: 0.95,
        sense: Sense::AtLeast,
        unit: "ratio",
        of: Of::OfOtherPoint {
            at: at(names::STORM, Plain, names::IN_STORM),
            other: names::WITHOUT_STORM,
            metric: Metric::RatePerS,
            aside: Some(names::STORM_ELSEWHERE),
        },
    },
    Promise {
        name: "logins against a stopped directory: the longest wait for 53300",
        bound: 1_000_000.0,
        sense: Sense::AtMost,
        unit: "us",
        of: Of::Own {
            at: at(names::STORM, Plain, names::TOO_MANY),
            metric: Metric::LongestUs,
        },
    },
    Promise {
        name: "perimeter: a packet from the proxy, 10,000 prefixes",
        bound: 60.0,
        sense: Sense::AtMost,
        unit: "ns",
        of: Of::Own {
            at: at(names::PERIMETER, Plain, names::PACKET),
            metric: Metric::PacketNs,
        },
    },
    Promise {
        name: "perimeter: load and verify, 10,000 prefixes",
        bound: 200_000.0,
        sense: Sense::AtMost,
        unit: "us",
        of: Of::Own {
            at: at(names::PERIMETER, Plain, names::PACKET),
            metric: Metric::LoadUs,
        },
    },
    Promise {
        name: "perimeter: memory of 10,000 prefixes",
        bound: 8_388_608.0,
        sense: Sense::AtMost,
        unit: "bytes",
        of: Of::Own {
            at: at(names::PERIMETER, Plain, names::PACKET),
            metric: Metric::PolicyBytes,
        },
    },
    Promise {
        name: "perimeter: throughput through the gateway, against an open one",
        bound: 0.99,
        sense: Sense::AtLeast,
        unit: "ratio",
        of: Of::OfOtherPoint {
            at: at(names::PERIMETER, Plain, names::GATEWAY),
            other: names::GATEWAY_OPEN,
            metric: Metric::RatePerS,
            aside: Some(names::GATEWAY_PROGRAMS),
        },
    },
    Promise {
        name: "perimeter: connections through the gateway, against an open one",
        bound: 0.99,
        sense: Sense::AtLeast,
        unit: "ratio",
        of: Of::OfOtherPoint {
            at: at(names::PERIMETER, Plain, names::GATEWAY_CONNECTIONS),
            other: names::GATEWAY_OPEN_CONNECTIONS,
            metric: Metric::RatePerS,
            aside: None,
        },
    },
    Promise {
        name: "revocation, OpenLDAP: its answer to the last of 100 backends gone, p99",
        bound: 1_000_000.0,
        sense: Sense::AtMost,
        unit: "us",
        of: revocation(names::OPENLDAP, Metric::P99Us),
    },
    Promise {
        name: "revocation, OpenLDAP: hearing of it to the last backend gone, p99",
        bound: 500_000.0,
        sense: Sense::AtMost,
        unit: "us",
        of: revocation(names::OPENLDAP_HEARD, Metric::P99Us),
    },
    Promise {
        name: "revocation, OpenLDAP: logins begun after the loss was on record, accepted",
        bound: 0.0,
        sense: Sense::AtMost,
        unit: "logins",
        of: revocation(names::OPENLDAP_TOO_LATE, Metric::Logins),
    },
    Promise {
        name: "revocation, Samba AD: its answer to the last of 100 backends gone, p99",
        bound: 6_000_000.0,
        sense: Sense::AtMost,
        unit: "us",
        of: revocation(names::SAMBA, Metric::P99Us),
    },
    Promise {
        name: "revocation, Samba AD: hearing of it to the last backend gone, p99",
        bound: 500_000.0,
        sense: Sense::AtMost,
        unit: "us",
        of: revocation(names::SAMBA_HEARD, Metric::P99Us),
    },
    Promise {
        name: "revocation, Samba AD: logins begun after the loss was on record, accepted",
        bound: 0.0,
        sense: Sense::AtMost,
        unit: "logins",
        of: revocation(names::SAMBA_TOO_LATE, Metric::Logins),
    },
    Promise {
        name: "revocation, polled every 30 s: the answer to the last of 100 backends gone, p99",
        bound: 35_000_000.0,
        sense: Sense::AtMost,
        unit: "us",
        of: revocation(names::POLLED, Metric::P99Us),
    },
    Promise {
        name: "revocation, polled every 30 s: logins begun after the loss was on record, accepted",
        bound: 0.0,
        sense: Sense::AtMost,
        unit: "logins",
        of: revocation(names::POLLED_TOO_LATE, Metric::Logins),
    },
];
