//! What Postern sends to a backend, besides the startup packet
//! ([`Startup::encode`](crate::wire::startup::Startup::encode)).

use crate::secret::Secret;
use crate::wire::frontend::PASSWORD;
use crate::wire::startup::{CANCEL_REQUEST, SSL_REQUEST};
use crate::wire::{HEADER_BYTES, put_message, put_text};

/// SSLRequest: asks for TLS.
///
/// The answer is one byte, `S` or `N`; anything that came with it was not encrypted and must be
/// refused (CVE-2021-23222).
pub fn ssl_request() -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, None, |out| {
        out.extend_from_slice(&SSL_REQUEST.to_be_bytes())
    });
    out
}

/// PasswordMessage: the password as it is, or its MD5 form.
///
/// A password that came in a password message has no NUL; of one that had, only what is before
/// it would be sent.
pub fn password_message(password: &[u8]) -> Secret<Vec<u8>> {
    // With room for all of it the vector never moves, and no copy is left behind.
    let mut out = Vec::with_capacity(HEADER_BYTES + password.len() + 1);
    put_message(&mut out, Some(PASSWORD), |out| put_text(out, password));
    Secret::new(out)
}

/// SASLInitialResponse: the chosen mechanism and its first message.
pub fn sasl_initial_response(mechanism: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, Some(PASSWORD), |out| {
        put_text(out, mechanism.as_bytes());
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(data);
    });
    out
}

/// SASLResponse: a further message of the mechanism.
pub fn sasl_response(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, Some(PASSWORD), |out| out.extend_from_slice(data));
    out
}

/// CancelRequest, for a connection of its own.
pub fn cancel_request(pid: u32, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, None, |out| {
        out.extend_from_slice(&CANCEL_REQUEST.to_be_bytes());
        out.extend_from_slice(&pid.to_be_bytes());
        out.extend_from_slice(key);
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::startup::{CancelRequest, FirstPacket, parse};

    #[test]
    fn requests_are_what_the_protocol_says() {
        assert_eq!(ssl_request(), b"\0\0\0\x08\x04\xd2\x16\x2f");
        assert_eq!(password_message(b"secret").expose(), b"p\0\0\0\x0bsecret\0");
        assert_eq!(
            sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r=x"),
            b"p\0\0\0\x1fSCRAM-SHA-256\0\0\0\0\x09n,,n=,r=x"
        );
        assert_eq!(sasl_response(b"c=biws"), b"p\0\0\0\x0ac=biws");
    }

    #[test]
    fn a_cancel_request_reads_back() {
        for key in [vec![1; 4], vec![2; 256]] {
            let request = CancelRequest { pid: u32::MAX, key };
            let sent = cancel_request(request.pid, &request.key);
            assert_eq!(parse(&sent), Ok(FirstPacket::Cancel(request)));
        }
    }

    #[test]
    fn a_password_message_is_never_moved_while_it_is_written() {
        let message = password_message(&[b'x'; 16_384]);
        assert_eq!(message.expose().capacity(), message.expose().len());
    }
}
