//! Packets put together by hand, layer by layer from the inside out, also ones that no system
//! would make.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an Ethernet frame carries, <https://www.iana.org/assignments/ieee-802-numbers>.
pub mod ether {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// A VLAN tag (802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// The outer one of two VLAN tags (802.1ad).
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// MPLS.
    pub const MPLS: u16 = 0x8847;
    /// A session of PPPoE.
    pub const PPPOE: u16 = 0x8864;
    /// For experiments.
    pub const EXPERIMENT: u16 = 0x88b5;
}

/// What an IP packet carries, <https://www.iana.org/assignments/protocol-numbers>.
pub mod protocol {
    /// IPv6's options for every router.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP.
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6's routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6's fragment header.
    pub const FRAGMENT: u8 = 44;
    /// GRE.
    pub const GRE: u8 = 47;
    /// ESP.
    pub const ESP: u8 = 50;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6's options for the destination.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// More fragments follow, in [`Ipv4::fragment`].
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// What a router takes off with each hop.
const HOPS: u8 = 64;

/// Who sends to whom.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// The address in the packet, whoever sends it.
    pub source: IpAddr,
    /// Where to.
    pub destination: IpAddr,
    /// The ports, from and to.
    pub ports: (u16, u16),
}

/// An Ethernet frame.
#[must_use]
pub fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to, &from, kind.to_be_bytes().as_slice(), payload].concat()
}

/// A VLAN tag before what has `kind`.
#[must_use]
pub fn vlan(number: u16, kind: u16, payload: &[u8]) -> Vec<u8> {
    [
        &number.to_be_bytes(),
        kind.to_be_bytes().as_slice(),
        payload,
    ]
    .concat()
}

/// An IPv4 packet (RFC 791).
#[derive(Debug, Clone)]
pub struct Ipv4 {
    /// Who sends it, by its own word.
    pub source: Ipv4Addr,
    /// Where to.
    pub destination: Ipv4Addr,
    /// What it carries.
    pub protocol: u8,
    /// Flags and, in units of 8 bytes, the place of this fragment.
    pub fragment: u16,
    /// Options; zeros are added up to a multiple of 4 bytes.
    pub options: Vec<u8>,
}

impl Ipv4 {
    /// A whole packet without options.
    #[must_use]
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> Self {
        Self {
            source,
            destination,
            protocol,
            fragment: 0,
            options: Vec::new(),
        }
    }

    /// The packet around what it carries.
    #[must_use]
    pub fn around(&self, payload: &[u8]) -> Vec<u8> {
        let options = padded(&self.options, 4, 0);
        let header_bytes = 20 + options.len();
        let length = u16_of(header_bytes + payload.len()).to_be_bytes();
        // Version 4, and the length of the header in words.
        let first = 0x40 | u8_of(header_bytes / 4);
        let mut header = vec![first, 0];
        header.extend(length);
        // The same number for all: fragments of one packet have it in common.
        header.extend(0x5030_u16.to_be_bytes());
        header.extend(self.fragment.to_be_bytes());
        header.extend([HOPS, self.protocol, 0, 0]);
        header.extend(self.source.octets());
        header.extend(self.destination.octets());
        header.extend(options);
        let sum = checksum(&header);
        header.splice(10..12, sum);
        header.extend(payload);
        header
    }
}

/// An IPv6 packet (RFC 8200).
#[derive(Debug, Clone, Copy)]
pub struct Ipv6 {
    /// Who sends it, by its own word.
    pub source: Ipv6Addr,
    /// Where to.
    pub destination: Ipv6Addr,
    /// What comes next.
    pub next: u8,
    /// How many routers may still pass it on.
    pub hops: u8,
}

impl Ipv6 {
    /// A packet.
    #[must_use]
    pub fn new(source: Ipv6Addr, destination: Ipv6Addr, next: u8) -> Self {
        Self {
            source,
            destination,
            next,
            hops: HOPS,
        }
    }

    /// The packet around what it carries, extension headers included.
    #[must_use]
    pub fn around(&self, payload: &[u8]) -> Vec<u8> {
        let length = u16_of(payload.len()).to_be_bytes();
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(length);
        packet.extend([self.next, self.hops]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(payload);
        packet
    }
}

/// An extension header with options, padded, before what `next` says.
#[must_use]
pub fn options(next: u8, payload: &[u8]) -> Vec<u8> {
    // One option of padding (PadN) that fills the first 8 bytes.
    [&[next, 0, 1, 4, 0, 0, 0, 0], payload].concat()
}

/// A fragment header; `place` is in units of 8 bytes.
#[must_use]
pub fn fragment(next: u8, place: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let place = (place << 3) | u16::from(more);
    let mut header = vec![next, 0];
    header.extend(place.to_be_bytes());
    header.extend(0x5030_u32.to_be_bytes());
    header.extend(payload);
    header
}

/// A segment routing header (RFC 8754) that is to pass through one more address.
#[must_use]
pub fn segment_routing(next: u8, last: Ipv6Addr, through: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    // Two segments, the last one first; one is left; 4 units of 8 bytes follow the first one.
    let mut header = vec![next, 4, 4, 1, 1, 0, 0, 0];
    header.extend(last.octets());
    header.extend(through.octets());
    header.extend(payload);
    header
}

/// A UDP datagram (RFC 768).
#[must_use]
pub fn udp(way: Way, payload: &[u8]) -> Vec<u8> {
    let length = u16_of(8 + payload.len()).to_be_bytes();
    let mut datagram = ports(way);
    datagram.extend(length);
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let sum = transport_checksum(way, protocol::UDP, &datagram);
    datagram.splice(6..8, sum);
    datagram
}

/// The first packet of a TCP connection (RFC 9293), with data in it.
#[must_use]
pub fn syn(way: Way, payload: &[u8]) -> Vec<u8> {
    let mut segment = ports(way);
    segment.extend(0x1000_u32.to_be_bytes());
    segment.extend([0; 4]);
    // A header of 5 words; SYN; the window; no checksum yet; nothing is urgent.
    segment.extend([5 << 4, 2, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    let sum = transport_checksum(way, protocol::TCP, &segment);
    segment.splice(16..18, sum);
    segment
}

/// An ICMP message (RFC 792, RFC 4443), of the family of the addresses.
#[must_use]
pub fn icmp(way: Way, kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(body);
    let sum = if way.source.is_ipv4() {
        checksum(&message)
    } else {
        transport_checksum(way, protocol::ICMPV6, &message)
    };
    message.splice(2..4, sum);
    message
}

/// A packet of the addresses' family around a transport.
#[must_use]
pub fn ip(way: Way, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (way.source, way.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            Ipv4::new(source, destination, protocol).around(payload)
        }
        (source, destination) => Ipv6::new(v6(source), v6(destination), protocol).around(payload),
    }
}

/// What an Ethernet frame calls a packet of an address's family.
#[must_use]
pub const fn kind_of(address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(_) => ether::IPV4,
        IpAddr::V6(_) => ether::IPV6,
    }
}

/// Who sends the packet of a frame, by its own word; none if there is no packet right behind the
/// Ethernet header.
#[must_use]
pub fn source_of(frame: &[u8]) -> Option<IpAddr> {
    let (header, packet) = frame.split_at_checked(14)?;
    let kind = header.last_chunk().map(|it| u16::from_be_bytes(*it))?;
    match kind {
        ether::IPV4 => {
            let octets: &[u8; 4] = packet.get(12..)?.first_chunk()?;
            Some(Ipv4Addr::from(*octets).into())
        }
        ether::IPV6 => {
            let octets: &[u8; 16] = packet.get(8..)?.first_chunk()?;
            Some(Ipv6Addr::from(*octets).into())
        }
        _ => None,
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn ports(way: Way) -> Vec<u8> {
    let (from, to) = way.ports;
    [from.to_be_bytes(), to.to_be_bytes()].concat()
}

/// The checksum over a transport and what it is told of the packet around it.
fn transport_checksum(way: Way, protocol: u8, segment: &[u8]) -> [u8; 2] {
    let mut bytes = Vec::new();
    for address in [way.source, way.destination] {
        match address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
    }
    bytes.extend([0, protocol]);
    bytes.extend(u16_of(segment.len()).to_be_bytes());
    bytes.extend(segment);
    checksum(&bytes)
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, high, low] = (!sum).to_be_bytes();
    [high, low]
}

/// Bytes with others after them up to a multiple of `unit`.
fn padded(bytes: &[u8], unit: usize, filler: u8) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(unit), filler);
    padded
}

/// A length as the header has it; tests make no packet that is too long for it.
fn u16_of(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// As above.
fn u8_of(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAY: Way = Way {
        source: IpAddr::V4(Ipv4Addr::new(192, 168, 0, 1)),
        destination: IpAddr::V4(Ipv4Addr::new(192, 168, 0, 199)),
        ports: (1, 2),
    };

    #[test]
    fn a_header_with_its_checksum_adds_up_to_nothing() {
        let mut packet = Ipv4::new(Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST, protocol::UDP);
        packet.options = vec![1, 1, 1];
        let bytes = packet.around(b"payload");
        assert_eq!(bytes[0], 0x46);
        assert_eq!(bytes[2..4], [0, 31]);
        assert_eq!(checksum(&bytes[..24]), [0, 0]);
    }

    #[test]
    fn the_checksum_of_the_rfc_is_ours() {
        // RFC 1071, 3: the sum of these is ddf2.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&bytes), [!0xdd, !0xf2]);
    }

    #[test]
    fn a_datagram_and_a_segment_add_up_to_nothing_with_their_addresses() {
        for (number, bytes) in [
            (protocol::UDP, udp(WAY, b"odd")),
            (protocol::TCP, syn(WAY, b"even")),
        ] {
            assert_eq!(transport_checksum(WAY, number, &bytes), [0, 0]);
        }
    }

    #[test]
    fn the_source_of_a_frame_is_read_where_there_is_one() {
        let packet = ip(WAY, protocol::UDP, &udp(WAY, b"x"));
        let frame = ethernet([1; 6], [2; 6], ether::IPV4, &packet);
        assert_eq!(source_of(&frame), Some(WAY.source));
        let packet = Ipv6::new(Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED, 59).around(&[]);
        let frame = ethernet([1; 6], [2; 6], ether::IPV6, &packet);
        assert_eq!(source_of(&frame), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(source_of(&frame[..20]), None);
        assert_eq!(source_of(&[]), None);
    }

    #[test]
    fn extension_headers_have_the_lengths_that_they_say() {
        let last = Ipv6Addr::LOCALHOST;
        assert_eq!(options(protocol::UDP, &[]).len(), 8);
        assert_eq!(fragment(protocol::UDP, 1, true, &[])[2..4], [0, 9]);
        assert_eq!(segment_routing(protocol::UDP, last, last, &[]).len(), 40);
    }
}
