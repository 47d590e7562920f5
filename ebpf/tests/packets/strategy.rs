//! Packets of every kind, and every way to come.

use postern_ebpf::verdict::Origin;
use proptest::prelude::*;

use super::{Extra, Host, LEFT, Link, Load, Part, RIGHT, Sent};

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
        Just(0x14 - 0x10 + 0x10)
    ];
    let tcp = (port(), port(), flags, any::<bool>());
    prop_oneof![
        6 => tcp.prop_map(|(from, to, flags, data)| Load::Tcp { from, to, flags, data }),
        2 => (port(), port()).prop_map(|(from, to)| Load::Udp { from, to }),
        1 => (port(), port()).prop_map(|(from, to)| Load::Sctp { from, to }),
        1 => Just(Load::Ping),
        1 => any::<bool>().prop_map(|hops_are_255| Load::Discovery { hops_are_255 }),
        2 => (host(), host()).prop_map(|(quoted_from, quoted_to)| Load::Error {
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
        1 => Just(Link::Sap),
        1 => prop_oneof![Just(0x8847_u16), Just(0x8864), Just(0x22f3)].prop_map(Link::Unknown),
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
    let part = prop_oneof![
        6 => Just(Part::Whole),
        1 => Just(Part::First),
        1 => Just(Part::Later),
        1 => Just(Part::Atomic),
    ];
    (link(), any::<bool>(), host(), host(), extras, part, load())
        .prop_map(
            |(link, is_v6, source, destination, extras, part, load)| Sent {
                link,
                is_v6,
                source,
                destination,
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
        Just(Origin::Arrived(LEFT)),
        Just(Origin::Arrived(RIGHT)),
        Just(Origin::Arrived(0)),
        Just(Origin::Made(0)),
        Just(Origin::Made(LEFT)),
        any::<bool>().prop_map(|of_proxy| Origin::Socket { of_proxy }),
    ]
    .boxed()
}
