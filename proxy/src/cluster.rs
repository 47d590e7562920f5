//! The other proxies before the same databases: a cancel request that reaches one of them is acted
//! on by the one that has the session.
//!
//! A client asks for a cancel on a connection of its own, and a balancer may lead that anywhere.
//! Which proxy issued a key cannot be seen from it: the process number is the database's, which
//! clients compare with what the database says, and protocol 3.0 has room for 32 random bits and
//! nothing else. So a proxy that does not know a key asks all others, and they ask nobody.
//!
//! What crosses the wire is the CancelRequest as the client sent it, inside TLS on which both
//! sides have proved that they have the cluster key ([`tls::peer_configs`]). There is no answer;
//! the connection is closed when everything has been done that will be.

use std::io;
use std::sync::Arc;

use postern_core::credential::ClusterKey;
use postern_core::limits::CANCEL_KEY_BYTES_MAX;
use postern_core::wire::backend::cancel_request;
use postern_core::wire::startup::{self, CancelRequest, FirstPacket};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::cancel::{Found, cancel_here};
use crate::check::Probe;
use crate::config::Cluster;
use crate::gate::{CurrentPlane, Gate};
use crate::limits::{ACCEPT_PAUSE, PEER_CALLS_MAX, PEER_TIMEOUT};
use crate::session::CancelKey;
use crate::tls::{self, PEER_NAME, TlsError};

/// The length, the code and the process number of a CancelRequest, in bytes.
const CANCEL_HEADER_BYTES: usize = 12;

/// The other proxies, and how they and this one know each other.
pub(crate) struct Peers {
    /// `host:port` of each.
    addresses: Vec<String>,
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl Peers {
    /// Those of the configuration.
    ///
    /// # Errors
    ///
    /// As [`tls::peer_configs`].
    pub(crate) fn new(config: &Cluster, cluster_key: &ClusterKey) -> Result<Self, TlsError> {
        let configs = tls::peer_configs(cluster_key)?;
        Ok(Self {
            addresses: config.peers.clone(),
            connector: TlsConnector::from(configs.client),
            acceptor: TlsAcceptor::from(configs.server),
        })
    }

    /// Asks all of them at once to cancel what the key belongs to, and waits until each has done
    /// so or its time is over: libpq's PQcancel promises that the request has been acted on.
    pub(crate) async fn cancel(&self, key: &CancelKey) {
        let packet: Arc<[u8]> = cancel_request(key.pid, &key.key).into();
        let mut asked = JoinSet::new();
        for address in &self.addresses {
            let (address, packet) = (address.clone(), packet.clone());
            let connector = self.connector.clone();
            asked.spawn(async move {
                if let Err(why) = ask_within(&connector, &address, &packet).await {
                    tracing::warn!(peer = address, why, "a cancel request was not passed on");
                }
            });
        }
        // A panic in one has been said aloud by the runtime, and takes nothing from the others.
        while asked.join_next().await.is_some() {}
    }

    /// Asks each in turn for a session that nobody has; for `postern check`.
    pub(crate) async fn probe(&self) -> Vec<Probe> {
        let mut probes = Vec::new();
        for address in &self.addresses {
            let packet = cancel_request(0, &[0; CANCEL_KEY_BYTES_MAX]);
            let why = ask_within(&self.connector, address, &packet).await;
            let cure = "is it running, and has it the same cluster key?";
            probes.push(match why {
                Ok(()) => Probe::ok("cluster", address, "it has the same key"),
                // One that is down takes its sessions with it: nothing is left to cancel there.
                Err(why) => Probe::warning("cluster", address, why, cure),
            });
        }
        probes
    }
}

/// Asks one of them; says why that failed.
async fn ask_within(connector: &TlsConnector, address: &str, packet: &[u8]) -> Result<(), String> {
    match timeout(PEER_TIMEOUT, ask(connector, address, packet)).await {
        Ok(asked) => asked.map_err(|error| tls::explain(&error)),
        Err(_) => Err(format!("no answer in {} s", PEER_TIMEOUT.as_secs())),
    }
}

/// Runs until the peer closes the connection in good order.
async fn ask(connector: &TlsConnector, address: &str, packet: &[u8]) -> io::Result<()> {
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from(PEER_NAME).map_err(io::Error::other)?;
    let mut tls = connector.connect(name, socket).await?;
    tls.write_all(packet).await?;
    tls.flush().await?;
    // A refusal of this side's key is an alert, and thereby an error here.
    match tls.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(io::Error::other("it answers, which no peer does")),
    }
}

/// Acts on what other proxies ask, for as long as the process runs.
pub(crate) async fn serve(current: Arc<CurrentPlane>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(PEER_CALLS_MAX));
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cluster: a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!(%peer, "cluster: a connection was closed: too many at once");
            continue;
        };
        let gate = current.gate();
        drop(tokio::spawn(async move {
            match timeout(PEER_TIMEOUT, answer(&gate, socket)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    let why = tls::explain(&error);
                    tracing::warn!(%peer, why, "cluster: a connection was closed");
                }
                Err(_) => tracing::warn!(%peer, "cluster: a connection took too long"),
            }
            drop(place);
        }));
    }
}

/// One request of one peer.
async fn answer(gate: &Gate, socket: TcpStream) -> io::Result<()> {
    let Some(peers) = &gate.peers else {
        return Ok(());
    };
    let mut tls = peers.acceptor.accept(socket).await?;
    let request = receive(&mut tls).await?;
    let key = CancelKey {
        pid: request.pid,
        key: request.key,
    };
    if cancel_here(gate, &key).await == Found::No {
        tracing::debug!(pid = key.pid, "a peer asks for no live session");
    }
    tls.shutdown().await
}

/// A CancelRequest and nothing else.
async fn receive(from: &mut (impl AsyncRead + Unpin)) -> io::Result<CancelRequest> {
    let not_one = || io::Error::new(io::ErrorKind::InvalidData, "not a cancel request");
    let mut packet = vec![0; size_of::<u32>()];
    from.read_exact(&mut packet).await?;
    let header = packet.first_chunk().ok_or_else(not_one)?;
    let length = startup::first_packet_len(header).map_err(io::Error::other)?;
    if length > CANCEL_HEADER_BYTES + CANCEL_KEY_BYTES_MAX {
        return Err(not_one());
    }
    packet.resize(length, 0);
    let rest = packet.get_mut(size_of::<u32>()..).ok_or_else(not_one)?;
    from.read_exact(rest).await?;
    match startup::parse(&packet).map_err(io::Error::other)? {
        FirstPacket::Cancel(request) => Ok(request),
        FirstPacket::Ssl | FirstPacket::Gss | FirstPacket::Startup(_) => Err(not_one()),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, Result};

    use super::*;
    use crate::check::Outcome;

    fn peers(key: &str, addresses: &[String]) -> Result<Peers> {
        let key = ClusterKey::parse(key.repeat(16).as_bytes())?;
        let config = Cluster {
            listen: ([127, 0, 0, 1], 0).into(),
            peers: addresses.to_vec(),
        };
        Ok(Peers::new(&config, &key)?)
    }

    /// What a proxy with one key understands of one with another, and what that one is told.
    async fn asked(owner: &str, asker: &str) -> Result<(io::Result<CancelRequest>, Probe)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let acceptor = peers(owner, &[])?.acceptor;
        let answering = async {
            let (socket, _) = listener.accept().await?;
            let mut tls = acceptor.accept(socket).await?;
            let request = receive(&mut tls).await;
            tls.shutdown().await?;
            request
        };
        let asker = peers(asker, &[address])?;
        let (request, mut probes) = tokio::join!(answering, asker.probe());
        Ok((request, probes.pop().context("it asked nobody")?))
    }

    #[tokio::test]
    async fn proxies_with_one_key_understand_each_other() -> Result<()> {
        let (request, probe) = asked("01ab", "01ab").await?;
        let request = request?;
        assert_eq!((request.pid, request.key.len()), (0, CANCEL_KEY_BYTES_MAX));
        let detail = "it has the same key".to_owned();
        assert_eq!(probe.outcome, Outcome::Ok { detail });
        Ok(())
    }

    #[tokio::test]
    async fn a_proxy_with_another_key_is_refused() -> Result<()> {
        let (request, probe) = asked("01ab", "02cd").await?;
        assert!(request.is_err(), "{request:?}");
        assert!(
            matches!(probe.outcome, Outcome::Warning { .. }),
            "{probe:?}"
        );
        Ok(())
    }

    #[tokio::test]
    async fn nothing_but_a_whole_cancel_request_is_read() -> Result<()> {
        let whole = cancel_request(7, b"1234");
        assert_eq!(receive(&mut whole.as_slice()).await?.pid, 7);
        let (_, cut) = whole.split_last().context("it is empty")?;
        let too_long = [&2_000_u32.to_be_bytes()[..], &[0; 2_000]].concat();
        let ssl = [8_u32.to_be_bytes(), 80_877_103_u32.to_be_bytes()].concat();
        for wrong in [cut, &too_long, &ssl, b""] {
            assert!(receive(&mut &*wrong).await.is_err(), "{wrong:?}");
        }
        Ok(())
    }
}
