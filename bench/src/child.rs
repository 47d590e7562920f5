//! A program that is run to its end, or to ours.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use postern_tests::wait;

/// Between two looks at whether we were interrupted: a fraction of what a person notices, and too
/// rare to be seen in a measurement.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What a program left.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// From its start to the end of its output.
    pub took: Duration,
}

/// Runs a program to its end, without a standard input.
///
/// # Errors
/// If it cannot be started, runs longer than `limit` or we are interrupted; it is killed then.
pub fn finish(command: &mut Command, limit: Duration) -> Result<Ended> {
    let name = command.get_program().to_string_lossy().into_owned();
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let mut stdout = child.stdout.take().context("no standard output")?;
    let mut stderr = child.stderr.take().context("no standard error")?;
    let complaints = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    let (sender, ended) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let outcome = stdout.read_to_end(&mut bytes).map(|_| bytes);
        // Whoever waited may have given up.
        let _ = sender.send((outcome, start.elapsed()));
    });
    let (output, took) = loop {
        match ended.recv_timeout(LOOK_INTERVAL) {
            Ok(ended) => break ended,
            Err(RecvTimeoutError::Timeout) if wait::is_interrupted() => {
                child.kill()?;
                child.wait()?;
                bail!("interrupted");
            }
            Err(RecvTimeoutError::Timeout) if start.elapsed() > limit => {
                child.kill()?;
                child.wait()?;
                bail!("{name} did not end within {} s", limit.as_secs());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("the output of {name} was lost"),
        }
    };
    let status = child.wait()?;
    let Ok(complaints) = complaints.join() else {
        bail!("the messages of {name} were lost");
    };
    Ok(Ended {
        status,
        stdout: String::from_utf8_lossy(&output?).into_owned(),
        stderr: String::from_utf8_lossy(&complaints?).into_owned(),
        took,
    })
}
