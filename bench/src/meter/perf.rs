//! Hardware counters, by `perf stat`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use postern_tests::{Scratch, needs};

/// What is counted, on all cores, in user space and the kernel.
const EVENTS: &str = "instructions,cycles";

/// What perf runs: it says that it has begun, which it does only when the counters are on, and
/// ends when its input does.
const MARKER: &str = "echo; read -r _";

/// `perf`, on a machine that has hardware counters.
#[derive(Debug)]
pub struct Perf {
    program: PathBuf,
    scratch: Scratch,
}

/// Counters that are on.
#[derive(Debug)]
pub(super) struct Counting {
    perf: Child,
    output: BufReader<ChildStdout>,
    file: PathBuf,
}

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Hardware {
    pub(super) instructions: f64,
    pub(super) cycles: f64,
}

impl Perf {
    /// Tries the counters once.
    ///
    /// # Errors
    /// If perf is not installed, the machine has no counters or does not let us use them; the
    /// message says which.
    pub fn probe() -> Result<Self> {
        let program = needs::program("perf").context("perf is not installed")?;
        let scratch = Scratch::new()?;
        let perf = Self { program, scratch };
        perf.start()?.finish()?;
        Ok(perf)
    }

    /// Switches the counters on; they are on when this returns.
    ///
    /// # Errors
    /// If perf cannot be started or does not count.
    pub(super) fn start(&self) -> Result<Counting> {
        let file = self.scratch.path().join("perf.csv");
        let mut perf = Command::new(&self.program)
            .args(["stat", "-a", "-x,", "-e", EVENTS, "-o"])
            .arg(&file)
            .args(["--", "sh", "-c", MARKER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start perf")?;
        let output = perf.stdout.take().context("perf has no output")?;
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let counting = Counting { perf, output, file };
        if line.is_empty() {
            bail!("perf ended at once: {}", counting.complaint()?);
        }
        Ok(counting)
    }
}

impl Counting {
    /// Switches the counters off and reads them.
    ///
    /// # Errors
    /// If perf failed or counted nothing.
    pub(super) fn finish(mut self) -> Result<Hardware> {
        if let Some(mut input) = self.perf.stdin.take() {
            input.write_all(b"\n")?;
        }
        let mut rest = String::new();
        self.output.read_line(&mut rest)?;
        let file = self.file.clone();
        let complaint = self.complaint()?;
        let text = fs::read_to_string(file).unwrap_or_default();
        parse(&text).with_context(|| match complaint.trim() {
            "" => "perf stat".to_owned(),
            complaint => complaint.to_owned(),
        })
    }

    /// Waits for perf's end and returns what it complained about.
    fn complaint(self) -> Result<String> {
        let output = self.perf.wait_with_output()?;
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Reads the comma-separated form of `perf stat`: value, unit, event, time that the counter ran,
/// share of that time, <https://man7.org/linux/man-pages/man1/perf-stat.1.html>. Machines with
/// two kinds of cores have a line for each kind, `cpu_core/instructions/`.
fn parse(text: &str) -> Result<Hardware> {
    Ok(Hardware {
        instructions: event(text, "instructions")?,
        cycles: event(text, "cycles")?,
    })
}

fn event(text: &str, name: &str) -> Result<f64> {
    let mut sum = None;
    for line in text.lines().filter(|it| !it.starts_with('#')) {
        let mut fields = line.split(',');
        let (Some(value), _, Some(event)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        // A suffix says what is counted, `:u` for user space only, which would be wrong here.
        let event = event.split('/').nth(1).unwrap_or(event);
        if event != name {
            continue;
        }
        let count: f64 = match value.parse() {
            Ok(count) => count,
            Err(_) => bail!("{name}: {}", value.trim_matches(['<', '>'])),
        };
        sum = Some(sum.unwrap_or(0.0) + count);
    }
    sum.with_context(|| format!("perf did not count {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_machine_with_counters_are_read() -> Result<()> {
        let text = "# started on Sun Nov 22 03:55:00 2026\n\n\
                    2412345678,,instructions,4004161262,100.00,0.87,insn per cycle\n\
                    2772804228,,cycles,4004160001,100.00,,\n";
        let expected = Hardware {
            instructions: 2_412_345_678.0,
            cycles: 2_772_804_228.0,
        };
        assert_eq!(parse(text)?, expected);
        Ok(())
    }

    #[test]
    fn both_kinds_of_cores_are_added_up() -> Result<()> {
        let text = "100,,cpu_core/instructions/,1,100.00,,\n20,,cpu_atom/instructions/,1,100.00,,\n\
                    7,,cpu_core/cycles/,1,100.00,,\n3,,cpu_atom/cycles/,1,100.00,,\n";
        let expected = Hardware {
            instructions: 120.0,
            cycles: 10.0,
        };
        assert_eq!(parse(text)?, expected);
        Ok(())
    }

    #[test]
    fn a_machine_without_counters_is_an_error_that_says_so() {
        let absent =
            "<not supported>,,instructions,0,100.00,,\n<not supported>,,cycles,0,100.00,,\n";
        let user_only = "5,,instructions:u,1,100.00,,\n5,,cycles:u,1,100.00,,\n";
        let idle = "<not counted>,,instructions,0,0.00,,\n";
        for (text, why) in [
            (absent, "instructions: not supported"),
            (idle, "instructions: not counted"),
            (user_only, "perf did not count instructions"),
            ("", "perf did not count instructions"),
        ] {
            assert_eq!(
                parse(text).map_err(|it| it.to_string()),
                Err(why.to_owned())
            );
        }
    }
}
