//! What Postern tells a client as if it were a backend.

use crate::limits::ERROR_TEXT_BYTES_MAX;
use crate::sqlstate::Sqlstate;
use crate::wire::tag::{
    AUTHENTICATION, AUTHENTICATION_CLEARTEXT_PASSWORD, AUTHENTICATION_OK, AUTHENTICATION_SASL,
    AUTHENTICATION_SASL_CONTINUE, AUTHENTICATION_SASL_FINAL, BACKEND_KEY_DATA, ERROR_RESPONSE,
    NEGOTIATE_PROTOCOL_VERSION,
};
use crate::wire::{put_message, put_text};

/// How bad an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The command failed; the session goes on.
    Error,
    /// The session ends.
    Fatal,
}

impl Severity {
    /// The word that is sent, never translated.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }
}

/// What an ErrorResponse says.
///
/// A text ends at its first NUL, where a client would start to read another field, and at
/// [`ERROR_TEXT_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorFields<'a> {
    /// How bad it is.
    pub severity: Severity,
    /// The code that programs look at.
    pub sqlstate: Sqlstate,
    /// What happened, in one line without a full stop.
    pub message: &'a str,
    /// More about it.
    pub detail: Option<&'a str>,
    /// What the reader may do.
    pub hint: Option<&'a str>,
}

/// AuthenticationCleartextPassword: asks the client for the password.
///
/// Only to be sent inside TLS, or where the listener allows plaintext.
pub fn authentication_cleartext_password() -> Vec<u8> {
    authentication(AUTHENTICATION_CLEARTEXT_PASSWORD)
}

/// AuthenticationSASL: offers the client these mechanisms, the best one first.
pub fn authentication_sasl(mechanisms: &[&str]) -> Vec<u8> {
    let mut names = Vec::new();
    for mechanism in mechanisms {
        put_text(&mut names, mechanism.as_bytes());
    }
    names.push(0);
    authentication_with(AUTHENTICATION_SASL, &names)
}

/// AuthenticationSASLContinue: a challenge of the mechanism.
pub fn authentication_sasl_continue(data: &[u8]) -> Vec<u8> {
    authentication_with(AUTHENTICATION_SASL_CONTINUE, data)
}

/// AuthenticationSASLFinal: the mechanism's last word, before [`authentication_ok`].
pub fn authentication_sasl_final(data: &[u8]) -> Vec<u8> {
    authentication_with(AUTHENTICATION_SASL_FINAL, data)
}

/// AuthenticationOk: tells the client that it is in.
pub fn authentication_ok() -> Vec<u8> {
    authentication(AUTHENTICATION_OK)
}

/// BackendKeyData: what the client sends to have a query cancelled.
///
/// The key has four bytes in protocol 3.0, and 4 to 256 in 3.2.
pub fn backend_key_data(pid: u32, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, Some(BACKEND_KEY_DATA), |out| {
        out.extend_from_slice(&pid.to_be_bytes());
        out.extend_from_slice(key);
    });
    out
}

/// ErrorResponse.
///
/// Source: <https://www.postgresql.org/docs/current/protocol-error-fields.html>.
pub fn error_response(fields: &ErrorFields<'_>) -> Vec<u8> {
    let severity = fields.severity.as_str();
    let all = [
        (b'S', Some(severity)),
        (b'V', Some(severity)),
        (b'C', Some(fields.sqlstate.as_str())),
        (b'M', Some(fields.message)),
        (b'D', fields.detail),
        (b'H', fields.hint),
    ];
    let mut out = Vec::new();
    put_message(&mut out, Some(ERROR_RESPONSE), |out| {
        for (code, text) in all
            .into_iter()
            .filter_map(|(code, text)| Some((code, text?)))
        {
            out.push(code);
            put_text(out, cut(text).as_bytes());
        }
        out.push(0);
    });
    out
}

/// NegotiateProtocolVersion: tells the client the newest minor version of protocol 3 that it
/// gets, and which of the protocol extensions that it asked for are unknown.
///
/// The version is sent whole, as PostgreSQL does and as libpq reads it.
pub fn negotiate_protocol_version(minor: u16, unknown_options: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, Some(NEGOTIATE_PROTOCOL_VERSION), |out| {
        let version = (3 << 16) | u32::from(minor);
        // The options came in one startup packet, which holds only a few thousand of them.
        let count = u32::try_from(unknown_options.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&version.to_be_bytes());
        out.extend_from_slice(&count.to_be_bytes());
        for option in unknown_options {
            put_text(out, option.as_bytes());
        }
    });
    out
}

/// The start of `text`, at most [`ERROR_TEXT_BYTES_MAX`], cut between characters.
fn cut(text: &str) -> &str {
    let longest = text.len().min(ERROR_TEXT_BYTES_MAX);
    (0..=longest)
        .rev()
        .find_map(|end| text.get(..end))
        .unwrap_or_default()
}

fn authentication(kind: u32) -> Vec<u8> {
    authentication_with(kind, &[])
}

fn authentication_with(kind: u32, more: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, Some(AUTHENTICATION), |out| {
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(more);
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sasl_exchange_reads_as_a_backends() {
        assert_eq!(
            authentication_sasl(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]),
            b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
        );
        assert_eq!(
            authentication_sasl_continue(b"r=x"),
            b"R\0\0\0\x0b\0\0\0\x0br=x"
        );
        assert_eq!(
            authentication_sasl_final(b"v=x"),
            b"R\0\0\0\x0b\0\0\0\x0cv=x"
        );
    }

    const REFUSAL: ErrorFields<'_> = ErrorFields {
        severity: Severity::Fatal,
        sqlstate: Sqlstate::INVALID_PASSWORD,
        message: "no",
        detail: None,
        hint: None,
    };

    #[test]
    fn answers_are_what_the_protocol_says() {
        assert_eq!(
            authentication_cleartext_password(),
            b"R\0\0\0\x08\0\0\0\x03"
        );
        assert_eq!(authentication_ok(), b"R\0\0\0\x08\0\0\0\0");
        assert_eq!(backend_key_data(7, b"keys"), b"K\0\0\0\x0c\0\0\0\x07keys");
        assert_eq!(
            error_response(&REFUSAL),
            b"E\0\0\0\x1eSFATAL\0VFATAL\0C28P01\0Mno\0\0"
        );
        assert_eq!(
            negotiate_protocol_version(0, &["_pq_.a", "_pq_.b"]),
            b"v\0\0\0\x1a\0\x03\0\0\0\0\0\x02_pq_.a\0_pq_.b\0"
        );
    }

    #[test]
    fn detail_and_hint_are_sent_when_there_are_any() {
        let fields = ErrorFields {
            detail: Some("why"),
            hint: Some("do"),
            ..REFUSAL
        };
        assert!(error_response(&fields).ends_with(b"\0Mno\0Dwhy\0Hdo\0\0"));
    }

    #[test]
    fn a_text_cannot_forge_another_field() {
        let fields = ErrorFields {
            message: "no user \"a\0C00000",
            ..REFUSAL
        };
        assert!(error_response(&fields).ends_with(b"C28P01\0Mno user \"a\0\0"));
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let long = format!("x{}", "\u{e9}".repeat(ERROR_TEXT_BYTES_MAX));
        let sent = error_response(&ErrorFields {
            message: &long,
            ..REFUSAL
        });
        assert_eq!(
            sent.len(),
            5 + 7 + 7 + 7 + 1 + (ERROR_TEXT_BYTES_MAX - 1) + 1 + 1
        );
        assert!(std::str::from_utf8(&sent[5..]).is_ok());
    }
}
