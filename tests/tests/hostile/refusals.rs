//! What a refusal tells of the account that it is about: nothing.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use postern_tests::cast::{CANTEEN_GROUP, HR_DATABASE, HR_GROUP};
use postern_tests::raw::PROTOCOL_3_0;
use postern_tests::statistics::welch;
use postern_tests::world::last_refusal;
use postern_tests::{ConfigFile, RawClient, World};

use crate::relay::{Fault, Relay};

/// Tries that are under way at once: each takes the 300 ms of every refusal.
const AT_ONCE: usize = 50;

/// Above this, two series are taken to be different: what dudect says of constant time.
const WELCH_MAX: f64 = 4.5;

/// No refusal of a password comes sooner after it: 300 ms, and what clocks may differ by.
const REFUSAL_DELAY_MIN: Duration = Duration::from_millis(290);

/// Every byte that a client is told when it logs in with a password, the message's length included,
/// and how long it waits for the refusal.
fn conversation(
    world: &World,
    user: &str,
    database: &str,
    password: &str,
) -> Result<(Vec<u8>, Duration)> {
    let mut client = RawClient::connect(world.plain.port())?;
    client.startup(PROTOCOL_3_0, &[("user", user), ("database", database)])?;
    let asked = client.read()?;
    let begun = Instant::now();
    client.password(password.as_bytes())?;
    let told = client.read()?;
    let taken = begun.elapsed();
    client.expect_end()?;
    let bytes = [&[asked.tag], asked.body.as_slice(), &[told.tag], &told.body].concat();
    Ok((bytes, taken))
}

pub(crate) fn every_refused_password_is_told_in_the_same_bytes_and_not_sooner(
    world: &World,
) -> Result<()> {
    // The names have the same length, because the text has the name.
    let person = world.person("person01", &[HR_GROUP])?;
    let outside = world.person("person02", &[CANTEEN_GROUP])?;
    world.raw(&person)?;
    let mut seen = Vec::new();
    for (reason, user, database, password) in [
        ("wrong_password", "person01", HR_DATABASE, "guess"),
        (
            "wrong_password_remembered",
            "person01",
            HR_DATABASE,
            "guess",
        ),
        ("unknown_login", "person00", HR_DATABASE, "guess"),
        (
            "wrong_password_remembered",
            "person00",
            HR_DATABASE,
            "guess",
        ),
        ("no_group", "person02", HR_DATABASE, &outside.password),
        ("password_empty", "person01", HR_DATABASE, ""),
        ("password_empty", "person00", HR_DATABASE, ""),
        ("password_invalid", "person00", HR_DATABASE, "a\0b"),
        ("unknown_login", "person0*", HR_DATABASE, "guess"),
        ("login_name_invalid", " person0", HR_DATABASE, "guess"),
    ] {
        let (told, taken) = conversation(world, user, database, password)?;
        ensure!(taken >= REFUSAL_DELAY_MIN, "{reason}: told in {taken:?}");
        let told = String::from_utf8_lossy(&told).replace(user, "NAME");
        seen.push((reason, last_refusal(&world.plain)?, told));
    }
    let first = seen.first().map(|(_, _, told)| told.clone());
    for (expected, reason, told) in &seen {
        ensure!(
            Some(told) == first.as_ref(),
            "{reason}: {told:?}, not {first:?}"
        );
        ensure!(expected == reason, "{expected} is {reason}");
    }
    Ok(())
}

/// The steps that the directory has seen since its log was so long: searches for people, and binds
/// that it refused.
fn steps_since(world: &World, length: usize) -> Result<Vec<&'static str>> {
    let log = fs::read(world.directory.log_file())?;
    let log = String::from_utf8_lossy(log.get(length..).unwrap_or_default());
    let steps = log.lines().filter_map(|line| {
        let kinds = [("search", " SRCH base="), ("bind", " RESULT tag=97 err=49")];
        let kind = kinds.into_iter().find(|(_, text)| line.contains(text))?;
        Some(kind.0)
    });
    Ok(steps.collect())
}

pub(crate) fn guesses_at_any_name_end_alike_with_the_directory_and_without(
    world: &World,
) -> Result<()> {
    // The names have the same length, because the text has the name.
    let remembered = world.person("guessed1", &[HR_GROUP])?;
    world.person("guessed2", &[HR_GROUP])?;
    let names = ["guessed1", "guessed2", "guessed3"];
    // The SQLSTATE and the steps of so many guesses, which are the same for every name.
    let guesses = |count: usize, round: &str| -> Result<Vec<(String, Vec<&str>)>> {
        let mut first = None;
        for name in names {
            let mut series = Vec::new();
            for number in 0..count {
                let length = fs::read(world.directory.log_file())?.len();
                let guess = format!("{round}-{number}");
                let (told, _) = conversation(world, name, HR_DATABASE, &guess)?;
                let told = String::from_utf8_lossy(&told).replace(name, "NAME");
                series.push((told, steps_since(world, length)?));
            }
            let first = first.get_or_insert_with(|| series.clone());
            ensure!(
                series == *first,
                "{round}: {name}: {series:?}, not {first:?}"
            );
        }
        Ok(first.unwrap_or_default())
    };
    let while_away = |count, round, code: &str| -> Result<()> {
        world.directory.stop()?;
        let seen = guesses(count, round);
        world.directory.start_again()?;
        let seen = seen?;
        ensure!(seen.iter().all(|(told, _)| told.contains(code)), "{seen:?}");
        Ok(())
    };
    // Nobody has guessed before.
    world.with_plain_config(
        |_| (),
        || {
            world.raw(&remembered)?;
            while_away(6, "away", "C57P03\0")?;
            // An outage is no try.
            let seen = guesses(6, "back")?;
            let is_refusal = |told: &str| told.contains("C28P01\0");
            ensure!(seen.iter().all(|(told, _)| is_refusal(told)), "{seen:?}");
            let asked: Vec<usize> = seen.iter().map(|(_, steps)| steps.len()).collect();
            ensure!(asked == [2, 2, 2, 2, 0, 0], "{seen:?}");
            while_away(2, "away again", "C28P01\0")
        },
    )
}

pub(crate) fn the_time_of_a_refusal_does_not_tell_whether_the_account_exists(
    world: &World,
) -> Result<()> {
    let tries = if crate::is_full() { 10_000 } else { 1_000 };
    let person = world.person("existing", &[HR_GROUP])?;
    let long = |config: &mut ConfigFile| {
        config
            .set("cache", "negative_s", 3_600)
            .set("cache", "recheck_s", 3_600)
            .set("cache", "dead_s", 3_600);
    };
    world.with_plain_config(long, || {
        world.raw(&person)?;
        let port = world.plain.port();
        let ways = ["existing", "imagined"].map(|user| Way { port, user });
        // Asked of the directory once; from then on memory refuses.
        for way in ways {
            time_of_refusal(way)?;
        }
        let calls = world.directory_calls()?;
        let t = difference(ways, tries)?;
        println!("Welch's t over {tries} refusals from memory: {t:.2}");
        ensure!(t.abs() < WELCH_MAX, "{t}");
        // The same account twice, and a network that takes 6 ms more: if there were a difference,
        // it would be seen.
        let (near, far) = (Relay::start(port)?, Relay::start(port)?);
        far.set(Fault::Delay);
        let ways = [&near, &far].map(|relay| Way {
            port: relay.port,
            user: "existing",
        });
        let t = difference(ways, tries)?;
        println!("Welch's t where there is a difference: {t:.2}");
        ensure!(t < -WELCH_MAX, "{t}");
        ensure!(world.directory_calls()? == calls, "the directory was asked");
        Ok(())
    })
}

/// Where somebody comes in, and by which name.
#[derive(Clone, Copy)]
struct Way {
    port: u16,
    user: &'static str,
}

/// How far the times of refusals by two ways are from each other, in standard errors.
fn difference(ways: [Way; 2], tries: usize) -> Result<f64> {
    let [one, other] = ways;
    // In turn, and each first as often, so that whatever the machine and the other workers do
    // meets both.
    let pairs_of = |worker: usize| {
        let pairs = (0..tries / AT_ONCE / 2).map(move |pair| {
            if (worker + pair).is_multiple_of(2) {
                let first = time_of_refusal(one)?;
                Ok([first, time_of_refusal(other)?])
            } else {
                let first = time_of_refusal(other)?;
                Ok([time_of_refusal(one)?, first])
            }
        });
        pairs.collect::<Result<Vec<_>>>()
    };
    let mut series = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        let workers = (0..AT_ONCE).map(|worker| scope.spawn(move || pairs_of(worker)));
        let workers: Vec<_> = workers.collect();
        for worker in workers {
            let pairs = worker.join().map_err(|_| anyhow!("a worker panicked"))??;
            for [one, other] in pairs {
                series.0.push(one);
                series.1.push(other);
            }
        }
        anyhow::Ok(())
    })?;
    Ok(welch(&series.0, &series.1))
}

/// How long a client waits for the refusal of its password, in seconds.
fn time_of_refusal(way: Way) -> Result<f64> {
    let mut client = RawClient::connect(way.port)?;
    let parameters = [("user", way.user), ("database", HR_DATABASE)];
    client.startup(PROTOCOL_3_0, &parameters)?;
    ensure!(client.read()?.tag == b'R', "not asked for a password");
    let begun = Instant::now();
    client.password(b"guess")?;
    let told = client.read()?;
    let taken = begun.elapsed();
    ensure!(told.field(b'C').as_deref() == Some("28P01"), "{told:?}");
    Ok(taken.as_secs_f64())
}
