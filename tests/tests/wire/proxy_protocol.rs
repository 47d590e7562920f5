//! The header by which a load balancer says whose connection it passes on.

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::Signal;
use postern_tests::account::Account;
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::process::Server;
use postern_tests::raw::client_that_offers;
use postern_tests::wait::accepts;
use postern_tests::world::{CHANGE_LIMIT, last_refusal, scratch_file};
use postern_tests::{ConfigFile, RawClient, World, free_port, needs, wait_until};

/// What every header begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// 192.0.2.7:51201 to 10.0.0.1:5000, over TCP.
pub(crate) const IPV4: &[u8] = b"\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\xc8\x01\x13\x88";
const IPV4_CLIENT: &str = "192.0.2.7:51201";
/// [2001:db8::7]:51201, with a TLV behind it.
const IPV6: &[u8] = b"\x21\x21\0\x29\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\xc8\x01\x13\x88\x04\0\x02ab";
const IPV6_CLIENT: &str = "[2001:db8::7]:51201";
/// The proxy speaks for itself.
const LOCAL: &[u8] = b"\x20\0\0\0";

pub(crate) fn header(rest: &[u8]) -> Vec<u8> {
    [SIGNATURE, rest].concat()
}

/// Whoever connects from here is a proxy that is trusted, and the database is told of clients.
pub(crate) fn behind_a_proxy(config: &mut ConfigFile) {
    config.set("listen", "proxy_protocol_from", ["127.0.0.0/8"]);
    config.set("backend", "client_address", true);
}

pub(crate) fn a_trusted_proxy_is_believed_about_the_clients_address(world: &World) -> Result<()> {
    let person = world.person("distant", &[HR_GROUP])?;
    world.with_plain_config(behind_a_proxy, || {
        let port = world.plain.port();
        for (rest, address) in [(IPV4, IPV4_CLIENT), (IPV6, IPV6_CLIENT)] {
            let mut client = RawClient::connect(port)?;
            client.send(&header(rest))?;
            let in_session = client.go_on("distant", HR_DATABASE, &person.password)?;
            let mut client = in_session.map_err(|told| anyhow!("{told:?}"))?;
            ensure!(client.query("show application_name")? == address);
            let records = world.plain.audit()?;
            let mut attempts = records.iter().filter(|it| it["event"] == "attempted");
            let last = attempts.rfind(|it| it["user"] == "distant");
            ensure!(last.context("no record")?["client"] == address);
        }
        // TLS may follow at once, in the same segment.
        let mut client = RawClient::connect(port)?;
        client.send(&header(LOCAL))?;
        let config = client_that_offers(world.plain.ca_file(), &["postgresql"])?;
        let client = client.handshake_with(&config)?;
        let in_session = client.go_on("distant", HR_DATABASE, &person.password)?;
        let mut client = in_session.map_err(|told| anyhow!("{told:?}"))?;
        let own = client.query("show application_name")?;
        ensure!(own.starts_with("127.0.0.1:"), "{own}");
        Ok(())
    })
}

pub(crate) fn a_real_haproxy_passes_clients_on_and_its_checks_leave_no_record(
    world: &World,
) -> Result<()> {
    let claim = "a_real_haproxy_passes_clients_on_and_its_checks_leave_no_record";
    let Some(haproxy) = needs::program("haproxy") else {
        needs::skip(claim, "haproxy is not installed");
        return Ok(());
    };
    let person = world.person("balanced", &[HR_GROUP])?;
    world.with_plain_config(behind_a_proxy, || {
        let before = world.plain.audit()?.len();
        let port = free_port()?;
        let file = scratch_file(world, "haproxy.cfg");
        std::fs::write(&file, haproxy_configuration(port, world.plain.port()))?;
        let mut command = Account::own().command(&haproxy, "KILL");
        command.args(["-db", "-f"]).arg(&file);
        let log = scratch_file(world, "haproxy.log");
        let mut server = Server::spawn("haproxy", command, &log, Signal::SIGTERM)?;
        server.wait_ready(CHANGE_LIMIT, || Ok(accepts("127.0.0.1", port)))?;
        let client = RawClient::connect(port)?;
        let address = client.local_address()?.to_string();
        let in_session = client.go_on("balanced", HR_DATABASE, &person.password)?;
        let mut client = in_session.map_err(|told| anyhow!("{told:?}"))?;
        ensure!(client.query("show application_name")? == address);
        // By now it has looked many times whether somebody listens.
        let records = world.plain.audit()?;
        let since = records.get(before..).unwrap_or_default();
        ensure!(since.iter().all(|it| it["event"] != "refused"), "{since:?}");
        server.stop()?;
        Ok(())
    })
}

/// Headers of version 2 for clients, and for its own looks whether somebody listens.
fn haproxy_configuration(port: u16, postern: u16) -> String {
    format!(
        "defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h

listen postgresql
    bind 127.0.0.1:{port}
    server postern 127.0.0.1:{postern} send-proxy-v2 check check-send-proxy inter 5ms
"
    )
}

pub(crate) fn a_limit_by_address_counts_each_client_behind_a_proxy(world: &World) -> Result<()> {
    let person = world.person("neighbour", &[HR_GROUP])?;
    let change = |config: &mut ConfigFile| {
        behind_a_proxy(config);
        config.set("lockout", "tries_per_address_max", 1);
    };
    world.with_plain_config(change, || {
        let log_in = |rest: &[u8], user: &str, password: &str| {
            let mut client = RawClient::connect(world.plain.port())?;
            client.send(&header(rest))?;
            client.go_on(user, HR_DATABASE, password)
        };
        for (user, reason) in [("guessed", "unknown_login"), ("again", "refresh_limit")] {
            ensure!(log_in(IPV4, user, "guess")?.is_err());
            let recorded = last_refusal(&world.plain)?;
            ensure!(recorded == reason, "{user}: {recorded}");
        }
        let refused = log_in(IPV4, "neighbour", &person.password)?;
        ensure!(refused.is_err(), "the address has no tries left");
        let in_session = log_in(IPV6, "neighbour", &person.password)?;
        in_session.map_err(|told| anyhow!("{told:?}"))?;
        Ok(())
    })
}

pub(crate) fn a_proxy_that_says_nothing_or_nonsense_is_closed(world: &World) -> Result<()> {
    world.with_plain_config(behind_a_proxy, || {
        for (begins, why) in [
            (
                b"PROXY TCP4 192.0.2.7 10.0.0.1 51201 5000\r\n".to_vec(),
                "version 1",
            ),
            (
                b"\0\0\0\x10\0\x03\0\0user\0x\0\0\0\0\0".to_vec(),
                "sent no PROXY",
            ),
            (
                header(b"\x31\x11\0\x0c\xc0\0\x02\x07\0\0\0\0\0\0\0\0"),
                "is not 2",
            ),
            (
                header(b"\x21\x12\0\x0c\xc0\0\x02\x07\0\0\0\0\0\0\0\0"),
                "not TCP",
            ),
            (header(b"\x21\x11\0\x04\xc0\0\x02\x07"), "too short"),
            (header(b"\x21\x11\xff\xff"), "too long"),
        ] {
            let mut client = RawClient::connect(world.plain.port())?;
            client.send(&begins)?;
            client.expect_end()?;
            wait_until(why, CHANGE_LIMIT, || {
                let records = world.plain.audit()?;
                let last = records.iter().rfind(|it| it["event"] == "refused");
                let detail = last.map(|it| it["detail"].to_string());
                Ok(detail.is_some_and(|it| it.contains(why)))
            })?;
        }
        Ok(())
    })
}

pub(crate) fn nobody_else_is_believed(world: &World) -> Result<()> {
    let person = world.person("forger", &[HR_GROUP])?;
    let trusts_others = |config: &mut ConfigFile| {
        config.set("listen", "proxy_protocol_from", ["10.0.0.0/8"]);
        config.set("backend", "client_address", true);
    };
    world.with_plain_config(trusts_others, || {
        let mut client = RawClient::connect(world.plain.port())?;
        client.send(&header(IPV4))?;
        let told = client.read()?;
        ensure!(told.field(b'C').as_deref() == Some("08P01"), "{told:?}");
        let mut client = world.raw(&person)?;
        let own = client.query("show application_name")?;
        ensure!(own.starts_with("127.0.0.1:"), "{own}");
        Ok(())
    })
}
