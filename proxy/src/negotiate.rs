//! The first packets of a connection: TLS or not, a login or a cancel request.
//!
//! A client asks for TLS by SSLRequest, or begins with it. GSSENCRequest is declined. Each may be
//! asked for once, and nothing of it inside TLS.
//! Before all that, a proxy that is trusted by configuration says for whom it speaks.
//!
//! Source: PostgreSQL, "SSL Session Encryption",
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL>.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use postern_core::perimeter::Prefix;
use postern_core::wire::proxy_header::{
    PROXY_HEADER_FIXED_BYTES, ProxyHeader, parse_proxy_header, proxy_header_len,
};
use postern_core::wire::startup::{self, CancelRequest, FirstPacket, Startup};
use rustls::ServerConfig;

use crate::config::ListenTls;
use crate::error::{ClientError, LoginError};
use crate::stream::{Stream, StreamError};

/// The first byte of a client that begins with TLS: a handshake record (RFC 8446, section 5.1).
/// A packet that begins with it would be longer than any.
const TLS_HANDSHAKE: u8 = 22;

/// Evidence that a password may be asked for on this connection: it is encrypted, or the listener
/// is configured to allow plaintext.
#[must_use = "a password may be asked for only with this evidence"]
pub(crate) struct Encrypted(());

/// What a connection turned out to be.
pub(crate) enum Arrival {
    /// Somebody wants to log in.
    Login(Startup, Encrypted),
    /// Somebody wants a query of another connection cancelled.
    Cancel(CancelRequest),
}

/// Whether a peer is a proxy that is trusted to say for whom it speaks.
pub(crate) fn speaks_for_others(peer: IpAddr, trusted: &[Prefix]) -> bool {
    let address = Prefix::single(peer);
    trusted.iter().any(|prefix| prefix.contains(address))
}

/// Whose connection it is, in the words of a trusted proxy.
///
/// # Errors
///
/// It said nothing, or nothing that can be read.
pub(crate) async fn introduce(
    client: &mut Stream,
    peer: SocketAddr,
) -> Result<SocketAddr, LoginError> {
    client.receive_at_least(PROXY_HEADER_FIXED_BYTES).await?;
    let fixed = client
        .received()
        .first_chunk()
        .ok_or(LoginError::Internal)?;
    let length = proxy_header_len(fixed).map_err(ClientError::ProxyHeader)?;
    client.receive_at_least(length).await?;
    let header = client
        .received()
        .get(..length)
        .ok_or(LoginError::Internal)?;
    let introduced = parse_proxy_header(header).map_err(ClientError::ProxyHeader)?;
    client.consume(length);
    Ok(match introduced {
        ProxyHeader::Peer => peer,
        ProxyHeader::Client(address) => address,
    })
}

/// Reads packets until it is clear what the connection is for.
///
/// # Errors
///
/// What the peer sent is not the protocol, TLS failed, or TLS is required and was not asked for.
pub(crate) async fn negotiate(
    client: &mut Stream,
    tls: Option<&Arc<ServerConfig>>,
    listen_tls: ListenTls,
) -> Result<Arrival, LoginError> {
    client.receive_at_least(1).await?;
    if client.received().first() == Some(&TLS_HANDSHAKE) {
        let direct = match tls {
            // A handshake needs far more memory than waiting for one does.
            Some(config) => Box::pin(client.accept_direct_tls(config.clone())).await,
            None => Err(StreamError::NoCertificate),
        };
        direct.map_err(ClientError::Tls)?;
    }
    let mut ssl_answered = false;
    let mut gss_answered = false;
    loop {
        match first_packet(client).await? {
            FirstPacket::Ssl if ssl_answered || client.is_encrypted() => {
                return Err(ClientError::NegotiatedTwice.into());
            }
            FirstPacket::Gss if gss_answered || client.is_encrypted() => {
                return Err(ClientError::NegotiatedTwice.into());
            }
            FirstPacket::Ssl | FirstPacket::Gss if !client.received().is_empty() => {
                // Whatever follows in the clear could be taken for what was sent inside TLS
                // (CVE-2021-23214).
                return Err(ClientError::PlaintextAfterNegotiation.into());
            }
            FirstPacket::Gss => {
                gss_answered = true;
                client.send(b"N").await?;
            }
            FirstPacket::Ssl => {
                ssl_answered = true;
                let Some(config) = tls else {
                    client.send(b"N").await?;
                    continue;
                };
                client.send(b"S").await?;
                let handshake = Box::pin(client.accept_tls(config.clone()));
                handshake.await.map_err(ClientError::Tls)?;
            }
            FirstPacket::Cancel(request) => return Ok(Arrival::Cancel(request)),
            FirstPacket::Startup(startup) => {
                let allowed = client.is_encrypted() || listen_tls == ListenTls::AllowPlaintext;
                return match allowed {
                    true => Ok(Arrival::Login(startup, Encrypted(()))),
                    false => Err(ClientError::TlsRequired.into()),
                };
            }
        }
    }
}

/// Reads one packet, as clients send them before a login.
///
/// # Errors
///
/// It is not of the protocol, or the client has gone.
pub(crate) async fn first_packet(client: &mut Stream) -> Result<FirstPacket, LoginError> {
    client.receive_at_least(size_of::<u32>()).await?;
    let Some(header) = client.received().first_chunk() else {
        return Err(LoginError::Internal);
    };
    let length = startup::first_packet_len(header)?;
    client.receive_at_least(length).await?;
    let packet = client
        .received()
        .get(..length)
        .ok_or(LoginError::Internal)?;
    let parsed = startup::parse(packet)?;
    client.consume(length);
    Ok(parsed)
}
