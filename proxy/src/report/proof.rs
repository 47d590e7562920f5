//! What is told of an exchange that went wrong.

use postern_core::audit::RefusedReason as Reason;
use postern_core::scram::ClientScramError;
use postern_core::sqlstate::Sqlstate;

use super::Told;

/// What the user of a service account can do.
const SERVICE_BINDING: Option<&str> =
    Some("Connect with channel_binding=disable (libpq), or switch channel binding off.");

/// A wrong proof is a wrong password; what is told of other broken rules depends on no account.
pub(super) fn scram_verdict(error: ClientScramError) -> (Told, Reason, String) {
    let text = error.to_string();
    let (sqlstate, hint) = match error {
        ClientScramError::WrongProof => return (Told::BadPassword, Reason::WrongPassword, text),
        ClientScramError::BindingNotOffered => (
            Sqlstate::INVALID_AUTHORIZATION,
            Some(
                "Connect with TLS, or without channel_binding=require; a server certificate that \
                 is signed with Ed25519 has no channel binding, one with ECDSA or RSA has.",
            ),
        ),
        ClientScramError::Downgraded | ClientScramError::BindingMismatch => (
            Sqlstate::INVALID_AUTHORIZATION,
            Some("Something between client and server changes the connection: find out what."),
        ),
        ClientScramError::Mechanism
        | ClientScramError::TooLong
        | ClientScramError::NotText
        | ClientScramError::Header
        | ClientScramError::Identity
        | ClientScramError::BindingMisfit
        | ClientScramError::BindingType
        | ClientScramError::Attribute
        | ClientScramError::MandatoryExtension
        | ClientScramError::Nonce
        | ClientScramError::Binding
        | ClientScramError::NonceNotOurs
        | ClientScramError::Proof => (Sqlstate::PROTOCOL_VIOLATION, None),
    };
    let told = Told::Error(sqlstate, text.clone(), hint);
    (told, Reason::ProtocolViolation, text)
}

/// Nobody is left to be told; the operator is.
pub(super) fn left_verdict(asked: &str) -> (Told, Reason, String) {
    let detail = format!(
        "left when it was asked for {asked}: a client does so that has nobody to type, or whose \
         require_auth or channel_binding forbids it"
    );
    (Told::Nothing, Reason::ClientGone, detail)
}

/// A service account's client chose what was not offered.
pub(super) fn mechanism_verdict() -> (Told, Reason, String) {
    let text = "the client chose a SASL mechanism that was not offered".to_owned();
    let told = Told::Error(
        Sqlstate::INVALID_AUTHORIZATION,
        text.clone(),
        SERVICE_BINDING,
    );
    (told, Reason::ProtocolViolation, text)
}

/// A service account's client says what the database would take for an attack.
pub(super) fn binding_verdict() -> (Told, Reason, String) {
    let text = "channel binding ends before the database for this service account".to_owned();
    let told = Told::Error(
        Sqlstate::INVALID_AUTHORIZATION,
        text.clone(),
        SERVICE_BINDING,
    );
    (told, Reason::NotSupported, text)
}
