//! What a revocation leaves behind: nothing in the database, and everything on record.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use postern_tests::cast::{FINANCE_GROUP, HR_GROUP};
use postern_tests::wait_until;
use serde_json::Value;

use crate::directory::take_out;
use crate::site::{SEEN_LIMIT, Site, expect_revoked};
use crate::{Test, claims};

pub(crate) const TESTS: &[Test] = claims![
    a_query_that_runs_on_is_ended_in_the_database_too,
    the_loss_is_on_record_before_the_end_with_times,
    a_lost_group_is_on_record_in_the_database_and_in_the_audit_file,
];

fn a_query_that_runs_on_is_ended_in_the_database_too(site: &Site) -> Result<()> {
    let person = site.person("busy", &[HR_GROUP])?;
    let mut live = site.session(&person)?;
    live.send_query("select pg_sleep(90)")?;
    let running = "select exists (select from pg_stat_activity \
                   where usename = 'busy' and query like '%pg_sleep%')";
    site.wait_for_sql("the query runs", running)?;
    take_out(&*site.directory, HR_GROUP, "busy")?;
    expect_revoked(&mut live)?;
    site.expect_nothing_left("busy")
}

/// The one record of an event.
fn only<'a>(records: &'a [Value], event: &str) -> Result<(usize, &'a Value)> {
    let mut found = records
        .iter()
        .enumerate()
        .filter(|(_, it)| it["event"] == event);
    let first = found.next();
    let first = first.with_context(|| format!("no {event} in {records:#?}"))?;
    ensure!(found.next().is_none(), "{event} twice in {records:#?}");
    Ok(first)
}

fn the_loss_is_on_record_before_the_end_with_times(site: &Site) -> Result<()> {
    let person = site.person("witness", &[HR_GROUP])?;
    let mut first = site.session(&person)?;
    let mut second = site.session(&person)?;
    // A look at the person that the feed asked for a moment before, because they had joined the
    // group, may be the one that finds the loss; then that is when it was heard.
    let before = ago(SEEN_LIMIT)?;
    take_out(&*site.directory, HR_GROUP, "witness")?;
    expect_revoked(&mut first)?;
    expect_revoked(&mut second)?;
    wait_until("the end is on record", SEEN_LIMIT, || {
        let records = site.records(&site.told, "witness")?;
        Ok(records.iter().any(|it| it["event"] == "access_ended"))
    })?;
    let records = site.records(&site.told, "witness")?;
    let (lost_at, lost) = only(&records, "access_lost")?;
    let (ended_at, ended) = only(&records, "access_ended")?;
    ensure!(lost_at < ended_at, "{records:#?}");
    ensure!(
        lost["reason"] == "no_group" && lost["sessions"] == 2,
        "{lost}"
    );
    ensure!(lost["name"] == "witness", "{lost}");
    // Or the login of the second session, which looks again when the feed has spoken meanwhile.
    let heard = lost["heard"].as_str().context("not how it was heard")?;
    ensure!(["feed", "comparison", "login"].contains(&heard), "{lost}");
    let detected = lost["detected_at"].as_str().context("no time")?;
    let written = lost["at"].as_str().context("no time of the record")?;
    ensure!(
        *before.as_str() <= *detected && detected <= written,
        "{lost}"
    );
    ensure!(
        ended["role"] == "witness" && ended["backends_left"] == 0,
        "{ended}"
    );
    let took = ended["took_ms"].as_u64().context("not how long")?;
    ensure!(u128::from(took) < SEEN_LIMIT.as_millis(), "{ended}");
    let log = "select string_agg(action, ',' order by id) from postern.change_log \
               where role_name = 'witness' and id > (select max(id) from postern.change_log \
               where role_name = 'witness' and action in ('grant', 'set_secret'))";
    let log = site.postgres.sql(log)?;
    ensure!(log.contains("disable") && log.contains("revoke"), "{log}");
    let why = "select disabled_at is not null and disabled_why <> '' \
               from postern.managed_role where role_name = 'witness'";
    ensure!(site.postgres.sql(why)? == "t");
    Ok(())
}

fn a_lost_group_is_on_record_in_the_database_and_in_the_audit_file(site: &Site) -> Result<()> {
    let person = site.person("halved", &[HR_GROUP, FINANCE_GROUP])?;
    let mut live = site.session(&person)?;
    take_out(&*site.directory, FINANCE_GROUP, "halved")?;
    expect_revoked(&mut live)?;
    let records = site.records(&site.told, "halved")?;
    let (_, lost) = only(&records, "access_lost")?;
    ensure!(
        lost["reason"] == "lost_group" && lost["sessions"] == 1,
        "{lost}"
    );
    let detail = lost["detail"].as_str().unwrap_or_default();
    ensure!(detail.contains(FINANCE_GROUP), "{lost}");
    let step = format!("revoke {FINANCE_GROUP}");
    let mut changed = records.iter().filter(|it| it["event"] == "roles_changed");
    ensure!(
        changed.any(|it| it["steps"] == serde_json::json!([step])),
        "{records:#?}"
    );
    let log = format!(
        "select count(*) from postern.change_log where role_name = 'halved' \
         and action = 'revoke' and detail like '{FINANCE_GROUP}%'"
    );
    ensure!(site.postgres.sql(&log)? == "1");
    Ok(())
}

/// A time before now by this machine, in the form of the audit file, to the second.
fn ago(time: Duration) -> Result<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)? - time;
    let mut date = std::process::Command::new("date");
    date.args(["--utc", "+%Y-%m-%dT%H:%M:%S"]);
    date.arg(format!("--date=@{}", now.as_secs()));
    Ok(postern_tests::process::run(&mut date)?.trim().to_owned())
}
