//! A relay between Postern and a directory, which can stop passing anything on without a word, as
//! a firewall does that forgets a connection.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Result;

/// Bytes that are passed on at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// A running relay; it ends when it is dropped.
pub(crate) struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    /// A connection on which a client says this is closed.
    forbidden: Mutex<Option<&'static [u8]>>,
    connections: Mutex<Vec<Arc<Valve>>>,
    /// Whether new connections are shut, too.
    is_cut: AtomicBool,
    is_over: AtomicBool,
}

/// What the bytes of one connection pass through.
#[derive(Default)]
struct Valve {
    is_shut: Mutex<bool>,
    opened: Condvar,
}

impl Relay {
    /// Listens on the address of `target`, for which its certificate is good.
    pub(crate) fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((target.ip(), 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            forbidden: Mutex::default(),
            connections: Mutex::default(),
            is_cut: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let ours = Arc::clone(&shared);
        thread::spawn(move || ours.accept(&listener));
        Ok(Self { address, shared })
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("ldaps://{}", self.address)
    }

    /// Where it listens, for a directory that is spoken to in the clear.
    pub(crate) fn plain_url(&self) -> String {
        format!("ldap://{}", self.address)
    }

    /// From now on a connection is closed when a client says this in one of its messages; it has
    /// to be in the clear.
    pub(crate) fn forbid(&self, said: Option<&'static [u8]>) {
        *lock(&self.shared.forbidden) = said;
    }

    /// From now on no byte passes on the connections that are open. New ones are not concerned.
    pub(crate) fn cut_open_connections(&self) {
        self.turn(true);
    }

    /// From now on no byte passes at all.
    pub(crate) fn cut(&self) {
        self.shared.is_cut.store(true, Ordering::SeqCst);
        self.turn(true);
    }

    /// Everything passes again, also what was held up.
    pub(crate) fn mend(&self) {
        self.shared.is_cut.store(false, Ordering::SeqCst);
        self.turn(false);
    }

    fn turn(&self, is_shut: bool) {
        let connections = lock(&self.shared.connections);
        connections.iter().for_each(|valve| valve.turn(is_shut));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.mend();
        // It wakes the thread that accepts; if nobody listens any more, that has ended.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming().flatten() {
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            // A client whose directory is not there sees its connection closed.
            if let Ok(server) = TcpStream::connect(self.target) {
                // As above: two handles of one socket are missing if the system has no more.
                drop(self.pass(&client, &server));
            }
        }
    }

    fn pass(self: &Arc<Self>, client: &TcpStream, server: &TcpStream) -> Result<()> {
        let valve = Arc::new(Valve::default());
        let mut connections = lock(&self.connections);
        valve.turn(self.is_cut.load(Ordering::SeqCst));
        connections.push(Arc::clone(&valve));
        drop(connections);
        for (from, to, is_client) in [(client, server, true), (server, client, false)] {
            let (from, to) = (from.try_clone()?, to.try_clone()?);
            let (valve, shared) = (Arc::clone(&valve), Arc::clone(self));
            let may_pass = move |said: &[u8]| !is_client || !shared.forbids(said);
            thread::spawn(move || pump((from, to), &valve, may_pass));
        }
        Ok(())
    }

    fn forbids(&self, said: &[u8]) -> bool {
        let forbidden = *lock(&self.forbidden);
        forbidden.is_some_and(|it| said.windows(it.len()).any(|part| part == it))
    }
}

impl Valve {
    fn turn(&self, is_shut: bool) {
        *lock(&self.is_shut) = is_shut;
        self.opened.notify_all();
    }

    fn wait(&self) {
        let mut is_shut = lock(&self.is_shut);
        while *is_shut {
            let waited = self.opened.wait(is_shut);
            is_shut = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Passes bytes on in one direction, and then the end.
fn pump(
    (mut from, mut to): (TcpStream, TcpStream),
    valve: &Valve,
    may_pass: impl Fn(&[u8]) -> bool,
) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        valve.wait();
        let said = chunk.get(..count).unwrap_or_default();
        if !may_pass(said) || to.write_all(said).is_err() {
            break;
        }
    }
    valve.wait();
    // The other end may have gone already.
    drop(to.shutdown(Shutdown::Both));
    drop(from.shutdown(Shutdown::Both));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
