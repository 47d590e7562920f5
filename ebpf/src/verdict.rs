//! The verdict: whether a packet may pass.
//!
//! A pure function of the packet's bytes, of how it came, and of the policy.
//! The programs in the kernel and the tests on the host run this same code.

use crate::Reason;
use crate::abi::{Address, Allowed, Protected, Settings};
use crate::packet::{self, Flow, Headers, Kind, Packet};

/// What the maps say of an address.
pub trait Policy {
    /// The longest protected prefix that it lies in.
    fn protected(&self, address: &Address) -> Option<&Protected>;
    /// The longest allowed source that it lies in.
    fn allowed(&self, address: &Address) -> Option<&Allowed>;
    /// Whether packets from a port may have to be held back from those who are not allowed,
    /// because some prefix protects it.
    fn holds_answers(&self, port: u16) -> bool;
}

/// How a packet came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was received or is forwarded: the bit of the interface on which it arrived, or none.
    Arrived(u64),
    /// This machine made it, and it leaves by an interface: as above, the bit of the machine.
    Made(u64),
    /// A socket of this machine sends it, which is one of the proxy's or not.
    Socket {
        /// Whether it is one of the proxy's.
        of_proxy: bool,
    },
    /// The kernel itself answers a segment of TCP that no socket is there for any more.
    ///
    /// The last ACK of whoever closed first is such an answer where the other side took its time:
    /// the socket is gone by then. It goes through a socket of the kernel's own.
    Kernel,
}

/// What a packet begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// An Ethernet header.
    Ethernet,
    /// A header of IP.
    Internet,
}

/// Whether a packet may pass, and why; the flow gets what was read on the way.
#[inline(always)]
pub fn packet<P: Packet + ?Sized>(
    packet: &P,
    start: Start,
    origin: Origin,
    policy: &impl Policy,
    flow: &mut Flow,
) -> Reason {
    let mut headers = Headers::default();
    let is_ethernet = start == Start::Ethernet;
    if !packet::common(packet, is_ethernet, &mut headers, flow)
        && let Err(reason) = packet::any(packet, is_ethernet, &mut headers, flow)
    {
        return reason;
    }
    match policy.protected(&flow.destination) {
        Some(protected) => toward(packet, &headers, (origin, protected), policy, flow),
        None => away(packet, &headers, origin, policy, flow),
    }
}

/// Whether a socket may be connected to an address, or send it a datagram.
#[inline(always)]
pub fn connection(
    destination: &Address,
    port: u16,
    of_proxy: bool,
    policy: &impl Policy,
) -> Reason {
    match policy.protected(destination) {
        None => Reason::NotProtected,
        Some(_) if of_proxy => Reason::Proxy,
        Some(protected) if protected.covers(port) => Reason::ForeignSocket,
        Some(_) => Reason::PortNotProtected,
    }
}

impl Settings {
    /// Whether some prefix protects a port and holds its answers back.
    #[must_use]
    #[inline(always)]
    pub fn holds_answers(&self, port: u16) -> bool {
        self.answers_len > 0 && is_among(port, &self.answers)
    }
}

impl Protected {
    /// Whether a port is protected.
    #[must_use]
    #[inline(always)]
    pub fn covers(&self, port: u16) -> bool {
        self.ports_len == 0 || is_among(port, &self.ports)
    }
}

/// Whether a port is among others, whose number is a multiple of four.
///
/// Without a branch for each: the verifier would follow both sides of all of them. A product of
/// four differences of 16 bits fits into 64, and is zero if one of them is.
#[inline(always)]
fn is_among<const N: usize>(port: u16, others: &[u16; N]) -> bool {
    let mut is_among = false;
    for four in others.as_chunks::<4>().0 {
        let mut product = 1;
        for other in four {
            product *= u64::from(other ^ port);
        }
        is_among |= product == 0;
    }
    is_among
}

/// The verdict on a packet to a protected address.
#[inline(always)]
fn toward<P: Packet + ?Sized>(
    packet: &P,
    headers: &Headers,
    (origin, protected): (Origin, &Protected),
    policy: &impl Policy,
    flow: &mut Flow,
) -> Reason {
    let refusal = sender(origin, &flow.source, policy);
    if refusal.passes() {
        return refusal;
    }
    let kind = packet::kind(flow.protocol);
    if headers.is_fragment {
        return if protected.ports_len == 0 {
            refusal
        } else {
            Reason::Fragment
        };
    }
    if kind == Kind::Ports {
        if !packet::ports(packet, headers, flow) {
            return Reason::Malformed;
        }
        if !protected.covers(flow.destination_port) {
            return Reason::PortNotProtected;
        }
        let is_last = match origin {
            Origin::Arrived(_) | Origin::Made(_) => false,
            Origin::Socket { .. } => has_flags(packet, headers, flow, (RST | SYN, RST)),
            Origin::Kernel => {
                has_flags(packet, headers, flow, (RST | SYN, RST))
                    || has_flags(packet, headers, flow, (ALL, ACK))
            }
        };
        if is_last {
            return Reason::Reset;
        }
        return refusal;
    }
    match (protected.ports_len, kind) {
        (1.., Kind::Icmp) => Reason::PortNotProtected,
        (1.., _) => Reason::UnknownTransport,
        (0, Kind::Icmp) => message(packet, headers, (origin, refusal), policy, flow),
        (0, _) => refusal,
    }
}

/// Whether whoever sent a packet may send to protected addresses, or why not.
#[inline(always)]
fn sender(origin: Origin, source: &Address, policy: &impl Policy) -> Reason {
    let interface = match origin {
        Origin::Socket { of_proxy: true } => return Reason::Proxy,
        Origin::Socket { of_proxy: false } | Origin::Kernel => return Reason::ForeignSocket,
        Origin::Arrived(interface) | Origin::Made(interface) => interface,
    };
    match policy.allowed(source) {
        None => Reason::SourceNotAllowed,
        Some(allowed) if allowed.interfaces & interface != 0 => Reason::SourceAllowed,
        Some(_) => Reason::WrongInterface,
    }
}

/// The verdict on a message of ICMP from somebody who is not allowed.
///
/// Without neighbour discovery an IPv6 network does not work, and without errors ("packet too
/// big", RFC 4890, 4.3.1) connections hang: both pass where they cannot be anything else.
#[inline(never)]
fn message<P: Packet + ?Sized>(
    packet: &P,
    headers: &Headers,
    (origin, refusal): (Origin, Reason),
    policy: &impl Policy,
    flow: &Flow,
) -> Reason {
    let mut kind = [0];
    if !packet.read(headers.at, &mut kind) {
        return Reason::Malformed;
    }
    let [kind] = kind;
    // RFC 4861: with a hop limit of 255 no router has passed it on.
    if headers.is_v6 && headers.hops == 255 && matches!(kind, 133..=137) {
        return Reason::NeighbourDiscovery;
    }
    let is_error = match headers.is_v6 {
        true => matches!(kind, 1..=4),
        // Not redirects: they are no errors, no connection needs one, and they turn one away.
        false => matches!(kind, 3 | 11 | 12),
    };
    if !is_error {
        return refusal;
    }
    let at = headers.at + 8;
    let mut quoted = Flow::default();
    let is_read = if headers.is_v6 {
        packet.read(at + 8, &mut quoted.source) && packet.read(at + 24, &mut quoted.destination)
    } else {
        packet::addresses_v4(packet, at + 12, &mut quoted)
    };
    if !is_read {
        return Reason::Malformed;
    }
    let is_answered = match origin {
        Origin::Socket { .. } | Origin::Kernel => true,
        Origin::Made(_) => policy.allowed(&quoted.destination).is_some(),
        Origin::Arrived(interface) => policy
            .allowed(&quoted.destination)
            .is_some_and(|it| it.interfaces & interface != 0),
    };
    if quoted.source == flow.destination && is_answered {
        Reason::ErrorForAllowed
    } else {
        refusal
    }
}

/// The verdict on a packet to an address that is not protected.
#[inline(always)]
fn away<P: Packet + ?Sized>(
    packet: &P,
    headers: &Headers,
    origin: Origin,
    policy: &impl Policy,
    flow: &mut Flow,
) -> Reason {
    if let Origin::Socket { .. } | Origin::Kernel = origin {
        return Reason::NotProtected;
    }
    // A later fragment is useless without the first one, which has the ports.
    if headers.is_later || packet::kind(flow.protocol) != Kind::Ports {
        return Reason::NotProtected;
    }
    if !packet::ports(packet, headers, flow) {
        return Reason::Malformed;
    }
    if !policy.holds_answers(flow.source_port) || policy.allowed(&flow.destination).is_some() {
        return Reason::NotProtected;
    }
    match policy.protected(&flow.source) {
        Some(protected) if protected.ports_len > 0 && protected.covers(flow.source_port) => {
            Reason::AnswerNotAllowed
        }
        _ => Reason::NotProtected,
    }
}

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 0x10;
/// FIN, SYN, RST, PSH, ACK and URG (RFC 9293, 3.1).
const ALL: u8 = 0x3f;

/// Whether it is a TCP segment that carries nothing and has these flags, of those that are looked
/// at.
///
/// That is what the kernel says to a stranger (RFC 9293, 3.5.2) or of a connection that is over,
/// without a socket of the proxy's.
#[inline(always)]
fn has_flags<P: Packet + ?Sized>(
    packet: &P,
    headers: &Headers,
    flow: &Flow,
    (looked_at, wanted): (u8, u8),
) -> bool {
    let mut found = [0; 2];
    if !packet.read(headers.at + 12, &mut found) {
        return false;
    }
    let [length, flags] = found;
    let end = headers.at + u32::from(length >> 4) * 4;
    let carries_nothing = !packet.read(end, &mut [0]);
    flow.protocol == packet::TCP && flags & looked_at == wanted && carries_nothing
}
