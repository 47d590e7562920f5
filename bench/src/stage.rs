//! Everything that runs during a measurement: PostgreSQL, Postern and the peers.

mod database;
mod running;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use postern_tests::{
    Certificates, DirectoryServer, Local, Member, Postern, Postgres, Scratch, free_port,
};

use crate::meter::Meter;
use crate::options::{Options, RunningPeer};
use crate::peers::{self, Ground};
use crate::progress::Progress;
use crate::route::{Encryption, Kind, Login, Route};
use crate::scenario::Extent;

pub(crate) use database::SETTINGS;
pub use database::{BulkData, DATABASE, DIRECT_USER, GROUP, PASSWORD, PERSON, Pace};
pub use running::{Running, psql};

/// Everything that runs. The fields end in this order: routes first, the folder last.
#[derive(Debug)]
pub struct Stage {
    routes: Vec<Running>,
    directory: Local,
    postgres: Postgres,
    verifier: String,
    bulk: database::Bulk,
    pace: Pace,
    meter: Meter,
    extent: Extent,
    certificates: Certificates,
    scratch: Scratch,
}

impl Stage {
    /// Starts all servers, makes the database and logs in on every route once, so that what is
    /// wrong is found before anything is measured. What cannot be measured here is added to
    /// `gaps`: a peer that does not start is left out.
    ///
    /// # Errors
    /// If PostgreSQL or Postern does not start; everything is ended then.
    pub fn start(options: &Options, progress: &Progress, gaps: &mut Vec<String>) -> Result<Self> {
        raise_file_limit()?;
        let (meter, missing) = Meter::new()?;
        gaps.extend(missing);
        let extent = options.extent();
        let scratch = Scratch::new()?;
        let certificates = Certificates::new(&scratch)?;
        progress.say("PostgreSQL");
        let postgres = database::start(&scratch, &certificates, options)?;
        let directory = Local::start(&scratch)?;
        let postern = prepare_postern(&scratch, &certificates, &postgres, &directory)?;
        postern.install_schema(&postgres)?;
        progress.say("the tables of pgbench");
        database::fill(&postgres, extent)?;
        directory.add_person(PERSON, PASSWORD)?;
        directory.add_member(GROUP, Member::Person(PERSON))?;
        let verifier = database::verifier(&postgres)?;
        let mut stage = Self {
            routes: Vec::new(),
            directory,
            verifier,
            bulk: database::Bulk::default(),
            pace: Pace::default(),
            postgres,
            meter,
            extent,
            certificates,
            scratch,
        };
        stage.routes.push(stage.direct(stage.postgres.port()));
        progress.say("Postern");
        stage.add(Running::postern(postern, person())?)?;
        stage.start_peers(options, progress, gaps);
        stage.pace = Pace::find(&stage)?;
        Ok(stage)
    }

    /// The routes, in the order of the tables: direct, Postern, the peers.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().map(Running::route)
    }

    /// The route of a name.
    ///
    /// # Errors
    /// If there is none.
    pub fn route(&self, name: &str) -> Result<&Route> {
        let mut routes = self.routes();
        let found = routes.find(|it| it.name == name);
        found.with_context(|| format!("no route is called {name}"))
    }

    /// The Postern of the route of that name.
    ///
    /// # Errors
    /// If it was not started.
    pub fn postern(&self) -> Result<&Postern> {
        let mut posterns = self.routes.iter().filter_map(Running::as_postern);
        posterns.next().context("Postern was not started")
    }

    /// How thorough the run is.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// What counts around a load.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The database server.
    #[must_use]
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// Who signs the certificates of all servers.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The accounts that Postern knows.
    #[must_use]
    pub fn directory(&self) -> &Local {
        &self.directory
    }

    /// The folder of everything, which is removed at the end.
    #[must_use]
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// How many transactions a second this machine does, roughly; for the length of loads.
    #[must_use]
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// The table and the file for bulk transfers; made when they are first asked for.
    ///
    /// # Errors
    /// If they cannot be made.
    pub fn bulk(&self) -> Result<&BulkData> {
        self.bulk.get(self)
    }

    /// Starts another server of a route's kind before another backend on 127.0.0.1, a stub for
    /// example, that asks nobody for a password. It ends with the object.
    ///
    /// # Errors
    /// If it does not start, or the route is a server that we did not start.
    pub fn start_before(&self, route: &Route, port: u16) -> Result<Running> {
        match route.kind {
            Kind::Direct => Ok(self.direct(port)),
            Kind::Postern => {
                let directory = &self.directory;
                let postern =
                    prepare_postern(&self.scratch, &self.certificates, &self.postgres, directory)?;
                let key_file = self.cluster_key_file()?;
                postern.configure(|config| {
                    config.set("backend", "port", port);
                    config.set("backend", "auth_methods", ["trust"]);
                    // Proxies with different keys would give the same role different passwords.
                    config.set("credential", "cluster_key_file", &key_file);
                });
                Running::postern(postern, person())
            }
            Kind::Peer => match peers::find(&route.name) {
                Some(start) => start(&self.ground(port)),
                None => bail!("{} runs already and cannot be started anew", route.name),
            },
        }
    }

    /// Fails if a server has ended by itself; the message quotes its log.
    ///
    /// # Errors
    /// As said.
    pub fn check(&self) -> Result<()> {
        if !self.postgres.is_running()? {
            bail!(
                "PostgreSQL has ended: {}",
                running::tail(&self.postgres.log_file())
            );
        }
        self.routes.iter().try_for_each(Running::check)
    }

    fn direct(&self, port: u16) -> Running {
        Running::foreign(Route {
            name: "direct".to_owned(),
            kind: Kind::Direct,
            host: "localhost".to_owned(),
            port,
            login: direct_login(),
            ca_file: Some(self.certificates.ca_file()),
            pids: Vec::new(),
            version: format!("PostgreSQL {}", self.postgres.major()),
            configuration: database::settings(self.extent),
        })
    }

    fn cluster_key_file(&self) -> Result<PathBuf> {
        let postern = self.postern()?;
        Ok(postern.config_file().with_file_name("cluster-key"))
    }

    fn ground(&self, port: u16) -> Ground<'_> {
        Ground {
            scratch: &self.scratch,
            certificates: &self.certificates,
            backend_port: port,
            login: direct_login(),
            verifier: &self.verifier,
        }
    }

    fn start_peers(&mut self, options: &Options, progress: &Progress, gaps: &mut Vec<String>) {
        for (name, start) in peers::ALL {
            progress.say(name);
            let started = start(&self.ground(self.postgres.port()));
            let added = started.and_then(|running| self.add(running));
            if let Err(error) = added {
                gaps.push(format!("{name} is left out: {error:#}"));
            }
        }
        for peer in &options.peers {
            progress.say(&peer.name);
            if let Err(error) = self.add(Running::foreign(already_running(peer, options))) {
                gaps.push(format!("{} is left out: {error:#}", peer.name));
            }
        }
    }

    /// Adds a route after a login on it, encrypted and not, has succeeded.
    fn add(&mut self, running: Running) -> Result<()> {
        let route = running.route();
        if self.routes().any(|it| it.name == route.name) {
            bail!("two routes are called {}", route.name);
        }
        for encryption in [Encryption::Plain, Encryption::Tls] {
            if route.supports(encryption) {
                let answer = psql(route, encryption).query("select 1");
                answer.with_context(|| running.quote_log())?;
            }
        }
        self.routes.push(running);
        Ok(())
    }
}

/// Postern before PostgreSQL, ready to start. Its backend's leg is not encrypted, as those of the
/// peers are not.
fn prepare_postern(
    scratch: &Scratch,
    certificates: &Certificates,
    postgres: &Postgres,
    directory: &Local,
) -> Result<Postern> {
    let postern = Postern::prepare(scratch, certificates, postgres, free_port()?)?;
    postern.configure(|config| {
        directory.configure(config);
        // People of a directory log in so, and it is their logins that are measured.
        config.set("local", "exchange", "password");
        config.set("listen", "tls", "allow-plaintext");
        config.set("backend", "sslmode", "disable");
        config.unset("backend", "tls_ca_file");
    });
    Ok(postern)
}

fn person() -> Login {
    Login {
        user: PERSON.to_owned(),
        password: Some(PASSWORD.to_owned()),
        database: DATABASE.to_owned(),
    }
}

fn direct_login() -> Login {
    Login {
        user: DIRECT_USER.to_owned(),
        ..person()
    }
}

fn already_running(peer: &RunningPeer, options: &Options) -> Route {
    let usual = direct_login();
    let configuration = "It ran already; its configuration is not known.";
    Route {
        name: peer.name.clone(),
        kind: Kind::Peer,
        host: peer.host.clone(),
        port: peer.port,
        login: Login {
            user: options.peer_user.clone().unwrap_or(usual.user),
            password: options.peer_password.clone().or(usual.password),
            database: options.peer_database.clone().unwrap_or(usual.database),
        },
        ca_file: None,
        pids: Vec::new(),
        version: "not known".to_owned(),
        configuration: configuration.to_owned(),
    }
}

/// A proxy of 10,000 sessions has 20,000 sockets, and so have its clients and the stub.
fn raise_file_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the limit of open files")
}
