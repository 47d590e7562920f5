//! Packets that are described first and then written as bytes, and what is to become of them,
//! decided from the description: nothing here reads a packet.

mod oracle;
mod strategy;

use postern_ebpf::abi::{Address, Allowed, PORTS_MAX, Protected};
use postern_ebpf::packet::mapped;
use postern_ebpf::verdict::Policy;

pub(crate) use oracle::{expected, expected_of_frame};
pub(crate) use strategy::{origin, sent};

/// The bits of two interfaces.
pub(crate) const LEFT: u64 = 1 << 3;
pub(crate) const RIGHT: u64 = 1 << 40;

/// A policy as lists that are searched from end to end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lists {
    pub(crate) protected: Vec<(Address, u32, Protected)>,
    pub(crate) allowed: Vec<(Address, u32, Allowed)>,
    pub(crate) answers: bool,
}

impl Policy for Lists {
    fn protected(&self, address: &Address) -> Option<&Protected> {
        longest(&self.protected, address)
    }

    fn allowed(&self, address: &Address) -> Option<&Allowed> {
        longest(&self.allowed, address)
    }

    fn holds_answers(&self, port: u16) -> bool {
        self.answers && (port == 5432 || port == 6432)
    }
}

fn longest<'a, V>(list: &'a [(Address, u32, V)], address: &Address) -> Option<&'a V> {
    let bit = |of: &Address, at: u32| of[at as usize / 8] >> (7 - at % 8) & 1;
    let holds = |(prefix, len, _): &&(Address, u32, V)| {
        (0..*len).all(|at| bit(prefix, at) == bit(address, at))
    };
    let found = list.iter().filter(holds).max_by_key(|(_, len, _)| *len);
    found.map(|(_, _, value)| value)
}

/// A policy with each kind of entry, in both families.
pub(crate) fn policy(answers: bool) -> Lists {
    let protected = |ports: &[u16], rule| {
        let mut all = [ports.first().copied().unwrap_or(0); PORTS_MAX];
        all[..ports.len()].copy_from_slice(ports);
        Protected {
            ports: all,
            ports_len: ports.len() as u32,
            rule,
        }
    };
    let allowed = |interfaces, rule| Allowed {
        interfaces,
        rule,
        reserved: 0,
    };
    Lists {
        protected: vec![
            (mapped([10, 20, 0, 0]), 120, protected(&[], 0)),
            (v6(0x20, 0), 64, protected(&[], 0)),
            (mapped([10, 21, 0, 0]), 120, protected(&[5432, 6432], 1)),
            (v6(0x21, 0), 64, protected(&[5432, 6432], 1)),
        ],
        allowed: vec![
            (mapped([10, 10, 0, 5]), 128, allowed(LEFT, 0)),
            (v6(0x10, 5), 128, allowed(LEFT, 0)),
            (mapped([10, 11, 0, 0]), 112, allowed(RIGHT, 1)),
            (v6(0x11, 0), 64, allowed(RIGHT, 1)),
        ],
        answers,
    }
}

fn v6(subnet: u8, host: u8) -> Address {
    let mut address = [0; 16];
    address[0] = 0xfd;
    address[7] = subnet;
    address[15] = host;
    address
}

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// Allowed on the left.
    Proxy,
    /// Allowed on the right.
    Standby,
    /// Beside the proxy, not allowed.
    Neighbour,
    /// Somewhere else.
    Application,
    /// Protected, all of it.
    Database,
    /// Protected, two ports of it.
    Ports,
}

impl Host {
    fn address(self, is_v6: bool) -> Address {
        let (subnet, host) = match self {
            Self::Proxy => (0x10, 5),
            Self::Standby => (0x11, 200),
            Self::Neighbour => (0x10, 4),
            Self::Application => (0x30, 1),
            Self::Database => (0x20, 255),
            Self::Ports => (0x21, 1),
        };
        match is_v6 {
            true => v6(subnet, host),
            false => mapped([10, subnet / 16 * 10 + subnet % 16, 0, host]),
        }
    }

    fn may_arrive_on(self) -> Option<u64> {
        match self {
            Self::Proxy => Some(LEFT),
            Self::Standby => Some(RIGHT),
            _ => None,
        }
    }
}

/// A header between that of IPv6 and the transport, or an option of IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extra {
    /// No operation; hop-by-hop options.
    Padding,
    /// Router alert; destination options of 16 bytes.
    Long,
    /// A loose source route; a routing header with segments left.
    Route,
    /// A strict source route; a routing header that has done its work.
    Routed,
    /// A timestamp; an authentication header.
    Authentication,
}

/// Whether it is a part of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    First,
    /// In units of eight bytes, from 1, and whether it is not the last.
    Later {
        at: u16,
        more: bool,
    },
    /// IPv6 only: a fragment header on the whole (RFC 6946).
    Atomic,
}

/// What is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// The protocol, the ports and the bytes after the header.
    Tcp {
        from: u16,
        to: u16,
        flags: u8,
        data: bool,
    },
    /// A transport that begins with ports, and is not TCP.
    Ports {
        protocol: u8,
        from: u16,
        to: u16,
    },
    /// A message of ICMP, with a packet behind it as if it were an error.
    Message {
        kind: u8,
        hops_are_255: bool,
        quoted_from: Host,
        quoted_to: Host,
    },
    Other(u8),
}

/// What is wrong with the header of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    Nothing,
    /// It has no length, as this kernel writes it where there is no room for it.
    NoLength,
    /// IPv4's length is less than that of the header.
    ShortLength,
    /// IPv4's header ends before the addresses do.
    ShortHeader,
    /// Neither 4 nor 6.
    Version,
}

/// The frame's Ethernet header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Link {
    Tagged(Vec<u16>),
    /// The type of a protocol of the link itself.
    Control(u16),
    SpanningTree,
    /// A length and two service access points.
    Service([u8; 2]),
    Unknown(u16),
}

/// A packet as its sender made it.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) link: Link,
    pub(crate) is_v6: bool,
    pub(crate) source: Host,
    pub(crate) destination: Host,
    pub(crate) flaw: Flaw,
    pub(crate) extras: Vec<Extra>,
    pub(crate) part: Part,
    pub(crate) load: Load,
}

impl Sent {
    /// Its bytes, from the Ethernet header on.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut frame = vec![2; 12];
        match &self.link {
            Link::Tagged(tags) => {
                for tag in tags {
                    frame.extend(tag.to_be_bytes());
                    frame.extend([0, 7]);
                }
                frame.extend(if self.is_v6 {
                    [0x86, 0xdd]
                } else {
                    [0x08, 0x00]
                });
            }
            Link::Control(kind) => frame.extend(kind.to_be_bytes()),
            Link::SpanningTree => frame.extend([0x00, 0x26, 0x42, 0x42]),
            Link::Service([a, b]) => frame.extend([0x00, 0x26, *a, *b]),
            Link::Unknown(kind) => {
                frame.extend(kind.to_be_bytes());
                frame.extend([0x42, 0x42]);
            }
        }
        frame.extend(self.internet());
        frame
    }

    /// Its bytes, from the header of IP on.
    pub(crate) fn internet(&self) -> Vec<u8> {
        let mut bytes = match self.is_v6 {
            true => self.v6(),
            false => self.v4(),
        };
        match (self.flaw, self.is_v6) {
            (Flaw::NoLength, true) => bytes[4..6].fill(0),
            (Flaw::NoLength, false) => bytes[2..4].fill(0),
            (Flaw::ShortLength, false) => bytes[2..4].copy_from_slice(&[0, 19]),
            (Flaw::ShortHeader, false) => bytes[0] = 0x44,
            (Flaw::Version, _) => bytes[0] = 0x55,
            _ => {}
        }
        bytes
    }

    fn v4(&self) -> Vec<u8> {
        let mut options = Vec::new();
        for extra in &self.extras {
            match extra {
                Extra::Padding => options.push(1),
                Extra::Long => options.extend([148, 4, 0, 0]),
                Extra::Route => options.extend([131, 3, 4]),
                Extra::Routed => options.extend([137, 3, 4]),
                Extra::Authentication => options.extend([68, 4, 5, 0]),
            }
        }
        options.truncate(40);
        options.resize(options.len().next_multiple_of(4), 0);
        let load = self.load();
        let place: u16 = match self.part {
            Part::Whole => 0x4000,
            // A bit that means nothing (RFC 791).
            Part::Atomic => 0x8000,
            Part::First => 0x2000,
            Part::Later { at, more } => at | u16::from(more) << 13,
        };
        let total = (20 + options.len() + load.len()) as u16;
        let mut bytes = vec![0x45 + (options.len() / 4) as u8, 0];
        bytes.extend(total.to_be_bytes());
        bytes.extend([0, 1]);
        bytes.extend(place.to_be_bytes());
        bytes.extend([self.hops(), self.protocol(), 0, 0]);
        bytes.extend(&self.source.address(false)[12..]);
        bytes.extend(&self.destination.address(false)[12..]);
        bytes.extend(options);
        bytes.extend(load);
        bytes
    }

    fn v6(&self) -> Vec<u8> {
        let mut headers: Vec<(u8, Vec<u8>)> = Vec::new();
        for extra in &self.extras {
            headers.push(match extra {
                Extra::Padding => (0, vec![0, 0, 1, 4, 0, 0, 0, 0]),
                Extra::Long => (60, [&[0, 1][..], &[0; 14]].concat()),
                Extra::Route => (43, vec![0, 0, 4, 1, 0, 0, 0, 0]),
                Extra::Routed => (43, vec![0, 0, 4, 0, 0, 0, 0, 0]),
                Extra::Authentication => (51, [&[0, 4][..], &[0; 22]].concat()),
            });
        }
        let place = match self.part {
            Part::Whole => None,
            Part::First => Some(1),
            Part::Later { at, more } => Some(at << 3 | u16::from(more)),
            Part::Atomic => Some(0),
        };
        if let Some(place) = place {
            // With bits that mean nothing (RFC 8200, 4.5).
            let [high, low] = (place | 6).to_be_bytes();
            headers.push((44, vec![0, 0xff, high, low, 0, 0, 0, 9]));
        }
        let kinds: Vec<u8> = headers
            .iter()
            .map(|it| it.0)
            .chain([self.protocol()])
            .collect();
        let mut rest = Vec::new();
        for ((_, mut header), next) in headers.into_iter().zip(&kinds[1..]) {
            header[0] = *next;
            rest.extend(header);
        }
        rest.extend(self.load());
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend((rest.len() as u16).to_be_bytes());
        bytes.extend([kinds[0], self.hops()]);
        bytes.extend(self.source.address(true));
        bytes.extend(self.destination.address(true));
        bytes.extend(rest);
        bytes
    }

    fn hops(&self) -> u8 {
        match self.load {
            Load::Message {
                hops_are_255: true, ..
            } => 255,
            _ => 64,
        }
    }

    fn protocol(&self) -> u8 {
        match self.load {
            Load::Tcp { .. } => 6,
            Load::Message { .. } if self.is_v6 => 58,
            Load::Message { .. } => 1,
            Load::Ports { protocol, .. } | Load::Other(protocol) => protocol,
        }
    }

    fn load(&self) -> Vec<u8> {
        let ports = |from: u16, to: u16| [from.to_be_bytes(), to.to_be_bytes()].concat();
        match self.load {
            Load::Tcp {
                from,
                to,
                flags,
                data,
            } => {
                let mut bytes = ports(from, to);
                bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
                if data {
                    bytes.extend(b"select 1");
                }
                bytes
            }
            // Where TCP has its length and flags: it would be a reset.
            Load::Ports { from, to, .. } => [&ports(from, to)[..], &[0; 8], &[0x50, 4]].concat(),
            Load::Message {
                kind,
                quoted_from,
                quoted_to,
                ..
            } => {
                let quoted = Sent {
                    link: Link::SpanningTree,
                    is_v6: self.is_v6,
                    source: quoted_from,
                    destination: quoted_to,
                    flaw: Flaw::Nothing,
                    extras: Vec::new(),
                    part: Part::Whole,
                    load: Load::Other(59),
                };
                [vec![kind, 0, 0, 0, 0, 0, 5, 0], quoted.internet()].concat()
            }
            Load::Other(_) => vec![0; 16],
        }
    }
}
