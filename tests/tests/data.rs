//! What people do with a database goes through unchanged: pgbench, pg_dump, COPY of many bytes.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use postern_tests::process::run;
use postern_tests::world::every_session_has_exactly_one_terminal_record;
use postern_tests::{Postgres, Psql, RawClient, Someone, World, claims, harness};

/// The group that may do everything in the database of these claims.
const GROUP: &str = "postern-bench";
const DATABASE: &str = "bench";

/// Lines and bytes of the file that is copied: 32 MB.
const COPIED_LINES: u32 = 250_000;
const COPIED_LINE_BYTES: usize = 128;

fn main() -> ExitCode {
    harness::run(
        World::missing(),
        start,
        claims![
            pgbench_runs_in_every_protocol_mode,
            a_dump_taken_through_and_restored_through_is_the_same,
            a_copy_of_32_mb_each_way_keeps_every_byte,
            a_copy_over_a_connection_without_tls_keeps_every_byte,
            a_long_row_and_a_long_query_go_through_whole,
            a_slow_reader_gets_everything,
            a_half_closed_client_gets_its_answers,
            every_session_has_exactly_one_terminal_record,
        ],
    )
}

fn start() -> Result<World> {
    let world = World::start(|_| {})?;
    let postgres = &world.postgres;
    postgres.sql(&format!(
        "create role \"{GROUP}\"; select postern.adopt_group('{GROUP}'); \
         alter system set log_statement = 'none'; select pg_reload_conf()"
    ))?;
    for database in [DATABASE, "restored"] {
        postgres.sql(&format!("create database {database}"))?;
        postgres.sql_in(
            database,
            &format!("grant all on schema public to \"{GROUP}\""),
        )?;
    }
    let superuser = postgres.superuser(DATABASE);
    run(&mut superuser.client("pgbench", &["-i", "-q", "-s", "2"])?)?;
    let grant = format!("grant all on all tables in schema public to \"{GROUP}\"");
    postgres.sql_in(DATABASE, &grant)?;
    world.person("bencher", &[GROUP])?;
    Ok(world)
}

fn bencher() -> Someone {
    Someone {
        login: "bencher".to_owned(),
        password: "Secret-bencher-42".to_owned(),
    }
}

fn psql(world: &World) -> Psql {
    world.psql(&bencher()).database(DATABASE)
}

fn pgbench_runs_in_every_protocol_mode(world: &World) -> Result<()> {
    let history = "select count(*) from pgbench_history";
    let count = || -> Result<u32> { Ok(world.postgres.sql_in(DATABASE, history)?.parse()?) };
    for mode in ["simple", "extended", "prepared"] {
        let before = count()?;
        let arguments = ["-n", "-c", "6", "-j", "2", "-t", "100", "-M", mode];
        let said = run(&mut psql(world).client("pgbench", &arguments)?)?;
        ensure!(said.contains("600/600"), "{mode}: {said}");
        ensure!(count()? == before + 600, "{mode}: not all are there");
        // A connection for each transaction: every one is a login from memory.
        let connect = ["-n", "-C", "-c", "3", "-t", "20", "-S", "-M", mode];
        let said = run(&mut psql(world).client("pgbench", &connect)?)?;
        ensure!(said.contains("60/60"), "{mode}: {said}");
    }
    let sums = "select (select sum(abalance) from pgbench_accounts) = \
                (select sum(bbalance) from pgbench_branches)";
    ensure!(world.postgres.sql_in(DATABASE, sums)? == "t");
    Ok(())
}

/// What is in the tables of pgbench, in short.
fn digest(postgres: &Postgres, database: &str) -> Result<String> {
    let table = |name: &str, order: &str| {
        format!("(select md5(string_agg(t::text, '|' order by {order})) from {name} t)")
    };
    let sql = format!(
        "select {}, {}, {}",
        table("pgbench_accounts", "aid"),
        table("pgbench_tellers", "tid"),
        table("pgbench_branches", "bid")
    );
    postgres.sql_in(database, &sql)
}

fn a_dump_taken_through_and_restored_through_is_the_same(world: &World) -> Result<()> {
    let file = world.scratch.path().join("bench.dump");
    let name = file.display().to_string();
    let arguments = ["--format=custom", "--no-owner", "--no-acl", "--file", &name];
    run(&mut psql(world).client("pg_dump", &arguments)?)?;
    ensure!(fs::metadata(&file)?.len() > 100_000, "an empty dump");
    let restored = psql(world).database("restored");
    let arguments = [
        "--no-owner",
        "--exit-on-error",
        "--jobs",
        "2",
        "-d",
        "restored",
        &name,
    ];
    run(&mut restored.client("pg_restore", &arguments)?)?;
    let before = digest(&world.postgres, DATABASE)?;
    ensure!(digest(&world.postgres, "restored")? == before);
    fs::remove_file(file)?;
    Ok(())
}

/// Writes lines that do not compress and that differ from each other.
fn write_lines(path: &Path) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..COPIED_LINES {
        let mut line = format!("{number}\t");
        while line.len() < COPIED_LINE_BYTES - 1 {
            // A xorshift generator is random enough for bytes that only have to differ.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            line += &format!("{state:016x}");
        }
        line.truncate(COPIED_LINE_BYTES - 1);
        line.push('\n');
        file.write_all(line.as_bytes())?;
    }
    file.flush()?;
    Ok(())
}

fn copy_there_and_back(world: &World, psql: &Psql, table: &str) -> Result<()> {
    let there = world.scratch.path().join("there");
    let back = world.scratch.path().join("back");
    write_lines(&there)?;
    let (from, to) = (there.display(), back.display());
    psql.query(&format!(
        "create table {table} (number integer, text text);\n\
         \\copy {table} from '{from}'\n\
         \\copy (select * from {table} order by number) to '{to}'\n\
         drop table {table};\n"
    ))?;
    let (there_bytes, back_bytes) = (fs::read(&there)?, fs::read(&back)?);
    ensure!(
        there_bytes.len() > 30_000_000,
        "{} bytes",
        there_bytes.len()
    );
    ensure!(there_bytes == back_bytes, "what came back is not what went");
    fs::remove_file(there)?;
    fs::remove_file(back)?;
    Ok(())
}

fn a_copy_of_32_mb_each_way_keeps_every_byte(world: &World) -> Result<()> {
    copy_there_and_back(world, &psql(world), "copied_tls")
}

fn a_copy_over_a_connection_without_tls_keeps_every_byte(world: &World) -> Result<()> {
    let mut psql = psql(world);
    psql.port = world.plain.port();
    psql.sslmode = "disable".to_owned();
    copy_there_and_back(world, &psql, "copied_plain")
}

fn raw(world: &World) -> Result<RawClient> {
    let Someone { login, password } = bencher();
    RawClient::logged_in(world.plain.port(), &login, DATABASE, &password)
}

fn a_long_row_and_a_long_query_go_through_whole(world: &World) -> Result<()> {
    let mut client = raw(world)?;
    let long = "x".repeat(5_000_000);
    let length = client.query(&format!("select length('{long}')"))?;
    ensure!(length == "5000000", "{length}");
    let row = client.query("select repeat('y', 5000000)")?;
    ensure!(row.len() == 5_000_000 && row.bytes().all(|byte| byte == b'y'));
    Ok(())
}

fn a_slow_reader_gets_everything(world: &World) -> Result<()> {
    let mut slow = raw(world)?;
    let mut other = raw(world)?;
    slow.send_query("select repeat('z', 100000) from generate_series(1, 200)")?;
    // 20 MB are on their way to a client that does not read; nobody else waits for it, and the
    // backend's other session answers.
    for number in 0..50 {
        let answer = other.query(&format!("select {number}"))?;
        ensure!(answer == number.to_string(), "{answer}");
    }
    let messages = slow.read_until_ready()?;
    let rows = messages.iter().filter(|it| it.tag == b'D').count();
    ensure!(rows == 200, "{rows} rows");
    Ok(())
}

fn a_half_closed_client_gets_its_answers(world: &World) -> Result<()> {
    let mut client = raw(world)?;
    client.send_query("select repeat('w', 1000000)")?;
    client.send_query("select 'last'")?;
    client.finish_sending()?;
    let first = client.read_until_ready()?;
    let row = first.iter().find(|it| it.tag == b'D').context("no row")?;
    ensure!(row.body.len() > 1_000_000, "{} bytes", row.body.len());
    let last = client.read_until_ready()?;
    let row = last.iter().find(|it| it.tag == b'D').context("no row")?;
    ensure!(row.columns() == ["last"], "{row:?}");
    client.expect_end()
}
