//! Cancel requests in the middle of what a session does, byte by byte.

use anyhow::{Context, Result, bail, ensure};
use postern_tests::raw::CancelKey;
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{RawClient, wait_until};

use crate::programs::{ENDLESS, raw};
use crate::site::{DATABASE, ROUTES, Route, Site};

/// What begins a copy in binary: its signature, its flags and the length of what is added to it.
const BINARY_START: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The row that is copied in, in text and in binary.
const ROW: &[u8] = b"row\n";
const BINARY_ROW: &[u8] = b"\0\x01\0\0\0\x03row";

pub(crate) fn a_cancel_ends_a_result_a_pipeline_a_listener_and_every_copy_midway(
    site: &Site,
) -> Result<()> {
    let person = site.person("quitter")?;
    for route in ROUTES {
        let mut client = raw(site, route, &person)?;
        let key = key_of(&client)?;
        let port = site.plain_port(route);
        client.query("create temporary table copied (line text)")?;
        let copy_out = format!("copy ({ENDLESS}) to stdout");
        let copy_out_binary = format!("{copy_out} (format binary)");
        for (messages, tag) in [
            (message(b'Q', &[ENDLESS.as_bytes(), b"\0"])?, b'D'),
            (pipeline()?, b'D'),
            (message(b'Q', &[copy_out.as_bytes(), b"\0"])?, b'd'),
            (message(b'Q', &[copy_out_binary.as_bytes(), b"\0"])?, b'd'),
        ] {
            client.send(&messages)?;
            while client.read()?.tag != tag {}
            RawClient::cancel(port, &key)?;
            expect_cancelled(&mut client).with_context(|| route.name())?;
        }
        for (format, start, row) in [("text", &[][..], ROW), ("binary", BINARY_START, BINARY_ROW)] {
            client.send_query(&format!("copy copied from stdin (format {format})"))?;
            while client.read()?.tag != b'G' {}
            client.send(&message(b'd', &[start, row])?)?;
            RawClient::cancel(port, &key)?;
            // The server looks up with the next row.
            client.send(&message(b'd', &[row])?.repeat(10_000))?;
            client.send(&message(b'c', &[])?)?;
            expect_cancelled(&mut client).with_context(|| route.name())?;
        }
        cancel_a_listener(site, route, &mut client).with_context(|| route.name())?;
    }
    Ok(())
}

/// A listener hears what others say although its query was cancelled meanwhile.
fn cancel_a_listener(site: &Site, route: Route, client: &mut RawClient) -> Result<()> {
    let key = key_of(client)?;
    client.query("listen midway")?;
    client.send_query("select pg_sleep(600)")?;
    let postgres = site.postgres(route);
    let asleep = format!(
        "select count(*) from pg_stat_activity where pid = {} and wait_event = 'PgSleep'",
        key.pid
    );
    wait_until("the listener is asleep", CHANGE_LIMIT, || {
        Ok(postgres.sql(&asleep)? == "1")
    })?;
    postgres.sql_in(DATABASE, "notify midway, 'heard'")?;
    RawClient::cancel(site.plain_port(route), &key)?;
    let messages = client.read_until_ready()?;
    let error = messages.iter().find(|it| it.tag == b'E');
    let code = error.and_then(|it| it.field(b'C'));
    ensure!(code.as_deref() == Some("57014"), "{messages:?}");
    let mut told = messages.iter().filter(|it| it.tag == b'A');
    let heard = told.any(|it| it.body.ends_with(b"midway\0heard\0"));
    ensure!(heard, "nothing was heard: {messages:?}");
    Ok(())
}

/// An endless query in the extended protocol, and another one before the next synchronisation.
fn pipeline() -> Result<Vec<u8>> {
    let mut messages = Vec::new();
    for sql in [ENDLESS, "select 'never'"] {
        messages.extend(message(b'P', &[b"\0", sql.as_bytes(), b"\0\0\0"])?);
        messages.extend(message(b'B', &[&[0; 8]])?);
        messages.extend(message(b'E', &[&[0; 5]])?);
    }
    messages.extend(message(b'S', &[])?);
    Ok(messages)
}

fn expect_cancelled(client: &mut RawClient) -> Result<()> {
    loop {
        let message = client.read()?;
        match message.tag {
            b'E' if message.field(b'C').as_deref() == Some("57014") => break,
            b'D' | b'd' => {}
            _ => bail!("{message:?}"),
        }
    }
    let rest = client.read_until_ready()?;
    let answered = rest.iter().any(|it| it.tag == b'D');
    ensure!(!answered, "it went on after the cancel: {rest:?}");
    ensure!(client.query("select 'alive'")? == "alive");
    Ok(())
}

fn key_of(client: &RawClient) -> Result<CancelKey> {
    client.cancel_key.clone().context("no cancel key")
}

/// A message of these parts.
fn message(tag: u8, parts: &[&[u8]]) -> Result<Vec<u8>> {
    let body = parts.concat();
    let length = u32::try_from(body.len() + 4)?.to_be_bytes();
    Ok([&[tag][..], &length, &body].concat())
}
