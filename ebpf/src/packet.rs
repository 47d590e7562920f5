//! What a packet says about itself, as far as a verdict needs it.
//!
//! Every length and offset in a packet is its sender's: nothing is read without a bound, and what
//! is cut short has a verdict, not a guess.

use crate::Reason;
use crate::abi::Address;

/// Bytes of a packet, wherever they are.
pub trait Packet {
    /// Reads as many bytes from an offset as there is room for; false if the packet does not have
    /// them.
    ///
    /// The room is the caller's and has a value before: the verifier refuses a program in which
    /// bytes without one are carried about, even where nobody looks at them.
    fn read<const N: usize>(&self, at: u32, into: &mut [u8; N]) -> bool;

    /// The same for an offset that is known when this is compiled: false also where the bytes are
    /// not at hand, and only [`Self::read`] can get them.
    fn peek<const N: usize>(&self, at: u32, into: &mut [u8; N]) -> bool;
}

impl Packet for [u8] {
    #[inline(always)]
    fn read<const N: usize>(&self, at: u32, into: &mut [u8; N]) -> bool {
        let found = self.get(at as usize..).and_then(|rest| rest.first_chunk());
        if let Some(bytes) = found {
            *into = *bytes;
        }
        found.is_some()
    }

    #[inline(always)]
    fn peek<const N: usize>(&self, at: u32, into: &mut [u8; N]) -> bool {
        self.read(at, into)
    }
}

/// The most VLAN tags that are looked through (IEEE 802.1ad knows two).
pub const TAGS_MAX: u32 = 4;
/// The most IPv6 extension headers that are looked through: RFC 8200 expects each once, and one
/// of them twice.
pub const EXTENSIONS_MAX: u32 = 8;

/// TCP's number (IANA).
pub const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;
/// What [`Flow::protocol`] has where the transport is not known.
pub const UNKNOWN_PROTOCOL: u8 = 255;

/// Who sends to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    /// Where from; zero until it is known.
    pub source: Address,
    /// Where to; zero until it is known.
    pub destination: Address,
    /// Zero where there are no ports, or nobody has looked.
    pub source_port: u16,
    /// As above.
    pub destination_port: u16,
    /// The transport's number (IANA).
    pub protocol: u8,
}

/// What the headers of a packet say.
///
/// It is filled in from the first header to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Headers {
    /// Where the next header begins; in the end, the transport's.
    pub(crate) at: u32,
    /// IPv4's time to live, IPv6's hop limit.
    pub(crate) hops: u8,
    /// Whether it is IPv6.
    pub(crate) is_v6: bool,
    /// Whether it is a fragment, the first one too.
    pub(crate) is_fragment: bool,
    /// Whether it is a fragment, and not the first one: the transport's header is in another one.
    pub(crate) is_later: bool,
    /// Whether the flow has the ports, if the transport has any.
    pub(crate) has_ports: bool,
}

/// What a transport is to somebody who looks for ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its first four bytes are the ports.
    Ports,
    /// It has none, and carries nobody's data.
    Icmp,
    /// It may carry another packet.
    Other,
}

/// IPv4's addresses among those of IPv6.
#[must_use]
#[inline(always)]
pub const fn mapped(v4: [u8; 4]) -> Address {
    let [a, b, c, d] = v4;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// What a transport is, by its number.
#[inline(always)]
pub(crate) fn kind(protocol: u8) -> Kind {
    match protocol {
        TCP | UDP | DCCP | SCTP | UDP_LITE => Kind::Ports,
        ICMP | ICMP_V6 => Kind::Icmp,
        _ => Kind::Other,
    }
}

/// Reads a packet as almost all are, from the Ethernet header to the ports: untagged, without
/// options or extensions, whole. False for any other, for which [`any`] is to be asked.
///
/// All offsets are constants, so that a program in the kernel reads the bytes where they are; a
/// call for each header would take longer than the verdict.
#[inline(always)]
pub(crate) fn common<P: Packet + ?Sized>(
    packet: &P,
    is_ethernet: bool,
    headers: &mut Headers,
    flow: &mut Flow,
) -> bool {
    if !is_ethernet {
        return common_v4::<P, 0>(packet, headers, flow)
            || common_v6::<P, 0>(packet, headers, flow);
    }
    let mut kind = [0; 2];
    if !packet.peek(12, &mut kind) {
        return false;
    }
    match u16::from_be_bytes(kind) {
        0x0800 => common_v4::<P, 14>(packet, headers, flow),
        0x86dd => common_v6::<P, 14>(packet, headers, flow),
        _ => false,
    }
}

#[inline(always)]
fn common_v4<P: Packet + ?Sized, const AT: u32>(
    packet: &P,
    headers: &mut Headers,
    flow: &mut Flow,
) -> bool {
    let (mut header, mut ports) = ([0; 20], [0; 4]);
    if !packet.peek(AT + 20, &mut ports) || !packet.peek(AT, &mut header) {
        return false;
    }
    let fixed = fixed_v4(header);
    // As long as the ports need it; no length at all is for `v4` to explain.
    let has_ports = fixed.total >= 24 || fixed.total == 0;
    if fixed.first != 0x45 || fixed.place & 0x3fff != 0 || !has_ports {
        return false;
    }
    flow.source = fixed.source;
    flow.destination = fixed.destination;
    flow.protocol = fixed.protocol;
    set_ports(flow, ports);
    headers.has_ports = true;
    headers.hops = fixed.hops;
    headers.at = AT + 20;
    true
}

#[inline(always)]
fn common_v6<P: Packet + ?Sized, const AT: u32>(
    packet: &P,
    headers: &mut Headers,
    flow: &mut Flow,
) -> bool {
    let (mut start, mut ports) = ([0; 8], [0; 4]);
    if !packet.peek(AT + 40, &mut ports) || !packet.peek(AT, &mut start) {
        return false;
    }
    let [first, _, _, _, _, _, next, hops] = start;
    if first >> 4 != 6
        || is_extension(next)
        || !packet.peek(AT + 8, &mut flow.source)
        || !packet.peek(AT + 24, &mut flow.destination)
    {
        return false;
    }
    flow.protocol = next;
    set_ports(flow, ports);
    headers.has_ports = true;
    headers.is_v6 = true;
    headers.hops = hops;
    headers.at = AT + 40;
    true
}

/// Reads any packet's headers of the link and of IP, or gives the verdict that they have.
#[inline(never)]
pub(crate) fn any<P: Packet + ?Sized>(
    packet: &P,
    is_ethernet: bool,
    headers: &mut Headers,
    flow: &mut Flow,
) -> Result<(), Reason> {
    if is_ethernet {
        link(packet, headers)?;
    }
    internet(packet, headers, flow)
}

/// Reads the Ethernet header and the tags behind it; the verdict, if IP does not follow.
#[inline(always)]
fn link<P: Packet + ?Sized>(packet: &P, headers: &mut Headers) -> Result<(), Reason> {
    let mut kind = [0; 2];
    headers.at = 12;
    if !packet.read(headers.at, &mut kind) {
        return Err(Reason::Malformed);
    }
    for _ in 0..TAGS_MAX {
        if is_tag(kind) {
            headers.at += 4;
            if !packet.read(headers.at, &mut kind) {
                return Err(Reason::Malformed);
            }
        }
    }
    headers.at += 2;
    match u16::from_be_bytes(kind) {
        0x0800 | 0x86dd => Ok(()),
        // ARP, slow protocols (a bond's LACP), 802.1X, LLDP.
        0x0806 | 0x8809 | 0x888e | 0x88cc => Err(Reason::LinkControl),
        // A length: 802.3, where only spanning trees (service access point 0x42) live.
        0..0x600 => {
            let mut points = [0; 2];
            Err(match (packet.read(headers.at, &mut points), points) {
                (false, _) => Reason::Malformed,
                (true, [0x42, 0x42]) => Reason::LinkControl,
                (true, _) => Reason::UnknownLink,
            })
        }
        _ if is_tag(kind) => Err(Reason::TooManyHeaders),
        _ => Err(Reason::UnknownLink),
    }
}

/// Whether it is 802.1Q, 802.1ad, or what was used before the latter.
#[inline(always)]
fn is_tag(kind: [u8; 2]) -> bool {
    matches!(u16::from_be_bytes(kind), 0x8100 | 0x88a8 | 0x9100 | 0x9200)
}

/// Whether it is one of IPv6's extension headers: hop-by-hop options, routing, fragment,
/// authentication, destination options.
#[inline(always)]
fn is_extension(next: u8) -> bool {
    matches!(next, 0 | 43 | 44 | 51 | 60)
}

/// Reads the headers of IP; the flow gets the addresses and the protocol.
#[inline(always)]
fn internet<P: Packet + ?Sized>(
    packet: &P,
    headers: &mut Headers,
    flow: &mut Flow,
) -> Result<(), Reason> {
    flow.protocol = UNKNOWN_PROTOCOL;
    let mut first = [0];
    if !packet.read(headers.at, &mut first) {
        return Err(Reason::Malformed);
    }
    match first[0] >> 4 {
        4 => v4(packet, headers, flow),
        6 => v6(packet, headers, flow),
        _ => Err(Reason::Malformed),
    }
}

/// RFC 791, 3.1.
#[inline(always)]
fn v4<P: Packet + ?Sized>(
    packet: &P,
    headers: &mut Headers,
    flow: &mut Flow,
) -> Result<(), Reason> {
    let mut header = [0; 20];
    if !packet.read(headers.at, &mut header) {
        return Err(Reason::Malformed);
    }
    let fixed = fixed_v4(header);
    flow.source = fixed.source;
    flow.destination = fixed.destination;
    flow.protocol = fixed.protocol;
    headers.hops = fixed.hops;
    // More fragments, or not the first one.
    headers.is_fragment = fixed.place & 0x3fff != 0;
    headers.is_later = fixed.place & 0x1fff != 0;
    let (len, total) = (u32::from(fixed.first & 15) * 4, u32::from(fixed.total));
    // No length at all: more than fits in it, which only this kernel makes (BIG TCP, Linux 6.3).
    if len < 20 || (total < len && total != 0) {
        return Err(Reason::Malformed);
    }
    headers.at += len;
    if len > 20 {
        options(packet, headers.at, len - 20)?;
    }
    Ok(())
}

/// The part of a header of IPv4 that every packet has.
struct FixedV4 {
    /// The version, and the length in words of four bytes.
    first: u8,
    /// The length of the whole packet.
    total: u16,
    /// The place of a fragment, and its flags.
    place: u16,
    hops: u8,
    protocol: u8,
    source: Address,
    destination: Address,
}

/// RFC 791, 3.1.
#[inline(always)]
fn fixed_v4(header: [u8; 20]) -> FixedV4 {
    let [first, _, l0, l1, rest @ ..] = header;
    let [_, _, f0, f1, hops, protocol, _, _, addresses @ ..] = rest;
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    FixedV4 {
        first,
        total: u16::from_be_bytes([l0, l1]),
        place: u16::from_be_bytes([f0, f1]),
        hops,
        protocol,
        source: mapped([s0, s1, s2, s3]),
        destination: mapped([d0, d1, d2, d3]),
    }
}

/// Looks for a source route in the options of IPv4 (RFC 791, 3.1), which end at an offset.
///
/// The number of one is looked for wherever it stands, not only where an option begins: a few
/// harmless ones are dropped as well, and nobody's idea of where an option begins matters.
#[inline(never)]
fn options<P: Packet + ?Sized>(packet: &P, end: u32, len: u32) -> Result<(), Reason> {
    let mut verdict = Ok(());
    for back in 1..=10 {
        if back * 4 <= len {
            let mut word = [0; 4];
            if !packet.read(end - back * 4, &mut word) {
                verdict = Err(Reason::Malformed);
            } else if product_of_differences(word) == 0 {
                verdict = Err(Reason::SourceRoute);
            }
        }
    }
    verdict
}

/// Zero if one of four bytes is the number of a source route, loose or strict. Without a branch
/// for each byte: the verifier would follow both sides of all of them.
#[inline(always)]
fn product_of_differences(word: [u8; 4]) -> u64 {
    let mut product = 1;
    for byte in word {
        product *= u64::from(byte ^ 131) * u64::from(byte ^ 137);
    }
    product
}

/// RFC 8200, 3 and 4.
///
/// Not inlined: a program for the kernel has 512 bytes of stack, and each inlined read its own.
#[inline(never)]
fn v6<P: Packet + ?Sized>(
    packet: &P,
    headers: &mut Headers,
    flow: &mut Flow,
) -> Result<(), Reason> {
    let at = headers.at;
    let mut start = [0; 8];
    if !packet.read(at, &mut start)
        || !packet.read(at + 8, &mut flow.source)
        || !packet.read(at + 24, &mut flow.destination)
    {
        return Err(Reason::Malformed);
    }
    let [_, _, _, _, _, _, mut next, hops] = start;
    headers.is_v6 = true;
    headers.hops = hops;
    headers.at += 40;
    for _ in 0..EXTENSIONS_MAX {
        // What follows the header of a later fragment is somewhere in the middle of the packet.
        if is_extension(next) && !headers.is_later {
            let mut extension = [0; 4];
            if !packet.read(headers.at, &mut extension) {
                return Err(Reason::Malformed);
            }
            let [after, len, third, fourth] = extension;
            let len = u32::from(len);
            headers.at += match next {
                44 => 8,
                51 => (len + 2) * 4,
                _ => (len + 1) * 8,
            };
            if next == 43 && fourth != 0 {
                // Segments left: the destination is not where it ends.
                return Err(Reason::SourceRoute);
            }
            if next == 44 {
                let place = u16::from_be_bytes([third, fourth]);
                // All but the reserved bits: a fragment that is the whole is none (RFC 6946).
                headers.is_fragment |= place & 0xfff9 != 0;
                headers.is_later = place & 0xfff8 != 0;
            }
            next = after;
        }
    }
    flow.protocol = next;
    if is_extension(next) && !headers.is_later {
        return Err(Reason::TooManyHeaders);
    }
    Ok(())
}

/// Sees to it that the flow has the ports; false if they are cut off.
#[inline(always)]
pub(crate) fn ports<P: Packet + ?Sized>(packet: &P, headers: &Headers, flow: &mut Flow) -> bool {
    if headers.has_ports {
        return true;
    }
    let mut ports = [0; 4];
    let is_read = packet.read(headers.at, &mut ports);
    set_ports(flow, ports);
    is_read
}

/// Takes the first four bytes of a transport for its ports, if it has any.
#[inline(always)]
fn set_ports(flow: &mut Flow, ports: [u8; 4]) {
    if kind(flow.protocol) == Kind::Ports {
        let [s0, s1, d0, d1] = ports;
        flow.source_port = u16::from_be_bytes([s0, s1]);
        flow.destination_port = u16::from_be_bytes([d0, d1]);
    }
}

/// Reads two addresses of IPv4, one behind the other; false if they are cut off.
#[inline(always)]
pub(crate) fn addresses_v4<P: Packet + ?Sized>(packet: &P, at: u32, flow: &mut Flow) -> bool {
    let mut addresses = [0; 8];
    let is_read = packet.read(at, &mut addresses);
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    flow.source = mapped([s0, s1, s2, s3]);
    flow.destination = mapped([d0, d1, d2, d3]);
    is_read
}
