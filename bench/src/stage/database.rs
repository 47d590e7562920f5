//! PostgreSQL and what is in it.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use postern_tests::process::run;
use postern_tests::{Certificates, Postgres, Scratch, free_port};

use super::Stage;
use crate::options::Options;
use crate::pgbench::{self, Load};
use crate::route::Encryption;
use crate::scenario::Extent;

/// The database that all loads run in.
pub const DATABASE: &str = "bench";
/// Who logs in to Postern.
pub const PERSON: &str = "bench_person";
/// Who logs in directly and through the peers.
pub const DIRECT_USER: &str = "bench_direct";
/// Both have the same password.
pub const PASSWORD: &str = "Bench-2718-warm";

/// The group of both, which may use the tables.
pub const GROUP: &str = "postern-bench";

/// What a bulk transfer has in a row, in characters.
const BULK_ROW_CHARS: u64 = 1_000;

/// Nothing needs to survive a power cut, and nothing but the loads should run: no vacuum, no
/// checkpoint, no log line a session.
pub(crate) const SETTINGS: &str = "
max_connections = 1500
wal_level = minimal
max_wal_senders = 0
max_wal_size = '16GB'
checkpoint_timeout = '1h'
autovacuum = off
jit = off
track_functions = none
log_connections = off
log_disconnections = off
log_checkpoints = off
";

/// Starts PostgreSQL. Everybody may come with and without TLS, as the peers cannot all use it.
pub(super) fn start(
    scratch: &Scratch,
    certificates: &Certificates,
    options: &Options,
) -> Result<Postgres> {
    let port = options.postgres_port.map_or_else(free_port, Ok)?;
    let settings = settings(options.extent());
    let postgres = Postgres::start_on(scratch, certificates, port, &settings)?;
    postgres.set_hba("host all all 127.0.0.1/32 scram-sha-256")?;
    Ok(postgres)
}

/// The settings of PostgreSQL beside those of all tests.
pub(super) fn settings(extent: Extent) -> String {
    // Everything stays in memory: no load should wait for a disk.
    let shared_buffers = match extent {
        Extent::Quick => "512MB",
        Extent::Full => "2GB",
    };
    format!("{SETTINGS}shared_buffers = '{shared_buffers}'\n")
}

/// Makes the database, the group, the direct user and pgbench's tables. Postern's schema must be
/// installed.
pub(super) fn fill(postgres: &Postgres, extent: Extent) -> Result<()> {
    postgres.sql(&format!("create database {DATABASE}"))?;
    postgres.sql(&format!(
        "create role \"{GROUP}\"; select postern.adopt_group('{GROUP}'); \
         create role {DIRECT_USER} login password '{PASSWORD}' in role \"{GROUP}\"; \
         alter role {} reset log_statement",
        postern_tests::postern::PROVISIONER
    ))?;
    let scale = match extent {
        Extent::Quick => "10",
        Extent::Full => "50",
    };
    let options = [
        "--initialize",
        "--quiet",
        "--unlogged-tables",
        "--scale",
        scale,
    ];
    run(&mut postgres.superuser(DATABASE).client("pgbench", &options)?)?;
    postgres.sql_in(DATABASE, &grant())?;
    postgres.sql("checkpoint")?;
    Ok(())
}

fn grant() -> String {
    format!("grant select, insert, update on all tables in schema public to \"{GROUP}\"")
}

/// What PostgreSQL keeps of the direct user's password. A pooler that has the same need not derive
/// it for every login.
pub(super) fn verifier(postgres: &Postgres) -> Result<String> {
    postgres.sql(&format!(
        "select rolpassword from pg_authid where rolname = '{DIRECT_USER}'"
    ))
}

/// Data for bulk transfers.
#[derive(Debug)]
pub struct BulkData {
    /// The table, in the bench's database.
    pub table: &'static str,
    /// The same in a file, in the text form of COPY.
    pub file: PathBuf,
    /// How long the file is.
    pub bytes: u64,
}

/// Data that is made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Bulk(OnceLock<BulkData>);

impl Bulk {
    pub(super) fn get(&self, stage: &Stage) -> Result<&BulkData> {
        if let Some(data) = self.0.get() {
            return Ok(data);
        }
        let made = Self::make(stage)?;
        Ok(self.0.get_or_init(|| made))
    }

    fn make(stage: &Stage) -> Result<BulkData> {
        let rows = match stage.extent() {
            Extent::Quick => 128_000_000 / BULK_ROW_CHARS,
            Extent::Full => 1_000_000_000 / BULK_ROW_CHARS,
        };
        let file = stage.scratch().path().join("bulk.txt");
        let table = "bulk";
        // The primary key is left out: COPY would spend more time on it than on the transfer.
        let sql = format!(
            "create unlogged table {table} (id bigint, filler text); \
             insert into {table} select it, repeat(chr(97 + it::int % 26), {BULK_ROW_CHARS} - 10) \
             from generate_series(1, {rows}) it; {}; vacuum analyze {table}",
            grant()
        );
        for statement in sql.split("; ") {
            stage.postgres().sql_in(DATABASE, statement)?;
        }
        let copy = format!("\\copy {table} to '{}'", file.display());
        stage.postgres().sql_in(DATABASE, &copy)?;
        let bytes = std::fs::metadata(&file).context("the bulk file")?.len();
        Ok(BulkData { table, file, bytes })
    }
}

/// How many transactions a second this machine does directly, roughly.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    one: f64,
    many: f64,
}

impl Pace {
    /// How long it is measured, in seconds.
    const LOAD_S: u64 = 1;
    /// How many clients are many.
    const CLIENTS: u64 = 16;

    pub(super) fn find(stage: &Stage) -> Result<Self> {
        let route = stage.route("direct")?;
        let rate = |clients| {
            let load = Load::select("prepared", clients);
            let ran = pgbench::run_for(route, Encryption::Plain, &load, Self::LOAD_S)?;
            anyhow::Ok(ran.rate_per_s)
        };
        Ok(Self {
            one: rate(1)?,
            many: rate(Self::CLIENTS)?,
        })
    }

    /// How many transactions of `pgbench -S` each of some clients does in some seconds, at least
    /// one.
    #[must_use]
    pub fn each(&self, clients: u64, seconds: f64) -> u64 {
        let rate = if clients == 1 { self.one } else { self.many };
        let all = Duration::from_secs_f64((rate * seconds).max(0.0)).as_secs();
        (all / clients.max(1)).max(1)
    }
}
