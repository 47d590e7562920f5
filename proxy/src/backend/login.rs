//! Logging in to a backend as the role, up to its first ReadyForQuery.
//!
//! Source: PostgreSQL, "Start-up",
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "at each point of the protocol every message but a few is out of place"
)]

use postern_core::scram::{ChannelBinding, ClientExchange};
use postern_core::secret::Secret;
use postern_core::wire::backend::{self, BackendMessage, Mechanisms};

use crate::backend::BackendError;
use crate::backend::dial::{Dialled, Encryption, Target};
use crate::config::AuthMethod;
use crate::limits::BACKEND_LOGIN_BYTES_MAX;
use crate::random;
use crate::session::{BackendAddress, CancelKey};
use crate::stream::Stream;
use crate::sync::RoleCredential;

/// Evidence that a backend accepted the role and is ready for queries.
#[must_use = "a session may be spliced only with this evidence"]
pub(crate) struct BackendReady {
    stream: Stream,
    greeting: Vec<u8>,
    cancel: Option<CancelKey>,
    address: BackendAddress,
}

impl BackendReady {
    /// What the client is to be told, as it came from the backend: AuthenticationOk, the
    /// parameters, the cancel key, notices and ReadyForQuery.
    pub(crate) fn greeting(&self) -> &[u8] {
        &self.greeting
    }

    /// The cancel key, if the backend gave one.
    pub(crate) fn cancel(&self) -> Option<&CancelKey> {
        self.cancel.as_ref()
    }

    /// Where the backend is.
    pub(crate) fn address(&self) -> BackendAddress {
        self.address
    }

    /// The connection, for the splice.
    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }
}

/// Dials and logs in, with as many attempts as `sslmode` asks for. The caller bounds the time.
///
/// `startup` is the startup packet as the backend is to get it; `secret` is asked for only when
/// the server wants md5 or clear text, and the configuration allows that.
///
/// # Errors
///
/// The backend cannot be reached, breaks the protocol, or refuses.
pub(crate) async fn log_in(
    target: &Target,
    startup: &[u8],
    role: &str,
    credential: &RoleCredential,
    secret: impl Fn() -> Secret<Vec<u8>>,
) -> Result<BackendReady, BackendError> {
    let attempts = target.attempts();
    let mut outcome = Err(BackendError::TooMuch);
    for (index, encryption) in attempts.iter().enumerate() {
        outcome = attempt(
            target,
            *encryption,
            startup,
            Login { role, credential },
            &secret,
        )
        .await;
        let last = index + 1 == attempts.len();
        match &outcome {
            // The server refuses this encryption (no pg_hba.conf line), or TLS itself failed.
            Err(BackendError::Refused { sqlstate, .. }) if sqlstate == "28000" && !last => {}
            Err(BackendError::Unreachable { .. })
                if *encryption == Encryption::IfOffered && !last => {}
            Ok(_) | Err(_) => break,
        }
    }
    outcome
}

/// Who logs in, and with what.
#[derive(Clone, Copy)]
struct Login<'a> {
    role: &'a str,
    credential: &'a RoleCredential,
}

async fn attempt(
    target: &Target,
    encryption: Encryption,
    startup: &[u8],
    login: Login<'_>,
    secret: &impl Fn() -> Secret<Vec<u8>>,
) -> Result<BackendReady, BackendError> {
    let mut dialled = target.dial(encryption).await?;
    dialled
        .stream
        .send(startup)
        .await
        .map_err(BackendError::Lost)?;
    let allowed = &target.config.auth_methods;
    authenticate(&mut dialled, allowed, login, secret).await?;
    greet(dialled).await
}

/// Answers what the backend asks, until AuthenticationOk.
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
    let message = receive(&mut dialled.stream).await?;
    let answer = match parse(&message)? {
        BackendMessage::AuthenticationOk => return require(AuthMethod::Trust, "trust"),
        BackendMessage::Sasl(mechanisms) => {
            require(AuthMethod::ScramSha256, "scram-sha-256")?;
            return scram(dialled, mechanisms, login.credential).await;
        }
        BackendMessage::Md5 { salt } => {
            require(AuthMethod::Md5, "md5")?;
            let (role, secret) = (login.role.as_bytes(), secret());
            let hash = postgres_protocol::authentication::md5_hash(role, secret.expose(), salt);
            backend::password_message(hash.as_bytes())
        }
        BackendMessage::CleartextPassword => {
            require(AuthMethod::Cleartext, "cleartext")?;
            backend::password_message(secret().expose())
        }
        other => {
            return Err(refusal_or(
                &other,
                &message,
                "another kind of authentication",
                &host,
            ));
        }
    };
    dialled
        .stream
        .send(answer.expose())
        .await
        .map_err(BackendError::Lost)?;
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
    dialled
        .stream
        .send(&answer)
        .await
        .map_err(BackendError::Lost)?;

    let message = receive(&mut dialled.stream).await?;
    let challenge = match parse(&message)? {
        BackendMessage::SaslContinue(data) => exchange.server_first(data)?,
        other => {
            return Err(refusal_or(
                &other,
                &message,
                "no SASL challenge",
                &dialled.host,
            ));
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
    dialled
        .stream
        .send(&answer)
        .await
        .map_err(BackendError::Lost)?;

    let message = receive(&mut dialled.stream).await?;
    match parse(&message)? {
        BackendMessage::SaslFinal(data) => server_final.server_final(data)?,
        other => {
            return Err(refusal_or(
                &other,
                &message,
                "no SASL outcome",
                &dialled.host,
            ));
        }
    };
    expect_ok(dialled).await
}

async fn expect_ok(dialled: &mut Dialled) -> Result<(), BackendError> {
    let message = receive(&mut dialled.stream).await?;
    match parse(&message)? {
        BackendMessage::AuthenticationOk => Ok(()),
        other => Err(refusal_or(
            &other,
            &message,
            "a second authentication",
            &dialled.host,
        )),
    }
}

/// Collects what the backend says until it is ready for queries.
async fn greet(mut dialled: Dialled) -> Result<BackendReady, BackendError> {
    let mut greeting = backend::authentication_ok();
    let mut cancel = None;
    loop {
        let message = receive(&mut dialled.stream).await?;
        if greeting.len() + message.len() > BACKEND_LOGIN_BYTES_MAX {
            return Err(BackendError::TooMuch);
        }
        let ready = match parse(&message)? {
            BackendMessage::ReadyForQuery(_) => true,
            BackendMessage::BackendKeyData { pid, key } => {
                cancel = Some(CancelKey {
                    pid,
                    key: key.expose().to_vec(),
                });
                false
            }
            BackendMessage::ParameterStatus { .. } | BackendMessage::Notice(_) => false,
            other => {
                return Err(refusal_or(
                    &other,
                    &message,
                    "an unexpected message",
                    &dialled.host,
                ));
            }
        };
        greeting.extend_from_slice(&message);
        if ready {
            let Dialled {
                stream, address, ..
            } = dialled;
            return Ok(BackendReady {
                stream,
                greeting,
                cancel,
                address,
            });
        }
    }
}

/// The next whole message.
async fn receive(stream: &mut Stream) -> Result<Vec<u8>, BackendError> {
    loop {
        if let Some(frame) = backend::split(stream.received())? {
            let length = frame.total_len;
            let message = stream.received().get(..length).unwrap_or_default().to_vec();
            stream.consume(length);
            return Ok(message);
        }
        stream.receive().await.map_err(BackendError::Lost)?;
    }
}

fn parse(message: &[u8]) -> Result<BackendMessage<'_>, BackendError> {
    let frame = backend::split(message)?.ok_or(BackendError::TooMuch)?;
    Ok(backend::parse(frame)?)
}

/// An ErrorResponse is the backend's own refusal; anything else is out of place.
fn refusal_or(
    parsed: &BackendMessage<'_>,
    message: &[u8],
    asked: &'static str,
    host: &str,
) -> BackendError {
    let BackendMessage::Error(fields) = parsed else {
        return BackendError::AuthMethod {
            host: host.to_owned(),
            asked,
        };
    };
    match fields.sqlstate() {
        Some("28P01") => BackendError::SecretRefused,
        sqlstate => BackendError::Refused {
            message: message.to_vec(),
            sqlstate: sqlstate.unwrap_or_default().to_owned(),
        },
    }
}
