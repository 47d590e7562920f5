//! The servers of the demonstration.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Instant;

use anyhow::Result;
use postern_tests::wait::accepts;
use postern_tests::{
    Certificates, DirectoryServer, Local, OpenLdap, Postern, Postgres, Psql, Samba, Scratch, cast,
    free_port,
};

use super::Kind;

/// The port of the product's documentation.
const USUAL_PORT: u16 = 5050;

/// For how long a directory's answer is believed here, in seconds: short, so that a change shows
/// while one watches, and long enough to show that the second login comes from memory.
pub(super) const RECHECK_S: u16 = 5;
/// For how long a refusal is remembered here, in seconds.
const NEGATIVE_S: u16 = 2;

/// Everything that runs. The fields end in this order: Postern first, the folder last.
pub(super) struct Stage {
    pub(super) postern: Postern,
    pub(super) directory: Box<dyn DirectoryServer>,
    pub(super) postgres: Postgres,
    _scratch: Scratch,
}

impl Stage {
    /// Starts the servers and says so; the people, the databases and the group roles are there
    /// afterwards, and nobody has logged in yet.
    ///
    /// # Errors
    /// If one does not start; the others are ended then.
    pub(super) fn start(kind: Kind) -> Result<Self> {
        let scratch = Scratch::new()?;
        eprintln!("Everything is in {}", scratch.path().display());
        let certificates = Certificates::new(&scratch)?;
        let postgres = step("PostgreSQL", || Postgres::start(&scratch, &certificates))?;
        cast::make_databases(&postgres)?;
        let directory: Box<dyn DirectoryServer> = match kind {
            Kind::Openldap => step("OpenLDAP", || {
                Ok(Box::new(OpenLdap::start(&scratch, &certificates)?))
            })?,
            Kind::Samba => step("Samba AD", || {
                Ok(Box::new(Samba::start(&scratch, &certificates)?))
            })?,
            Kind::Local => Box::new(Local::start(&scratch)?),
        };
        step("people and groups", || cast::populate(directory.as_ref()))?;
        let port = port()?;
        let postern = Postern::prepare(&scratch, &certificates, &postgres, port)?;
        postern.configure(|config| {
            directory.configure(config);
            config.set("listen", "addresses", addresses(port));
            config.set("cache", "recheck_s", RECHECK_S);
            config.set("cache", "negative_s", NEGATIVE_S);
        });
        step("the postern schema", || postern.install_schema(&postgres))?;
        step(&format!("Postern on port {port}"), || postern.start_again())?;
        Ok(Self {
            postern,
            directory,
            postgres,
            _scratch: scratch,
        })
    }

    /// psql through Postern in the database of the person's group.
    pub(super) fn psql(&self, person: cast::Person) -> Psql {
        let database = match person.login {
            "nina" => cast::FINANCE_DATABASE,
            _ => cast::HR_DATABASE,
        };
        self.postern
            .psql(person.login, person.password)
            .database(database)
    }

    /// A whole command line for a person.
    pub(super) fn line_to_paste(&self) -> String {
        let psql = self.psql(cast::TESTUSER);
        format!(
            "PGPASSWORD={} psql \"host=localhost port={} user={} dbname={} sslmode=verify-full \
             sslrootcert={}\"",
            cast::TESTUSER.password,
            psql.port,
            psql.user,
            psql.database,
            self.postern.ca_file().display()
        )
    }

    /// Whether Postern and PostgreSQL still accept connections.
    pub(super) fn all_run(&self) -> Result<bool> {
        Ok(self.postern.is_running()? && self.postgres.is_running()?)
    }

    /// Prints the end of Postern's log, for a step that failed.
    pub(super) fn show_logs(&self) {
        let log = fs::read(self.postern.log_file()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<&str> = log.lines().collect();
        println!("\nThe end of Postern's log:");
        for line in lines.iter().skip(lines.len().saturating_sub(30)) {
            println!("    {line}");
        }
    }

    /// The lines that `--detach` prints, for a shell.
    pub(super) fn exports(&self) -> String {
        let mut lines = String::new();
        let psql = self.psql(cast::TESTUSER);
        let mut export = |name: &str, value: &str| {
            // None of the values holds a quote.
            lines.push_str(&format!("export {name}='{value}'\n"));
        };
        for (name, value) in psql.environment() {
            export(name, &value);
        }
        for person in [cast::TESTUSER, cast::NINA, cast::NOAH] {
            let name = person.login.to_uppercase();
            export(&format!("POSTERN_DEMO_{name}_PASSWORD"), person.password);
        }
        export("POSTERN_DEMO_DIRECTORY", self.directory.name());
        export("POSTERN_DEMO_BACKEND_HOST", "localhost");
        export(
            "POSTERN_DEMO_BACKEND_PORT",
            &self.postgres.port().to_string(),
        );
        let socket = self.postgres.socket_folder().display().to_string();
        export("POSTERN_DEMO_BACKEND_SOCKET_FOLDER", &socket);
        export(
            "POSTERN_DEMO_BACKEND_SUPERUSER",
            postern_tests::postgres::SUPERUSER,
        );
        for (name, path) in [
            ("CONFIG", self.postern.config_file()),
            ("LOG", self.postern.log_file()),
            ("AUDIT", self.postern.audit_file()),
        ] {
            export(&format!("POSTERN_DEMO_{name}"), &path.display().to_string());
        }
        lines
    }
}

/// The usual port, or a free one, said aloud.
fn port() -> Result<u16> {
    if !accepts("127.0.0.1", USUAL_PORT) {
        return Ok(USUAL_PORT);
    }
    let port = free_port()?;
    eprintln!("Port {USUAL_PORT} is taken; taking {port}.");
    Ok(port)
}

/// Every address that `localhost` may mean here. psql tries ::1 first where the machine has it, and
/// would begin each error message with the refusal of a connection there.
fn addresses(port: u16) -> Vec<String> {
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let mut addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string()];
    if TcpListener::bind(v6).is_ok() {
        addresses.push(v6.to_string());
    }
    addresses
}

/// Does something that takes a while and says how long it took.
fn step<T>(what: &str, action: impl FnOnce() -> Result<T>) -> Result<T> {
    eprint!("Starting {what} ... ");
    let start = Instant::now();
    let outcome = action();
    let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
    eprintln!("{verdict} ({:.1} s)", start.elapsed().as_secs_f64());
    outcome
}
