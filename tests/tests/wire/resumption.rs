//! TLS sessions that are resumed. libpq never does; drivers do.

use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::raw::client_config;
use postern_tests::{RawClient, Someone, World};
use rustls::{ClientConfig, HandshakeKind};

pub(crate) fn a_client_that_comes_again_resumes_its_tls_session(world: &World) -> Result<()> {
    let person = world.person("returning", &[HR_GROUP])?;
    let config = client_config(world.postern.ca_file())?;
    ensure!(handshake(world, &config, &person)? != HandshakeKind::Resumed);
    for again in 1..=3 {
        let kind = handshake(world, &config, &person)?;
        ensure!(kind == HandshakeKind::Resumed, "{again}: {kind:?}");
    }
    let stranger = client_config(world.postern.ca_file())?;
    ensure!(handshake(world, &stranger, &person)? != HandshakeKind::Resumed);
    Ok(())
}

pub(crate) fn a_ticket_of_an_earlier_process_buys_a_full_handshake(world: &World) -> Result<()> {
    let person = world.person("outliving", &[HR_GROUP])?;
    let config = client_config(world.postern.ca_file())?;
    handshake(world, &config, &person)?;
    world.postern.stop()?;
    world.postern.start_again()?;
    ensure!(handshake(world, &config, &person)? != HandshakeKind::Resumed);
    ensure!(handshake(world, &config, &person)? == HandshakeKind::Resumed);
    Ok(())
}

/// Logs in, asks something, and tells how the handshake was made.
fn handshake(world: &World, config: &Arc<ClientConfig>, person: &Someone) -> Result<HandshakeKind> {
    let client = RawClient::encrypted(world.postern.port(), config)?;
    let client = client.map_err(|told| anyhow!("{told:?}"))?;
    let in_session = client.go_on(&person.login, HR_DATABASE, &person.password)?;
    let mut session = in_session.map_err(|told| anyhow!("{told:?}"))?;
    ensure!(session.query("select session_user")? == person.login);
    session.handshake().ok_or_else(|| anyhow!("no TLS"))
}
