//! TLS that a client begins with, and what may be asked for before and inside of it.

use anyhow::{Result, anyhow, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::raw::{GSS_REQUEST, PROTOCOL_3_0, SSL_REQUEST, client_that_offers};
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{ConfigFile, RawClient, World, wait_until};

use crate::libpq;

/// The name of the protocol in ALPN.
const POSTGRESQL: &str = "postgresql";

pub(crate) fn a_client_may_begin_with_tls(world: &World) -> Result<()> {
    let person = world.person("direct", &[HR_GROUP])?;
    for offered in [&[POSTGRESQL][..], &["http/1.1", POSTGRESQL]] {
        let config = client_that_offers(world.postern.ca_file(), offered)?;
        let client = RawClient::direct(world.postern.port(), &config)?;
        ensure!(client.alpn() == Some(POSTGRESQL.as_bytes()));
        let in_session = client.go_on("direct", HR_DATABASE, &person.password)?;
        let mut client = in_session.map_err(|told| anyhow!("{told:?}"))?;
        ensure!(client.query("select count(*) from employees")? == "3");
    }
    let records = world.postern.audit()?;
    let attempts = records.iter().filter(|it| it["event"] == "attempted");
    let mut own = attempts.filter(|it| it["user"] == "direct");
    ensure!(own.all(|it| it["tls"].is_string()), "not on record as TLS");
    Ok(())
}

pub(crate) fn without_the_protocol_postgresql_there_is_an_alert_and_no_handshake(
    world: &World,
) -> Result<()> {
    for offered in [&[][..], &["http/1.1"], &["POSTGRESQL"]] {
        let config = client_that_offers(world.postern.ca_file(), offered)?;
        let refused = RawClient::direct(world.postern.port(), &config);
        let why = refused
            .err()
            .map(|it| format!("{it:#}"))
            .unwrap_or_default();
        ensure!(why.contains("NoApplicationProtocol"), "{offered:?}: {why}");
        wait_until("it is on record", CHANGE_LIMIT, || {
            Ok(world
                .last_refusal()
                .is_ok_and(|it| it == "client_tls_failed"))
        })?;
    }
    Ok(())
}

pub(crate) fn the_protocol_is_answered_where_tls_is_negotiated_too(world: &World) -> Result<()> {
    for (offered, chosen) in [(&[POSTGRESQL][..], Some(POSTGRESQL)), (&[], None)] {
        let config = client_that_offers(world.postern.ca_file(), offered)?;
        let client = RawClient::encrypted(world.postern.port(), &config)?;
        let client = client.map_err(|told| anyhow!("{told:?}"))?;
        ensure!(client.alpn() == chosen.map(str::as_bytes), "{offered:?}");
    }
    let config = client_that_offers(world.postern.ca_file(), &["h2"])?;
    let refused = RawClient::encrypted(world.postern.port(), &config);
    let why = refused
        .err()
        .map(|it| format!("{it:#}"))
        .unwrap_or_default();
    ensure!(why.contains("NoApplicationProtocol"), "{why}");
    Ok(())
}

pub(crate) fn nothing_is_negotiated_inside_tls(world: &World) -> Result<()> {
    let config = client_that_offers(world.postern.ca_file(), &[POSTGRESQL])?;
    let port = world.postern.port();
    for request in [SSL_REQUEST, GSS_REQUEST] {
        let negotiated = RawClient::encrypted(port, &config)?;
        let negotiated = negotiated.map_err(|told| anyhow!("{told:?}"))?;
        for mut client in [RawClient::direct(port, &config)?, negotiated] {
            client.send_packet(&request.to_be_bytes())?;
            let told = client.read()?;
            ensure!(told.field(b'C').as_deref() == Some("08P01"), "{told:?}");
        }
    }
    Ok(())
}

pub(crate) fn each_kind_of_encryption_is_asked_for_once(world: &World) -> Result<()> {
    let declines_both = |config: &mut ConfigFile| {
        config.unset("listen", "tls_cert_file");
        config.unset("listen", "tls_key_file");
    };
    world.with_plain_config(declines_both, || {
        for requests in [
            &[SSL_REQUEST, SSL_REQUEST][..],
            &[GSS_REQUEST, GSS_REQUEST],
            &[SSL_REQUEST, GSS_REQUEST, SSL_REQUEST],
            &[GSS_REQUEST, SSL_REQUEST, GSS_REQUEST],
        ] {
            let mut client = RawClient::connect(world.plain.port())?;
            for (index, request) in requests.iter().enumerate() {
                client.send_packet(&request.to_be_bytes())?;
                if index + 1 < requests.len() {
                    ensure!(client.read_byte()? == b'N', "{requests:?}");
                }
            }
            let told = client.read()?;
            ensure!(told.field(b'C').as_deref() == Some("08P01"), "{told:?}");
            client.expect_end()?;
        }
        let config = client_that_offers(world.postern.ca_file(), &[POSTGRESQL])?;
        ensure!(RawClient::direct(world.plain.port(), &config).is_err());
        Ok(())
    })?;
    // A client that begins otherwise cannot go over to direct TLS.
    let mut client = RawClient::connect(world.postern.port())?;
    client.send_packet(&GSS_REQUEST.to_be_bytes())?;
    ensure!(client.read_byte()? == b'N');
    client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")?;
    let told = client.read()?;
    ensure!(told.field(b'C').as_deref() == Some("08P01"), "{told:?}");
    // And inside TLS a password is asked for at once.
    let config = client_that_offers(world.postern.ca_file(), &[POSTGRESQL])?;
    let mut client = RawClient::direct(world.postern.port(), &config)?;
    client.startup(PROTOCOL_3_0, &[("user", "direct")])?;
    ensure!(client.read()?.tag == b'R');
    Ok(())
}

pub(crate) fn libpq_18_begins_with_tls_and_cancels_so(world: &World) -> Result<()> {
    let person = world.person("newcomer", &[HR_GROUP])?;
    let script = "
import threading, time
for newest in '3.0', '3.2':
    with connect(sslnegotiation='direct', max_protocol_version=newest) as c:
        asleep = connect(sslnegotiation='direct')
        def cancel():
            look = \"select count(*) from pg_stat_activity where pid = %s and query ~ 'pg_sleep'\"
            while asleep.execute(look, [c.info.backend_pid]).fetchone()[0] == 0:
                asleep.rollback()
            c.cancel_safe(timeout=20)
        thread = threading.Thread(target=cancel)
        thread.start()
        try:
            c.execute('select pg_sleep(300)')
        except psycopg.errors.QueryCanceled:
            print('canceled', end=' ')
        thread.join()
        asleep.close()
";
    let claim = "libpq_18_begins_with_tls_and_cancels_so";
    match libpq::run(world, claim, &person, script)? {
        None => Ok(()),
        Some(said) => {
            ensure!(said.trim() == "canceled canceled", "{said}");
            Ok(())
        }
    }
}
