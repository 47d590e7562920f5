//! The verdict against an oracle that decides from the description of a packet.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "what a test makes itself is small, and a test that is wrong is to end"
)]

#[cfg(feature = "user")]
mod kernel;
mod packets;

use packets::{
    Flaw, Host, LEFT, Link, Load, Part, Sent, expected, expected_of_frame, origin, policy, sent,
};
use postern_ebpf::Reason;
use postern_ebpf::abi::{ANSWERS_MAX, Mode, Settings};
use postern_ebpf::packet::{Flow, mapped};
use postern_ebpf::verdict::{Origin, Start, connection, packet};
use proptest::prelude::*;

fn verdict(bytes: &[u8], start: Start, origin: Origin, answers: bool) -> Reason {
    packet(bytes, start, origin, &policy(answers), &mut Flow::default())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_frame_gets_the_verdict_that_its_description_has(
        sent in sent(), origin in origin(), answers: bool,
    ) {
        let found = verdict(&sent.bytes(), Start::Ethernet, origin, answers);
        prop_assert_eq!(found, expected_of_frame(&sent, origin, answers));
    }

    #[test]
    fn a_packet_without_a_link_header_gets_it_too(
        sent in sent(), origin in origin(), answers: bool,
    ) {
        let found = verdict(&sent.internet(), Start::Internet, origin, answers);
        prop_assert_eq!(found, expected(&sent, origin, answers));
    }

    #[test]
    fn cutting_a_packet_short_makes_it_malformed_or_nothing_else(
        sent in sent(), bit in prop_oneof![Just(LEFT), Just(0)], answers: bool,
        at in any::<prop::sample::Index>(),
    ) {
        let bytes = sent.bytes();
        let origin = Origin::Arrived(bit);
        let cut = &bytes[..at.index(bytes.len())];
        let (whole, short) = (
            verdict(&bytes, Start::Ethernet, origin, answers),
            verdict(cut, Start::Ethernet, origin, answers),
        );
        prop_assert!(short == whole || short == Reason::Malformed, "{whole:?}, cut {short:?}");
    }

    #[test]
    fn what_nobody_described_gets_a_verdict_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200), origin in origin(), answers: bool,
    ) {
        verdict(&bytes, Start::Ethernet, origin, answers);
        verdict(&bytes, Start::Internet, origin, answers);
    }
}

#[test]
fn the_address_of_a_call_decides_it_with_its_port() {
    let policy = policy(false);
    let database = mapped([10, 20, 0, 1]);
    let ports = mapped([10, 21, 0, 1]);
    let elsewhere = mapped([10, 30, 0, 1]);
    for (destination, port, of_proxy, reason) in [
        (database, 22, false, Reason::ForeignSocket),
        (database, 0, false, Reason::ForeignSocket),
        (database, 22, true, Reason::Proxy),
        (ports, 5432, false, Reason::ForeignSocket),
        (ports, 6432, false, Reason::ForeignSocket),
        (ports, 22, false, Reason::PortNotProtected),
        (ports, 0, false, Reason::PortNotProtected),
        (ports, 5432, true, Reason::Proxy),
        (elsewhere, 5432, false, Reason::NotProtected),
        (elsewhere, 5432, true, Reason::NotProtected),
    ] {
        let found = connection(&destination, port, of_proxy, &policy);
        assert_eq!(found, reason, "{destination:?} {port} {of_proxy}");
    }
}

#[test]
fn an_address_of_ipv4_within_ipv6_is_judged_as_ipv4() {
    let mut sent = tcp(Host::Application, Host::Database);
    sent.is_v6 = true;
    let from = |source: [u8; 4], destination: [u8; 4]| {
        let mut bytes = sent.internet();
        for (at, [a, b, c, d]) in [(8, source), (24, destination)] {
            bytes[at..at + 16].copy_from_slice(&[0; 16]);
            bytes[at + 10..at + 16].copy_from_slice(&[0xff, 0xff, a, b, c, d]);
        }
        verdict(&bytes, Start::Internet, Origin::Arrived(LEFT), false)
    };
    let database = [10, 20, 0, 255];
    assert_eq!(from([10, 30, 0, 1], database), Reason::SourceNotAllowed);
    assert_eq!(from([10, 10, 0, 5], database), Reason::SourceAllowed);
    assert_eq!(from([10, 30, 0, 1], [10, 22, 0, 1]), Reason::NotProtected);
}

#[test]
fn an_answer_is_held_back_by_the_ports_of_its_own_prefix() {
    let mut policy = policy(true);
    let answer = tcp(Host::Ports, Host::Application).bytes();
    let judged = |policy: &packets::Lists| {
        let origin = Origin::Arrived(0);
        packet(
            &answer[..],
            Start::Ethernet,
            origin,
            policy,
            &mut Flow::default(),
        )
    };
    assert_eq!(judged(&policy), Reason::AnswerNotAllowed);
    for (_, _, protected) in &mut policy.protected {
        protected.ports = [6432; 8];
    }
    assert_eq!(judged(&policy), Reason::NotProtected);
}

#[test]
fn of_all_messages_only_errors_and_neighbour_discovery_pass_a_stranger() {
    for (is_v6, kind) in [false, true]
        .into_iter()
        .flat_map(|it| (0..=255).map(move |n| (it, n)))
    {
        let mut sent = tcp(Host::Application, Host::Database);
        sent.is_v6 = is_v6;
        let mut judged = |hops_are_255, quoted_to| {
            sent.load = Load::Message {
                kind,
                hops_are_255,
                quoted_from: Host::Database,
                quoted_to,
            };
            verdict(&sent.bytes(), Start::Ethernet, Origin::Arrived(LEFT), false)
        };
        let (error, near, other) = match (is_v6, kind) {
            (true, 1..=4) | (false, 3 | 11 | 12) => {
                let error = Reason::ErrorForAllowed;
                (error, error, Reason::SourceNotAllowed)
            }
            (true, 133..=137) => {
                let near = Reason::NeighbourDiscovery;
                (Reason::SourceNotAllowed, near, Reason::SourceNotAllowed)
            }
            _ => [Reason::SourceNotAllowed; 3].into(),
        };
        assert_eq!(judged(false, Host::Proxy), error, "{is_v6} {kind}");
        assert_eq!(judged(true, Host::Proxy), near, "{is_v6} {kind}");
        assert_eq!(judged(false, Host::Standby), other, "{is_v6} {kind}");
    }
}

#[test]
fn settings_without_answers_hold_none_back() {
    let mut settings = Settings {
        mode: Mode::Enforce as u32,
        answers_len: 0,
        answers: [0; ANSWERS_MAX],
        cgroup: 0,
        cgroup_level: 0,
        reserved: 0,
        generation: 1,
        digest: [0; 32],
    };
    assert!(!settings.holds_answers(0));
    settings.answers = [5432; ANSWERS_MAX];
    assert!(!settings.holds_answers(5432));
    settings.answers[ANSWERS_MAX - 1] = 6432;
    settings.answers_len = 2;
    let held = [5431, 5432, 5433, 6432, 0].map(|port| settings.holds_answers(port));
    assert_eq!(held, [false, true, false, true, false]);
}

/// A segment from the database's port to another one, or the other way round.
fn tcp(source: Host, destination: Host) -> Sent {
    Sent {
        link: Link::Tagged(Vec::new()),
        is_v6: false,
        source,
        destination,
        flaw: Flaw::Nothing,
        extras: Vec::new(),
        part: Part::Whole,
        load: Load::Tcp {
            from: 5432,
            to: 5432,
            flags: 0x10,
            data: true,
        },
    }
}
