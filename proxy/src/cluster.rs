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
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::arrivals::Arrivals;
use crate::cancel::{Found, cancel_here};
use crate::check::Probe;
use crate::config::Cluster;
use crate::gate::{CurrentPlane, Gate};
use crate::limits::{
    ACCEPT_PAUSE, PEER_ASK_WAIT, PEER_ASKS_MAX, PEER_CALLS_MAX, PEER_CALLS_PER_ADDRESS_MAX,
    PEER_CONNECT_TIMEOUT, PEER_RETRY_AFTER, PEER_TIMEOUT,
};
use crate::session::CancelKey;
use crate::tls::{self, PEER_NAME, TlsError};

/// The length, the code and the process number of a CancelRequest, in bytes.
const CANCEL_HEADER_BYTES: usize = 12;

/// The other proxies, and how they and this one know each other.
pub(crate) struct Peers {
    peers: Vec<Arc<Peer>>,
    connector: TlsConnector,
    acceptor: TlsAcceptor,
    /// How many cancel requests may be on their way to all of them. Whoever has no key can make
    /// them, so they have no part in the places of this process's own sessions.
    asks: Semaphore,
}

/// One of them.
struct Peer {
    /// `host:port`.
    address: String,
    /// When it could not be reached, if the last try failed.
    lost: Mutex<Option<Instant>>,
}

impl Peer {
    /// Whether it has not just failed: one that is away must not hold up everybody.
    fn is_worth_asking(&self) -> bool {
        let lost = *self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.is_none_or(|at| at.elapsed() >= PEER_RETRY_AFTER)
    }

    /// Keeps what came of a try, and says once that it is away.
    fn was_asked(&self, outcome: &Result<(), String>) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let was_lost = lost.is_some();
        *lost = outcome.as_ref().err().map(|_| Instant::now());
        if let (Err(why), false) = (outcome, was_lost) {
            tracing::warn!(
                peer = self.address,
                why,
                "another proxy cannot be asked to cancel"
            );
        }
    }
}

impl Peers {
    /// Those of the configuration.
    ///
    /// # Errors
    ///
    /// As [`tls::peer_configs`].
    pub(crate) fn new(config: &Cluster, cluster_key: &ClusterKey) -> Result<Self, TlsError> {
        let configs = tls::peer_configs(cluster_key)?;
        let peer = |address: &String| {
            Arc::new(Peer {
                address: address.clone(),
                lost: Mutex::default(),
            })
        };
        Ok(Self {
            peers: config.peers.iter().map(peer).collect(),
            connector: TlsConnector::from(configs.client),
            acceptor: TlsAcceptor::from(configs.server),
            asks: Semaphore::new(PEER_ASKS_MAX),
        })
    }

    /// Asks all of them at once to cancel what the key belongs to, and waits until each has done
    /// so or its time is over: libpq's PQcancel promises that the request has been acted on.
    pub(crate) async fn cancel(&self, key: &CancelKey) {
        let Ok(Ok(_place)) = timeout(PEER_ASK_WAIT, self.asks.acquire()).await else {
            tracing::debug!(pid = key.pid, "a cancel request was dropped: too many");
            return;
        };
        let packet: Arc<[u8]> = cancel_request(key.pid, &key.key).into();
        let mut asked = JoinSet::new();
        for peer in self.peers.iter().filter(|it| it.is_worth_asking()) {
            let (peer, packet) = (peer.clone(), packet.clone());
            let connector = self.connector.clone();
            asked.spawn(async move {
                let outcome = ask(&connector, &peer.address, &packet).await;
                peer.was_asked(&outcome);
            });
        }
        // A panic in one has been said aloud by the runtime, and takes nothing from the others.
        while asked.join_next().await.is_some() {}
    }

    /// Asks each in turn for a session that nobody has; for `postern check`.
    pub(crate) async fn probe(&self) -> Vec<Probe> {
        let mut probes = Vec::new();
        for peer in &self.peers {
            let address = &peer.address;
            let packet = cancel_request(0, &[0; CANCEL_KEY_BYTES_MAX]);
            let why = ask(&self.connector, address, &packet).await;
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

/// Asks one of them, and waits until it has closed the connection in good order; says why that
/// failed.
async fn ask(connector: &TlsConnector, address: &str, packet: &[u8]) -> Result<(), String> {
    let late = |limit: Duration| format!("no answer in {} s", limit.as_secs());
    let connected = timeout(PEER_CONNECT_TIMEOUT, connect(connector, address)).await;
    let connected = connected.map_err(|_| late(PEER_CONNECT_TIMEOUT))?;
    let mut tls = connected.map_err(|error| tls::explain(&error))?;
    let asked = timeout(PEER_TIMEOUT, async {
        tls.write_all(packet).await?;
        tls.flush().await?;
        // A refusal of this side's key is an alert, and thereby an error here.
        match tls.read(&mut [0]).await? {
            0 => Ok(()),
            _ => Err(io::Error::other("it answers, which no peer does")),
        }
    });
    let asked = asked.await.map_err(|_| late(PEER_TIMEOUT))?;
    asked.map_err(|error| tls::explain(&error))
}

async fn connect(connector: &TlsConnector, address: &str) -> io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from(PEER_NAME).map_err(io::Error::other)?;
    connector.connect(name, socket).await
}

/// Acts on what other proxies ask, for as long as the process runs.
pub(crate) async fn serve(current: Arc<CurrentPlane>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(PEER_CALLS_MAX));
    // Whoever reaches the port and says nothing holds a place until the handshake has to be over.
    let arrivals = Arrivals::new(PEER_CALLS_PER_ADDRESS_MAX);
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cluster: a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = places.clone().try_acquire_owned();
        let (Ok(place), Ok(arrival)) = (place, arrivals.enter(peer.ip())) else {
            tracing::debug!(%peer, "cluster: a connection was closed: too many at once");
            continue;
        };
        let gate = current.gate();
        drop(tokio::spawn(async move {
            if let Err(error) = answer(&gate, socket).await {
                // The other side says aloud what is wrong; anybody can make this happen.
                let why = tls::explain(&error);
                tracing::debug!(%peer, why, "cluster: a connection was closed");
            }
            drop((place, arrival));
        }));
    }
}

/// One request of one peer.
async fn answer(gate: &Gate, socket: TcpStream) -> io::Result<()> {
    let Some(peers) = &gate.peers else {
        return Ok(());
    };
    let arrived = timeout(PEER_CONNECT_TIMEOUT, async {
        let mut tls = peers.acceptor.accept(socket).await?;
        let request = receive(&mut tls).await?;
        Ok::<_, io::Error>((tls, request))
    });
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let (mut tls, request) = arrived.await.map_err(late)??;
    let key = CancelKey {
        pid: request.pid,
        key: request.key,
    };
    if cancel_here(gate, &key).await == Found::No {
        tracing::debug!(pid = key.pid, "a peer asks for no live session");
    }
    timeout(PEER_CONNECT_TIMEOUT, tls.shutdown())
        .await
        .map_err(late)?
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
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, UnixTime};
    use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

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

    /// Believes any server, as somebody does who only wants to be listened to.
    #[derive(Debug)]
    struct Credulous;

    impl ServerCertVerifier for Credulous {
        fn verify_server_cert(
            &self,
            _end_entity: &CertificateDer<'_>,
            _intermediates: &[CertificateDer<'_>],
            _server_name: &ServerName<'_>,
            _ocsp_response: &[u8],
            _now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _cert: &CertificateDer<'_>,
            _dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _message: &[u8],
            _cert: &CertificateDer<'_>,
            _dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }

        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    }

    /// What a proxy hears of somebody who shows a key and believes everybody.
    async fn heard(key: &str) -> Result<(io::Result<CancelRequest>, Result<(), String>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let acceptor = peers("01ab", &[])?.acceptor;
        let key = ClusterKey::parse(key.repeat(16).as_bytes())?;
        let mut config = ClientConfig::clone(&tls::peer_configs(&key)?.client);
        let dangerous = &mut config.dangerous();
        dangerous.set_certificate_verifier(Arc::new(Credulous));
        let connector = TlsConnector::from(Arc::new(config));
        let answering = async {
            let (socket, _) = listener.accept().await?;
            let mut tls = acceptor.accept(socket).await?;
            let request = receive(&mut tls).await?;
            tls.shutdown().await?;
            Ok(request)
        };
        let packet = cancel_request(7, b"1234");
        Ok(tokio::join!(answering, ask(&connector, &address, &packet)))
    }

    #[tokio::test]
    async fn whoever_shows_another_key_is_not_heard_whatever_they_believe() -> Result<()> {
        let (request, asked) = heard("01ab").await?;
        assert_eq!((request?.pid, asked), (7, Ok(())));
        let (request, asked) = heard("02cd").await?;
        assert!(request.is_err() && asked.is_err(), "{request:?}, {asked:?}");
        Ok(())
    }

    #[tokio::test]
    async fn a_peer_that_is_away_is_not_asked_for_every_request() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        drop(listener);
        let peers = peers("01ab", &[address])?;
        let [peer] = peers.peers.as_slice() else {
            anyhow::bail!("there is not one peer");
        };
        assert!(peer.is_worth_asking());
        let key = CancelKey {
            pid: 7,
            key: vec![1, 2, 3, 4],
        };
        peers.cancel(&key).await;
        assert!(!peer.is_worth_asking());
        peer.was_asked(&Ok(()));
        assert!(peer.is_worth_asking());
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
