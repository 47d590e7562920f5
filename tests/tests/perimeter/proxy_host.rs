//! On the proxy's machine: whose socket it is decides, not who holds it, and not root.

use std::fs;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use postern_tests::account::Account;
use postern_tests::policy::{Said, said};
use postern_tests::wait_until;

use crate::origin::Origin;
use crate::stage::{ECHO_PORT, RETRY_LIMIT, Stage, database, marker};
use crate::{Test, actor};

pub(crate) const TESTS: &[Test] = tests![
    a_foreign_connection_is_refused_at_once,
    a_cgroup_below_the_proxys_passes,
    a_container_of_the_machine_is_covered_too,
    nobody_unprivileged_moves_into_the_proxys_cgroup,
    nobody_unprivileged_sends_frames_or_packets_of_their_own,
    a_socket_from_before_the_move_is_dropped,
    a_socket_that_is_passed_to_the_proxy_is_dropped,
];

const CONNECTED: &str = "connected";

fn a_foreign_connection_is_refused_at_once(stage: &Stage) -> Result<()> {
    let policy = stage.proxy_host(|_| ())?;
    policy.load()?;
    for to in database(ECHO_PORT) {
        let told = stage.neighbour().act(&["connect", &to.to_string()])?;
        // By the connect hook; a packet that is dropped later would be a timeout.
        ensure!(told == "blocked: permission denied", "{told}");
    }
    policy.unload()?;
    expect(&stage.neighbour(), CONNECTED)
}

fn a_cgroup_below_the_proxys_passes(stage: &Stage) -> Result<()> {
    let policy = stage.proxy_host(|_| ())?;
    policy.load()?;
    expect(&stage.child()?, CONNECTED)?;
    expect(&stage.neighbour(), "blocked: permission denied")?;
    policy.unload()
}

fn a_container_of_the_machine_is_covered_too(stage: &Stage) -> Result<()> {
    let policy = stage.proxy_host(|_| ())?;
    expect(&stage.container(), CONNECTED)?;
    policy.load()?;
    expect(&stage.container(), "blocked: permission denied")?;
    // The same namespace on another machine is not this policy's business.
    expect(&stage.application(), CONNECTED)?;
    policy.unload()?;
    expect(&stage.container(), CONNECTED)
}

fn expect(origin: &Origin, outcome: &str) -> Result<()> {
    for to in database(ECHO_PORT) {
        wait_for(outcome, || origin.act(&["connect", &to.to_string()]))
            .with_context(|| format!("{origin:?}"))?;
    }
    Ok(())
}

/// Tries something again until an actor says what it must: on a busy machine it may be late.
fn wait_for(outcome: &str, attempt: impl Fn() -> Result<String>) -> Result<()> {
    let mut told = String::new();
    let said = wait_until(outcome, RETRY_LIMIT, || {
        told = attempt()?;
        Ok(told == outcome)
    });
    said.with_context(|| format!("it said {told:?}"))
}

/// Acts as an account that may do nothing, on the proxy's machine.
fn act_unprivileged(stage: &Stage, words: &[&str]) -> Result<Said> {
    // The account may not be able to reach the folder that this program was built in.
    let program = stage.scratch.path().join("actor");
    if !program.exists() {
        fs::copy(std::env::current_exe()?, &program)?;
    }
    let actor = actor::command(words)?;
    let mut command: Command = Account::unprivileged()?.command(&program, "KILL");
    command.args(actor.get_args());
    said(&stage.neighbour().command(&command))
}

fn nobody_unprivileged_moves_into_the_proxys_cgroup(stage: &Stage) -> Result<()> {
    let cgroup = stage.proxy_cgroup();
    let cgroup = cgroup.to_str().context("not UTF-8")?;
    let told = act_unprivileged(stage, &["join", cgroup])?;
    ensure!(
        told.stdout.trim_end() == "blocked: permission denied",
        "{told:?}"
    );
    // It is the account that it fails by, not the folder.
    let told = stage.neighbour().act(&["join", cgroup])?;
    ensure!(told == "joined", "{told}");
    Ok(())
}

fn nobody_unprivileged_sends_frames_or_packets_of_their_own(stage: &Stage) -> Result<()> {
    let [to, _] = database(ECHO_PORT).map(|it| it.to_string());
    let ways: [&[&str]; 2] = [&["packet", "router"], &["raw", &to, "anything"]];
    for words in ways {
        let told = act_unprivileged(stage, words)?;
        ensure!(
            told.stdout.trim_end() == "blocked: permission denied",
            "{told:?}"
        );
        let told = stage.neighbour().act(words)?;
        ensure!(!told.starts_with("blocked"), "root: {told}");
    }
    Ok(())
}

fn a_socket_from_before_the_move_is_dropped(stage: &Stage) -> Result<()> {
    let policy = stage.proxy_host(|_| ())?;
    let cgroup = stage.proxy_cgroup();
    let cgroup = cgroup.to_str().context("not UTF-8")?;
    let [v4, v6] = database(ECHO_PORT).map(|it| it.to_string());
    for to in [&v4, &v6] {
        let moved = || stage.neighbour().act(&["move", cgroup, to]);
        wait_for(CONNECTED, moved).context("before the load")?;
        policy.load()?;
        // The call is made from the proxy's cgroup; the socket was not.
        let told = moved()?;
        ensure!(told == "blocked: timed out", "{told}");
        ensure!(policy.count("foreign_socket")? >= 1);
        policy.unload()?;
        wait_for(CONNECTED, moved).context("after unload")?;
    }
    Ok(())
}

/// What the proxy is told that connects a socket of its neighbour's.
fn passed(stage: &Stage) -> Result<String> {
    let path = stage.scratch.path().join(marker());
    let socket = path.to_str().context("not UTF-8")?;
    let [to, _] = database(ECHO_PORT).map(|it| it.to_string());
    thread::scope(|scope| {
        let taker = scope.spawn(|| stage.proxy().act(&["take", socket, &to]));
        wait_until("somebody takes it", RETRY_LIMIT, || Ok(path.exists()))?;
        let given = stage.neighbour().act(&["give", socket])?;
        ensure!(given == "given", "{given}");
        taker.join().map_err(|_| anyhow!("the thread panicked"))?
    })
}

fn a_socket_that_is_passed_to_the_proxy_is_dropped(stage: &Stage) -> Result<()> {
    let policy = stage.proxy_host(|_| ())?;
    let passed = || passed(stage);
    wait_for(CONNECTED, passed).context("before the load")?;
    policy.load()?;
    let told = passed()?;
    ensure!(told == "blocked: timed out", "{told}");
    ensure!(policy.count("foreign_socket")? >= 1);
    policy.unload()?;
    wait_for(CONNECTED, passed).context("after unload")
}
