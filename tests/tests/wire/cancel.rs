//! Cancel requests reach the right backend, and only that.

use std::collections::HashSet;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::raw::{CancelKey, PROTOCOL_3_0, PROTOCOL_3_2, SSL_REQUEST, client_that_offers};
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{ConfigFile, Psql, RawClient, World, wait_until};

use crate::proxy_protocol::{IPV4, behind_a_proxy, header};

/// Far longer than any claim waits.
const SLEEP: &str = "select pg_sleep(300)";

/// How many queries of a person are asleep.
fn asleep(world: &World, role: &str) -> Result<String> {
    world.postgres.sql(&format!(
        "select count(*) from pg_stat_activity \
         where usename = '{role}' and state = 'active' and query ~ 'pg_sleep'"
    ))
}

fn wait_for_asleep(world: &World, role: &str, count: &str) -> Result<()> {
    wait_until("as many queries are asleep", CHANGE_LIMIT, || {
        Ok(asleep(world, role)? == count)
    })
}

fn key_of(client: &RawClient) -> Result<CancelKey> {
    client.cancel_key.clone().context("no key")
}

/// Reads the answer to a query that was cancelled.
fn expect_cancelled(client: &mut RawClient) -> Result<()> {
    let messages = client.read_until_ready()?;
    let error = messages.iter().find(|it| it.tag == b'E');
    let code = error.and_then(|it| it.field(b'C'));
    ensure!(code.as_deref() == Some("57014"), "{messages:?}");
    Ok(())
}

pub(crate) fn a_cancel_request_ends_the_query_of_its_session_and_no_other(
    world: &World,
) -> Result<()> {
    let person = world.person("canceller", &[HR_GROUP])?;
    let mut first = world.raw(&person)?;
    let mut second = world.raw(&person)?;
    first.send_query(SLEEP)?;
    second.send_query(SLEEP)?;
    wait_for_asleep(world, "canceller", "2")?;
    let port = world.plain.port();
    RawClient::cancel(port, &key_of(&first)?)?;
    expect_cancelled(&mut first)?;
    ensure!(asleep(world, "canceller")? == "1");
    RawClient::cancel(port, &key_of(&second)?)?;
    expect_cancelled(&mut second)?;
    for mut client in [first, second] {
        ensure!(client.query("select 'alive'")? == "alive");
    }
    Ok(())
}

pub(crate) fn a_wrong_cancel_key_ends_nothing(world: &World) -> Result<()> {
    let person = world.person("sleeper", &[HR_GROUP])?;
    let mut client = world.raw(&person)?;
    client.send_query(SLEEP)?;
    wait_for_asleep(world, "sleeper", "1")?;
    let right = key_of(&client)?;
    let port = world.plain.port();
    let wrong = |change: &dyn Fn(&mut CancelKey)| {
        let mut key = right.clone();
        change(&mut key);
        RawClient::cancel(port, &key)
    };
    wrong(&|it| it.pid ^= 1)?;
    wrong(&|it| it.key.iter_mut().for_each(|byte| *byte ^= 1))?;
    wrong(&|it| it.key.push(0))?;
    wrong(&|it| it.key.resize(256, 0))?;
    // Another proxy of the cluster does not know the session.
    RawClient::cancel(world.postern.port(), &right)?;
    ensure!(asleep(world, "sleeper")? == "1");
    RawClient::cancel(port, &right)?;
    expect_cancelled(&mut client)
}

pub(crate) fn a_key_of_any_length_cancels_over_every_kind_of_connection(
    world: &World,
) -> Result<()> {
    let person = world.person("hurried", &[HR_GROUP])?;
    let port = world.postern.port();
    let config = client_that_offers(world.postern.ca_file(), &["postgresql"])?;
    for (version, key_bytes) in [(PROTOCOL_3_0, 4), (PROTOCOL_3_2, 32)] {
        let mut client = RawClient::direct(port, &config)?;
        client.startup(version, &[("user", "hurried"), ("database", HR_DATABASE)])?;
        let in_session = client.finish(&person.password)?;
        let mut client = in_session.map_err(|told| anyhow!("{told:?}"))?;
        let key = key_of(&client)?;
        ensure!(key.key.len() == key_bytes, "{} bytes", key.key.len());
        ensure!(client.query("select pg_backend_pid()")? == key.pid.to_string());
        let connections: [&dyn Fn() -> Result<RawClient>; 3] = [
            &|| RawClient::connect(port),
            &|| RawClient::direct(port, &config),
            &|| RawClient::encrypted(port, &config)?.map_err(|told| anyhow!("{told:?}")),
        ];
        for connect in connections {
            client.send_query(SLEEP)?;
            wait_for_asleep(world, "hurried", "1")?;
            connect()?.then_cancel(&key)?;
            expect_cancelled(&mut client)?;
        }
    }
    Ok(())
}

pub(crate) fn keys_are_posterns_own_and_never_the_same(world: &World) -> Result<()> {
    let person = world.person("prolific", &[HR_GROUP])?;
    let mut keys = HashSet::new();
    for _ in 0..20 {
        keys.insert(key_of(&world.raw(&person)?)?.key);
    }
    ensure!(keys.len() == 20, "{} keys of 20 sessions", keys.len());
    // The database itself does not know them.
    let mut client = world.raw(&person)?;
    let key = key_of(&client)?;
    client.send_query(SLEEP)?;
    wait_for_asleep(world, "prolific", "1")?;
    RawClient::cancel(world.postgres.port(), &key)?;
    let wrong = format!("wrong key in cancel request for process {}", key.pid);
    wait_until("the database has refused the key", CHANGE_LIMIT, || {
        Ok(world.postgres_lines(&[&wrong])? == 1)
    })?;
    ensure!(asleep(world, "prolific")? == "1", "the query has ended");
    RawClient::cancel(world.plain.port(), &key)?;
    expect_cancelled(&mut client)
}

pub(crate) fn ctrl_c_in_psql_cancels_its_query(world: &World) -> Result<()> {
    let person = world.person("impatient", &[HR_GROUP])?;
    let psql = asleep_in_psql(world, &world.psql(&person))?;
    interrupt(world, psql, "impatient")
}

/// A psql whose query is asleep.
fn asleep_in_psql(world: &World, psql: &Psql) -> Result<Child> {
    let mut command = psql.command()?;
    command.args(["-c", SLEEP]).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn()?;
    wait_for_asleep(world, &psql.user, "1")?;
    Ok(child)
}

/// Ctrl-C in it.
fn interrupt(world: &World, psql: Child, role: &str) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(psql.id())?), Signal::SIGINT)?;
    let output = psql.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        said.contains("canceling statement due to user request"),
        "{said}"
    );
    wait_for_asleep(world, role, "0")
}

/// Takes every place that there is for a connection, and returns what holds them.
fn hold_every_place(come: impl Fn() -> Result<RawClient>) -> Result<Vec<RawClient>> {
    let mut held = Vec::new();
    loop {
        let mut peer = come()?;
        peer.send_packet(&SSL_REQUEST.to_be_bytes())?;
        match peer.read_byte()? {
            b'S' => held.push(peer),
            _ => return Ok(held),
        }
    }
}

pub(crate) fn a_query_is_cancelled_while_every_place_is_held(world: &World) -> Result<()> {
    let person = world.person("besieged", &[HR_GROUP])?;
    let limits = [("logins_max", 1), ("connections_per_address_max", 4)];
    let ways = [false, true].map(|is_behind| limits.map(|limit| (is_behind, limit)));
    for (is_behind, (limit, value)) in ways.into_iter().flatten() {
        let few = |config: &mut ConfigFile| {
            config.set("limits", limit, value);
            if is_behind {
                behind_a_proxy(config);
            }
        };
        let come = || {
            let mut client = RawClient::connect(world.plain.port())?;
            if is_behind {
                client.send(&header(IPV4))?;
            }
            Ok(client)
        };
        world.with_plain_config(few, || {
            let in_session = come()?.go_on("besieged", HR_DATABASE, &person.password)?;
            let mut client = in_session.map_err(|told| anyhow!("{told:?}"))?;
            client.send_query(SLEEP)?;
            wait_for_asleep(world, "besieged", "1")?;
            let held = hold_every_place(come)?;
            come()?.then_cancel(&key_of(&client)?)?;
            expect_cancelled(&mut client)?;
            // A login finds no place still.
            let refused = come()?.read()?;
            ensure!(refused.field(b'C').as_deref() == Some("53300"), "{limit}");
            drop(held);
            ensure!(client.query("select 'alive'")? == "alive");
            Ok(())
        })?;
    }
    Ok(())
}

pub(crate) fn ctrl_c_in_psql_cancels_its_query_while_every_place_is_held(
    world: &World,
) -> Result<()> {
    let person = world.person("surrounded", &[HR_GROUP])?;
    let few = |config: &mut ConfigFile| {
        config.set("limits", "logins_max", 1);
    };
    world.with_config(few, || {
        let psql = asleep_in_psql(world, &world.psql(&person))?;
        let _held = hold_every_place(|| RawClient::connect(world.postern.port()))?;
        interrupt(world, psql, "surrounded")
    })
}

pub(crate) fn an_address_has_as_many_cancel_requests_a_minute_as_logins(
    world: &World,
) -> Result<()> {
    let person = world.person("persistent", &[HR_GROUP])?;
    let few = |config: &mut ConfigFile| {
        config.set("limits", "logins_per_address_and_minute_max", 2);
    };
    world.with_plain_config(few, || {
        let mut client = world.raw(&person)?;
        let key = key_of(&client)?;
        for _ in 0..2 {
            client.send_query(SLEEP)?;
            wait_for_asleep(world, "persistent", "1")?;
            RawClient::cancel(world.plain.port(), &key)?;
            expect_cancelled(&mut client)?;
        }
        client.send_query(SLEEP)?;
        wait_for_asleep(world, "persistent", "1")?;
        // It gets no answer, as every other.
        RawClient::cancel(world.plain.port(), &key)?;
        wait_until("it is in the log", CHANGE_LIMIT, || {
            let words = "a cancel request was dropped: too many within a minute";
            world.plain.log_contains(words)
        })?;
        ensure!(asleep(world, "persistent")? == "1");
        Ok(())
    })
}
