//! What still passes at a gateway where all ports and protocols are protected.

use std::net::IpAddr;

use anyhow::Result;
use postern_ebpf::Reason;
use postern_tests::ConfigFile;
use postern_tests::network::frame::{self, Ipv6, Way, protocol};
use postern_tests::network::{APPLICATION, DATABASE, HOST, PROXY, ROUTER};

use crate::Test;
use crate::frames::{self, packet, way, ways};
use crate::stage::{OPEN_PORT, PORT, Stage};
use crate::verdicts::{Path, delivered, judged};

pub(crate) const TESTS: &[Test] = tests![
    without_ports_nothing_but_neighbour_discovery_passes,
    an_error_passes_if_it_is_about_what_the_proxy_was_sent,
];

/// A frame of the router's segment of the proxy.
fn from_proxys_segment(way: Way, payload: &[u8]) -> Vec<u8> {
    let protocol = if way.source.is_ipv4() {
        protocol::ICMP
    } else {
        protocol::ICMPV6
    };
    let packet = frame::ip(way, protocol, payload);
    let (to, from) = (PROXY.hardware(ROUTER), PROXY.hardware(77));
    frame::ethernet(to, from, frame::kind_of(way.source), &packet)
}

/// Everything of the protected prefixes is protected.
fn all_ports(config: &mut ConfigFile) {
    config.unset("perimeter.protect", "ports");
}

fn without_ports_nothing_but_neighbour_discovery_passes(stage: &Stage) -> Result<()> {
    let [v4, v6] = ways(OPEN_PORT);
    let not_allowed = Reason::SourceNotAllowed;
    let policy = stage.gateway(all_ports)?;
    Path::in_question(stage).check(
        &policy,
        &[
            delivered("a datagram", not_allowed, |text| {
                packet(v4, protocol::UDP, &frame::udp(v4, text))
            }),
            delivered("an echo request", not_allowed, |text| {
                packet(v4, protocol::ICMP, &frame::icmp(v4, 8, 0, text))
            }),
            delivered("an IPv6 echo request", not_allowed, |text| {
                packet(v6, protocol::ICMPV6, &frame::icmp(v6, 128, 0, text))
            }),
            delivered("a solicitation that was forwarded", not_allowed, |text| {
                packet(v6, protocol::ICMPV6, &frame::icmp(v6, 135, 0, text))
            }),
            // It passes where it comes in; where it leaves, a router has passed it on.
            judged(
                "a solicitation of the segment",
                Reason::NeighbourDiscovery,
                |text| {
                    let mut ip =
                        Ipv6::new(APPLICATION.v6(HOST), DATABASE.v6(HOST), protocol::ICMPV6);
                    ip.hops = 255;
                    let packet = ip.around(&frame::icmp(v6, 135, 0, text));
                    frames::frame(frame::ether::IPV6, &packet)
                },
            ),
        ],
    )
}

/// An error about a packet from the database to somebody.
fn error_about(addressee: IpAddr, from: Way, text: &[u8]) -> Vec<u8> {
    let quoted = Way {
        source: from.destination,
        destination: addressee,
        ports: (PORT, 40_000),
    };
    let quoted = frame::ip(quoted, protocol::UDP, &frame::udp(quoted, text));
    // Four bytes that are not used, and the packet; the port was not reachable.
    let body = [&[0; 4], quoted.as_slice()].concat();
    let (kind, code) = if from.source.is_ipv4() {
        (3, 3)
    } else {
        (1, 4)
    };
    frame::icmp(from, kind, code, &body)
}

fn an_error_passes_if_it_is_about_what_the_proxy_was_sent(stage: &Stage) -> Result<()> {
    let [for_v4, for_v6] = PROXY.both(HOST);
    // Another router of the proxy's segment says so.
    let [from_v4, from_v6] = PROXY.both(77).map(|it| way(it, PORT));
    let policy = stage.gateway(all_ports)?;
    let path = Path {
        from: &stage.network.proxy,
        to: &stage.network.database,
    };
    path.check(
        &policy,
        &[
            delivered("about the proxy's", Reason::ErrorForAllowed, |text| {
                from_proxys_segment(from_v4, &error_about(for_v4, from_v4, text))
            }),
            delivered(
                "about the proxy's over IPv6",
                Reason::ErrorForAllowed,
                |text| from_proxys_segment(from_v6, &error_about(for_v6, from_v6, text)),
            ),
            delivered("about another's", Reason::SourceNotAllowed, |text| {
                let other = APPLICATION.v4(HOST).into();
                from_proxys_segment(from_v4, &error_about(other, from_v4, text))
            }),
        ],
    )?;
    let [app_v4, _] = ways(PORT);
    Path::in_question(stage).check(
        &policy,
        &[delivered(
            "from where the proxy is not",
            Reason::SourceNotAllowed,
            |text| packet(app_v4, protocol::ICMP, &error_about(for_v4, app_v4, text)),
        )],
    )
}
