//! Who loses everything is out at once, without any new login.

use std::collections::HashSet;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use postern_tests::cast::HR_GROUP;
use postern_tests::{Member, RawClient, wait_until};

use crate::directory::take_out;
use crate::site::{SEEN_LIMIT, Site, expect_revoked, expect_revoked_within, refusal};
use crate::{Test, claims};

pub(crate) const TESTS: &[Test] = claims![
    the_last_group_taken_away_ends_an_idle_session_and_no_other,
    an_open_psql_dies_with_a_message_that_says_why,
    a_group_taken_out_of_a_nested_chain_ends_the_session,
    a_deleted_group_ends_the_session,
    a_deleted_person_loses_the_session,
    a_disabled_person_loses_the_session,
    an_account_that_ends_soon_ends_its_session_by_the_clock,
    an_account_whose_end_was_set_before_its_login_ends_its_session_by_the_clock,
    a_remembered_password_without_a_session_is_refused_after_the_change,
    a_hundred_sessions_of_one_person_end_together,
];

const NO_GROUP: &str = "None of your groups in the directory counts any more.";
const REFUSED: &str = "Your account in the directory is disabled, locked or expired, or its \
                       password has to be changed.";
const GONE: &str = "Your account is not in the directory any more.";

/// How many sessions one person has at once.
const SESSIONS: usize = 100;

/// Longer than the directory and the watch take together to work off a change that is heard of.
const QUIET: Duration = Duration::from_secs(2);

/// How far ahead an account is said to end: long enough for a feed that takes seconds.
const ACCOUNT_LIFE: Duration = Duration::from_secs(8);

fn the_last_group_taken_away_ends_an_idle_session_and_no_other(site: &Site) -> Result<()> {
    let leaver = site.person("leaver", &[HR_GROUP])?;
    let stayer = site.person("stayer", &[HR_GROUP])?;
    let mut live = site.session(&leaver)?;
    let mut other = site.session(&stayer)?;
    take_out(&*site.directory, HR_GROUP, "leaver")?;
    let detail = expect_revoked(&mut live)?;
    ensure!(detail == NO_GROUP, "{detail:?}");
    ensure!(refusal(&site.told, &leaver)?.is_some(), "it came in again");
    site.expect_nothing_left("leaver")?;
    ensure!(other.query("select count(*) from employees")? == "3");
    ensure!(site.memberships("stayer")? == HR_GROUP);
    ensure!(refusal(&site.told, &stayer)?.is_none());
    Ok(())
}

fn an_open_psql_dies_with_a_message_that_says_why(site: &Site) -> Result<()> {
    let person = site.person("typist", &[HR_GROUP])?;
    let mut command = site.psql(&person).command()?;
    command.args(["--command", "select pg_sleep(90)"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let psql = command.stderr(Stdio::piped()).spawn()?;
    let running = "select exists (select from pg_stat_activity \
                   where usename = 'typist' and query like '%pg_sleep%')";
    site.wait_for_sql("the query runs", running)?;
    let start = Instant::now();
    take_out(&*site.directory, HR_GROUP, "typist")?;
    let output = psql.wait_with_output()?;
    ensure!(start.elapsed() < SEEN_LIMIT, "it went on");
    let said = String::from_utf8_lossy(&output.stderr);
    let words = "FATAL:  terminating connection because access was revoked";
    ensure!(said.contains(words), "{said}");
    ensure!(said.contains(&format!("DETAIL:  {NO_GROUP}")), "{said}");
    ensure!(!output.status.success());
    site.expect_nothing_left("typist")
}

fn a_group_taken_out_of_a_nested_chain_ends_the_session(site: &Site) -> Result<()> {
    let directory = &site.directory;
    for group in ["chain-inner", "chain-middle", "postern-chain"] {
        directory.add_group(group)?;
    }
    directory.add_member("chain-middle", Member::Group("chain-inner"))?;
    directory.add_member("postern-chain", Member::Group("chain-middle"))?;
    let person = site.person("nested", &["chain-inner"])?;
    let mut live = site.session(&person)?;
    ensure!(site.memberships("nested")? == "postern-chain");
    directory.remove_member("chain-middle", Member::Group("chain-inner"))?;
    let detail = expect_revoked(&mut live)?;
    ensure!(detail == NO_GROUP, "{detail:?}");
    site.expect_nothing_left("nested")
}

fn a_deleted_group_ends_the_session(site: &Site) -> Result<()> {
    site.directory.add_group("postern-doomed")?;
    let person = site.person("orphan", &["postern-doomed"])?;
    let mut live = site.session(&person)?;
    ensure!(site.memberships("orphan")? == "postern-doomed");
    wait_until_quiet()?;
    site.directory.remove_group("postern-doomed")?;
    let detail = expect_revoked(&mut live)?;
    ensure!(detail == NO_GROUP, "{detail:?}");
    site.expect_nothing_left("orphan")
}

/// Lets the comparisons that earlier changes have brought pass, which would hide a change that is
/// not heard of. Nothing shows that they have, for they find nothing.
fn wait_until_quiet() -> Result<()> {
    let start = Instant::now();
    wait_until("it is quiet", SEEN_LIMIT, || Ok(start.elapsed() > QUIET))
}

fn a_deleted_person_loses_the_session(site: &Site) -> Result<()> {
    let person = site.person("retiree", &[HR_GROUP])?;
    let mut live = site.session(&person)?;
    wait_until_quiet()?;
    site.directory.remove_person("retiree")?;
    let detail = expect_revoked(&mut live)?;
    // Where the group loses its member in the same moment, that may be heard of first.
    ensure!(detail == GONE || detail == NO_GROUP, "{detail:?}");
    ensure!(refusal(&site.told, &person)?.as_deref() == Some("28P01"));
    site.expect_nothing_left("retiree")
}

fn a_disabled_person_loses_the_session(site: &Site) -> Result<()> {
    let person = site.person("suspended", &[HR_GROUP])?;
    let mut live = site.session(&person)?;
    site.directory.disable("suspended")?;
    let detail = expect_revoked(&mut live)?;
    ensure!(detail == REFUSED, "{detail:?}");
    ensure!(refusal(&site.told, &person)?.as_deref() == Some("28P01"));
    site.expect_nothing_left("suspended")
}

fn an_account_that_ends_soon_ends_its_session_by_the_clock(site: &Site) -> Result<()> {
    let person = site.person("contractor", &[HR_GROUP])?;
    let mut live = site.session(&person)?;
    let ends = SystemTime::now() + ACCOUNT_LIFE;
    site.directory.end_account("contractor", ends)?;
    expect_end_by_the_clock(site, "contractor", &mut live)
}

fn an_account_whose_end_was_set_before_its_login_ends_its_session_by_the_clock(
    site: &Site,
) -> Result<()> {
    let person = site.person("temp", &[HR_GROUP])?;
    site.directory
        .end_account("temp", SystemTime::now() + ACCOUNT_LIFE)?;
    let mut live = site.session(&person)?;
    expect_end_by_the_clock(site, "temp", &mut live)
}

/// Nobody changes anything: only the time can be why the session ends.
fn expect_end_by_the_clock(site: &Site, login: &str, live: &mut RawClient) -> Result<()> {
    let detail = expect_revoked_within(live, SEEN_LIMIT + ACCOUNT_LIFE)?;
    ensure!(detail == REFUSED, "{detail:?}");
    let records = site.records(&site.told, login)?;
    let lost = records.iter().rfind(|it| it["event"] == "access_lost");
    let lost = lost.context("it is not on record")?;
    ensure!(lost["heard"] == "timer", "{lost}");
    site.expect_nothing_left(login)
}

fn a_remembered_password_without_a_session_is_refused_after_the_change(site: &Site) -> Result<()> {
    let person = site.person("remembered", &[HR_GROUP])?;
    drop(site.session(&person)?);
    drop(site.session(&person)?);
    take_out(&*site.directory, HR_GROUP, "remembered")?;
    // Nobody logs in until it is on record, so it is not a login that shows the change. It may be
    // found by the look that follows the logins from before.
    site.expect_nothing_left("remembered")?;
    let records = site.records(&site.told, "remembered")?;
    let is_lost = records.iter().any(|it| it["event"] == "access_lost");
    ensure!(is_lost, "it is not on record: {records:?}");
    ensure!(refusal(&site.told, &person)?.is_some(), "it came in again");
    Ok(())
}

fn a_hundred_sessions_of_one_person_end_together(site: &Site) -> Result<()> {
    let person = site.person("octopus", &[HR_GROUP])?;
    let bystander = site.person("bystander", &[HR_GROUP])?;
    let mut other = site.session(&bystander)?;
    let sessions: Result<Vec<RawClient>> = (0..SESSIONS).map(|_| site.session(&person)).collect();
    let mut sessions = sessions?;
    let count = SESSIONS.to_string();
    ensure!(site.backends("octopus")? == count);
    take_out(&*site.directory, HR_GROUP, "octopus")?;
    let mut first = None;
    for session in &mut sessions {
        let detail = expect_revoked(session)?;
        ensure!(detail == NO_GROUP, "{detail:?}");
        first.get_or_insert_with(Instant::now);
    }
    let apart = first.map(|it| it.elapsed()).unwrap_or_default();
    ensure!(apart < Duration::from_secs(2), "{} ms", apart.as_millis());
    site.expect_nothing_left("octopus")?;
    let records = site.records(&site.told, "octopus")?;
    let lost = records.iter().find(|it| it["event"] == "access_lost");
    let lost = lost.context("it is not on record")?;
    ensure!(lost["sessions"] == SESSIONS, "{lost}");
    ensure!(other.query("select 1")? == "1");
    wait_until("every end is on record", SEEN_LIMIT, || {
        Ok(closed_as_revoked(site, "octopus")? == SESSIONS)
    })
}

/// How many sessions of a role are on record as opened and as ended by a revocation.
fn closed_as_revoked(site: &Site, role: &str) -> Result<usize> {
    let records = site.told.audit()?;
    let opened = records
        .iter()
        .filter(|it| it["event"] == "opened" && it["role"] == role);
    let ours: HashSet<&str> = opened.filter_map(|it| it["session"].as_str()).collect();
    let closed = records.iter().filter(|it| {
        let session = it["session"].as_str().unwrap_or_default();
        it["event"] == "closed" && it["reason"] == "revoked" && ours.contains(session)
    });
    Ok(closed.count())
}
