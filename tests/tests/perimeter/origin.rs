//! Where a process is when it tries to reach the database, and how it tries.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use postern_tests::network::namespace::inside;
use postern_tests::network::{APPLICATION, DATABASE, HOST, PROXY, Subnet};
use postern_tests::policy::said;
use postern_tests::postgres::SUPERUSER;
use postern_tests::process::run_any;
use postern_tests::{Psql, cgroup};

use crate::actor;
use crate::stage::{OTHER_CGROUP, PORT, PROXY_CGROUP, Stage};

/// The seconds after which psql gives up: the fewest that libpq takes.
const PSQL_LIMIT_S: &str = "2";
/// How often something is tried that must get through.
const TRIES: u32 = 5;

/// Where a process is when it tries something.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    name: &'static str,
    namespace: PathBuf,
    subnet: Subnet,
    /// None: not on the machine whose cgroups a policy is for.
    cgroup: Option<PathBuf>,
}

impl Origin {
    /// The addresses that its packets come from.
    pub(crate) fn addresses(&self) -> [IpAddr; 2] {
        self.subnet.both(HOST)
    }

    /// A command there: in the cgroup and in the namespace.
    pub(crate) fn command(&self, command: &Command) -> Command {
        let inside = inside(&self.namespace, command);
        match &self.cgroup {
            Some(cgroup) => cgroup::within(cgroup, &inside),
            None => inside,
        }
    }

    /// Acts there, and returns what the actor says.
    pub(crate) fn act(&self, words: &[&str]) -> Result<String> {
        let said = said(&self.command(&actor::command(words)?))?;
        ensure!(said.code == 0, "{}: {}", self.name, said.stderr);
        Ok(said.stdout.trim_end().to_owned())
    }

    /// Tries something that must get through, or must not. What must is tried again: a packet may
    /// be lost, or late, on a busy machine.
    pub(crate) fn expect_through(
        &self,
        stage: &Stage,
        words: &[&str],
        gets_through: bool,
    ) -> Result<()> {
        let tries = if gets_through { TRIES } else { 1 };
        for _ in 0..tries {
            if self.gets_through(stage, words)? == gets_through {
                return Ok(());
            }
        }
        let said = if gets_through { "does not get" } else { "gets" };
        bail!("{} {said} through: {}", self.name, words.join(" "))
    }

    /// Whether an actor gets through: it connects, or its text is heard.
    pub(crate) fn gets_through(&self, stage: &Stage, words: &[&str]) -> Result<bool> {
        let said = self.act(words)?;
        match said.as_str() {
            "connected" => Ok(true),
            "sent" => stage.hears(words.get(2).context("no text is sent")?),
            said if said.starts_with("blocked: ") => Ok(false),
            said => bail!("{}: {said}", self.name),
        }
    }

    /// Whether the real psql gets in.
    fn psql(&self, address: IpAddr) -> Result<bool> {
        let psql = Psql {
            host: address.to_string(),
            port: PORT,
            user: SUPERUSER.to_owned(),
            password: None,
            database: "postgres".to_owned(),
            sslmode: "prefer".to_owned(),
            ca_file: None,
        };
        let mut command = psql.command()?;
        command.env("PGCONNECT_TIMEOUT", PSQL_LIMIT_S);
        command.args(["--tuples-only", "--no-align", "--command", "select 1"]);
        let output = run_any(&mut self.command(&command))?;
        if output.status.success() {
            return Ok(true);
        }
        let told = String::from_utf8_lossy(&output.stderr);
        let stopped = ["timeout expired", "Operation not permitted"];
        ensure!(stopped.iter().any(|it| told.contains(it)), "{told}");
        Ok(false)
    }
}

impl Stage {
    /// A process in the application's subnet, on a machine of its own.
    pub(crate) fn application(&self) -> Origin {
        self.origin("application", APPLICATION, None)
    }

    /// A process on the router itself.
    pub(crate) fn router(&self) -> Origin {
        Origin {
            name: "router",
            namespace: self.network.router.file(),
            subnet: DATABASE,
            cgroup: None,
        }
    }

    /// The proxy's own process.
    pub(crate) fn proxy(&self) -> Origin {
        self.origin("proxy", PROXY, Some(PROXY_CGROUP))
    }

    /// Another process of root's on the proxy's machine.
    pub(crate) fn neighbour(&self) -> Origin {
        self.origin("neighbour", PROXY, Some(OTHER_CGROUP))
    }

    /// A process on the proxy's machine with a network of its own, as containers have.
    pub(crate) fn container(&self) -> Origin {
        self.origin("container", APPLICATION, Some(OTHER_CGROUP))
    }

    /// A process in a cgroup below the proxy's own.
    pub(crate) fn child(&self) -> Result<Origin> {
        let name = format!("{PROXY_CGROUP}/postern.service");
        self.cgroup.child(&name)?;
        Ok(self.origin("child", PROXY, Some(&name)))
    }

    fn origin(&self, name: &'static str, subnet: Subnet, cgroup: Option<&str>) -> Origin {
        let namespace = if subnet == PROXY {
            &self.network.proxy
        } else {
            &self.network.application
        };
        Origin {
            name,
            namespace: namespace.file(),
            subnet,
            cgroup: cgroup.map(|it| self.cgroup.path().join(it)),
        }
    }

    /// Runs psql at several places at once, each over both families; everybody must get in, or
    /// nobody.
    pub(crate) fn expect_psql(&self, origins: &[Origin], gets_in: bool) -> Result<()> {
        expect_all(origins, |origin, address| {
            let got_in = origin.psql(address)?;
            let said = if got_in { "gets in" } else { "does not get in" };
            ensure!(got_in == gets_in, "psql {said}");
            Ok(())
        })
    }

    /// The same without psql, which waits for two seconds where it does not get in.
    pub(crate) fn expect(&self, origins: &[Origin], gets_in: bool) -> Result<()> {
        expect_all(origins, |origin, address| {
            let to = SocketAddr::new(address, PORT).to_string();
            origin.expect_through(self, &["connect", &to], gets_in)
        })
    }
}

/// Tries something from several places at once, to both addresses of the database.
fn expect_all(
    origins: &[Origin],
    attempt: impl Fn(&Origin, IpAddr) -> Result<()> + Sync,
) -> Result<()> {
    thread::scope(|scope| {
        let mut started = Vec::new();
        for origin in origins {
            for address in DATABASE.both(HOST) {
                let attempt = &attempt;
                let thread = scope.spawn(move || attempt(origin, address));
                started.push((origin, address, thread));
            }
        }
        for (origin, address, thread) in started {
            let outcome = thread.join().map_err(|_| anyhow!("the thread panicked"))?;
            outcome.with_context(|| format!("{} to {address}", origin.name))?;
        }
        Ok(())
    })
}
