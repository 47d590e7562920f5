//! The whole product: a person gets in through Postern, and nobody in any other way.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use postern_tests::account::Account;
use postern_tests::cast::{self, HR_DATABASE, HR_GROUP, TESTUSER};
use postern_tests::config_file::ConfigFile;
use postern_tests::network::{DATABASE, HOST, PROXY};
use postern_tests::policy::said;
use postern_tests::postern::binary;
use postern_tests::process::Server;
use postern_tests::{DirectoryServer, Member, Psql, wait_until};

use crate::Test;
use crate::stage::Stage;

pub(crate) const TESTS: &[Test] = tests![
    a_person_is_in_through_postern_and_nobody_in_any_other_way,
    the_running_proxy_says_whether_the_perimeter_is_in_force,
];

/// Where Postern listens.
const POSTERN_PORT: u16 = 5050;
/// How long it may take to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long until the running process has seen a change: one interval of the watch's and one of
/// its own, on a busy machine.
const HEALTH_LIMIT: Duration = Duration::from_secs(30);

/// Starts Postern as its unit does, in its cgroup on the proxy's machine.
fn start_postern(stage: &Stage, change: impl FnOnce(&mut ConfigFile)) -> Result<Server> {
    let listens = SocketAddr::new(PROXY.v4(HOST).into(), POSTERN_PORT).to_string();
    let database = DATABASE.v4(HOST).to_string();
    stage.postern.configure(|config| {
        config.set("listen", "addresses", [listens.as_str()]);
        for leg in ["role_store", "backend"] {
            // The server's certificate is for other names.
            config
                .set(leg, "host", database.as_str())
                .set(leg, "sslmode", "verify-ca");
        }
        change(config);
    });
    let made = format!("select count(*) from pg_database where datname = '{HR_DATABASE}'");
    let is_first = stage.postgres.sql(&made)? == "0";
    if is_first {
        cast::make_databases(&stage.postgres)?;
    }
    // It writes the configuration, too.
    stage.postern.install_schema(&stage.postgres)?;
    if is_first {
        cast::prepare_groups(&stage.postgres)?;
    }
    let mut command = Account::own().command(&binary()?, "KILL");
    command.args(["run", "--config"]);
    command.arg(stage.postern.config_file());
    let command = stage.proxy().command(&command);
    let log = stage.postern.log_file();
    let mut server = Server::spawn("Postern", command, &log, Signal::SIGTERM)?;
    server.wait_ready(START_LIMIT, || {
        let application = stage.application();
        Ok(application.act(&["connect", &listens]).is_ok())
    })?;
    Ok(server)
}

/// A person on the application's machine asks for data, through Postern.
fn ask(stage: &Stage) -> Result<()> {
    let psql = Psql {
        host: PROXY.v4(HOST).to_string(),
        sslmode: "verify-ca".to_owned(),
        database: HR_DATABASE.to_owned(),
        ..Psql::new(
            POSTERN_PORT,
            stage.postern.ca_file(),
            TESTUSER.login,
            TESTUSER.password,
        )
    };
    let mut command = psql.command()?;
    command.args(["--tuples-only", "--no-align", "--command"]);
    command.arg("select current_user, count(*) from employees");
    let said = said(&stage.application().command(&command))?;
    ensure!(said.stdout.trim_end() == "testuser|3", "{said:?}");
    Ok(())
}

fn a_person_is_in_through_postern_and_nobody_in_any_other_way(stage: &Stage) -> Result<()> {
    let person = Member::Person(TESTUSER.login);
    stage
        .accounts
        .add_person(TESTUSER.login, TESTUSER.password)?;
    stage.accounts.add_member(HR_GROUP, person)?;
    let mut postern = start_postern(stage, |_| ())?;
    ask(stage)?;
    let strangers = [stage.application(), stage.router(), stage.neighbour()];
    stage.expect_psql(&strangers, true)?;
    let places = stage.places(|_| ())?;
    for place in &places {
        place.policy.load()?;
    }
    stage.expect_psql(&strangers, false)?;
    ask(stage)?;
    postern.kill()?;
    stage.expect_psql(&strangers, false)?;
    for place in &places {
        place.policy.unload()?;
    }
    stage.expect_psql(&strangers, true)
}

fn the_running_proxy_says_whether_the_perimeter_is_in_force(stage: &Stage) -> Result<()> {
    let policy = stage.proxy_host(|_| ())?;
    let _postern = start_postern(stage, |config| {
        stage.set_proxy_host(config);
        config.set("perimeter", "state_file", policy.state_file().as_path());
    })?;
    let health = || said(&stage.proxy().command(&stage.postern.command(&["health"])?));
    let says = |code: i32, words: &str| {
        let mut last = None;
        let seen = wait_until(words, HEALTH_LIMIT, || {
            let said = health()?;
            let found = said.code == code && said.stdout.contains(words);
            last = Some(said);
            Ok(found)
        });
        seen.with_context(|| format!("{last:?}"))
    };
    says(1, "not known")?;
    policy.load()?;
    let log = stage.scratch.path().join("health-watch.log");
    let _watch = policy.start(&["watch"], &log)?;
    says(0, "in force, as configured")?;
    fs::remove_file(policy.pins().join("links/proxy_connect4-cgroup"))?;
    says(1, "proxy_connect4 is not attached")?;
    policy.load()?;
    says(0, "in force, as configured")?;
    policy.unload()?;
    says(1, "no policy is loaded")
}
