//! Each place and each mode, with the real psql and PostgreSQL, over IPv4 and IPv6.

use anyhow::{Result, ensure};

use crate::Test;
use crate::origin::Origin;
use crate::stage::Stage;
use postern_tests::policy::Policy;

pub(crate) const TESTS: &[Test] = tests![
    a_gateway_lets_only_the_proxy_through,
    a_gateway_that_monitors_reports_and_drops_nothing,
    a_database_host_lets_only_the_proxy_in,
    a_database_host_that_monitors_reports_and_drops_nothing,
    a_proxy_host_lets_only_the_proxys_cgroup_out,
    a_proxy_host_that_monitors_reports_and_drops_nothing,
];

fn a_gateway_lets_only_the_proxy_through(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|_| ())?;
    let strangers = [stage.application(), stage.router()];
    only_the_proxy_gets_in(stage, &policy, &strangers, "source_not_allowed")
}

fn a_database_host_lets_only_the_proxy_in(stage: &Stage) -> Result<()> {
    let policy = stage.database_host(|_| ())?;
    let strangers = [stage.application(), stage.router()];
    only_the_proxy_gets_in(stage, &policy, &strangers, "source_not_allowed")
}

fn a_proxy_host_lets_only_the_proxys_cgroup_out(stage: &Stage) -> Result<()> {
    let policy = stage.proxy_host(|_| ())?;
    only_the_proxy_gets_in(stage, &policy, &[stage.neighbour()], "foreign_socket")
}

fn a_gateway_that_monitors_reports_and_drops_nothing(stage: &Stage) -> Result<()> {
    let policy = stage.gateway(|config| {
        config.set("perimeter", "mode", "monitor");
    })?;
    everybody_gets_in_and_is_counted(stage, &policy, &stage.application(), "source_not_allowed")
}

fn a_database_host_that_monitors_reports_and_drops_nothing(stage: &Stage) -> Result<()> {
    let policy = stage.database_host(|config| {
        config.set("perimeter", "mode", "monitor");
    })?;
    everybody_gets_in_and_is_counted(stage, &policy, &stage.application(), "source_not_allowed")
}

fn a_proxy_host_that_monitors_reports_and_drops_nothing(stage: &Stage) -> Result<()> {
    let policy = stage.proxy_host(|config| {
        config.set("perimeter", "mode", "monitor");
    })?;
    everybody_gets_in_and_is_counted(stage, &policy, &stage.neighbour(), "foreign_socket")
}

fn only_the_proxy_gets_in(
    stage: &Stage,
    policy: &Policy,
    strangers: &[Origin],
    reason: &str,
) -> Result<()> {
    stage.expect_psql(strangers, true)?;
    policy.load()?;
    stage.expect_psql(&[stage.proxy()], true)?;
    let before = policy.count(reason)?;
    stage.expect_psql(strangers, false)?;
    let after = policy.count(reason)?;
    ensure!(after > before, "{reason}: {before}, then {after}");
    policy.unload()?;
    stage.expect_psql(strangers, true)
}

fn everybody_gets_in_and_is_counted(
    stage: &Stage,
    policy: &Policy,
    stranger: &Origin,
    reason: &str,
) -> Result<()> {
    policy.load()?;
    let before = policy.count(reason)?;
    stage.expect_psql(&[stage.proxy(), stranger.clone()], true)?;
    let after = policy.count(reason)?;
    ensure!(after > before, "{reason}: {before}, then {after}");
    policy.unload()
}
