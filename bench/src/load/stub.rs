//! A stand-in for PostgreSQL that holds thousands of sessions in one process.
//!
//! It believes everybody, and to every query it answers with one row, `1`.
//! A session costs it two kilobytes, where a process of PostgreSQL costs two megabytes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use postern_tests::account::Account;
use postern_tests::wait::accepts;
use postern_tests::{Server, free_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::limits::{STUB_BACKLOG, STUB_MESSAGE_BYTES_MAX};

/// The first argument of the program when it is to be the stub; the second is the port.
const ARGUMENT: &str = "stub";

const START_LIMIT: Duration = Duration::from_secs(20);

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// AuthenticationOk, a few parameters, a cancel key that is nobody's, and ReadyForQuery.
const GREETING: &[u8] = b"R\0\0\0\x08\0\0\0\0\
    S\0\0\0\x18server_version\x0015.0\0\
    S\0\0\0\x19server_encoding\0UTF8\0\
    S\0\0\0\x19client_encoding\0UTF8\0\
    K\0\0\0\x0c\0\0\0\x01\0\0\0\x02\
    Z\0\0\0\x05I";
/// One column, called `x`, an integer.
const DESCRIPTION: &[u8] = b"T\0\0\0\x1a\0\x01x\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
const ROW: &[u8] = b"D\0\0\0\x0b\0\x01\0\0\0\x011";
const COMPLETE: &[u8] = b"C\0\0\0\x0dSELECT 1\0";
const READY: &[u8] = b"Z\0\0\0\x05I";

/// A stub in a process of its own.
#[derive(Debug)]
pub struct Stub {
    port: u16,
    /// Ends with the object.
    _server: Server,
}

impl Stub {
    /// Starts this program again, as the stub on a free port, with its output in a folder.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(folder: &Path) -> Result<Self> {
        let port = free_port()?;
        let log = folder.join("stub.log");
        let program = std::env::current_exe().context("the path of this program")?;
        let mut command = Account::own().command(&program, "KILL");
        command.arg(ARGUMENT).arg(port.to_string());
        let mut server = Server::spawn("the stub", command, &log, Signal::SIGTERM)?;
        server.wait_ready(START_LIMIT, || Ok(accepts("127.0.0.1", port)))?;
        Ok(Self {
            port,
            _server: server,
        })
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// The port, when this program was started as the stub.
#[must_use]
pub fn asked_for() -> Option<u16> {
    let mut arguments = std::env::args().skip(1);
    let is_stub = arguments.next().is_some_and(|it| it == ARGUMENT);
    arguments.next().filter(|_| is_stub)?.parse().ok()
}

/// Is the stub: serves a port of 127.0.0.1 until the process ends.
///
/// # Errors
/// If the port is taken.
pub fn serve_port(port: u16) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async { serve(listen(port)?).await })
}

/// Listens on a port of 127.0.0.1, a free one for 0.
///
/// # Errors
/// If the port is taken.
pub fn listen(port: u16) -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket.listen(STUB_BACKLOG)?)
}

/// Serves everybody who connects, for ever.
///
/// # Errors
/// If nothing more can be accepted.
pub async fn serve(listener: TcpListener) -> Result<()> {
    loop {
        let (socket, _) = listener.accept().await.context("the stub cannot accept")?;
        tokio::spawn(async move {
            // A client may leave as it likes, and there is nobody to tell.
            let _ = session(socket).await;
        });
    }
}

async fn session(mut socket: TcpStream) -> Result<()> {
    socket.set_nodelay(true)?;
    loop {
        let length = socket.read_u32().await?;
        let code = socket.read_u32().await?;
        let rest = length.checked_sub(8).context("a length under its own")?;
        skip(&mut socket, rest).await?;
        match code {
            SSL_REQUEST | GSS_REQUEST => socket.write_all(b"N").await?,
            CANCEL_REQUEST => return Ok(()),
            _ => break,
        }
    }
    socket.write_all(GREETING).await?;
    loop {
        let tag = socket.read_u8().await?;
        let length = socket.read_u32().await?;
        let rest = length.checked_sub(4).context("a length under its own")?;
        skip(&mut socket, rest).await?;
        match tag {
            b'Q' => {
                let answer = [DESCRIPTION, ROW, COMPLETE, READY].concat();
                socket.write_all(&answer).await?;
            }
            b'P' => socket.write_all(b"1\0\0\0\x04").await?,
            b'B' => socket.write_all(b"2\0\0\0\x04").await?,
            b'E' => socket.write_all(&[ROW, COMPLETE].concat()).await?,
            b'S' => socket.write_all(READY).await?,
            b'X' => return Ok(()),
            other => bail!("the stub does not know the message {other}"),
        }
    }
}

async fn skip(socket: &mut TcpStream, length: u32) -> Result<()> {
    let length = usize::try_from(length)?;
    ensure!(
        length <= STUB_MESSAGE_BYTES_MAX,
        "a message of {length} bytes"
    );
    let mut left = length;
    // A small buffer, because it is part of every session.
    let mut buffer = [0; 256];
    while left > 0 {
        let part = buffer.get_mut(..left.min(256)).unwrap_or_default();
        left -= socket.read_exact(part).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::client::{Answer, Client};
    use crate::load::clients::{Clients, Question};
    use crate::load::door::{Door, Tickets};
    use crate::load::open_loop::Plan;
    use crate::load::run;
    use crate::route::{Encryption, Kind, Login, Route};

    const LIMIT: Duration = Duration::from_secs(60);

    fn route(port: u16) -> Route {
        Route {
            name: "stub".to_owned(),
            kind: Kind::Direct,
            host: "127.0.0.1".to_owned(),
            port,
            login: Login {
                user: "anybody".to_owned(),
                password: None,
                database: "any".to_owned(),
            },
            ca_file: None,
            pids: Vec::new(),
            version: String::new(),
            configuration: String::new(),
        }
    }

    fn door(listener: &TcpListener) -> Result<Door> {
        let route = route(listener.local_addr()?.port());
        Door::new(&route, Encryption::Plain, Tickets::Forgotten)
    }

    #[test]
    fn a_client_logs_in_and_is_answered_by_both_protocols() -> Result<()> {
        run(LIMIT, async {
            let listener = listen(0)?;
            let door = door(&listener)?;
            let _stub = tokio::task::spawn_local(serve(listener));
            let mut client = Client::log_in(&door).await?;
            let expected = DESCRIPTION.len() + ROW.len() + COMPLETE.len() + READY.len();
            let expected = Answer {
                rows: 1,
                bytes: u64::try_from(expected)?,
            };
            assert_eq!(client.query("select 1").await?, expected);
            let mut statement = client.prepare("select $1").await?;
            statement.set(12_345);
            assert_eq!(client.execute(&statement).await?.rows, 1);
            client.leave().await
        })
    }

    #[test]
    fn clients_keep_to_both_kinds_of_loop() -> Result<()> {
        run(LIMIT, async {
            let listener = listen(0)?;
            let door = door(&listener)?;
            let _stub = tokio::task::spawn_local(serve(listener));
            let question = Question {
                sql: "select $1".to_owned(),
                parameter_max: 100,
            };
            let mut clients = Clients::connect(&door, 4, &question).await?;
            let closed = clients.closed_loop(Duration::from_millis(100)).await?;
            assert!(closed.rate_per_s > 0.0, "{closed:?}");
            let plan = Plan {
                rate_per_s: 100.0,
                duration: Duration::from_millis(500),
                seed: 1,
            };
            let outcome = clients.open_loop(plan).await?;
            assert_eq!(outcome.unserved, 0);
            assert!(
                (20..=90).contains(&outcome.latencies.count()),
                "{outcome:?}"
            );
            // The same clients again.
            clients.closed_loop(Duration::from_millis(10)).await?;
            Ok(())
        })
    }
}
