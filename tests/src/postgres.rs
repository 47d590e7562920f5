//! A private PostgreSQL with TLS.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::account::Account;
use crate::certificates::{Certificates, ServerCertificate};
use crate::needs::{self, PostgresVersion};
use crate::network::Namespace;
use crate::network::namespace::inside;
use crate::process::{Server, run};
use crate::psql::Psql;
use crate::scratch::Scratch;
use crate::template;
use crate::wait::free_port;

/// How long a start may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The superuser, who gets in without a password over the socket in the scratch folder only.
pub const SUPERUSER: &str = "postgres";

/// Settings for tests: nothing needs to survive a power cut.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
password_encryption = 'scram-sha-256'
ssl = on
max_connections = 400
fsync = off
synchronous_commit = off
full_page_writes = off
track_functions = all
logging_collector = off
log_connections = on
log_disconnections = on
log_line_prefix = '%m [%p] %q%u@%d '
";

/// Who gets in: everybody by SCRAM over TLS, and the superuser over the private socket.
const HBA: &str = "
local   all postgres              trust
local   all all                   scram-sha-256
local   replication postgres      trust
hostssl all all      127.0.0.1/32 scram-sha-256
";

/// What a server finds where it runs.
#[derive(Debug, Clone, Copy, Default)]
struct Place<'a> {
    /// More environment variables.
    environment: &'a [(&'a str, &'a str)],
    /// A network namespace other than ours.
    namespace: Option<&'a Path>,
}

/// A running (or stopped) PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    version: PostgresVersion,
    account: Account,
    folder: PathBuf,
    port: u16,
    ca_file: PathBuf,
    certificate: ServerCertificate,
    environment: Vec<(String, String)>,
    namespace: Option<PathBuf>,
    server: Mutex<Option<Server>>,
}

impl Postgres {
    /// Starts the newest PostgreSQL that is installed.
    ///
    /// # Errors
    /// If none is installed or it does not start; the message quotes its log.
    pub fn start(scratch: &Scratch, certificates: &Certificates) -> Result<Self> {
        Self::start_version(scratch, certificates, None, "")
    }

    /// Starts one major version, with more settings in the form of `postgresql.conf`.
    ///
    /// # Errors
    /// If it is not installed or does not start; the message quotes its log.
    pub fn start_version(
        scratch: &Scratch,
        certificates: &Certificates,
        major: Option<u32>,
        settings: &str,
    ) -> Result<Self> {
        Self::start_in(scratch, certificates, major, settings, &[])
    }

    /// As [`Postgres::start_version`], with more environment variables for the server.
    ///
    /// # Errors
    /// As that.
    pub fn start_in(
        scratch: &Scratch,
        certificates: &Certificates,
        major: Option<u32>,
        settings: &str,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let version = needs::postgres(major).context("this PostgreSQL is not installed")?;
        let place = Place {
            environment,
            ..Place::default()
        };
        Self::launch(
            scratch,
            certificates,
            (version, free_port()?),
            settings,
            place,
        )
    }

    /// Starts the newest PostgreSQL that is installed in a network namespace, on port 5432 of
    /// all its addresses. Whoever reaches it is in as the superuser, without a password.
    ///
    /// # Errors
    /// As [`Postgres::start_version`].
    pub fn start_inside(
        scratch: &Scratch,
        certificates: &Certificates,
        namespace: &Namespace,
    ) -> Result<Self> {
        let version = needs::postgres(None).context("PostgreSQL is not installed")?;
        let file = namespace.file();
        let place = Place {
            namespace: Some(&file),
            ..Place::default()
        };
        let settings = "listen_addresses = '*'\n";
        let started = Self::launch(scratch, certificates, (version, 5432), settings, place)?;
        started.set_hba(&format!(
            "host all {SUPERUSER} all trust\nhostssl all all all scram-sha-256"
        ))?;
        Ok(started)
    }

    /// Starts the newest PostgreSQL that is installed on a port that the caller has chosen.
    ///
    /// # Errors
    /// As [`Postgres::start_version`].
    pub fn start_on(
        scratch: &Scratch,
        certificates: &Certificates,
        port: u16,
        settings: &str,
    ) -> Result<Self> {
        let version = needs::postgres(None).context("PostgreSQL is not installed")?;
        let place = Place::default();
        Self::launch(scratch, certificates, (version, port), settings, place)
    }

    /// Starts the PostgreSQL of a folder that the caller has found.
    ///
    /// # Errors
    /// As [`Postgres::start_version`].
    pub fn start_found(
        scratch: &Scratch,
        certificates: &Certificates,
        version: PostgresVersion,
    ) -> Result<Self> {
        let found = (version, free_port()?);
        Self::launch(scratch, certificates, found, "", Place::default())
    }

    fn launch(
        scratch: &Scratch,
        certificates: &Certificates,
        (version, port): (PostgresVersion, u16),
        settings: &str,
        place: Place<'_>,
    ) -> Result<Self> {
        let postgres = Self::place(scratch, certificates, (version, port), place)?;
        postgres.make_data_folder()?;
        fs::write(postgres.data().join("pg_hba.conf"), HBA)?;
        postgres.write_settings(settings)?;
        postgres.start_again()?;
        Ok(postgres)
    }

    /// Starts a standby that follows this server, on a port of its own.
    ///
    /// # Errors
    /// If the data cannot be copied, or it does not start; the message quotes its log.
    pub fn start_standby(&self, scratch: &Scratch, certificates: &Certificates) -> Result<Self> {
        let which = (self.version.clone(), free_port()?);
        let standby = Self::place(scratch, certificates, which, Place::default())?;
        let tool = self.version.bin.join("pg_basebackup");
        let mut command = self.account.command(&tool, "KILL");
        command.args(["--username", SUPERUSER, "--checkpoint=fast", "--no-sync"]);
        command.args(["--write-recovery-conf", "--host"]);
        command.arg(&self.folder).arg("--port");
        command.arg(self.port.to_string());
        run(command.arg("--pgdata").arg(standby.data()))?;
        standby.write_settings("")?;
        standby.start_again()?;
        Ok(standby)
    }

    /// Lets a standby change data, and restarts it on another port: that of the server whose
    /// place it takes.
    ///
    /// # Errors
    /// If it is not a standby or does not start; the message quotes its log.
    pub fn take_over(&mut self, port: u16) -> Result<()> {
        self.sql("select pg_promote()")?;
        self.stop()?;
        self.port = port;
        self.write_settings("")?;
        self.start_again()
    }

    /// A server that has a folder and a certificate, and no data yet.
    fn place(
        scratch: &Scratch,
        certificates: &Certificates,
        (version, port): (PostgresVersion, u16),
        place: Place<'_>,
    ) -> Result<Self> {
        let account = Account::unprivileged()?;
        let folder = scratch.subfolder("postgres")?;
        account.own_path(&folder)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let certificate = certificates.issue(&name, &account)?;
        Ok(Self {
            version,
            account,
            port,
            certificate,
            ca_file: certificates.ca_file(),
            server: Mutex::new(None),
            namespace: place.namespace.map(Path::to_owned),
            environment: place
                .environment
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            folder,
        })
    }

    fn write_settings(&self, settings: &str) -> Result<()> {
        let certificate = &self.certificate;
        let mut all = SETTINGS.to_owned();
        for (key, value) in [
            ("port", self.port.to_string()),
            ("unix_socket_directories", self.folder.display().to_string()),
            ("ssl_cert_file", certificate.cert_file.display().to_string()),
            ("ssl_key_file", certificate.key_file.display().to_string()),
        ] {
            all.push_str(&format!("{key} = '{value}'\n"));
        }
        fs::write(self.data().join("postgresql.conf"), all + settings)?;
        Ok(())
    }

    /// Starts a stopped server on its old data and port.
    ///
    /// # Errors
    /// If it runs already or does not start; the message quotes its log.
    pub fn start_again(&self) -> Result<()> {
        let mut slot = self.slot();
        if slot.is_some() {
            bail!("PostgreSQL runs already");
        }
        // Immediate shutdown when we die: unlike SIGKILL it removes the shared memory.
        let mut command = self
            .account
            .command(&self.version.bin.join("postgres"), "QUIT");
        command.arg("-D").arg(self.data());
        command.envs(self.environment.iter().cloned());
        if let Some(namespace) = &self.namespace {
            command = inside(namespace, &command);
        }
        let log = self.folder.join("log");
        let mut server = Server::spawn("PostgreSQL", command, &log, Signal::SIGINT)?;
        let superuser = self.superuser("postgres");
        server.wait_ready(START_LIMIT, || Ok(superuser.run("select 1")?.ok))?;
        *slot = Some(server);
        Ok(())
    }

    /// Shuts down, ending all sessions; [`Postgres::start_again`] starts it again.
    ///
    /// # Errors
    /// If it does not run or does not end.
    pub fn stop(&self) -> Result<()> {
        let server = self.slot().take();
        server.context("PostgreSQL does not run")?.stop()?;
        Ok(())
    }

    /// Stops and starts it.
    ///
    /// # Errors
    /// As those two.
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start_again()
    }

    /// Stops the postmaster where it is: connections are accepted by the kernel and then hang.
    /// Sessions that are open go on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self) -> Result<()> {
        self.with_server(Server::pause)
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self) -> Result<()> {
        self.with_server(Server::resume)
    }

    /// Runs SQL as the superuser in the database `postgres`; rows come unaligned.
    ///
    /// # Errors
    /// If the server refuses it.
    pub fn sql(&self, sql: &str) -> Result<String> {
        self.superuser(SUPERUSER).query(sql)
    }

    /// Runs SQL as the superuser in a database.
    ///
    /// # Errors
    /// If the server refuses it.
    pub fn sql_in(&self, database: &str, sql: &str) -> Result<String> {
        self.superuser(database).query(sql)
    }

    /// Whether it runs; one that has ended by itself does not.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn is_running(&self) -> Result<bool> {
        let mut slot = self.slot();
        slot.as_mut().map_or(Ok(false), Server::is_running)
    }

    /// psql as the superuser over the private socket.
    #[must_use]
    pub fn superuser(&self, database: &str) -> Psql {
        Psql {
            host: self.socket_folder().display().to_string(),
            port: self.port,
            user: SUPERUSER.to_owned(),
            password: None,
            database: database.to_owned(),
            sslmode: "disable".to_owned(),
            ca_file: None,
        }
    }

    /// psql over TCP and TLS as somebody else, directly and not through Postern.
    #[must_use]
    pub fn psql(&self, user: &str, password: &str) -> Psql {
        Psql::new(self.port, &self.ca_file, user, password)
    }

    /// Replaces `pg_hba.conf` and loads it; the superuser's line over the socket stays.
    ///
    /// # Errors
    /// If the file cannot be written or the server does not run.
    pub fn set_hba(&self, lines: &str) -> Result<()> {
        let text = format!("local all {SUPERUSER} trust\n{lines}\n");
        fs::write(self.data().join("pg_hba.conf"), text)?;
        self.reload()
    }

    /// Loads changed settings.
    ///
    /// # Errors
    /// If the server does not run.
    pub fn reload(&self) -> Result<()> {
        // A new session's settings are those of the postmaster, so when one sees a later load
        // time than before, every later connection is under the new rules too.
        let loaded = "select pg_conf_load_time()";
        let before = self.sql(loaded)?;
        self.sql("select pg_reload_conf()")?;
        crate::wait_until("the settings are loaded", START_LIMIT, || {
            Ok(self.sql(loaded)? != before)
        })
    }

    /// How many times a role has been synchronised for a login, by the log.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn syncs(&self) -> Result<u64> {
        let log = fs::read(self.log_file())?;
        let log = String::from_utf8_lossy(&log);
        let is_sync =
            |line: &&str| line.contains("LOG:  execute ") && line.contains("apply_login(");
        Ok(u64::try_from(log.lines().filter(is_sync).count())?)
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The major version.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.version.major
    }

    /// The folder with the version's programs.
    #[must_use]
    pub fn bin(&self) -> &Path {
        &self.version.bin
    }

    /// Its own certificate and key.
    #[must_use]
    pub fn certificate(&self) -> &ServerCertificate {
        &self.certificate
    }

    /// The folder with the superuser's socket.
    #[must_use]
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// The certificate authority that signs the server's certificate.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// The server's log file.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Whether the log has `text` anywhere.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn log_contains(&self, text: &str) -> Result<bool> {
        let log = fs::read(self.log_file())?;
        Ok(String::from_utf8_lossy(&log).contains(text))
    }

    /// The folder with its data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn make_data_folder(&self) -> Result<()> {
        let initdb = self.version.bin.join("initdb");
        let exact = run(std::process::Command::new(&initdb).arg("--version"))?;
        let exact = exact.split_whitespace().nth(2).unwrap_or_default();
        let owner = self.account.name()?;
        template::fill(&format!("postgres-{exact}-{owner}"), &self.data(), |data| {
            let mut command = self.account.command(&initdb, "KILL");
            command.args(["--no-sync", "--encoding=UTF8", "--locale=C"]);
            command.args(["--auth=reject", "--username", SUPERUSER, "--pgdata"]);
            run(command.arg(data))?;
            Ok(())
        })
    }

    fn slot(&self) -> MutexGuard<'_, Option<Server>> {
        // A test that panicked while it held the lock left a server or none, both whole.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_server(&self, action: impl FnOnce(&Server) -> Result<()>) -> Result<()> {
        let slot = self.slot();
        action(slot.as_ref().context("PostgreSQL does not run")?)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut server) = self.slot().take() {
            // Immediate shutdown; the data goes away with the folder. There is nobody to tell of
            // a failure, and the server's own drop tries again.
            let _ = server.stop_by(Signal::SIGQUIT);
        }
    }
}
