//! Hardware counters, by `perf stat`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use postern_tests::{Scratch, needs};

use super::now_s;
use super::series::{HARDWARE, Moment};

/// What is counted, on all cores, in user space and the kernel.
const EVENTS: &str = "instructions,cycles";
const NAMES: [&str; HARDWARE] = ["instructions", "cycles"];

/// How often perf writes them down, in milliseconds: the shortest time that it calls cheap.
const INTERVAL_MS: &str = "100";

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
    begin_s: f64,
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
            .args(["stat", "-a", "-x,", "-I", INTERVAL_MS, "-e", EVENTS, "-o"])
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
        let counting = Counting {
            perf,
            output,
            file,
            begin_s: now_s()?,
        };
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
    pub(super) fn finish(mut self) -> Result<Vec<Moment<HARDWARE>>> {
        if let Some(mut input) = self.perf.stdin.take() {
            input.write_all(b"\n")?;
        }
        let mut rest = String::new();
        self.output.read_line(&mut rest)?;
        let (file, begin_s) = (self.file.clone(), self.begin_s);
        let complaint = self.complaint()?;
        let text = fs::read_to_string(file).unwrap_or_default();
        parse(&text, begin_s).with_context(|| match complaint.trim() {
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

/// Reads the comma-separated form of `perf stat -I`: seconds since its start, what was counted in
/// this interval, unit, event, <https://man7.org/linux/man-pages/man1/perf-stat.1.html>. Machines
/// with two kinds of cores have a line for each kind, `cpu_core/instructions/`.
fn parse(text: &str, begin_s: f64) -> Result<Vec<Moment<HARDWARE>>> {
    let mut moments = vec![(begin_s, [0.0; HARDWARE])];
    let mut sums = [0.0; HARDWARE];
    let mut seen = [false; HARDWARE];
    for line in text.lines().filter(|it| !it.starts_with('#')) {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let [time, value, _unit, event, ..] = fields.as_slice() else {
            continue;
        };
        // A suffix says what is counted, `:u` for user space only, which would be wrong here.
        let event = event.split('/').nth(1).unwrap_or(event);
        let Some(index) = NAMES.iter().position(|&it| it == event) else {
            continue;
        };
        let count: f64 = match value.parse() {
            Ok(count) => count,
            Err(_) => bail!("{event}: {}", value.trim_matches(['<', '>'])),
        };
        let time: f64 = time
            .parse()
            .with_context(|| format!("perf printed {line:?}"))?;
        sums[index] += count;
        seen[index] = true;
        let at_s = begin_s + time;
        match moments.last_mut().filter(|it| it.0 == at_s) {
            Some(moment) => moment.1 = sums,
            None => moments.push((at_s, sums)),
        }
    }
    match NAMES.iter().zip(seen).find(|(_, seen)| !seen) {
        Some((name, _)) => bail!("perf did not count {name}"),
        None => Ok(moments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_machine_with_counters_are_added_up() -> Result<()> {
        let text = "# started on Sun Nov 22 03:55:00 2026\n\n     \
                    0.100210548,2412345678,,instructions,2001,100.00,0.87,insn per cycle\n     \
                    0.100210548,2772804228,,cycles,200104160,100.00,,\n     \
                    0.200430215,1000000000,,instructions,2001,100.00,0.50,insn per cycle\n     \
                    0.200430215,2000000000,,cycles,200104160,100.00,,\n";
        let expected = vec![
            (10.0, [0.0, 0.0]),
            (10.100_210_548, [2_412_345_678.0, 2_772_804_228.0]),
            (10.200_430_215, [3_412_345_678.0, 4_772_804_228.0]),
        ];
        assert_eq!(parse(text, 10.0)?, expected);
        Ok(())
    }

    #[test]
    fn both_kinds_of_cores_are_added_up() -> Result<()> {
        let text = "0.1,100,,cpu_core/instructions/,1,100.00,,\n\
                    0.1,20,,cpu_atom/instructions/,1,100.00,,\n\
                    0.1,7,,cpu_core/cycles/,1,100.00,,\n0.1,3,,cpu_atom/cycles/,1,100.00,,\n";
        let expected = vec![(0.0, [0.0, 0.0]), (0.1, [120.0, 10.0])];
        assert_eq!(parse(text, 0.0)?, expected);
        Ok(())
    }

    #[test]
    fn a_machine_without_counters_is_an_error_that_says_so() {
        let absent = "0.1,<not supported>,,instructions,0,100.00,,\n";
        let user_only = "0.1,5,,instructions:u,1,100.00,,\n0.1,5,,cycles:u,1,100.00,,\n";
        let idle = "0.1,<not counted>,,instructions,0,0.00,,\n";
        for (text, why) in [
            (absent, "instructions: not supported"),
            (idle, "instructions: not counted"),
            (user_only, "perf did not count instructions"),
            (
                "0.1,5,,instructions,1,100.00,,\n",
                "perf did not count cycles",
            ),
            ("", "perf did not count instructions"),
        ] {
            let error = parse(text, 0.0).map_err(|it| it.to_string());
            assert_eq!(error, Err(why.to_owned()));
        }
    }
}
