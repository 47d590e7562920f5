//! `postern policy`: what each of its commands does.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use postern_core::audit::Record;

use super::{EX_CONFIG, audit_key};
use crate::audit::{AuditLog, OF_THE_PROCESS};
use crate::cli::{Explain, Load, PolicyCommand, Unload, Watch};
use crate::config::{Credential, Perimeter};
use crate::limits::WATCH_RECORDS_MAX;
use crate::policy::{self, LoadOptions, PolicyError, Question, Stop, WatchOptions};

/// Executes one of them.
pub(super) fn execute(command: &PolicyCommand) -> Result<ExitCode> {
    let path = &command.config().path;
    let perimeter = match Perimeter::read(path) {
        Ok(perimeter) => perimeter,
        Err(errors) => {
            eprintln!("{errors}");
            return Ok(ExitCode::from(EX_CONFIG));
        }
    };
    match command {
        PolicyCommand::Load(command) => load(&perimeter, command, false),
        PolicyCommand::Replace(command) => load(&perimeter, command, true),
        PolicyCommand::Close { .. } => {
            match policy::close(&perimeter)? {
                true => {
                    println!("shut: nothing reaches what is protected until a policy is loaded")
                }
                false => println!("nothing was shut: the configuration says so"),
            }
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Unload(command) => unload(&perimeter, command),
        PolicyCommand::Status { json, .. } => status(&perimeter, *json),
        PolicyCommand::Watch(command) => watch(&perimeter, command, path),
        PolicyCommand::Explain(command) => explain(&perimeter, command),
    }
}

fn load(perimeter: &Perimeter, command: &Load, must_replace: bool) -> Result<ExitCode> {
    let options = LoadOptions {
        tc: command.tc,
        must_replace,
    };
    let loaded = policy::load(perimeter, options)?;
    for note in &loaded.notes {
        eprintln!("postern: {note}");
    }
    for name in &loaded.awaited {
        eprintln!("postern: {name} is not there; nothing passes it until it comes");
    }
    let hooks = match loaded.hooks {
        1 => "1 hook".to_owned(),
        hooks => format!("{hooks} hooks"),
    };
    let generation = loaded.generation;
    println!("in force: generation {generation}, {hooks}, confirmed by the kernel");
    Ok(ExitCode::SUCCESS)
}

fn unload(perimeter: &Perimeter, command: &Unload) -> Result<ExitCode> {
    if !command.yes && !asked()? {
        return Err(PolicyError::NotAsked.into());
    }
    policy::unload(perimeter)?;
    println!("open: nothing keeps anybody from what was protected");
    Ok(ExitCode::SUCCESS)
}

/// Asks the person at the terminal, if there is one.
fn asked() -> Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(false);
    }
    eprint!("This opens the perimeter: everybody reaches what is protected. Unload it? [y/N] ");
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

fn status(perimeter: &Perimeter, json: bool) -> Result<ExitCode> {
    policy::check_capabilities()?;
    let status = policy::status(perimeter)?;
    match json {
        true => println!("{}", serde_json::to_string_pretty(&status)?),
        false => print!("{}", status.text()),
    }
    Ok(success(status.in_force))
}

fn watch(perimeter: &Perimeter, command: &Watch, path: &Path) -> Result<ExitCode> {
    let options = WatchOptions {
        json: command.json,
        once_idle: command.once_idle_ms.map(Duration::from_millis),
        tc: command.tc,
    };
    let stop = Stop::take_over()?;
    let audit = match &perimeter.audit_file {
        Some(file) => Some(open_audit(file, path)?),
        None => None,
    };
    let watched = policy::watch(perimeter, options, &stop, audit.as_ref());
    if let Some(audit) = &audit {
        let last = audit.write_blocking(OF_THE_PROCESS, &Record::Stopped);
        last.and_then(|()| audit.close())?;
    }
    watched?;
    Ok(ExitCode::SUCCESS)
}

/// Opens the audit file of denials, under the same key as that of the proxy.
fn open_audit(file: &Path, config: &Path) -> Result<AuditLog> {
    let credential = Credential::read(config)
        .map_err(anyhow::Error::new)
        .context("perimeter.audit_file needs the key of credential.cluster_key_file")?;
    let audit = AuditLog::open(file, &audit_key(&credential)?, WATCH_RECORDS_MAX)?;
    let started = Record::Started {
        version: crate::VERSION.to_owned(),
        config_digest: None,
    };
    audit.write_blocking(OF_THE_PROCESS, &started)?;
    Ok(audit)
}

fn explain(perimeter: &Perimeter, command: &Explain) -> Result<ExitCode> {
    policy::check_capabilities()?;
    let question = Question {
        source: command.source,
        destination: command.destination,
        interface: command.interface.clone(),
    };
    let explanation = policy::explain(perimeter, &question)?;
    match command.json {
        true => println!("{}", serde_json::to_string_pretty(&explanation)?),
        false => print!("{}", explanation.text()),
    }
    Ok(success(explanation.passes()))
}

fn success(is_so: bool) -> ExitCode {
    match is_so {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
