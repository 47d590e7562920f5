//! What nobody honest sends: clients, databases, role stores and directories that mean ill, and
//! networks that fail. Nothing of it may end Postern, hold it up, bloat it, or be heard in another
//! session.
//!
//! The rows of the table of attacks are in SECURITY.md, each with the test that holds it.

#[path = "hostile/backend.rs"]
mod backend;
#[path = "hostile/cancels.rs"]
mod cancels;
#[path = "hostile/database.rs"]
mod database;
#[path = "hostile/directory.rs"]
mod directory;
#[path = "hostile/exhaustion.rs"]
mod exhaustion;
#[path = "hostile/faults.rs"]
mod faults;
#[path = "hostile/feed.rs"]
mod feed;
#[path = "hostile/ldap.rs"]
mod ldap;
#[path = "hostile/meter.rs"]
mod meter;
#[path = "hostile/names.rs"]
mod names;
#[path = "hostile/peers.rs"]
mod peers;
#[path = "hostile/refusals.rs"]
mod refusals;
#[path = "hostile/relay.rs"]
mod relay;
#[path = "hostile/role_store.rs"]
mod role_store;
#[path = "hostile/session.rs"]
mod session;
#[path = "hostile/starttls.rs"]
mod starttls;
#[path = "hostile/startup.rs"]
mod startup;
#[path = "hostile/waiting.rs"]
mod waiting;

use std::process::ExitCode;
use std::time::Duration;

use postern_tests::needs::is_full;
use postern_tests::world::every_session_has_exactly_one_terminal_record;
use postern_tests::{World, claims, harness};

/// How much later than its limit something may come on a busy machine.
const SLACK: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    harness::run(
        World::missing(),
        // What the feed asks would be counted among what logins ask.
        || {
            World::start(|config| {
                config.set("directory", "feed", "off");
            })
        },
        claims![
            startup::no_length_of_a_first_packet_is_believed,
            startup::no_length_of_a_password_is_believed,
            startup::what_comes_in_the_wrong_order_is_refused,
            startup::every_other_message_than_a_password_is_refused,
            startup::options_of_any_form_take_no_time,
            startup::names_and_options_without_number_are_answered_once,
            startup::plaintext_behind_a_client_hello_is_no_part_of_the_session,
            startup::a_cancel_request_of_any_form_gets_no_answer,
            names::a_name_like_a_connection_string_is_a_name_and_nobody_is_dialled,
            refusals::every_refused_password_is_told_in_the_same_bytes_and_not_sooner,
            refusals::guesses_at_any_name_end_alike_with_the_directory_and_without,
            refusals::the_time_of_a_refusal_does_not_tell_whether_the_account_exists,
            peers::an_address_takes_no_more_places_than_its_own,
            peers::behind_a_proxy_each_client_has_its_own_places,
            peers::behind_a_proxy_an_address_over_its_limit_holds_no_place_of_others,
            waiting::a_connection_before_authentication_costs_32_kib_at_most,
            peers::whoever_has_sent_no_startup_packet_in_10_s_is_cut_off,
            peers::thousands_of_slow_peers_leave_logins_as_quick_as_they_were,
            exhaustion::sessions_and_waiting_connections_take_two_descriptors_each,
            exhaustion::without_descriptors_clients_are_told_and_nothing_spins,
            backend::a_database_that_breaks_the_protocol_is_left_and_its_client_told,
            backend::what_a_database_says_around_tls_is_not_believed,
            role_store::a_role_store_that_breaks_the_protocol_lets_nobody_in_and_learns_no_password,
            directory::a_directory_that_breaks_the_protocol_lets_nobody_in_and_ends_nothing,
            cancels::beside_stuck_cancel_requests_one_that_works_does_and_places_come_back,
            starttls::without_the_tls_that_was_asked_for_the_directory_is_told_nothing,
            feed::a_feed_without_end_holds_up_no_login_and_hides_no_loss,
            feed::a_feed_that_always_has_more_is_asked_five_times_a_second,
            session::no_length_in_a_session_is_believed_and_its_bytes_arrive_as_they_were,
            faults::bytes_that_come_in_pieces_or_late_arrive_once_and_in_order,
            faults::a_transfer_that_breaks_is_cut_short_or_nothing_and_its_session_ends,
            faults::a_login_that_breaks_anywhere_ends_and_the_next_one_is_in,
            every_session_has_exactly_one_terminal_record,
        ],
    )
}
