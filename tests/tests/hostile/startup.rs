//! First packets that no honest client sends.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::raw::{
    GSS_REQUEST, Message, PROTOCOL_3_0, SSL_REQUEST, client_config, client_that_offers,
};
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{ConfigFile, RawClient, World, wait_until};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;

use crate::SLACK;

/// The lengths that parsers get wrong (CVE-2026-107348, CVE-2026-6668).
const LENGTHS: [u32; 14] = [
    0,
    1,
    3,
    4,
    7,
    10_001,
    65_536,
    1 << 24,
    (1 << 31) - 1,
    1 << 31,
    (1 << 31) + 8,
    u32::MAX - 4,
    u32::MAX - 3,
    u32::MAX,
];

/// What somebody is told who sends these bytes; it ends with that.
fn told(mut client: RawClient, bytes: &[u8]) -> Result<Message> {
    let begun = Instant::now();
    client.send(bytes)?;
    let told = client.read()?;
    client.expect_end()?;
    ensure!(begun.elapsed() < SLACK, "{:?}", begun.elapsed());
    Ok(told)
}

fn expect(told: &Message, sqlstate: &str) -> Result<()> {
    ensure!(told.field(b'C').as_deref() == Some(sqlstate), "{told:?}");
    Ok(())
}

fn encrypted(world: &World) -> Result<RawClient> {
    let tls = client_config(world.postern.ca_file())?;
    let client = RawClient::encrypted(world.postern.port(), &tls)?;
    client.map_err(|told| anyhow!("{told:?}"))
}

/// A connection that is asked for its password.
fn asked(world: &World) -> Result<RawClient> {
    let mut client = RawClient::connect(world.plain.port())?;
    client.startup(
        PROTOCOL_3_0,
        &[("user", "asked"), ("database", HR_DATABASE)],
    )?;
    ensure!(client.read()?.tag == b'R', "not asked");
    Ok(client)
}

pub(crate) fn no_length_of_a_first_packet_is_believed(world: &World) -> Result<()> {
    for length in LENGTHS {
        let bytes = [&length.to_be_bytes()[..], &PROTOCOL_3_0.to_be_bytes()].concat();
        let in_the_clear = told(RawClient::connect(world.plain.port())?, &bytes);
        expect(&in_the_clear.with_context(|| format!("{length}"))?, "08P01")?;
        let inside = told(encrypted(world)?, &bytes);
        expect(
            &inside.with_context(|| format!("{length} in TLS"))?,
            "08P01",
        )?;
    }
    Ok(())
}

pub(crate) fn no_length_of_a_password_is_believed(world: &World) -> Result<()> {
    for length in LENGTHS {
        // 4 is a password without its NUL; 7 and 4 bytes are wanted and may come.
        let mut bytes = [&b"p"[..], &length.to_be_bytes()].concat();
        if length == 7 {
            bytes.extend(b"abc");
        }
        let told = told(asked(world)?, &bytes).with_context(|| format!("{length}"))?;
        expect(&told, "08P01")?;
    }
    Ok(())
}

pub(crate) fn what_comes_in_the_wrong_order_is_refused(world: &World) -> Result<()> {
    let packet = |code: u32, rest: &[u8]| {
        let length = u32::try_from(rest.len() + 8).unwrap_or(u32::MAX);
        [&length.to_be_bytes()[..], &code.to_be_bytes(), rest].concat()
    };
    // CVE-2015-4054: a password before the startup packet.
    let first = told(
        RawClient::connect(world.plain.port())?,
        b"p\0\0\0\x09word\0",
    )?;
    expect(&first, "08P01")?;
    for (what, bytes) in [
        (
            "a startup packet twice",
            packet(PROTOCOL_3_0, b"user\0asked\0\0"),
        ),
        ("SSLRequest after it", packet(SSL_REQUEST, b"")),
        ("GSSENCRequest after it", packet(GSS_REQUEST, b"")),
        ("a cancel request after it", packet(80_877_102, &[0; 8])),
        (
            "a ClientHello after it",
            vec![22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
        ),
    ] {
        let told = told(asked(world)?, &bytes).context(what)?;
        expect(&told, "08P01").context(what)?;
    }
    Ok(())
}

pub(crate) fn every_other_message_than_a_password_is_refused(world: &World) -> Result<()> {
    for tag in (0..=u8::MAX).filter(|tag| !matches!(tag, b'p' | b'X')) {
        let told = told(asked(world)?, &[tag, 0, 0, 0, 5, 0])?;
        expect(&told, "08P01").with_context(|| format!("{tag}"))?;
    }
    let mut leaves = asked(world)?;
    leaves.send(b"X\0\0\0\x04")?;
    leaves.expect_end()
}

pub(crate) fn options_of_any_form_take_no_time(world: &World) -> Result<()> {
    // CVE-2026-107349 was an empty name that a tokenizer did not get past.
    let looks_into_them = |config: &mut ConfigFile| {
        config.set("listen", "denied_parameters", ["session_preload_libraries"]);
    };
    world.with_plain_config(looks_into_them, || {
        for options in [
            "-c=",
            "-c =",
            "-c",
            "-",
            "--",
            "--=",
            "--=x",
            "-c -c -c",
            " ",
            "\\",
            "-c a=\\",
            "=",
            "\u{b}\u{c}\r",
            "-cx",
            "-c a",
        ] {
            for text in [options.to_owned(), options.repeat(9_000 / options.len())] {
                let begun = Instant::now();
                let mut client = RawClient::connect(world.plain.port())?;
                let parameters = [("user", "optional"), ("options", text.as_str())];
                client.startup(PROTOCOL_3_0, &parameters)?;
                let answer = client.read()?;
                ensure!(matches!(answer.tag, b'R' | b'E'), "{options:?}: {answer:?}");
                ensure!(
                    begun.elapsed() < SLACK,
                    "{options:?}: {:?}",
                    begun.elapsed()
                );
            }
        }
        for denied in [
            "-c session_preload_libraries=x",
            "-csession_preload_libraries=x",
            "--session-preload-libraries=x",
            "-c Session_Preload_Libraries=x",
            "-c= -c session_preload_libraries=x",
            "-c\tsession\\_preload_libraries=x",
        ] {
            let mut client = RawClient::connect(world.plain.port())?;
            client.startup(PROTOCOL_3_0, &[("user", "optional"), ("options", denied)])?;
            expect(&client.read()?, "28000").context(denied)?;
        }
        Ok(())
    })
}

pub(crate) fn names_and_options_without_number_are_answered_once(world: &World) -> Result<()> {
    let names: Vec<String> = (0..600).map(|it| format!("_pq_.{it}")).collect();
    let mut parameters = vec![("user", "numerous")];
    parameters.extend(names.iter().map(|name| (name.as_str(), "")));
    let mut client = RawClient::connect(world.plain.port())?;
    client.startup(PROTOCOL_3_0, &parameters)?;
    let answer = client.read()?;
    ensure!(answer.tag == b'v', "{answer:?}");
    ensure!(
        answer.body.get(4..8) == Some(&600_u32.to_be_bytes()),
        "{answer:?}"
    );
    ensure!(client.read()?.tag == b'R');
    let many: Vec<String> = (0..1_200).map(|it| format!("a{it}")).collect();
    let mut parameters = vec![("user", "numerous")];
    parameters.extend(many.iter().map(|name| (name.as_str(), "")));
    let mut client = RawClient::connect(world.plain.port())?;
    client.startup(PROTOCOL_3_0, &parameters)?;
    ensure!(client.read()?.tag == b'R');
    Ok(())
}

/// Why logins were refused so far. Nobody may have come as who was slipped in.
fn refusals(world: &World) -> Result<Vec<Value>> {
    let records = world.postern.audit()?;
    let is_believed = records.iter().any(|it| it["user"] == "smuggled");
    ensure!(!is_believed, "what was slipped in is a login");
    let refused = records.iter().filter(|it| it["event"] == "refused");
    Ok(refused.map(|it| it["reason"].clone()).collect())
}

pub(crate) fn plaintext_behind_a_client_hello_is_no_part_of_the_session(
    world: &World,
) -> Result<()> {
    let tls = client_config(world.postern.ca_file())?;
    let direct = client_that_offers(world.postern.ca_file(), &["postgresql"])?;
    for (is_direct, config) in [(false, tls), (true, direct)] {
        let before = refusals(world)?.len();
        let mut tls = ClientConnection::new(config, ServerName::try_from("localhost")?)?;
        let mut bytes = Vec::new();
        tls.write_tls(&mut bytes)?;
        bytes.extend(b"\0\0\0\x17\0\x03\0\0user\0smuggled\0\0");
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, world.postern.port()))?;
        socket.set_read_timeout(Some(SLACK))?;
        if !is_direct {
            socket.write_all(&[&[0, 0, 0, 8][..], &SSL_REQUEST.to_be_bytes()].concat())?;
            let mut answer = [0];
            socket.read_exact(&mut answer)?;
            ensure!(answer == *b"S", "{answer:?}");
        }
        socket.write_all(&bytes)?;
        // The client does its part of the handshake, and would read what the server then says.
        let ended = StreamOwned::new(tls, socket).read(&mut [0]);
        let ended = ended.err().context("what was slipped in is answered")?;
        let is_hang = matches!(ended.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        ensure!(!is_hang, "direct {is_direct}: nothing ends it");
        wait_until("it is on record", CHANGE_LIMIT, || {
            let mut reasons = refusals(world)?.into_iter().skip(before);
            Ok(reasons.any(|it| it == "client_tls_failed"))
        })?;
    }
    Ok(())
}

pub(crate) fn a_cancel_request_of_any_form_gets_no_answer(world: &World) -> Result<()> {
    let person = world.person("uncancelled", &[HR_GROUP])?;
    let mut live = world.raw(&person)?;
    for key_bytes in [0, 1, 3, 4, 5, 256, 257, 4_000] {
        let mut client = RawClient::connect(world.plain.port())?;
        let mut packet = 80_877_102_u32.to_be_bytes().to_vec();
        packet.resize(4 + 4 + key_bytes, 7);
        client.send_packet(&packet)?;
        // Nor does one that is malformed.
        client
            .expect_end()
            .with_context(|| format!("a key of {key_bytes} bytes"))?;
    }
    ensure!(live.query("select count(*) from employees")? == "3");
    Ok(())
}
