//! Asking the client to prove who it is: for its password, or by SCRAM without showing it.
//!
//! Which of the two is decided before anything is known of the name but its form, so that the
//! question tells nobody whether there is such an account.
//!
//! Source: PostgreSQL, "SASL Authentication",
//! <https://www.postgresql.org/docs/current/sasl-authentication.html>.

use std::sync::Arc;

use postern_core::login_name::LoginName;
use postern_core::scram::{Challenged, ClientFirst, offered};
use postern_core::secret::Secret;
use postern_core::wire::backend;
use postern_core::wire::frontend::{self, Header, SaslInitialResponse};
use zeroize::Zeroizing;

use crate::config::{Config, Directory, Exchange};
use crate::directory::{DirectoryError, LocalChallenge};
use crate::error::{ClientError, LoginError};
use crate::gate::{Gate, Plane};
use crate::negotiate::Encrypted;
use crate::random;
use crate::stream::{Stream, StreamError};

/// What the client answered.
pub(crate) enum Answer {
    /// A password, which somebody has to be asked about.
    Password(Secret<Vec<u8>>),
    /// The last message of an exchange, which has not been looked at.
    Scram(Box<Asked>),
}

/// An exchange that lacks nothing but the look at its proof.
pub(crate) struct Asked {
    /// The account, or nobody's name.
    pub(crate) challenge: LocalChallenge,
    /// What the client was told.
    pub(crate) challenged: Challenged,
    /// What it answered.
    pub(crate) last: Vec<u8>,
}

/// Asks, which may be done only with the evidence that the connection is encrypted or allowed not
/// to be.
///
/// # Errors
///
/// The client's answers are not the protocol, or not of the exchange; or the file of accounts
/// cannot be used.
pub(crate) async fn ask(
    plane: &Plane,
    client: &mut Stream,
    user: &str,
    _encrypted: Encrypted,
) -> Result<Answer, LoginError> {
    match scram_name(&plane.gate.config, user) {
        Some(name) => {
            let directories = &plane.directories;
            let challenge = || directories.challenge(&name, &plane.gate.decoys);
            let asked = Box::pin(scram(&plane.gate, client, challenge)).await?;
            Ok(Answer::Scram(Box::new(asked)))
        }
        None => Ok(Answer::Password(password(client).await?)),
    }
}

/// The name of the local file that proves itself by SCRAM, if this one does. A name that has not
/// the form of one is nobody's, and is challenged all the same where everybody is.
fn scram_name(config: &Config, user: &str) -> Option<String> {
    let local = config.local.as_ref();
    let local = local.filter(|it| it.exchange == Exchange::ScramSha256)?;
    let login = LoginName::parse(user, &config.domains);
    match (&config.directory, login) {
        (Directory::Local, Ok(login)) => Some(login.name().to_owned()),
        (Directory::Local, Err(_)) => Some(user.to_owned()),
        (Directory::Ldap(_), Ok(login)) if login.domain() == local.domain.as_deref() => {
            local.domain.as_ref().map(|_| login.name().to_owned())
        }
        (Directory::Ldap(_), _) => None,
    }
}

async fn password(client: &mut Stream) -> Result<Secret<Vec<u8>>, LoginError> {
    client
        .send(&backend::authentication_cleartext_password())
        .await?;
    let header = client.receive_at_least(Header::BYTES).await;
    header.map_err(|error| left(error.into(), "its password"))?;
    let bytes = client
        .received()
        .first_chunk()
        .ok_or(LoginError::Internal)?;
    let header = Header::password(bytes)?;
    let total_bytes = Header::BYTES + header.body_bytes;
    client.receive_at_least(total_bytes).await?;
    let message = client.received().get(Header::BYTES..total_bytes);
    let password = frontend::password(message.ok_or(LoginError::Internal)?);
    let password = password.map(|bytes| Secret::new(bytes.to_vec()));
    client.consume(total_bytes);
    client.wipe();
    Ok(password?)
}

/// Everything of an exchange but its outcome. An unknown name takes the same way.
///
/// # Errors
///
/// As [`ask`].
pub(crate) async fn scram(
    gate: &Gate,
    client: &mut Stream,
    challenge: impl FnOnce() -> Result<LocalChallenge, DirectoryError>,
) -> Result<Asked, LoginError> {
    let end_point = gate.end_point().filter(|_| client.is_encrypted());
    let mechanisms = offered(end_point);
    client
        .send(&backend::authentication_sasl(mechanisms))
        .await?;
    let asked = match end_point {
        Some(_) => "SCRAM-SHA-256 with or without channel binding",
        None => "SCRAM-SHA-256 without channel binding",
    };
    let answer = sasl_message(client).await;
    let answer = answer.map_err(|error| left(error, asked))?;
    let (mechanism, message) = match frontend::sasl_initial_response(&answer)? {
        SaslInitialResponse {
            mechanism,
            data: Some(data),
        } => (mechanism, Zeroizing::new(data.to_vec())),
        SaslInitialResponse {
            mechanism,
            data: None,
        } => {
            // RFC 4422, section 3: a client that must begin, and did not, is asked to.
            client
                .send(&backend::authentication_sasl_continue(&[]))
                .await?;
            (mechanism, sasl_message(client).await?)
        }
    };
    let first = ClientFirst::read(end_point, mechanism, &message).map_err(ClientError::Scram)?;
    let challenge = challenge().map_err(|error| LoginError::Directory(Arc::new(error)))?;
    let (challenged, message) = first.challenge(&random::nonce(), challenge.verifier());
    client
        .send(&backend::authentication_sasl_continue(&message))
        .await?;
    let last = sasl_message(client).await?.to_vec();
    Ok(Asked {
        challenge,
        challenged,
        last,
    })
}

/// The body of a SASLInitialResponse or a SASLResponse.
///
/// # Errors
///
/// It is another message or too long, or the client has gone.
pub(crate) async fn sasl_message(client: &mut Stream) -> Result<Zeroizing<Vec<u8>>, LoginError> {
    client.receive_at_least(Header::BYTES).await?;
    let bytes = client
        .received()
        .first_chunk()
        .ok_or(LoginError::Internal)?;
    let header = Header::sasl(bytes)?;
    let total_bytes = Header::BYTES + header.body_bytes;
    client.receive_at_least(total_bytes).await?;
    let message = client.received().get(Header::BYTES..total_bytes);
    let message = Zeroizing::new(message.ok_or(LoginError::Internal)?.to_vec());
    client.consume(total_bytes);
    Ok(message)
}

/// A client that goes away instead of answering has nobody to type, or does not want to be asked
/// in this way.
pub(crate) fn left(error: LoginError, asked: &'static str) -> LoginError {
    let closed = LoginError::Client(ClientError::LeftAsked(asked));
    let is_closed = matches!(
        error,
        LoginError::Client(ClientError::Gone(StreamError::Closed))
    );
    if is_closed { closed } else { error }
}
