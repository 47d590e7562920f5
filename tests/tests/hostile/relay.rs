//! A network that fails: a relay that does to the bytes of its connections what a test wants.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// The lengths of pieces, in turn: none divides another, so that every message is cut everywhere.
const PIECES: [usize; 8] = [1, 2, 3, 5, 7, 11, 13, 1_021];

/// How long each chunk is held up.
const DELAY: Duration = Duration::from_millis(3);

/// What happens to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// They pass.
    None,
    /// They come in small pieces.
    Slice,
    /// They come late.
    Delay,
    /// After so many to the client, or to the server, this happens.
    After(Toward, usize, Break),
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toward {
    Client,
    Server,
}

/// How a connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    /// Both sides are closed.
    Cut,
    /// Both sides are reset.
    Reset,
    /// This direction ends, and the other one goes on.
    HalfClose,
    /// One bit of the next byte is another one.
    Corrupt,
    /// Nothing is read any more, and nothing sent; both sides stay open.
    Silence,
}

/// The relay; its threads end with its connections, and with the test's process.
pub(crate) struct Relay {
    pub(crate) port: u16,
    fault: Arc<Mutex<Fault>>,
    /// Both sides of the connections that have fallen silent.
    silent: Silent,
}

type Silent = Arc<Mutex<Vec<TcpStream>>>;

impl Relay {
    /// Before a port of 127.0.0.1.
    pub(crate) fn start(target: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let fault = Arc::new(Mutex::new(Fault::None));
        let silent = Silent::default();
        let ours = (Arc::clone(&fault), Arc::clone(&silent));
        thread::spawn(move || {
            let (fault, silent) = ours;
            for client in listener.incoming().map_while(std::io::Result::ok) {
                let fault = *lock(&fault);
                // A client whose server is not there sees its connection closed.
                if let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) {
                    // Two handles of one socket are missing only if the system has no more.
                    drop(relay(&client, &server, fault, &silent));
                }
            }
        });
        Ok(Self {
            port,
            fault,
            silent,
        })
    }

    /// What happens to the connections that are made from now on.
    pub(crate) fn set(&self, fault: Fault) {
        *lock(&self.fault) = fault;
    }

    /// Whether a connection has fallen silent.
    pub(crate) fn is_silent(&self) -> bool {
        !lock(&self.silent).is_empty()
    }

    /// Ends the connections that have fallen silent.
    pub(crate) fn end_silence(&self) {
        for socket in lock(&self.silent).drain(..) {
            // The other side of it may have done so already.
            drop(socket.shutdown(Shutdown::Both));
        }
    }
}

/// A test that panicked meanwhile left it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What both directions of a connection know of its end.
#[derive(Clone)]
struct End {
    /// Nothing is passed on any more, also of what has been read.
    is_over: Arc<AtomicBool>,
    silent: Silent,
}

fn relay(
    client: &TcpStream,
    server: &TcpStream,
    fault: Fault,
    silent: &Silent,
) -> std::io::Result<()> {
    let end = End {
        is_over: Arc::default(),
        silent: Arc::clone(silent),
    };
    for (toward, from, to) in [
        (Toward::Server, client, server),
        (Toward::Client, server, client),
    ] {
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        to.set_nodelay(true)?;
        let fault = match fault {
            Fault::After(at, ..) if at != toward => Fault::None,
            Fault::None | Fault::Slice | Fault::Delay | Fault::After(..) => fault,
        };
        let end = end.clone();
        thread::spawn(move || {
            if pump(&from, &to, fault, &end).is_err() {
                // One side is broken, so that the other one ends; it may have done so already.
                drop(from.shutdown(Shutdown::Both));
                drop(to.shutdown(Shutdown::Both));
            }
        });
    }
    Ok(())
}

/// Passes bytes on in one direction, and then the end.
fn pump(mut from: &TcpStream, mut to: &TcpStream, fault: Fault, end: &End) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut passed = 0;
    // Nothing is ever sent: waiting for it is the delay.
    let (_never, late): (Sender<()>, Receiver<()>) = channel();
    loop {
        let count = from.read(&mut chunk)?;
        let bytes = chunk.get_mut(..count).unwrap_or_default();
        if end.is_over.load(Ordering::SeqCst) {
            return Ok(());
        }
        if count == 0 {
            return to.shutdown(Shutdown::Write);
        }
        match fault {
            Fault::None => {}
            Fault::Slice => {
                let mut rest: &[u8] = bytes;
                for length in PIECES.iter().cycle() {
                    let (piece, after) = rest.split_at(rest.len().min(*length));
                    to.write_all(piece)?;
                    rest = after;
                    if rest.is_empty() {
                        break;
                    }
                }
                continue;
            }
            // It times out, because nothing is sent.
            Fault::Delay => drop(late.recv_timeout(DELAY)),
            Fault::After(_, after, how) if (passed..passed + count).contains(&after) => {
                let at = after - passed;
                if how == Break::Corrupt {
                    bytes.iter_mut().skip(at).take(1).for_each(|it| *it ^= 1);
                } else {
                    to.write_all(bytes.get(..at).unwrap_or_default())?;
                    return end.make(from, to, how);
                }
            }
            Fault::After(..) => {}
        }
        passed += count;
        to.write_all(bytes)?;
    }
}

impl End {
    fn make(&self, from: &TcpStream, to: &TcpStream, how: Break) -> std::io::Result<()> {
        match how {
            Break::Reset => {
                self.is_over.store(true, Ordering::SeqCst);
                for socket in [from, to] {
                    // Closing is a reset then; the other direction is woken, and closes as well.
                    rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO))?;
                    socket.shutdown(Shutdown::Read)?;
                }
                Ok(())
            }
            Break::Silence => {
                self.is_over.store(true, Ordering::SeqCst);
                lock(&self.silent).extend([from.try_clone()?, to.try_clone()?]);
                Ok(())
            }
            Break::HalfClose => to.shutdown(Shutdown::Write),
            Break::Cut | Break::Corrupt => {
                from.shutdown(Shutdown::Both)?;
                to.shutdown(Shutdown::Both)
            }
        }
    }
}
