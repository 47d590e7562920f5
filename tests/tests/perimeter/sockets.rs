//! Ways to send that are not an ordinary connection, tried at each of the three places.

use std::net::SocketAddr;
use std::slice::from_ref;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use postern_tests::network::{DATABASE, HOST};
use postern_tests::wait_until;

use crate::Test;
use crate::conversation::Conversation;
use crate::stage::{ECHO_PORT, OPEN_PORT, Place, RETRY_LIMIT, Stage, database, marker};

pub(crate) const TESTS: &[Test] = tests![
    connections_from_before_the_load_are_cut,
    no_kind_of_socket_gets_through_a_gateway,
    no_kind_of_socket_gets_into_a_database_host,
    no_kind_of_socket_gets_out_of_a_proxy_host,
    a_port_that_is_not_protected_stays_open,
];

fn connections_from_before_the_load_are_cut(stage: &Stage) -> Result<()> {
    for place in stage.places(|_| ())? {
        let begin = |address| Conversation::begin(&place.stranger, address);
        let mut open = DATABASE.both(HOST).into_iter().map(begin);
        let mut open = open.by_ref().collect::<Result<Vec<_>>>()?;
        let mut own = Conversation::begin(&stage.proxy(), DATABASE.v4(HOST).into())?;
        for conversation in &mut open {
            ensure!(conversation.is_answered()?, "{}: not open", place.name);
        }
        place.policy.load()?;
        for conversation in &mut open {
            ensure!(!conversation.is_answered()?, "{}: not cut", place.name);
        }
        // The proxy's own socket is known by its address or its cgroup, so it lives on.
        ensure!(own.is_answered()?, "{}: the proxy is cut off", place.name);
        place.policy.unload()?;
        for mut conversation in open {
            // What was lost is sent again, at ever longer intervals.
            wait_until("it goes on", RETRY_LIMIT, || conversation.is_answered())?;
            conversation.end()?;
        }
        own.end()?;
    }
    Ok(())
}

fn no_kind_of_socket_gets_through_a_gateway(stage: &Stage) -> Result<()> {
    let [gateway, _, _] = stage.places(|_| ())?;
    every_kind_is_stopped(stage, &gateway)
}

fn no_kind_of_socket_gets_into_a_database_host(stage: &Stage) -> Result<()> {
    let [_, database_host, _] = stage.places(|_| ())?;
    every_kind_is_stopped(stage, &database_host)
}

fn no_kind_of_socket_gets_out_of_a_proxy_host(stage: &Stage) -> Result<()> {
    let [_, _, proxy_host] = stage.places(|_| ())?;
    every_kind_is_stopped(stage, &proxy_host)
}

fn a_port_that_is_not_protected_stays_open(stage: &Stage) -> Result<()> {
    for place in stage.places(|_| ())? {
        place.policy.load()?;
        for to in database(OPEN_PORT) {
            // Nobody listens: the refusal is the database machine's own.
            let told = place.stranger.act(&["connect", &to.to_string()]);
            let told = told
                .err()
                .with_context(|| format!("{}: {to}", place.name))?;
            let told = format!("{told:#}");
            ensure!(
                told.contains("Connection refused"),
                "{}: {told}",
                place.name
            );
        }
        stage.expect(from_ref(&place.stranger), false)?;
        place.policy.unload()?;
    }
    Ok(())
}

/// What the actors of all kinds do to an address of the database, with a text of their own: data
/// in the first packet, Multipath TCP, a datagram, a packet made by root, and a connection by an
/// IPv6 socket to the IPv4 address.
fn kinds(to: SocketAddr) -> Vec<Vec<String>> {
    let mapped = match to {
        SocketAddr::V4(to) => SocketAddr::new(to.ip().to_ipv6_mapped().into(), to.port()),
        SocketAddr::V6(_) => to,
    };
    let [to, mapped] = [to, mapped].map(|it| it.to_string());
    let words = |words: &[&str]| words.iter().map(|&it| it.to_owned()).collect();
    vec![
        words(&["fast-open", &to, &marker()]),
        words(&["mptcp", &to]),
        words(&["datagram", &to, &marker()]),
        words(&["raw", &to, &marker()]),
        words(&["connect", &mapped]),
    ]
}

/// Every kind gets through, with the policy none does and each is counted, and after it all do.
fn every_kind_is_stopped(stage: &Stage, place: &Place) -> Result<()> {
    try_all(stage, place, true).context("before the load")?;
    place.policy.load()?;
    let before = place.policy.count(place.reason)?;
    let tried = try_all(stage, place, false)?;
    let after = place.policy.count(place.reason)?;
    ensure!(after >= before + tried, "{tried}: {before}, then {after}");
    place.policy.unload()?;
    try_all(stage, place, true).context("after unload")?;
    Ok(())
}

/// Tries every kind at once, over both families; how many that were.
fn try_all(stage: &Stage, place: &Place, gets_through: bool) -> Result<u64> {
    let tries: Vec<Vec<String>> = database(ECHO_PORT).into_iter().flat_map(kinds).collect();
    thread::scope(|scope| -> Result<()> {
        let attempts = tries.iter().map(|words| {
            scope.spawn(move || {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                place.stranger.expect_through(stage, &words, gets_through)
            })
        });
        let attempts: Vec<_> = attempts.collect();
        for attempt in attempts {
            attempt
                .join()
                .map_err(|_| anyhow!("the thread panicked"))??;
        }
        Ok(())
    })?;
    Ok(u64::try_from(tries.len())?)
}
