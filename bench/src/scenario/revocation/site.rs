//! A directory, a database of its own, and Postern between them.

use anyhow::Result;
use postern_tests::process::run_any;
use postern_tests::{
    Certificates, DirectoryServer, Member, OpenLdap, Postern, Postgres, Samba, Scratch, free_port,
    openldap, samba,
};

use super::administrator::{By, Place};
use super::{Server, Way};
use crate::load::door::{Door, Tickets};
use crate::route::{Encryption, Login, Route};
use crate::stage::{GROUP, SETTINGS, Stage};

/// Live sessions of the person who loses access.
pub(super) const SESSIONS: usize = 100;
/// Live sessions of the person who keeps it.
pub(super) const OTHERS: usize = 10;

/// Who loses access. The role has the same name.
pub(super) const LEAVER: &str = "leaver";
const STAYER: &str = "stayer";
/// Who has sessions with the database itself.
pub(super) const IDLER: &str = "idler";
/// Who looks at the backends, and may end them.
const LOOKER: &str = "looker";
/// Everybody's, long and mixed enough for Active Directory's default policy.
const PASSWORD: &str = "Bench-1618-leave";
const DATABASE: &str = "postgres";
/// What stands where Postern does not say how it hears of changes.
const NOT_KNOWN: &str = "not known";

/// The servers; a database of its own, because others would hear of its changes through it.
pub(super) struct Site {
    // Ended in this order: Postern has connections to both others.
    pub(super) postern: Postern,
    _directory: Box<dyn DirectoryServer>,
    _postgres: Postgres,
    /// Where the directory is changed.
    pub(super) place: Place,
    pub(super) leaver: Door,
    pub(super) stayer: Door,
    /// To PostgreSQL itself, as this one too.
    pub(super) idler: Door,
    pub(super) looker: Door,
}

impl Site {
    pub(super) fn start(stage: &Stage, route: &Route, way: &Way) -> Result<Self> {
        let (scratch, certificates) = (stage.scratch(), stage.certificates());
        let postgres = Postgres::start_version(scratch, certificates, None, SETTINGS)?;
        postgres.set_hba("host all all 127.0.0.1/32 scram-sha-256")?;
        let (directory, place) = start_directory(way, scratch, certificates)?;
        directory.add_group(GROUP)?;
        for person in [LEAVER, STAYER] {
            directory.add_person(person, PASSWORD)?;
            directory.add_member(GROUP, Member::Person(person))?;
        }
        let postern = Postern::prepare(scratch, certificates, &postgres, free_port()?)?;
        postern.configure(|config| {
            directory.configure(config);
            config
                .set("listen", "tls", "allow-plaintext")
                .set("backend", "sslmode", "disable")
                .unset("backend", "tls_ca_file")
                // Logins beside must not ask the directory before it has told.
                .set("cache", "recheck_s", 3_600)
                .set("cache", "dead_s", 7_200);
            if let Some(interval_s) = way.poll_s {
                config.set("directory", "feed", "poll").set(
                    "directory",
                    "poll_interval_s",
                    interval_s,
                );
            }
        });
        postern.install_schema(&postgres)?;
        postgres.sql(&format!(
            "create role \"{GROUP}\"; select postern.adopt_group('{GROUP}'); \
             create role {IDLER} login password '{PASSWORD}'; \
             create role {LOOKER} login password '{PASSWORD}' in role pg_signal_backend; \
             alter role {} reset log_statement",
            postern_tests::postern::PROVISIONER
        ))?;
        postern.start_again()?;
        let door = |port, user: &str| {
            let route = Route {
                port,
                login: Login {
                    user: user.to_owned(),
                    password: Some(PASSWORD.to_owned()),
                    database: DATABASE.to_owned(),
                },
                ..route.clone()
            };
            Door::new(&route, Encryption::Plain, Tickets::Forgotten)
        };
        Ok(Self {
            leaver: door(postern.port(), LEAVER)?,
            stayer: door(postern.port(), STAYER)?,
            idler: door(postgres.port(), IDLER)?,
            looker: door(postgres.port(), LOOKER)?,
            postern,
            _directory: directory,
            _postgres: postgres,
            place,
        })
    }

    /// How Postern hears of changes, in its own words.
    pub(super) fn source(&self) -> Result<String> {
        let health = run_any(&mut self.postern.command(&["health"])?)?;
        let health = String::from_utf8_lossy(&health.stdout).into_owned();
        let mut lines = health.lines();
        let line = lines.find(|it| it.contains("changes of access"));
        Ok(line.unwrap_or(NOT_KNOWN).trim().to_owned())
    }
}

fn start_directory(
    way: &Way,
    scratch: &Scratch,
    certificates: &Certificates,
) -> Result<(Box<dyn DirectoryServer>, Place)> {
    match way.server {
        Server::OpenLdap => {
            let server = OpenLdap::start(scratch, certificates)?;
            let place = Place {
                by: By::Request {
                    address: ("127.0.0.1".to_owned(), server.tls_port()),
                    login: openldap::ADMIN_DN,
                    password: openldap::ADMIN_PASSWORD,
                },
                ca_file: server.ca_file().to_owned(),
                group: OpenLdap::group_dn(GROUP),
                member: OpenLdap::person_dn(LEAVER),
            };
            Ok((Box::new(server), place))
        }
        Server::Samba => {
            let server = Samba::start(scratch, certificates)?;
            let by = match way.is_elsewhere {
                true => By::File(server.data_file()),
                false => By::Request {
                    address: (server.address().to_string(), samba::TLS_PORT),
                    login: samba::ADMIN_LOGIN,
                    password: samba::ADMIN_PASSWORD,
                },
            };
            let place = Place {
                by,
                ca_file: server.ca_file().to_owned(),
                group: Samba::dn(GROUP),
                member: Samba::dn(LEAVER),
            };
            Ok((Box::new(server), place))
        }
    }
}
