//! What each command of the command line does.

mod access;
mod orders;
mod policy;

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use postern_core::credential::{ClusterKey, SCRAM_ITERATIONS};
use postern_core::scram::Verifier;
use postern_core::secret::Secret;

use crate::audit::Verified;
use crate::cli::{AuditCommand, Command, ConfigCommand, LocalCommand};
use crate::cluster::Peers;
use crate::config::{self, Cluster, Config, ConfigErrors, Control, Credential};
use crate::control::{self, Question, SessionAnswer};
use crate::directory::{Directories, local};
use crate::limits::PASSWORD_INPUT_BYTES_MAX;
use crate::role_store::RoleStore;
use crate::sync::Synchronizer;
use crate::upkeep::Upkeep;
use crate::{audit, check, explain, logging, manual, random, run};

/// The exit code of a command that could not start for want of a usable configuration
/// (`EX_CONFIG` of sysexits.h).
const EX_CONFIG: u8 = 78;

/// Executes one command and returns its exit code.
///
/// # Errors
///
/// What went wrong, in words for the person at the terminal.
pub(crate) fn execute(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run(file) => match read_config(&file.path) {
            Ok(config) => serve(config, file.path),
            Err(code) => Ok(code),
        },
        Command::Check { config, json } => {
            let runtime = runtime()?;
            Ok(check::run(
                &config.path,
                check::Format::of(json),
                |config| runtime.block_on(probe_remote(config)),
            ))
        }
        Command::Reload(file) => access::keep_up(&file.path, Upkeep::Reload),
        Command::Upgrade(file) => access::keep_up(&file.path, Upkeep::Upgrade),
        Command::LogLevel { directives, config } => {
            access::tell(&config.path, &Question::LogLevels { directives })
        }
        Command::InitSql(command) => access::init_sql(&command),
        Command::Adopt(command) => access::adopt(&command),
        Command::ExplainLogin {
            name,
            database,
            config,
            json,
        } => match read_config(&config.path) {
            Ok(config) => explain_login(&config, &name, database.as_deref(), json),
            Err(code) => Ok(code),
        },
        Command::Config(wanted) => Ok(configuration(&wanted)),
        Command::Health { config, json } => match read_control(&config.path) {
            Ok(control) => health(&control, json),
            Err(code) => Ok(code),
        },
        Command::Sessions { config, json } => match read_control(&config.path) {
            Ok(control) => list_sessions(&control, json),
            Err(code) => Ok(code),
        },
        Command::Show { what, config, json } => match read_control(&config.path) {
            Ok(control) => orders::show(&control, what, json),
            Err(code) => Ok(code),
        },
        command @ (Command::Revoke { .. }
        | Command::Restore { .. }
        | Command::Revoked { .. }
        | Command::Kill { .. }
        | Command::Reconcile { .. }
        | Command::Drain { .. }
        | Command::Pause(_)
        | Command::Resume(_)
        | Command::Audit(AuditCommand::Rotate(_) | AuditCommand::Taken { .. })) => {
            orders::give(command)
        }
        Command::Local(command) => edit_local(command),
        Command::Audit(AuditCommand::Verify { files, config }) => verify(files, &config.path),
        Command::Policy(command) => policy::execute(&command),
        Command::Manual { folder } => manual::write(&folder).map(|()| ExitCode::SUCCESS),
    }
}

/// What a configuration may hold, or whether one can be used; nobody is asked.
fn configuration(wanted: &ConfigCommand) -> ExitCode {
    match wanted {
        ConfigCommand::Default => print!("{}", config::default_text()),
        ConfigCommand::Reference => print!("{}", config::markdown()),
        ConfigCommand::Check(file) => match read_config(&file.path) {
            Ok(_) => println!("{}: can be used", file.path.display()),
            Err(code) => return code,
        },
    }
    ExitCode::SUCCESS
}

/// Reads the configuration, or prints every error in it.
fn read_config(path: &Path) -> Result<Config, ExitCode> {
    Config::read(path).map_err(|errors| unusable(&errors))
}

/// Reads the way to the running process, or prints every error in that. Whoever asks it needs none
/// of its secrets.
fn read_control(path: &Path) -> Result<Control, ExitCode> {
    Control::read(path).map_err(|errors| unusable(&errors))
}

fn unusable(errors: &ConfigErrors) -> ExitCode {
    eprintln!("{errors}");
    ExitCode::from(EX_CONFIG)
}

fn serve(config: Config, config_file: PathBuf) -> Result<ExitCode> {
    let levels = logging::begin();
    forbid_core_dumps();
    run::run(config, config_file, levels)?;
    Ok(ExitCode::SUCCESS)
}

/// Passwords and keys are in memory: no core file, and no other process of the same user may look.
fn forbid_core_dumps() {
    let limited = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    let hidden = nix::sys::prctl::set_dumpable(false);
    if let Err(error) = limited.and(hidden) {
        tracing::warn!(%error, "core dumps could not be forbidden");
    }
}

/// The two legs whose conversations belong to their modules.
async fn probe_remote(config: &Config) -> Vec<check::Probe> {
    let mut probes = match Directories::new(config) {
        Ok(directories) => directories.probe().await,
        Err(error) => vec![check::Probe::failed(
            "directory",
            "configuration",
            error.to_string(),
            "",
        )],
    };
    let plan = config.perimeter.as_ref().map(|it| &it.plan);
    match RoleStore::new(config) {
        Ok(store) => probes.extend(store.probe(plan).await),
        Err(error) => {
            probes.push(check::Probe::failed(
                "role store",
                "configuration",
                error.to_string(),
                "",
            ));
        }
    }
    if let Some(cluster) = &config.cluster {
        probes.extend(probe_cluster(config, cluster).await);
    }
    probes
}

async fn probe_cluster(config: &Config, cluster: &Cluster) -> Vec<check::Probe> {
    let key = cluster_key(&config.credential);
    match key.and_then(|key| Ok(Peers::new(cluster, &key)?)) {
        Ok(peers) => peers.probe().await,
        Err(error) => {
            let why = format!("{error:#}");
            vec![check::Probe::failed("cluster", "key", why, "")]
        }
    }
}

fn explain_login(
    config: &Config,
    name: &str,
    database: Option<&str>,
    json: bool,
) -> Result<ExitCode> {
    let synchronizer = Synchronizer::new(cluster_key(&config.credential)?, config);
    let explanation =
        runtime()?.block_on(tokio::task::LocalSet::new().run_until(explain::explain(
            config,
            &synchronizer,
            name,
            database,
        )));
    match json {
        true => println!("{}", serde_json::to_string_pretty(&explanation)?),
        false => print!("{}", explanation.to_text()),
    }
    Ok(if explanation.admits() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Asks the running process.
fn ask<A: serde::de::DeserializeOwned>(control: &Control, question: &Question) -> Result<A> {
    let socket = control.place();
    control::ask(socket, question).with_context(|| {
        let socket = socket.display();
        format!("the running process cannot be asked at {socket} (control.socket)")
    })
}

fn health(control: &Control, json: bool) -> Result<ExitCode> {
    let probes: Vec<check::Probe> = ask(control, &Question::Health)?;
    if probes.is_empty() {
        bail!("the process has just started, and has not looked yet");
    }
    Ok(check::print(&probes, check::Format::of(json)))
}

fn list_sessions(control: &Control, json: bool) -> Result<ExitCode> {
    let sessions: Vec<SessionAnswer> = ask(control, &Question::Sessions)?;
    match json {
        true => println!("{}", serde_json::to_string_pretty(&sessions)?),
        false => print!("{}", control::table(&sessions)),
    }
    Ok(ExitCode::SUCCESS)
}

fn edit_local(command: LocalCommand) -> Result<ExitCode> {
    match command {
        LocalCommand::Passwd { name, file, groups } => {
            let groups = (!groups.is_empty()).then_some(groups.as_slice());
            let password = read_password()?;
            // Another verifier would be another password to whoever is just logging in.
            let is_kept =
                |it: &Verifier| it.iterations() == SCRAM_ITERATIONS && it.check(password.expose());
            let kept = local::verifier_of(&file, &name).filter(is_kept);
            let verifier = kept.unwrap_or_else(|| {
                let salt: [u8; 16] = random::bytes();
                Verifier::from_password(password.expose(), &salt, SCRAM_ITERATIONS)
            });
            local::set_password(&file, &name, groups, &verifier, &random::uuid())?;
            eprintln!("{}: the password of {name} is set", file.display());
        }
        LocalCommand::Remove { name, file } => {
            local::remove(&file, &name)?;
            eprintln!("{}: {name} is removed", file.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One line of standard input; on a terminal it is not shown while it is typed.
fn read_password() -> Result<Secret<Vec<u8>>> {
    let stdin = std::io::stdin();
    let shown = stdin.is_terminal().then(|| {
        eprint!("Password: ");
        NoEcho::start()
    });
    let mut text = String::new();
    let limit = PASSWORD_INPUT_BYTES_MAX;
    if stdin.is_terminal() {
        stdin.read_line(&mut text)?;
    } else {
        stdin.lock().take(limit).read_to_string(&mut text)?;
    }
    drop(shown);
    let text = Secret::new(text);
    let line = text.expose().lines().next().unwrap_or_default();
    if line.is_empty() || line.contains('\0') {
        bail!("the password is empty or has a NUL in it");
    }
    Ok(Secret::new(line.as_bytes().to_vec()))
}

/// Turns the terminal's echo off until it is dropped.
struct NoEcho(Option<nix::sys::termios::Termios>);

impl NoEcho {
    fn start() -> Self {
        use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
        let stdin = std::io::stdin();
        let Ok(before) = tcgetattr(&stdin) else {
            return Self(None);
        };
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        let changed = tcsetattr(&stdin, SetArg::TCSAFLUSH, &hidden);
        Self(changed.is_ok().then_some(before))
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        use nix::sys::termios::{SetArg, tcsetattr};
        if let Some(before) = &self.0 {
            eprintln!();
            // The terminal has gone when this fails, and there is no echo to restore.
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSAFLUSH, before);
        }
    }
}

/// Verifies the given files, in their order, or the configured one; for given ones only the key is
/// looked up, so that it works where there is no proxy.
fn verify(files: Vec<PathBuf>, config: &Path) -> Result<ExitCode> {
    let read = match files.is_empty() {
        false => Credential::read(config).map(|credential| (files, credential)),
        true => Config::read(config).map(|config| (vec![config.audit.file], config.credential)),
    };
    match read {
        Ok((files, credential)) => verify_audit(&files, &audit_key(&credential)?),
        Err(errors) => {
            eprintln!("{errors}");
            Ok(ExitCode::from(EX_CONFIG))
        }
    }
}

fn verify_audit(files: &[PathBuf], key: &Secret<[u8; 32]>) -> Result<ExitCode> {
    let (whole, outcome) = audit::verify_files(files, key);
    for (file, verified) in files.iter().zip(whole) {
        print_verified(file, verified);
    }
    outcome?;
    if files.len() > 1 {
        println!(
            "{} files, and no record is missing between them",
            files.len()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn print_verified(file: &Path, verified: Verified) {
    let Verified {
        summary,
        unfinished_bytes,
    } = verified;
    let (file, hash) = (file.display(), summary.last_hash);
    println!("{file}: {} records, none changed", summary.records);
    if let (Some((first, last)), Some(hash)) = (summary.seq, hash) {
        println!("numbers {first} to {last}, last hash {hash}");
    }
    if let Some(before) = summary.unchecked_before {
        println!("it goes on from {before}, which was not given and not checked");
    }
    if unfinished_bytes > 0 {
        println!("{unfinished_bytes} bytes at the end are just being written");
    }
}

fn audit_key(credential: &Credential) -> Result<Secret<[u8; 32]>> {
    Ok(cluster_key(credential)?.audit_key())
}

fn cluster_key(credential: &Credential) -> Result<ClusterKey> {
    let path = &credential.cluster_key_file;
    let text = config::secret_file(path)?;
    ClusterKey::parse(text.expose().as_bytes())
        .with_context(|| format!("credential.cluster_key_file: {}", path.display()))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the system gives no event loop")
}
