//! What fuzzing has come to since the targets were written: `proxy/fuzz/RECORD.md`, a table that
//! `cargo xtask fuzz --record` adds to.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{UsageWho, getrusage};

use super::one::Found;

/// What the rows of the table begin with.
const ROW: &str = "| `";

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    target: String,
    cpu_seconds: u64,
    executions: u64,
    crashes: u64,
}

/// The processor time of all children that have ended.
///
/// # Errors
/// If the kernel does not say.
pub(super) fn cpu_time_of_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let (user, system) = (usage.user_time(), usage.system_time());
    let seconds = u64::try_from(user.tv_sec() + system.tv_sec())?;
    Ok(Duration::from_secs(seconds))
}

/// Adds a run of a target to the record. Several may end at the same time.
///
/// # Errors
/// If the record cannot be read or written.
pub(super) fn add(path: &Path, target: &str, cpu: Duration, found: Found) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.with_context(|| path.display().to_string())?;
    let mut file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let run = Row {
        target: target.to_owned(),
        cpu_seconds: cpu.as_secs(),
        executions: found.executions,
        crashes: found.crashes,
    };
    rewrite(&mut file, &with(&text, run))
}

fn rewrite(file: &mut File, text: &str) -> Result<()> {
    file.rewind()?;
    file.set_len(0)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// The text of the record with one more run in its table.
fn with(text: &str, run: Row) -> String {
    let (lines, rows): (Vec<&str>, Vec<&str>) = text.lines().partition(|it| !it.starts_with(ROW));
    let mut rows: Vec<Row> = rows.into_iter().filter_map(Row::read).collect();
    match rows.iter_mut().find(|it| it.target == run.target) {
        Some(row) => {
            row.cpu_seconds += run.cpu_seconds;
            row.executions += run.executions;
            row.crashes += run.crashes;
        }
        None => rows.push(run),
    }
    rows.sort_by(|one, other| one.target.cmp(&other.target));
    let mut text = String::new();
    for line in lines {
        text += &format!("{line}\n");
        if line.starts_with("|---") {
            text.extend(rows.iter().map(Row::show));
        }
    }
    text
}

impl Row {
    /// Reads a line of the table.
    fn read(line: &str) -> Option<Self> {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let target = cells.next()?.trim_matches('`').to_owned();
        let mut number = || cells.next()?.replace(',', "").parse().ok();
        Some(Self {
            target,
            cpu_seconds: number()?,
            executions: number()?,
            crashes: number()?,
        })
    }

    fn show(&self) -> String {
        let Self {
            target,
            cpu_seconds,
            executions,
            crashes,
        } = self;
        format!("| `{target}` | {cpu_seconds} | {executions} | {crashes} |\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(target: &str, cpu_seconds: u64) -> Row {
        Row {
            target: target.to_owned(),
            cpu_seconds,
            executions: 100,
            crashes: 0,
        }
    }

    #[test]
    fn runs_of_a_target_add_up() {
        let text = "# Title\n\n| target | minutes |\n|---|---|\n\nMore.\n";
        let text = with(text, run("startup", 2));
        let text = with(&text, run("backend", 7));
        let text = with(&text, run("startup", 3));
        let expected = "# Title\n\n| target | minutes |\n|---|---|\n\
                        | `backend` | 7 | 100 | 0 |\n| `startup` | 5 | 200 | 0 |\n\nMore.\n";
        assert_eq!(text, expected);
    }
}
