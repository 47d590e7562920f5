//! Another configuration, another program, a restart: what clients notice of it, which is nothing.

#[path = "upkeep/journal.rs"]
mod journal;
#[path = "upkeep/manager.rs"]
mod manager;
#[path = "upkeep/reload.rs"]
mod reload;
#[path = "upkeep/restart.rs"]
mod restart;
#[path = "upkeep/upgrade.rs"]
mod upgrade;

use std::process::ExitCode;

use postern_tests::world::every_session_has_exactly_one_terminal_record;
use postern_tests::{World, claims, harness};

fn main() -> ExitCode {
    harness::run(
        World::missing(),
        || World::start(|_| {}),
        claims![
            reload::what_has_changed_is_told_and_holds_and_sessions_go_on,
            reload::a_file_with_errors_changes_nothing,
            reload::what_takes_a_restart_is_refused_by_name,
            reload::another_certificate_is_shown_to_the_next_client,
            reload::whoever_has_no_group_by_the_new_rules_is_sent_away,
            reload::a_reload_buys_no_more_guesses,
            reload::another_password_of_the_provisioner_is_used,
            reload::the_levels_of_the_log_change_while_it_runs,
            journal::under_a_service_manager_the_journal_has_each_message_with_its_fields,
            reload::levels_that_are_none_are_told_at_the_start,
            reload::a_login_has_one_line_with_the_times_of_its_phases,
            manager::who_connects_while_no_process_runs_is_served_by_the_next,
            manager::a_socket_that_nobody_can_place_is_refused_by_name,
            manager::sockets_that_cannot_be_meant_are_refused_by_name,
            manager::a_service_manager_hears_of_every_state,
            manager::only_the_process_that_serves_speaks_to_a_service_manager,
            upgrade::another_process_takes_over_and_sessions_end_in_their_own_time,
            upgrade::a_process_without_sessions_answers_before_it_ends,
            upgrade::a_program_that_does_not_start_leaves_the_old_one_in_place,
            upgrade::a_link_to_another_program_is_followed,
            upgrade::a_process_stops_while_another_one_is_starting,
            upgrade::a_process_that_dies_after_it_took_over_is_replaced,
            upgrade::sessions_of_before_are_under_the_rules_of_the_next_process,
            upgrade::sessions_that_stay_too_long_are_ended,
            upgrade::nobody_is_refused_while_configurations_and_processes_come_and_go,
            restart::restarts_under_load_serve_whoever_connects_or_tell_them_why,
            every_session_has_exactly_one_terminal_record,
        ],
    )
}
