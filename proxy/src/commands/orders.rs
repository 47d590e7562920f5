//! What an operator on the same machine asks of the running process, by its control socket.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use postern_core::audit::rfc3339;
use postern_core::console::{Cell, Shown, Table};
use serde_json::{Map, Value};

use super::{ask, read_control};
use crate::admin;
use crate::cli::{AuditCommand, Command, Process};
use crate::config::Control;
use crate::control::Question;
use crate::operators::OrderError;
use crate::printable::printable;
use crate::revocation::Command as Order;

/// Prints a table of the running process.
pub(super) fn show(control: &Control, what: Shown, json: bool) -> Result<ExitCode> {
    let table: Table = ask(control, &Question::Show { what })?;
    match json {
        true => println!("{}", serde_json::to_string_pretty(&objects(&table))?),
        false => print!("{}", admin::text(&table)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Has the running process do something, and prints what it did.
pub(super) fn give(command: Command) -> Result<ExitCode> {
    let Some((process, order)) = order(command) else {
        return Ok(ExitCode::FAILURE);
    };
    let control = match read_control(&process.config.path) {
        Ok(control) => control,
        Err(code) => return Ok(code),
    };
    let question = Question::Command { command: order };
    let answer: Result<Vec<String>, OrderError> =
        ask(&control, &question).context("the running process, which does it, does not answer")?;
    let lines = answer?;
    match process.json {
        true => println!("{}", serde_json::to_string_pretty(&lines)?),
        false => lines
            .iter()
            .for_each(|line| println!("{}", printable(line))),
    }
    Ok(ExitCode::SUCCESS)
}

/// What a command of the command line is to the running process.
fn order(command: Command) -> Option<(Process, Order)> {
    let asked = match command {
        Command::Revoke {
            name,
            lasts,
            reason,
            process,
        } => {
            let for_s = lasts.map(|it| it.as_secs());
            let order = Order::Revoke {
                name,
                for_s,
                reason,
            };
            (process, order)
        }
        Command::Restore { name, process } => (process, Order::Restore { name }),
        Command::Revoked { process } => (process, Order::Holds),
        Command::Kill {
            session: Some(session),
            reason,
            process,
            ..
        } => (process, Order::Kill { session, reason }),
        Command::Kill {
            role: Some(role),
            reason,
            process,
            ..
        } => (process, Order::KillRole { role, reason }),
        Command::Reconcile { dry_run, process } => (process, Order::Reconcile { dry_run }),
        Command::Drain { within, process } => {
            let within_s = within.map(|it| it.as_secs());
            (process, Order::Drain { within_s })
        }
        Command::Pause(process) => (process, Order::Pause),
        Command::Resume(process) => (process, Order::Resume),
        Command::Audit(AuditCommand::Rotate(process)) => (process, Order::Rotate),
        Command::Audit(AuditCommand::Taken { file, to, process }) => {
            (process, Order::Taken { file, to })
        }
        Command::Kill { .. }
        | Command::Manual { .. }
        | Command::Run(_)
        | Command::Check { .. }
        | Command::InitSql(_)
        | Command::ExplainLogin { .. }
        | Command::Health { .. }
        | Command::Sessions { .. }
        | Command::Show { .. }
        | Command::Adopt(_)
        | Command::Config(_)
        | Command::Local(_)
        | Command::Audit(AuditCommand::Verify { .. })
        | Command::Policy(_)
        | Command::Reload(_)
        | Command::Upgrade(_)
        | Command::LogLevel { .. } => return None,
    };
    Some(asked)
}

/// A table as JSON: an object a row.
fn objects(table: &Table) -> Value {
    let value = |cell: &Cell| match cell {
        Cell::Null => Value::Null,
        Cell::Boolean(value) => Value::from(*value),
        Cell::Integer(number) => Value::from(*number),
        Cell::Text(text) => Value::from(text.as_str()),
        Cell::Time { unix_ms } => Value::from(rfc3339(*unix_ms)),
    };
    let rows = table.rows.iter().map(|row| {
        let names = table.columns.iter().map(|it| it.name.clone());
        Value::Object(names.zip(row.iter().map(value)).collect::<Map<_, _>>())
    });
    rows.collect()
}
