//! A process without file descriptors.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::process::run;
use postern_tests::raw::SSL_REQUEST;
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{ConfigFile, RawClient, World, wait_until};

use crate::meter::{busy, descriptors};

/// How many descriptors are left for connections, of which each takes two.
const LEFT: usize = 20;

/// How long the silent peers hold them: the time that a login may take, in milliseconds. It is long
/// beside what the rest takes on a busy machine.
const HELD_MS: u16 = 10_000;
const HELD: Duration = Duration::from_millis(HELD_MS as u64);

pub(crate) fn sessions_and_waiting_connections_take_two_descriptors_each(
    world: &World,
) -> Result<()> {
    const COUNT: usize = 20;
    let person = world.person("twofd", &[HR_GROUP])?;
    let (port, pid) = (world.plain.port(), world.plain.pid()?);
    // Connections to the directory and to the role store are kept.
    let first = world.raw(&person)?;
    let before = descriptors(pid)?;
    let mut sessions = vec![first];
    for _ in 0..COUNT {
        sessions.push(world.raw(&person)?);
    }
    wait_until("a session takes two", CHANGE_LIMIT, || {
        Ok(descriptors(pid)? <= before + 2 * COUNT)
    })?;
    let mut waiting = Vec::new();
    for _ in 0..COUNT {
        let mut client = RawClient::connect(port)?;
        client.send_packet(&SSL_REQUEST.to_be_bytes())?;
        // Whatever the answer, it is read, and the next packet is waited for.
        client.read_byte()?;
        waiting.push(client);
    }
    let now = descriptors(pid)?;
    ensure!(now <= before + 4 * COUNT, "{before} before, then {now}");
    ensure!(
        now > before + 3 * COUNT,
        "nothing waits: {before}, then {now}"
    );
    Ok(())
}

/// How many try to hold them: far more than there is room for, because what the process has open at
/// the moment of the count may be closed a moment later.
const HOLDERS: usize = 2 * LEFT;

/// How many come after them.
const LATE: usize = 30;

/// Connects, and says how long it took to be told that there are too many.
fn told(port: u16) -> Result<Duration> {
    let begun = Instant::now();
    let told = RawClient::connect(port)?.read()?;
    let own = "sorry, too many clients already";
    ensure!(
        told.field(b'C').as_deref() == Some("53300") && told.field(b'M').as_deref() == Some(own),
        "{told:?}"
    );
    Ok(begun.elapsed())
}

pub(crate) fn without_descriptors_clients_are_told_and_nothing_spins(world: &World) -> Result<()> {
    let person = world.person("lastfd", &[HR_GROUP])?;
    let quick = |config: &mut ConfigFile| {
        config.set("limits", "login_timeout_ms", i32::from(HELD_MS));
    };
    world.with_plain_config(quick, || {
        let (port, pid) = (world.plain.port(), world.plain.pid()?);
        let mut live = world.raw(&person)?;
        let limit = descriptors(pid)? + LEFT;
        run(std::process::Command::new("prlimit")
            .arg(format!("--pid={pid}"))
            .arg(format!("--nofile={limit}:")))?;
        let mut held = Vec::new();
        for _ in 0..HOLDERS {
            held.push(RawClient::connect(port)?);
        }
        let before = (busy(pid)?, Instant::now());
        let mut is_told = 0;
        let late = thread::scope(|scope| {
            // Whoever comes now is told at once, but for one or two who find a descriptor that a
            // login thread has just lent for telling somebody else.
            let late: Vec<_> = (0..LATE).map(|_| scope.spawn(|| told(port))).collect();
            // While nobody else comes, nothing runs.
            for client in &mut held {
                is_told += usize::from(client.expect_end().is_err());
            }
            let late = late.into_iter().filter_map(|it| it.join().ok());
            late.filter(|it| matches!(it, Ok(took) if *took < HELD / 2))
                .count()
        });
        let (spent, elapsed) = (busy(pid)? - before.0, before.1.elapsed());
        ensure!(late + 2 >= LATE, "{late} of {LATE} were told at once");
        ensure!(is_told > 0 && is_told < HOLDERS, "{is_told} were told");
        ensure!(elapsed > HELD / 3, "nobody held a descriptor: {elapsed:?}");
        ensure!(spent < elapsed / 5, "{spent:?} of {elapsed:?} busy");
        let answer = live.query("select count(*) from employees");
        ensure!(answer.context("the live session is over")? == "3");
        wait_until("there is room again", CHANGE_LIMIT, || {
            let (login, password) = (&person.login, &person.password);
            Ok(RawClient::log_in(port, login, HR_DATABASE, password)?.is_ok())
        })
    })
}
