//! The sockets of the process: those that were passed on to it, and those that it opens itself.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use socket2::{Domain, Socket, Type};
use tokio::task::AbortHandle;

use super::RunError;
use crate::config::Config;
use crate::limits::LISTEN_BACKLOG;
use crate::listener::inherited::Inherited;
use crate::listener::{self, Bound};
use crate::upkeep::Parts;
use crate::{cluster, control, metrics};

/// All of them, before anybody accepts.
pub(super) struct Sockets {
    /// For clients, by login thread.
    pub(super) groups: Vec<Vec<Bound>>,
    /// Each socket for clients once, to be passed on.
    pub(super) listeners: Vec<Bound>,
    /// Where clients connect.
    pub(super) addresses: Vec<SocketAddr>,
    /// For metrics.
    pub(super) metrics: Option<TcpListener>,
    /// For other proxies.
    pub(super) cluster: Option<TcpListener>,
    /// For commands.
    pub(super) control: Option<UnixListener>,
    /// The file of the control socket, if this process made it.
    pub(super) file: Option<control::SocketFile>,
}

impl Sockets {
    /// Takes what was passed on, and opens the rest.
    ///
    /// # Errors
    ///
    /// An address or a path cannot be used.
    pub(super) fn open(
        config: &Config,
        inherited: Inherited,
        threads: usize,
    ) -> Result<Self, RunError> {
        let (groups, listeners) = clients(&config.listen.addresses, inherited.client, threads)?;
        let mut addresses: Vec<SocketAddr> = listeners.iter().map(Bound::address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let metrics = one("metrics.listen", config.metrics.listen, inherited.metrics)?;
        let listen = config.cluster.as_ref().map(|it| it.listen);
        let cluster = one("cluster.listen", listen, inherited.cluster)?;
        let (control, file) = match (&config.control.socket, inherited.control) {
            (_, Some(passed_on)) => (Some(passed_on), None),
            (Some(path), None) => {
                let made = control::listen(path).map_err(|error| RunError::Control {
                    path: path.clone(),
                    error,
                })?;
                (Some(made.0), Some(made.1))
            }
            (None, None) => (None, None),
        };
        Ok(Self {
            groups,
            listeners,
            addresses,
            metrics,
            cluster,
            control,
            file,
        })
    }
}

/// A socket that was passed on, or a new one where `key` says so.
fn one(
    key: &'static str,
    configured: Option<SocketAddr>,
    inherited: Option<TcpListener>,
) -> Result<Option<TcpListener>, RunError> {
    if let Some(passed) = inherited.as_ref().and_then(|it| it.local_addr().ok())
        && configured.is_none_or(|it| it.port() != 0 && it.port() != passed.port())
    {
        say_unnamed(key, passed);
    }
    let (Some(address), None) = (configured, &inherited) else {
        return Ok(inherited);
    };
    let failed = |error| RunError::Listen {
        key,
        address,
        error,
    };
    let bound = match TcpListener::bind(address) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            tracing::warn!(
                key,
                %address,
                "no interface has the address: it is listened on from when one has"
            );
            before_it_is_there(address)
        }
        bound => bound,
    };
    bound.map(Some).map_err(failed)
}

/// A socket for an address that the machine gets later: the network may take longer than the start
/// (`IP_FREEBIND` of ip(7), `IPV6_FREEBIND` since Linux 4.15).
fn before_it_is_there(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// Whoever closes a socket by the configuration has to learn that it is open.
fn say_unnamed(key: &str, address: SocketAddr) {
    tracing::warn!(
        key,
        %address,
        "listened on, because the socket was passed on, although the configuration does not name \
         it: a restart closes it, without a socket unit that opens it"
    );
}

type Clients = (Vec<Vec<Bound>>, Vec<Bound>);

/// Sockets that were passed on are used instead of `listen.addresses`.
fn clients(
    configured: &[SocketAddr],
    inherited: Vec<Bound>,
    threads: usize,
) -> Result<Clients, RunError> {
    let address = inherited.first().map(Bound::address);
    if let Some(address) = address {
        let covers = |passed: &SocketAddr, wanted: &SocketAddr| {
            passed.port() == wanted.port()
                && (passed.ip() == wanted.ip() || passed.ip().is_unspecified())
        };
        for wanted in configured.iter().filter(|it| it.port() != 0) {
            if !inherited.iter().any(|it| covers(&it.address(), wanted)) {
                tracing::warn!(
                    %wanted,
                    "listen.addresses: not listened on, because the sockets that were passed on \
                     count instead"
                );
            }
        }
        let is_named = |it: &Bound| {
            let mut wanted = configured.iter();
            wanted.any(|wanted| wanted.port() == 0 || covers(&it.address(), wanted))
        };
        for unnamed in inherited.iter().filter(|it| !is_named(it)) {
            say_unnamed("listen.addresses", unnamed.address());
        }
        let groups = listener::share(&inherited, threads);
        let groups = groups.map_err(|error| RunError::Listen {
            key: "listen.addresses",
            address,
            error,
        })?;
        return Ok((groups, inherited));
    }
    let failed = |(address, error)| RunError::Listen {
        key: "listen.addresses",
        address,
        error,
    };
    let groups = listener::bind(configured, threads).map_err(failed)?;
    let again = |it: &Bound| it.again().map_err(|error| failed((it.address(), error)));
    let listeners = groups.iter().flatten().map(again);
    let listeners = listeners.collect::<Result<_, _>>()?;
    Ok((groups, listeners))
}

/// Metrics, the control socket and the other proxies, answered until this is dropped.
pub(super) struct Serving(Vec<AbortHandle>);

impl Serving {
    /// Begins to answer, within the event loop.
    ///
    /// # Errors
    ///
    /// A socket cannot be used.
    pub(super) fn begin(parts: &Parts) -> Result<Self, RunError> {
        let mut tasks = Vec::new();
        let failed = |error: io::Error| RunError::System {
            what: "descriptor",
            error,
        };
        if let Some(socket) = &parts.socket {
            let socket = socket.try_clone().map_err(failed)?;
            socket.set_nonblocking(true).map_err(failed)?;
            let socket = tokio::net::UnixListener::from_std(socket).map_err(failed)?;
            let served = tokio::spawn(control::serve(parts.control.clone(), socket));
            tasks.push(served.abort_handle());
        }
        let listener = |socket: &TcpListener| {
            let socket = socket.try_clone()?;
            socket.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(socket)
        };
        if let Some(socket) = &parts.cluster {
            let socket = listener(socket).map_err(failed)?;
            if let Ok(address) = socket.local_addr() {
                tracing::info!(%address, "the other proxies are listened to");
            }
            let served = tokio::spawn(cluster::serve(parts.control.clone(), socket));
            tasks.push(served.abort_handle());
        }
        if let Some(socket) = &parts.metrics {
            let socket = listener(socket).map_err(failed)?;
            if let Ok(address) = socket.local_addr() {
                tracing::info!(%address, "metrics are served over HTTP");
            }
            let served = tokio::spawn(metrics::serve(parts.control.clone(), socket));
            tasks.push(served.abort_handle());
        }
        Ok(Self(tasks))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_not_there_yet_is_listened_on() -> anyhow::Result<()> {
        // For documentation, so that no machine has them: RFC 5737 and RFC 3849.
        for address in ["192.0.2.1:0", "[2001:db8::1]:0"] {
            let address: SocketAddr = address.parse()?;
            assert!(TcpListener::bind(address).is_err());
            let found = one("metrics.listen", Some(address), None)?;
            let found = found.map(|it| it.local_addr()).transpose()?;
            assert_eq!(found.map(|it| it.ip()), Some(address.ip()));
        }
        Ok(())
    }
}
