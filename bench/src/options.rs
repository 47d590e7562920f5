//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Error, bail};
use clap::Parser;

use crate::scenario::{Extent, Scenario};

/// A quick run takes less than five minutes; the last measurement and the servers need some time
/// to end.
const QUICK_LIMIT: Duration = Duration::from_secs(270);

/// A full run is one that somebody can wait for, on a machine that does nothing else meanwhile.
const FULL_LIMIT: Duration = Duration::from_secs(3_600);

/// What Postern costs, beside its peers on the same machine in the same run.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "cargo xtask bench", version)]
pub struct Options {
    /// Measure everything shortly: under five minutes on two cores.
    #[arg(long)]
    pub quick: bool,
    /// Only the scenarios whose name contains this; `soak` by its whole name is a run of its own.
    #[arg(long, value_name = "NAME")]
    pub only: Option<String>,
    /// Write every raw figure to a file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a page with plots to a file; of a soak it is Markdown.
    #[arg(long, value_name = "FILE")]
    pub page: Option<PathBuf>,
    /// How long a soak lasts after its warm-up; a fraction is for trying it out.
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    pub hours: f64,
    /// End with a failure if a bar is missed; one that could not be measured is not missed.
    #[arg(long)]
    pub strict: bool,
    /// Measure every route that often at each point, instead of as often as time allows: five
    /// minutes with --quick, an hour without it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: Option<u16>,
    /// Also measure a server that already runs, before the run's own database (--postgres-port)
    /// or before another one with pgbench's tables.
    #[arg(long = "peer", value_name = "NAME=HOST:PORT")]
    pub peers: Vec<RunningPeer>,
    /// The port of the run's own database on 127.0.0.1, for servers of --peer: they need its
    /// database bench and its user bench_direct, whose password is in bench/README.md.
    #[arg(long, value_name = "PORT")]
    pub postgres_port: Option<u16>,
    /// Who logs in to servers of --peer; bench_direct unless given.
    #[arg(long, value_name = "USER")]
    pub peer_user: Option<String>,
    /// With which password.
    #[arg(long, value_name = "PASSWORD")]
    pub peer_password: Option<String>,
    /// To which database.
    #[arg(long, value_name = "DATABASE")]
    pub peer_database: Option<String>,
}

/// A server that already runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningPeer {
    /// Its name in the tables.
    pub name: String,
    /// Its name or address.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
}

impl Options {
    /// How thorough the run is.
    #[must_use]
    pub fn extent(&self) -> Extent {
        if self.quick {
            Extent::Quick
        } else {
            Extent::Full
        }
    }

    /// How long after its begin a run begins no further round, unless their number was given.
    #[must_use]
    pub fn time_limit(&self) -> Option<Duration> {
        let limit = match self.extent() {
            Extent::Quick => QUICK_LIMIT,
            Extent::Full => FULL_LIMIT,
        };
        self.rounds.is_none().then_some(limit)
    }

    /// Whether a scenario is to be measured; some are only on request.
    #[must_use]
    pub fn wants(&self, scenario: &dyn Scenario) -> bool {
        match &self.only {
            Some(text) => scenario.name().contains(text),
            None => !scenario.is_on_request(),
        }
    }
}

impl FromStr for RunningPeer {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, address) = text.split_once('=').context("NAME=HOST:PORT is meant")?;
        let (host, port) = address.rsplit_once(':').context("the port is missing")?;
        if name.is_empty() || host.is_empty() {
            bail!("NAME=HOST:PORT is meant");
        }
        Ok(Self {
            name: name.to_lowercase(),
            host: host.trim_matches(['[', ']']).to_owned(),
            port: port.parse().context("the port is no number")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_a_name_a_host_and_a_port() {
        let peer = |host: &str| RunningPeer {
            name: "odyssey".to_owned(),
            host: host.to_owned(),
            port: 6432,
        };
        assert_eq!("odyssey=db:6432".parse().ok(), Some(peer("db")));
        assert_eq!("Odyssey=[::1]:6432".parse().ok(), Some(peer("::1")));
        for wrong in [
            "odyssey",
            "odyssey=db",
            "=db:6432",
            "odyssey=:6432",
            "o=db:x",
        ] {
            assert!(wrong.parse::<RunningPeer>().is_err(), "{wrong}");
        }
    }
}
