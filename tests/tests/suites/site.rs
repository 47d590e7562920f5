//! Two PostgreSQL servers of the same kind: one that is reached directly, and one behind Postern.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use postern_tests::config_file::ConfigFile;
use postern_tests::{Certificates, Postgres, Psql, Someone, World, needs};

use crate::card::Driver;
use crate::own::RUST_LOGINS;

/// The folder with what `cargo xtask test --only suites` has made ready; without it there is a
/// sample of the suites.
const FOLDER_VARIABLE: &str = "POSTERN_SUITES_FOLDER";

/// The database of all suites, on both servers.
pub(crate) const DATABASE: &str = "suites";
/// The group that lets people into it, and do there what they like.
pub(crate) const GROUP: &str = "postern-suites";

/// For suites that copy their changes elsewhere.
const SETTINGS: &str = "alter system set wal_level = 'logical'; \
    alter system set log_statement = 'none'; alter system set max_connections = 400";

/// How a suite reaches its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Direct,
    Through,
}

/// Both, the one to compare with first.
pub(crate) const ROUTES: [Route; 2] = [Route::Direct, Route::Through];

impl Route {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Through => "through",
        }
    }
}

/// The servers, and what was made ready for suites that need more than the machine has.
pub(crate) struct Site {
    /// The server behind Postern, Postern, and the directory.
    pub(crate) world: World,
    /// The server that is reached directly.
    direct: Postgres,
    /// An authority that has signed nothing here.
    pub(crate) foreign_ca: PathBuf,
    /// Every driver whose card was played to its end, and its language.
    played: Mutex<BTreeMap<&'static str, &'static str>>,
}

impl Site {
    /// Starts everything.
    pub(crate) fn start() -> Result<Self> {
        let world = World::start(configure)?;
        let direct = Postgres::start_version(&world.scratch, &world.certificates, None, "")?;
        let others = postern_tests::Scratch::new()?;
        let foreign_ca = world.scratch.path().join("foreign-ca.pem");
        std::fs::copy(Certificates::new(&others)?.ca_file(), &foreign_ca)?;
        for postgres in [&direct, &world.postgres] {
            for statement in SETTINGS.split("; ") {
                postgres.sql(statement)?;
            }
            postgres.restart()?;
            postgres.sql(&format!("create role \"{GROUP}\""))?;
            postgres.sql(&format!("create database {DATABASE}"))?;
            let grant = format!("grant all on schema public to \"{GROUP}\"");
            postgres.sql_in(DATABASE, &grant)?;
        }
        direct.set_hba(&hba())?;
        let own = "hostssl all,replication all 127.0.0.1/32 scram-sha-256";
        world.postgres.set_hba(own)?;
        world
            .postgres
            .sql(&format!("select postern.adopt_group('{GROUP}')"))?;
        Ok(Self {
            world,
            direct,
            foreign_ca,
            played: Mutex::default(),
        })
    }

    /// The server at the end of a route.
    pub(crate) fn postgres(&self, route: Route) -> &Postgres {
        match route {
            Route::Direct => &self.direct,
            Route::Through => &self.world.postgres,
        }
    }

    /// Somebody who is known on both routes by the same name and password: to the one server as a
    /// role, to Postern as a person of the directory.
    pub(crate) fn person(&self, login: &str) -> Result<Someone> {
        let person = self.world.person(login, &[GROUP])?;
        self.direct.sql(&format!(
            "create role \"{login}\" login password '{}' in role \"{GROUP}\"",
            person.password
        ))?;
        Ok(person)
    }

    /// Somebody who is a superuser on both routes.
    ///
    /// Postern lets no superuser in whom it has to ask the database about, so the person logs in
    /// once, is then made one by hand, and is remembered for as long as the suites take.
    pub(crate) fn superuser(&self, login: &str) -> Result<Someone> {
        let person = self.person(login)?;
        self.psql(Route::Through, &person).query("select 1")?;
        for route in ROUTES {
            let postgres = self.postgres(route);
            postgres.sql(&format!("alter role \"{login}\" superuser"))?;
        }
        self.psql(Route::Through, &person)
            .query("select 1")
            .context("the person who was made a superuser is not let in")?;
        Ok(person)
    }

    /// Somebody whom [`Site::person`] has made before.
    pub(crate) fn known(&self, login: &str) -> Someone {
        Someone {
            login: login.to_owned(),
            password: format!("Secret-{login}-42"),
        }
    }

    /// psql of somebody, verified in full.
    pub(crate) fn psql(&self, route: Route, person: &Someone) -> Psql {
        let (login, password) = (&person.login, &person.password);
        let psql = match route {
            Route::Direct => self.direct.psql(login, password),
            Route::Through => self.world.postern.psql(login, password),
        };
        psql.database(DATABASE)
    }

    /// The port where there need be no TLS, for those who can log in there.
    pub(crate) fn plain_port(&self, route: Route) -> u16 {
        match route {
            Route::Direct => self.direct.port(),
            Route::Through => self.world.plain.port(),
        }
    }

    /// Notes that a driver's card was played, and came to the same on both routes.
    pub(crate) fn has_played(&self, driver: &Driver) {
        let mut played = self.played.lock().unwrap_or_else(PoisonError::into_inner);
        played.insert(driver.name, driver.language);
    }

    /// Every driver of which [`Site::has_played`] knows, and its language.
    pub(crate) fn played(&self) -> BTreeMap<&'static str, &'static str> {
        let played = self.played.lock().unwrap_or_else(PoisonError::into_inner);
        played.clone()
    }

    /// Adds the ends of the logs to why a claim does not hold.
    pub(crate) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        self.world.explain(error)
    }
}

/// Who gets in directly: everybody with TLS, and some who know none, and of these some no SCRAM.
fn hba() -> String {
    let mut lines = "hostssl all,replication all 127.0.0.1/32 scram-sha-256\n\
                     hostnossl all boaster,quitter,rustacean 127.0.0.1/32 password\n"
        .to_owned();
    for (login, method) in RUST_LOGINS {
        lines += &format!("hostnossl all {login} 127.0.0.1/32 {method}\n");
    }
    lines
}

fn configure(config: &mut ConfigFile) {
    config
        // A suite's wrong passwords are no attack, and its people are remembered to its end.
        .set("lockout", "tries_per_person_max", 0)
        .set("lockout", "tries_per_address_max", 0)
        .set("cache", "dead_s", 3600)
        .set("cache", "recheck_s", 3600)
        .set("cache", "stale_s", 3600);
}

/// What was made ready for all suites; `None` when a sample is asked for.
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from)
}

/// Why nothing of this can run here, if so.
pub(crate) fn missing() -> Option<String> {
    World::missing().or_else(|| {
        let psql = needs::postgres_client("psql").is_none();
        psql.then(|| "psql is not installed".to_owned())
    })
}
