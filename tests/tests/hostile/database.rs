//! A database that says what a test wants it to.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use postern_tests::ConfigFile;

/// How long it says the same again and again, if nobody hangs up: longer than any limit.
const ENDLESS: Duration = Duration::from_secs(60);

/// What it says to a client that has sent its startup packet.
#[derive(Clone)]
pub(crate) enum Says {
    /// These bytes, and then nothing until it is hung up on.
    Once(Vec<u8>),
    /// The same, byte by byte.
    Slowly(Vec<u8>),
    /// First these bytes, and then those again and again.
    Forever(Vec<u8>, Vec<u8>),
    /// What comes first, and what it makes of each message that it is sent then.
    Exchange(Vec<u8>, fn(usize, &[u8]) -> Vec<u8>),
    /// This, instead of waiting for a startup packet: the answer to SSLRequest.
    Early(Vec<u8>),
}

/// The database; its threads end with the test's process.
pub(crate) struct Database {
    port: u16,
    says: Arc<Mutex<Says>>,
}

impl Database {
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let says = Arc::new(Mutex::new(Says::Once(Vec::new())));
        let script = Arc::clone(&says);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(std::io::Result::ok) {
                let script = script.lock().unwrap_or_else(PoisonError::into_inner);
                let says = script.clone();
                // Its client hangs up on it, which is no failure here.
                thread::spawn(move || drop(play(stream, says)));
            }
        });
        Ok(Self { port, says })
    }

    /// What it says from now on.
    pub(crate) fn says(&self, says: Says) {
        // A test that panicked meanwhile left it whole.
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = says;
    }

    /// Puts it behind Postern, with this `sslmode`. It may ask for nothing, or for SCRAM.
    pub(crate) fn configure(&self, config: &mut ConfigFile, sslmode: &str) {
        config
            .set("backend", "host", "127.0.0.1")
            .set("backend", "port", self.port)
            .set("backend", "sslmode", sslmode)
            .set("backend", "connect_timeout_ms", 1_500)
            .set("backend", "auth_methods", ["trust", "scram-sha-256"]);
        if sslmode == "disable" {
            config.unset("backend", "tls_ca_file");
        }
    }
}

fn play(mut stream: TcpStream, says: Says) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(ENDLESS))?;
    read_message(&mut stream, 0)?;
    match says {
        Says::Once(bytes) | Says::Early(bytes) => stream.write_all(&bytes)?,
        Says::Slowly(bytes) => {
            for byte in bytes.chunks(1) {
                stream.write_all(byte)?;
            }
        }
        Says::Forever(first, again) => {
            stream.write_all(&first)?;
            loop {
                stream.write_all(&again)?;
            }
        }
        Says::Exchange(first, answer) => {
            stream.write_all(&first)?;
            for number in 0.. {
                let message = read_message(&mut stream, 1)?;
                stream.write_all(&answer(number, &message))?;
            }
        }
    }
    // Until it is hung up on.
    loop {
        read_message(&mut stream, 1)?;
    }
}

/// Reads one message: its body.
fn read_message(stream: &mut TcpStream, tag_bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut header = vec![0; tag_bytes + 4];
    stream.read_exact(&mut header)?;
    let length = header.last_chunk::<4>().map(|it| u32::from_be_bytes(*it));
    let length = length.and_then(|it| usize::try_from(it).ok()?.checked_sub(4));
    let length = length.filter(|it| *it <= 1_000_000);
    let mut body = vec![0; length.ok_or(ErrorKind::InvalidData)?];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// A message with its tag and length.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![tag];
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    message.extend(length.to_be_bytes());
    message.extend(body);
    message
}

/// An AuthenticationXXX with this code.
pub(crate) fn authentication(code: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes(), data].concat())
}

/// All that an honest database says to a client that it trusts.
pub(crate) fn greeting() -> Vec<u8> {
    [
        authentication(0, b""),
        message(b'S', b"server_version\x0015.1\0"),
        message(b'K', &[0, 0, 0, 7, 1, 2, 3, 4]),
        message(b'Z', b"I"),
    ]
    .concat()
}
