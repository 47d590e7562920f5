//! Backups and streams of changes by PostgreSQL's own programs.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use postern_tests::process::{run, run_any};
use postern_tests::{ConfigFile, DirectoryServer, Member, Psql, Someone, wal};

use crate::site::{DATABASE, ROUTES, Route, Site};

/// The group whose members may replicate through Postern.
const COPIERS: &str = "copiers-suites";

/// The plug-in that every server has, and what it is told.
const PLUGIN: &str = "--plugin=pgoutput";
pub(crate) const STREAM: [&str; 2] = ["-oproto_version=1", "-opublication_names=suites_all"];

pub(crate) fn backups_and_streams_of_changes_are_the_same_on_both_routes(
    site: &Site,
) -> Result<()> {
    let person = site.person("replicator")?;
    let stranger = site.person("no-replicator")?;
    with_replication(site, &person, || {
        let direct = copies(site, Route::Direct, &person)?;
        let through = copies(site, Route::Through, &person)?;
        ensure!(
            direct == through,
            "directly {direct:?}, through Postern {through:?}"
        );
        expect_refused(site, &stranger)
    })
}

/// Opens replication to a person on both routes, on [`way`], for as long as a claim takes.
pub(crate) fn with_replication(
    site: &Site,
    person: &Someone,
    claim: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let login = &person.login;
    let direct = site.postgres(Route::Direct);
    direct.sql(&format!("alter role \"{login}\" replication"))?;
    site.world.group(COPIERS)?;
    let copier = Member::Person(login);
    site.world.directory.add_member(COPIERS, copier)?;
    for route in ROUTES {
        let publication = "drop publication if exists suites_all; \
                           create publication suites_all for all tables";
        site.postgres(route).sql_in(DATABASE, publication)?;
    }
    let postgres = site.postgres(Route::Through);
    let (word, back) = match postgres.major() {
        16.. => (
            "alter role postern_people replication",
            "alter role postern_people noreplication",
        ),
        _ => (
            "alter function postern.set_replication(text, boolean) owner to postgres",
            "alter function postern.set_replication(text, boolean) owner to postern_people",
        ),
    };
    postgres.sql(word)?;
    let opens = |config: &mut ConfigFile| {
        config
            .begin("group_rule")
            .set("group_rule", "prefix", "copiers-")
            .set("group_rule", "replication", true);
    };
    let outcome = site.world.with_plain_config(opens, claim);
    postgres.sql(back)?;
    outcome
}

/// A way to the listener where there need be no TLS: the other one is not to be restarted, because
/// it remembers people for other suites.
pub(crate) fn way(site: &Site, route: Route, person: &Someone) -> Psql {
    let mut psql = site.psql(route, person);
    if route == Route::Through {
        psql.port = site.plain_port(route);
        psql.sslmode = "disable".to_owned();
    }
    psql
}

/// A base backup, a stream of the log and one of changes: what came of each, where that is the same
/// for two servers with the same data.
fn copies(site: &Site, route: Route, person: &Someone) -> Result<Vec<String>> {
    let psql = way(site, route, person);
    let postgres = site.postgres(route);
    let place = |name: &str| -> Result<std::path::PathBuf> {
        let name = format!("{name}-{}", route.name());
        site.world.scratch.subfolder(&name)
    };
    let mut seen = Vec::new();

    let backup = place("backup")?;
    let options = [
        "--wal-method=stream",
        "--no-sync",
        "--checkpoint=fast",
        "--pgdata",
    ];
    run(psql.client("pg_basebackup", &options)?.arg(&backup))?;
    seen.extend(names(&backup)?);

    wal::receive_a_segment(postgres, &psql, &place("log")?)?;

    let slot = |arguments: &[&str]| -> Result<String> {
        let mut command = psql.client("pg_recvlogical", &["--slot=suites"])?;
        run(command.args(["-d", DATABASE]).args(arguments))
    };
    slot(&["--create-slot", PLUGIN])?;
    let change = "create table streamed (id int, word text); insert into streamed values (42, 'x')";
    postgres.sql_in(DATABASE, change)?;
    let end = postgres.sql("select pg_current_wal_insert_lsn()")?;
    let received = place("changes")?.join("received");
    let (file, end) = (
        format!("--file={}", received.display()),
        format!("--endpos={end}"),
    );
    let mut start = vec!["--start", "--no-loop", &*file, &*end];
    start.extend(STREAM);
    slot(&start)?;
    slot(&["--drop-slot"])?;
    let bytes = std::fs::read(&received)?;
    for part in ["streamed", "word", "42"] {
        let has = bytes.windows(part.len()).any(|it| it == part.as_bytes());
        seen.push(format!("{part}: {has}"));
        ensure!(has, "the changes have no {part}");
    }
    Ok(seen)
}

/// What is in a folder, in order.
fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Whoever is in no such group is refused with words that say so, by each of the programs.
fn expect_refused(site: &Site, person: &Someone) -> Result<()> {
    let psql = way(site, Route::Through, person);
    psql.query("select 1")?;
    let programs: [(&str, &[&str]); 3] = [
        ("pg_basebackup", &["--wal-method=none", "--pgdata"]),
        ("pg_receivewal", &["--no-loop", "--directory"]),
        (
            "pg_recvlogical",
            &["--drop-slot", "--slot=none", "--dbname=suites", "--file"],
        ),
    ];
    for (name, options) in programs {
        let place = site.world.scratch.subfolder(&format!("refused-{name}"))?;
        let mut command: Command = psql.client(name, options)?;
        let output = run_any(command.arg(&place))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "{name} was let in");
        let told = "permission denied to start a replication connection";
        ensure!(said.contains(told), "{name}: {said}");
    }
    psql.query("select 1")?;
    Ok(())
}
