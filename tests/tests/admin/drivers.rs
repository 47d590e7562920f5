//! What drivers say.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use postern_tests::process::run;
use postern_tests::raw::Message;
use postern_tests::world::scratch_file;
use postern_tests::{World, needs};

use crate::hostile::{logged_in, message};
use crate::{CONSOLE, OPERATOR, VIEWER, bound, console, password_of, refused, said};

/// Asks in both formats, by name and with a transaction around it, and prints what came.
const PROGRAM: &str = "\
import sys, psycopg
with psycopg.connect(sys.argv[1]) as c:
    for binary in (False, True):
        with c.cursor(binary=binary) as cur:
            for _ in range(3):
                cur.execute('show limits', prepare=True)
                rows = {row[0]: row[1] for row in cur}
            print(rows['limits.sessions_max'] + 1)
            cur.execute('show version')
            print(type(cur.fetchone()[2]).__name__)
            cur.execute('show config')
            print(all(len(row) == 2 for row in cur))
    print(c.info.transaction_status.name)
";

pub(crate) fn the_extended_protocol_answers_what_the_simple_one_does(world: &World) -> Result<()> {
    let mut client = logged_in(world, "eyes")?;
    client.send_query("show cache")?;
    let simple = client.read_until_ready()?;
    let parse = message(b'P', b"s\0show cache\0\0\0");
    let describe = message(b'D', b"Ss\0");
    let bind = message(b'B', b"\0s\0\0\0\0\0\0\0");
    let execute = message(b'E', b"\0\0\0\0\0");
    let close = message(b'C', b"Ss\0");
    let sync = message(b'S', b"");
    client.send(&[parse, describe, bind, execute, close, sync].concat())?;
    let extended = client.read_until_ready()?;
    let tags: Vec<u8> = extended.iter().map(|it| it.tag).collect();
    let told = String::from_utf8_lossy(&tags).into_owned();
    ensure!(told.starts_with("1tT2DDDDDDC3"), "{told}");
    let of_both = |messages: &[Message], tag| {
        let wanted = messages.iter().filter(|it| it.tag == tag);
        wanted.cloned().collect::<Vec<_>>()
    };
    for tag in [b'T', b'D', b'C'] {
        ensure!(of_both(&simple, tag) == of_both(&extended, tag), "{tag}");
    }
    Ok(())
}

pub(crate) fn pgbench_prepares_and_runs_commands(world: &World) -> Result<()> {
    let script = scratch_file(world, "console.sql");
    std::fs::write(&script, "show stats;\nselect 1;\nshow help;\n")?;
    for mode in ["simple", "extended", "prepared"] {
        let psql = console(&world.postern, VIEWER);
        let mut command = psql.client("pgbench", &["--no-vacuum", "--client=2"])?;
        command.args(["--transactions=5", "--protocol", mode, "--file"]);
        let said = run(command.arg(&script)).with_context(|| mode)?;
        ensure!(said.contains("processed: 10/10"), "{mode}: {said}");
    }
    Ok(())
}

pub(crate) fn psycopg_reads_typed_columns_in_both_formats(world: &World) -> Result<()> {
    let Some(python) = needs::psycopg() else {
        needs::skip(
            "psycopg_reads_typed_columns_in_both_formats",
            "psycopg is not installed",
        );
        return Ok(());
    };
    let (port, ca_file) = (world.postern.port(), world.postern.ca_file());
    let conninfo = format!(
        "host=localhost port={port} dbname={CONSOLE} user=eyes password={} \
         sslmode=verify-full sslrootcert={} channel_binding=require",
        password_of("eyes"),
        ca_file.display()
    );
    let said = run(Command::new(python).args(["-c", PROGRAM, &conninfo]))?;
    let once = "10001\ndatetime\nTrue\n";
    ensure!(said == format!("{once}{once}INTRANS\n"), "{said}");
    Ok(())
}

pub(crate) fn jdbc_reads_typed_columns_in_both_formats(world: &World) -> Result<()> {
    let jar = Path::new(needs::JDBC);
    let (Some(java), true) = (needs::program("java"), jar.exists()) else {
        needs::skip(
            "jdbc_reads_typed_columns_in_both_formats",
            "JDBC is not installed",
        );
        return Ok(());
    };
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers/java/Console.java");
    let url = format!(
        "jdbc:postgresql://localhost:{}/{CONSOLE}",
        world.postern.port()
    );
    let mut command = Command::new(java);
    command.arg("-cp").arg(jar).arg(program).arg(url);
    command
        .env("PGUSER", "eyes")
        .env("PGPASSWORD", password_of("eyes"));
    command.env("PGSSLROOTCERT", world.postern.ca_file());
    let said = run(&mut command)?;
    let once = "10001 true\n";
    ensure!(said == format!("true\n{once}{once}0A000\n{once}"), "{said}");
    Ok(())
}

pub(crate) fn what_is_no_command_is_refused_clearly(world: &World) -> Result<()> {
    let psql = console(&world.postern, OPERATOR);
    for (command, sqlstate, words) in [
        ("select * from pg_class", "0A000", "which has no SQL"),
        ("hello", "42601", "there is no such command"),
        (
            "show nothing",
            "42704",
            "unrecognized configuration parameter",
        ),
        ("kill", "42601", "was expected"),
        ("restore 'x", "42601", "does not end"),
    ] {
        // psql waits for the end of a quote; a command of its own does not.
        let (ok, text) = bound(&psql, "prefer", command)?;
        ensure!(!ok && text.contains(words), "{command}: {text}");
        if !command.contains('\'') {
            let told = refused(&psql, command)?;
            ensure!(told.contains(sqlstate), "{command}: {told}");
        }
    }
    let probes = "set application_name = 'x'; begin; select version(); commit; show timezone";
    let (rows, _) = said(&psql, probes)?;
    ensure!(rows.contains("Postern") && rows.ends_with("UTC"), "{rows}");
    Ok(())
}
