//! The leg to a database that means ill.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::raw::{Message, PROTOCOL_3_0};
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{ConfigFile, RawClient, Someone, World, wait_until};

use crate::SLACK;
use crate::database::{Database, Says, authentication, greeting, message, server_config};
use crate::meter::resident_kib;

/// What all rows together may add to the memory of the process, in KiB: less than one of the
/// lengths that are announced.
const GROWTH_KIB_MAX: u64 = 64 * 1024;

/// A row: what the database does, and what it says.
type Row = (&'static str, Says);

/// AuthenticationOk, and then this.
fn let_in(then: &[u8]) -> Says {
    Says::Once([authentication(0, b"").as_slice(), then].concat())
}

/// AuthenticationOk, then this, and that without end.
fn without_end(then: &[u8], again: Vec<u8>) -> Says {
    Says::Forever([authentication(0, b"").as_slice(), then].concat(), again)
}

/// What never ends.
fn floods() -> Vec<Row> {
    let notice = message(b'N', b"SNOTICE\0C00000\0Magain\0\0");
    let negotiation = message(b'v', b"\0\x03\0\0\0\0\0\0");
    vec![
        ("sends notices without end", without_end(b"", notice)),
        (
            "sends parameters without end",
            without_end(b"", message(b'S', b"a\0b\0")),
        ),
        ("sends zeros without end", without_end(b"", vec![0; 4_096])),
        (
            "sends a text without end",
            without_end(b"S\0\x01\0\0", vec![b'a'; 4_096]),
        ),
        (
            "negotiates without end",
            Says::Forever(Vec::new(), negotiation),
        ),
    ]
}

/// What is announced and does not come.
fn lengths() -> Vec<Row> {
    let announces = |tag: u8, length: u32| let_in(&[&[tag][..], &length.to_be_bytes()].concat());
    vec![
        ("announces nothing", announces(b'S', 0)),
        ("announces less than the length", announces(b'N', 3)),
        ("announces 65,537 bytes", announces(b'S', 65_537)),
        ("announces 1 GB", announces(b'S', 1 << 30)),
        (
            "announces the greatest length",
            announces(b'N', u32::MAX >> 1),
        ),
        ("announces a negative length", announces(b'S', 1 << 31)),
        ("announces -1", announces(b'K', u32::MAX)),
        ("announces -1 for an error", announces(b'E', u32::MAX)),
    ]
}

/// What is out of place, or not whole, after it has let somebody in.
fn greetings() -> Vec<Row> {
    let key = message(b'K', &[0, 0, 0, 7, 1, 2, 3, 4]);
    let says = |tag: u8, body: &[u8]| let_in(&message(tag, body));
    vec![
        ("lets in twice", let_in(&authentication(0, b""))),
        ("gives two keys", let_in(&[key.clone(), key].concat())),
        ("sends a row", says(b'D', b"\0\x01\0\0\0\x01a")),
        ("begins a COPY", says(b'G', b"\0\0\0")),
        ("completes a command", says(b'C', b"SELECT 1\0")),
        ("says what nobody knows", says(b'!', b"")),
        (
            "negotiates after the login",
            says(b'v', b"\0\x03\0\0\0\0\0\0"),
        ),
        ("sends a key of 3 bytes", says(b'K', &[0, 0, 0, 7, 1, 2, 3])),
        ("sends a key of 257 bytes", says(b'K', &[7; 4 + 257])),
        ("sends a parameter without its end", says(b'S', b"a\0b")),
        ("sends a parameter without a value", says(b'S', b"a\0")),
        ("is ready for what nobody knows", says(b'Z', b"")),
    ]
}

/// What it says instead of letting somebody in.
fn refusals() -> Vec<Row> {
    let says = |tag: u8, body: &[u8]| Says::Once(message(tag, body));
    let asks = |code: u32, data: &[u8]| Says::Once(authentication(code, data));
    vec![
        ("asks for what nobody knows", asks(99, b"")),
        ("sends an authentication without a code", says(b'R', b"")),
        ("asks for MD5 without a salt", asks(5, b"")),
        ("offers no mechanism", asks(10, b"\0")),
        (
            "offers a mechanism without its end",
            asks(10, b"SCRAM-SHA-256"),
        ),
        ("goes on with SASL at once", asks(11, b"r=a,s=AAAA,i=1")),
        ("ends SASL at once", asks(12, b"v=AAAA")),
        ("is ready at once", says(b'Z', b"I")),
        (
            "negotiates more than was asked",
            says(b'v', b"\0\x03\x27\x0f\0\0\0\0"),
        ),
        (
            "negotiates 2 billion options",
            says(b'v', b"\0\x03\0\0\x7f\xff\xff\xff"),
        ),
        (
            "speaks another protocol",
            Says::Once(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ),
        ("speaks version 2", Says::Once(b"EFATAL: no\n\0".to_vec())),
    ]
}

/// A server's first message of SCRAM (RFC 5802), from the client's nonce.
pub(crate) fn challenge(first: &[u8], make: impl Fn(&str) -> String) -> Vec<u8> {
    let first = String::from_utf8_lossy(first);
    let nonce = first.split_once("r=").map_or("", |(_, nonce)| nonce);
    authentication(11, make(nonce).as_bytes())
}

pub(crate) fn exchange(answer: fn(usize, &[u8]) -> Vec<u8>) -> Says {
    Says::Exchange(authentication(10, b"SCRAM-SHA-256\0\0"), answer)
}

/// What it makes of the client's first message.
fn challenges() -> Vec<Row> {
    macro_rules! says {
        ($text:literal) => {
            exchange(|_, it| challenge(it, |nonce| $text.replace("NONCE", nonce)))
        };
    }
    let long = exchange(|_, it| {
        let more = "a".repeat(60_000);
        challenge(it, |nonce| format!("r={nonce}{more},s=AAAA,i=4096"))
    });
    vec![
        ("has a nonce of its own", says!("r=abc,s=AAAA,i=4096")),
        ("adds nothing to the nonce", says!("r=NONCE,s=AAAA,i=4096")),
        ("adds 60,000 bytes to it (CVE-2026-6665)", long),
        ("has no salt", says!("r=NONCEx,s=,i=4096")),
        ("has a salt that is none", says!("r=NONCEx,s=!,i=4096")),
        ("wants no iterations", says!("r=NONCEx,s=AAAA,i=0")),
        (
            "wants 4 billion iterations",
            says!("r=NONCEx,s=AAAA,i=4294967295"),
        ),
        (
            "wants more than a number has",
            says!("r=NONCEx,s=AAAA,i=99999999999999999999999"),
        ),
        ("wants an extension", says!("m=x,r=NONCEx,s=AAAA,i=4096")),
        ("lacks an attribute (CVE-2026-19888)", says!("r=NONCEx")),
        ("says no more than a comma", says!(",")),
        ("says nothing", says!("")),
        (
            "is another role's",
            says!("r=NONCEx,s=c2FsdHNhbHRzYWx0c2FsdA==,i=4096"),
        ),
    ]
}

/// What it says instead.
fn outcomes() -> Vec<Row> {
    vec![
        (
            "lets in without its proof",
            exchange(|_, _| authentication(0, b"")),
        ),
        (
            "proves itself before it is asked",
            exchange(|_, _| authentication(12, b"v=AAAA")),
        ),
        (
            "refuses without a SQLSTATE (RUSTSEC-2026-0178)",
            exchange(|_, _| message(b'E', b"SFATAL\0Mno\0\0")),
        ),
        (
            "refuses without a word",
            exchange(|_, _| message(b'E', b"\0")),
        ),
        (
            "refuses without an end (CVE-2026-6666)",
            exchange(|_, _| message(b'E', b"SFATAL\0C28000\0Mno")),
        ),
    ]
}

/// Logs in; a refusal is the message.
fn log_in(world: &World, person: &Someone) -> Result<Result<RawClient, Message>> {
    let mut client = RawClient::connect(world.plain.port())?;
    let parameters = [("user", person.login.as_str()), ("database", HR_DATABASE)];
    client.startup(PROTOCOL_3_0, &parameters)?;
    client.finish(&person.password)
}

/// Logs in, and returns the SQLSTATE that the client was told; empty when it is in.
pub(crate) fn attempt(world: &World, person: &Someone) -> Result<(String, Duration)> {
    let begun = Instant::now();
    let outcome = log_in(world, person)?;
    let told = outcome.err().and_then(|told| told.field(b'C'));
    Ok((told.unwrap_or_default(), begun.elapsed()))
}

/// Every row, with one start of Postern; at the end the process is the same, and has not grown.
fn hold(world: &World, person: &Someone, database: &Database) -> Result<()> {
    let pid = world.plain.pid()?;
    // Its role and its groups are made to match once.
    database.says(Says::Once(greeting()));
    let (told, _) = attempt(world, person)?;
    ensure!(told.is_empty(), "the honest one is refused: {told}");
    let before = resident_kib(pid)?;
    let groups = [
        floods(),
        lengths(),
        greetings(),
        refusals(),
        challenges(),
        outcomes(),
    ];
    let breaks = groups.into_iter().flatten();
    let away = [
        ("says nothing more", let_in(b"")),
        ("says nothing", Says::Once(Vec::new())),
        ("says it a byte a second", Says::Dripping(greeting())),
        ("hangs up", Says::Nothing),
    ];
    let breaks = breaks.map(|(what, says)| (what, says, "08006"));
    let away = away.into_iter().map(|(what, says)| (what, says, "57P03"));
    for (what, says, expected) in breaks.chain(away) {
        database.says(says);
        let (told, taken) = attempt(world, person).context(what)?;
        ensure!(told == expected, "{what}: {told:?}");
        ensure!(taken < 2 * SLACK, "{what}: {taken:?}");
    }
    let growth = resident_kib(pid)?.saturating_sub(before);
    ensure!(growth < GROWTH_KIB_MAX, "{growth} KiB more");
    database.says(Says::Slowly(greeting()));
    let (told, _) = attempt(world, person)?;
    ensure!(told.is_empty(), "byte by byte: {told}");
    keys(world, person, database)
}

/// Honest databases give no key, or one of up to 256 bytes, which they get back whole.
fn keys(world: &World, person: &Someone, database: &Database) -> Result<()> {
    let is_in = || -> Result<RawClient> {
        let outcome = log_in(world, person)?;
        outcome.map_err(|told| anyhow!("{told:?}"))
    };
    database.says(let_in(&message(b'Z', b"I")));
    let client = is_in().context("gives no key")?;
    ensure!(client.cancel_key.is_none(), "{:?}", client.cancel_key);
    let mut key = vec![0, 0, 0, 7];
    key.extend(0..=u8::MAX);
    let given = [message(b'K', &key), message(b'Z', b"I")].concat();
    database.says(let_in(&given));
    let client = is_in().context("gives a key of 256 bytes")?;
    let own = client.cancel_key.clone().context("no key")?;
    database.says(Says::Nothing);
    RawClient::cancel(world.plain.port(), &own)?;
    wait_until("the database is asked to cancel", CHANGE_LIMIT, || {
        Ok(!database.cancelled().is_empty())
    })?;
    let cancelled = database.cancelled();
    ensure!(cancelled == key, "{} bytes", cancelled.len());
    Ok(())
}

pub(crate) fn a_database_that_breaks_the_protocol_is_left_and_its_client_told(
    world: &World,
) -> Result<()> {
    let person = world.person("patience", &[HR_GROUP])?;
    let database = Database::start()?;
    let change = |config: &mut ConfigFile| database.configure(config, "disable");
    world.with_plain_config(change, || hold(world, &person, &database))
}

pub(crate) fn what_a_database_says_around_tls_is_not_believed(world: &World) -> Result<()> {
    let person = world.person("encrypted", &[HR_GROUP])?;
    let database = Database::start()?;
    let tls = server_config(world.postgres.certificate())?;
    let change = |config: &mut ConfigFile| database.configure(config, "require");
    world.with_plain_config(change, || {
        database.says(Says::Encrypted(b"S".to_vec(), tls.clone()));
        let (told, _) = attempt(world, &person)?;
        ensure!(told.is_empty(), "the honest one is refused: {told}");
        // CVE-2021-23222: what follows in the clear could be taken for what came inside TLS, which
        // is there.
        let more = [b"S".as_slice(), &greeting()].concat();
        let early = |bytes: &[u8]| Says::Early(bytes.to_vec());
        for (what, says) in [
            ("says more behind its yes", Says::Encrypted(more, tls)),
            ("says no", early(b"N")),
            (
                "answers an error",
                Says::Early(message(b'E', b"SFATAL\0C28000\0Mno\0\0")),
            ),
            ("answers for GSSAPI", early(b"G")),
            ("answers nonsense", early(b"\0")),
            ("shakes no hands", early(b"S")),
            ("lets in without TLS", early(&greeting())),
        ] {
            database.says(says);
            let (told, taken) = attempt(world, &person).context(what)?;
            ensure!(told == "57P03", "{what}: {told:?}");
            ensure!(taken < 2 * SLACK, "{what}: {taken:?}");
        }
        Ok(())
    })?;
    let change = |config: &mut ConfigFile| database.configure(config, "prefer");
    world.with_plain_config(change, || {
        // Where clear text will do, it could be taken for the answer to the startup packet. The
        // second attempt sends that at once, and is answered the same.
        database.says(Says::Early([b"N".as_slice(), &greeting()].concat()));
        let (told, _) = attempt(world, &person)?;
        ensure!(told == "08006", "says more behind its no: {told:?}");
        Ok(())
    })
}
