//! More logins at once than the directory can answer.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::raw::SSL_REQUEST;
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{ConfigFile, RawClient, Someone, World, wait_until};

use crate::{SLACK, timed_refusal};

/// The longest that a client waits for being told that there are too many.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// What one login came to: the SQLSTATE, empty when it succeeded, and how long it took.
type Seen = (String, Duration);

pub(crate) fn a_cold_login_too_many_is_told_within_a_second(world: &World) -> Result<()> {
    let change = |config: &mut ConfigFile| {
        config.set("limits", "cold_logins_max", 20);
    };
    world.with_plain_config(change, || {
        // The second time it is the same: every place has come back.
        for round in 1..=2 {
            let seen = while_paused(world, || together(world, "many", 60))?;
            ensure!(count(&seen, "57P03") == 20, "{seen:?}");
            ensure!(count(&seen, "53300") == 40, "{seen:?}");
            expect_in_time(&seen)?;
            let over = refusals(world, "limits.cold_logins_max")?;
            ensure!(over == 40 * round, "{over} on record");
            let newcomer = world.person(&format!("newcomer{round}"), &[HR_GROUP])?;
            world.raw(&newcomer)?;
        }
        // And people get in again, all at once.
        let seen = together(world, "none", 10)?;
        ensure!(count(&seen, "28P01") == 10, "{seen:?}");
        Ok(())
    })
}

pub(crate) fn who_would_wait_long_for_the_directory_is_told_within_a_second(
    world: &World,
) -> Result<()> {
    let change = |config: &mut ConfigFile| {
        config.set("limits", "directory_calls_max", 4);
    };
    world.with_plain_config(change, || {
        let seen = while_paused(world, || together(world, "queued", 40))?;
        ensure!(count(&seen, "57P03") == 4, "{seen:?}");
        ensure!(count(&seen, "53300") == 36, "{seen:?}");
        expect_in_time(&seen)?;
        ensure!(refusals(world, "limits.directory_calls_max")? == 36);
        // The four conversations have ended, and so have their places.
        let seen = together(world, "answered", 4)?;
        ensure!(count(&seen, "28P01") == 4, "{seen:?}");
        Ok(())
    })
}

pub(crate) fn while_the_directory_hangs_one_login_waits_for_all(world: &World) -> Result<()> {
    let seen = together(world, "before", 1)?;
    ensure!(count(&seen, "28P01") == 1, "{seen:?}");
    let (first, last) = while_paused(world, || {
        let first = together(world, "first", 3)?;
        Ok((first, together(world, "last", 5)?))
    })?;
    let is_told_at_once = |seen: &&Seen| seen.1 < TOLD_WITHIN;
    for seen in [&first, &last] {
        ensure!(count(seen, "57P03") == seen.len(), "{seen:?}");
    }
    ensure!(
        first.iter().filter(is_told_at_once).count() == 0,
        "{first:?}"
    );
    ensure!(last.iter().filter(is_told_at_once).count() == 4, "{last:?}");
    let seen = together(world, "answered", 2)?;
    ensure!(count(&seen, "28P01") == 2, "{seen:?}");
    Ok(())
}

pub(crate) fn remembered_people_are_in_while_three_hundred_others_hang(
    world: &World,
) -> Result<()> {
    let change = |config: &mut ConfigFile| {
        config
            .set("cache", "recheck_s", 60)
            .set("cache", "stale_s", 60)
            .set("limits", "logins_max", 100)
            .set("limits", "cold_logins_max", 50);
    };
    let person = world.person("remembered", &[HR_GROUP])?;
    world.with_plain_config(change, || {
        world.raw(&person)?;
        let statements = world.postgres.syncs()?;
        let (seen, warm) = while_paused(world, || {
            thread::scope(|scope| {
                let others = scope.spawn(|| together(world, "others", 300));
                let mut warm = Vec::new();
                while !others.is_finished() {
                    warm.push(attempt(world, &person)?);
                }
                Ok((joined(others.join())?, warm))
            })
        })?;
        ensure!(count(&seen, "57P03") == 50, "{seen:?}");
        ensure!(count(&seen, "53300") == 250, "{seen:?}");
        expect_in_time(&seen)?;
        ensure!(warm.len() > 10, "{warm:?}");
        ensure!(count(&warm, "") == warm.len(), "{warm:?}");
        let slowest = warm.iter().map(|(_, taken)| *taken).max();
        ensure!(slowest.is_some_and(|it| it < TOLD_WITHIN), "{slowest:?}");
        // Whoever asks the directory hangs, and nobody asked the role store.
        ensure!(world.postgres.syncs()? == statements);
        Ok(())
    })
}

pub(crate) fn no_place_is_free_but_memory_stands_in_while_the_directory_is_out(
    world: &World,
) -> Result<()> {
    let change = |config: &mut ConfigFile| {
        config
            .set("cache", "stale_s", 60)
            .set("limits", "cold_logins_max", 1);
    };
    let person = world.person("constant", &[HR_GROUP])?;
    world.with_plain_config(change, || {
        world.raw(&person)?;
        let sources = |world: &World| -> Result<Vec<String>> {
            let records = world.plain.audit()?;
            let sources = records.iter().filter_map(|it| it["source"].as_str());
            Ok(sources.map(str::to_owned).collect())
        };
        while_paused(world, || {
            // Somebody finds out that the directory is out.
            let stranger = stranger("finder", 0);
            let (_, told) = timed_refusal(world, &stranger)?;
            ensure!(told.field(b'C').as_deref() == Some("57P03"), "{told:?}");
            thread::scope(|scope| {
                let holder = scope.spawn(|| timed_refusal(world, &stranger));
                while !holder.is_finished() {
                    let (code, taken) = attempt(world, &person)?;
                    ensure!(code.is_empty(), "{code}");
                    // Nobody holds the one place at the very beginning or end.
                    ensure!(taken < SLACK || holder.is_finished(), "{taken:?}");
                }
                Ok(())
            })
        })?;
        let stood_in = sources(world)?
            .iter()
            .filter(|it| *it == "stale_memory")
            .count();
        ensure!(stood_in > 0, "memory did not stand in");
        Ok(())
    })
}

pub(crate) fn a_connection_too_many_is_told_in_the_clear(world: &World) -> Result<()> {
    let person = world.person("fifth", &[HR_GROUP])?;
    let change = |config: &mut ConfigFile| {
        config.set("limits", "logins_max", 1);
    };
    world.with_config(change, || {
        let port = world.postern.port();
        for round in 1..=2 {
            // Eight connections for each login that may be under way.
            let mut held = Vec::new();
            wait_until("every place is held", CHANGE_LIMIT, || {
                let mut client = RawClient::connect(port)?;
                client.send_packet(&SSL_REQUEST.to_be_bytes())?;
                let is_in = client.read_byte()? == b'S';
                if is_in {
                    held.push(client);
                }
                Ok(!is_in && held.len() == 8)
            })?;
            let start = Instant::now();
            let told = RawClient::connect(port)?.read()?;
            ensure!(start.elapsed() < TOLD_WITHIN, "{:?}", start.elapsed());
            ensure!(told.field(b'C').as_deref() == Some("53300"), "{told:?}");
            let answer = world.psql(&person).run("select 1")?;
            ensure!(
                !answer.ok && start.elapsed() < 2 * TOLD_WITHIN,
                "{answer:?}"
            );
            // psql tells the text, or since CVE-2024-10977 only that there is one.
            let texts = [
                "too many clients",
                "server sent an error response during SSL",
            ];
            let is_told = texts.iter().any(|text| answer.stderr.contains(text));
            ensure!(is_told, "{answer:?}");
            ensure!(world.last_refusal()? == "too_many_connections");
            drop(held);
            wait_until("there is room again", CHANGE_LIMIT, || {
                Ok(world.psql(&person).run("select 1")?.ok)
            })
            .with_context(|| format!("round {round}"))?;
        }
        Ok(())
    })
}

fn stranger(name: &str, number: usize) -> Someone {
    Someone {
        login: format!("{name}-{number}"),
        password: "whatever".to_owned(),
    }
}

fn while_paused<T>(world: &World, claim: impl FnOnce() -> Result<T>) -> Result<T> {
    world.directory.pause()?;
    let outcome = claim();
    world.directory.resume()?;
    outcome
}

/// Logins of people whom nobody knows, all at once.
fn together(world: &World, name: &str, logins: usize) -> Result<Vec<Seen>> {
    thread::scope(|scope| {
        let one = |number| scope.spawn(move || attempt(world, &stranger(name, number)));
        let all: Vec<_> = (0..logins).map(one).collect();
        all.into_iter().map(|it| joined(it.join())).collect()
    })
}

fn joined<T>(outcome: thread::Result<Result<T>>) -> Result<T> {
    outcome.map_err(|_| anyhow!("it panicked"))?
}

fn attempt(world: &World, person: &Someone) -> Result<Seen> {
    let start = Instant::now();
    let (login, password) = (&person.login, &person.password);
    let told = RawClient::log_in(world.plain.port(), login, HR_DATABASE, password)?;
    let code = told.map_or_else(|told| told.field(b'C'), |_| Some(String::new()));
    Ok((code.context("an error without a code")?, start.elapsed()))
}

fn count(seen: &[Seen], code: &str) -> usize {
    seen.iter().filter(|(it, _)| it == code).count()
}

fn expect_in_time(seen: &[Seen]) -> Result<()> {
    let over = seen.iter().filter(|(code, _)| code == "53300");
    let slowest = over.map(|(_, taken)| *taken).max().unwrap_or_default();
    ensure!(slowest < TOLD_WITHIN, "told after {slowest:?}");
    Ok(())
}

/// How many logins were refused for this limit, by the audit file.
fn refusals(world: &World, limit: &str) -> Result<usize> {
    let records = world.plain.audit()?;
    let refused = records
        .iter()
        .filter(|it| it["reason"] == "too_many_connections" && it["detail"] == limit);
    Ok(refused.count())
}
