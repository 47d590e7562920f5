//! Packets of every kind, and every way to come.

use postern_ebpf::verdict::Origin;
use proptest::prelude::*;

use super::{Extra, Flaw, Host, LEFT, Link, Load, Part, RIGHT, Sent};

/// Every host.
pub(crate) fn host() -> BoxedStrategy<Host> {
    prop_oneof![
        Just(Host::Proxy),
        Just(Host::Standby),
        Just(Host::Neighbour),
        Just(Host::Application),
        Just(Host::Database),
        Just(Host::Ports),
    ]
    .boxed()
}

fn port() -> BoxedStrategy<u16> {
    prop_oneof![Just(5432), Just(6432), Just(22), Just(0), any::<u16>()].boxed()
}

fn load() -> BoxedStrategy<Load> {
    let flags = prop_oneof![
        Just(4),
        Just(2),
        Just(0x10),
        Just(6),
        Just(0x14),
        Just(0x11),
        Just(0x18)
    ];
    let tcp = (port(), port(), flags, any::<bool>());
    let others = prop_oneof![Just(17_u8), Just(33), Just(132), Just(136)];
    let kinds = prop_oneof![0..14_u8, 127..139_u8];
    let messages = (kinds, any::<bool>(), host(), host());
    prop_oneof![
        6 => tcp.prop_map(|(from, to, flags, data)| Load::Tcp { from, to, flags, data }),
        3 => (others, port(), port())
            .prop_map(|(protocol, from, to)| Load::Ports { protocol, from, to }),
        4 => messages.prop_map(|(kind, hops_are_255, quoted_from, quoted_to)| Load::Message {
            kind,
            hops_are_255,
            quoted_from,
            quoted_to,
        }),
        1 => prop_oneof![Just(50_u8), Just(47), Just(4), Just(41), Just(59), Just(115)]
            .prop_map(Load::Other),
    ]
    .boxed()
}

fn link() -> BoxedStrategy<Link> {
    let tag = prop_oneof![Just(0x8100_u16), Just(0x88a8), Just(0x9100), Just(0x9200)];
    prop_oneof![
        12 => Just(Link::Tagged(Vec::new())),
        4 => proptest::collection::vec(tag, 1..7).prop_map(Link::Tagged),
        1 => prop_oneof![Just(0x0806_u16), Just(0x8809), Just(0x888e), Just(0x88cc)]
            .prop_map(Link::Control),
        1 => Just(Link::SpanningTree),
        1 => prop_oneof![Just([0xaa, 0xaa]), Just([0x42, 0xaa]), Just([0xaa, 0x42])]
            .prop_map(Link::Service),
        1 => prop_oneof![Just(0x8847_u16), Just(0x8864), Just(0x22f3), Just(0x0600)]
            .prop_map(Link::Unknown),
    ]
    .boxed()
}

/// Packets of every kind.
pub(crate) fn sent() -> BoxedStrategy<Sent> {
    let extra = prop_oneof![
        3 => Just(Extra::Padding),
        3 => Just(Extra::Long),
        1 => Just(Extra::Route),
        1 => Just(Extra::Routed),
        2 => Just(Extra::Authentication),
    ];
    let extras = prop_oneof![
        3 => Just(Vec::new()),
        2 => proptest::collection::vec(extra, 1..12),
    ];
    let places = prop_oneof![2 => 1..0x2000_u16, 1 => Just(0x100), 1 => Just(0x1000)];
    let later = (places, any::<bool>()).prop_map(|(at, more)| Part::Later { at, more });
    let part = prop_oneof![
        6 => Just(Part::Whole),
        1 => Just(Part::First),
        1 => later,
        1 => Just(Part::Atomic),
    ];
    let flaw = prop_oneof![
        12 => Just(Flaw::Nothing),
        1 => Just(Flaw::NoLength),
        1 => Just(Flaw::ShortLength),
        1 => Just(Flaw::ShortHeader),
        1 => Just(Flaw::Version),
    ];
    let hosts = (host(), host());
    (link(), any::<bool>(), hosts, flaw, extras, part, load())
        .prop_map(
            |(link, is_v6, (source, destination), flaw, extras, part, load)| Sent {
                link,
                is_v6,
                source,
                destination,
                flaw,
                extras,
                part,
                load,
            },
        )
        .boxed()
}

/// Every way to come.
pub(crate) fn origin() -> BoxedStrategy<Origin> {
    prop_oneof![
        1 => Just(Origin::Arrived(LEFT)),
        1 => Just(Origin::Arrived(RIGHT)),
        1 => Just(Origin::Arrived(0)),
        1 => Just(Origin::Made(0)),
        1 => Just(Origin::Made(LEFT)),
        2 => any::<bool>().prop_map(|of_proxy| Origin::Socket { of_proxy }),
        1 => Just(Origin::Kernel),
    ]
    .boxed()
}
