//! The write-ahead log as pg_receivewal gets it, beside the server's own.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use crate::postgres::Postgres;
use crate::process::Server;
use crate::psql::Psql;
use crate::wait::wait_until;

/// How long a segment of 16 MB may take on a busy machine.
const SEGMENT_LIMIT: Duration = Duration::from_secs(60);

/// Has pg_receivewal stream into an empty folder until a segment is finished, ends it by SIGINT,
/// and compares the segment with the server's file of the same name.
///
/// # Errors
/// When no segment comes, when it is another one, or when pg_receivewal does not end well.
pub fn receive_a_segment(postgres: &Postgres, psql: &Psql, folder: &Path) -> Result<()> {
    let mut command = psql.unlimited_client("pg_receivewal", &["--no-loop", "--no-sync"])?;
    command.arg("--directory").arg(folder);
    let log = folder.with_extension("log");
    let mut receiver = Server::spawn("pg_receivewal", command, &log, Signal::SIGINT)?;
    let streams = "select count(*) from pg_stat_replication \
        where application_name = 'pg_receivewal' and state = 'streaming'";
    receiver.wait_ready(SEGMENT_LIMIT, || Ok(postgres.sql(streams)? == "1"))?;
    postgres.sql("create table if not exists logged as select generate_series(1, 100000) as n")?;
    let segment = postgres.sql("select pg_walfile_name(pg_current_wal_insert_lsn())")?;
    postgres.sql("select pg_switch_wal()")?;
    // Until it is finished its name ends with `.partial`.
    let received = folder.join(&segment);
    wait_until("the segment is finished", SEGMENT_LIMIT, || {
        Ok(received.is_file())
    })?;
    let status = receiver.stop()?;
    ensure!(
        status.success(),
        "pg_receivewal: {status}: {}",
        receiver.log()?
    );
    let own = postgres.data().join("pg_wal").join(&segment);
    ensure!(
        fs::read(received)? == fs::read(own)?,
        "{segment} is not the server's"
    );
    Ok(())
}
