//! What no honest client does.

use anyhow::{Context, Result, bail, ensure};
use postern_core::scram::{ChannelBinding, ClientExchange, Keys};
use postern_tests::raw::{Message, PROTOCOL_3_0};
use postern_tests::world::{CHANGE_LIMIT, last_refusal};
use postern_tests::{ConfigFile, RawClient, World, wait_until};

use crate::{CONSOLE, OPERATOR, VIEWER, console, last_record, password_of, said, set_account};

/// As many as the program serves at once.
const SESSIONS_MAX: usize = 16;

/// As many as one account may have.
const SESSIONS_PER_ACCOUNT_MAX: usize = 4;

/// Queries of as many statements as may be, whose answers no socket takes.
const UNREAD_QUERIES: usize = 60;

/// The longest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 16_384;

/// The most statements of a query.
const STATEMENTS_MAX: usize = 64;

/// The most statements, and portals, of a session.
const OPEN_MAX: usize = 256;

/// The most portals of a session that have rows left.
const OPEN_ANSWERS_MAX: usize = 4;

/// A message with a tag.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[tag], length.to_be_bytes().as_slice(), body].concat()
}

/// A session of the console in clear text, past its greeting.
pub(crate) fn logged_in(world: &World, name: &str) -> Result<RawClient> {
    let mut client = prove(world, name)?;
    client.read_until_ready()?;
    Ok(client)
}

/// A client that has sent its proof, and has not read what comes of it.
fn prove(world: &World, name: &str) -> Result<RawClient> {
    let mut client = RawClient::connect(world.plain.port())?;
    client.startup(PROTOCOL_3_0, &[("user", name), ("database", CONSOLE)])?;
    client.read()?;
    let (exchange, first) = ClientExchange::start("abcdefgh", ChannelBinding::Unsupported);
    let mut initial = exchange.mechanism().as_bytes().to_vec();
    initial.push(0);
    initial.extend(u32::try_from(first.len())?.to_be_bytes());
    initial.extend(first);
    client.send(&message(b'p', &initial))?;
    let challenge = client.read()?;
    let text = challenge.body.get(4..).context("no challenge")?;
    let challenge = exchange.server_first(text)?;
    let password = password_of(name);
    let keys = Keys::derive(
        password.as_bytes(),
        challenge.salt(),
        challenge.iterations(),
    );
    let (_, last) = challenge.answer(&keys);
    client.send(&message(b'p', &last))?;
    Ok(client)
}

/// Reads until an error comes, whose SQLSTATE is returned.
fn error(client: &mut RawClient) -> Result<String> {
    loop {
        let message = client.read()?;
        match message.tag {
            b'E' => return Ok(message.field(b'C').unwrap_or_default()),
            b'Z' => bail!("no error came"),
            _ => {}
        }
    }
}

pub(crate) fn a_query_that_is_too_long_ends_the_session(world: &World) -> Result<()> {
    let mut client = logged_in(world, "ops")?;
    let longest = format!("select 1{}", " ".repeat(MESSAGE_BYTES_MAX - 5 - 1 - 8));
    ensure!(client.query(&longest)? == "1");
    client.send_query(&format!("{longest} "))?;
    ensure!(error(&mut client)? == "08P01");
    client.expect_end()?;
    wait_until("its end is on record", CHANGE_LIMIT, || {
        Ok(last_record(&world.plain, "closed")?["reason"] == "protocol_violation")
    })
}

pub(crate) fn messages_may_come_byte_by_byte(world: &World) -> Result<()> {
    let mut client = logged_in(world, "eyes")?;
    let query = message(b'Q', b"show cache\0");
    for byte in [query.as_slice(), &query].concat() {
        client.send(&[byte])?;
    }
    for _ in 0..2 {
        let answer = client.read_until_ready()?;
        let rows = answer.iter().filter(|it| it.tag == b'D').count();
        ensure!(rows == 6, "{rows} rows");
    }
    Ok(())
}

pub(crate) fn an_error_is_skipped_to_the_next_sync(world: &World) -> Result<()> {
    let mut client = logged_in(world, "ops")?;
    let parse = |query: &str| message(b'P', format!("\0{query}\0\0\0").as_bytes());
    let bind = message(b'B', b"\0\0\0\0\0\0\0\0");
    let execute = message(b'E', b"\0\0\0\0\0");
    let sync = message(b'S', b"");
    let broken = [
        parse("nonsense"),
        bind.clone(),
        execute.clone(),
        sync.clone(),
    ]
    .concat();
    client.send(&broken)?;
    let tags: Vec<u8> = client.read_until_ready()?.iter().map(|it| it.tag).collect();
    ensure!(!tags.contains(&b'2') && !tags.contains(&b'C'), "{tags:?}");
    // Two parameters are bound to a command that has none.
    let parameters = message(b'B', b"\0\0\0\0\0\x02\0\0\0\x01a\xff\xff\xff\xff\0\0");
    client.send(
        &[
            parse("show cache"),
            parameters,
            execute.clone(),
            sync.clone(),
        ]
        .concat(),
    )?;
    let refused = client.read_until_ready()?;
    let refusal = refused
        .iter()
        .find(|it| it.tag == b'E')
        .context("it is not refused")?;
    ensure!(
        refusal.field(b'C').as_deref() == Some("08P01"),
        "{refusal:?}"
    );
    // Two rows at a time of the six that there are.
    let two = message(b'E', b"\0\0\0\0\x02");
    let four = message(b'E', b"\0\0\0\0\x09");
    client.send(&[parse("show cache"), bind, two, four, sync].concat())?;
    let tags: Vec<u8> = client.read_until_ready()?.iter().map(|it| it.tag).collect();
    let told = String::from_utf8_lossy(&tags).into_owned();
    ensure!(told.starts_with("12DDsDDDDC"), "{told}");
    Ok(())
}

pub(crate) fn the_unnamed_statement_and_portal_are_replaced_when_there_is_no_room(
    world: &World,
) -> Result<()> {
    let mut client = logged_in(world, "eyes")?;
    client.query("begin").map(drop)?;
    let parse = |name: &str| message(b'P', format!("{name}\0select 1\0\0\0").as_bytes());
    let bind = |portal: &str| message(b'B', format!("{portal}\0\0\0\0\0\0\0\0").as_bytes());
    let named = (1..OPEN_MAX).map(|it| it.to_string());
    let all = named.flat_map(|it| [parse(&it), parse(""), bind(&it), bind("")].concat());
    let sync = message(b'S', b"");
    client.send(&[all.collect(), sync.clone()].concat())?;
    let told = rows_and_error(&client.read_until_ready()?);
    ensure!(told == (0, None), "{told:?}");
    let run = message(b'E', b"\0\0\0\0\0");
    client.send(&[parse(""), bind(""), run, sync.clone()].concat())?;
    let told = rows_and_error(&client.read_until_ready()?);
    ensure!(told == (1, None), "{told:?}");
    for more in [parse("more"), bind("more")] {
        client.send(&[more, sync.clone()].concat())?;
        let told = rows_and_error(&client.read_until_ready()?);
        ensure!(told == (0, Some("53400".to_owned())), "{told:?}");
    }
    Ok(())
}

/// The rows of an answer, and the SQLSTATE of its error.
fn rows_and_error(answer: &[Message]) -> (usize, Option<String>) {
    let rows = answer.iter().filter(|it| it.tag == b'D').count();
    let error = answer.iter().find(|it| it.tag == b'E');
    (rows, error.and_then(|it| it.field(b'C')))
}

pub(crate) fn a_query_of_too_many_statements_is_refused_whole(world: &World) -> Result<()> {
    let mut client = logged_in(world, "eyes")?;
    let most = "select 1;".repeat(STATEMENTS_MAX);
    client.send_query(&most)?;
    let told = rows_and_error(&client.read_until_ready()?);
    ensure!(told == (STATEMENTS_MAX, None), "{told:?}");
    client.send_query(&format!("{most}select 1"))?;
    let told = rows_and_error(&client.read_until_ready()?);
    ensure!(told == (0, Some("53400".to_owned())), "{told:?}");
    Ok(())
}

pub(crate) fn a_long_answer_is_sent_before_the_next_statement_is_done(world: &World) -> Result<()> {
    let patience = |config: &mut ConfigFile| {
        let directory = config.set("directory", "operation_timeout_ms", 60_000);
        directory.set("directory", "total_timeout_ms", 60_000);
    };
    let ended = || {
        let records = world.plain.audit()?.into_iter();
        let ended = records.filter(|it| it["event"] == "order_ended" && it["order"] == "restore");
        anyhow::Ok(ended.count())
    };
    world.with_plain_config(patience, || {
        let mut client = logged_in(world, "ops")?;
        let before = ended()?;
        let shows = "show config;".repeat(STATEMENTS_MAX - 1);
        world.directory.pause()?;
        let sent = client.send_query(&format!("{shows} restore unasked"));
        let first = sent.and_then(|()| client.read());
        let meanwhile = ended();
        world.directory.resume()?;
        ensure!(
            first?.tag == b'T' && meanwhile? == before,
            "it was gathered"
        );
        let (rows, error) = rows_and_error(&client.read_until_ready()?);
        ensure!(
            rows > 1_000 && error.as_deref() == Some("42704"),
            "{rows} {error:?}"
        );
        ensure!(ended()? == before + 1);
        Ok(())
    })
}

pub(crate) fn no_more_portals_than_four_have_rows_left(world: &World) -> Result<()> {
    let mut client = logged_in(world, "eyes")?;
    client.query("begin").map(drop)?;
    let parse = message(b'P', b"s\0show cache\0\0\0");
    let open = |portal: usize| {
        let bind = format!("{portal}\0s\0\0\0\0\0\0\0");
        let execute = format!("{portal}\0\0\0\0\x01");
        [
            message(b'B', bind.as_bytes()),
            message(b'E', execute.as_bytes()),
        ]
        .concat()
    };
    let sync = message(b'S', b"");
    let mut said = |messages: Vec<u8>| {
        client.send(&[messages.as_slice(), &sync].concat())?;
        anyhow::Ok(rows_and_error(&client.read_until_ready()?))
    };
    let all = (0..OPEN_ANSWERS_MAX).flat_map(open).collect();
    let told = said([parse, all].concat())?;
    ensure!(told == (OPEN_ANSWERS_MAX, None), "{told:?}");
    let told = said(open(OPEN_ANSWERS_MAX))?;
    ensure!(told == (0, Some("53400".to_owned())), "{told:?}");
    // Whoever reads one to its end may begin another.
    let told = said(message(b'E', b"0\0\0\0\0\0"))?;
    ensure!(told == (5, None), "{told:?}");
    let told = said(message(
        b'E',
        format!("{OPEN_ANSWERS_MAX}\0\0\0\0\x01").as_bytes(),
    ))?;
    ensure!(told == (1, None), "{told:?}");
    Ok(())
}

pub(crate) fn what_is_no_message_ends_the_session(world: &World) -> Result<()> {
    for bytes in [
        message(b'F', b"\0\0\0\x01\0\0\0\0\0\0"),
        message(b'Q', b"show\0 more"),
        message(b'P', b"a"),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        message(b'p', b"another password\0"),
    ] {
        let mut client = logged_in(world, "eyes")?;
        client.send(&bytes)?;
        ensure!(
            error(&mut client)? == "08P01",
            "{:?}",
            bytes.escape_ascii().to_string()
        );
        client.expect_end()?;
    }
    let mut client = logged_in(world, "eyes")?;
    client.send(&message(b'Q', b"\xff\0"))?;
    ensure!(error(&mut client)? == "22021");
    client.expect_end()?;
    said(&console(&world.plain, VIEWER), "show help")?;
    Ok(())
}

pub(crate) fn one_session_too_many_is_told_so(world: &World) -> Result<()> {
    let over = |name: &str| {
        let mut over = prove(world, name)?;
        ensure!(error(&mut over)? == "53300", "{name}");
        ensure!(last_refusal(&world.plain)? == "too_many_connections");
        let record = last_record(&world.plain, "refused")?;
        Ok(record["detail"].as_str().unwrap_or_default().to_owned())
    };
    let mut held: Vec<RawClient> = Vec::new();
    for account in 0..SESSIONS_MAX / SESSIONS_PER_ACCOUNT_MAX {
        let name = format!("eyes-{account}");
        set_account(world, &name, "viewer")?;
        for _ in 0..SESSIONS_PER_ACCOUNT_MAX {
            held.push(logged_in(world, &name)?);
        }
        if account == 0 {
            let why = over(&name)?;
            ensure!(why.contains("one account"), "{why}");
        }
    }
    let why = over("ops")?;
    ensure!(why == "sessions of the admin console", "{why}");
    drop(held);
    wait_until("there is room again", CHANGE_LIMIT, || {
        Ok(console(&world.plain, OPERATOR).run("show help")?.ok)
    })
}

pub(crate) fn a_stop_puts_the_end_of_a_client_that_does_not_read_on_record(
    world: &World,
) -> Result<()> {
    let mut client = logged_in(world, "ops")?;
    let session = last_record(&world.plain, "opened")?["session"].clone();
    let of_session = |event: &str| {
        let records = world.plain.audit()?.into_iter();
        let of_it = records.filter(|it| it["session"] == session && it["event"] == event);
        anyhow::Ok(of_it.count())
    };
    // Far more than the buffers of both sockets.
    let query = "show config;".repeat(STATEMENTS_MAX);
    for _ in 0..UNREAD_QUERIES {
        client.send_query(&query)?;
    }
    let (mut before, mut looks) = (0, 0);
    wait_until("nothing is sent any more", CHANGE_LIMIT, || {
        let now = of_session("ordered")?;
        looks = if now == before { looks + 1 } else { 0 };
        before = now;
        Ok(now > 0 && looks == 10)
    })?;
    world.plain.stop()?;
    let closed = of_session("closed")?;
    world.plain.start_again()?;
    ensure!(closed == 1, "{closed} records");
    Ok(())
}

pub(crate) fn silent_clients_do_not_keep_others_out(world: &World) -> Result<()> {
    // They have proved nothing, and so have no place among the sessions.
    let mut silent = Vec::new();
    for _ in 0..2 * SESSIONS_MAX {
        let mut client = RawClient::connect(world.plain.port())?;
        client.startup(PROTOCOL_3_0, &[("user", "ops"), ("database", CONSOLE)])?;
        client.read()?;
        silent.push(client);
    }
    said(&console(&world.plain, OPERATOR), "show version")?;
    Ok(())
}
