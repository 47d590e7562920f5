//! The admin console as operators use it, and the limits that it shows: with the real psql, and
//! byte by byte for what psql never sends.

#[path = "admin/drivers.rs"]
mod drivers;
#[path = "admin/guide.rs"]
mod guide;
#[path = "admin/hostile.rs"]
mod hostile;
#[path = "admin/limits.rs"]
mod limits;
#[path = "admin/login.rs"]
mod login;
#[path = "admin/orders.rs"]
mod orders;
#[path = "admin/show.rs"]
mod show;
#[path = "admin/upkeep.rs"]
mod upkeep;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use postern_tests::process::{run_any, run_with_input};
use postern_tests::world::{every_session_has_exactly_one_terminal_record, scratch_file};
use postern_tests::{Postern, Psql, World, claims, free_port, harness, postern};
use serde_json::Value;

/// The name of the console's database.
const CONSOLE: &str = "postern";

/// Accounts, and the groups that are their rights.
const OPERATOR: (&str, &str) = ("ops", "admin");
const HELPDESK: (&str, &str) = ("desk", "helpdesk");
const VIEWER: (&str, &str) = ("eyes", "viewer");
const NOBODY: (&str, &str) = ("nobody", "canteen");

fn main() -> ExitCode {
    harness::run(
        World::missing(),
        start,
        claims![
            login::an_account_is_in_with_its_login_bound_to_the_connection,
            login::a_wrong_password_an_unknown_name_and_no_right_are_told_the_same,
            login::nobody_of_the_directory_is_in_and_the_directory_is_not_asked,
            login::without_tls_nobody_is_asked,
            login::the_console_is_there_while_directory_and_database_are_not,
            show::every_table_is_shown_and_has_its_columns,
            show::sessions_clients_and_servers_tell_of_a_live_session,
            show::what_a_client_calls_itself_is_short_and_makes_no_row,
            show::the_configuration_is_shown_without_secrets,
            show::the_same_tables_come_by_the_control_socket,
            show::a_person_sees_aligned_columns,
            guide::the_guide_shows_what_psql_shows,
            orders::kill_ends_a_session_or_all_of_a_role,
            orders::revoke_keeps_a_person_out_until_restore,
            orders::a_pause_holds_logins_and_no_session,
            orders::a_drain_refuses_logins_and_ends_what_is_left_in_time,
            orders::who_is_asked_before_a_drain_is_not_in_after_it,
            orders::reload_takes_another_configuration_over_or_says_why_not,
            orders::rotate_closes_the_audit_file,
            orders::each_command_needs_its_right,
            orders::every_command_is_on_record_before_it_is_done,
            orders::a_changed_account_loses_its_open_session,
            orders::the_control_socket_orders_the_same,
            upkeep::a_session_ends_when_another_process_takes_over,
            upkeep::no_other_process_takes_over_while_logins_wait_or_are_refused,
            upkeep::who_waits_in_a_pause_goes_on_under_the_newest_configuration,
            drivers::the_extended_protocol_answers_what_the_simple_one_does,
            drivers::pgbench_prepares_and_runs_commands,
            drivers::psycopg_reads_typed_columns_in_both_formats,
            drivers::jdbc_reads_typed_columns_in_both_formats,
            drivers::what_is_no_command_is_refused_clearly,
            hostile::a_query_that_is_too_long_ends_the_session,
            hostile::messages_may_come_byte_by_byte,
            hostile::an_error_is_skipped_to_the_next_sync,
            hostile::a_query_of_too_many_statements_is_refused_whole,
            hostile::a_long_answer_is_sent_before_the_next_statement_is_done,
            hostile::no_more_portals_than_four_have_rows_left,
            hostile::the_unnamed_statement_and_portal_are_replaced_when_there_is_no_room,
            hostile::what_is_no_message_ends_the_session,
            hostile::one_session_too_many_is_told_so,
            hostile::a_stop_puts_the_end_of_a_client_that_does_not_read_on_record,
            hostile::silent_clients_do_not_keep_others_out,
            limits::one_role_has_no_more_sessions_than_its_own,
            limits::one_database_has_no_more_sessions_than_its_own,
            limits::one_address_has_no_more_sessions_than_its_own,
            limits::a_session_of_the_console_is_not_on_its_way_any_more,
            limits::one_address_begins_no_more_logins_a_minute,
            every_session_has_exactly_one_terminal_record,
        ],
    )
}

/// The usual servers, with a console.
fn start() -> Result<World> {
    let world = World::start(|_| ())?;
    for (name, group) in [OPERATOR, HELPDESK, VIEWER, NOBODY] {
        set_account(&world, name, group)?;
    }
    for each in [&world.postern, &world.plain] {
        let file = accounts_file(&world);
        let metrics = format!("127.0.0.1:{}", free_port()?);
        each.restart_with(|config| {
            config
                .set("admin", "accounts_file", &file)
                .set("metrics", "listen", metrics);
        })?;
    }
    Ok(world)
}

fn accounts_file(world: &World) -> std::path::PathBuf {
    scratch_file(world, "console-accounts.toml")
}

fn password_of(name: &str) -> String {
    format!("Console-{name}-42")
}

/// Makes an account of the console, or changes its group.
fn set_account(world: &World, name: &str, group: &str) -> Result<()> {
    let mut command = std::process::Command::new(postern::binary()?);
    command.args(["local", "passwd", name, "--group", group, "--file"]);
    let password = format!("{}\n", password_of(name));
    let output = run_with_input(command.arg(accounts_file(world)), &password)?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

/// psql in the console of a Postern.
fn console(postern: &Postern, (name, _): (&str, &str)) -> Psql {
    postern.psql(name, &password_of(name)).database(CONSOLE)
}

/// What psql says of a command that must succeed: rows, then notices.
fn said(psql: &Psql, command: &str) -> Result<(String, String)> {
    let answer = psql.run(command)?;
    ensure!(answer.ok, "{command}: {}", answer.stderr);
    Ok((answer.stdout, answer.stderr))
}

/// What psql says of a command that must fail, with the SQLSTATE.
fn refused(psql: &Psql, command: &str) -> Result<String> {
    let answer = psql.run(&format!("\\set VERBOSITY verbose\n{command}"))?;
    ensure!(!answer.ok, "{command}: {}", answer.stdout);
    Ok(answer.stderr)
}

/// What psql says of a connection with this `channel_binding`.
fn bound(psql: &Psql, channel_binding: &str, command: &str) -> Result<(bool, String)> {
    let mut client = psql.command()?;
    client.env("PGCHANNELBINDING", channel_binding);
    client.args(["--no-align", "--tuples-only", "--command", command]);
    let output = run_any(&mut client)?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).trim_end().to_owned();
    Ok((output.status.success(), text))
}

/// The last record of a kind.
fn last_record(postern: &Postern, event: &str) -> Result<Value> {
    let records = postern.audit()?;
    let last = records.into_iter().rfind(|it| it["event"] == event);
    last.with_context(|| format!("nothing {event} is on record"))
}
