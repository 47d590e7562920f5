//! Accepting connections: one listening socket an address and login thread, by SO_REUSEPORT.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use crate::error::Full;
use crate::gate::Plane;
use crate::limits::{ACCEPT_PAUSE, LISTEN_BACKLOG, STOP_TIMEOUT};
use crate::login::{Visit, serve, turn_away};
use crate::session::SessionId;
use crate::stream::Stream;

/// A socket that is bound and does not listen yet.
pub(crate) struct Bound {
    socket: Socket,
    address: SocketAddr,
}

/// Binds every address once for each of `threads` login threads.
///
/// A port of 0 takes a free one, the same for all threads.
///
/// # Errors
///
/// The first address that cannot be bound, and why.
pub(crate) fn bind(
    addresses: &[SocketAddr],
    threads: usize,
) -> Result<Vec<Vec<Bound>>, (SocketAddr, io::Error)> {
    let mut groups: Vec<Vec<Bound>> = (0..threads).map(|_| Vec::new()).collect();
    for wanted in addresses {
        let mut address = *wanted;
        for group in &mut groups {
            let bound = bind_one(address).map_err(|error| (address, error))?;
            address = bound.address;
            group.push(bound);
        }
    }
    Ok(groups)
}

fn bind_one(address: SocketAddr) -> io::Result<Bound> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        // An IPv6 address means IPv6; an IPv4 one is configured by itself.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let address = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok(Bound { socket, address })
}

impl Bound {
    /// The address, with the port that was taken.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts to listen. Runs on the thread that will accept.
    ///
    /// # Errors
    ///
    /// As listen(2).
    pub(crate) fn listen(self) -> io::Result<TcpListener> {
        self.socket.listen(LISTEN_BACKLOG)?;
        TcpListener::from_std(self.socket.into())
    }
}

/// Accepts until the process is told to stop, and then waits for the logins that are under way:
/// they end by themselves, each with its record.
pub(crate) async fn accept(plane: Rc<Plane>, listener: TcpListener) {
    // Nothing is ever sent: every login holds a sender, and the channel closes with the last one.
    let (under_way, mut all_ended) = mpsc::channel::<Infallible>(1);
    let mut stopping = plane.gate.stopping.subscribe();
    loop {
        let accepted = tokio::select! {
            // accept is cancel safe: a connection is either returned or still in the queue.
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => break,
        };
        match accepted {
            Ok((socket, client)) => admit(&plane, socket, client, &under_way),
            Err(error) => {
                // Descriptors or memory have run out, or the client has gone already.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop((listener, under_way));
    if timeout(STOP_TIMEOUT, all_ended.recv()).await.is_err() {
        tracing::warn!("logins that were under way are cut off");
    }
}

/// Starts a login, unless there are more connections on their way than can be told anything.
fn admit(
    plane: &Rc<Plane>,
    socket: tokio::net::TcpStream,
    client: SocketAddr,
    under_way: &mpsc::Sender<Infallible>,
) {
    let gate = &plane.gate;
    gate.counts.connections.fetch_add(1, Ordering::Relaxed);
    let places = &gate.permits;
    let permit = places.connections.clone().try_acquire_owned();
    let is_over = permit.is_err();
    let Ok(permit) = permit.or_else(|_| places.turned_away.clone().try_acquire_owned()) else {
        tracing::warn!(%client, "a connection was closed at once: too many are on their way");
        return;
    };
    let stream = match socket.into_std().and_then(Stream::new) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%client, %error, "a connection could not be set up");
            return;
        }
    };
    let visit = Visit::new(gate.sessions.identify(), client);
    let held = (permit, under_way.clone());
    let (plane, id) = (plane.clone(), visit.id);
    drop(match is_over {
        false => tokio_uring::spawn(watch(id, serve(plane, stream, visit), held)),
        true => tokio_uring::spawn(watch(
            id,
            turn_away(plane, stream, visit, Full::Connections),
            held,
        )),
    });
}

/// What a connection holds until it has reached the splice or ended.
type Held = (OwnedSemaphorePermit, mpsc::Sender<Infallible>);

/// A panic in one login ends that login, is said aloud, and touches nobody else.
async fn watch(id: SessionId, login: impl Future<Output = ()> + 'static, held: Held) {
    if let Err(error) = tokio_uring::spawn(login).await {
        tracing::error!(session = %id, %error, "a login ended by a defect of Postern");
    }
    drop(held);
}
