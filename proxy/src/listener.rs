//! Accepting connections: one listening socket an address and login thread, by SO_REUSEPORT; or
//! the sockets that were passed on to the process, which all login threads share.

pub(crate) mod inherited;
mod reserve;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::reserve::{is_exhaustion, last_word};
use crate::error::Full;
use crate::gate::CurrentPlane;
use crate::limits::{ACCEPT_PAUSE, LISTEN_BACKLOG, STOP_TIMEOUT};
use crate::login::{Visit, serve, turn_away};
use crate::negotiate::speaks_for_others;
use crate::session::SessionId;
use crate::stream::Stream;

/// A socket that is bound, and listens if another process had it before.
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

/// Shares sockets that were passed on among `threads` login threads.
///
/// Each thread gets a descriptor of its own of the one socket, and all accept from its one queue:
/// a queue for each thread would be theirs alone, and whoever waits in it would be refused when
/// the process ends. Whichever thread is free takes the next connection; the price is that a
/// connection wakes all that are idle.
/// Where there are more sockets than threads, no socket is left without one.
///
/// # Errors
///
/// No descriptors are left.
pub(crate) fn share(sockets: &[Bound], threads: usize) -> io::Result<Vec<Vec<Bound>>> {
    let mut groups: Vec<Vec<Bound>> = (0..threads).map(|_| Vec::new()).collect();
    let mut by_address: BTreeMap<SocketAddr, Vec<&Bound>> = BTreeMap::new();
    for socket in sockets {
        by_address.entry(socket.address).or_default().push(socket);
    }
    for sockets in by_address.values() {
        let count = sockets.len().max(threads);
        for (number, socket) in sockets.iter().cycle().take(count).enumerate() {
            if let Some(group) = groups.get_mut(number % threads.max(1)) {
                group.push(socket.again()?);
            }
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
    /// A socket that listens already.
    fn inherited(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let socket = socket.into();
        Ok(Self { socket, address })
    }

    /// Another descriptor of the same socket.
    ///
    /// # Errors
    ///
    /// No descriptor is left.
    pub(crate) fn again(&self) -> io::Result<Self> {
        Ok(Self {
            socket: self.socket.try_clone()?,
            address: self.address,
        })
    }

    /// The descriptor, to pass it on.
    pub(crate) fn into_descriptor(self) -> OwnedFd {
        self.socket.into()
    }

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
pub(crate) async fn accept(current: Arc<CurrentPlane>, listener: TcpListener) {
    // Nothing is ever sent: every login holds a sender, and the channel closes with the last one.
    let (under_way, mut all_ended) = mpsc::channel::<Infallible>(1);
    let gate = current.gate();
    let (mut stopping, mut handed_over) = (gate.stopping.subscribe(), gate.handed_over.subscribe());
    // Without one from the start, the first connection is told so.
    let _is_kept = reserve::keep();
    loop {
        let accepted = tokio::select! {
            // accept is cancel safe: a connection is either returned or still in the queue.
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => break,
            _ = handed_over.wait_for(|handed_over| *handed_over) => break,
        };
        match accepted {
            Ok((socket, client)) => {
                // A socket for both families tells addresses of IPv4 in those of IPv6.
                let client = SocketAddr::new(client.ip().to_canonical(), client.port());
                admit(&current, socket, client, &under_way);
            }
            Err(error) => {
                if is_exhaustion(&error) && reserve::turn_away(&current.gate(), &listener).await {
                    continue;
                }
                // Memory has run out, or others are quicker to take what gets free, or the client
                // has gone already.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop((listener, under_way));
    // Who came in before another process took over is served here to the end.
    tokio::select! {
        _ = all_ended.recv() => return,
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    if timeout(STOP_TIMEOUT, all_ended.recv()).await.is_err() {
        tracing::warn!("logins that were under way are cut off");
    }
}

/// Starts a login, unless there are more connections on their way than can be told anything.
fn admit(
    current: &Arc<CurrentPlane>,
    socket: tokio::net::TcpStream,
    client: SocketAddr,
    under_way: &mpsc::Sender<Infallible>,
) {
    let plane = current.get();
    let gate = &plane.gate;
    gate.counts.connections.fetch_add(1, Ordering::Relaxed);
    let arrival = match speaks_for_others(client.ip(), &gate.config.listen.proxy_protocol_from) {
        // For whom, it says later.
        true => Ok(None),
        false => gate.arrivals.enter(client.ip()).map(Some),
    };
    let places = &gate.permits;
    let permit = match &arrival {
        Ok(_) => places.connections.clone().try_acquire_owned().ok(),
        Err(_) => None,
    };
    let over = match (&arrival, &permit) {
        (Err(full), _) => Some(*full),
        (Ok(_), None) => Some(Full::Connections),
        (Ok(_), Some(_)) => None,
    };
    let permit = permit.or_else(|| places.turned_away.clone().try_acquire_owned().ok());
    let Some(permit) = permit else {
        tracing::warn!(%client, "a connection was closed at once: too many are on their way");
        return;
    };
    let stream = socket.into_std().map(Stream::new);
    let stream = match stream {
        Ok(Ok(stream)) => stream,
        Ok(Err((socket, error))) if is_exhaustion(&error) => return last_word(gate, &socket),
        Ok(Err((_, error))) | Err(error) => {
            tracing::warn!(%client, %error, "a connection could not be set up");
            return;
        }
    };
    if !reserve::keep() {
        // It took what was lent for telling others, and gives it back at once.
        if let Some(socket) = stream.socket() {
            last_word(gate, socket);
        }
        return;
    }
    let mut visit = Visit::new(gate.sessions.identify(), client);
    visit.arrival = arrival.unwrap_or_default();
    visit.place = Some(permit);
    let held = under_way.clone();
    let (current, id) = (current.clone(), visit.id);
    let login = match over {
        None => tokio_uring::spawn(serve((current, plane), stream, visit)),
        Some(full) => tokio_uring::spawn(turn_away(plane, stream, visit, full)),
    };
    drop(tokio_uring::spawn(watch(id, login, held)));
}

/// A panic in one login ends that login, is said aloud, and touches nobody else.
async fn watch(id: SessionId, login: JoinHandle<()>, held: mpsc::Sender<Infallible>) {
    if let Err(error) = login.await {
        tracing::error!(session = %id, %error, "a login ended by a defect of Postern");
    }
    drop(held);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(count: usize) -> io::Result<Vec<Bound>> {
        let mut sockets: Vec<Bound> = Vec::new();
        for _ in 0..count {
            let address = sockets.first().map(Bound::address);
            sockets.push(bind_one(address.unwrap_or(([127, 0, 0, 1], 0).into()))?);
        }
        Ok(sockets)
    }

    #[test]
    fn every_thread_has_a_socket_and_no_socket_is_without_a_thread() -> io::Result<()> {
        for (count, threads, expected) in [
            (1, 3, vec![1, 1, 1]),
            (2, 2, vec![1, 1]),
            (2, 3, vec![1, 1, 1]),
            (5, 2, vec![3, 2]),
        ] {
            let groups = share(&sockets(count)?, threads)?;
            let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
            assert_eq!(sizes, expected, "{count} sockets for {threads} threads");
        }
        Ok(())
    }
}
