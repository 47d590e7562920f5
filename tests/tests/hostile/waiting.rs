//! What connections cost that wait before authentication.

use anyhow::{Result, anyhow, ensure};
use postern_tests::cast::HR_DATABASE;
use postern_tests::raw::{PROTOCOL_3_0, SSL_REQUEST, client_config};
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{ConfigFile, DirectoryServer as _, Local, RawClient, World, wait_until};

use crate::meter::{descriptors, resident_kib, unread};
use crate::peers::raise_descriptor_limit;

/// What a connection may cost before authentication, in KiB.
const CONNECTION_KIB_MAX: u64 = 32;

/// How often so many come. The first ones also take what was left over from the start, and the
/// system gives memory in pages of up to 2 MiB.
const SERIES: usize = 3;

/// The domain of the local accounts, and the role of a service account.
const DOMAIN: &str = "local";
const PROGRAM: &str = "waiting_program";

/// A way of waiting, as costly as a client can make it.
struct Waiting {
    what: &'static str,
    /// What the configuration has besides.
    change: fn(&mut ConfigFile),
    /// Makes one connection that waits.
    begin: fn(&World) -> Result<RawClient>,
}

/// A way for everybody.
const fn way(what: &'static str, begin: fn(&World) -> Result<RawClient>) -> Waiting {
    Waiting {
        what,
        change: |_| (),
        begin,
    }
}

/// The ways before TLS, or instead of it.
const IN_THE_CLEAR: [Waiting; 6] = [
    way("says nothing", |world| {
        RawClient::connect(world.plain.port())
    }),
    Waiting {
        change: |config| {
            config.set("listen", "proxy_protocol_from", ["127.0.0.1/32"]);
        },
        ..way("a PROXY header without its end", |world| {
            // Of 4 KiB, the greatest that is read.
            let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x0f\xf0".to_vec();
            header.resize(4_095, 0);
            saying(world, &header)
        })
    },
    way("a startup packet without its end", |world| {
        let mut packet = 10_000_u32.to_be_bytes().to_vec();
        packet.extend(PROTOCOL_3_0.to_be_bytes());
        packet.resize(9_999, b'a');
        saying(world, &packet)
    }),
    way("a password without its end", |world| {
        let client = RawClient::connect(world.plain.port())?;
        asked_and_saying(client, "endless", &without_end(8_192))
    }),
    way("a ClientHello without its end", |world| {
        let mut client = RawClient::connect(world.plain.port())?;
        client.send_packet(&SSL_REQUEST.to_be_bytes())?;
        ensure!(client.read_byte()? == b'S');
        client.send(&hello())?;
        Ok(client)
    }),
    way("direct TLS, a ClientHello without its end", |world| {
        saying(world, &hello())
    }),
];

/// The ways inside TLS.
const ENCRYPTED: [Waiting; 4] = [
    way("TLS and nothing", tls_and_nothing),
    way("TLS and a password without its end", |world| {
        asked_and_saying(tls_and_nothing(world)?, "endless", &without_end(8_192))
    }),
    way(
        "TLS and a local account's last message without its end",
        |world| {
            let first = b"SCRAM-SHA-256\0\0\0\0\x0cn,,n=,r=abcd";
            let user = format!("waiting@{DOMAIN}");
            let mut client = asked_and_saying(tls_and_nothing(world)?, &user, &password(first))?;
            ensure!(client.read()?.tag == b'R', "not challenged");
            client.send(&without_end(1_024))?;
            Ok(client)
        },
    ),
    // The database is dialled for 32 of them at once, and these are too few to be measured.
    way(
        "TLS and a service account whose turn has not come",
        |world| {
            let mut client = tls_and_nothing(world)?;
            client.startup(
                PROTOCOL_3_0,
                &[("user", PROGRAM), ("database", HR_DATABASE)],
            )?;
            Ok(client)
        },
    ),
];

/// A connection that says this in the clear.
fn saying(world: &World, bytes: &[u8]) -> Result<RawClient> {
    let mut client = RawClient::connect(world.plain.port())?;
    client.send(bytes)?;
    Ok(client)
}

/// A connection that is asked to prove who it is, and says this.
fn asked_and_saying(mut client: RawClient, user: &str, bytes: &[u8]) -> Result<RawClient> {
    client.startup(PROTOCOL_3_0, &[("user", user), ("database", HR_DATABASE)])?;
    ensure!(client.read()?.tag == b'R', "not asked");
    client.send(bytes)?;
    Ok(client)
}

pub(crate) fn tls_and_nothing(world: &World) -> Result<RawClient> {
    let tls = client_config(world.plain.ca_file())?;
    let client = RawClient::encrypted(world.plain.port(), &tls)?;
    client.map_err(|told| anyhow!("{told:?}"))
}

/// A record of 16 KiB that begins a ClientHello of nearly 64 KiB; of more than 8 KiB nothing is
/// kept.
fn hello() -> Vec<u8> {
    let mut record = vec![22, 3, 1, 0x40, 0, 1, 0, 0xf0, 0, 3, 3];
    record.resize(8_000, 0);
    record
}

/// A message with the tag of a password.
fn password(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&b"p"[..], &length.to_be_bytes(), body].concat()
}

/// Such a message with so many bytes, but for its last one.
fn without_end(bytes: usize) -> Vec<u8> {
    let mut message = password(&vec![b'x'; bytes]);
    message.pop();
    message
}

pub(crate) fn a_connection_before_authentication_costs_32_kib_at_most(world: &World) -> Result<()> {
    raise_descriptor_limit()?;
    let local = Local::start(&world.scratch)?;
    local.add_person("waiting", "Secret-waiting-42")?;
    let mut over = Vec::new();
    for way in IN_THE_CLEAR.iter().chain(&ENCRYPTED) {
        let change = |config: &mut ConfigFile| {
            config
                .set("limits", "login_timeout_ms", 60_000)
                .set("local", "file", local.file())
                .set("local", "domain", DOMAIN)
                .begin("service_account")
                .set("service_account", "roles", [PROGRAM])
                .set("service_account", "networks", ["127.0.0.0/8"]);
            (way.change)(config);
        };
        // A process of its own: what one kind has left behind would be used again by the next.
        world.with_plain_config(change, || {
            let each = cost_kib(world, way)?;
            println!("{}: {each} KiB a connection", way.what);
            if each > CONNECTION_KIB_MAX {
                over.push(format!("{}: {each} KiB", way.what));
            }
            Ok(())
        })?;
    }
    ensure!(over.is_empty(), "{over:?}");
    Ok(())
}

/// What a connection costs that waits like this, in KiB.
fn cost_kib(world: &World, way: &Waiting) -> Result<u64> {
    let (pid, port) = (world.plain.pid()?, world.plain.port());
    let count = if crate::is_full() { 660 } else { 330 };
    let mut held = Vec::new();
    let mut series = || {
        for _ in 0..count {
            held.push((way.begin)(world)?);
        }
        // Two descriptors for each, once it is accepted.
        wait_until("everything that was sent is read", CHANGE_LIMIT, || {
            Ok(descriptors(pid)? > 2 * held.len() && unread(port)? == 0)
        })?;
        resident_kib(pid)
    };
    let first = series()?;
    let mut last = first;
    for _ in 1..SERIES {
        last = series()?;
    }
    let measured = u64::try_from((SERIES - 1) * count)?;
    Ok(last.saturating_sub(first) / measured)
}
