//! The proxies that Postern is compared with, each configured as its manual says.

pub(crate) mod haproxy;
pub(crate) mod nginx;
pub(crate) mod pgbouncer;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use postern_tests::account::Account;
use postern_tests::process::run_any;
use postern_tests::{Certificates, Scratch, Server, needs, wait};

use crate::route::{Kind, Login, Route};
use crate::stage::Running;

/// How a peer is started.
pub type Start = fn(&Ground<'_>) -> Result<Running>;

/// Every peer that a run starts itself.
pub const ALL: [(&str, Start); 3] = [
    ("pgbouncer", pgbouncer::start),
    ("haproxy", haproxy::start),
    ("nginx", nginx::start),
];

/// How long a start may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// What a peer starts on.
#[derive(Debug, Clone)]
pub struct Ground<'a> {
    /// Where its files go.
    pub scratch: &'a Scratch,
    /// Who signs its certificate, if it uses one.
    pub certificates: &'a Certificates,
    /// The database server, on 127.0.0.1.
    pub backend_port: u16,
    /// Who logs in to it.
    pub login: Login,
    /// What PostgreSQL keeps of that login's password.
    pub verifier: &'a str,
}

/// How the peer of a name is started.
#[must_use]
pub fn find(name: &str) -> Option<Start> {
    let peer = ALL.iter().find(|(it, _)| *it == name);
    peer.map(|&(_, start)| start)
}

/// A peer that is ready to be started.
struct Ready<'a> {
    name: &'a str,
    version: String,
    port: u16,
    login: Login,
    ca_file: Option<PathBuf>,
    configuration: String,
    command: Command,
    folder: PathBuf,
    stop_signal: Signal,
}

impl Ready<'_> {
    /// Starts it and waits until it accepts connections.
    fn start(self) -> Result<Running> {
        let log = self.folder.join("log");
        let mut server = Server::spawn(self.name, self.command, &log, self.stop_signal)?;
        let port = self.port;
        server.wait_ready(START_LIMIT, || Ok(wait::accepts("127.0.0.1", port)))?;
        let route = Route {
            name: self.name.to_owned(),
            kind: Kind::Peer,
            host: "localhost".to_owned(),
            port,
            login: self.login,
            ca_file: self.ca_file,
            pids: vec![server.pid()],
            version: self.version,
            configuration: self.configuration,
        };
        Ok(Running::process(route, server))
    }
}

/// A folder of a peer's own.
fn folder(ground: &Ground<'_>, name: &str, account: &Account) -> Result<PathBuf> {
    let folder = ground.scratch.subfolder(name)?;
    account.own_path(&folder)?;
    Ok(folder)
}

/// A program that must be installed.
fn program(name: &str) -> Result<PathBuf> {
    needs::program(name).with_context(|| format!("{name} is not installed"))
}

/// The first line of what a program says of its version, on whichever stream.
fn version(program: &Path, option: &str) -> Result<String> {
    let output = run_any(Command::new(program).arg(option))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
