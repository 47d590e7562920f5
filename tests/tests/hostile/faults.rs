//! Logins and transfers over a network that fails, on either leg.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::process::run_with_input;
use postern_tests::{ConfigFile, Postern, Psql, World, wait_until};

use crate::meter::used;
use crate::relay::{Break, Fault, Relay, Toward};

/// The rows of a transfer; each is its number and the MD5 of that, some 38 bytes.
const ROWS: u32 = 20_000;

/// Where in a transfer it breaks, in bytes of its direction: in the middle of it.
const MIDDLE: usize = 300_000;

/// Where a login breaks, in bytes of its direction: in the first packet, the handshake, the startup
/// packet, the password, what the database says, or the query behind it, which is longer.
const PLACES: [usize; 6] = [0, 1, 8, 60, 300, 3_000];

/// How a login breaks. What is corrupt without TLS is another login.
const BREAKS: [Break; 4] = [Break::Cut, Break::Reset, Break::HalfClose, Break::Silence];

/// How long a login or a session may last whose network has failed.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

const COPY_OUT: &str = "copy (select i, md5(i::text) from generate_series(1, 20000) i) to stdout";

/// What both legs run over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Tls,
    Plain,
}

impl Over {
    const BOTH: [Self; 2] = [Self::Tls, Self::Plain];

    fn postern(self, world: &World) -> &Postern {
        match self {
            Self::Tls => &world.postern,
            Self::Plain => &world.plain,
        }
    }

    /// How a transfer breaks. Without TLS nobody can tell that it is corrupt.
    fn breaks(self) -> &'static [Break] {
        match self {
            Self::Tls => &[Break::Cut, Break::Reset, Break::HalfClose, Break::Corrupt],
            Self::Plain => &[Break::Cut, Break::Reset, Break::HalfClose],
        }
    }

    /// Runs a claim before a backend on this port.
    fn with_backend(
        self,
        world: &World,
        port: u16,
        claim: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let change = |config: &mut ConfigFile| {
            config
                .set("backend", "port", port)
                .set("backend", "connect_timeout_ms", 2_000)
                .set("limits", "login_timeout_ms", 4_000);
            if self == Self::Plain {
                config
                    .set("backend", "sslmode", "disable")
                    .unset("backend", "tls_ca_file");
            }
        };
        if self == Self::Tls {
            return world.with_config(change, claim);
        }
        world.postgres.set_hba("host all all all scram-sha-256")?;
        let outcome = world.with_plain_config(change, claim);
        world
            .postgres
            .set_hba("hostssl all all all scram-sha-256")?;
        outcome
    }
}

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

    /// One login, to its end. Where the network falls silent, Postern gives the login up by
    /// itself; a session that begins in silence may last as long as that.
    fn log_in(&self, postern: &Postern) -> Result<()> {
        let relays = [&self.client, &self.backend];
        thread::scope(|scope| {
            let query = format!("select '{}'", "x".repeat(4_000));
            let client = scope.spawn(move || self.psql.run(&query));
            wait_until("the client has ended, or waits", ENDS_WITHIN, || {
                Ok(client.is_finished() || relays.iter().any(|it| it.is_silent()))
            })?;
            wait_until("no login is on its way", ENDS_WITHIN, || {
                Ok(used(postern, "connections on their way")? == 0)
            })?;
            relays.iter().for_each(|it| it.end_silence());
            wait_until("the client has ended", ENDS_WITHIN, || {
                Ok(client.is_finished())
            })?;
            // With a session or with an error.
            let ended = client.join();
            ended.map_err(|_| anyhow!("the client panicked"))?.map(drop)
        })
    }
}

/// What is in the table: how many rows, and one sum of all of them.
fn stored(world: &World) -> Result<String> {
    let sql = "select count(*) || ' ' || coalesce(md5(string_agg(i || t, ',' order by i, t)), '') \
               from transfers";
    world.postgres.sql_in(HR_DATABASE, sql)
}

/// Runs a claim with relays on both legs.
fn over_relays(
    world: &World,
    (login, over): (&str, Over),
    claim: impl FnOnce(&Lines) -> Result<()>,
) -> Result<()> {
    let login = format!("{login}-{over:?}").to_lowercase();
    let person = world.person(&login, &[HR_GROUP])?;
    for sql in [
        "create table if not exists transfers (i integer, t text)",
        "truncate transfers",
        "grant select, insert on transfers to public",
    ] {
        world.postgres.sql_in(HR_DATABASE, sql)?;
    }
    let postern = over.postern(world);
    let backend = Relay::start(world.postgres.port())?;
    let client = Relay::start(postern.port())?;
    let mut psql = postern.psql(&person.login, &person.password);
    psql.database = HR_DATABASE.to_owned();
    psql.port = client.port;
    if over == Over::Plain {
        psql.sslmode = "disable".to_owned();
    }
    let rows = world.postgres.superuser(HR_DATABASE).query(COPY_OUT)?;
    ensure!(rows.lines().count() == usize::try_from(ROWS)?);
    let lines = Lines {
        client,
        backend,
        psql,
        rows,
    };
    let claim = || claim(&lines).with_context(|| format!("over {over:?}"));
    over.with_backend(world, lines.backend.port, claim)
}

pub(crate) fn bytes_that_come_in_pieces_or_late_arrive_once_and_in_order(
    world: &World,
) -> Result<()> {
    for over in Over::BOTH {
        over_relays(world, ("carried", over), |lines| {
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
        })?;
    }
    Ok(())
}

/// Waits until the database does nothing for anybody who logs in through a relay.
fn wait_for_no_backend(world: &World, lines: &Lines) -> Result<()> {
    let role = &lines.psql.user;
    let gone = format!("select count(*) = 0 from pg_stat_activity where usename = '{role}'");
    world.wait_for_sql("the backend has gone", &gone)
}

pub(crate) fn a_transfer_that_breaks_is_cut_short_or_nothing_and_its_session_ends(
    world: &World,
) -> Result<()> {
    for over in Over::BOTH {
        over_relays(world, ("broken", over), |lines| {
            for leg in 0..2 {
                for how in over.breaks() {
                    let broken = break_transfers(world, lines, (leg, *how));
                    broken.with_context(|| format!("leg {leg}, {how:?}"))?;
                }
            }
            lines.set(0, Fault::None);
            let (is_done, rows) = lines.copy_out()?;
            ensure!(is_done && rows == lines.rows);
            Ok(())
        })?;
    }
    Ok(())
}

/// One transfer out and one in, each broken in its middle.
fn break_transfers(world: &World, lines: &Lines, (leg, how): (usize, Break)) -> Result<()> {
    lines.set(leg, Fault::After(Toward::Client, MIDDLE, how));
    let begun = Instant::now();
    let (is_done, rows) = lines.copy_out()?;
    ensure!(!is_done, "it is taken to be whole");
    // What psql prints of a row that is not whole is not counted.
    let whole = rows.rfind('\n').and_then(|end| rows.get(..end));
    let whole = whole.unwrap_or_default();
    ensure!(lines.rows.starts_with(whole), "other rows");
    lines.set(leg, Fault::After(Toward::Server, MIDDLE, how));
    ensure!(!lines.copy_in()?, "it is taken to be done");
    wait_for_no_backend(world, lines)?;
    ensure!(stored(world)? == "0", "{}", stored(world)?);
    ensure!(begun.elapsed() < 2 * ENDS_WITHIN, "{:?}", begun.elapsed());
    Ok(())
}

/// Every place of every leg and direction, with one way to break each; with all in a full run.
fn breaks() -> Vec<(usize, Fault)> {
    let mut breaks = Vec::new();
    for (number, after) in PLACES.into_iter().enumerate() {
        for (leg, toward) in [
            (0, Toward::Client),
            (0, Toward::Server),
            (1, Toward::Client),
            (1, Toward::Server),
        ] {
            let place = number + breaks.len();
            let hows = BREAKS.into_iter().enumerate();
            let hows = hows.filter(|(it, _)| crate::is_full() || it % 4 == place % 4);
            breaks.extend(hows.map(|(_, how)| (leg, Fault::After(toward, after, how))));
        }
    }
    breaks
}

/// A login that breaks, and the next one.
fn break_login(world: &World, lines: &Lines, postern: &Postern) -> Result<()> {
    lines.log_in(postern)?;
    lines.set(0, Fault::None);
    wait_until("no session is live", ENDS_WITHIN, || {
        Ok(used(postern, "limits.sessions_max")? == 0)
    })?;
    wait_for_no_backend(world, lines)?;
    let next = lines.psql.query("select 'in'")?;
    ensure!(next == "in", "{next}");
    Ok(())
}

pub(crate) fn a_login_that_breaks_anywhere_ends_and_the_next_one_is_in(
    world: &World,
) -> Result<()> {
    for over in Over::BOTH {
        over_relays(world, ("halved", over), |lines| {
            for (leg, fault) in breaks() {
                lines.set(leg, fault);
                let broken = break_login(world, lines, over.postern(world));
                broken.with_context(|| format!("leg {leg}, {fault:?}"))?;
            }
            Ok(())
        })?;
    }
    Ok(())
}
