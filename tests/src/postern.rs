//! The program itself, with a configuration for the other servers.

use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::account::Account;
use crate::cast;
use crate::certificates::Certificates;
use crate::config_file::ConfigFile;
use crate::directory::DirectoryServer;
use crate::postgres::{Postgres, SUPERUSER};
use crate::process::{Server, run};
use crate::psql::Psql;
use crate::scratch::{Scratch, write_secret};
use crate::wait::free_port;

/// How long a start may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The role that Postern calls its procedures as; made by `postern init-sql`.
pub const PROVISIONER: &str = "postern";
/// Its password.
pub const PROVISIONER_PASSWORD: &str = "Provisioner-1234-only";

/// Another path of the program than the one that cargo built beside the tests.
const BINARY_VARIABLE: &str = "POSTERN_BIN";

/// A running (or stopped) Postern.
#[derive(Debug)]
pub struct Postern {
    folder: PathBuf,
    port: u16,
    ca_file: PathBuf,
    config: Mutex<ConfigFile>,
    server: Mutex<Option<Server>>,
}

impl Postern {
    /// Installs the schema and starts Postern before a PostgreSQL and a directory.
    ///
    /// # Errors
    /// If the schema cannot be installed or it does not start; the message quotes its log.
    pub fn start(
        scratch: &Scratch,
        certificates: &Certificates,
        postgres: &Postgres,
        directory: &dyn DirectoryServer,
    ) -> Result<Self> {
        let postern = Self::prepare(scratch, certificates, postgres, free_port()?)?;
        postern.configure(|config| directory.configure(config));
        postern.install_schema(postgres)?;
        postern.start_again()?;
        Ok(postern)
    }

    /// Makes everything that a configuration names but the directory.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn prepare(
        scratch: &Scratch,
        certificates: &Certificates,
        postgres: &Postgres,
        port: u16,
    ) -> Result<Self> {
        let folder = scratch.subfolder("postern")?;
        let postern = Self {
            ca_file: certificates.ca_file(),
            config: Mutex::default(),
            server: Mutex::new(None),
            port,
            folder,
        };
        let name = postern.folder.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let certificate = certificates.issue(&name, &Account::own())?;
        write_secret(&postern.file("cluster-key"), &random_key()?)?;
        write_secret(&postern.file("provisioner-password"), PROVISIONER_PASSWORD)?;
        let address = SocketAddr::from(([127, 0, 0, 1], port)).to_string();
        postern.configure(|config| {
            config
                .set("listen", "addresses", vec![address])
                .set("listen", "tls_cert_file", &certificate.cert_file)
                .set("listen", "tls_key_file", &certificate.key_file)
                .set("role_store", "host", "localhost")
                .set("role_store", "port", postgres.port())
                .set("role_store", "tls_ca_file", postgres.ca_file())
                .set("role_store", "database", "postgres")
                .set("role_store", "user", PROVISIONER)
                .set(
                    "role_store",
                    "password_file",
                    &postern.file("provisioner-password"),
                )
                .begin("backend")
                .set("backend", "host", "localhost")
                .set("backend", "port", postgres.port())
                .set("backend", "tls_ca_file", postgres.ca_file())
                .begin("group_rule")
                .set("group_rule", "prefix", cast::GROUP_PREFIX)
                .set(
                    "credential",
                    "cluster_key_file",
                    &postern.file("cluster-key"),
                )
                .set("audit", "file", &postern.audit_file())
                .set("control", "socket", &postern.file("control.sock"));
        });
        Ok(postern)
    }

    /// Changes the configuration; it is read at the next start.
    pub fn configure(&self, change: impl FnOnce(&mut ConfigFile)) {
        change(&mut lock(&self.config));
    }

    /// Changes the configuration and its file, of which a running process hears at its next reload.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn rewrite(&self, change: impl FnOnce(&mut ConfigFile)) -> Result<()> {
        self.configure(change);
        self.write_config()
    }

    /// Stops it where it is, until [`Postern::resume`].
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self) -> Result<()> {
        let slot = lock(&self.server);
        slot.as_ref().context("Postern does not run")?.pause()
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self) -> Result<()> {
        let slot = lock(&self.server);
        slot.as_ref().context("Postern does not run")?.resume()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let slot = lock(&self.server);
        slot.as_ref()
            .context("Postern does not run")?
            .signal(signal)
    }

    /// Installs or upgrades the SQL in PostgreSQL, as its superuser, and has PostgreSQL log what
    /// the provisioner asks, so that [`Postgres::syncs`] counts it.
    ///
    /// # Errors
    /// If the program refuses; the message has what it said.
    pub fn install_schema(&self, postgres: &Postgres) -> Result<String> {
        self.write_config()?;
        let mut command = self.command(&["init-sql"])?;
        command.args(["--admin-user", SUPERUSER]);
        command.arg("--admin-host").arg(postgres.socket_folder());
        let said = run(command.args(["--admin-port", &postgres.port().to_string()]))?;
        postgres.sql(&format!(
            "alter role {PROVISIONER} set log_statement = 'all'"
        ))?;
        Ok(said)
    }

    /// Writes the configuration and starts a prepared or stopped Postern.
    ///
    /// # Errors
    /// If it runs already or does not start; the message quotes its log.
    pub fn start_again(&self) -> Result<()> {
        self.start_with(|_| Ok(()))
    }

    /// As [`Postern::start_again`], with another environment or other descriptors, as a service
    /// manager gives them.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(&self, change: impl FnOnce(&mut Command) -> Result<()>) -> Result<()> {
        self.start_program(&binary()?, change)
    }

    /// As [`Postern::start_again`], from another path than the program's.
    ///
    /// # Errors
    /// As there.
    pub fn start_as(&self, program: &Path) -> Result<()> {
        self.start_program(program, |_| Ok(()))
    }

    fn start_program(
        &self,
        program: &Path,
        change: impl FnOnce(&mut Command) -> Result<()>,
    ) -> Result<()> {
        let mut slot = lock(&self.server);
        if slot.is_some() {
            bail!("Postern runs already");
        }
        self.write_config()?;
        let mut command = Account::own().command(program, "KILL");
        command.args(["run", "--config"]).arg(self.config_file());
        change(&mut command)?;
        let mut server = Server::spawn("Postern", command, &self.log_file(), Signal::SIGTERM)?;
        let port = self.port;
        server.wait_ready(START_LIMIT, || Ok(crate::wait::accepts("127.0.0.1", port)))?;
        *slot = Some(server);
        Ok(())
    }

    /// Ends it as a service manager does and returns how it ended.
    ///
    /// # Errors
    /// If it does not run or does not end.
    pub fn stop(&self) -> Result<std::process::ExitStatus> {
        let server = lock(&self.server).take();
        server.context("Postern does not run")?.stop()
    }

    /// Ends it by SIGKILL.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&self) -> Result<()> {
        let server = lock(&self.server).take();
        server.context("Postern does not run")?.kill()
    }

    /// Waits until it hears, since its last start, what other proxies tell by the role store.
    ///
    /// # Errors
    /// If that does not come.
    pub fn wait_until_listening(&self) -> Result<()> {
        crate::wait_until("it hears of other proxies", START_LIMIT, || {
            let log = self.log()?;
            let since = log.rsplit(": listening ").next().unwrap_or_default();
            Ok(since.contains("listening has begun"))
        })
    }

    /// Stops it and starts it with the configuration as changed.
    ///
    /// # Errors
    /// As those two.
    pub fn restart_with(&self, change: impl FnOnce(&mut ConfigFile)) -> Result<()> {
        self.stop()?;
        self.configure(change);
        self.start_again()
    }

    /// A command of the program with `--config`: `["explain-login", "nina"]`.
    ///
    /// # Errors
    /// If the program is not built.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command
            .args(arguments)
            .arg("--config")
            .arg(self.config_file());
        Ok(command)
    }

    /// psql through Postern.
    #[must_use]
    pub fn psql(&self, user: &str, password: &str) -> Psql {
        Psql::new(self.port, &self.ca_file, user, password)
    }

    /// Whether it runs; one that has ended by itself does not.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn is_running(&self) -> Result<bool> {
        let mut slot = lock(&self.server);
        slot.as_mut().map_or(Ok(false), Server::is_running)
    }

    /// Its process id.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pid(&self) -> Result<u32> {
        let slot = lock(&self.server);
        Ok(slot.as_ref().context("Postern does not run")?.pid())
    }

    /// The port that it listens on, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate authority that signs its certificate.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// Its configuration.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.file("postern.toml")
    }

    /// Its log.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.file("log")
    }

    /// Its audit file.
    #[must_use]
    pub fn audit_file(&self) -> PathBuf {
        self.file("audit.jsonl")
    }

    /// The files in which processes have put their last records that another one took over from.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn drained_audit_files(&self) -> Result<Vec<PathBuf>> {
        let start = format!("{}.draining-", self.audit_file().display());
        let files = fs::read_dir(&self.folder)?.map(|it| Ok(it?.path()));
        let files: Vec<PathBuf> = files.collect::<Result<_>>()?;
        let is_one = |it: &PathBuf| it.to_string_lossy().starts_with(&start);
        Ok(files.into_iter().filter(is_one).collect())
    }

    /// The files of its audit log in their order: those that were closed, and the one of now.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn audit_files(&self) -> Result<Vec<PathBuf>> {
        let start = format!("{}.0", self.audit_file().display());
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            files.push(entry?.path());
        }
        files.retain(|it| it.to_string_lossy().starts_with(&start));
        files.sort();
        files.push(self.audit_file());
        Ok(files)
    }

    /// The audit records so far; a line that is being written is left out.
    ///
    /// # Errors
    /// If a file cannot be read or a line is no JSON.
    pub fn audit(&self) -> Result<Vec<serde_json::Value>> {
        let files = self.audit_files()?;
        let records: Result<Vec<_>> = files.iter().map(|it| records_of(it)).collect();
        Ok(records?.concat())
    }

    /// The log so far, over all starts.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.log_file())?).into_owned())
    }

    /// Whether the log has `text` anywhere.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn log_contains(&self, text: &str) -> Result<bool> {
        Ok(self.log()?.contains(text))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write_config(&self) -> Result<()> {
        fs::write(self.config_file(), lock(&self.config).to_string())?;
        Ok(())
    }
}

/// The program that the tests run: `POSTERN_BIN`, or what cargo built beside them.
///
/// # Errors
/// If it is not built.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(BINARY_VARIABLE) {
        return Ok(PathBuf::from(path));
    }
    let ours = std::env::current_exe()?;
    let candidates = ours
        .ancestors()
        .skip(1)
        .take(2)
        .map(|it| it.join("postern"));
    let mut built = candidates.filter(|it| it.is_file());
    built
        .next()
        .context("the program is not built: cargo build --package postern")
}

/// The records of an audit file; a line that is being written is left out.
///
/// # Errors
/// If the file cannot be read or a line is no JSON.
pub fn records_of(file: &Path) -> Result<Vec<serde_json::Value>> {
    let text = fs::read_to_string(file)?;
    let whole = text.split_inclusive('\n').filter(|it| it.ends_with('\n'));
    let records = whole.map(|it| serde_json::from_str(it).context("the audit file"));
    records.collect()
}

/// 32 random bytes in hexadecimal.
fn random_key() -> Result<String> {
    let mut bytes = [0_u8; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|it| format!("{it:02x}")).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked while it held the lock left the value whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
