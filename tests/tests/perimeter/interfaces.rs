//! Where a source may arrive: not on another interface, and not by another's address.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postern_tests::network::{DATABASE, HOST, PROXY, ROUTER, Subnet, link};
use postern_tests::{ConfigFile, wait_until};

use crate::Test;
use crate::stage::{ECHO_PORT, Stage, database, marker};

pub(crate) const TESTS: &[Test] = tests![
    a_gateway_believes_a_source_only_where_it_may_arrive,
    a_source_that_is_lent_from_the_proxy_does_not_pass_a_gateway,
    a_database_host_believes_a_source_only_where_it_may_arrive,
    an_interface_that_no_policy_names_stays_closed,
    an_interface_that_comes_later_is_closed_until_watch_has_it,
];

/// A second link of the application's, to the router or to the database itself.
const SECOND: Subnet = Subnet(4);
/// How long the kernel's news of an interface may take on a busy machine.
const NEWS_LIMIT: Duration = Duration::from_secs(10);

/// A link that the application has for one test.
struct SecondLink<'a> {
    stage: &'a Stage,
}

impl<'a> SecondLink<'a> {
    /// Connects the application, by the device `second`, to a device of that name at `to`. What
    /// it sends from its address there goes that way.
    fn new(stage: &'a Stage, to: &postern_tests::network::Namespace) -> Result<Self> {
        let application = &stage.network.application;
        let here = SECOND.end(application, "second", HOST);
        link(&here, &SECOND.end(to, "second", ROUTER))?;
        let added = Self { stage };
        for (family, from, gateway) in [
            (
                "-4",
                SECOND.v4(HOST).to_string(),
                SECOND.v4(ROUTER).to_string(),
            ),
            (
                "-6",
                SECOND.v6(HOST).to_string(),
                SECOND.v6(ROUTER).to_string(),
            ),
        ] {
            application.ip(&[family, "rule", "add", "from", &from, "table", "30"])?;
            let route = ["route", "add", "default", "via", &gateway, "dev", "second"];
            application.ip(&[&[family], route.as_slice(), &["table", "30"]].concat())?;
        }
        Ok(added)
    }

    /// What the application sends from that address goes the usual way instead.
    fn leave_by_the_other(&self) -> Result<()> {
        let application = &self.stage.network.application;
        for family in ["-4", "-6"] {
            application.ip(&[family, "rule", "delete", "table", "30"])?;
        }
        Ok(())
    }
}

impl Drop for SecondLink<'_> {
    fn drop(&mut self) {
        let application = &self.stage.network.application;
        // They may be gone already, by the test or with the link.
        let _ = self.leave_by_the_other();
        let _ = application.ip(&["link", "delete", "second"]);
    }
}

/// The application connects from its second address over both families, or cannot.
fn expect_second(stage: &Stage, connects: bool) -> Result<()> {
    for to in database(ECHO_PORT) {
        let words = ["connect", &to.to_string(), &second_address(to)];
        stage
            .application()
            .expect_through(stage, &words, connects)?;
    }
    Ok(())
}

/// Waits until the application connects from its second address.
fn wait_for_second(stage: &Stage) -> Result<()> {
    for to in database(ECHO_PORT) {
        let words = ["connect", &to.to_string(), &second_address(to)];
        wait_until("watch has taken the interface", NEWS_LIMIT, || {
            stage.application().gets_through(stage, &words)
        })?;
    }
    Ok(())
}

fn second_address(to: SocketAddr) -> String {
    match to {
        SocketAddr::V4(_) => SECOND.v4(HOST).to_string(),
        SocketAddr::V6(_) => SECOND.v6(HOST).to_string(),
    }
}

/// The application's second address is allowed, on the interface `second`.
fn allow_second(config: &mut ConfigFile) {
    config
        .begin("perimeter.allow")
        .set("perimeter.allow", "sources", SECOND.hosts(HOST).to_vec())
        .set("perimeter.allow", "interfaces", ["second"]);
}

fn a_gateway_believes_a_source_only_where_it_may_arrive(stage: &Stage) -> Result<()> {
    let second = SecondLink::new(stage, &stage.network.router)?;
    let policy = stage.gateway(|config| {
        let all = ["application", "proxy", "database", "second"];
        config.set("perimeter", "interfaces", all);
        allow_second(config);
    })?;
    policy.load()?;
    expect_second(stage, true).context("where it may")?;
    second.leave_by_the_other()?;
    expect_second(stage, false).context("where it may not")?;
    ensure!(policy.count("wrong_interface")? >= 2);
    policy.unload()?;
    expect_second(stage, true).context("without a policy")?;
    Ok(())
}

/// Sends datagrams from the proxy's addresses, that the application has given itself; they arrive,
/// or do not.
fn expect_lent(stage: &Stage, arrive: bool) -> Result<()> {
    for (to, from) in database(ECHO_PORT).into_iter().zip(PROXY.both(HOST)) {
        let words = ["datagram", &to.to_string(), &marker(), &from.to_string()];
        stage.application().expect_through(stage, &words, arrive)?;
    }
    Ok(())
}

/// Gives the application the proxy's addresses while something is done.
fn with_lent_addresses(stage: &Stage, then: impl FnOnce() -> Result<()>) -> Result<()> {
    let application = &stage.network.application;
    for address in PROXY.hosts(HOST) {
        application.ip(&["address", "add", &address, "dev", "lo"])?;
    }
    let outcome = then();
    for address in PROXY.hosts(HOST) {
        application.ip(&["address", "delete", &address, "dev", "lo"])?;
    }
    outcome
}

fn a_source_that_is_lent_from_the_proxy_does_not_pass_a_gateway(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    with_lent_addresses(stage, || {
        expect_lent(stage, true).context("not even before")?;
        policy.load()?;
        expect_lent(stage, false).context("it passed")?;
        ensure!(policy.count("wrong_interface")? >= 2);
        policy.unload()?;
        expect_lent(stage, true).context("not after it")?;
        Ok(())
    })
}

fn a_database_host_believes_a_source_only_where_it_may_arrive(stage: &Stage) -> Result<()> {
    let _second = SecondLink::new(stage, &stage.network.database)?;
    let application = &stage.network.application;
    for (family, prefix, gateway) in [
        (
            "-4",
            DATABASE.hosts(HOST)[0].clone(),
            SECOND.v4(ROUTER).to_string(),
        ),
        (
            "-6",
            DATABASE.hosts(HOST)[1].clone(),
            SECOND.v6(ROUTER).to_string(),
        ),
    ] {
        // The straight way; it is gone with the link.
        let route = ["route", "add", &prefix, "via", &gateway, "dev", "second"];
        application.ip(&[&[family], route.as_slice()].concat())?;
    }
    let policy = stage.database_host(|config| {
        config.set("perimeter", "interfaces", ["router", "second"]);
    })?;
    with_lent_addresses(stage, || {
        expect_lent(stage, true).context("not even before")?;
        policy.load()?;
        stage.expect(&[stage.proxy()], true)?;
        expect_lent(stage, false).context("it came in")?;
        ensure!(policy.count("wrong_interface")? >= 2);
        policy.unload()?;
        expect_lent(stage, true).context("not after it")?;
        Ok(())
    })
}

fn an_interface_that_no_policy_names_stays_closed(stage: &Stage) -> Result<()> {
    let _second = SecondLink::new(stage, &stage.network.router)?;
    let policy = stage.gateway(|_| ())?;
    expect_second(stage, true).context("not even before")?;
    policy.load()?;
    expect_second(stage, false).context("it is open")?;
    policy.unload()?;
    expect_second(stage, true).context("not after it")?;
    Ok(())
}

fn an_interface_that_comes_later_is_closed_until_watch_has_it(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|config| {
        config.set("perimeter", "await_interfaces", ["second"]);
        allow_second(config);
    })?;
    policy.load()?;
    let second = SecondLink::new(stage, &stage.network.router)?;
    expect_second(stage, false).context("open before watch")?;
    let log = stage.scratch.path().join("late-watch.log");
    let mut watch = policy.start(&["watch", "--json"], &log)?;
    wait_for_second(stage)?;
    policy.must(&["status"])?;
    // Taken while watch runs, and again after it was away for a while.
    drop(second);
    let _second = SecondLink::new(stage, &stage.network.router)?;
    wait_for_second(stage)?;
    stage.expect(&[stage.application()], false)?;
    ensure!(watch.stop()?.success(), "{}", watch.log()?);
    policy.unload()
}
