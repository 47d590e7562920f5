//! The header of the PROXY protocol, version 2, by which a load balancer says whose connection it
//! passes on.
//!
//! Whoever sends it names any address, so it is read only from peers that are trusted to tell the
//! truth, and from those it must come: a receiver must not guess whether it is there.
//!
//! Source: HAProxy, "The PROXY protocol", 2.2,
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Reader;
use crate::limits::PROXY_HEADER_BYTES_MAX;

/// What every header begins with; no other protocol does.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// What a header of version 1 begins with, which is a line of text.
const SIGNATURE_V1: &[u8] = b"PROXY ";

/// Version 2, in the upper half of the byte after the signature.
const VERSION_2: u8 = 2;
/// The peer speaks for itself.
const LOCAL: u8 = 0;
/// The peer speaks for somebody.
const PROXY: u8 = 1;

const UNSPECIFIED: u8 = 0x00;
const TCP_4: u8 = 0x11;
const TCP_6: u8 = 0x21;

/// The bytes of a header before its addresses: signature, version and command, family, length.
pub const PROXY_HEADER_FIXED_BYTES: usize = 16;

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The peer's own, for instance a look whether somebody listens; or it does not say.
    Peer,
    /// That of a client at this address.
    Client(SocketAddr),
}

/// The length of a whole header, in bytes, of which the first
/// [`PROXY_HEADER_FIXED_BYTES`] are known.
///
/// # Errors
///
/// It does not begin as a header does, or would be longer than
/// [`PROXY_HEADER_BYTES_MAX`]; nothing has been allocated for it yet.
pub fn proxy_header_len(fixed: &[u8; PROXY_HEADER_FIXED_BYTES]) -> Result<usize, ProxyHeaderError> {
    let mut reader = Reader(fixed);
    if reader.take() != Some(SIGNATURE) {
        return Err(match fixed.starts_with(SIGNATURE_V1) {
            true => ProxyHeaderError::Version1,
            false => ProxyHeaderError::Missing,
        });
    }
    let length = match fixed {
        [.., high, low] => usize::from(u16::from_be_bytes([*high, *low])),
    };
    match PROXY_HEADER_FIXED_BYTES + length {
        total if total <= PROXY_HEADER_BYTES_MAX => Ok(total),
        total => Err(ProxyHeaderError::Length(total)),
    }
}

/// Reads one whole header.
///
/// What a header says besides the address (TLVs) is looked through and not used.
///
/// # Errors
///
/// One variant of [`ProxyHeaderError`] for each rule that the header breaks.
pub fn parse_proxy_header(header: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let fixed = header.first_chunk().ok_or(ProxyHeaderError::Truncated)?;
    if proxy_header_len(fixed)? != header.len() {
        return Err(ProxyHeaderError::Truncated);
    }
    let [.., version_and_command, family, _, _] = *fixed;
    let mut body = Reader(header.get(PROXY_HEADER_FIXED_BYTES..).unwrap_or_default());
    if version_and_command >> 4 != VERSION_2 {
        return Err(ProxyHeaderError::Version);
    }
    match version_and_command & 0x0f {
        // Whatever follows is to be ignored.
        LOCAL => return Ok(ProxyHeader::Peer),
        PROXY => {}
        _ => return Err(ProxyHeaderError::Command),
    }
    let client = match family {
        UNSPECIFIED => return Ok(ProxyHeader::Peer),
        TCP_4 => {
            let client = IpAddr::from(Ipv4Addr::from(take::<4>(&mut body)?));
            take::<4>(&mut body)?;
            client
        }
        TCP_6 => {
            let client = IpAddr::from(Ipv6Addr::from(take::<16>(&mut body)?));
            take::<16>(&mut body)?;
            client.to_canonical()
        }
        other => return Err(ProxyHeaderError::Family(other)),
    };
    let port = u16::from_be_bytes(take(&mut body)?);
    take::<2>(&mut body)?;
    while !body.is_empty() {
        let [_, high, low] = take(&mut body)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let rest = body.rest().get(length..);
        body = Reader(rest.ok_or(ProxyHeaderError::Truncated)?);
    }
    Ok(ProxyHeader::Client(SocketAddr::new(client, port)))
}

fn take<const N: usize>(body: &mut Reader<'_>) -> Result<[u8; N], ProxyHeaderError> {
    body.take().ok_or(ProxyHeaderError::Truncated)
}

/// Which rule a header breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    /// The connection begins with something else.
    #[error("a trusted proxy sent no PROXY protocol header")]
    Missing,
    /// It is the text of version 1.
    #[error("a trusted proxy sent a PROXY protocol header of version 1; only 2 is read")]
    Version1,
    /// Another version.
    #[error("the version of a PROXY protocol header is not 2")]
    Version,
    /// A command that does not exist.
    #[error("the command of a PROXY protocol header is unknown")]
    Command,
    /// Neither TCP over IPv4 nor over IPv6.
    #[error("a PROXY protocol header speaks for a connection of the kind {0:#04x}, not TCP")]
    Family(u8),
    /// It is longer than any.
    #[error("a PROXY protocol header of {0} bytes is too long")]
    Length(usize),
    /// A field does not end inside the header.
    #[error("a PROXY protocol header is too short for its fields")]
    Truncated,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    const IPV4: &[u8] = b"\xc0\0\x02\x07\x0a\0\0\x01\xc8\x01\x13\x88";

    fn ipv6(client: Ipv6Addr) -> Vec<u8> {
        [&client.octets()[..], &[0; 16], b"\xc8\x01\x13\x88"].concat()
    }

    #[test]
    fn the_clients_address_is_read() {
        let extra = [IPV4, b"\x04\0\x03abc\xea\0\0"].concat();
        for body in [IPV4, &extra] {
            let read = parse_proxy_header(&header(0x21, TCP_4, body));
            let client = SocketAddr::from(([192, 0, 2, 7], 51_201));
            assert_eq!(read, Ok(ProxyHeader::Client(client)));
        }
        let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
        let read = parse_proxy_header(&header(0x21, TCP_6, &ipv6(address)));
        let client = SocketAddr::from((address, 51_201));
        assert_eq!(read, Ok(ProxyHeader::Client(client)));
    }

    #[test]
    fn an_ipv4_address_in_the_clothes_of_ipv6_is_the_same_address() {
        let mapped = Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped();
        let read = parse_proxy_header(&header(0x21, TCP_6, &ipv6(mapped)));
        let client = SocketAddr::from(([192, 0, 2, 7], 51_201));
        assert_eq!(read, Ok(ProxyHeader::Client(client)));
    }

    #[test]
    fn a_proxy_may_speak_for_itself() {
        for (command, family, body) in [
            (0x20, 0, &b""[..]),
            (0x20, TCP_4, b"anything"),
            (0x21, 0, b""),
        ] {
            let read = parse_proxy_header(&header(command, family, body));
            assert_eq!(read, Ok(ProxyHeader::Peer), "{command:x} {family:x}");
        }
    }

    #[test]
    fn what_is_not_version_2_in_every_byte_is_refused() {
        use ProxyHeaderError as Error;
        for (command, family, body, why) in [
            (0x11, TCP_4, IPV4, Error::Version),
            (0x31, TCP_4, IPV4, Error::Version),
            (0x22, TCP_4, IPV4, Error::Command),
            (0x21, 0x12, IPV4, Error::Family(0x12)),
            (0x21, 0x31, IPV4, Error::Family(0x31)),
            (0x21, TCP_6, IPV4, Error::Truncated),
            (0x21, TCP_4, &IPV4[..11], Error::Truncated),
            (0x21, TCP_4, b"", Error::Truncated),
            (0x21, TCP_4, &[IPV4, b"\x04"].concat(), Error::Truncated),
            (
                0x21,
                TCP_4,
                &[IPV4, b"\x04\0\x02a"].concat(),
                Error::Truncated,
            ),
            (0x21, TCP_4, &[0; 5_000], Error::Length(5_016)),
        ] {
            let read = parse_proxy_header(&header(command, family, body));
            assert_eq!(read, Err(why), "{command:x} {family:x} {body:?}");
        }
        let whole = header(0x21, TCP_4, IPV4);
        for end in 0..whole.len() {
            assert_eq!(parse_proxy_header(&whole[..end]), Err(Error::Truncated));
        }
        assert_eq!(proxy_header_len(b"PROXY TCP4 192.0"), Err(Error::Version1));
        assert_eq!(proxy_header_len(&[0; 16]), Err(Error::Missing));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(
            command in any::<u8>(),
            family in any::<u8>(),
            body in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = parse_proxy_header(&body);
            let _ = parse_proxy_header(&header(command, family, &body));
        }
    }
}
