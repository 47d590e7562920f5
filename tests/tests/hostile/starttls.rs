//! A directory that does not go over to TLS, or whoever speaks for it on the way.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::{iter, thread};

use anyhow::{Context as _, Result, ensure};
use postern_tests::cast::HR_GROUP;
use postern_tests::openldap::SERVICE_PASSWORD;
use postern_tests::world::CHANGE_LIMIT;
use postern_tests::{ConfigFile, World};

use crate::SLACK;
use crate::backend::attempt;

/// StartTLS (RFC 4511, 4.14), from the message on.
const START_TLS: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

/// Yes to it.
const YES: &[u8] = b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00";

/// The record of TLS that a ClientHello is in (RFC 8446, 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// What the directory does when it has been asked for TLS.
#[derive(Debug, Clone, Copy)]
struct Row {
    what: &'static str,
    says: &'static [u8],
    /// It ends the connection then, and otherwise waits until it is hung up on.
    ends: bool,
}

const fn row(what: &'static str, says: &'static [u8], ends: bool) -> Row {
    Row { what, says, ends }
}

const ROWS: [Row; 14] = [
    row("ends the connection", b"", true),
    row("says nothing", b"", false),
    row(
        "refuses as a protocol error",
        b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00",
        false,
    ),
    row(
        "is unwilling",
        b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x35\x04\x00\x04\x00",
        false,
    ),
    row(
        "refers elsewhere",
        b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x0a\x04\x00\x04\x00",
        false,
    ),
    row(
        "disconnects",
        b"\x30\x0c\x02\x01\x00\x78\x07\x0a\x01\x34\x04\x00\x04\x00",
        true,
    ),
    row(
        "says yes to something else",
        b"\x30\x0c\x02\x01\x02\x78\x07\x0a\x01\x00\x04\x00\x04\x00",
        false,
    ),
    row(
        "lets the service in instead",
        b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
        false,
    ),
    row("says half of yes", b"\x30\x0c\x02\x01\x01\x78", true),
    row(
        "answers garbage",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        false,
    ),
    row("announces 4 GB", b"\x30\x84\xff\xff\xff\xff", false),
    row("says yes and ends the connection", YES, true),
    row("says yes and nothing more", YES, false),
    row(
        "says yes and goes on in the clear",
        b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00\
          \x30\x0c\x02\x01\x02\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
        false,
    ),
];

/// A directory that tells what each of its connections was sent in the clear, when that has ended;
/// its threads end with the test's process.
struct Listening {
    port: u16,
    row: Arc<Mutex<Row>>,
    heard: Receiver<Vec<u8>>,
}

impl Listening {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let row = Arc::new(Mutex::new(ROWS[0]));
        let script = Arc::clone(&row);
        let (tells, heard) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(std::io::Result::ok) {
                let row = *script.lock().unwrap_or_else(PoisonError::into_inner);
                let tells = tells.clone();
                // Whoever listens has gone when the test is over.
                thread::spawn(move || drop(tells.send(serve(stream, row))));
            }
        });
        Ok(Self { port, row, heard })
    }

    /// What it does from now on.
    fn does(&self, row: Row) {
        // A test that panicked meanwhile left it whole.
        *self.row.lock().unwrap_or_else(PoisonError::into_inner) = row;
    }
}

/// All that the connection was sent.
fn serve(mut stream: TcpStream, row: Row) -> Vec<u8> {
    let mut heard = Vec::new();
    let mut buffer = [0; 4_096];
    // However it ends, it has ended.
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let is_first = heard.is_empty();
        heard.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if is_first && (stream.write_all(row.says).is_err() || row.ends) {
            break;
        }
    }
    heard
}

pub(crate) fn without_the_tls_that_was_asked_for_the_directory_is_told_nothing(
    world: &World,
) -> Result<()> {
    let person = world.person("unheard", &[HR_GROUP])?;
    let directory = Listening::start()?;
    let url = format!("ldap://127.0.0.1:{}", directory.port);
    let change = |config: &mut ConfigFile| {
        config
            .set("directory", "urls", vec![url])
            .set("directory", "starttls", true)
            .set("directory", "connect_timeout_ms", 500)
            .set("directory", "operation_timeout_ms", 500)
            .set("directory", "total_timeout_ms", 1_500);
    };
    world.with_plain_config(change, || {
        for row in ROWS {
            directory.does(row);
            let (told, taken) = attempt(world, &person).context(row.what)?;
            ensure!(told == "57P03", "{}: {told:?}", row.what);
            ensure!(taken < SLACK, "{}: {taken:?}", row.what);
            let first = directory.heard.recv_timeout(CHANGE_LIMIT);
            let first = first.with_context(|| format!("{}: it was not asked", row.what))?;
            for all in iter::once(first).chain(directory.heard.try_iter()) {
                let behind = all.strip_prefix(START_TLS).context(row.what)?;
                let is_hello = behind.first().is_none_or(|it| *it == HANDSHAKE_RECORD);
                ensure!(is_hello, "{}: in the clear: {behind:?}", row.what);
                for secret in [SERVICE_PASSWORD, &person.password] {
                    let secret = secret.as_bytes();
                    let is_told = all.windows(secret.len()).any(|it| it == secret);
                    ensure!(!is_told, "{}: a password", row.what);
                }
            }
        }
        Ok(())
    })
}
