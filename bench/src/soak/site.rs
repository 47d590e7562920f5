//! PostgreSQL, OpenLDAP and Postern, and the people who use them.

use std::cell::Cell;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use postern_tests::{
    Certificates, DirectoryServer, Member, OpenLdap, Postern, Postgres, Scratch, free_port,
};

use crate::load::client::Client;
use crate::load::door::{Door, Tickets};
use crate::route::{Encryption, Kind, Login, Route};

/// The group of everybody.
pub(super) const GROUP: &str = "postern-soak";
/// The group that comes and goes.
pub(super) const OTHER_GROUP: &str = "postern-soak-more";
/// Who loses [`OTHER_GROUP`] now and then.
pub(super) const CHANGER: &str = "soak_changer";
/// Who logs in all the time.
pub(super) const WARM: &str = "soak_warm";
/// Who has the sessions that stay.
pub(super) const STAYER: &str = "soak_stayer";
/// Who is in turn asked about. At one login in two seconds each comes back after 80, when an
/// answer of the directory has been too old for 20 (`cache.recheck_s`).
const COLD_PEOPLE: usize = 40;
/// Everybody's.
pub(super) const PASSWORD: &str = "Bench-1414-soak";
/// Where all of it happens.
pub(super) const DATABASE: &str = "postgres";

/// PostgreSQL looks after itself here, as it would in use.
const SETTINGS: &str = "max_connections = 200\njit = off\nlog_checkpoints = off\n";

/// The servers, which threads of their own may stop and start.
pub(super) struct Servers {
    // Ended in this order: Postern has connections to both others.
    pub(super) postern: Postern,
    pub(super) directory: OpenLdap,
    pub(super) postgres: Postgres,
    pub(super) metrics_port: u16,
    _scratch: Scratch,
}

/// The servers and every door to them.
pub(super) struct Site {
    servers: Arc<Servers>,
    pid: u32,
    warm: Door,
    cold: Vec<Door>,
    turn: Cell<usize>,
}

impl Site {
    pub(super) fn start() -> Result<Self> {
        let scratch = Scratch::new()?;
        let certificates = Certificates::new(&scratch)?;
        let postgres = Postgres::start_version(&scratch, &certificates, None, SETTINGS)?;
        postgres.set_hba("hostssl all all 127.0.0.1/32 scram-sha-256")?;
        let directory = OpenLdap::start(&scratch, &certificates)?;
        let people = populate(&directory)?;
        let metrics_port = free_port()?;
        let postern = Postern::prepare(&scratch, &certificates, &postgres, free_port()?)?;
        postern.configure(|config| {
            directory.configure(config);
            config.set("listen", "tls", "allow-plaintext").set(
                "metrics",
                "listen",
                format!("127.0.0.1:{metrics_port}"),
            );
        });
        postern.install_schema(&postgres)?;
        postgres.sql(&format!(
            "create role \"{GROUP}\"; select postern.adopt_group('{GROUP}'); \
             alter role {} reset log_statement; create table intake (line text); \
             grant insert, truncate on intake to \"{GROUP}\"",
            postern_tests::postern::PROVISIONER
        ))?;
        postern.start_again()?;
        let pid = postern.pid()?;
        let servers = Servers {
            postern,
            directory,
            postgres,
            metrics_port,
            _scratch: scratch,
        };
        let cold: Result<Vec<Door>> = people.iter().map(|it| servers.door(it)).collect();
        Ok(Self {
            warm: servers.door(WARM)?,
            cold: cold?,
            turn: Cell::new(0),
            pid,
            servers: Arc::new(servers),
        })
    }

    /// Runs what blocks, on a thread of its own.
    pub(super) async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Servers) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let servers = Arc::clone(&self.servers);
        let done = tokio::task::spawn_blocking(move || work(&servers)).await;
        done.context("a thread beside the load")?
    }

    /// Logs in, asks something and leaves.
    pub(super) async fn log_in(&self, door: &Door) -> Result<()> {
        let mut client = Client::log_in(door).await?;
        let answer = client.query("select 1").await?;
        ensure!(answer.rows == 1, "{} rows, and not one", answer.rows);
        client.leave().await
    }

    /// The way in of somebody who logs in all the time.
    pub(super) const fn warm(&self) -> &Door {
        &self.warm
    }

    /// The way in of somebody whose last login is long ago.
    pub(super) fn next_cold(&self) -> Door {
        let turn = self.turn.get();
        self.turn.set(turn + 1);
        let door = self.cold.get(turn % self.cold.len().max(1));
        door.unwrap_or(&self.warm).clone()
    }

    /// The way in of somebody.
    pub(super) fn door(&self, person: &str) -> Result<Door> {
        self.servers.door(person)
    }

    pub(super) fn postgres(&self) -> &Postgres {
        &self.servers.postgres
    }

    pub(super) fn metrics_port(&self) -> u16 {
        self.servers.metrics_port
    }

    /// The process that is looked at.
    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }
}

impl Servers {
    /// Has PostgreSQL end every session that came through Postern.
    pub(super) fn end_sessions(&self) -> Result<()> {
        self.postgres.sql(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity \
             where usename like 'soak\\_%'",
        )?;
        Ok(())
    }

    fn door(&self, person: &str) -> Result<Door> {
        let route = Route {
            name: "postern".to_owned(),
            kind: Kind::Postern,
            host: "localhost".to_owned(),
            port: self.postern.port(),
            login: Login {
                user: person.to_owned(),
                password: Some(PASSWORD.to_owned()),
                database: DATABASE.to_owned(),
            },
            ca_file: Some(self.postern.ca_file().to_owned()),
            pids: Vec::new(),
            version: String::new(),
            configuration: String::new(),
        };
        Door::new(&route, Encryption::Tls, Tickets::Forgotten)
    }
}

/// Adds everybody, and names those who are asked about in turn.
fn populate(directory: &OpenLdap) -> Result<Vec<String>> {
    let cold: Vec<String> = (0..COLD_PEOPLE).map(|it| format!("soak_{it}")).collect();
    for group in [GROUP, OTHER_GROUP] {
        directory.add_group(group)?;
    }
    let known = [WARM, STAYER, CHANGER].into_iter();
    for person in known.chain(cold.iter().map(String::as_str)) {
        directory.add_person(person, PASSWORD)?;
        directory.add_member(GROUP, Member::Person(person))?;
    }
    Ok(cold)
}
