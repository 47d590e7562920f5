//! The places where programs stand.

use std::fmt;
use std::path::PathBuf;

use aya::programs::{CgroupSockAddrAttachType, TcAttachType};
use postern_core::perimeter::Place;
use postern_ebpf::abi::program::{
    GATE, PROXY_CONNECT4, PROXY_CONNECT6, PROXY_EGRESS, PROXY_SENDMSG4, PROXY_SENDMSG6,
};
use postern_ebpf::kernel::AttachType;

use super::machine::{Cgroups, Interfaces};
use super::netlink::Side;

/// A place where a program stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hook {
    /// What stands there.
    pub(super) program: Program,
    /// Where that is.
    pub(super) at: At,
}

/// Where a program stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum At {
    /// At an interface.
    Interface {
        /// Its name.
        name: String,
        /// The kernel's number of it.
        index: u32,
    },
    /// In a cgroup and all below it.
    Cgroup {
        /// Its folder.
        path: PathBuf,
        /// The kernel's number of it.
        id: u64,
    },
}

/// A program, by what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    /// The gate where packets come in.
    GateIngress,
    /// The same gate where packets go out.
    GateEgress,
    /// `connect` over IPv4.
    ProxyConnect4,
    /// `connect` over IPv6.
    ProxyConnect6,
    /// `sendmsg` over IPv4.
    ProxySend4,
    /// `sendmsg` over IPv6.
    ProxySend6,
    /// Packets of sockets.
    ProxyEgress,
}

/// How a program is attached, by its kind.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// By tc.
    Tc(Side),
    /// Where sockets are connected or send.
    Call(CgroupSockAddrAttachType),
    /// Where packets of sockets leave.
    Packets,
}

impl Program {
    /// What people call it where it stands.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::GateIngress => "gate_ingress",
            Self::GateEgress => "gate_egress",
            Self::ProxyConnect4
            | Self::ProxyConnect6
            | Self::ProxySend4
            | Self::ProxySend6
            | Self::ProxyEgress => self.object_name(),
        }
    }

    /// Its name in the object and in the kernel.
    pub(super) const fn object_name(self) -> &'static str {
        match self {
            Self::GateIngress | Self::GateEgress => GATE,
            Self::ProxyConnect4 => PROXY_CONNECT4,
            Self::ProxyConnect6 => PROXY_CONNECT6,
            Self::ProxySend4 => PROXY_SENDMSG4,
            Self::ProxySend6 => PROXY_SENDMSG6,
            Self::ProxyEgress => PROXY_EGRESS,
        }
    }

    /// How it is attached.
    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::GateIngress => Kind::Tc(Side::Ingress),
            Self::GateEgress => Kind::Tc(Side::Egress),
            Self::ProxyConnect4 => Kind::Call(CgroupSockAddrAttachType::Connect4),
            Self::ProxyConnect6 => Kind::Call(CgroupSockAddrAttachType::Connect6),
            Self::ProxySend4 => Kind::Call(CgroupSockAddrAttachType::UDPSendMsg4),
            Self::ProxySend6 => Kind::Call(CgroupSockAddrAttachType::UDPSendMsg6),
            Self::ProxyEgress => Kind::Packets,
        }
    }

    /// The kernel's name of where it is attached.
    pub(super) const fn attach_type(self) -> AttachType {
        match self {
            Self::GateIngress => AttachType::TcxIngress,
            Self::GateEgress => AttachType::TcxEgress,
            Self::ProxyConnect4 => AttachType::Connect4,
            Self::ProxyConnect6 => AttachType::Connect6,
            Self::ProxySend4 => AttachType::Send4,
            Self::ProxySend6 => AttachType::Send6,
            Self::ProxyEgress => AttachType::CgroupEgress,
        }
    }

    /// The programs of a place that the object has, each once.
    pub(super) fn loaded_of(place: Place) -> Vec<Self> {
        let mut programs = Self::of(place).to_vec();
        programs.dedup_by_key(|it| it.object_name());
        programs
    }

    /// The programs of a place, by what they stand for.
    const fn of(place: Place) -> &'static [Self] {
        match place {
            Place::Gateway => &[Self::GateIngress, Self::GateEgress],
            Place::DatabaseHost => &[Self::GateIngress],
            Place::ProxyHost => &[
                Self::ProxyConnect4,
                Self::ProxyConnect6,
                Self::ProxySend4,
                Self::ProxySend6,
                Self::ProxyEgress,
            ],
        }
    }
}

impl Side {
    /// As aya calls it.
    pub(super) const fn attach_type(self) -> TcAttachType {
        match self {
            Self::Ingress => TcAttachType::Ingress,
            Self::Egress => TcAttachType::Egress,
        }
    }
}

impl Hook {
    /// Every place where a program of a policy is to stand now.
    pub(super) fn all(
        place: Place,
        interfaces: &Interfaces,
        cgroups: Option<&Cgroups>,
    ) -> Vec<Self> {
        let at_interfaces = interfaces.present.iter().map(|(index, it)| At::Interface {
            name: it.name.clone(),
            index: *index,
        });
        let in_cgroup = cgroups.map(|it| At::Cgroup {
            path: it.root.clone(),
            id: it.root_id,
        });
        let places = at_interfaces.chain(in_cgroup);
        let hooks = places.flat_map(|at| {
            let programs = Program::of(place).iter();
            programs.map(move |program| Self {
                program: *program,
                at: at.clone(),
            })
        });
        hooks.collect()
    }

    /// The name of its link among the pins.
    pub(super) fn pin(&self) -> String {
        let program = self.program.name();
        match &self.at {
            At::Interface { name, .. } => format!("{program}-{}", escaped(name)),
            At::Cgroup { .. } => format!("{program}-cgroup"),
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface { name, .. } => f.write_str(name),
            Self::Cgroup { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

/// The name of an interface as a name on bpffs, which has no dots.
fn escaped(name: &str) -> String {
    name.replace('%', "%25").replace('.', "%2e")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use postern_ebpf::abi::Interface;

    use super::super::machine::Present;
    use super::*;

    #[test]
    fn a_gateway_has_two_programs_at_each_interface() {
        let entry = Interface { bit: 1, link: 1 };
        let present = |name: &str| Present {
            name: name.to_owned(),
            entry,
        };
        let interfaces = Interfaces {
            present: BTreeMap::from([(2, present("eth0")), (3, present("eth0.100"))]),
            awaited: Vec::new(),
        };
        let pins = |place| {
            let hooks = Hook::all(place, &interfaces, None);
            hooks.iter().map(Hook::pin).collect::<Vec<_>>()
        };
        let expect = [
            "gate_ingress-eth0",
            "gate_egress-eth0",
            "gate_ingress-eth0%2e100",
            "gate_egress-eth0%2e100",
        ];
        assert_eq!(pins(Place::Gateway), expect);
        let expect = ["gate_ingress-eth0", "gate_ingress-eth0%2e100"];
        assert_eq!(pins(Place::DatabaseHost), expect);
    }

    #[test]
    fn names_of_interfaces_stay_apart_without_dots() {
        assert_ne!(escaped("a.b"), escaped("a%2eb"));
        assert!(!escaped("a.b").contains('.'));
    }

    #[test]
    fn the_kernel_keeps_the_whole_name_of_a_program() {
        for place in [Place::Gateway, Place::DatabaseHost, Place::ProxyHost] {
            assert!(
                Program::of(place)
                    .iter()
                    .all(|it| it.object_name().len() < 16)
            );
        }
    }
}
