//! Logins at the same moment as a change of the directory.

use std::sync::Barrier;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use postern_tests::cast::{FINANCE_GROUP, HR_DATABASE, HR_GROUP};
use postern_tests::{Member, RawClient, Someone, wait_until};
use serde_json::Value;

use crate::directory::take_out;
use crate::site::{SEEN_LIMIT, Site, refusal};
use crate::{Test, claims};

pub(crate) const TESTS: &[Test] = claims![
    logins_that_race_with_a_loss_leave_nothing_behind,
    logins_that_race_with_changing_groups_end_with_those_of_the_directory,
];

/// Logins at once, and how often each is made.
const LOGINS: usize = 50;
const TIMES: usize = 4;

/// How often the group is taken away and given back.
const ROUNDS: usize = 3;

/// What a login that races with a change may be told: that access was changed meanwhile, that no
/// group counts, that the role has just lost LOGIN, that there were too many at once, or that the
/// directory, which they all ask, did not answer in time.
const REFUSALS: [&str; 5] = ["57P01", "28P01", "28000", "53300", "57P03"];

/// Logs in many times while `change` is made, and returns what was let in and not ended.
fn race(
    site: &Site,
    person: &Someone,
    change: impl FnOnce() -> Result<()>,
) -> Result<Vec<RawClient>> {
    let start = Barrier::new(LOGINS + 1);
    let port = site.told.port();
    let log_in = || {
        start.wait();
        let mut last = None;
        for _ in 0..TIMES {
            match RawClient::log_in(port, &person.login, HR_DATABASE, &person.password)? {
                Ok(client) => last = Some(client),
                Err(refusal) => {
                    let code = refusal.field(b'C').unwrap_or_default();
                    ensure!(REFUSALS.contains(&code.as_str()), "{refusal:?}");
                }
            }
        }
        Ok(last)
    };
    thread::scope(|scope| {
        let logins: Vec<_> = (0..LOGINS).map(|_| scope.spawn(log_in)).collect();
        start.wait();
        let changed = change();
        let mut clients = Vec::new();
        for login in logins {
            let client = login.join().map_err(|_| anyhow!("a login panicked"))?;
            clients.extend(client?);
        }
        changed.map(|()| clients)
    })
}

fn logins_that_race_with_a_loss_leave_nothing_behind(site: &Site) -> Result<()> {
    let person = site.person("sprinter", &[HR_GROUP])?;
    drop(site.session(&person)?);
    let take = || take_out(&*site.directory, HR_GROUP, "sprinter");
    let give = || {
        let member = Member::Person("sprinter");
        site.directory.add_member(HR_GROUP, member)
    };
    for _ in 0..ROUNDS {
        drop(race(site, &person, || take().and_then(|()| give()))?);
        // A look from before the person was given back may take away what a login has just
        // granted; the next one grants it again.
        wait_until("the person is in again", SEEN_LIMIT, || {
            let is_in = refusal(&site.told, &person)?.is_none();
            Ok(is_in && site.memberships("sprinter")? == HR_GROUP)
        })?;
    }
    let clients = race(site, &person, take)?;
    site.expect_nothing_left("sprinter")?;
    for mut client in clients {
        let told = client.read().context("a session was left")?;
        ensure!(told.field(b'C').as_deref() == Some("57P01"), "{told:?}");
    }
    ensure!(refusal(&site.told, &person)?.is_some(), "it is in again");
    site.expect_nothing_left("sprinter")?;
    nobody_came_in_after_the_last_loss(site, "sprinter")
}

/// A session may be on record as opened after the loss, if that was first on its way to the file;
/// then it was closed as revoked before the client was told anything.
fn nobody_came_in_after_the_last_loss(site: &Site, role: &str) -> Result<()> {
    let lost = site.records(&site.told, role)?;
    let lost = lost.iter().rfind(|it| it["event"] == "access_lost");
    let lost = lost.and_then(|it| it["seq"].as_u64());
    let lost = lost.context("the loss is not on record")?;
    let mut left_open = None;
    // The record of an end is on its way to the file when nothing is left of the session.
    wait_until("what came in late was ended at once", SEEN_LIMIT, || {
        let records = site.told.audit()?;
        let mut opened = records.iter().filter(|it| {
            let is_later = it["seq"].as_u64() > Some(lost);
            is_later && it["event"] == "opened" && it["role"] == role
        });
        left_open = opened
            .find(|opened| !ended_at_once(opened, &records))
            .cloned();
        Ok(left_open.is_none())
    })
    .with_context(|| format!("let in after the loss {lost}: {left_open:?}"))
}

/// Whether the end of a session is on record as that of one that got nothing.
fn ended_at_once(opened: &Value, records: &[Value]) -> bool {
    let mut ends = records
        .iter()
        .filter(|it| it["event"] == "closed" && it["session"] == opened["session"]);
    ends.any(|it| it["reason"] == "revoked" && it["bytes_to_client"] == 0)
}

fn logins_that_race_with_changing_groups_end_with_those_of_the_directory(
    site: &Site,
) -> Result<()> {
    let person = site.person("juggler", &[HR_GROUP])?;
    drop(site.session(&person)?);
    let member = Member::Person("juggler");
    let give = || site.directory.add_member(FINANCE_GROUP, member);
    let take = || take_out(&*site.directory, FINANCE_GROUP, "juggler");
    let both = format!("{FINANCE_GROUP},{HR_GROUP}");
    for _ in 0..ROUNDS {
        drop(race(site, &person, || {
            give().and_then(|()| take()).and_then(|()| give())
        })?);
        wait_until("both groups are memberships", SEEN_LIMIT, || {
            Ok(site.memberships("juggler")? == both)
        })?;
        let clients = race(site, &person, take)?;
        wait_until("one group is a membership", SEEN_LIMIT, || {
            Ok(site.memberships("juggler")? == HR_GROUP)
        })?;
        // Those that are left have not the role, whatever they were let in with.
        for mut client in clients {
            let set_role = format!("set role \"{FINANCE_GROUP}\"");
            ensure!(client.query(&set_role).is_err(), "it took the lost role");
        }
    }
    ensure!(site.may_log_in("juggler")? == "t");
    ensure!(refusal(&site.told, &person)?.is_none());
    Ok(())
}
