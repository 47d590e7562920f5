//! What a storm of logins against a stopped directory costs the sessions that run, and when those
//! who come are told.
//!
//! ```text
//! cargo build --release -p postern
//! POSTERN_BIN=$PWD/target/release/postern \
//!     cargo run -p postern-bench --example login_storm -- [ROUNDS] [LOGINS] [alone]
//! ```
//!
//! The directory is stopped (SIGSTOP). Windows without logins and windows in which logins of
//! distinct people arrive with TLS, evenly over two seconds, take turns. In both kinds pgbench runs
//! through Postern, and a few people who are remembered log in again and again.
//!
//! The storm runs at the lowest priority, because real clients have machines of their own; what it
//! takes nonetheless is counted against Postern. Its own clock is late for that reason: with
//! `alone` there is no pgbench, the storm has the usual priority, and the clock counts.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::raw::client_config;
use postern_tests::{RawClient, Someone, World};
use rustls::ClientConfig;
use rustls::client::Resumption;

/// The time over which the logins of a storm arrive.
const ARRIVAL: Duration = Duration::from_secs(2);
/// The length of a window, with and without a storm.
const WINDOW: Duration = Duration::from_secs(5);
/// The time for the threads of a storm to be made, and for pgbench to connect.
const SETTLE: Duration = Duration::from_secs(2);
/// The time between two rounds: longer than the directory's total timeout in this world.
const BETWEEN: Duration = Duration::from_secs(6);
/// People who are remembered, each on a thread, and the time between two logins of one.
const WARM_PEOPLE: usize = 4;
const WARM_EVERY: Duration = Duration::from_millis(250);

/// How a login ended, and how long after its intended start.
type Seen = (String, Duration);

/// What all parts of a run share.
struct Run {
    world: World,
    tls: Arc<ClientConfig>,
    logins: usize,
    alone: bool,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: usize| -> Result<usize> {
        arguments
            .get(index)
            .map_or(Ok(default), |it| Ok(it.parse()?))
    };
    let world = World::start(|config| {
        config
            .set("cache", "recheck_s", 900)
            .set("directory", "connect_timeout_ms", 4_000)
            .set("directory", "operation_timeout_ms", 4_000)
            .set("directory", "total_timeout_ms", 5_000);
    })?;
    let run = Run {
        tls: client_config(world.postern.ca_file())?,
        logins: number(1, 2_000)?,
        alone: arguments.get(2).is_some_and(|it| it == "alone"),
        world,
    };
    let mut warm = Vec::new();
    for number in 0..WARM_PEOPLE {
        let person = run.world.person(&format!("warm{number}"), &[HR_GROUP])?;
        run.attempt(&person, Instant::now());
        warm.push(person);
    }
    let bencher = run.prepare()?;
    run.attempt(&bencher, Instant::now());
    run.world.directory.pause()?;
    let outcome = run.rounds(number(0, 4)?, &warm, &bencher);
    run.world.directory.resume()?;
    outcome?;
    run.reasons()
}

impl Run {
    fn rounds(&self, rounds: usize, warm: &[Someone], bencher: &Someone) -> Result<()> {
        let over = AtomicBool::new(false);
        let (mut cold, mut ratios) = (Vec::new(), Vec::new());
        let warm = thread::scope(|scope| -> Result<Vec<Seen>> {
            let over = &over;
            let start = |person| scope.spawn(move || self.keep_logging_in(person, over));
            let loyal: Vec<_> = warm.iter().map(start).collect();
            let outcome = (0..rounds).try_for_each(|round| -> Result<()> {
                let (ratio, seen) = self.round(round, bencher)?;
                ratios.push(ratio);
                cold.extend(seen);
                Ok(())
            });
            over.store(true, Ordering::Relaxed);
            let seen = loyal
                .into_iter()
                .flat_map(|it| it.join().unwrap_or_default());
            let seen = seen.collect();
            outcome.map(|()| seen)
        })?;
        tell("cold", &cold);
        tell("warm", &warm);
        ratios.sort_by(f64::total_cmp);
        println!(
            "ratios {ratios:.3?}, median {:.3?}",
            ratios.get(ratios.len() / 2)
        );
        Ok(())
    }

    /// A quiet window and one with a storm; the ratio of the transactions in both.
    fn round(&self, round: usize, bencher: &Someone) -> Result<(f64, Vec<Seen>)> {
        let (ticks, pgbench) = self.pgbench(bencher)?;
        let due = Instant::now() + SETTLE + WINDOW;
        let (line, ratio, seen) = thread::scope(|scope| -> Result<_> {
            let storm = scope.spawn(|| self.storm(due, round));
            thread::sleep(SETTLE);
            let quiet = window(&ticks);
            let before = self.cpu()?;
            let stormy = window(&ticks);
            let after = self.cpu()?;
            let line = format!(
                "{quiet:.0} and in the storm {stormy:.0} transactions a second; CPU seconds \
                 in the storm: login threads {:.2}, the storm itself {:.2}; {}",
                after.0 - before.0,
                after.1 - before.1,
                self.memory()?
            );
            Ok((line, stormy / quiet, storm.join().unwrap_or_default()))
        })?;
        if let Some(mut pgbench) = pgbench {
            pgbench.kill()?;
            pgbench.wait()?;
        }
        println!("round {round}: ratio {ratio:.3}: {line}");
        thread::sleep(BETWEEN);
        Ok((ratio, seen))
    }

    /// Makes the tables of pgbench, and a person who may read them.
    fn prepare(&self) -> Result<Someone> {
        let postgres = &self.world.postgres;
        let quiet = format!("alter database {HR_DATABASE} set log_statement = 'none'");
        postgres.sql(&quiet)?;
        let superuser = postgres.superuser(HR_DATABASE);
        let mut tables = superuser.client("pgbench", &["-i", "-q"])?;
        let made = tables
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        ensure!(made.success(), "pgbench -i: {made}");
        let grant = format!("grant select on all tables in schema public to \"{HR_GROUP}\"");
        postgres.sql_in(HR_DATABASE, &grant)?;
        self.world.person("bencher", &[HR_GROUP])
    }

    /// Starts pgbench through Postern; each report of a second is a number on the channel.
    fn pgbench(&self, person: &Someone) -> Result<(mpsc::Receiver<f64>, Option<Child>)> {
        let (send, ticks) = mpsc::channel();
        if self.alone {
            return Ok((ticks, None));
        }
        let arguments = ["-S", "-n", "-c", "16", "-j", "2", "-T", "100", "-P", "1"];
        let mut command = self.world.psql(person).client("pgbench", &arguments)?;
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stderr.take().context("no stderr")?).lines();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let tps = line.split(", ").find_map(|it| it.strip_suffix(" tps"));
                if let Some(tps) = tps.and_then(|it| it.parse::<f64>().ok())
                    && send.send(tps).is_err()
                {
                    return;
                }
            }
        });
        Ok((ticks, Some(child)))
    }

    /// Lets the logins arrive from `begun` on, each on a thread that was made before, and waits
    /// until all have ended.
    fn storm(&self, begun: Instant, round: usize) -> Vec<Seen> {
        if !self.alone {
            lowest_priority();
        }
        let seen = Mutex::new(Vec::with_capacity(self.logins));
        thread::scope(|scope| {
            for number in 0..self.logins {
                let seen = &seen;
                let due = begun + ARRIVAL.mul_f64(part(number, self.logins));
                let one = move || {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    let person = Someone {
                        login: format!("storm-{round}-{number}"),
                        password: "whatever".to_owned(),
                    };
                    let outcome = self.attempt(&person, due);
                    seen.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(outcome);
                };
                let builder = thread::Builder::new().stack_size(128 * 1024);
                if let Err(error) = builder.spawn_scoped(scope, one) {
                    eprintln!("no thread: {error}");
                }
            }
        });
        seen.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_logging_in(&self, person: &Someone, over: &AtomicBool) -> Vec<Seen> {
        let mut seen = Vec::new();
        while !over.load(Ordering::Relaxed) {
            seen.push(self.attempt(person, Instant::now()));
            thread::sleep(WARM_EVERY);
        }
        seen
    }

    /// One login with a full handshake.
    fn attempt(&self, person: &Someone, due: Instant) -> Seen {
        let mut config = ClientConfig::clone(&self.tls);
        config.resumption = Resumption::disabled();
        let port = self.world.postern.port();
        let told = RawClient::encrypted(port, &Arc::new(config)).and_then(|client| match client {
            Ok(client) => client.go_on(&person.login, HR_DATABASE, &person.password),
            Err(told) => Ok(Err(told)),
        });
        let outcome = match told {
            Ok(Ok(_)) => "in".to_owned(),
            Ok(Err(told)) => told.field(b'C').unwrap_or_default(),
            Err(error) => format!("{error:#}"),
        };
        (outcome, due.elapsed())
    }

    /// CPU seconds so far: of Postern's login threads, and of this process.
    fn cpu(&self) -> Result<(f64, f64)> {
        let mut logins = 0.0;
        for task in fs::read_dir(format!("/proc/{}/task", self.world.postern.pid()?))? {
            let task = task?.path();
            let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
            if name.starts_with("login-") {
                logins += seconds_of(&task.join("stat"));
            }
        }
        Ok((logins, seconds_of(Path::new("/proc/self/stat"))))
    }

    fn memory(&self) -> Result<String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.world.postern.pid()?))?;
        let wanted = |line: &&str| line.starts_with("VmRSS") || line.starts_with("VmHWM");
        let lines: Vec<&str> = status.lines().filter(wanted).collect();
        Ok(lines.join(", ").replace(['\t', ' '], ""))
    }

    /// Prints why logins were refused, by the audit file.
    fn reasons(&self) -> Result<()> {
        let mut by: BTreeMap<String, usize> = BTreeMap::new();
        for record in self.world.postern.audit()? {
            if record["event"] == "refused" {
                let why = format!("{}, {}", record["reason"], record["detail"]);
                *by.entry(why).or_default() += 1;
            }
        }
        by.iter()
            .for_each(|(why, times)| println!("{times} refused: {why}"));
        Ok(())
    }
}

/// The transactions a second of one window; not a number without pgbench.
fn window(ticks: &mpsc::Receiver<f64>) -> f64 {
    ticks.try_iter().for_each(drop);
    thread::sleep(WINDOW);
    let seen: Vec<f64> = ticks.try_iter().collect();
    seen.iter().sum::<f64>() / part(seen.len(), 1)
}

/// Of this thread, and of those that it starts.
fn lowest_priority() {
    let thread = nix::unistd::gettid().to_string();
    let mut renice = Command::new("renice");
    let done = renice
        .args(["-n", "19", "-p", &thread])
        .stdout(Stdio::null())
        .status();
    if !done.is_ok_and(|it| it.success()) {
        eprintln!("the storm has the usual priority");
    }
}

/// The user and system time in a `stat` file; proc(5), in ticks of 10 ms.
fn seconds_of(stat: &Path) -> f64 {
    let text = fs::read_to_string(stat).unwrap_or_default();
    let fields = text
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let ticks = fields
        .skip(11)
        .take(2)
        .filter_map(|it| it.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

fn tell(who: &str, seen: &[Seen]) {
    let mut by: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for (outcome, taken) in seen {
        by.entry(outcome).or_default().push(*taken);
    }
    for (outcome, mut taken) in by {
        taken.sort_unstable();
        let last = taken.len().saturating_sub(1);
        let at = |thousandths: usize| taken.get(last * thousandths / 1000).copied();
        let late = taken.iter().filter(|it| **it > Duration::from_secs(1));
        println!(
            "{who} {outcome}: {} times, {} of them after more than a second; in milliseconds \
             p50 {}, p99 {}, longest {}",
            taken.len(),
            late.count(),
            at(500).unwrap_or_default().as_millis(),
            at(990).unwrap_or_default().as_millis(),
            at(1000).unwrap_or_default().as_millis()
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand logins")]
fn part(number: usize, of: usize) -> f64 {
    number as f64 / of as f64
}
