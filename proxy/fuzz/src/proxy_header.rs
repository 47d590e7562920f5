//! The header of the PROXY protocol.

use std::net::{IpAddr, SocketAddr};

use postern_core::limits::PROXY_HEADER_BYTES_MAX;
use postern_core::wire::proxy_header::{ProxyHeader, parse_proxy_header, proxy_header_len};

/// A header from its signature on.
pub fn proxy_header(data: &[u8]) {
    let announced = data.first_chunk().map(proxy_header_len);
    let Ok(header) = parse_proxy_header(data) else {
        return;
    };
    assert_eq!(announced, Some(Ok(data.len())));
    assert!(data.len() <= PROXY_HEADER_BYTES_MAX);
    // A byte less or more is another header than the one that was announced.
    let short = data
        .split_last()
        .map(|(_, short)| parse_proxy_header(short));
    assert!(short.is_some_and(|it| it.is_err()));
    assert!(parse_proxy_header(&[data, &[0]].concat()).is_err());
    if let ProxyHeader::Client(client) = header {
        assert_eq!(client.ip(), client.ip().to_canonical());
        assert_eq!(parse_proxy_header(&written(client)), Ok(header));
    }
}

/// The shortest header for a client.
fn written(client: SocketAddr) -> Vec<u8> {
    let (family, octets) = match client.ip() {
        IpAddr::V4(address) => (0x11, address.octets().to_vec()),
        IpAddr::V6(address) => (0x21, address.octets().to_vec()),
    };
    let mut body = octets.clone();
    body.extend(octets);
    body.extend(client.port().to_be_bytes());
    body.extend([0; 2]);
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    header.extend([family, 0]);
    header.extend(u8::try_from(body.len()));
    header.extend(body);
    header
}
