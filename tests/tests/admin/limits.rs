//! The limits of sessions and logins, and what whoever meets one is told.

use anyhow::{Context, Result, ensure};
use postern_tests::cast::{FINANCE_GROUP, HR_DATABASE, HR_GROUP};
use postern_tests::raw::{Message, PROTOCOL_3_0};
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{RawClient, Someone, World, wait_until};

use crate::{OPERATOR, VIEWER, console, hostile, last_record, said};

/// The limit of connections that have not reached the splice.
const WAY: &str = "connections on their way";

/// Runs a claim about the Postern that allows plaintext, with one more limit.
fn with_limit(
    world: &World,
    key: &str,
    max: i32,
    claim: impl FnOnce() -> Result<()>,
) -> Result<()> {
    world.plain.restart_with(|config| {
        config.set("limits", key, max);
    })?;
    let outcome = claim();
    world.plain.restart_with(|config| {
        config.unset("limits", key);
    })?;
    outcome
}

/// The refusal of a login, and what is on record of it.
fn over(world: &World, person: &Someone, limit: &str) -> Result<Message> {
    let (login, password) = (&person.login, &person.password);
    let refusal = RawClient::refused(world.plain.port(), login, HR_DATABASE, password)?;
    ensure!(
        refusal.field(b'C').as_deref() == Some("53300"),
        "{refusal:?}"
    );
    let record = last_record(&world.plain, "refused")?;
    ensure!(record["reason"] == "too_many_connections", "{record}");
    let detail = record["detail"].as_str().unwrap_or_default();
    ensure!(detail.starts_with(limit), "{record}");
    Ok(refusal)
}

/// A row of SHOW LIMITS.
fn shown(world: &World, limit: &str) -> Result<String> {
    let (rows, _) = said(&console(&world.plain, VIEWER), "show limits")?;
    let row = rows.lines().find(|it| it.split('|').next() == Some(limit));
    Ok(row.with_context(|| format!("{limit}: {rows}"))?.to_owned())
}

fn in_again(world: &World, person: &Someone) -> Result<()> {
    wait_until("there is room again", CHANGE_LIMIT, || {
        Ok(world.raw(person).is_ok())
    })
}

pub(crate) fn one_role_has_no_more_sessions_than_its_own(world: &World) -> Result<()> {
    let key = "sessions_per_role_max";
    let one = world.person("greedy", &[HR_GROUP, FINANCE_GROUP])?;
    let other = world.person("modest", &[HR_GROUP])?;
    with_limit(world, key, 2, || {
        let held = [world.raw(&one)?, world.raw(&one)?];
        let refusal = over(world, &one, "limits.sessions_per_role_max")?;
        let told = refusal.field(b'M').unwrap_or_default();
        ensure!(told == "too many connections for role \"greedy\"", "{told}");
        ensure!(world.raw(&other)?.query("select 1")? == "1");
        let row = shown(world, "limits.sessions_per_role_max")?;
        ensure!(row.ends_with("|2|2|greedy"), "{row}");
        drop(held);
        in_again(world, &one)
    })
}

pub(crate) fn one_database_has_no_more_sessions_than_its_own(world: &World) -> Result<()> {
    let key = "sessions_per_database_max";
    let one = world.person("first-in", &[HR_GROUP, FINANCE_GROUP])?;
    let other = world.person("second-in", &[HR_GROUP])?;
    with_limit(world, key, 1, || {
        let held = world.raw(&one)?;
        let refusal = over(world, &other, "limits.sessions_per_database_max")?;
        let told = refusal.field(b'M').unwrap_or_default();
        ensure!(told == "too many connections for database \"hr\"", "{told}");
        let (port, login) = (world.plain.port(), &one.login);
        let elsewhere = RawClient::logged_in(port, login, "finance", &one.password)?;
        drop((held, elsewhere));
        in_again(world, &other)
    })
}

pub(crate) fn one_address_has_no_more_sessions_than_its_own(world: &World) -> Result<()> {
    let key = "sessions_per_address_max";
    let person = world.person("local-one", &[HR_GROUP])?;
    with_limit(world, key, 1, || {
        let held = world.raw(&person)?;
        over(world, &person, "limits.sessions_per_address_max")?;
        let row = shown(world, "limits.sessions_per_address_max")?;
        ensure!(row.ends_with("|1|1|127.0.0.1"), "{row}");
        drop(held);
        in_again(world, &person)
    })
}

pub(crate) fn a_session_of_the_console_is_not_on_its_way_any_more(world: &World) -> Result<()> {
    let person = world.person("next-door", &[HR_GROUP])?;
    with_limit(world, "connections_per_address_max", 1, || {
        let mut console = None;
        // Whoever came before may still be on their way out.
        wait_until("the console is open", CHANGE_LIMIT, || {
            console = hostile::logged_in(world, "eyes").ok();
            Ok(console.is_some())
        })?;
        let mut console = console.context("it is not open")?;
        in_again(world, &person)?;
        wait_until("nobody is on their way", CHANGE_LIMIT, || {
            console.send_query("show limits")?;
            let rows = console.read_until_ready()?;
            let mut rows = rows.iter().map(Message::columns);
            let on_their_way = |it: &Vec<String>| it.first().is_some_and(|it| it == WAY);
            let row = rows.find(on_their_way).context("no such limit")?;
            Ok(row.get(2).is_some_and(|it| it == "0"))
        })
    })
}

pub(crate) fn one_address_begins_no_more_logins_a_minute(world: &World) -> Result<()> {
    let key = "logins_per_address_and_minute_max";
    let person = world.person("hasty", &[HR_GROUP])?;
    with_limit(world, key, 3, || {
        for _ in 0..3 {
            world.raw(&person)?;
        }
        let too_fast = || {
            let mut client = RawClient::connect(world.plain.port())?;
            let parameters = [("user", person.login.as_str()), ("database", HR_DATABASE)];
            client.startup(PROTOCOL_3_0, &parameters)?;
            let refusal = client.read()?;
            ensure!(
                refusal.field(b'C').as_deref() == Some("53300"),
                "{refusal:?}"
            );
            let told = refusal.field(b'M').unwrap_or_default();
            ensure!(told.contains("too many logins from this address"), "{told}");
            Ok(())
        };
        too_fast()?;
        // Nor does one too many take a place of those who wait.
        let operator = console(&world.plain, OPERATOR);
        said(&operator, "pause")?;
        let told = too_fast();
        said(&operator, "resume")?;
        told?;
        // Whoever may lift the limit is not kept out by it.
        let row = shown(world, "limits.logins_per_address_and_minute_max")?;
        ensure!(row.ends_with("|3|3|127.0.0.1"), "{row}");
        Ok(())
    })
}
