//! What a policy does not do, as docs/perimeter.md says; and what it does where one might doubt.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use postern_tests::network::frame::{self, Way, protocol};
use postern_tests::network::{APPLICATION, DATABASE, HOST, Network, PROXY, ROUTER, Subnet, Tap};
use postern_tests::policy::said;
use postern_tests::wait_until;

use crate::Test;
use crate::frames::{packet, ways};
use crate::stage::{ECHO_PORT, RETRY_LIMIT, Stage, database, marker};

pub(crate) const TESTS: &[Test] = tests![
    the_unix_socket_of_postgresql_is_not_covered,
    frames_of_root_on_the_proxys_machine_are_not_covered,
    root_on_the_proxys_machine_may_become_the_proxy,
    the_segment_of_the_proxy_is_believed,
    a_translated_destination_is_judged_as_it_leaves_the_gateway,
    frames_past_the_senders_own_queue_are_dropped,
];

fn the_unix_socket_of_postgresql_is_not_covered(stage: &Stage) -> Result<()> {
    let policy = stage.database_host(|_| ())?;
    policy.load()?;
    stage.expect(&[stage.application()], false)?;
    ensure!(stage.postgres.sql("select 1")? == "1");
    policy.unload()
}

/// A datagram to the echo in a frame to the router, from one of two machines of a subnet.
fn frame_from(subnet: Subnet, machine: u8, source: IpAddr, text: &str) -> Vec<u8> {
    let way = Way {
        source,
        destination: DATABASE.v4(HOST).into(),
        ports: (40_000, ECHO_PORT),
    };
    let packet = frame::ip(way, protocol::UDP, &frame::udp(way, text.as_bytes()));
    let (to, from) = (subnet.hardware(ROUTER), subnet.hardware(machine));
    frame::ethernet(to, from, frame::kind_of(source), &packet)
}

fn frames_of_root_on_the_proxys_machine_are_not_covered(stage: &Stage) -> Result<()> {
    let policy = stage.proxy_host(|_| ())?;
    policy.load()?;
    let tap = Tap::open(&stage.network.proxy, "router")?;
    let text = marker();
    tap.send(&frame_from(PROXY, HOST, PROXY.v4(HOST).into(), &text))?;
    let heard = stage.must_hear(&text);
    heard.context("it was stopped; the limit is none any more")?;
    let to = SocketAddr::new(DATABASE.v4(HOST).into(), ECHO_PORT).to_string();
    let words = ["datagram", &to, &marker()];
    stage.neighbour().expect_through(stage, &words, false)?;
    policy.unload()
}

fn root_on_the_proxys_machine_may_become_the_proxy(stage: &Stage) -> Result<()> {
    let policy = stage.proxy_host(|_| ())?;
    policy.load()?;
    stage.expect(&[stage.neighbour()], false)?;
    // An origin's command moves itself into the cgroup and then becomes psql, as root can.
    stage.expect(&[stage.proxy()], true)?;
    policy.unload()
}

fn the_segment_of_the_proxy_is_believed(stage: &Stage) -> Result<()> {
    const ANOTHER_MACHINE: u8 = 77;
    let policy = stage.gateway(|_| ())?;
    policy.load()?;
    let text = marker();
    let tap = Tap::open(&stage.network.proxy, "router")?;
    let frame = frame_from(PROXY, ANOTHER_MACHINE, PROXY.v4(HOST).into(), &text);
    tap.send(&frame)?;
    let heard = stage.must_hear(&text);
    heard.context("it was stopped; the limit is none any more")?;
    // With its own address, or from another segment, it does not pass.
    let Network {
        proxy, application, ..
    } = &stage.network;
    for (namespace, subnet, source) in [
        (proxy, PROXY, PROXY.v4(ANOTHER_MACHINE)),
        (application, APPLICATION, PROXY.v4(HOST)),
    ] {
        let text = marker();
        let frame = frame_from(subnet, ANOTHER_MACHINE, source.into(), &text);
        Tap::open(namespace, "router")?.send(&frame)?;
        ensure!(!stage.hears(&text)?, "{source} from {subnet:?}");
    }
    policy.unload()
}

fn a_translated_destination_is_judged_as_it_leaves_the_gateway(stage: &Stage) -> Result<()> {
    // An address outside of everything that is protected, which the router translates.
    let public = SocketAddr::new(Subnet(9).v4(9).into(), ECHO_PORT);
    let [database, _] = database(ECHO_PORT);
    let router = &stage.network.router;
    let rules = format!(
        "table ip translation {{ chain prerouting {{ type nat hook prerouting priority dstnat; \
         ip daddr {} dnat to {}; }}; }}",
        public.ip(),
        database.ip()
    );
    router
        .run(&["nft", &rules])
        .context("the kernel cannot translate addresses")?;
    let outcome = is_stopped_at(stage, public);
    router.run(&["nft", "delete table ip translation"])?;
    outcome
}

/// An address that stands for the database is reached without a policy, and not with it.
fn is_stopped_at(stage: &Stage, address: SocketAddr) -> Result<()> {
    let words = ["connect", &address.to_string()];
    let application = stage.application();
    let policy = stage.gateway(|_| ())?;
    application.expect_through(stage, &words, true)?;
    policy.load()?;
    application.expect_through(stage, &words, false)?;
    ensure!(policy.count("source_not_allowed")? >= 1);
    policy.unload()?;
    application.expect_through(stage, &words, true)
}

/// Sends a frame by AF_PACKET past the queueing discipline, where tc's egress would be
/// (`PACKET_QDISC_BYPASS`, packet(7)): option 20 of level 263, at a socket of family 17.
const PAST_THE_QUEUE: &str = r#"
    my ($device, $frame) = @ARGV;
    socket(my $socket, 17, 3, 0) or die "socket: $!";
    setsockopt($socket, 263, 20, pack("i", 1)) or die "setsockopt: $!";
    open(my $file, "<", "/proc/net/dev_mcast") or die "devices: $!";
    my ($index) = map { /^(\d+)\s+\Q$device\E\s/ ? $1 : () } <$file>;
    bind($socket, pack("SnlSCCa8", 17, 0, $index, 0, 0, 0, "")) or die "bind: $!";
    send($socket, pack("H*", $frame), 0) or die "send: $!";
"#;

fn frames_past_the_senders_own_queue_are_dropped(stage: &Stage) -> Result<()> {
    let [to, _] = ways(ECHO_PORT);
    let send = || -> Result<bool> {
        let text = marker();
        let frame = packet(to, protocol::UDP, &frame::udp(to, text.as_bytes()));
        let hexadecimal: String = frame.iter().map(|it| format!("{it:02x}")).collect();
        let mut perl = Command::new("perl");
        perl.args(["-e", PAST_THE_QUEUE, "router", &hexadecimal]);
        let said = said(&stage.network.application.inside(&perl))?;
        ensure!(said.code == 0, "{said:?}");
        stage.hears(&text)
    };
    let arrives = || wait_until("it arrives", RETRY_LIMIT, send);
    for policy in [stage.gateway(|_| ())?, stage.database_host(|_| ())?] {
        arrives().context("before the load")?;
        policy.load()?;
        ensure!(!send()?, "it came through");
        ensure!(policy.count("source_not_allowed")? >= 1);
        policy.unload()?;
        arrives().context("after unload")?;
    }
    Ok(())
}
