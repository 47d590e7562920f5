//! Two Posterns of one database, of which only one follows the directory.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postern_tests::cast::{FINANCE_GROUP, HR_GROUP};
use postern_tests::{RawClient, wait_until};

use crate::directory::take_out;
use crate::site::{SEEN_LIMIT, Site, expect_revoked, refusal, session_of};
use crate::{Test, claims};

pub(crate) const TESTS: &[Test] = claims![
    a_loss_that_one_proxy_hears_of_ends_the_sessions_of_both,
    a_lost_group_that_one_proxy_hears_of_ends_the_sessions_of_both,
    a_gained_group_that_one_proxy_hears_of_can_be_used_through_both,
    a_password_that_the_other_proxy_remembers_is_refused_there_too,
];

/// Waits until a session has been ended. The database ends the backends of a role that is revoked,
/// whichever proxy they are of: the client may hear that in the database's own words.
pub(crate) fn expect_ended(session: &mut RawClient) -> Result<()> {
    let told = session.read().context("the session was not ended")?;
    ensure!(told.field(b'C').as_deref() == Some("57P01"), "{told:?}");
    session.expect_end()
}

fn a_loss_that_one_proxy_hears_of_ends_the_sessions_of_both(site: &Site) -> Result<()> {
    site.with_untold(|| {
        let person = site.person("twofold", &[HR_GROUP])?;
        let other = site.person("onefold", &[HR_GROUP])?;
        let mut here = site.session(&person)?;
        let mut there = session_of(&site.untold, &person)?;
        let mut others = session_of(&site.untold, &other)?;
        take_out(&*site.directory, HR_GROUP, "twofold")?;
        expect_revoked(&mut here)?;
        expect_ended(&mut there)?;
        site.expect_nothing_left("twofold")?;
        ensure!(refusal(&site.untold, &person)?.is_some(), "in again");
        ensure!(others.query("select 1")? == "1");
        Ok(())
    })
}

fn a_lost_group_that_one_proxy_hears_of_ends_the_sessions_of_both(site: &Site) -> Result<()> {
    site.with_untold(|| {
        let person = site.person("halfway", &[HR_GROUP, FINANCE_GROUP])?;
        let mut here = site.session(&person)?;
        let mut there = session_of(&site.untold, &person)?;
        take_out(&*site.directory, FINANCE_GROUP, "halfway")?;
        let detail = expect_revoked(&mut here)?;
        ensure!(detail == expect_revoked(&mut there)?, "{detail}");
        let records = site.records(&site.untold, "halfway")?;
        let lost = records.iter().find(|it| it["event"] == "access_lost");
        let lost = lost.context("it is not on record")?;
        ensure!(lost["heard"] == "role_store", "{lost}");
        ensure!(site.memberships("halfway")? == HR_GROUP);
        ensure!(refusal(&site.untold, &person)?.is_none());
        Ok(())
    })
}

fn a_gained_group_that_one_proxy_hears_of_can_be_used_through_both(site: &Site) -> Result<()> {
    site.with_untold(|| {
        let person = site.person("promoted", &[HR_GROUP])?;
        let mut here = site.session(&person)?;
        let mut there = session_of(&site.untold, &person)?;
        site.directory
            .add_member(FINANCE_GROUP, postern_tests::Member::Person("promoted"))?;
        let set_role = format!("set role \"{FINANCE_GROUP}\"");
        for session in [&mut here, &mut there] {
            wait_until("the role can be taken", SEEN_LIMIT, || {
                Ok(session.query(&set_role).is_ok())
            })?;
        }
        Ok(())
    })
}

fn a_password_that_the_other_proxy_remembers_is_refused_there_too(site: &Site) -> Result<()> {
    site.with_untold(|| {
        let person = site.person("cached", &[HR_GROUP])?;
        drop(session_of(&site.untold, &person)?);
        ensure!(refusal(&site.untold, &person)?.is_none());
        let mut here = site.session(&person)?;
        take_out(&*site.directory, HR_GROUP, "cached")?;
        expect_revoked(&mut here)?;
        site.expect_nothing_left("cached")?;
        let code = refusal(&site.untold, &person)?;
        ensure!(code.is_some(), "the proxy that remembers let the person in");
        // And it stays so: nothing of what it remembers gives the role anything back.
        let limit = Duration::from_secs(10);
        wait_until("it has forgotten the person", limit, || {
            ensure!(site.may_log_in("cached")? == "f");
            Ok(refusal(&site.untold, &person)?.is_some())
        })
    })
}
