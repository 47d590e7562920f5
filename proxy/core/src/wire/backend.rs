//! What a backend says until it is ready for queries, and what Postern says in its place.
//!
//! [`split`] cuts the bytes that have arrived into messages, and [`parse`] reads one.
//! Both are given whatever there is and never wait: a login reads, splits until there is
//! [`None`], and reads again.
//!
//! The other direction is here too: what Postern tells a client as if it were a backend
//! ([`authentication_ok`] and its neighbours), and what it sends to a backend
//! ([`ssl_request`] and its neighbours).
//!
//! Source: PostgreSQL, Message Formats,
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>.

mod to_backend;
mod to_client;

use std::borrow::Cow;
use std::fmt;

use super::tag::{
    AUTHENTICATION, AUTHENTICATION_CLEARTEXT_PASSWORD, AUTHENTICATION_MD5_PASSWORD,
    AUTHENTICATION_OK, AUTHENTICATION_SASL, AUTHENTICATION_SASL_CONTINUE,
    AUTHENTICATION_SASL_FINAL, BACKEND_KEY_DATA, ERROR_RESPONSE, NEGOTIATE_PROTOCOL_VERSION,
    NOTICE_RESPONSE, PARAMETER_STATUS, READY_FOR_QUERY,
};
use super::{HEADER_BYTES, LENGTH_BYTES, Reader};
use crate::limits::{BACKEND_LOGIN_MESSAGE_BYTES_MAX, CANCEL_KEY_BYTES_MAX, CANCEL_KEY_BYTES_MIN};

pub use to_backend::{
    cancel_request, password_message, sasl_initial_response, sasl_response, ssl_request,
};
pub use to_client::{
    ErrorFields, Severity, authentication_cleartext_password, authentication_ok,
    authentication_sasl, authentication_sasl_continue, authentication_sasl_final, backend_key_data,
    error_response, negotiate_protocol_version,
};

/// One whole message, not yet read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The message's tag.
    pub tag: u8,
    /// What follows the length word.
    pub body: &'a [u8],
    /// The length of the message with its tag and length word, in bytes: what the caller
    /// consumes.
    pub total_len: usize,
}

/// The first message of `bytes`, or [`None`] when it has not arrived whole.
///
/// # Errors
///
/// [`BackendError::Length`] as soon as the length word is there and is under its own size, or
/// announces a message of more than [`BACKEND_LOGIN_MESSAGE_BYTES_MAX`].
/// The caller therefore never needs a larger buffer than that.
pub fn split(bytes: &[u8]) -> Result<Option<Frame<'_>>, BackendError> {
    let Some((&[tag, ref word @ ..], rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*word);
    let body_len = usize::try_from(length)
        .ok()
        .and_then(|len| len.checked_sub(LENGTH_BYTES))
        .filter(|len| *len <= BACKEND_LOGIN_MESSAGE_BYTES_MAX - HEADER_BYTES)
        .ok_or(BackendError::Length(length))?;
    let frame = |body| Frame {
        tag,
        body,
        total_len: HEADER_BYTES + body_len,
    };
    Ok(rest.get(..body_len).map(frame))
}

/// A message of a backend that is not yet ready for queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendMessage<'a> {
    /// The login was accepted.
    AuthenticationOk,
    /// The backend wants the password as it is.
    CleartextPassword,
    /// The backend wants the password hashed with MD5.
    Md5 {
        /// What the hash is salted with.
        salt: [u8; 4],
    },
    /// The backend wants SASL, by one of these mechanisms.
    Sasl(Mechanisms<'a>),
    /// The next message of the SASL mechanism.
    SaslContinue(&'a [u8]),
    /// The last message of the SASL mechanism.
    SaslFinal(&'a [u8]),
    /// Another kind of authentication (Kerberos, GSSAPI, SSPI), by its number.
    AuthenticationOther(u32),
    /// A setting that the client is told about.
    ParameterStatus {
        /// The setting's name.
        name: &'a [u8],
        /// Its value, in the session's encoding.
        value: &'a [u8],
    },
    /// What a cancel request for this session needs.
    BackendKeyData {
        /// The backend's process id.
        pid: u32,
        /// The cancel key, 4 to 256 bytes.
        key: CancelKey<'a>,
    },
    /// The session is open; `I`, `T` or `E` says whether it is in a transaction.
    ReadyForQuery(u8),
    /// The login failed.
    Error(ErrorFieldsRef<'a>),
    /// A warning or a notice.
    Notice(ErrorFieldsRef<'a>),
    /// The backend speaks less than was asked for.
    NegotiateProtocolVersion {
        /// The newest minor version of protocol 3 that it speaks.
        minor: u16,
        /// The protocol extensions that it does not know.
        options: Texts<'a>,
    },
    /// A message with a tag that has no place in a login.
    Other(u8),
}

/// Reads one message.
///
/// # Errors
///
/// One variant of [`BackendError`] for each rule that the message breaks.
pub fn parse(frame: Frame<'_>) -> Result<BackendMessage<'_>, BackendError> {
    let mut body = Reader(frame.body);
    let message = match frame.tag {
        AUTHENTICATION => parse_authentication(&mut body)?,
        PARAMETER_STATUS => {
            let name = body.text().ok_or(BackendError::Truncated)?;
            let value = body.text().ok_or(BackendError::Truncated)?;
            BackendMessage::ParameterStatus { name, value }
        }
        BACKEND_KEY_DATA => {
            let pid = body.u32().ok_or(BackendError::Truncated)?;
            let key = body.rest();
            if !(CANCEL_KEY_BYTES_MIN..=CANCEL_KEY_BYTES_MAX).contains(&key.len()) {
                return Err(BackendError::CancelKeyLength);
            }
            BackendMessage::BackendKeyData {
                pid,
                key: CancelKey(key),
            }
        }
        READY_FOR_QUERY => match body.u8().ok_or(BackendError::Truncated)? {
            status @ (b'I' | b'T' | b'E') => BackendMessage::ReadyForQuery(status),
            _ => return Err(BackendError::TransactionStatus),
        },
        ERROR_RESPONSE => BackendMessage::Error(ErrorFieldsRef::read(&mut body)?),
        NOTICE_RESPONSE => BackendMessage::Notice(ErrorFieldsRef::read(&mut body)?),
        NEGOTIATE_PROTOCOL_VERSION => parse_negotiation(&mut body)?,
        other => {
            body.rest();
            BackendMessage::Other(other)
        }
    };
    if body.is_empty() {
        Ok(message)
    } else {
        Err(BackendError::TrailingBytes)
    }
}

/// NUL-terminated strings, each of which has been found to end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Texts<'a>(&'a [u8]);

impl<'a> Texts<'a> {
    /// The strings, in the order in which they were sent.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut reader = Reader(self.0);
        std::iter::from_fn(move || reader.text())
    }
}

impl fmt::Debug for Texts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(String::from_utf8_lossy))
            .finish()
    }
}

/// The SASL mechanisms that a backend offers; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mechanisms<'a>(Texts<'a>);

impl<'a> Mechanisms<'a> {
    /// True when the backend offers this one.
    pub fn contains(&self, name: &str) -> bool {
        self.iter().any(|offered| offered == name.as_bytes())
    }

    /// The mechanisms, in the backend's order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.0.iter()
    }
}

/// A cancel key, which is not printed: whoever has it can cancel the session's queries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CancelKey<'a>(&'a [u8]);

impl<'a> CancelKey<'a> {
    /// The key's bytes.
    pub fn expose(&self) -> &'a [u8] {
        self.0
    }
}

impl fmt::Debug for CancelKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// The fields of an ErrorResponse or NoticeResponse.
///
/// Any field may be missing, and text may be in any encoding, because a backend reports errors
/// before the session's encoding is known.
///
/// Source: PostgreSQL, Error and Notice Message Fields,
/// <https://www.postgresql.org/docs/current/protocol-error-fields.html>.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ErrorFieldsRef<'a>(&'a [u8]);

impl<'a> ErrorFieldsRef<'a> {
    /// The first field of this code (`M` is the message, `C` the SQLSTATE).
    pub fn get(&self, code: u8) -> Option<&'a [u8]> {
        self.iter()
            .find(|(given, _)| *given == code)
            .map(|(_, text)| text)
    }

    /// The SQLSTATE, when there is one of five digits and capital letters.
    pub fn sqlstate(&self) -> Option<&'a str> {
        let code = std::str::from_utf8(self.get(b'C')?).ok()?;
        let valid = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
        (code.len() == 5 && code.bytes().all(valid)).then_some(code)
    }

    /// The SQLSTATE, when severity and message are there, too. Every server sends the three, and
    /// clients fall over an error that lacks one (RUSTSEC-2026-0178).
    pub fn sqlstate_if_whole(&self) -> Option<&'a str> {
        let is_whole = self.get(b'S').is_some() && self.get(b'M').is_some();
        self.sqlstate().filter(|_| is_whole)
    }

    /// The severity, not translated where the backend sends that (PostgreSQL 9.6 and later).
    pub fn severity(&self) -> Cow<'a, str> {
        self.text(b'V')
            .or_else(|| self.text(b'S'))
            .unwrap_or_default()
    }

    /// The message, with what is not UTF-8 replaced; empty when there is none.
    pub fn message(&self) -> Cow<'a, str> {
        self.text(b'M').unwrap_or_default()
    }

    /// The codes and texts, in the order in which they were sent.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut reader = Reader(self.0);
        std::iter::from_fn(move || Some((reader.u8()?, reader.text()?)))
    }

    fn text(&self, code: u8) -> Option<Cow<'a, str>> {
        self.get(code).map(String::from_utf8_lossy)
    }

    /// Consumes the fields and the zero byte that ends them.
    fn read(body: &mut Reader<'a>) -> Result<Self, BackendError> {
        let all = body.0;
        while body.u8().ok_or(BackendError::Truncated)? != 0 {
            body.text().ok_or(BackendError::Truncated)?;
        }
        let fields = all.len() - body.0.len() - 1;
        Ok(Self(all.get(..fields).unwrap_or_default()))
    }
}

impl fmt::Debug for ErrorFieldsRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = |(code, text)| (char::from(code), String::from_utf8_lossy(text));
        f.debug_map().entries(self.iter().map(field)).finish()
    }
}

/// Which rule a backend's message breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// The length word is out of bounds.
    #[error("the backend's message length of {0} bytes is out of bounds")]
    Length(u32),
    /// A field does not end inside the message.
    #[error("the backend's message is too short for its fields")]
    Truncated,
    /// Bytes after the last field.
    #[error("the backend's message has bytes after its fields")]
    TrailingBytes,
    /// An AuthenticationSASL that offers nothing.
    #[error("the backend offers no SASL mechanism")]
    NoMechanisms,
    /// A cancel key of a forbidden length.
    #[error("the backend's cancel key has a wrong length")]
    CancelKeyLength,
    /// A ReadyForQuery with a status other than `I`, `T` and `E`.
    #[error("the backend's transaction status is unknown")]
    TransactionStatus,
    /// A NegotiateProtocolVersion for another protocol than 3.
    #[error("the backend negotiates a protocol other than 3")]
    ProtocolVersion,
}

fn parse_authentication<'a>(body: &mut Reader<'a>) -> Result<BackendMessage<'a>, BackendError> {
    Ok(match body.u32().ok_or(BackendError::Truncated)? {
        AUTHENTICATION_OK => BackendMessage::AuthenticationOk,
        AUTHENTICATION_CLEARTEXT_PASSWORD => BackendMessage::CleartextPassword,
        AUTHENTICATION_MD5_PASSWORD => BackendMessage::Md5 {
            salt: body.take().ok_or(BackendError::Truncated)?,
        },
        AUTHENTICATION_SASL => {
            let all = body.0;
            while !body.text().ok_or(BackendError::Truncated)?.is_empty() {}
            let names = all.get(..all.len() - body.0.len() - 1).unwrap_or_default();
            if names.is_empty() {
                return Err(BackendError::NoMechanisms);
            }
            BackendMessage::Sasl(Mechanisms(Texts(names)))
        }
        AUTHENTICATION_SASL_CONTINUE => BackendMessage::SaslContinue(body.rest()),
        AUTHENTICATION_SASL_FINAL => BackendMessage::SaslFinal(body.rest()),
        other => {
            body.rest();
            BackendMessage::AuthenticationOther(other)
        }
    })
}

/// The page calls the first number a minor version; PostgreSQL sends the whole version, and both
/// are understood.
fn parse_negotiation<'a>(body: &mut Reader<'a>) -> Result<BackendMessage<'a>, BackendError> {
    let [high, low, minor @ ..] = body.take::<4>().ok_or(BackendError::Truncated)?;
    if !matches!([high, low], [0, 0] | [0, 3]) {
        return Err(BackendError::ProtocolVersion);
    }
    let count = body.u32().ok_or(BackendError::Truncated)?;
    let all = body.0;
    // The loop ends with the body, whatever the count claims.
    for _ in 0..count {
        body.text().ok_or(BackendError::Truncated)?;
    }
    let options = Texts(all.get(..all.len() - body.0.len()).unwrap_or_default());
    let minor = u16::from_be_bytes(minor);
    Ok(BackendMessage::NegotiateProtocolVersion { minor, options })
}

#[cfg(test)]
#[path = "backend/tests.rs"]
mod tests;
