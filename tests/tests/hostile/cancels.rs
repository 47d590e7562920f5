//! Cancel requests that get stuck, and the one that must not.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use postern_tests::cast::{FINANCE_DATABASE, HR_DATABASE, HR_GROUP};
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{ConfigFile, RawClient, Someone, World, wait_until};

use crate::SLACK;
use crate::database::{Database, Says, greeting};
use crate::meter::used;

/// How many are stuck in each way.
const STUCK: usize = 64;

/// After this time Postern gives up on a database that does not act on a cancel request.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// The beginning of a cancel request: its length, its code and half of its process number.
const HALF: &[u8] = &[0, 0, 0, 16, 4, 210, 22, 46, 0, 0];

/// Connections that say this and no more.
fn saying(port: u16, bytes: &[u8]) -> Result<Vec<RawClient>> {
    let connect = |_| {
        let mut client = RawClient::connect(port)?;
        client.send(bytes)?;
        Ok(client)
    };
    (0..STUCK).map(connect).collect()
}

/// A session before the database that does not answer, and its cancel request.
fn cancel_request(world: &World, person: &Someone) -> Result<(RawClient, Vec<u8>)> {
    let (login, password) = (&person.login, &person.password);
    let port = world.plain.port();
    let client = RawClient::logged_in(port, login, FINANCE_DATABASE, password)?;
    let key = client.cancel_key.clone().context("no key")?;
    let request = [
        HALF.get(..8).unwrap_or_default(),
        &key.pid.to_be_bytes(),
        &key.key,
    ]
    .concat();
    Ok((client, request))
}

/// A query that goes on until it is cancelled, and is.
fn cancels(world: &World, client: &mut RawClient) -> Result<Duration> {
    client.send_query("select pg_sleep(300)")?;
    world.wait_for_sql(
        "the query is asleep",
        "select count(*) = 1 from pg_stat_activity \
         where usename = 'unstuck' and state = 'active' and query ~ 'pg_sleep'",
    )?;
    let begun = Instant::now();
    let key = client.cancel_key.clone().context("no key")?;
    RawClient::cancel(world.plain.port(), &key)?;
    let messages = client.read_until_ready()?;
    let code = messages.iter().find_map(|it| it.field(b'C'));
    ensure!(code.as_deref() == Some("57014"), "{messages:?}");
    Ok(begun.elapsed())
}

pub(crate) fn beside_stuck_cancel_requests_one_that_works_does_and_places_come_back(
    world: &World,
) -> Result<()> {
    let person = world.person("unstuck", &[HR_GROUP])?;
    let database = Database::start()?;
    let change = |config: &mut ConfigFile| {
        config.set("backend", "databases", [HR_DATABASE]);
        config.begin("backend");
        database.configure(config, "disable");
        config.set("backend", "databases", [FINANCE_DATABASE]);
    };
    world.with_plain_config(change, || {
        let port = world.plain.port();
        let mut live = world.raw(&person)?;
        database.says(Says::Once(greeting()));
        let (_session, request) = cancel_request(world, &person)?;
        database.says(Says::Once(Vec::new()));
        let mut stuck = saying(port, &request)?;
        let begun = Instant::now();
        wait_until("they are under way", CHANGE_LIMIT, || {
            Ok(used(&world.plain, "cancel requests")? >= STUCK as u64 / 2)
        })?;
        let quiet = [saying(port, b"")?, saying(port, HALF)?];
        let taken = cancels(world, &mut live)?;
        ensure!(taken < SLACK, "a cancel request took {taken:?}");
        world.raw(&person)?;
        let among = used(&world.plain, "cancel requests")?;
        ensure!(
            among > 0 && begun.elapsed() < CANCEL_TIMEOUT,
            "it was too late to tell"
        );
        for client in &mut stuck {
            client.expect_end()?;
        }
        ensure!(
            begun.elapsed() < CANCEL_TIMEOUT + SLACK,
            "{:?}",
            begun.elapsed()
        );
        drop(quiet);
        for limit in ["cancel requests", "connections on their way"] {
            wait_until("the places are free again", CHANGE_LIMIT, || {
                Ok(used(&world.plain, limit)? == 0)
            })?;
        }
        cancels(world, &mut live).map(drop)
    })
}
