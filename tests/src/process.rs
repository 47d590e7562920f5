//! One server process, with its log in a file.
//!
//! Every server is started through `setpriv --pdeathsig`, so that none outlives a process that
//! was killed. Linux sends that signal when the *thread* that spawned the child ends
//! (<https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html>), and tests run on
//! threads that end. So a thread of its own, which lives as long as the process, spawns them all.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{wait_regardless, wait_until};

/// How long a server may take to end before it is killed: a PostgreSQL shutdown with a
/// checkpoint on a busy disk.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// How long the threads of a process may go on after it was told to stop where it is.
const PAUSE_LIMIT: Duration = Duration::from_secs(10);

/// How much of a log an error message quotes, in lines.
const QUOTED_LINES: usize = 25;

/// A running server.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    log: PathBuf,
    stop_signal: Signal,
}

impl Server {
    /// Starts a server; its output goes to `log`. `stop_signal` is what ends it politely.
    ///
    /// # Errors
    /// If the log cannot be opened or the program cannot be started.
    pub fn spawn(
        name: &str,
        mut command: Command,
        log: &Path,
        stop_signal: Signal,
    ) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("cannot open {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            // Ctrl-C in a terminal is for us; we end our servers in order.
            .process_group(0);
        let child = spawn_for_good(command).with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            stop_signal,
        })
    }

    /// Waits until the server is ready; a server that ends meanwhile is an error that quotes
    /// its log.
    ///
    /// # Errors
    /// When it ends or is not ready within `limit`.
    pub fn wait_ready(
        &mut self,
        limit: Duration,
        mut is_ready: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let what = format!("{} answers", self.name);
        let outcome = wait_until(&what, limit, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at its start: {status}", self.name);
            }
            is_ready()
        });
        outcome.with_context(|| self.quote_log())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its name, as in error messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends a signal to the process.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid())?);
        kill(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Stops the process where it is: it accepts connections (the kernel does) and never answers.
    ///
    /// # Errors
    /// If it has ended.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        // On a busy machine its threads go on for a while.
        let tasks = format!("/proc/{}/task", self.pid());
        wait_until("the process stands still", PAUSE_LIMIT, || {
            for task in fs::read_dir(&tasks)? {
                // A thread that has just ended stands still, too.
                let stat = fs::read_to_string(task?.path().join("stat")).unwrap_or_default();
                // The state comes after the name, which may have anything in it (proc(5)).
                let state = stat.rsplit(") ").next().unwrap_or_default();
                if !stat.is_empty() && !state.starts_with('T') {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Lets a paused process go on.
    ///
    /// # Errors
    /// If it has ended.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Ends the server politely and returns how it ended.
    ///
    /// # Errors
    /// When it does not end; it is killed then.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.stop_by(self.stop_signal)
    }

    /// Ends the server by another signal than its usual one.
    ///
    /// # Errors
    /// When it does not end; it is killed then.
    pub fn stop_by(&mut self, signal: Signal) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.signal(signal)?;
        self.resume()?;
        let mut status = None;
        let ended = wait_regardless("it ends", STOP_LIMIT, || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        });
        match (ended, status) {
            (Ok(()), Some(status)) => Ok(status),
            _ => {
                self.kill()?;
                Err(anyhow!("{} did not end and was killed", self.name)).context(self.quote_log())
            }
        }
    }

    /// Ends the process at once.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// The whole log so far.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn log(&self) -> Result<String> {
        read_lossy(&self.log)
    }

    /// Where the log is.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// Whether the log has `text` anywhere.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn log_contains(&self, text: &str) -> Result<bool> {
        Ok(self.log()?.contains(text))
    }

    /// The end of the log, for error messages.
    fn quote_log(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let first = lines.len().saturating_sub(QUOTED_LINES);
        let tail = lines.get(first..).unwrap_or_default().join("\n  ");
        format!("the log of {} ends with:\n  {tail}\n", self.name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // There is nobody to tell; `stop` kills what does not end.
        let _ = self.stop();
    }
}

/// Runs a program to its end and returns its standard output.
///
/// # Errors
/// If it cannot be started or does not succeed; the message has what it wrote.
pub fn run(command: &mut Command) -> Result<String> {
    let output = run_any(command)?;
    if !output.status.success() {
        let how = match output.status.signal() {
            Some(signal) => format!("signal {signal}"),
            None => output.status.to_string(),
        };
        bail!(
            "{} failed ({how}): {}{}",
            program(command),
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program to its end, whatever that is.
///
/// # Errors
/// If it cannot be started.
pub fn run_any(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null());
    command
        .output()
        .with_context(|| format!("cannot start {}", program(command)))
}

/// Runs a program to its end with `input` as its standard input.
///
/// # Errors
/// If it cannot be started or fed.
pub fn run_with_input(command: &mut Command, input: &str) -> Result<Output> {
    let mut file = tempfile::tempfile()?;
    io::Write::write_all(&mut file, input.as_bytes())?;
    io::Seek::rewind(&mut file)?;
    command.stdin(file);
    command
        .output()
        .with_context(|| format!("cannot start {}", program(command)))
}

/// A command that another one ends in, as `nsenter -- PROGRAM`.
#[must_use]
pub fn through(mut wrapper: Command, command: &Command) -> Command {
    wrapper.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapper.env(name, value),
            None => wrapper.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        wrapper.current_dir(folder);
    }
    wrapper
}

/// The program's name, for messages; the arguments may hold a password.
fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

/// A file's text; what is no UTF-8 is replaced.
fn read_lossy(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What the spawning thread is asked: a command, and where to send the child.
type Order = (Command, Sender<io::Result<Child>>);

/// Spawns on a thread that lives as long as the process; the module's documentation says why.
fn spawn_for_good(command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                // Whoever asked may have given up; the child then ends with this thread.
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let (reply, child) = channel();
    spawner
        .send((command, reply))
        .map_err(|_| anyhow!("the spawning thread has ended"))?;
    Ok(child.recv().context("the spawning thread has ended")??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Account;

    fn sleeper(folder: &Path) -> Result<Server> {
        let mut command = Account::own().command(Path::new("/bin/sleep"), "KILL");
        command.arg("60");
        Server::spawn("sleep", command, &folder.join("log"), Signal::SIGTERM)
    }

    #[test]
    fn a_server_outlives_the_thread_that_asked_for_it() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().to_owned();
        let asked = std::thread::spawn(move || sleeper(&path));
        let Ok(server) = asked.join() else {
            bail!("the thread panicked");
        };
        let mut server = server?;
        assert!(server.is_running()?);
        assert_eq!(server.stop()?.signal(), Some(Signal::SIGTERM as i32));
        assert!(!server.is_running()?);
        Ok(())
    }

    #[test]
    fn a_paused_server_can_be_stopped() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let mut server = sleeper(folder.path())?;
        server.pause()?;
        server.stop()?;
        assert!(!server.is_running()?);
        Ok(())
    }

    #[test]
    fn a_server_that_ends_at_its_start_is_an_error_with_its_log() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let mut command = Account::own().command(Path::new("/bin/ls"), "KILL");
        command.arg("/no/such/folder");
        let log = folder.path().join("log");
        let mut server = Server::spawn("ls", command, &log, Signal::SIGTERM)?;
        let ready = server.wait_ready(Duration::from_secs(10), || Ok(false));
        let error = ready.err().context("it is ready")?;
        assert!(
            format!("{error:#}").contains("/no/such/folder"),
            "{error:#}"
        );
        Ok(())
    }
}
