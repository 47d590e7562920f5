//! PostgreSQL's own client programs: dumps, copies, loads, and what the server refuses.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use postern_tests::process::run;
use postern_tests::{Psql, RawClient, Someone};

use crate::site::{DATABASE, ROUTES, Route, Site};

/// A table with a column of every type, and large objects.
const EVERY_TYPE: &str = include_str!("every_type.sql");
/// The fewest types that there must be in it.
const TYPES_MIN: usize = 75;

/// A value of more than the 1 GB that PostgreSQL allows, made by it and sent to it.
const TOO_LONG: &str = "select repeat('x', 1024 * 1024 * 1024 - 1)";
/// The length of a message that PostgreSQL does not even begin to read, in bytes.
const TOO_LONG_BYTES: u32 = 0x4000_0001;

/// What is streamed for longer than any claim reads.
pub(crate) const ENDLESS: &str = "select repeat('x', 1000), generate_series(1, 2000000000)";

pub(crate) fn every_type_and_large_object_is_dumped_and_restored_the_same(
    site: &Site,
) -> Result<()> {
    let person = site.person("dumper")?;
    let mut dumps = Vec::new();
    for route in ROUTES {
        let database = format!("dumped_{}", route.name());
        let psql = own_database(site, route, &person, &database)?;
        psql.query(EVERY_TYPE)?;
        let types = "select count(distinct atttypid) from pg_attribute \
                     where attrelid = 'every_type'::regclass and attnum > 0";
        let types: usize = psql.query(types)?.parse()?;
        ensure!(types >= TYPES_MIN, "only {types} types");
        let before = plain_dump(&psql)?;
        let file = site.world.scratch.path().join(&database);
        let name = file.display().to_string();
        let options = ["--format=custom", "--no-owner", "--file", &name];
        run(&mut psql.client("pg_dump", &options)?)?;
        let restored = format!("restored_{}", route.name());
        let psql = own_database(site, route, &person, &restored)?;
        let options = [
            "--exit-on-error",
            "--no-owner",
            "--jobs=2",
            "-d",
            &restored,
            &name,
        ];
        run(&mut psql.client("pg_restore", &options)?)?;
        fs::remove_file(file)?;
        ensure!(
            plain_dump(&psql)? == before,
            "{}: changed by a restore",
            route.name()
        );
        eprintln!(
            "  pg_dump {}: {types} types, {} bytes",
            route.name(),
            before.len()
        );
        dumps.push(before);
    }
    ensure!(dumps.first() == dumps.last(), "the routes' dumps differ");
    Ok(())
}

/// A database in which the person may do everything.
pub(crate) fn own_database(
    site: &Site,
    route: Route,
    person: &Someone,
    name: &str,
) -> Result<Psql> {
    // The role of a person is there after the first login.
    site.psql(route, person).query("select 1")?;
    let postgres = site.postgres(route);
    postgres.sql(&format!(
        "create database {name} owner \"{}\"",
        person.login
    ))?;
    let grant = format!("grant all on schema public to \"{}\"", person.login);
    postgres.sql_in(name, &grant)?;
    Ok(site.psql(route, person).database(name))
}

/// Everything in a database as text, without the lines that are different each time.
fn plain_dump(psql: &Psql) -> Result<String> {
    let options = ["--no-owner", "--no-acl", "--blobs"];
    let text = run(&mut psql.client("pg_dump", &options)?)?;
    ensure!(text.len() > 10_000_000, "only {} bytes", text.len());
    let lines = text.lines().filter(|it| !it.contains("restrict "));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

pub(crate) fn copies_in_text_csv_and_binary_are_the_same_both_ways(site: &Site) -> Result<()> {
    let person = site.person("copier")?;
    for format in ["text", "csv", "binary"] {
        let mut copies = BTreeSet::new();
        for route in ROUTES {
            let psql = own_database(site, route, &person, &format!("copied_{format}"))?;
            psql.query(EVERY_TYPE)?;
            let folder = site.world.scratch.subfolder("copied")?;
            let (first, second) = (folder.join("first"), folder.join("second"));
            let (first_name, second_name) = (first.display(), second.display());
            // What is generated is not copied in, and these two types cannot be in binary.
            psql.query(&format!(
                "alter table every_type drop v_generated, drop v_regrole, drop v_regclass, \
                     alter v_identity drop identity;\n\
                 create table back (like every_type);\n\
                 \\copy every_type to '{first_name}' with (format {format})\n\
                 \\copy back from '{first_name}' with (format {format})\n\
                 \\copy back to '{second_name}' with (format {format})\n"
            ))?;
            let bytes = fs::read(first)?;
            ensure!(bytes.len() > 1_000_000, "only {} bytes", bytes.len());
            ensure!(bytes == fs::read(second)?, "{format} {}", route.name());
            copies.insert(bytes);
        }
        // In binary there are numbers of types, which each server gives out as it likes.
        let same = copies.len() == 1 || format == "binary";
        ensure!(same, "{format}: the routes' copies differ");
    }
    Ok(())
}

pub(crate) fn pgbench_runs_the_same_in_every_mode_and_in_pipelines(site: &Site) -> Result<()> {
    let person = site.person("loader")?;
    let pipeline = "\\startpipeline\nselect 1;\nselect :client_id + 1;\nselect 3;\n\\endpipeline\n";
    let script = site.world.scratch.secret_file("pipeline.sql", pipeline)?;
    let script = script.display().to_string();
    for route in ROUTES {
        let psql = own_database(site, route, &person, "loaded")?;
        run(&mut psql.client("pgbench", &["-i", "-q"])?)?;
        for mode in ["simple", "extended", "prepared"] {
            let mut loads = vec![vec!["-n"], vec!["-S", "-n"], vec!["-S", "-n", "-C"]];
            if mode != "simple" {
                loads.push(vec!["-n", "-f", &script]);
            }
            for load in loads {
                let shape = ["-M", mode, "-c", "4", "-j", "2", "-t", "25"];
                let said = run(&mut psql.client("pgbench", &[&shape, &load[..]].concat())?)?;
                let name = route.name();
                ensure!(said.contains("100/100"), "{mode} {load:?} {name}: {said}");
            }
        }
    }
    Ok(())
}

pub(crate) fn values_and_messages_of_1_gb_are_refused_by_the_server_in_its_own_words(
    site: &Site,
) -> Result<()> {
    let person = site.person("boaster")?;
    let mut said = BTreeSet::new();
    for route in ROUTES {
        let answer = site.psql(route, &person).run(TOO_LONG)?;
        ensure!(!answer.ok, "1 GB came through");
        let mut client = raw(site, route, &person)?;
        client.send(&[&b"Q"[..], &TOO_LONG_BYTES.to_be_bytes()].concat())?;
        // It says why in its log alone, and closes.
        client.expect_end()?;
        let logged = site
            .postgres(route)
            .log_contains("invalid message length")?;
        ensure!(logged, "{}: the server did not read it", route.name());
        said.insert(answer.stderr);
    }
    ensure!(said.len() == 1, "{said:?}");
    let said = said.first().context("nothing was said")?;
    ensure!(said.contains("requested length too large"), "{said}");
    Ok(())
}

/// A session byte by byte, without TLS on both routes.
pub(crate) fn raw(site: &Site, route: Route, person: &Someone) -> Result<RawClient> {
    let (login, password) = (&person.login, &person.password);
    RawClient::logged_in(site.plain_port(route), login, DATABASE, password)
}
