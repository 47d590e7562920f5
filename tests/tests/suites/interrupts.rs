//! Ctrl-C in the middle of what PostgreSQL's own programs do.

use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postern_tests::process::{run, through};
use postern_tests::{Psql, Server, wait_until};

use crate::programs::{ENDLESS, own_database};
use crate::replication::{self, with_replication};
use crate::site::{DATABASE, ROUTES, Route, Site};

/// How long a program may take to its middle, to its end, and its backends to theirs.
const LIMIT: Duration = Duration::from_secs(60);

/// Far longer than anybody waits here.
const SLEEP: &str = "select pg_sleep(600)";
/// What pgbench asks, which ends by the signal and cancels nothing: a backend sees that when it
/// next reads.
const SHORT: &str = "select count(*) from generate_series(1, 1000)";
/// More than fits into the buffers between a server and a program that does not read.
const MANY: &str = "create table many as \
    select repeat('x', 1000) as line from generate_series(1, 60000)";

/// Where a backend of the program is when it is in the middle, in the words of `pg_stat_activity`,
/// as `a`, and `pg_stat_replication`, as `r`.
const ASLEEP: &str = "a.wait_event = 'PgSleep'";
const BLOCKED: &str = "a.wait_event = 'ClientWrite'";
const LOADED: &str = "a.query ~ 'generate_series'";
const LOCKED: &str = "a.wait_event_type = 'Lock'";
const STREAMING: &str = "r.state = 'streaming'";
const COPYING_IN: &str =
    "a.state = 'active' and a.query ilike 'copy%' and a.wait_event = 'ClientRead'";

/// A program, its options, and where it is in the middle.
type Play<'a> = (&'static str, Vec<&'a str>, &'static str);

pub(crate) fn programs_that_are_interrupted_end_alike_and_leave_no_backend(
    site: &Site,
) -> Result<()> {
    let person = site.person("interrupter")?;
    let scratch = &site.world.scratch;
    let one = scratch.secret_file("short.sql", &format!("{SHORT};\n"))?;
    let pipeline = format!("\\startpipeline\n{SHORT};\n{SHORT};\n\\endpipeline\n");
    let pipeline = scratch.secret_file("short-pipeline.sql", &pipeline)?;
    let (one, pipeline) = (one.display().to_string(), pipeline.display().to_string());
    let archive = scratch.path().join("many").display().to_string();
    let out = format!("\\copy ({ENDLESS}) to stdout");
    let out_binary = format!("{out} (format binary)");
    let table = "create temporary table copied (number integer)";
    let back = "\\copy copied from pstdin";
    let back_binary = "\\copy copied from pstdin (format binary)";
    let plays: Vec<Play<'_>> = vec![
        ("psql", vec!["-c", SLEEP], ASLEEP),
        ("psql", vec!["-c", "listen midway", "-c", SLEEP], ASLEEP),
        ("psql", vec!["-c", &out], BLOCKED),
        ("psql", vec!["-c", &out_binary], BLOCKED),
        ("psql", vec!["-c", table, "-c", back], COPYING_IN),
        ("psql", vec!["-c", table, "-c", back_binary], COPYING_IN),
        ("pgbench", loads("simple", &one), LOADED),
        ("pgbench", loads("extended", &one), LOADED),
        ("pgbench", loads("prepared", &one), LOADED),
        ("pgbench", loads("extended", &pipeline), LOADED),
        ("pg_dump", vec!["--no-owner"], BLOCKED),
        (
            "pg_restore",
            vec!["--data-only", "--dbname=interrupted", &archive],
            LOCKED,
        ),
    ];
    let mut ends = Vec::new();
    for route in ROUTES {
        let psql = own_database(site, route, &person, "interrupted")?;
        psql.query(MANY)?;
        let options = ["--format=custom", "--table=many", "--file", &*archive];
        run(&mut psql.client("pg_dump", &options)?)?;
        let mut of_route = Vec::new();
        for play in &plays {
            let _lock = match play.2 {
                LOCKED => Some(lock(site, route, "interrupted")?),
                _ => None,
            };
            of_route.push(interrupt(site, route, &psql, play)?);
        }
        ends.push(of_route);
    }
    compare(&ends)
}

/// Options of pgbench, which runs a file again and again for longer than anybody waits.
fn loads<'a>(mode: &'a str, file: &'a str) -> Vec<&'a str> {
    vec!["-n", "-T", "600", "-M", mode, "-f", file]
}

pub(crate) fn copies_of_a_server_that_are_interrupted_end_alike_and_leave_no_backend(
    site: &Site,
) -> Result<()> {
    let person = site.person("breaker")?;
    let backup = vec![
        "--pgdata=-",
        "--format=tar",
        "--wal-method=none",
        "--checkpoint=fast",
    ];
    let mut changes = vec!["--slot=midway", "--start", "--no-loop", "--file=-"];
    changes.extend(["--dbname", DATABASE]);
    changes.extend(replication::STREAM);
    with_replication(site, &person, || {
        let mut ends = Vec::new();
        for route in ROUTES {
            let postgres = site.postgres(route);
            postgres.sql_in(DATABASE, &format!("{MANY}; analyze many"))?;
            postgres.sql_in(
                DATABASE,
                "select pg_create_logical_replication_slot('midway', 'pgoutput')",
            )?;
            let log = site.world.scratch.subfolder("interrupted-log")?;
            let log = log.display().to_string();
            let segments = vec!["--no-loop", "--no-sync", "--directory", &log];
            let psql = replication::way(site, route, &person);
            let mut of_route = Vec::new();
            for play in [
                ("pg_basebackup", backup.clone(), BLOCKED),
                ("pg_receivewal", segments, STREAMING),
                ("pg_recvlogical", changes.clone(), STREAMING),
            ] {
                of_route.push(interrupt(site, route, &psql, &play)?);
            }
            ends.push(of_route);
            postgres.sql_in(DATABASE, "select pg_drop_replication_slot('midway')")?;
        }
        compare(&ends)
    })
}

fn compare(ends: &[Vec<String>]) -> Result<()> {
    let [direct, through] = ends else {
        bail!("there are two routes");
    };
    for (there, here) in direct.iter().zip(through) {
        eprintln!("  {here}");
        ensure!(there == here, "{there} directly, {here} through Postern");
    }
    Ok(())
}

/// Runs a program to its middle, interrupts it, and waits until no backend of it is left. Returns
/// its name, its exit code and the last line that it said.
fn interrupt(site: &Site, route: Route, psql: &Psql, play: &Play<'_>) -> Result<String> {
    let (name, options, middle) = play;
    let what = format!("{name} {} {}", options.join(" "), route.name());
    let errors = site.world.scratch.subfolder("interrupted")?.join("stderr");
    let mut program = Running::start(&psql.unlimited_client(name, options)?, &errors)?;
    program.feed(options.iter().any(|it| it.contains("binary")))?;
    let postgres = site.postgres(route);
    let count = |condition: &str| {
        postgres.sql(&format!(
            "select count(*) from pg_stat_activity a left join pg_stat_replication r using (pid) \
             where a.usename = '{}' and {condition}",
            psql.user
        ))
    };
    wait_until(&format!("{what} is in the middle"), LIMIT, || {
        if let Some(status) = program.child.try_wait()? {
            bail!("it has ended: {status}: {}", fs::read_to_string(&errors)?);
        }
        Ok(count(middle)? != "0")
    })?;
    let status = program.interrupt().context(what.clone())?;
    wait_until(&format!("no backend of {what} is left"), LIMIT, || {
        Ok(count("true")? == "0")
    })?;
    let said = fs::read_to_string(&errors)?;
    // How far a copy had come is not the same twice, and neither is the name of a segment.
    let last = said.lines().rfind(|it| !it.starts_with("CONTEXT:"));
    let last = last.and_then(|it| it.split('"').next());
    let last = last.unwrap_or("nothing");
    Ok(format!("{name}: {status}, {last}"))
}

/// A session that keeps everybody else from a table.
fn lock(site: &Site, route: Route, database: &str) -> Result<Server> {
    let postgres = site.postgres(route);
    let sql = format!("begin; lock table many; {SLEEP}");
    let superuser = postgres.superuser(database);
    let command = superuser.unlimited_client("psql", &["-c", &sql])?;
    let log = site.world.scratch.subfolder("lock")?.join("log");
    let mut holder = Server::spawn("the lock", command, &log, Signal::SIGINT)?;
    let held = "select count(*) from pg_stat_activity \
        where usename = 'postgres' and wait_event = 'PgSleep'";
    holder.wait_ready(LIMIT, || Ok(postgres.sql(held)? == "1"))?;
    Ok(holder)
}

/// A program whose output nobody reads before it is interrupted, and that hears nothing after what
/// it was fed with.
struct Running {
    child: Child,
    input: PipeWriter,
    output: PipeReader,
}

impl Running {
    fn start(command: &Command, errors: &Path) -> Result<Self> {
        // Whoever runs in the background may have been told to ignore the signal.
        let mut wrapper = Command::new("env");
        wrapper.arg("--default-signal=INT");
        let mut command = through(wrapper, command);
        let (stdin, input) = io::pipe()?;
        let (output, stdout) = io::pipe()?;
        command
            .stdin(Stdio::from(stdin))
            .stdout(stdout)
            .stderr(File::create(errors)?);
        Ok(Self {
            child: command.spawn()?,
            input,
            output,
        })
    }

    /// Numbers for a copy in, fewer than a pipe holds: who does not read them does not care.
    fn feed(&mut self, binary: bool) -> Result<()> {
        let bytes = if binary {
            let header = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
            [header, b"\0\x01\0\0\0\x04\0\0\0\x07".repeat(5_000)].concat()
        } else {
            b"7\n".repeat(25_000)
        };
        Ok(self.input.write_all(&bytes)?)
    }

    fn interrupt(&mut self) -> Result<ExitStatus> {
        kill(
            Pid::from_raw(i32::try_from(self.child.id())?),
            Signal::SIGINT,
        )?;
        // What it has in hand it still writes.
        let mut output = self.output.try_clone()?;
        std::thread::spawn(move || io::copy(&mut output, &mut io::sink()));
        let mut status = None;
        wait_until("it ends", LIMIT, || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })?;
        status.context("it has not ended")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, or the claim has failed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
