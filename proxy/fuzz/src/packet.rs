//! Packets, and the verdict on them.

use postern_ebpf::Reason;
use postern_ebpf::abi::{Address, Allowed, PORTS_MAX, Protected};
use postern_ebpf::packet::{Flow, Packet, mapped};
use postern_ebpf::verdict::{self, Origin, Policy, Start};

use crate::pieces::Pieces;

/// The bit of the interface where the allowed sources are.
const LEFT: u64 = 1 << 3;

/// A packet, behind a byte that says how it came.
pub fn packet(data: &[u8]) {
    let mut input = Pieces(data);
    let how = input.byte();
    let bytes = input.0;
    let policy = Fixed {
        answers: how & 1 != 0,
    };
    let start = if how & 2 != 0 {
        Start::Ethernet
    } else {
        Start::Internet
    };
    let origin = match how >> 2 & 7 {
        0 => Origin::Arrived(LEFT),
        1 => Origin::Arrived(LEFT << 1),
        2 => Origin::Arrived(0),
        3 => Origin::Made(LEFT),
        4 => Origin::Made(0),
        5 => Origin::Socket { of_proxy: true },
        6 => Origin::Socket { of_proxy: false },
        _ => Origin::Kernel,
    };
    let mut flow = Flow::default();
    let reason = verdict::packet(bytes, start, origin, &policy, &mut flow);
    check_flow(reason, origin, &flow, policy);

    // Where the bytes are not at hand they are read one header after the other: two ways, and one
    // verdict.
    let mut apart = Flow::default();
    let again = verdict::packet(&Apart(bytes), start, origin, &policy, &mut apart);
    assert_eq!(again, reason, "{origin:?} {start:?} {bytes:02x?}");
    assert_eq!(
        (apart.source, apart.destination),
        (flow.source, flow.destination)
    );

    // Nobody gets a packet through by leaving its end away.
    if let (Origin::Arrived(_), Some((_, short))) = (origin, bytes.split_last()) {
        let cut = verdict::packet(short, start, origin, &policy, &mut Flow::default());
        let is_as_before = cut == reason || cut == Reason::Malformed;
        assert!(
            is_as_before || reason == Reason::Malformed,
            "{cut:?} after {reason:?}"
        );
        assert!(!cut.passes() || cut == reason, "{cut:?} after {reason:?}");
    }
}

/// What passes to a protected address does so for the reason that it says.
fn check_flow(reason: Reason, origin: Origin, flow: &Flow, policy: Fixed) {
    let is_protected = policy.protected(&flow.destination).is_some();
    let may_come = policy.allowed(&flow.source).map(|it| it.interfaces);
    match (reason, origin) {
        (Reason::SourceAllowed, Origin::Arrived(on) | Origin::Made(on)) => {
            assert!(is_protected && may_come.is_some_and(|it| it & on != 0));
        }
        (Reason::Proxy, origin) => {
            assert!(is_protected && origin == (Origin::Socket { of_proxy: true }));
        }
        (Reason::NotProtected | Reason::AnswerNotAllowed, _) => assert!(!is_protected),
        (
            Reason::PortNotProtected
            | Reason::NeighbourDiscovery
            | Reason::ErrorForAllowed
            | Reason::Reset
            | Reason::SourceNotAllowed
            | Reason::WrongInterface
            | Reason::Fragment
            | Reason::UnknownTransport
            | Reason::ForeignSocket,
            _,
        ) => assert!(is_protected),
        (Reason::SourceAllowed | Reason::NoPolicy, _) => panic!("{reason:?} of {origin:?}"),
        (
            Reason::LinkControl
            | Reason::SourceRoute
            | Reason::Malformed
            | Reason::UnknownLink
            | Reason::TooManyHeaders,
            _,
        ) => {}
    }
}

/// A packet of which nothing is at hand.
struct Apart<'a>(&'a [u8]);

impl Packet for Apart<'_> {
    fn read<const N: usize>(&self, at: u32, into: &mut [u8; N]) -> bool {
        self.0.read(at, into)
    }

    fn peek<const N: usize>(&self, _at: u32, _into: &mut [u8; N]) -> bool {
        false
    }
}

/// One protected prefix of each kind and one allowed source, in both families.
#[derive(Debug, Clone, Copy)]
struct Fixed {
    answers: bool,
}

const ALL_PORTS: Protected = Protected {
    ports: [0; PORTS_MAX],
    ports_len: 0,
    rule: 0,
};
const ONE_PORT: Protected = Protected {
    ports: [5432; PORTS_MAX],
    ports_len: 1,
    rule: 1,
};
const ALLOWED: Allowed = Allowed {
    interfaces: LEFT,
    rule: 0,
    reserved: 0,
};

impl Policy for Fixed {
    fn protected(&self, address: &Address) -> Option<&Protected> {
        let begins = |start: &[u8]| address.starts_with(start);
        if begins(&[0xfd, 0x20]) || begins(mapped([10, 20, 0, 0]).split_at(15).0) {
            Some(&ALL_PORTS)
        } else if begins(&[0xfd, 0x21]) || begins(mapped([10, 21, 0, 0]).split_at(15).0) {
            Some(&ONE_PORT)
        } else {
            None
        }
    }

    fn allowed(&self, address: &Address) -> Option<&Allowed> {
        let is_allowed = *address == mapped([10, 10, 0, 5]) || address.starts_with(&[0xfd, 0x10]);
        is_allowed.then_some(&ALLOWED)
    }

    fn holds_answers(&self, port: u16) -> bool {
        self.answers && port == 5432
    }
}
