//! A database, or a role store, that says what a test wants it to.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use postern_core::scram::{ClientFirst, SCRAM_SHA_256, Verifier};
use postern_tests::certificates::ServerCertificate;
use postern_tests::{ConfigFile, wait_until};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// How long it says the same again and again, if nobody hangs up: longer than any limit.
const ENDLESS: Duration = Duration::from_secs(60);

/// What it says to a client that has sent its startup packet.
#[derive(Clone)]
pub(crate) enum Says {
    /// Nothing: it hangs up.
    Nothing,
    /// These bytes, and then nothing until it is hung up on.
    Once(Vec<u8>),
    /// The same, byte by byte.
    Slowly(Vec<u8>),
    /// The same, a byte a second.
    Dripping(Vec<u8>),
    /// First these bytes, and then those again and again.
    Forever(Vec<u8>, Vec<u8>),
    /// What comes first, and what it makes of each message that it is sent then.
    Exchange(Vec<u8>, fn(usize, &[u8]) -> Vec<u8>),
    /// What comes first, and then whatever it is sent, byte for byte.
    Echo(Vec<u8>),
    /// This, instead of waiting for a startup packet: the answer to SSLRequest.
    Early(Vec<u8>),
    /// First it has SCRAM with whoever knows this password.
    Proven(&'static str, Box<Says>),
    /// An early answer, and then what an honest one says, by TLS with this certificate.
    Encrypted(Vec<u8>, Arc<ServerConfig>),
}

/// What a cancel request begins with, behind its length.
const CANCEL_REQUEST: [u8; 4] = 80_877_102_u32.to_be_bytes();

/// The database; its threads end with the test's process.
pub(crate) struct Database {
    pub(crate) port: u16,
    says: Arc<Mutex<Says>>,
    heard: Arc<Mutex<Vec<u8>>>,
    cancelled: Arc<Mutex<Vec<u8>>>,
}

/// Who speaks to it on one connection. What it reads of that, it remembers.
struct Client {
    stream: TcpStream,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Read for Client {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stream.read(buffer)?;
        lock(&self.heard).extend(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

impl Write for Client {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

impl Database {
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let says = Arc::new(Mutex::new(Says::Once(Vec::new())));
        let (heard, cancelled) = (Arc::default(), Arc::default());
        let (script, ear, asked) = (
            Arc::clone(&says),
            Arc::clone(&heard),
            Arc::clone(&cancelled),
        );
        thread::spawn(move || {
            for stream in listener.incoming().map_while(std::io::Result::ok) {
                let (says, asked) = (lock(&script).clone(), Arc::clone(&asked));
                let heard = Arc::clone(&ear);
                // Its client hangs up on it, which is no failure here.
                thread::spawn(move || drop(play(Client { stream, heard }, says, &asked)));
            }
        });
        Ok(Self {
            port,
            says,
            heard,
            cancelled,
        })
    }

    /// What it says from now on.
    pub(crate) fn says(&self, says: Says) {
        *lock(&self.says) = says;
    }

    /// Every byte that it was told, once nobody speaks to it any more.
    pub(crate) fn heard(&self) -> Result<Vec<u8>> {
        // One is here, one with the thread that accepts, and one with each connection.
        let are_gone = || Ok(Arc::strong_count(&self.heard) == 2);
        wait_until("all connections have ended", ENDLESS, are_gone)?;
        Ok(lock(&self.heard).clone())
    }

    /// What the last cancel request was for: a process number, and its key.
    pub(crate) fn cancelled(&self) -> Vec<u8> {
        lock(&self.cancelled).clone()
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

/// A test that panicked meanwhile left it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn play(mut client: Client, says: Says, cancelled: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    client.stream.set_nodelay(true)?;
    client.stream.set_write_timeout(Some(ENDLESS))?;
    let first = read_message(&mut client, 0)?;
    if let Some(key) = first.strip_prefix(&CANCEL_REQUEST) {
        *lock(cancelled) = key.to_vec();
    }
    say(&mut client, says)
}

fn say(client: &mut Client, says: Says) -> std::io::Result<()> {
    match says {
        Says::Nothing => return Ok(()),
        Says::Once(bytes) | Says::Early(bytes) => client.write_all(&bytes)?,
        Says::Slowly(bytes) => {
            for byte in bytes.chunks(1) {
                client.write_all(byte)?;
            }
        }
        Says::Dripping(bytes) => drip(client, &bytes)?,
        Says::Forever(first, again) => {
            client.write_all(&first)?;
            loop {
                client.write_all(&again)?;
            }
        }
        Says::Echo(first) => {
            client.write_all(&first)?;
            let mut back = client.stream.try_clone()?;
            std::io::copy(client, &mut back)?;
        }
        Says::Exchange(first, answer) => {
            client.write_all(&first)?;
            for number in 0.. {
                let message = read_message(client, 1)?;
                client.write_all(&answer(number, &message))?;
            }
        }
        Says::Proven(password, then) => {
            prove(client, password)?;
            return say(client, *then);
        }
        Says::Encrypted(bytes, tls) => {
            client.write_all(&bytes)?;
            let tls = ServerConnection::new(tls).map_err(Error::other)?;
            let mut stream = StreamOwned::new(tls, client);
            read_message(&mut stream, 0)?;
            stream.write_all(&greeting())?;
            return until_hung_up(&mut stream);
        }
    }
    until_hung_up(client)
}

/// Says it a byte a second.
pub(crate) fn drip(stream: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    let (_never, second) = channel::<()>();
    for byte in bytes.chunks(1) {
        stream.write_all(byte)?;
        // It times out, because nothing is sent.
        let _ = second.recv_timeout(Duration::from_secs(1));
    }
    Ok(())
}

fn until_hung_up(stream: &mut impl Read) -> std::io::Result<()> {
    loop {
        read_message(stream, 1)?;
    }
}

/// What an honest database does until it lets in, with whoever knows the password.
fn prove(client: &mut Client, password: &str) -> std::io::Result<()> {
    let iterations = NonZeroU32::MIN.saturating_add(4_095);
    let verifier = Verifier::from_password(password.as_bytes(), &[7; 16], iterations);
    let mechanism = SCRAM_SHA_256.as_bytes();
    client.write_all(&authentication(10, &[mechanism, b"\0\0"].concat()))?;
    let response = read_message(client, 1)?;
    // The mechanism with its end, and the length of what follows.
    let first = response.get(mechanism.len() + 1 + 4..).unwrap_or_default();
    let first = ClientFirst::read(None, mechanism, first).map_err(Error::other)?;
    let (challenged, challenge) = first.challenge("hostile", &verifier);
    client.write_all(&authentication(11, &challenge))?;
    let last = read_message(client, 1)?;
    let (_verified, last) = challenged.client_final(&last).map_err(Error::other)?;
    client.write_all(&authentication(12, &last))
}

/// Reads one message: its body.
fn read_message(stream: &mut impl Read, tag_bytes: usize) -> std::io::Result<Vec<u8>> {
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

/// TLS of a database with this certificate.
pub(crate) fn server_config(certificate: &ServerCertificate) -> Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(&certificate.cert_file)?;
    let chain = chain.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&certificate.key_file)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}
