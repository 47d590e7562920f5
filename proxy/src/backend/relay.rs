//! Passing the exchange of a service account on to the database, which decides.
//!
//! The offer is cut down to SCRAM-SHA-256, because a client cannot be bound to a TLS connection
//! that ends here, unless both connections are known by the same certificate; everything after it
//! passes through as it came, bounded in size and number.
//! What else a database may ask for is refused: a password in clear text or by MD5 would be shown
//! to Postern, and a database that asks for nothing would let in whoever has the name.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "at each point of the protocol every message but a few is out of place"
)]

use std::sync::Arc;
use std::time::Duration;

use postern_core::limits::SCRAM_MESSAGE_BYTES_MAX;
use postern_core::scram::{SCRAM_SHA_256, SCRAM_SHA_256_PLUS};
use postern_core::wire::backend::{self, BackendMessage};
use postern_core::wire::frontend;
use postern_core::wire::startup::Startup;
use tokio::time::timeout;

use super::dial::{Dialled, Target, not_let_in};
use super::login::{WHOLE_ERROR, greet};
use super::{BackendError, BackendReady};
use crate::ask::{left, sasl_message};
use crate::error::{ClientError, LoginError};
use crate::stream::Stream;

/// Evidence that the database accepted who the client says it is. The session has not begun.
#[must_use = "the database waits for its first session message to be read"]
pub(crate) struct Relayed {
    dialled: Dialled,
    cancel_key_bytes: usize,
}

impl Relayed {
    /// Collects what the database says until it is ready for queries. The caller bounds the time.
    ///
    /// # Errors
    ///
    /// It refuses after all, breaks the protocol, or the connection is lost.
    pub(crate) async fn greet(self) -> Result<BackendReady, BackendError> {
        greet(self.dialled, self.cancel_key_bytes).await
    }
}

/// Who are on the two sides.
pub(crate) struct Sides<'a> {
    /// The database.
    pub(crate) target: &'a Arc<Target>,
    /// The client.
    pub(crate) client: &'a mut Stream,
    /// What the client's connection can be bound to, where that is anything.
    pub(crate) end_point: Option<&'a [u8]>,
}

/// Dials, and passes the exchange on until the database has accepted it. Returns with it the
/// database's last message of the exchange, which the client has not been sent. The caller bounds
/// the time of the client; the database has `connect_timeout_ms` for each answer.
///
/// # Errors
///
/// The database refuses, cannot be reached, or asks for something else than SCRAM-SHA-256; or the
/// client leaves, breaks the protocol, or insists on channel binding.
pub(crate) async fn relay(
    sides: Sides<'_>,
    startup: &Startup,
) -> Result<(Relayed, Vec<u8>), LoginError> {
    let Sides {
        target,
        client,
        end_point,
    } = sides;
    let patience = target.config.endpoint.connect_timeout;
    let timed_out = |_| BackendError::TimedOut {
        host: target.host(),
    };
    let packet = startup.encode();
    let ask = async |dialled: &mut Dialled| {
        dialled.send(&packet).await?;
        offer_of(dialled, startup.minor()).await
    };
    let offered = timeout(patience, target.let_in(ask)).await;
    let (dialled, offers_plus) = offered.map_err(timed_out)??;
    let binding = match offers_plus {
        false => Binding::NotOffered,
        true if end_point.is_some() && dialled.binding.as_deref() == end_point => Binding::Shared,
        true => Binding::EndsHere,
    };
    let mut exchange = Exchange {
        dialled,
        client,
        patience,
    };
    let offer = backend::authentication_sasl(binding.mechanisms());
    exchange.client.send(&offer).await?;
    exchange.first(binding).await?;
    let answer = sasl_message(exchange.client).await?;
    exchange.pass_on(&answer).await?;
    let server_final = exchange.wait_for(SaslStep::Final).await?;
    exchange.wait_for(SaslStep::Ok).await?;
    let relayed = Relayed {
        dialled: exchange.dialled,
        cancel_key_bytes: startup.cancel_key_bytes(),
    };
    Ok((relayed, server_final))
}

/// Whether a database that asks for SCRAM-SHA-256 offers channel binding, too.
async fn offer_of(dialled: &mut Dialled, minor: u16) -> Result<bool, BackendError> {
    let message = dialled.receive_negotiated(minor).await?;
    let asked = match dialled.parse(&message)? {
        BackendMessage::Sasl(mechanisms) if mechanisms.contains(SCRAM_SHA_256) => {
            return Ok(mechanisms.contains(SCRAM_SHA_256_PLUS));
        }
        BackendMessage::Sasl(_) => "another SASL mechanism",
        BackendMessage::AuthenticationOk => "nothing (trust)",
        BackendMessage::Md5 { .. } => "an MD5 password",
        BackendMessage::CleartextPassword => "a password in clear text",
        BackendMessage::AuthenticationOther(_) => "another kind of authentication",
        BackendMessage::Error(_) => return Err(dialled.as_it_came(&message)),
        _ => return Err(dialled.unexpected("a request for authentication")),
    };
    let host = dialled.host.clone();
    Err(BackendError::ServiceMethod { host, asked })
}

/// What the database's offer of channel binding is worth to the client.
///
/// A connection is known by the hash of its server's certificate (RFC 5929, tls-server-end-point),
/// so that what a client is bound to here counts there where both have the same certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Binding {
    /// The database makes none.
    NotOffered,
    /// It does, and its connection has another certificate than the client's.
    EndsHere,
    /// Both connections have the same certificate.
    Shared,
}

impl Binding {
    /// What the client is offered.
    fn mechanisms(self) -> &'static [&'static str] {
        match self {
            Self::Shared => &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256],
            Self::NotOffered | Self::EndsHere => &[SCRAM_SHA_256],
        }
    }

    /// A client inside TLS that can be bound says so to a server that does not offer it (`y`), and
    /// a server that did offer it takes that for an attack: the message cannot be changed, because
    /// the proof covers it. The client is told what to do instead of being told of an attack.
    fn refuse_misled(self, first: &[u8]) -> Result<(), LoginError> {
        match self == Self::EndsHere && first.starts_with(b"y,") {
            true => Err(ClientError::ServiceBinding.into()),
            false => Ok(()),
        }
    }
}

/// What the database is due to send.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SaslStep {
    Continue,
    Final,
    Ok,
}

/// Both sides of an exchange.
struct Exchange<'a> {
    dialled: Dialled,
    client: &'a mut Stream,
    patience: Duration,
}

impl Exchange<'_> {
    /// The client's first message and the challenge.
    async fn first(&mut self, binding: Binding) -> Result<(), LoginError> {
        let answer = sasl_message(self.client).await;
        let answer =
            answer.map_err(|error| left(error, "SCRAM-SHA-256 without channel binding"))?;
        let initial = frontend::sasl_initial_response(&answer)?;
        let mut offered = binding.mechanisms().iter();
        if !offered.any(|it| it.as_bytes() == initial.mechanism) {
            return Err(ClientError::ServiceMechanism.into());
        }
        binding.refuse_misled(initial.data.unwrap_or_default())?;
        let has_begun = initial.data.is_some();
        self.pass_on(&answer).await?;
        if !has_begun {
            let empty = self.wait_for(SaslStep::Continue).await?;
            self.challenge(&empty).await?;
            let answer = sasl_message(self.client).await?;
            binding.refuse_misled(&answer)?;
            self.pass_on(&answer).await?;
        }
        let challenge = self.wait_for(SaslStep::Continue).await?;
        self.challenge(&challenge).await
    }

    async fn challenge(&mut self, data: &[u8]) -> Result<(), LoginError> {
        let message = backend::authentication_sasl_continue(data);
        Ok(self.client.send(&message).await?)
    }

    async fn pass_on(&mut self, body: &[u8]) -> Result<(), BackendError> {
        // A first answer has the same form on the wire as the others.
        self.dialled.send(&backend::sasl_response(body)).await
    }

    /// The data of the database's next message, which has to be this one.
    async fn wait_for(&mut self, step: SaslStep) -> Result<Vec<u8>, BackendError> {
        let host = || self.dialled.host.clone();
        let timed_out = BackendError::TimedOut { host: host() };
        let message = timeout(self.patience, self.dialled.receive()).await;
        let message = message.map_err(|_| timed_out)?.map_err(not_let_in)?;
        let data = match (self.dialled.parse(&message)?, step) {
            (BackendMessage::SaslContinue(data), SaslStep::Continue)
            | (BackendMessage::SaslFinal(data), SaslStep::Final) => data,
            (BackendMessage::AuthenticationOk, SaslStep::Ok) => &[],
            (BackendMessage::Error(_), _) => return Err(self.dialled.as_it_came(&message)),
            _ => return Err(self.dialled.unexpected("the next message of SCRAM")),
        };
        match data.len() <= SCRAM_MESSAGE_BYTES_MAX {
            true => Ok(data.to_vec()),
            false => Err(self.dialled.too_much()),
        }
    }
}

impl Dialled {
    /// An error of the database for the client, word for word.
    fn as_it_came(&self, message: &[u8]) -> BackendError {
        match self.parse(message) {
            Ok(BackendMessage::Error(fields)) => match fields.sqlstate_if_whole() {
                Some(sqlstate) => BackendError::Refused {
                    message: message.to_vec(),
                    sqlstate: sqlstate.to_owned(),
                },
                None => self.unexpected(WHOLE_ERROR),
            },
            Ok(_) => self.unexpected("an error"),
            Err(error) => error,
        }
    }

    fn unexpected(&self, wanted: &'static str) -> BackendError {
        let host = self.host.clone();
        BackendError::Unexpected { host, wanted }
    }
}
