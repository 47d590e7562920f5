//! Backups and streams of changes, which today nobody gets through Postern.

use std::process::Command;

use anyhow::{Result, ensure};
use postern_tests::process::run_any;

use crate::site::{Route, Site};

/// What the three programs are started with, beside the connection.
const PROGRAMS: [(&str, &[&str]); 3] = [
    (
        "pg_basebackup",
        &["--wal-method=none", "--no-sync", "--format=tar", "--pgdata"],
    ),
    ("pg_receivewal", &["--no-loop", "--no-sync", "--directory"]),
    (
        "pg_recvlogical",
        &[
            "--no-loop",
            "--drop-slot",
            "--slot=none",
            "--dbname=suites",
            "--file",
        ],
    ),
];

pub(crate) fn replication_connections_are_refused_with_words_that_say_so(
    site: &Site,
) -> Result<()> {
    let person = site.person("replicator")?;
    let psql = site.psql(Route::Through, &person);
    psql.query("select 1")?;
    for (name, options) in PROGRAMS {
        let place = site.world.scratch.subfolder(name)?;
        let mut command: Command = psql.client(name, options)?;
        let output = run_any(command.arg(&place))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "{name} was let in");
        ensure!(said.contains("replication"), "{name}: {said}");
    }
    psql.query("select 1")?;
    Ok(())
}
