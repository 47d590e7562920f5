//! One target, and what a run of it came to.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long one input may take, in seconds: longer is a find.
const INPUT_SECONDS_MAX: u64 = 10;
/// The most memory that a target may use, in MiB: more is a find.
const MEMORY_MIB_MAX: u64 = 1_024;
/// The longest input that is made, in bytes: longer than any startup packet and SASL message.
const INPUT_BYTES_MAX: u64 = 16_384;
/// The longest input that is added to the committed corpus, in bytes.
const KEPT_BYTES_MAX: u64 = 512;
/// How often a long run says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(60);
/// What libFuzzer says when a signal ends it. That is no find.
const INTERRUPTED: &str = "libFuzzer: run interrupted";

/// A target that has been built.
pub(super) struct Target {
    pub(super) name: String,
    pub(super) program: PathBuf,
    /// The committed corpus.
    pub(super) corpus: PathBuf,
    /// Where logs, crashes and what was found before are.
    pub(super) folder: PathBuf,
}

/// What runs came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Inputs that were tried.
    pub(super) executions: u64,
    /// Kinds of behaviour that were seen: edges of the program, and how often they were passed.
    pub(super) features: u64,
    /// Inputs for which a property does not hold, or that took too long or too much.
    pub(super) crashes: u64,
}

impl Found {
    pub(super) fn add(&mut self, other: Self) {
        self.executions += other.executions;
        self.features += other.features;
        self.crashes += other.crashes;
    }

    /// Takes in a line of libFuzzer's:
    /// `#2048 NEW    cov: 117 ft: 245 corp: 23/810b lim: 4 exec/s: 0 rss: 40Mb ...` on the way,
    /// and `stat::number_of_executed_units: 4096` in the end.
    fn hear(&mut self, line: &str) {
        let number = |text: &str| text.parse::<u64>().ok();
        if let Some(executions) = line.strip_prefix("stat::number_of_executed_units: ") {
            self.executions = number(executions.trim()).unwrap_or(self.executions);
        }
        if let Some(rest) = line.strip_prefix('#') {
            let executions = rest.split_whitespace().next().and_then(number);
            self.executions = executions.unwrap_or_default().max(self.executions);
            let features = line.split(" ft: ").nth(1);
            let features = features.and_then(|it| it.split_whitespace().next());
            self.features = features.and_then(number).unwrap_or(self.features);
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            executions,
            features,
            crashes,
        } = self;
        write!(
            f,
            "{executions} executions, {features} features, {crashes} crashes"
        )
    }
}

impl Target {
    /// Runs the target for so long, and says what it came to.
    ///
    /// # Errors
    /// If it cannot be started, or ends without a word of libFuzzer's.
    pub(super) fn run(&self, time: Duration) -> Result<Found> {
        let start = Instant::now();
        let mut all = Found::default();
        loop {
            let left = time.saturating_sub(start.elapsed());
            let (found, lines, success) = self.listen(self.search(left)?)?;
            if success && found.executions == 0 {
                bail!(
                    "{} ended without having tried anything",
                    self.program.display()
                );
            }
            if lines.iter().any(|it| it.contains(INTERRUPTED)) {
                bail!("{} was ended from outside", self.program.display());
            }
            all.executions += found.executions;
            all.features = all.features.max(found.features);
            let was_busy = !success && self.passes_alone(&lines)?;
            if was_busy && start.elapsed() < time {
                continue;
            }
            if success || was_busy {
                self.say("ok", start, all);
            } else {
                all.crashes = 1;
                self.say("FAILED", start, all);
                self.explain(&lines);
            }
            return Ok(all);
        }
    }

    /// What looks for a find for so long.
    fn search(&self, time: Duration) -> Result<Command> {
        let known = self.known()?;
        let crashes = self.folder.join("crashes");
        fs::create_dir_all(&crashes)?;
        let prefix = crashes.join(format!("{}-", self.name));
        let mut command = self.command(&[
            ("max_total_time", time.as_secs().max(1)),
            ("max_len", INPUT_BYTES_MAX),
            ("timeout", INPUT_SECONDS_MAX),
            ("rss_limit_mb", MEMORY_MIB_MAX),
            ("print_final_stats", 1),
        ]);
        command.arg(format!("-artifact_prefix={}", prefix.display()));
        command.arg(known).arg(&self.corpus);
        Ok(command)
    }

    /// Whether what ended a search was the time that an input took, which a clock on the wall
    /// tells, and the input takes no such time by itself: the machine was busy then.
    fn passes_alone(&self, lines: &[String]) -> Result<bool> {
        let Some(input) = kept(lines) else {
            return Ok(false);
        };
        let name = input.file_name().unwrap_or_default().to_string_lossy();
        if !name.contains("-timeout-") {
            return Ok(false);
        }
        let mut command = self.command(&[("timeout", INPUT_SECONDS_MAX)]);
        command.stderr(Stdio::null()).arg(input);
        if !command.status()?.success() {
            return Ok(false);
        }
        println!(
            "        {:<14} an input took over {INPUT_SECONDS_MAX} s and takes none by itself: \
             the machine was busy",
            self.name
        );
        fs::remove_file(input)?;
        Ok(true)
    }

    /// Adds to the committed corpus what reaches code that nothing in it reaches.
    ///
    /// # Errors
    /// If that cannot be found out.
    pub(super) fn keep(&self) -> Result<()> {
        let mut command = self.command(&[("set_cover_merge", 1), ("max_len", KEPT_BYTES_MAX)]);
        command.arg(&self.corpus).arg(self.known()?);
        let output = command.output().context("a target cannot be started")?;
        if !output.status.success() {
            bail!("{} cannot merge: {}", self.name, output.status);
        }
        Ok(())
    }

    /// The folder of what was found by earlier runs on this machine.
    fn known(&self) -> Result<PathBuf> {
        let known = self.folder.join("corpus").join(&self.name);
        fs::create_dir_all(&known)?;
        Ok(known)
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    fn command(&self, options: &[(&str, u64)]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(
            options
                .iter()
                .map(|(name, value)| format!("-{name}={value}")),
        );
        command
    }

    /// Runs a command to its end: what it came to, its last lines, and whether it succeeded.
    fn listen(&self, mut command: Command) -> Result<(Found, Vec<String>, bool)> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        // Of a property that does not hold, the line and the message say enough.
        command.env("RUST_BACKTRACE", "0");
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let output = child.stderr.take().context("a target has no output")?;
        let mut log = fs::File::create(self.log())?;
        let mut found = Found::default();
        let mut last_lines = Vec::new();
        let start = Instant::now();
        let mut said = start;
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            writeln!(log, "{line}")?;
            found.hear(&line);
            if line.starts_with('#') {
                last_lines.clear();
            }
            last_lines.push(line);
            if said.elapsed() >= PROGRESS_INTERVAL {
                said = Instant::now();
                self.say("...", start, found);
            }
        }
        Ok((found, last_lines, child.wait()?.success()))
    }

    fn say(&self, how: &str, start: Instant, found: Found) {
        let seconds = start.elapsed().as_secs();
        let Found {
            executions,
            features,
            crashes,
        } = found;
        println!(
            "{how:<7} {:<14} {seconds:>6} s {executions:>12} executions {features:>6} features \
             {crashes} crashes",
            self.name,
        );
    }

    /// What was found, and how to see it again.
    fn explain(&self, lines: &[String]) {
        let start = |it: &&String| !it.contains(" panicked at ");
        let end = |it: &&String| !it.starts_with("==") && !it.starts_with("note: ");
        for line in lines.iter().skip_while(start).take_while(end) {
            println!("  {line}");
        }
        println!("The whole output is in {}.", self.log().display());
        let Some(input) = kept(lines) else {
            return;
        };
        println!("The input is kept. To see it again:");
        println!("  {} {}", self.program.display(), input.display());
        println!("To have it tried by every test from now on:");
        println!("  cp {} {}", input.display(), self.corpus.display());
    }
}

/// The input that ended a search, by the last words of libFuzzer.
fn kept(lines: &[String]) -> Option<&Path> {
    // Those before it were slow, and ended nothing.
    let mut kept = lines.iter().rev();
    let kept = kept.find_map(|it| it.split("Test unit written to ").nth(1));
    kept.map(Path::new)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use postern_tests::Scratch;

    use super::*;

    /// Stands for a target: the first search ends with an input that took too long, the next one
    /// finds nothing, and the input by itself ends with `ALONE`.
    const SEARCHES: &str = r#"#!/bin/sh
case $* in *-max_total_time=*) ;; *) exit ALONE ;; esac
if [ -e "$0.searched" ]; then
    echo 'stat::number_of_executed_units: 7' >&2
    exit 0
fi
: > "$0.searched"
: > "$0-timeout-5f"
echo "artifact_prefix='x'; Test unit written to $0-slow-unit-3a" >&2
echo "artifact_prefix='x'; Test unit written to $0-timeout-5f" >&2
echo 'stat::number_of_executed_units: 5' >&2
exit 70
"#;

    /// What comes of it, and whether its input is kept.
    fn found_when_alone_ends_with(code: &str) -> Result<(Found, bool)> {
        let scratch = Scratch::new()?;
        let folder = scratch.path().to_owned();
        let program = folder.join("searches");
        fs::write(&program, SEARCHES.replace("ALONE", code))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        let target = Target {
            name: "searches".to_owned(),
            program,
            corpus: folder.clone(),
            folder: folder.clone(),
        };
        let found = target.run(Duration::from_secs(60))?;
        Ok((found, folder.join("searches-timeout-5f").exists()))
    }

    #[test]
    fn an_input_that_is_slow_on_a_busy_machine_only_is_no_find() -> Result<()> {
        let (found, is_kept) = found_when_alone_ends_with("0")?;
        assert_eq!((found.executions, found.crashes, is_kept), (12, 0, false));
        let (found, is_kept) = found_when_alone_ends_with("70")?;
        assert_eq!((found.executions, found.crashes, is_kept), (5, 1, true));
        Ok(())
    }

    #[test]
    fn the_last_word_of_a_run_counts() {
        let mut found = Found::default();
        for line in [
            "INFO: seed corpus: files: 13 min: 8b max: 310b total: 900b rss: 32Mb",
            "#14\tINITED cov: 117 ft: 245 corp: 23/810b exec/s: 0 rss: 40Mb",
            "#2048\tNEW    cov: 119 ft: 250 corp: 24/810b lim: 4 exec/s: 0 rss: 40Mb L: 4/9 MS: 1",
            "Done 4100 runs in 3 second(s)",
            "stat::number_of_executed_units: 4100",
            "stat::average_exec_per_sec:     1366",
        ] {
            found.hear(line);
        }
        let expected = Found {
            executions: 4_100,
            features: 250,
            crashes: 0,
        };
        assert_eq!(found, expected);
    }
}
