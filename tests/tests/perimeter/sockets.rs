//! Ways to send that are not an ordinary connection, tried at each of the three places.

use std::net::SocketAddr;
use std::slice::from_ref;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use postern_tests::network::{DATABASE, HOST};

use crate::Test;
use crate::conversation::Conversation;
use crate::stage::{ECHO_PORT, OPEN_PORT, Place, Stage, database, marker};

pub(crate) const TESTS: &[Test] = tests![
    connections_from_before_the_load_are_cut,
    data_in_the_first_packet_does_not_arrive,
    mptcp_is_no_other_way,
    a_datagram_does_not_arrive,
    a_raw_socket_of_root_does_not_help,
    a_mapped_address_is_the_address,
    a_port_that_is_not_protected_stays_open,
];

/// The words for an actor, from where to send and what.
type Words = fn(SocketAddr, &str) -> Vec<String>;

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
            postern_tests::wait_until("it goes on", crate::stage::RETRY_LIMIT, || {
                conversation.is_answered()
            })?;
            conversation.end()?;
        }
        own.end()?;
    }
    Ok(())
}

fn data_in_the_first_packet_does_not_arrive(stage: &Stage) -> Result<()> {
    is_stopped_everywhere(stage, |to, text| {
        words(["fast-open", &to.to_string(), text])
    })
}

fn mptcp_is_no_other_way(stage: &Stage) -> Result<()> {
    is_stopped_everywhere(stage, |to, _| words(["mptcp", &to.to_string()]))
}

fn a_datagram_does_not_arrive(stage: &Stage) -> Result<()> {
    is_stopped_everywhere(stage, |to, text| words(["datagram", &to.to_string(), text]))
}

fn a_raw_socket_of_root_does_not_help(stage: &Stage) -> Result<()> {
    is_stopped_everywhere(stage, |to, text| words(["raw", &to.to_string(), text]))
}

fn a_mapped_address_is_the_address(stage: &Stage) -> Result<()> {
    is_stopped_everywhere(stage, |to, _| {
        let to = match to {
            SocketAddr::V4(to) => SocketAddr::new(to.ip().to_ipv6_mapped().into(), to.port()),
            SocketAddr::V6(_) => to,
        };
        words(["connect", &to.to_string()])
    })
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

/// Tries something over both families at each place: it gets through, with the policy it does
/// not, and after it, it does again.
fn is_stopped_everywhere(stage: &Stage, words: Words) -> Result<()> {
    for place in stage.places(|_| ())? {
        let attempt = || try_both(stage, &place, words);
        ensure!(attempt()? == [true; 2], "{}: not even before", place.name);
        place.policy.load()?;
        let before = place.policy.count(place.reason)?;
        let got_through = attempt()?;
        ensure!(got_through == [false; 2], "{}: {got_through:?}", place.name);
        let after = place.policy.count(place.reason)?;
        ensure!(after >= before + 2, "{}: {before}, {after}", place.name);
        place.policy.unload()?;
        ensure!(attempt()? == [true; 2], "{}: not after it", place.name);
    }
    Ok(())
}

fn try_both(stage: &Stage, place: &Place, words: Words) -> Result<[bool; 2]> {
    let [v4, v6] = database(ECHO_PORT).map(|to| words(to, &marker()));
    let attempt = |words: &[String]| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let outcome = place.stranger.gets_through(stage, &words);
        outcome.with_context(|| format!("{}: {}", place.name, words.join(" ")))
    };
    let (v4, v6) = thread::scope(|scope| {
        let v6 = scope.spawn(|| attempt(&v6));
        (attempt(&v4), v6.join())
    });
    Ok([v4?, v6.map_err(|_| anyhow!("the thread panicked"))??])
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}
