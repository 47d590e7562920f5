//! `--detach` and `--stop`: the demonstration in the background.
//!
//! Servers end with the process that started them, so a process of its own holds them: the same
//! program, started with `--supervise`. Its files are in the target folder: its process id, its
//! log, and the lines for a shell, which are written when everything runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};
use postern_tests::scratch::{is_running, write_secret};
use postern_tests::template::target_folder;
use postern_tests::{cast, signals, wait, wait_until};

use super::Kind;
use super::stage::Stage;

/// How long all servers together may take to start.
const START_LIMIT: Duration = Duration::from_secs(180);
/// How long all servers together may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(90);

/// Where the background process keeps its files.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn new() -> Result<Self> {
        let target = target_folder().context("this program is in no target folder of cargo's")?;
        Ok(Self {
            folder: target.join("demo"),
        })
    }

    fn exports(&self) -> PathBuf {
        self.folder.join("exports")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.join("pid")
    }

    /// The process id of a demonstration that runs.
    fn running(&self) -> Option<u32> {
        let pid = fs::read_to_string(self.pid_file())
            .ok()?
            .trim()
            .parse()
            .ok()?;
        // The number may belong to somebody else by now.
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let is_ours = String::from_utf8_lossy(&command).contains("--supervise");
        (is_running(pid) && is_ours).then_some(pid)
    }
}

/// Starts the background process, waits until everything runs and prints the lines.
pub(super) fn start(kind: Kind) -> Result<ExitCode> {
    let files = Files::new()?;
    if let Some(pid) = files.running() {
        eprintln!("It runs already, as process {pid}; cargo xtask demo --stop ends it.");
        wait_until_ready(&files, pid)?;
        print!("{}", fs::read_to_string(files.exports())?);
        return Ok(ExitCode::SUCCESS);
    }
    remove_folder(&files.folder)?;
    fs::create_dir_all(&files.folder)?;
    let log = File::create(files.log())?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["demo", "--supervise", "--directory", kind.word()])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the background process")?;
    fs::write(files.pid_file(), child.id().to_string())?;
    let ready = wait_until_ready(&files, child.id());
    if ready.is_err() {
        // It may have ended by itself; whatever is left of it ends now.
        let _ = end(child.id());
        child.wait()?;
        let log = fs::read_to_string(files.log()).unwrap_or_default();
        remove_folder(&files.folder)?;
        return Err(ready.err().context("not ready")?.context(log));
    }
    eprint!("{}", fs::read_to_string(files.log())?);
    print!("{}", fs::read_to_string(files.exports())?);
    Ok(ExitCode::SUCCESS)
}

/// Ends the background process and everything that it holds.
pub(super) fn stop() -> Result<ExitCode> {
    let files = Files::new()?;
    let Some(pid) = files.running() else {
        println!("No demonstration runs.");
        remove_folder(&files.folder)?;
        return Ok(ExitCode::SUCCESS);
    };
    end(pid)?;
    remove_folder(&files.folder)?;
    println!("Ended, and everything is removed.");
    Ok(ExitCode::SUCCESS)
}

/// The background process itself.
pub(super) fn supervise(kind: Kind) -> Result<ExitCode> {
    // Away from the terminal, whose end must not end us.
    setsid().context("cannot leave the terminal")?;
    signals::catch()?;
    let files = Files::new()?;
    let stage = Stage::start(kind)?;
    cast::prepare_groups(&stage.postgres)?;
    let unfinished = files.folder.join("exports.unfinished");
    write_secret(&unfinished, &stage.exports())?;
    fs::rename(unfinished, files.exports())?;
    let waited = wait_until("it is ended", Duration::MAX, || {
        stage.all_run().map(|it| !it)
    });
    if wait::is_interrupted() {
        return Ok(ExitCode::SUCCESS);
    }
    waited?;
    bail!("a server has ended by itself")
}

fn wait_until_ready(files: &Files, pid: u32) -> Result<()> {
    wait_until("the servers run", START_LIMIT, || {
        if !is_running(pid) {
            bail!("the background process has ended");
        }
        Ok(files.exports().is_file())
    })
}

fn end(pid: u32) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
    wait_until("the background process has ended", STOP_LIMIT, || {
        Ok(!is_running(pid))
    })
}

fn remove_folder(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}
