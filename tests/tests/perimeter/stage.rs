//! The three subnets with a real PostgreSQL, and the three places where a policy may stand.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use postern_tests::account::Account;
use postern_tests::network::{DATABASE, HOST, Namespace, Network, PROXY};
use postern_tests::policy::{Policy, said};
use postern_tests::process::Server;
use postern_tests::{
    Certificates, Cgroup, ConfigFile, DirectoryServer, Local, Postern, Postgres, Scratch,
    free_port, wait_until,
};

use crate::actor;
use crate::origin::Origin;

/// Where PostgreSQL listens.
pub(crate) const PORT: u16 = 5432;
/// Where what is sent comes back, on the database's machine; as protected as the database.
pub(crate) const ECHO_PORT: u16 = 5433;
/// A port that no policy protects.
pub(crate) const OPEN_PORT: u16 = 9999;

/// The proxy's cgroup, below the one that stands for its machine.
pub(crate) const PROXY_CGROUP: &str = "postern.slice";
/// Where the machine's other processes are.
pub(crate) const OTHER_CGROUP: &str = "other.slice";

/// How long a text may take to be heard.
const HEARD_LIMIT: Duration = Duration::from_millis(400);
/// How long TCP may wait before it sends what was lost once more.
pub(crate) const RETRY_LIMIT: Duration = Duration::from_secs(10);
/// How long a server or an actor may take to start.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Everything that the tests share. A test loads a policy of its own, and unloads it.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) network: Network,
    pub(crate) postgres: Postgres,
    pub(crate) echo: Server,
    pub(crate) cgroup: Cgroup,
    /// The proxy, which does not run.
    pub(crate) postern: Postern,
    /// Who may log in to it.
    pub(crate) accounts: Local,
    pub(crate) scratch: Scratch,
    config: ConfigFile,
}

/// A policy for one of the three places, and who must not pass it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) policy: Policy,
    pub(crate) stranger: Origin,
    /// The reason, by its name, for which the stranger's packets are dropped.
    pub(crate) reason: &'static str,
}

impl Stage {
    /// Makes the network and starts what runs in it. Nothing is loaded.
    pub(crate) fn start() -> Result<Self> {
        let scratch = Scratch::new()?;
        let certificates = Certificates::new(&scratch)?;
        let network = Network::start()?;
        allow_fast_open(&network)?;
        let postgres = Postgres::start_inside(&scratch, &certificates, &network.database)?;
        let echo = start_echo(&scratch, &network)?;
        let cgroup = Cgroup::new()?;
        for name in [PROXY_CGROUP, OTHER_CGROUP] {
            cgroup.child(name)?;
        }
        let postern = Postern::prepare(&scratch, &certificates, &postgres, free_port()?)?;
        let accounts = Local::start(&scratch)?;
        let mut config = ConfigFile::new();
        postern.configure(|of_postern| {
            accounts.configure(of_postern);
            config = of_postern.clone();
        });
        Ok(Self {
            network,
            postgres,
            echo,
            cgroup,
            postern,
            accounts,
            scratch,
            config,
        })
    }

    /// The folder of the proxy's cgroup.
    pub(crate) fn proxy_cgroup(&self) -> PathBuf {
        self.cgroup.path().join(PROXY_CGROUP)
    }

    /// The policy of the router: the proxy's address passes, where the proxy is.
    pub(crate) fn gateway_config(&self) -> ConfigFile {
        let mut config = self.config.clone();
        config
            .set("perimeter", "place", "gateway")
            .set("perimeter", "mode", "enforce")
            .set(
                "perimeter",
                "interfaces",
                ["application", "proxy", "database"],
            );
        protect(&mut config);
        allow(&mut config, "proxy");
        config
    }

    /// The policy of the database's own machine, with the same meaning.
    pub(crate) fn database_host_config(&self) -> ConfigFile {
        let mut config = self.config.clone();
        config
            .set("perimeter", "place", "database-host")
            .set("perimeter", "mode", "enforce")
            .set("perimeter", "interfaces", ["router"]);
        protect(&mut config);
        allow(&mut config, "router");
        config
    }

    /// The policy of the proxy's machine: its cgroup passes.
    pub(crate) fn proxy_host_config(&self) -> ConfigFile {
        let mut config = self.config.clone();
        self.set_proxy_host(&mut config);
        config
    }

    /// The same, in a configuration that has none.
    pub(crate) fn set_proxy_host(&self, config: &mut ConfigFile) {
        config
            .set("perimeter", "place", "proxy-host")
            .set("perimeter", "mode", "enforce")
            .set("perimeter", "cgroup_root", self.cgroup.path())
            .set("perimeter", "cgroup", format!("/{PROXY_CGROUP}"));
        protect(config);
    }

    /// The router's policy, changed; not loaded.
    pub(crate) fn gateway(&self, change: impl FnOnce(&mut ConfigFile)) -> Result<Policy> {
        self.policy(&self.network.router, self.gateway_config(), change)
    }

    /// The database's policy, changed; not loaded.
    pub(crate) fn database_host(&self, change: impl FnOnce(&mut ConfigFile)) -> Result<Policy> {
        self.policy(&self.network.database, self.database_host_config(), change)
    }

    /// The policy of the proxy's machine, changed; not loaded.
    pub(crate) fn proxy_host(&self, change: impl FnOnce(&mut ConfigFile)) -> Result<Policy> {
        self.policy(&self.network.proxy, self.proxy_host_config(), change)
    }

    fn policy(
        &self,
        machine: &Namespace,
        mut config: ConfigFile,
        change: impl FnOnce(&mut ConfigFile),
    ) -> Result<Policy> {
        change(&mut config);
        Policy::new(&self.scratch, machine, &config)
    }

    /// All three places with the same change, none of them loaded.
    pub(crate) fn places(&self, change: impl Fn(&mut ConfigFile)) -> Result<[Place; 3]> {
        let source_not_allowed = "source_not_allowed";
        Ok([
            Place {
                name: "gateway",
                policy: self.gateway(&change)?,
                stranger: self.application(),
                reason: source_not_allowed,
            },
            Place {
                name: "database-host",
                policy: self.database_host(&change)?,
                stranger: self.application(),
                reason: source_not_allowed,
            },
            Place {
                name: "proxy-host",
                policy: self.proxy_host(&change)?,
                stranger: self.neighbour(),
                reason: "foreign_socket",
            },
        ])
    }

    /// Whether the echo hears a text, within the time that it would need.
    pub(crate) fn hears(&self, text: &str) -> Result<bool> {
        // Not in time is an answer, and the log itself was read a moment ago.
        Ok(self.hears_within(text, HEARD_LIMIT).is_ok())
    }

    /// Waits until the echo hears a text.
    pub(crate) fn must_hear(&self, text: &str) -> Result<()> {
        self.hears_within(text, RETRY_LIMIT)
    }

    fn hears_within(&self, text: &str, limit: Duration) -> Result<()> {
        wait_until("a text is heard", limit, || self.echo.log_contains(text))
    }
}

/// The database over both families.
pub(crate) fn database(port: u16) -> [SocketAddr; 2] {
    DATABASE.both(HOST).map(|it| SocketAddr::new(it, port))
}

/// A text that nothing else sends.
pub(crate) fn marker() -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    format!("marker-{:017}", MADE.fetch_add(1, Ordering::Relaxed))
}

fn protect(config: &mut ConfigFile) {
    config
        .begin("perimeter.protect")
        .set(
            "perimeter.protect",
            "prefixes",
            DATABASE.prefixes().to_vec(),
        )
        .set("perimeter.protect", "ports", [PORT, ECHO_PORT]);
}

fn allow(config: &mut ConfigFile, interface: &str) {
    config
        .begin("perimeter.allow")
        .set("perimeter.allow", "sources", PROXY.hosts(HOST).to_vec())
        .set("perimeter.allow", "interfaces", [interface]);
}

/// Data in the first packet is sent and taken without a cookie, by every listener.
fn allow_fast_open(network: &Network) -> Result<()> {
    // Client and server (1, 2), without a cookie at both (4, 0x200), without asking (0x400).
    let all = (0x1 | 0x2 | 0x4 | 0x200 | 0x400).to_string();
    for namespace in [&network.application, &network.proxy, &network.database] {
        namespace.set("ipv4/tcp_fastopen", &all)?;
        namespace.set("ipv4/tcp_fastopen_blackhole_timeout_sec", "0")?;
    }
    Ok(())
}

fn start_echo(scratch: &Scratch, network: &Network) -> Result<Server> {
    let port = ECHO_PORT.to_string();
    let actor = actor::command(&["echo", &port])?;
    let mut command = Account::own().command(actor.get_program().as_ref(), "KILL");
    command.args(actor.get_args());
    let command = network.database.inside(&command);
    let log = scratch.path().join("echo.log");
    let mut echo = Server::spawn("the echo", command, &log, Signal::SIGKILL)?;
    let probe = SocketAddr::new(DATABASE.v4(HOST).into(), ECHO_PORT);
    let probe = probe.to_string();
    echo.wait_ready(START_LIMIT, || {
        let actor = actor::command(&["connect", &probe])?;
        Ok(said(&network.proxy.inside(&actor))?.code == 0)
    })?;
    Ok(echo)
}
