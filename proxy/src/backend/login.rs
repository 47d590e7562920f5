//! Logging in to a backend as the role, up to its first ReadyForQuery.
//!
//! Source: PostgreSQL, "Start-up",
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "at each point of the protocol every message but a few is out of place"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postern_core::limits::BACKEND_LOGIN_BYTES_MAX;
use postern_core::scram::{ChannelBinding, ClientExchange, ScramError};
use postern_core::secret::Secret;
use postern_core::wire::backend::{self, BackendError as WireError, BackendMessage, Mechanisms};
use postern_core::wire::startup::Startup;

use crate::backend::BackendError;
use crate::backend::dial::{Dialled, Target};
use crate::config::AuthMethod;
use crate::random;
use crate::session::{CancelKey, CancelKeys};
use crate::stream::{Stream, StreamError};
use crate::sync::RoleCredential;

/// What an error of a database has to be, for a client.
pub(super) const WHOLE_ERROR: &str = "an error with its severity, SQLSTATE and message";

/// Evidence that a backend accepted the role and is ready for queries.
#[must_use = "a session may be spliced only with this evidence"]
pub(crate) struct BackendReady {
    stream: Stream,
    greeting: Vec<u8>,
    cancel: Option<CancelKeys>,
    target: Arc<Target>,
    address: SocketAddr,
    dialled_in: Duration,
}

impl BackendReady {
    /// What the client is to be told, as it came from the backend: AuthenticationOk, the
    /// parameters, notices and ReadyForQuery; and its cancel key in the place of the backend's.
    pub(crate) fn greeting(&self) -> &[u8] {
        &self.greeting
    }

    /// The cancel keys, if the backend gave one.
    pub(crate) fn cancel(&self) -> Option<&CancelKeys> {
        self.cancel.as_ref()
    }

    /// Which backend it is.
    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// How long the connection to it took.
    pub(crate) fn dialled_in(&self) -> Duration {
        self.dialled_in
    }

    /// Where the backend is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The connection, for the splice.
    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }
}

/// Dials and logs in, with as many attempts as `sslmode` asks for. The caller bounds the time.
///
/// `startup` is the request as the backend is to get it, with the role as its user; `secret` is
/// asked for only when the server wants md5 or clear text, and the configuration allows that.
///
/// # Errors
///
/// The backend cannot be reached, breaks the protocol, or refuses.
pub(crate) async fn log_in(
    target: &Arc<Target>,
    startup: &Startup,
    credential: &RoleCredential,
    secret: impl Fn() -> Secret<Vec<u8>>,
) -> Result<BackendReady, BackendError> {
    let login = Login {
        startup,
        credential,
    };
    let allowed = &target.config.auth_methods;
    let ask = async |dialled: &mut Dialled| authenticate(dialled, allowed, login, &secret).await;
    let (dialled, ()) = target.let_in(ask).await?;
    greet(dialled, startup.cancel_key_bytes()).await
}

/// Who logs in, to what, and with what.
#[derive(Clone, Copy)]
struct Login<'a> {
    startup: &'a Startup,
    credential: &'a RoleCredential,
}

/// Sends the startup packet and answers what the backend asks, until AuthenticationOk.
async fn authenticate(
    dialled: &mut Dialled,
    allowed: &[AuthMethod],
    login: Login<'_>,
    secret: &impl Fn() -> Secret<Vec<u8>>,
) -> Result<(), BackendError> {
    let host = dialled.host.clone();
    let require = |method: AuthMethod, asked: &'static str| match allowed.contains(&method) {
        true => Ok(()),
        false => Err(BackendError::AuthMethod {
            host: host.clone(),
            asked,
        }),
    };
    dialled.send(&login.startup.encode()).await?;
    let message = dialled.receive_negotiated(login.startup.minor()).await?;
    let answer = match dialled.parse(&message)? {
        BackendMessage::AuthenticationOk => return require(AuthMethod::Trust, "trust"),
        BackendMessage::Sasl(mechanisms) => {
            require(AuthMethod::ScramSha256, "scram-sha-256")?;
            return scram(dialled, mechanisms, login.credential).await;
        }
        BackendMessage::Md5 { salt } => {
            require(AuthMethod::Md5, "md5")?;
            let (role, secret) = (login.startup.user().as_bytes(), secret());
            let hash = postgres_protocol::authentication::md5_hash(role, secret.expose(), salt);
            backend::password_message(hash.as_bytes())
        }
        BackendMessage::CleartextPassword => {
            require(AuthMethod::Cleartext, "cleartext")?;
            backend::password_message(secret().expose())
        }
        BackendMessage::AuthenticationOther(_) => {
            let asked = "another kind of authentication";
            return Err(BackendError::AuthMethod { host, asked });
        }
        other => {
            return Err(dialled.refusal_or(&other, &message, "a request for authentication"));
        }
    };
    dialled.send(answer.expose()).await?;
    expect_ok(dialled).await
}

/// SCRAM-SHA-256 (RFC 5802, RFC 7677), with channel binding where the connection gives one.
async fn scram(
    dialled: &mut Dialled,
    mechanisms: Mechanisms<'_>,
    credential: &RoleCredential,
) -> Result<(), BackendError> {
    let offers = |name| mechanisms.contains(name);
    let binding = match &dialled.binding {
        Some(hash) if offers("SCRAM-SHA-256-PLUS") => ChannelBinding::TlsServerEndPoint(hash),
        Some(_) => ChannelBinding::ServerLacks,
        None => ChannelBinding::Unsupported,
    };
    let (exchange, first) = ClientExchange::start(&random::nonce(), binding);
    let mechanism = exchange.mechanism();
    if !offers(mechanism) {
        let host = dialled.host.clone();
        return Err(BackendError::AuthMethod {
            host,
            asked: "an unknown SASL mechanism",
        });
    }
    let answer = backend::sasl_initial_response(mechanism, &first);
    dialled.send(&answer).await?;

    let message = dialled.receive().await?;
    let challenge = match dialled.parse(&message)? {
        BackendMessage::SaslContinue(data) => {
            let challenge = exchange.server_first(data);
            challenge.map_err(|error| dialled.scram_error(error))?
        }
        other => {
            return Err(dialled.refusal_or(&other, &message, "a SASL challenge"));
        }
    };
    let verifier = &credential.verifier;
    if challenge.salt() != verifier.salt() || challenge.iterations() != verifier.iterations() {
        // The role has another password than the one that Postern set, or is gone: PostgreSQL
        // then makes a salt up. There is no need to derive keys to find out.
        return Err(BackendError::SecretRefused);
    }
    let (server_final, answer) = challenge.answer(&credential.keys);
    let answer = backend::sasl_response(&answer);
    dialled.send(&answer).await?;

    let message = dialled.receive().await?;
    match dialled.parse(&message)? {
        BackendMessage::SaslFinal(data) => {
            let verified = server_final.server_final(data);
            verified.map_err(|error| dialled.scram_error(error))?
        }
        other => {
            return Err(dialled.refusal_or(&other, &message, "the SASL outcome"));
        }
    };
    expect_ok(dialled).await
}

async fn expect_ok(dialled: &mut Dialled) -> Result<(), BackendError> {
    let message = dialled.receive().await?;
    match dialled.parse(&message)? {
        BackendMessage::AuthenticationOk => Ok(()),
        other => Err(dialled.refusal_or(&other, &message, "AuthenticationOk")),
    }
}

/// Collects what the backend says until it is ready for queries. The client gets a cancel key of
/// its own, of so many bytes, if the backend has any.
pub(super) async fn greet(
    mut dialled: Dialled,
    cancel_key_bytes: usize,
) -> Result<BackendReady, BackendError> {
    let mut greeting = backend::authentication_ok();
    let mut cancel = None;
    loop {
        let mut message = dialled.receive().await?;
        if greeting.len() + message.len() > BACKEND_LOGIN_BYTES_MAX {
            return Err(dialled.too_much());
        }
        let ready = match dialled.parse(&message)? {
            BackendMessage::ReadyForQuery(_) => true,
            BackendMessage::BackendKeyData { pid, key } if cancel.is_none() => {
                let key = key.expose().to_vec();
                let keys = CancelKeys::issue(CancelKey { pid, key }, cancel_key_bytes);
                message = backend::backend_key_data(keys.client.pid, &keys.client.key);
                cancel = Some(keys);
                false
            }
            BackendMessage::ParameterStatus { .. } | BackendMessage::Notice(_) => false,
            other => {
                return Err(dialled.refusal_or(&other, &message, "ReadyForQuery"));
            }
        };
        greeting.extend_from_slice(&message);
        if ready {
            let Dialled {
                stream,
                target,
                address,
                took,
                ..
            } = dialled;
            return Ok(BackendReady {
                dialled_in: took,
                target,
                stream,
                greeting,
                cancel,
                address,
            });
        }
    }
}

/// What is said on the connection, with the host in every error.
impl Dialled {
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), BackendError> {
        let sent = self.stream.send(bytes).await;
        sent.map_err(|error| self.lost(error))
    }

    /// The next whole message.
    pub(super) async fn receive(&mut self) -> Result<Vec<u8>, BackendError> {
        loop {
            let frame = backend::split(self.stream.received());
            if let Some(frame) = frame.map_err(|error| self.protocol_error(error))? {
                let length = frame.total_len;
                let message = self.stream.received().get(..length);
                let message = message.unwrap_or_default().to_vec();
                self.stream.consume(length);
                return Ok(message);
            }
            let received = self.stream.receive().await;
            received.map_err(|error| self.lost(error))?;
        }
    }

    /// The first message after a startup packet of this minor version. A server that knows only
    /// an older one says so before; the session is the same, because a newer one only has longer
    /// cancel keys.
    pub(super) async fn receive_negotiated(&mut self, asked: u16) -> Result<Vec<u8>, BackendError> {
        let message = self.receive().await?;
        match self.parse(&message)? {
            BackendMessage::NegotiateProtocolVersion { minor, options }
                if minor < asked && options.iter().next().is_none() =>
            {
                self.receive().await
            }
            _ => Ok(message),
        }
    }

    pub(super) fn parse<'m>(&self, message: &'m [u8]) -> Result<BackendMessage<'m>, BackendError> {
        let frame = backend::split(message).map_err(|error| self.protocol_error(error))?;
        let frame = frame.ok_or_else(|| self.too_much())?;
        backend::parse(frame).map_err(|error| self.protocol_error(error))
    }

    /// An ErrorResponse is the backend's own refusal; anything else is out of place.
    fn refusal_or(
        &self,
        parsed: &BackendMessage<'_>,
        message: &[u8],
        wanted: &'static str,
    ) -> BackendError {
        let BackendMessage::Error(fields) = parsed else {
            let host = self.host.clone();
            return BackendError::Unexpected { host, wanted };
        };
        match fields.sqlstate_if_whole() {
            Some("28P01") => BackendError::SecretRefused,
            Some(sqlstate) => BackendError::Refused {
                message: message.to_vec(),
                sqlstate: sqlstate.to_owned(),
            },
            None => BackendError::Unexpected {
                host: self.host.clone(),
                wanted: WHOLE_ERROR,
            },
        }
    }

    fn protocol_error(&self, error: WireError) -> BackendError {
        let host = self.host.clone();
        BackendError::Protocol { host, error }
    }

    fn scram_error(&self, error: ScramError) -> BackendError {
        let host = self.host.clone();
        BackendError::Scram { host, error }
    }

    fn lost(&self, error: StreamError) -> BackendError {
        let host = self.host.clone();
        BackendError::Lost { host, error }
    }

    pub(super) fn too_much(&self) -> BackendError {
        let host = self.host.clone();
        BackendError::TooMuch { host }
    }
}

#[cfg(test)]
mod tests;
