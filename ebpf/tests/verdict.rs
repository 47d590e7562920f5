//! The verdict against an oracle that decides from the description of a packet.

#[allow(
    dead_code,
    unused_imports,
    reason = "each test has its own use for them"
)]
mod packets;

use packets::{expected, expected_of_frame, origin, policy, sent};
use postern_ebpf::Reason;
use postern_ebpf::packet::Flow;
use postern_ebpf::verdict::{Origin, Start, packet};
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
        sent in sent(), bit in prop_oneof![Just(packets::LEFT), Just(0)], answers: bool,
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
