//! StartTLS (RFC 4511, 4.14), on the bare socket.
//!
//! What comes before TLS can come from anybody on the way. The LDAP library reads messages of any
//! depth by recursion, so that a small one of many levels would overflow the stack and end the
//! process; here the one answer that is awaited is read with a limit and without recursion, and
//! the library gets the socket when TLS has to begin.

use std::io;

use ldap3::{LdapError, LdapResult};
use postern_core::directory::ber::{ENUMERATED, INTEGER, OCTET_STRING, SEQUENCE, take};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::limits::STARTTLS_ANSWER_BYTES_MAX;

/// An extended request with message identifier 1 and the name 1.3.6.1.4.1.1466.20037.
const REQUEST: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

const EXTENDED_RESPONSE: u8 = 0x78;

/// Asks for TLS. After success the next byte on the stream belongs to TLS: not one more than the
/// answer is read, so that nothing that was slipped in behind it survives.
///
/// # Errors
///
/// [`LdapError::LdapResult`] when the server refuses, and [`LdapError::Io`] when the stream ends
/// or what comes is not the answer.
pub(super) async fn start_tls(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Result<(), LdapError> {
    stream.write_all(REQUEST).await?;
    let length = read_header(stream).await?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let result = parse(&body).ok_or_else(|| malformed("not the answer to StartTLS"))?;
    result.success().map(|_| ())
}

/// Reads the message's tag and length, byte by byte.
async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> Result<usize, LdapError> {
    if stream.read_u8().await? != SEQUENCE {
        return Err(malformed("not LDAP"));
    }
    let first = stream.read_u8().await?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let mut length = 0_usize;
        for _ in 0..(first & 0x7f).min(8) {
            let byte = usize::from(stream.read_u8().await?);
            length = length.saturating_mul(256).saturating_add(byte);
        }
        length
    };
    if length > STARTTLS_ANSWER_BYTES_MAX {
        return Err(malformed("an answer to StartTLS that is too long"));
    }
    Ok(length)
}

/// The content of the message: its identifier and an extended response.
fn parse(mut message: &[u8]) -> Option<LdapResult> {
    if take(&mut message, INTEGER)? != [1] {
        return None;
    }
    let mut response = take(&mut message, EXTENDED_RESPONSE)?;
    let code = take(&mut response, ENUMERATED)?;
    let matched = take(&mut response, OCTET_STRING)?;
    let text = take(&mut response, OCTET_STRING)?;
    let &[code] = code else {
        return None;
    };
    Some(LdapResult {
        rc: u32::from(code),
        matched: String::from_utf8_lossy(matched).into_owned(),
        text: String::from_utf8_lossy(text).into_owned(),
        refs: Vec::new(),
        ctrls: Vec::new(),
    })
}

fn malformed(why: &'static str) -> LdapError {
    io::Error::new(io::ErrorKind::InvalidData, why).into()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::directory::tests::run;

    /// What is made of an answer, and what is left on the stream behind it.
    fn answer(bytes: &[u8]) -> (Result<(), LdapError>, Vec<u8>) {
        run(async {
            let (mut client, mut server) = tokio::io::duplex(1 << 20);
            server.write_all(bytes).await.unwrap();
            let mut asked = vec![0; REQUEST.len()];
            let result = {
                let asking = start_tls(&mut client);
                let reading = server.read_exact(&mut asked);
                let (result, read) = tokio::join!(asking, reading);
                read.unwrap();
                result
            };
            assert_eq!(asked, REQUEST);
            drop(server);
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.unwrap();
            (result, rest)
        })
    }

    #[test]
    fn nothing_behind_the_answer_is_read() {
        let (result, rest) =
            answer(b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00slipped in");
        assert!(result.is_ok());
        assert_eq!(rest, b"slipped in");
        // OpenLDAP and Active Directory write lengths in the short and in the long form.
        let long = b"\x30\x84\x00\x00\x00\x10\x02\x01\x01\
            \x78\x84\x00\x00\x00\x07\x0a\x01\x00\x04\x00\x04\x00";
        let (result, rest) = answer(long);
        assert!(result.is_ok() && rest.is_empty(), "{result:?}");
    }

    #[test]
    fn a_refusal_is_told_with_its_code() {
        let (result, _) = answer(b"\x30\x0e\x02\x01\x01\x78\x09\x0a\x01\x02\x04\x00\x04\x02no");
        let Err(LdapError::LdapResult { result }) = result else {
            panic!()
        };
        assert_eq!((result.rc, result.text.as_str()), (2, "no"));
    }

    #[test]
    fn what_is_not_the_answer_is_refused() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"\x30\x0c\x02\x01\x02\x78\x07\x0a\x01\x00\x04\x00\x04\x00",
            b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
            b"\x30\x05\x02\x01\x01\x78\x07",
            b"\x30\x00",
            b"\x30\x82\xff\xff",
            b"\x30\x88\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x30\x06\x02\x85\xff\xff\xff\xff",
        ] {
            let (result, _) = answer(bytes);
            assert!(
                matches!(result, Err(LdapError::Io { .. })),
                "{bytes:?}: {result:?}"
            );
        }
    }
}
