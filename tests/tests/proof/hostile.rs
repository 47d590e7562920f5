//! Exchanges that no honest client makes.

use anyhow::{Result, ensure};
use postern_tests::cast::HR_DATABASE;
use postern_tests::raw::{Message, PROTOCOL_3_0, client_config};
use postern_tests::world::last_refusal;
use postern_tests::{RawClient, World};

use crate::{BREAK_GLASS, psql};

/// AuthenticationSASL and AuthenticationSASLContinue.
const SASL: [u8; 4] = [0, 0, 0, 10];
const SASL_CONTINUE: [u8; 4] = [0, 0, 0, 11];

/// A connection that has been offered the mechanisms.
fn offered(world: &World, user: &str, is_encrypted: bool) -> Result<(RawClient, Message)> {
    let mut client = match is_encrypted {
        false => RawClient::connect(world.plain.port())?,
        true => {
            let config = client_config(world.postern.ca_file())?;
            match RawClient::encrypted(world.plain.port(), &config)? {
                Ok(client) => client,
                Err(told) => anyhow::bail!("{told:?}"),
            }
        }
    };
    client.startup(PROTOCOL_3_0, &[("user", user), ("database", HR_DATABASE)])?;
    let offer = client.read()?;
    ensure!(
        offer.tag == b'R' && offer.body.starts_with(&SASL),
        "{offer:?}"
    );
    Ok((client, offer))
}

/// A SASLInitialResponse.
pub(crate) fn initial(mechanism: &str, data: &str) -> Vec<u8> {
    let mut body = mechanism.as_bytes().to_vec();
    body.push(0);
    body.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    body.extend(data.as_bytes());
    body
}

/// A SASLInitialResponse that says its first message has this length.
fn announcing(length: u32) -> Vec<u8> {
    [
        b"SCRAM-SHA-256\0".as_slice(),
        &length.to_be_bytes(),
        b"n,,n=,r=x",
    ]
    .concat()
}

/// A message with the tag of a password.
pub(crate) fn answer(body: &[u8]) -> Vec<u8> {
    let mut message = vec![b'p'];
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    message.extend(length.to_be_bytes());
    message.extend(body);
    message
}

/// The server's first message of an exchange.
fn challenge(world: &World, user: &str, nonce: &str) -> Result<(RawClient, String)> {
    let (mut client, _) = offered(world, user, false)?;
    let first = format!("n,,n=,r={nonce}");
    client.send(&answer(&initial("SCRAM-SHA-256", &first)))?;
    let message = client.read()?;
    ensure!(message.body.starts_with(&SASL_CONTINUE), "{message:?}");
    let text = message.body.get(4..).unwrap_or_default();
    Ok((client, String::from_utf8_lossy(text).into_owned()))
}

pub(crate) fn an_unknown_name_has_a_salt_that_stays(world: &World) -> Result<()> {
    let salt_of = |user: &str| {
        let (_, first) = challenge(world, user, "abc")?;
        let (_, rest) = first.split_once(",s=").unwrap_or_default();
        anyhow::Ok(rest.to_owned())
    };
    let (account, nobody) = (salt_of(BREAK_GLASS.0)?, salt_of("nobody@local")?);
    ensure!(account.len() == nobody.len(), "{account} and {nobody}");
    ensure!(
        account.ends_with(",i=4096") && nobody.ends_with(",i=4096"),
        "{nobody}"
    );
    let other = salt_of("somebody@local")?;
    ensure!(other != nobody, "{nobody} twice");
    world.plain.stop()?;
    world.plain.start_again()?;
    ensure!(
        salt_of("nobody@local")? == nobody,
        "another one after a restart"
    );
    ensure!(
        salt_of("NOBODY@local")? == nobody,
        "another one for another case"
    );
    ensure!(salt_of(BREAK_GLASS.0)? == account);
    Ok(())
}

pub(crate) fn every_broken_first_message_is_refused_and_disturbs_nobody(
    world: &World,
) -> Result<()> {
    const PLAIN: &str = "SCRAM-SHA-256";
    const PLUS: &str = "SCRAM-SHA-256-PLUS";
    let (_, offer) = offered(world, BREAK_GLASS.0, true)?;
    ensure!(offer.body.get(4..) == Some(b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0".as_slice()));
    let (_, offer) = offered(world, BREAK_GLASS.0, false)?;
    ensure!(offer.body.get(4..) == Some(b"SCRAM-SHA-256\0\0".as_slice()));
    let long = "x".repeat(1_000);
    for (is_encrypted, message, sqlstate) in [
        (true, answer(&initial(PLAIN, "y,,n=,r=x")), "28000"),
        (
            false,
            answer(&initial(PLUS, "p=tls-server-end-point,,n=,r=x")),
            "28000",
        ),
        (
            true,
            answer(&initial(PLUS, "p=tls-unique,,n=,r=x")),
            "08P01",
        ),
        (true, answer(&initial(PLUS, "n,,n=,r=x")), "08P01"),
        (
            true,
            answer(&initial(PLAIN, "p=tls-server-end-point,,n=,r=x")),
            "08P01",
        ),
        (false, answer(&initial("SCRAM-SHA-1", "n,,n=,r=x")), "08P01"),
        (
            false,
            answer(&initial(PLAIN, "n,a=postgres,n=,r=x")),
            "08P01",
        ),
        (false, answer(&initial(PLAIN, "n,,m=x,n=,r=x")), "08P01"),
        (false, answer(&initial(PLAIN, "n,,n=,r=")), "08P01"),
        (
            false,
            answer(&initial(PLAIN, &format!("n,,n=,r={long}"))),
            "08P01",
        ),
        // CVE-2026-6664: the length inside, which is 9, is another one.
        (false, answer(&announcing(0)), "08P01"),
        (false, answer(&announcing(8)), "08P01"),
        (false, answer(&announcing(10)), "08P01"),
        (false, answer(&announcing((1 << 31) - 1)), "08P01"),
        (false, answer(&announcing(1 << 31)), "08P01"),
        (false, answer(&announcing(u32::MAX - 1)), "08P01"),
        (false, answer(&announcing(u32::MAX)), "08P01"),
        (false, answer(b"SCRAM-SHA-256\0\xff\xff\xff"), "08P01"),
        (false, answer(b"SCRAM-SHA-256\0\xff\xff\xff\xfe"), "08P01"),
        (false, answer(b"SCRAM-SHA-256"), "08P01"),
        (false, answer(b""), "08P01"),
        // A password, where none was asked for.
        (false, answer(b"Local-break-1\0"), "08P01"),
        (false, b"Q\0\0\0\x0dselect 1\0".to_vec(), "08P01"),
        (false, b"p\x7f\xff\xff\xff".to_vec(), "08P01"),
    ] {
        let (mut client, _) = offered(world, BREAK_GLASS.0, is_encrypted)?;
        client.send(&message)?;
        let told = client.read()?;
        let code = told.field(b'C');
        ensure!(code.as_deref() == Some(sqlstate), "{message:?}: {told:?}");
        client.expect_end()?;
    }
    let who = psql(world, BREAK_GLASS).query("select session_user")?;
    ensure!(who == "breakglass", "{who}");
    Ok(())
}

pub(crate) fn every_broken_last_message_is_refused_for_anybody(world: &World) -> Result<()> {
    for (last, sqlstate) in [
        ("", "08P01"),
        // CVE-2026-19888: without one of what it must have, and in another order.
        ("c=biws,r=abc", "08P01"),
        ("c=biws,r=NONCE", "08P01"),
        (
            "c=biws,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "08P01",
        ),
        (
            "r=NONCE,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "08P01",
        ),
        (
            "r=NONCE,c=biws,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "08P01",
        ),
        ("p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "08P01"),
        ("c=,r=,p=", "08P01"),
        (",,", "08P01"),
        ("c=biws,r=abc,p=AAAA", "08P01"),
        (
            "c=biws,r=abc,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "08P01",
        ),
        (
            "c=eSws,r=abc,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "28000",
        ),
        (
            "c=biws,r=NONCE,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "28P01",
        ),
    ] {
        for user in [BREAK_GLASS.0, "nobody@local"] {
            let (mut client, first) = challenge(world, user, "abc")?;
            let nonce = first.split(',').next().unwrap_or_default();
            let last = last.replace("NONCE", nonce.trim_start_matches("r="));
            client.send(&answer(last.as_bytes()))?;
            let told = client.read()?;
            let code = told.field(b'C');
            ensure!(
                code.as_deref() == Some(sqlstate),
                "{user}: {last:?}: {told:?}"
            );
            client.expect_end()?;
        }
    }
    Ok(())
}

pub(crate) fn wrong_proofs_count_against_their_address(world: &World) -> Result<()> {
    let few = |config: &mut postern_tests::ConfigFile| {
        config.set("lockout", "tries_per_address_max", 3);
    };
    world.with_plain_config(few, || {
        let psql = world.plain.psql(BREAK_GLASS.0, BREAK_GLASS.1);
        let psql = psql.database(HR_DATABASE);
        for _ in 0..2 {
            psql.login("nobody@local", "guess").refused()?;
            psql.query("select 1")?;
        }
        psql.login(BREAK_GLASS.0, "guess").refused()?;
        let told = psql.refused()?;
        ensure!(told.contains("password authentication failed"), "{told}");
        ensure!(last_refusal(&world.plain)? == "refresh_limit");
        Ok(())
    })
}
