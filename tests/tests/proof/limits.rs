//! Service accounts: what counts against which limit, and what an order does to an exchange that is
//! under way.

use anyhow::{Context, Result, ensure};
use postern_core::scram::{ChannelBinding, ClientExchange, Keys};
use postern_tests::cast::HR_DATABASE;
use postern_tests::world::last_refusal;
use postern_tests::{ConfigFile, RawClient, World};

use crate::hostile::{answer, initial};
use crate::scripted::begin;
use crate::service::{NO_BACKEND, Session, WHO, end_earlier};
use crate::{PROGRAM, last_record, ordered, psql, query_bound};

/// Exchanges of service accounts that may be under way at once.
const EXCHANGES_MAX: usize = 32;

/// How many wrong passwords an address has here.
const TRIES_MAX: u16 = 3;

fn few_tries(config: &mut ConfigFile) {
    config
        .set("lockout", "tries_per_address_max", TRIES_MAX)
        .set("service_account", "tls", "allow-plaintext");
}

/// The exchange from its offer to the last message, which is returned and not sent.
fn up_to_the_proof(client: &mut RawClient, password: &str) -> Result<Vec<u8>> {
    let (exchange, first) = ClientExchange::start("abc", ChannelBinding::Unsupported);
    let first = String::from_utf8(first)?;
    client.send(&answer(&initial(exchange.mechanism(), &first)))?;
    let challenge = client.read()?;
    let challenge = challenge.body.get(4..).context("no challenge")?;
    let challenge = exchange.server_first(challenge)?;
    let (salt, iterations) = (challenge.salt(), challenge.iterations());
    let keys = Keys::derive(password.as_bytes(), salt, iterations);
    let (_, last) = challenge.answer(&keys);
    Ok(answer(&last))
}

/// Brings a wrong password, if it is asked for any.
fn guess(client: &mut RawClient) -> Result<()> {
    let mut told = client.read()?;
    if told.tag == b'R' {
        let proof = up_to_the_proof(client, "mistyped")?;
        client.send(&proof)?;
        told = client.read()?;
    }
    ensure!(told.field(b'C').as_deref() == Some("28P01"), "{told:?}");
    client.expect_end()
}

pub(crate) fn wrong_passwords_of_a_service_account_count_against_their_address(
    world: &World,
) -> Result<()> {
    world.with_config(few_tries, || {
        let right = || query_bound(&psql(world, PROGRAM), "disable", WHO);
        for _ in 0..TRIES_MAX {
            ensure!(right()? == Ok(PROGRAM.0.to_owned()));
            let wrong = query_bound(&psql(world, (PROGRAM.0, "mistyped")), "disable", WHO)?;
            ensure!(wrong.is_err(), "it is in");
            ensure!(world.last_refusal()? == "wrong_password");
        }
        let said = right()?.err().context("it is in")?;
        ensure!(said.contains("password authentication failed"), "{said}");
        ensure!(world.last_refusal()? == "refresh_limit");
        Ok(())
    })
}

pub(crate) fn guesses_that_come_at_once_are_no_more_than_one_after_the_other(
    world: &World,
) -> Result<()> {
    world.with_plain_config(few_tries, || {
        let refused = |reason: &str| -> Result<usize> {
            let records = world.plain.audit()?.into_iter();
            Ok(records.filter(|it| it["reason"] == reason).count())
        };
        let (tried, over) = (refused("wrong_password")?, refused("refresh_limit")?);
        let mut under_way = Vec::new();
        for _ in 0..EXCHANGES_MAX {
            let mut client = begin(world)?;
            ensure!(client.read()?.tag == b'R', "not offered");
            under_way.push(client);
        }
        // All of these came before any was wrong, and wait for their turn.
        let waiting = (0..EXCHANGES_MAX).map(|_| begin(world));
        let mut waiting = waiting.collect::<Result<Vec<_>>>()?;
        for client in &mut under_way {
            let proof = up_to_the_proof(client, "mistyped")?;
            client.send(&proof)?;
            let told = client.read()?;
            ensure!(told.field(b'C').as_deref() == Some("28P01"), "{told:?}");
        }
        waiting.iter_mut().try_for_each(guess)?;
        let tried = refused("wrong_password")? - tried;
        let over = refused("refresh_limit")? - over;
        ensure!(
            tried < EXCHANGES_MAX + usize::from(TRIES_MAX),
            "the database was asked about {tried} passwords"
        );
        ensure!(tried + over == 2 * EXCHANGES_MAX, "{tried} and {over}");
        Ok(())
    })
}

pub(crate) fn a_service_account_counts_against_the_limits_of_everybody(
    world: &World,
) -> Result<()> {
    for (limit, told) in [
        ("sessions_max", "too many clients already"),
        (
            "sessions_per_role_max",
            "too many connections for role \"etl\"",
        ),
        (
            "logins_per_address_and_minute_max",
            "too many logins from this address",
        ),
    ] {
        end_earlier(world)?;
        let one = |config: &mut ConfigFile| {
            config.set("limits", limit, 1);
        };
        world.with_config(one, || {
            let program = psql(world, PROGRAM);
            let mut session = Session::open(world, &program, limit)?;
            let said = query_bound(&program, "disable", WHO)?;
            let said = said.err().with_context(|| format!("{limit}: it is in"))?;
            ensure!(said.contains(told), "{limit}: {said}");
            let refused = last_record(&world.postern, "refused")?;
            let detail = refused["detail"].as_str().unwrap_or_default();
            ensure!(detail.contains(limit), "{refused}");
            ensure!(session.is_open()?, "{limit}: the first one is out");
            Ok(())
        })?;
    }
    end_earlier(world)
}

pub(crate) fn a_revocation_reaches_an_exchange_that_is_under_way(world: &World) -> Result<()> {
    end_earlier(world)?;
    world.with_plain_config(few_tries, || {
        let mut client = begin(world)?;
        ensure!(client.read()?.tag == b'R', "not offered");
        let proof = up_to_the_proof(&mut client, PROGRAM.1)?;
        // By another proxy of the same database.
        ordered(&world.postern, &["revoke", PROGRAM.0, "--reason", "leaked"])?;
        let outcome = client.send(&proof).and_then(|()| client.read());
        ordered(&world.postern, &["restore", PROGRAM.0])?;
        let told = outcome?;
        let text = told.field(b'M').unwrap_or_default();
        ensure!(text.contains("suspended the access"), "{told:?}");
        ensure!(last_refusal(&world.plain)? == "role_held");
        world.wait_for_sql("the end of its backend", NO_BACKEND)?;
        let psql = world.plain.psql(PROGRAM.0, PROGRAM.1).database(HR_DATABASE);
        let said = query_bound(&psql, "disable", WHO)?;
        ensure!(said == Ok(PROGRAM.0.to_owned()), "{said:?}");
        Ok(())
    })
}
