//! The whole product: a person gets in through Postern, and nobody in any other way.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use postern_tests::account::Account;
use postern_tests::cast::{self, HR_DATABASE, HR_GROUP, TESTUSER};
use postern_tests::network::{DATABASE, HOST, PROXY};
use postern_tests::policy::said;
use postern_tests::postern::binary;
use postern_tests::process::Server;
use postern_tests::{DirectoryServer, Member, Psql};

use crate::Test;
use crate::stage::Stage;

pub(crate) const TESTS: &[Test] =
    tests![a_person_is_in_through_postern_and_nobody_in_any_other_way];

/// Where Postern listens.
const POSTERN_PORT: u16 = 5050;
/// How long it may take to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Starts Postern as its unit does, in its cgroup on the proxy's machine.
fn start_postern(stage: &Stage) -> Result<Server> {
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
    });
    cast::make_databases(&stage.postgres)?;
    stage.postern.install_schema(&stage.postgres)?;
    cast::prepare_groups(&stage.postgres)?;
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
    let mut postern = start_postern(stage)?;
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
