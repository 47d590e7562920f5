//! What others test PostgreSQL with, twice: directly, and through Postern; the same must fail.
//!
//! `cargo xtask test --only suites` makes ready what all suites need and runs them; otherwise there
//! is a sample of what needs nothing but PostgreSQL.

#[path = "suites/cancels.rs"]
mod cancels;
#[path = "suites/card.rs"]
mod card;
#[path = "suites/drivers.rs"]
mod drivers;
#[path = "suites/interrupts.rs"]
mod interrupts;
#[path = "suites/long_key.rs"]
mod long_key;
#[path = "suites/own.rs"]
mod own;
#[path = "suites/pipeline.rs"]
mod pipeline;
#[path = "suites/programs.rs"]
mod programs;
#[path = "suites/regress.rs"]
mod regress;
#[path = "suites/replication.rs"]
mod replication;
#[path = "suites/site.rs"]
mod site;
#[path = "suites/versions.rs"]
mod versions;

use std::process::ExitCode;

use anyhow::Result;
use postern_tests::harness;

use site::Site;

type Test = (&'static str, fn(&Site) -> Result<()>);

/// A list of tests from the names of functions.
macro_rules! claims {
    ($($claim:path),* $(,)?) => {
        &[$((
            stringify!($claim),
            |site| $claim(site).map_err(|error| site.explain(error)),
        )),*]
    };
}

/// What needs nothing but PostgreSQL.
const SAMPLE: &[Test] = claims![
    programs::every_type_and_large_object_is_dumped_and_restored_the_same,
    programs::copies_in_text_csv_and_binary_are_the_same_both_ways,
    programs::pgbench_runs_the_same_in_every_mode_and_in_pipelines,
    programs::values_and_messages_of_1_gb_are_refused_by_the_server_in_its_own_words,
    replication::backups_and_streams_of_changes_are_the_same_on_both_routes,
    cancels::a_cancel_ends_a_result_a_pipeline_a_listener_and_every_copy_midway,
    interrupts::programs_that_are_interrupted_end_alike_and_leave_no_backend,
    interrupts::copies_of_a_server_that_are_interrupted_end_alike_and_leave_no_backend,
];

/// What takes long, or needs more.
const OTHERS: &[Test] = claims![
    versions::psql_plays_the_same_card_on_postgresql_13,
    versions::psql_plays_the_same_card_on_postgresql_14,
    versions::psql_plays_the_same_card_on_postgresql_15,
    versions::psql_plays_the_same_card_on_postgresql_16,
    versions::psql_plays_the_same_card_on_postgresql_17,
    versions::psql_plays_the_same_card_on_postgresql_18,
    versions::psycopg_plays_the_same_card_by_direct_tls_in_the_newest_protocol,
    long_key::the_long_key_of_the_newest_server_is_handed_on_with_a_cancel,
    regress::the_same_regression_tests_fail_on_both_routes,
    own::the_same_tests_of_tokio_postgres_fail_on_both_routes,
    own::the_same_tests_of_psycopg2_fail_on_both_routes,
    pipeline::the_same_pipelines_and_their_traces_fail_on_both_routes,
    regress::the_same_isolation_tests_fail_on_both_routes,
];

/// What counts the others.
const LAST: &[Test] = claims![drivers::at_least_ten_drivers_of_six_languages_have_played];

fn main() -> ExitCode {
    let mut tests = [SAMPLE, drivers::SAMPLE].concat();
    if site::folder().is_some() {
        tests.extend([OTHERS, drivers::OTHERS, LAST].concat());
    }
    harness::run(site::missing(), Site::start, &tests)
}
