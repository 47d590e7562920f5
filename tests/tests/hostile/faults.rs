//! Transfers over a network that fails, on either leg.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::process::run_with_input;
use postern_tests::{ConfigFile, Psql, World};

use crate::relay::{Break, Fault, Relay, Toward};

/// The rows of a transfer; each is its number and the MD5 of that, some 38 bytes.
const ROWS: u32 = 20_000;

/// Where in a transfer it breaks, in bytes of its direction: in the middle of it.
const MIDDLE: usize = 300_000;

/// How long a session may last whose network has failed.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

const COPY_OUT: &str = "copy (select i, md5(i::text) from generate_series(1, 20000) i) to stdout";

/// Both legs of a person's sessions go through a relay each.
struct Lines {
    client: Relay,
    backend: Relay,
    psql: Psql,
    /// What the transfer has from the database itself.
    rows: String,
}

impl Lines {
    /// What arrives of a transfer out, and whether psql believes that it is all.
    fn copy_out(&self) -> Result<(bool, String)> {
        let answer = self.psql.run(COPY_OUT)?;
        Ok((answer.ok, answer.stdout))
    }

    /// Whether psql believes that a transfer in is done.
    fn copy_in(&self) -> Result<bool> {
        let mut command = self.psql.command()?;
        command.args([
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            "copy transfers from stdin",
        ]);
        let output = run_with_input(&mut command, &format!("{}\n", self.rows))?;
        Ok(output.status.success())
    }

    fn set(&self, leg: usize, fault: Fault) {
        let (one, other) = match leg {
            0 => (&self.client, &self.backend),
            _ => (&self.backend, &self.client),
        };
        one.set(fault);
        other.set(Fault::None);
    }
}

/// What is in the table: how many rows, and one sum of all of them.
fn stored(world: &World) -> Result<String> {
    let sql = "select count(*) || ' ' || coalesce(md5(string_agg(i || t, ',' order by i, t)), '') \
               from transfers";
    world.postgres.sql_in(HR_DATABASE, sql)
}

/// Runs a claim with relays on both legs.
fn over_relays(world: &World, login: &str, claim: impl FnOnce(&Lines) -> Result<()>) -> Result<()> {
    let person = world.person(login, &[HR_GROUP])?;
    for sql in [
        "create table if not exists transfers (i integer, t text)",
        "truncate transfers",
        "grant select, insert on transfers to public",
    ] {
        world.postgres.sql_in(HR_DATABASE, sql)?;
    }
    let backend = Relay::start(world.postgres.port())?;
    let port = backend.port;
    let change = |config: &mut ConfigFile| {
        config.set("backend", "port", port);
    };
    let client = Relay::start(world.postern.port())?;
    let mut psql = world.psql(&person);
    let rows = world.postgres.superuser(HR_DATABASE).query(COPY_OUT)?;
    ensure!(rows.lines().count() == usize::try_from(ROWS)?);
    psql.port = client.port;
    let lines = Lines {
        client,
        backend,
        psql,
        rows,
    };
    world.with_config(change, || claim(&lines))
}

pub(crate) fn bytes_that_come_in_pieces_or_late_arrive_once_and_in_order(
    world: &World,
) -> Result<()> {
    over_relays(world, "carried", |lines| {
        let mut sums = Vec::new();
        for fault in [Fault::None, Fault::Slice, Fault::Delay] {
            lines.client.set(fault);
            lines.backend.set(fault);
            let (is_done, rows) = lines.copy_out()?;
            ensure!(
                is_done && rows == lines.rows,
                "{fault:?}: {} bytes",
                rows.len()
            );
            world.postgres.sql_in(HR_DATABASE, "truncate transfers")?;
            ensure!(lines.copy_in()?, "{fault:?}");
            sums.push(stored(world)?);
        }
        let first = sums.first().cloned().unwrap_or_default();
        ensure!(first.starts_with(&format!("{ROWS} ")), "{first}");
        ensure!(sums.iter().all(|sum| *sum == first), "{sums:?}");
        Ok(())
    })
}

pub(crate) fn a_transfer_that_breaks_is_cut_short_or_nothing_and_its_session_ends(
    world: &World,
) -> Result<()> {
    over_relays(world, "broken", |lines| {
        for leg in 0..2 {
            for how in [Break::Cut, Break::Reset, Break::HalfClose, Break::Corrupt] {
                let what = format!("leg {leg}, {how:?}");
                lines.set(leg, Fault::After(Toward::Client, MIDDLE, how));
                let begun = Instant::now();
                let (is_done, rows) = lines.copy_out()?;
                ensure!(!is_done, "{what}: it is taken to be whole");
                // What psql prints of a row that is not whole is not counted.
                let whole = rows.rfind('\n').and_then(|end| rows.get(..end));
                let whole = whole.unwrap_or_default();
                ensure!(lines.rows.starts_with(whole), "{what}: other rows");
                lines.set(leg, Fault::After(Toward::Server, MIDDLE, how));
                ensure!(!lines.copy_in()?, "{what}: it is taken to be done");
                let gone = "select count(*) = 0 from pg_stat_activity where usename = 'broken'";
                world.wait_for_sql(&format!("{what}: the backend has gone"), gone)?;
                ensure!(stored(world)? == "0", "{what}: {}", stored(world)?);
                ensure!(
                    begun.elapsed() < 2 * ENDS_WITHIN,
                    "{what}: {:?}",
                    begun.elapsed()
                );
            }
        }
        lines.set(0, Fault::None);
        let (is_done, rows) = lines.copy_out()?;
        ensure!(is_done && rows == lines.rows);
        Ok(())
    })
}
