//! Frames that no well-behaved system sends, at a gateway: each has its verdict, is counted for
//! its reason, and arrives at the database or does not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use postern_ebpf::Reason;
use postern_tests::network::frame::{self, Ipv4, Ipv6, MORE_FRAGMENTS, Way, ether, protocol};
use postern_tests::network::{APPLICATION, DATABASE, HOST, PROXY, ROUTER};

use crate::Test;
use crate::stage::{OPEN_PORT, PORT, Stage};
use crate::verdicts::{Case, Path, delivered, judged};

pub(crate) const TESTS: &[Test] = tests![
    fragments_do_not_hide_the_port,
    vlan_tags_do_not_hide_the_packet,
    options_do_not_hide_the_transport,
    a_source_route_does_not_hide_the_destination,
    other_transports_are_taken_for_what_they_may_carry,
    what_is_cut_short_or_contradicts_itself_is_dropped,
    what_is_not_known_is_dropped,
    icmp_passes_where_ports_are_protected,
    the_proxys_own_frames_pass,
    answers_to_others_are_dropped,
];

/// The application's port; any.
const FROM_PORT: u16 = 40_000;

/// From the application to a port of the database.
pub(crate) fn ways(port: u16) -> [Way; 2] {
    let [v4, v6] = APPLICATION.both(HOST);
    [way(v4, port), way(v6, port)]
}

/// From somebody to a port of the database, in the family of the source.
pub(crate) fn way(source: IpAddr, port: u16) -> Way {
    let destination = match source {
        IpAddr::V4(_) => DATABASE.v4(HOST).into(),
        IpAddr::V6(_) => DATABASE.v6(HOST).into(),
    };
    Way {
        source,
        destination,
        ports: (FROM_PORT, port),
    }
}

/// A frame from the application to the router.
pub(crate) fn frame(kind: u16, payload: &[u8]) -> Vec<u8> {
    let (to, from) = (APPLICATION.hardware(ROUTER), APPLICATION.hardware(HOST));
    frame::ethernet(to, from, kind, payload)
}

/// A frame around a packet, by the family of its addresses.
pub(crate) fn packet(way: Way, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let packet = frame::ip(way, protocol, payload);
    frame(frame::kind_of(way.source), &packet)
}

/// The IPv4 header of the application's packets to the database, to be changed.
fn v4(protocol: u8) -> Ipv4 {
    Ipv4::new(APPLICATION.v4(HOST), DATABASE.v4(HOST), protocol)
}

/// As above for IPv6.
fn v6(next: u8) -> Ipv6 {
    Ipv6::new(APPLICATION.v6(HOST), DATABASE.v6(HOST), next)
}

fn check(stage: &Stage, cases: &[Case]) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    Path::in_question(stage).check(&policy, cases)
}

fn fragments_do_not_hide_the_port(stage: &Stage) -> Result<()> {
    let [to_v4, to_v6] = ways(PORT);
    let fragment = Reason::Fragment;
    check(
        stage,
        &[
            delivered("the first IPv4 fragment", fragment, |text| {
                let mut ip = v4(protocol::UDP);
                ip.fragment = MORE_FRAGMENTS;
                frame(ether::IPV4, &ip.around(&frame::udp(to_v4, text)))
            }),
            delivered("a later IPv4 fragment", fragment, |text| {
                let mut ip = v4(protocol::UDP);
                ip.fragment = 4;
                frame(ether::IPV4, &ip.around(text))
            }),
            delivered(
                "a later IPv4 fragment that says it is TCP",
                fragment,
                |text| {
                    let mut ip = v4(protocol::TCP);
                    ip.fragment = MORE_FRAGMENTS | 1;
                    frame(ether::IPV4, &ip.around(text))
                },
            ),
            delivered("the first IPv6 fragment", fragment, |text| {
                let udp = frame::udp(to_v6, text);
                let part = frame::fragment(protocol::UDP, 0, true, &udp);
                frame(ether::IPV6, &v6(protocol::FRAGMENT).around(&part))
            }),
            delivered("a later IPv6 fragment", fragment, |text| {
                let part = frame::fragment(protocol::UDP, 4, false, text);
                frame(ether::IPV6, &v6(protocol::FRAGMENT).around(&part))
            }),
            delivered(
                "a fragment that is the whole",
                Reason::SourceNotAllowed,
                |text| {
                    let udp = frame::udp(to_v6, text);
                    let part = frame::fragment(protocol::UDP, 0, false, &udp);
                    frame(ether::IPV6, &v6(protocol::FRAGMENT).around(&part))
                },
            ),
        ],
    )
}

/// A packet behind VLAN tags, outermost first, each with the kind of tag that it is.
fn tagged(tags: &[(u16, u16)], way: Way, text: &[u8]) -> Vec<u8> {
    let mut kind = frame::kind_of(way.source);
    let mut payload = frame::ip(way, protocol::UDP, &frame::udp(way, text));
    for &(tag, number) in tags.iter().rev() {
        payload = frame::vlan(number, kind, &payload);
        kind = tag;
    }
    frame(kind, &payload)
}

fn vlan_tags_do_not_hide_the_packet(stage: &Stage) -> Result<()> {
    let [to_v4, to_v6] = ways(PORT);
    let [open, _] = ways(OPEN_PORT);
    let not_allowed = Reason::SourceNotAllowed;
    let (vlan, service) = (ether::VLAN, ether::SERVICE_VLAN);
    check(
        stage,
        &[
            // Tags with the number 0 only say how urgent a frame is: every system takes them.
            delivered("a priority tag", not_allowed, |text| {
                tagged(&[(vlan, 0)], to_v4, text)
            }),
            delivered("a priority tag before IPv6", not_allowed, |text| {
                tagged(&[(vlan, 0)], to_v6, text)
            }),
            delivered("two priority tags", not_allowed, |text| {
                tagged(&[(service, 0), (vlan, 0)], to_v4, text)
            }),
            delivered(
                "a priority tag before an open port",
                Reason::PortNotProtected,
                |text| tagged(&[(vlan, 0)], open, text),
            ),
            judged("a VLAN", not_allowed, |text| {
                tagged(&[(vlan, 10)], to_v4, text)
            }),
            judged("a VLAN in a VLAN", not_allowed, |text| {
                tagged(&[(service, 10), (vlan, 20)], to_v6, text)
            }),
            delivered(
                "more tags than anybody looks through",
                Reason::TooManyHeaders,
                |text| tagged(&[(vlan, 0); 7], to_v4, text),
            ),
        ],
    )
}

fn options_do_not_hide_the_transport(stage: &Stage) -> Result<()> {
    let [to_v4, to_v6] = ways(PORT);
    let not_allowed = Reason::SourceNotAllowed;
    let udp = protocol::UDP;
    check(
        stage,
        &[
            delivered("IPv4 options", not_allowed, |text| {
                let mut ip = v4(udp);
                // No operation, three times, and the end of the list.
                ip.options = vec![1, 1, 1, 0];
                frame(ether::IPV4, &ip.around(&frame::udp(to_v4, text)))
            }),
            delivered(
                "as many IPv4 options as there can be",
                not_allowed,
                |text| {
                    let mut ip = v4(udp);
                    ip.options = vec![1; 40];
                    frame(ether::IPV4, &ip.around(&frame::udp(to_v4, text)))
                },
            ),
            delivered("options for every router", not_allowed, |text| {
                let inner = frame::options(udp, &frame::udp(to_v6, text));
                frame(ether::IPV6, &v6(protocol::HOP_BY_HOP).around(&inner))
            }),
            delivered("options for the destination, twice", not_allowed, |text| {
                let inner = frame::options(udp, &frame::udp(to_v6, text));
                let outer = frame::options(protocol::DESTINATION_OPTIONS, &inner);
                frame(
                    ether::IPV6,
                    &v6(protocol::DESTINATION_OPTIONS).around(&outer),
                )
            }),
            delivered(
                "more headers than are looked through",
                Reason::TooManyHeaders,
                |text| {
                    let mut inner = frame::options(udp, &frame::udp(to_v6, text));
                    for _ in 0..20 {
                        inner = frame::options(protocol::DESTINATION_OPTIONS, &inner);
                    }
                    frame(
                        ether::IPV6,
                        &v6(protocol::DESTINATION_OPTIONS).around(&inner),
                    )
                },
            ),
        ],
    )
}

fn a_source_route_does_not_hide_the_destination(stage: &Stage) -> Result<()> {
    let [to_v4, to_v6] = ways(PORT);
    // The packet is for the router, which is to pass it on to the database.
    let routed = |kind: u8, text: &[u8]| {
        let mut ip = v4(protocol::UDP);
        ip.destination = APPLICATION.v4(ROUTER);
        // Its kind, 7 bytes, and the place of the next address (RFC 791, 3.1).
        ip.options = vec![kind, 7, 4];
        ip.options.extend(DATABASE.v4(HOST).octets());
        frame(ether::IPV4, &ip.around(&frame::udp(to_v4, text)))
    };
    check(
        stage,
        &[
            delivered("a loose source route", Reason::SourceRoute, |text| {
                routed(131, text)
            }),
            delivered("a strict source route", Reason::SourceRoute, |text| {
                routed(137, text)
            }),
            delivered(
                "a routing header with a segment left",
                Reason::SourceRoute,
                |text| {
                    let through = APPLICATION.v6(ROUTER);
                    let udp = frame::udp(to_v6, text);
                    let last = DATABASE.v6(HOST);
                    let routing = frame::segment_routing(protocol::UDP, last, through, &udp);
                    let ip = Ipv6::new(APPLICATION.v6(HOST), through, protocol::ROUTING);
                    frame(ether::IPV6, &ip.around(&routing))
                },
            ),
        ],
    )
}

fn other_transports_are_taken_for_what_they_may_carry(stage: &Stage) -> Result<()> {
    let [to_v4, to_v6] = ways(PORT);
    let [open, _] = ways(OPEN_PORT);
    let unknown = Reason::UnknownTransport;
    check(
        stage,
        &[
            delivered("ESP", unknown, |text| packet(to_v4, protocol::ESP, text)),
            delivered("GRE", unknown, |text| packet(to_v4, protocol::GRE, text)),
            delivered("a packet in a packet", unknown, |text| {
                let inner = frame::ip(to_v4, protocol::UDP, &frame::udp(to_v4, text));
                packet(to_v4, protocol::IPIP, &inner)
            }),
            delivered("an experiment over IPv6", unknown, |text| {
                packet(to_v6, 253, text)
            }),
            delivered(
                "SCTP to a protected port",
                Reason::SourceNotAllowed,
                |text| {
                    // It has the ports where UDP has them, and nobody looks further.
                    packet(to_v4, protocol::SCTP, &frame::udp(to_v4, text))
                },
            ),
            delivered("SCTP to an open port", Reason::PortNotProtected, |text| {
                packet(open, protocol::SCTP, &frame::udp(open, text))
            }),
        ],
    )
}

fn what_is_cut_short_or_contradicts_itself_is_dropped(stage: &Stage) -> Result<()> {
    let [to_v4, to_v6] = ways(PORT);
    let (malformed, not_allowed) = (Reason::Malformed, Reason::SourceNotAllowed);
    let whole = |text: &[u8]| frame::ip(to_v4, protocol::UDP, &frame::udp(to_v4, text));
    check(
        stage,
        &[
            judged("half an IPv4 header", malformed, |text| {
                frame(ether::IPV4, &whole(text)[..10])
            }),
            judged("half an IPv6 header", malformed, |text| {
                let whole = frame::ip(to_v6, protocol::UDP, &frame::udp(to_v6, text));
                frame(ether::IPV6, &whole[..20])
            }),
            judged("a header shorter than headers are", malformed, |text| {
                let mut packet = whole(text);
                packet[0] = 0x44;
                frame(ether::IPV4, &packet)
            }),
            judged("IPv6 that is called IPv4", not_allowed, |text| {
                let packet = frame::ip(to_v6, protocol::UDP, &frame::udp(to_v6, text));
                frame(ether::IPV4, &packet)
            }),
            judged("more than there is", not_allowed, |text| {
                frame(ether::IPV4, &whole(text)[..30])
            }),
            judged("TCP whose ports are cut off", malformed, |_| {
                packet(to_v4, protocol::TCP, &[0])
            }),
            delivered("an extension header that does not end", malformed, |text| {
                // It says that it has 255 more units of 8 bytes.
                let header = [&[protocol::UDP, 255, 1, 4, 0, 0, 0, 0], text].concat();
                frame(
                    ether::IPV6,
                    &v6(protocol::DESTINATION_OPTIONS).around(&header),
                )
            }),
        ],
    )
}

fn what_is_not_known_is_dropped(stage: &Stage) -> Result<()> {
    let [to_v4, _] = ways(PORT);
    let inner = |text: &[u8]| frame::ip(to_v4, protocol::UDP, &frame::udp(to_v4, text));
    let mapped = |address: Ipv4Addr| -> Ipv6Addr { address.to_ipv6_mapped() };
    let unknown = Reason::UnknownLink;
    check(
        stage,
        &[
            judged("MPLS", unknown, |text| {
                // A label that is the last one.
                let label = [&[0, 1, 1, 64], inner(text).as_slice()].concat();
                frame(ether::MPLS, &label)
            }),
            judged("PPPoE", unknown, |text| {
                let session = [&[0x11, 0, 0, 1, 0, 40, 0, 0x21], inner(text).as_slice()].concat();
                frame(ether::PPPOE, &session)
            }),
            judged("a kind for experiments", unknown, |text| {
                frame(ether::EXPERIMENT, text)
            }),
            judged("LLDP", Reason::LinkControl, |text| frame(0x88cc, text)),
            judged(
                "IPv6 to a mapped address",
                Reason::SourceNotAllowed,
                |text| {
                    let to = mapped(DATABASE.v4(HOST));
                    let ip = Ipv6::new(APPLICATION.v6(HOST), to, protocol::UDP);
                    frame(ether::IPV6, &ip.around(&frame::udp(to_v4, text)))
                },
            ),
        ],
    )
}

fn icmp_passes_where_ports_are_protected(stage: &Stage) -> Result<()> {
    let [to_v4, to_v6] = ways(PORT);
    let open = Reason::PortNotProtected;
    check(
        stage,
        &[
            delivered("an IPv4 echo request", open, |text| {
                packet(to_v4, protocol::ICMP, &frame::icmp(to_v4, 8, 0, text))
            }),
            delivered("an IPv6 echo request", open, |text| {
                packet(to_v6, protocol::ICMPV6, &frame::icmp(to_v6, 128, 0, text))
            }),
        ],
    )
}

fn the_proxys_own_frames_pass(stage: &Stage) -> Result<()> {
    let [v4, v6] = PROXY.both(HOST).map(|it| way(it, PORT));
    let from_proxy = |packet: &[u8], kind: u16| {
        frame::ethernet(PROXY.hardware(ROUTER), PROXY.hardware(HOST), kind, packet)
    };
    let allowed = Reason::SourceAllowed;
    let policy = stage.gateway(|_| ())?;
    let path = Path {
        from: &stage.network.proxy,
        to: &stage.network.database,
    };
    path.check(
        &policy,
        &[
            delivered("a datagram", allowed, |text| {
                let packet = frame::ip(v4, protocol::UDP, &frame::udp(v4, text));
                from_proxy(&packet, ether::IPV4)
            }),
            delivered("a fragment", allowed, |text| {
                let mut ip = Ipv4::new(PROXY.v4(HOST), DATABASE.v4(HOST), protocol::TCP);
                ip.fragment = 4;
                from_proxy(&ip.around(text), ether::IPV4)
            }),
            delivered("extension headers", allowed, |text| {
                let inner = frame::options(protocol::UDP, &frame::udp(v6, text));
                let packet = frame::ip(v6, protocol::DESTINATION_OPTIONS, &inner);
                from_proxy(&packet, ether::IPV6)
            }),
            delivered("another transport", allowed, |text| {
                from_proxy(&frame::ip(v4, protocol::ESP, text), ether::IPV4)
            }),
        ],
    )
}

fn answers_to_others_are_dropped(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    let path = Path {
        from: &stage.network.database,
        to: &stage.network.application,
    };
    let answer = |port: u16, text: &[u8]| {
        let way = Way {
            source: DATABASE.v4(HOST).into(),
            destination: APPLICATION.v4(HOST).into(),
            ports: (port, FROM_PORT),
        };
        let packet = frame::ip(way, protocol::TCP, &frame::syn(way, text));
        let (to, from) = (DATABASE.hardware(ROUTER), DATABASE.hardware(HOST));
        frame::ethernet(to, from, ether::IPV4, &packet)
    };
    path.check(
        &policy,
        &[
            delivered("from the database", Reason::AnswerNotAllowed, |text| {
                answer(PORT, text)
            }),
            delivered("from another port", Reason::NotProtected, |text| {
                answer(OPEN_PORT, text)
            }),
        ],
    )
}
