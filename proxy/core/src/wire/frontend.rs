//! What a client sends while Postern waits for its password, or for the proof of one.
//!
//! Source: PostgreSQL, Message Formats (PasswordMessage, SASLInitialResponse, SASLResponse,
//! Terminate),
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>.

use super::{HEADER_BYTES, LENGTH_BYTES, Reader};
use crate::limits::{PASSWORD_BYTES_MAX, SASL_MESSAGE_BYTES_MAX};

/// The tag of PasswordMessage, and of the SASL answers that share it.
pub(super) const PASSWORD: u8 = b'p';
/// The tag of Terminate.
const TERMINATE: u8 = b'X';

/// The tag and length of a message that a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The message's tag.
    pub tag: u8,
    /// The length of the body that follows the header, in bytes.
    pub body_bytes: usize,
}

impl Header {
    /// The size of a header, in bytes.
    pub const BYTES: usize = HEADER_BYTES;

    /// Reads the header of a password message, the only one that is accepted in its place.
    ///
    /// # Errors
    ///
    /// [`FrontendError::Terminated`] when the client says goodbye instead,
    /// [`FrontendError::Tag`] for any other message, [`FrontendError::Length`] when the body
    /// would be longer than [`PASSWORD_BYTES_MAX`] or the length word is under its own size.
    /// Nothing has been allocated for the body yet.
    pub fn password(header: &[u8; Self::BYTES]) -> Result<Self, FrontendError> {
        Self::read(header, PASSWORD_BYTES_MAX)
    }

    /// Reads the header of a SASLInitialResponse or a SASLResponse, which have the tag of a
    /// password message.
    ///
    /// # Errors
    ///
    /// As [`Header::password`], with [`SASL_MESSAGE_BYTES_MAX`].
    pub fn sasl(header: &[u8; Self::BYTES]) -> Result<Self, FrontendError> {
        Self::read(header, SASL_MESSAGE_BYTES_MAX)
    }

    fn read(header: &[u8; Self::BYTES], body_bytes_max: usize) -> Result<Self, FrontendError> {
        let [tag, word @ ..] = *header;
        match tag {
            PASSWORD => {}
            TERMINATE => return Err(FrontendError::Terminated),
            other => return Err(FrontendError::Tag(other)),
        }
        let length = u32::from_be_bytes(word);
        let body_bytes = usize::try_from(length)
            .ok()
            .and_then(|n| n.checked_sub(LENGTH_BYTES));
        match body_bytes {
            Some(body_bytes) if body_bytes <= body_bytes_max => Ok(Self { tag, body_bytes }),
            _ => Err(FrontendError::Length(length)),
        }
    }
}

/// The password in the body of a password message, without its terminator.
///
/// The bytes stay where they are, so that there is one copy to wipe.
///
/// # Errors
///
/// [`FrontendError::EmptyPassword`] and [`FrontendError::NulInPassword`] must be refused without
/// asking the directory: a simple bind with an empty password succeeds for everybody
/// (RFC 4513, 5.1.2), and what follows a NUL may be cut off on the way.
/// [`FrontendError::NotTerminated`] when the last byte is not a NUL.
pub fn password(body: &[u8]) -> Result<&[u8], FrontendError> {
    if body.len() > PASSWORD_BYTES_MAX {
        return Err(FrontendError::Length(
            u32::try_from(body.len()).unwrap_or(u32::MAX),
        ));
    }
    let mut reader = Reader(body);
    if body.last() != Some(&0) {
        return Err(FrontendError::NotTerminated);
    }
    let password = reader.text().ok_or(FrontendError::NotTerminated)?;
    if !reader.is_empty() {
        return Err(FrontendError::NulInPassword);
    }
    if password.is_empty() {
        return Err(FrontendError::EmptyPassword);
    }
    Ok(password)
}

/// The first answer of a client to the offer of mechanisms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaslInitialResponse<'a> {
    /// The mechanism that it chose.
    pub mechanism: &'a [u8],
    /// The first message of the mechanism; a client that sends none waits for an empty challenge.
    pub data: Option<&'a [u8]>,
}

/// Reads the body of a SASLInitialResponse. That of a SASLResponse is the message itself.
///
/// # Errors
///
/// [`FrontendError::Sasl`] when the body is not exactly a name, a length and so many bytes.
pub fn sasl_initial_response(body: &[u8]) -> Result<SaslInitialResponse<'_>, FrontendError> {
    let mut reader = Reader(body);
    let mechanism = reader.text().ok_or(FrontendError::Sasl)?;
    let length = reader.u32().ok_or(FrontendError::Sasl)?;
    let data = match length {
        // -1 on the wire.
        u32::MAX if reader.is_empty() => None,
        length => {
            let data = reader.rest();
            let fits = usize::try_from(length) == Ok(data.len());
            Some(fits.then_some(data).ok_or(FrontendError::Sasl)?)
        }
    };
    Ok(SaslInitialResponse { mechanism, data })
}

/// Which rule a client's answer to the password request breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrontendError {
    /// Another message than a password message.
    #[error("a message of type {0} came where a password was expected")]
    Tag(u8),
    /// The client gave up.
    #[error("the client ended the connection instead of sending a password")]
    Terminated,
    /// The length is out of bounds.
    #[error("the password message's length of {0} bytes is out of bounds")]
    Length(u32),
    /// The body is not the first answer to an offer of SASL mechanisms.
    #[error("the SASL response is malformed")]
    Sasl,
    /// The body does not end with a NUL.
    #[error("the password message is not terminated")]
    NotTerminated,
    /// The password is empty.
    #[error("the password is empty")]
    EmptyPassword,
    /// The password has a NUL in it.
    #[error("the password has a NUL in it")]
    NulInPassword,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(tag: u8, length: u32) -> [u8; Header::BYTES] {
        let [a, b, c, d] = length.to_be_bytes();
        [tag, a, b, c, d]
    }

    #[test]
    fn only_a_password_message_is_accepted() {
        let accepted = Header {
            tag: b'p',
            body_bytes: 6,
        };
        assert_eq!(Header::password(&header(b'p', 10)), Ok(accepted));
        assert_eq!(
            Header::password(&header(b'X', 4)),
            Err(FrontendError::Terminated)
        );
        for tag in (0..=u8::MAX).filter(|tag| !matches!(tag, b'p' | b'X')) {
            assert_eq!(
                Header::password(&header(tag, 10)),
                Err(FrontendError::Tag(tag))
            );
        }
    }

    #[test]
    fn a_length_is_checked_before_anything_is_allocated() {
        let longest = 4 + 8_192;
        for length in [0, 3, longest + 1, i32::MAX as u32, 1 << 31, u32::MAX] {
            let refusal = Err(FrontendError::Length(length));
            assert_eq!(Header::password(&header(b'p', length)), refusal);
        }
        for length in [4, 5, longest] {
            assert!(Header::password(&header(b'p', length)).is_ok());
        }
    }

    #[test]
    fn a_password_ends_with_the_only_nul() {
        assert_eq!(password(b"secret\0"), Ok(&b"secret"[..]));
        assert_eq!(password(b" \xff\xfe \0"), Ok(&b" \xff\xfe "[..]));
        for (body, refusal) in [
            (&b""[..], FrontendError::NotTerminated),
            (b"secret", FrontendError::NotTerminated),
            (b"sec\0ret", FrontendError::NotTerminated),
            (b"\0", FrontendError::EmptyPassword),
            (b"\0\0", FrontendError::NulInPassword),
            (b"\0abc\0", FrontendError::NulInPassword),
            (b"abc\0\0", FrontendError::NulInPassword),
            (b"abc\0def\0", FrontendError::NulInPassword),
        ] {
            assert_eq!(
                password(body),
                Err(refusal),
                "{:?}",
                body.escape_ascii().to_string()
            );
        }
        let too_long = [vec![b'x'; 8_192], vec![0]].concat();
        assert_eq!(password(&too_long), Err(FrontendError::Length(8_193)));
    }

    #[test]
    fn a_sasl_message_has_at_most_1024_bytes() {
        for length in [0, 3, 4 + 1_024 + 1, u32::MAX] {
            let refusal = Err(FrontendError::Length(length));
            assert_eq!(Header::sasl(&header(b'p', length)), refusal);
        }
        assert!(Header::sasl(&header(b'p', 4 + 1_024)).is_ok());
        assert_eq!(
            Header::sasl(&header(b'X', 4)),
            Err(FrontendError::Terminated)
        );
    }

    #[test]
    fn the_first_sasl_answer_is_a_name_and_perhaps_a_message() {
        let read = |mechanism, data| Ok(SaslInitialResponse { mechanism, data });
        assert_eq!(
            sasl_initial_response(b"SCRAM-SHA-256\0\0\0\0\x03n,,"),
            read(b"SCRAM-SHA-256", Some(&b"n,,"[..]))
        );
        assert_eq!(
            sasl_initial_response(b"X\0\0\0\0\0"),
            read(b"X", Some(&b""[..]))
        );
        assert_eq!(
            sasl_initial_response(b"X\0\xff\xff\xff\xff"),
            read(b"X", None)
        );
        for body in [
            &b""[..],
            b"X",
            b"X\0",
            b"X\0\0\0\0",
            b"X\0\0\0\0\x02n",
            b"X\0\0\0\0\x01nn",
            b"X\0\xff\xff\xff\xffn",
            b"X\0\xff\xff\xff\xfe",
            b"secret\0",
        ] {
            assert_eq!(sasl_initial_response(body), Err(FrontendError::Sasl));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            let _ = password(&bytes);
            let _ = sasl_initial_response(&bytes);
            if let Some(header) = bytes.first_chunk() {
                let _ = Header::password(header);
            }
        }
    }
}
