//! Who proves themselves without showing a password: accounts of the local file beside a
//! directory, and service accounts that the database authenticates.

#[path = "proof/drivers.rs"]
mod drivers;
#[path = "proof/hostile.rs"]
mod hostile;
#[path = "proof/limits.rs"]
mod limits;
#[path = "proof/local.rs"]
mod local;
#[path = "proof/scripted.rs"]
mod scripted;
#[path = "proof/service.rs"]
mod service;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use postern_tests::cast::HR_GROUP;
use postern_tests::process::{run, run_with_input};
use postern_tests::world::{
    CHANGE_LIMIT, every_session_has_exactly_one_terminal_record, scratch_file,
};
use postern_tests::{ConfigFile, Postern, Psql, World, claims, harness, postern, wait_until};

/// The account of the last resort, as it logs in, and its password.
const BREAK_GLASS: (&str, &str) = ("breakglass@local", "Local-break-1");

/// A service account, and its password in the database.
const PROGRAM: (&str, &str) = ("etl", "Etl-secret-1");

fn main() -> ExitCode {
    harness::run(
        World::missing(),
        start,
        claims![
            local::a_local_account_is_in_with_and_without_channel_binding,
            local::a_wrong_password_and_an_unknown_name_are_told_the_same,
            local::the_same_password_keeps_its_verifier,
            local::a_second_login_does_not_ask_the_role_store,
            local::without_its_domain_a_local_name_is_the_directorys,
            local::a_disabled_account_is_refused_and_an_open_session_ends,
            local::an_ed25519_certificate_is_never_bound_to_and_never_silently,
            local::scram_without_a_domain_or_with_mirrored_passwords_is_refused_at_the_start,
            hostile::an_unknown_name_has_a_salt_that_stays,
            hostile::every_broken_first_message_is_refused_and_disturbs_nobody,
            hostile::every_broken_last_message_is_refused_for_anybody,
            hostile::wrong_proofs_count_against_their_address,
            drivers::psycopg_logs_in_as_a_local_account_with_every_channel_binding,
            drivers::a_client_that_insists_on_scram_is_told_by_its_own_library,
            service::a_service_account_is_in_by_its_own_password,
            service::a_client_that_could_be_bound_is_told_what_to_change,
            service::with_the_databases_own_certificate_the_binding_passes_through,
            service::a_wrong_password_is_the_databases_own_refusal,
            service::without_tls_a_service_account_needs_to_be_allowed_to,
            service::from_elsewhere_a_service_account_is_refused_like_anybody,
            service::nobody_of_the_directory_gets_the_role_of_a_service_account,
            service::a_database_that_asks_for_anything_else_is_refused,
            service::a_service_account_is_revoked_by_an_operator_and_by_nobody_else,
            service::whoever_a_reload_leaves_without_a_way_in_is_sent_away,
            service::a_service_account_replicates_only_where_the_configuration_says_so,
            service::kill_ends_the_session_of_a_service_account,
            limits::wrong_passwords_of_a_service_account_count_against_their_address,
            limits::guesses_that_come_at_once_are_no_more_than_one_after_the_other,
            limits::a_service_account_counts_against_the_limits_of_everybody,
            limits::a_revocation_reaches_an_exchange_that_is_under_way,
            scripted::a_database_that_breaks_the_exchange_is_not_believed,
            scripted::silent_clients_take_32_backends_at_most,
            scripted::a_client_that_breaks_the_exchange_holds_nobody_up,
            every_session_has_exactly_one_terminal_record,
        ],
    )
}

/// The usual servers, with a file of accounts and a service account beside the directory.
fn start() -> Result<World> {
    let world = World::start(|_| ())?;
    set_password(&world, "breakglass", BREAK_GLASS.1)?;
    let (role, password) = PROGRAM;
    world
        .postgres
        .sql(&format!("create role {role} login password '{password}'"))?;
    for each in [&world.postern, &world.plain] {
        let file = accounts_file(&world);
        each.restart_with(|config| {
            config
                .set("local", "file", &file)
                .set("local", "domain", "local");
            service_account(config, role, "127.0.0.0/8");
        })?;
    }
    Ok(world)
}

fn service_account(config: &mut ConfigFile, role: &str, network: &str) {
    config
        .begin("service_account")
        .set("service_account", "roles", [role])
        .set("service_account", "networks", [network]);
}

fn accounts_file(world: &World) -> std::path::PathBuf {
    scratch_file(world, "local-accounts.toml")
}

/// Makes a local account of the personnel group, or changes its password.
fn set_password(world: &World, name: &str, password: &str) -> Result<()> {
    let mut command = std::process::Command::new(postern::binary()?);
    command.args(["local", "passwd", name, "--group", HR_GROUP, "--file"]);
    let output = run_with_input(command.arg(accounts_file(world)), &format!("{password}\n"))?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

/// psql in the personnel database.
fn psql(world: &World, (login, password): (&str, &str)) -> Psql {
    world
        .postern
        .psql(login, password)
        .database(postern_tests::cast::HR_DATABASE)
}

/// What psql says with this `channel_binding`: its rows, or why not.
fn query_bound(psql: &Psql, channel_binding: &str, sql: &str) -> Result<Result<String, String>> {
    let mut command = psql.command()?;
    command.env("PGCHANNELBINDING", channel_binding);
    command.args(["--no-align", "--tuples-only", "--command", sql]);
    let output = postern_tests::process::run_any(&mut command)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Ok(match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    })
}

/// Runs a client that leaves by itself, and returns the record of that, which comes when Postern
/// has noticed.
fn record_of_leaving(
    world: &World,
    client: impl FnOnce() -> Result<()>,
) -> Result<serde_json::Value> {
    let refusals = || {
        let records = world.postern.audit()?;
        anyhow::Ok(records.into_iter().filter(|it| it["event"] == "refused"))
    };
    let before = refusals()?.count();
    client()?;
    wait_until("the record", CHANGE_LIMIT, || {
        Ok(refusals()?.count() > before)
    })?;
    let record = refusals()?.next_back().unwrap_or_default();
    ensure!(record["reason"] == "client_gone", "{record}");
    Ok(record)
}

/// The last record of a kind.
fn last_record(postern: &Postern, event: &str) -> Result<serde_json::Value> {
    let records = postern.audit()?;
    let last = records.into_iter().rfind(|it| it["event"] == event);
    Ok(last.unwrap_or_default())
}

/// What a command of the program says that must succeed.
fn ordered(postern: &Postern, arguments: &[&str]) -> Result<String> {
    run(&mut postern.command(arguments)?)
}
