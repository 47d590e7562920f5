//! What is to become of a packet, from its description.

use postern_ebpf::Reason;
use postern_ebpf::verdict::Origin;

use super::{Extra, Flaw, Host, Link, Load, Part, Sent};

/// What is to become of a packet that begins with an Ethernet header.
pub(crate) fn expected_of_frame(sent: &Sent, origin: Origin, answers: bool) -> Reason {
    match &sent.link {
        Link::Control(_) | Link::SpanningTree => Reason::LinkControl,
        Link::Service(_) | Link::Unknown(_) => Reason::UnknownLink,
        Link::Tagged(tags) if tags.len() > 4 => Reason::TooManyHeaders,
        Link::Tagged(_) => expected(sent, origin, answers),
    }
}

/// What is to become of a packet that begins with the header of IP.
pub(crate) fn expected(sent: &Sent, origin: Origin, answers: bool) -> Reason {
    if let Some(reason) = expected_of_headers(sent) {
        return reason;
    }
    let is_fragment = matches!(sent.part, Part::First | Part::Later { .. });
    let is_named = |port| port == 5432 || port == 6432;
    let ports = match sent.load {
        Load::Tcp { from, to, .. } | Load::Ports { from, to, .. } => Some((from, to)),
        _ => None,
    };
    let refusal = expected_of_sender(sent, origin);
    if !matches!(sent.destination, Host::Database | Host::Ports) {
        let is_of_socket = matches!(origin, Origin::Socket { .. } | Origin::Kernel);
        let is_later = matches!(sent.part, Part::Later { .. });
        let is_answer = answers && !is_of_socket && sent.source == Host::Ports && !is_later;
        return match ports {
            Some((from, _))
                if is_answer && is_named(from) && sent.destination.may_arrive_on().is_none() =>
            {
                Reason::AnswerNotAllowed
            }
            _ => Reason::NotProtected,
        };
    }
    let has_ports = sent.destination == Host::Ports;
    match (sent.load, ports) {
        _ if refusal.passes() => refusal,
        _ if is_fragment && has_ports => Reason::Fragment,
        _ if is_fragment => refusal,
        (_, Some((_, to))) if has_ports && !is_named(to) => Reason::PortNotProtected,
        (load, _) if is_last_word(load, origin) => Reason::Reset,
        (_, Some(_)) => refusal,
        (Load::Message { .. }, _) if has_ports => Reason::PortNotProtected,
        _ if has_ports => Reason::UnknownTransport,
        (
            Load::Message {
                kind: 133..=137,
                hops_are_255: true,
                ..
            },
            _,
        ) if sent.is_v6 => Reason::NeighbourDiscovery,
        (
            Load::Message {
                kind,
                quoted_from,
                quoted_to,
                ..
            },
            _,
        ) if is_error(kind, sent.is_v6) && quoted_from == sent.destination => {
            if is_answered(origin, quoted_to) {
                Reason::ErrorForAllowed
            } else {
                refusal
            }
        }
        _ => refusal,
    }
}

/// A reset, or the kernel's own bare acknowledgement.
fn is_last_word(load: Load, origin: Origin) -> bool {
    let Load::Tcp {
        flags, data: false, ..
    } = load
    else {
        return false;
    };
    match origin {
        Origin::Arrived(_) | Origin::Made(_) => false,
        Origin::Socket { .. } => matches!(flags, 4 | 0x14),
        Origin::Kernel => matches!(flags, 4 | 0x14 | 0x10),
    }
}

/// Whether an error may be the answer to a packet of a host.
fn is_answered(origin: Origin, quoted_to: Host) -> bool {
    match (origin, quoted_to.may_arrive_on()) {
        (Origin::Socket { .. } | Origin::Kernel, _) | (Origin::Made(_), Some(_)) => true,
        (Origin::Arrived(interface), Some(on)) => interface & on != 0,
        (_, None) => false,
    }
}

/// What cannot be delivered, is too big, went too far, or is not understood.
fn is_error(kind: u8, is_v6: bool) -> bool {
    let kinds: &[u8] = if is_v6 { &[1, 2, 3, 4] } else { &[3, 11, 12] };
    kinds.contains(&kind)
}

/// The verdict that the headers alone have.
fn expected_of_headers(sent: &Sent) -> Option<Reason> {
    match (sent.flaw, sent.is_v6) {
        (Flaw::Version, _) | (Flaw::ShortLength | Flaw::ShortHeader, false) => {
            return Some(Reason::Malformed);
        }
        _ => {}
    }
    if !sent.is_v6 {
        let mut room = 40_i32;
        for extra in &sent.extras {
            let len = match extra {
                Extra::Padding => 1,
                Extra::Long | Extra::Authentication => 4,
                Extra::Route | Extra::Routed => 3,
            };
            if room <= 0 {
                return None;
            }
            if matches!(extra, Extra::Route | Extra::Routed) {
                return Some(Reason::SourceRoute);
            }
            room -= len;
        }
        return None;
    }
    let limit = sent.extras.iter().take(8);
    let mut seen = 0;
    for extra in limit {
        if *extra == Extra::Route {
            return Some(Reason::SourceRoute);
        }
        seen += 1;
    }
    let is_fragment_seen = sent.part != Part::Whole && seen < 8;
    let all = sent.extras.len() + usize::from(sent.part != Part::Whole);
    // A later fragment ends the chain: what follows is somewhere in the middle of the packet.
    let ends = is_fragment_seen && matches!(sent.part, Part::Later { .. });
    (all > 8 && !ends).then_some(Reason::TooManyHeaders)
}

fn expected_of_sender(sent: &Sent, origin: Origin) -> Reason {
    match (origin, sent.source.may_arrive_on()) {
        (Origin::Socket { of_proxy: true }, _) => Reason::Proxy,
        (Origin::Socket { of_proxy: false } | Origin::Kernel, _) => Reason::ForeignSocket,
        (Origin::Arrived(on) | Origin::Made(on), Some(may)) if on & may != 0 => {
            Reason::SourceAllowed
        }
        (_, Some(_)) => Reason::WrongInterface,
        (_, None) => Reason::SourceNotAllowed,
    }
}
