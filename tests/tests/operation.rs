//! What an operator does and sees: commands, signals, the audit file, logs.

#[path = "operation/audit.rs"]
mod audit;
#[path = "operation/commands.rs"]
mod commands;
#[path = "operation/metrics.rs"]
mod metrics;
#[path = "operation/monitoring.rs"]
mod monitoring;
#[path = "operation/ready.rs"]
mod ready;
#[path = "operation/rotating.rs"]
mod rotating;
#[path = "operation/stop.rs"]
mod stop;

use std::process::ExitCode;

use postern_tests::world::every_session_has_exactly_one_terminal_record;
use postern_tests::{World, claims, harness};

fn main() -> ExitCode {
    harness::run(
        World::missing(),
        || World::start(|_| {}),
        claims![
            commands::check_passes_when_everything_is_up,
            commands::check_fails_and_says_what_to_do_when_the_directory_is_down,
            commands::check_fails_when_the_database_is_down_or_the_password_wrong,
            commands::explain_login_shows_everything_and_changes_nothing,
            commands::explain_login_says_why_somebody_would_be_refused,
            commands::init_sql_a_second_time_has_nothing_to_do,
            commands::a_configuration_with_errors_names_them_all,
            commands::the_running_process_is_asked_without_any_of_its_secrets,
            commands::looking_from_the_machine_itself_leaves_no_record,
            audit::one_session_is_on_record_from_its_first_packet_to_its_last,
            audit::a_session_takes_little_room,
            audit::an_edited_deleted_or_swapped_record_is_found,
            audit::an_audit_file_that_cannot_be_written_refuses_to_start,
            audit::an_audit_file_is_readable_by_its_owner_only,
            rotating::a_closed_file_and_the_next_are_one_log,
            rotating::a_file_that_is_taken_away_is_on_record,
            rotating::a_process_killed_while_it_rotates_loses_no_record,
            metrics::the_numbers_follow_what_happens_and_name_nobody,
            ready::the_process_is_ready_when_everything_that_it_needs_is,
            ready::a_policy_that_is_not_in_force_keeps_the_process_from_being_ready,
            ready::a_certificate_that_ends_soon_is_warned_of_until_another_one_is_shown,
            ready::with_a_full_disk_nobody_logs_in_and_the_process_is_not_ready,
            ready::with_a_disk_that_hangs_nobody_logs_in_and_the_process_is_not_ready,
            metrics::silent_clients_do_not_keep_the_numbers_from_others,
            metrics::what_is_not_asked_for_in_http_is_refused,
            monitoring::every_number_of_the_alerts_and_the_dashboard_is_told,
            monitoring::every_label_that_alerts_and_their_tests_ask_for_is_told,
            monitoring::every_alert_has_a_test,
            monitoring::promtool_accepts_the_alerts_and_their_tests,
            monitoring::promtool_finds_nothing_wrong_with_the_numbers,
            monitoring::promtool_understands_every_question_of_the_dashboard,
            audit::no_secret_of_a_person_is_in_any_log,
            commands::the_process_may_leave_no_core_file,
            stop::sigterm_tells_live_sessions_and_leaves_nothing,
            stop::sigterm_ends_a_login_that_waits,
            stop::sigterm_ends_a_login_that_the_directory_holds_up,
            stop::a_killed_process_comes_back_and_its_audit_file_goes_on,
            every_session_has_exactly_one_terminal_record,
        ],
    )
}
