//! The leg to a role store that means ill.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_tests::cast::HR_GROUP;
use postern_tests::postern::PROVISIONER_PASSWORD;
use postern_tests::world::last_refusal;
use postern_tests::{ConfigFile, Someone, World};

use crate::SLACK;
use crate::backend::{attempt, challenge, exchange};
use crate::database::{Database, Says, authentication, greeting, message};
use crate::meter::resident_kib;

/// How long a connection to it may take.
const CONNECT_MS: u16 = 1_000;

/// What all rows together may add to the memory of the process, in KiB: less than one of the
/// lengths that are announced.
const GROWTH_KIB_MAX: u64 = 64 * 1024;

/// Why the login is refused, by the audit file: there is no server, or none that may have the
/// password.
const UNREACHABLE: &str = "role_store_unreachable";
const FAILED: &str = "role_store_failed";

/// A row: what the role store does, and what it says.
type Row = (&'static str, Says);

/// A message that announces a length.
fn announces(tag: u8, length: u32) -> Vec<u8> {
    [&[tag][..], &length.to_be_bytes()].concat()
}

/// SCRAM with somebody who knows the provisioner's password, and then this.
fn proven(then: Says) -> Says {
    Says::Proven(PROVISIONER_PASSWORD, Box::new(then))
}

/// What never ends.
fn floods() -> Vec<Row> {
    let notice = message(b'N', b"SNOTICE\0C00000\0Magain\0\0");
    let forever = |again: Vec<u8>| Says::Forever(Vec::new(), again);
    let in_the_login = |again: Vec<u8>| proven(Says::Forever(authentication(0, b""), again));
    vec![
        ("sends notices without end", forever(notice.clone())),
        ("sends zeros without end", forever(vec![0; 4_096])),
        (
            "announces the greatest length and sends it",
            Says::Forever(announces(b'E', u32::MAX >> 1), vec![b'a'; 4_096]),
        ),
        ("lets in with notices without end", in_the_login(notice)),
        (
            "lets in with settings without end",
            in_the_login(message(b'S', b"a\0b\0")),
        ),
        (
            "lets in with errors without a SQLSTATE (RUSTSEC-2026-0178)",
            in_the_login(message(b'E', b"SFATAL\0Mno\0\0")),
        ),
    ]
}

/// What is announced and does not come, or is no login.
fn lengths() -> Vec<Row> {
    let once = |bytes: &[u8]| Says::Once(bytes.to_vec());
    vec![
        ("announces nothing", Says::Once(announces(b'R', 0))),
        ("announces 3 bytes", Says::Once(announces(b'N', 3))),
        ("announces 1 GB", Says::Once(announces(b'R', 1 << 30))),
        ("announces -1", Says::Once(announces(b'S', u32::MAX))),
        (
            "speaks another protocol",
            once(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ),
        ("sends garbage", once(&[0xa5; 1_024])),
        ("is ready at once", Says::Once(message(b'Z', b"I"))),
        (
            "asks for what nobody knows",
            Says::Once(authentication(99, b"")),
        ),
        ("asks without a code", Says::Once(message(b'R', b"\0\0"))),
        (
            "refuses without a SQLSTATE (RUSTSEC-2026-0178)",
            Says::Once(message(b'E', b"SFATAL\0Mno\0\0")),
        ),
        (
            "wants 4 billion iterations",
            exchange(|_, it| challenge(it, |nonce| format!("r={nonce}x,s=AAAA,i=4294967295"))),
        ),
        ("says nothing", Says::Once(Vec::new())),
    ]
}

/// What it answers to a statement.
fn statements() -> Vec<Row> {
    let says = |answer: fn(usize, &[u8]) -> Vec<u8>| proven(Says::Exchange(greeting(), answer));
    vec![
        (
            "announces a row of 1 GB",
            says(|_, _| [message(b'T', b"\0\0"), announces(b'D', 1 << 30)].concat()),
        ),
        (
            "announces a notification of 1 GB",
            says(|_, _| announces(b'A', 1 << 30)),
        ),
        (
            "begins a row and falls silent",
            says(|_, _| [message(b'T', b"\0\0"), announces(b'D', 1_000)].concat()),
        ),
        ("says nothing to a statement", says(|_, _| Vec::new())),
    ]
}

/// What would tell somebody else the password, or lets anybody in.
fn logins() -> Vec<Row> {
    let asks = |code: u32, data: &[u8]| Says::Once(authentication(code, data));
    vec![
        ("asks for the password as it is", asks(3, b"")),
        ("asks for the password by MD5", asks(5, b"salt")),
        ("asks for no password", asks(0, b"")),
        (
            "lets in without its proof",
            exchange(|_, _| authentication(0, b"")),
        ),
        (
            "asks for the password in the middle of SCRAM",
            exchange(|_, _| authentication(3, b"")),
        ),
    ]
}

/// Every row, with one start of Postern; at the end the process is the same, and has not grown.
fn hold(world: &World, person: &Someone, store: &Database) -> Result<()> {
    let pid = world.plain.pid()?;
    let before = resident_kib(pid)?;
    let unreachable = [floods(), lengths(), statements()].into_iter().flatten();
    let unreachable = unreachable.map(|(what, says)| (what, says, UNREACHABLE));
    let failed = logins().into_iter();
    let failed = failed.map(|(what, says)| (what, says, FAILED));
    let limit = Duration::from_millis(u64::from(CONNECT_MS)) + SLACK;
    for (what, says, expected) in unreachable.chain(failed) {
        store.says(says);
        let (told, taken) = attempt(world, person).context(what)?;
        ensure!(told == "57P03", "{what}: {told:?}");
        ensure!(taken < limit, "{what}: {taken:?}");
        let reason = last_refusal(&world.plain)?;
        ensure!(reason == expected, "{what}: {reason}");
        ensure!(world.plain.is_running()?, "{what}: Postern has ended");
    }
    let growth = resident_kib(pid)?.saturating_sub(before);
    ensure!(growth < GROWTH_KIB_MAX, "{growth} KiB more");
    ensure!(world.plain.pid()? == pid);
    for why in [
        "more than 1048576 bytes at once",
        "more than 65536 bytes of settings",
        "a message of 1073741825 bytes, and 65536 are the most",
        "a message of 1073741825 bytes, and 16777216 are the most",
        "no answer in 1000 ms",
        "asks for the password as it is",
        "asks for the password by MD5",
        "asks for no password (trust)",
    ] {
        ensure!(world.plain.log_contains(why)?, "the log has no {why:?}");
    }
    Ok(())
}

pub(crate) fn a_role_store_that_breaks_the_protocol_lets_nobody_in_and_learns_no_password(
    world: &World,
) -> Result<()> {
    let person = world.person("unprovided", &[HR_GROUP])?;
    let store = Database::start()?;
    let change = |config: &mut ConfigFile| {
        config
            .set("role_store", "host", "127.0.0.1")
            .set("role_store", "port", store.port)
            .set("role_store", "sslmode", "disable")
            .unset("role_store", "tls_ca_file")
            .set("role_store", "connect_timeout_ms", CONNECT_MS)
            .set("role_store", "statement_timeout_ms", CONNECT_MS);
    };
    world.with_plain_config(change, || hold(world, &person, &store))?;
    let heard = store.heard()?;
    let has = |text: &[u8]| heard.windows(text.len()).any(|it| it == text);
    ensure!(has(b"SCRAM-SHA-256"), "it has heard no login");
    ensure!(!has(PROVISIONER_PASSWORD.as_bytes()) && !has(b"md5"));
    // The same Postern, with the role store that means well.
    world.raw(&person).map(drop)
}
