//! What changes for somebody who may still be in: some groups, the name, the password.

use anyhow::{Context, Result, ensure};
use postern_tests::cast::{FINANCE_GROUP, HR_DATABASE, HR_GROUP};
use postern_tests::{Member, RawClient, Someone, wait_until};

use crate::directory::take_out;
use crate::site::{SEEN_LIMIT, Site, expect_revoked, refusal};
use crate::{Test, claims};

pub(crate) const TESTS: &[Test] = claims![
    one_of_two_groups_lost_ends_the_session_and_leaves_the_other_group,
    a_session_that_may_stay_cannot_take_the_lost_role_any_more,
    a_gained_group_can_be_used_in_the_live_session,
    a_group_that_is_left_by_another_way_ends_no_session,
    a_renamed_group_is_another_group,
    a_renamed_person_keeps_role_and_session,
    a_new_person_with_the_old_name_of_a_renamed_one_gets_nothing,
    a_changed_password_ends_what_is_remembered_and_no_session,
];

const LOST_GROUP: &str = "You have lost a group in the directory; log in again for what is left.";

fn one_of_two_groups_lost_ends_the_session_and_leaves_the_other_group(site: &Site) -> Result<()> {
    let person = site.person("mover", &[HR_GROUP, FINANCE_GROUP])?;
    let mut live = site.session(&person)?;
    take_out(&*site.directory, FINANCE_GROUP, "mover")?;
    let detail = expect_revoked(&mut live)?;
    ensure!(detail == LOST_GROUP, "{detail:?}");
    wait_until(
        "the membership is revoked, and not by a login",
        SEEN_LIMIT,
        || Ok(site.memberships("mover")? == HR_GROUP),
    )?;
    ensure!(site.may_log_in("mover")? == "t");
    let mut again = site.session(&person)?;
    ensure!(again.query("select count(*) from employees")? == "3");
    ensure!(site.memberships("mover")? == HR_GROUP);
    Ok(())
}

fn a_session_that_may_stay_cannot_take_the_lost_role_any_more(site: &Site) -> Result<()> {
    let keep = |config: &mut postern_tests::ConfigFile| {
        config.set("revocation", "lost_group", "keep");
    };
    site.with_config(&site.told, keep, || {
        let person = site.person("keeper", &[HR_GROUP, FINANCE_GROUP])?;
        let mut live = site.session(&person)?;
        let set_role = format!("set role \"{FINANCE_GROUP}\"");
        live.query(&set_role)?;
        live.query("reset role")?;
        take_out(&*site.directory, FINANCE_GROUP, "keeper")?;
        wait_until("the membership is revoked", SEEN_LIMIT, || {
            Ok(site.memberships("keeper")? == HR_GROUP)
        })?;
        let refused = live.query(&set_role).err().context("it took the role")?;
        ensure!(
            refused.to_string().contains("permission denied"),
            "{refused}"
        );
        ensure!(live.query("select count(*) from employees")? == "3");
        // What is left goes as usual.
        take_out(&*site.directory, HR_GROUP, "keeper")?;
        expect_revoked(&mut live)?;
        site.expect_nothing_left("keeper")
    })
}

fn a_gained_group_can_be_used_in_the_live_session(site: &Site) -> Result<()> {
    let person = site.person("riser", &[HR_GROUP])?;
    let mut live = site.session(&person)?;
    let set_role = format!("set role \"{FINANCE_GROUP}\"");
    ensure!(live.query(&set_role).is_err(), "before it was given");
    site.directory
        .add_member(FINANCE_GROUP, Member::Person("riser"))?;
    wait_until("the role can be taken", SEEN_LIMIT, || {
        Ok(live.query(&set_role).is_ok())
    })?;
    ensure!(live.query("select session_user")? == "riser");
    // It was let in without the group, and is ended by its loss all the same.
    take_out(&*site.directory, FINANCE_GROUP, "riser")?;
    let detail = expect_revoked(&mut live)?;
    ensure!(detail == LOST_GROUP, "{detail:?}");
    Ok(())
}

fn a_group_that_is_left_by_another_way_ends_no_session(site: &Site) -> Result<()> {
    let directory = &site.directory;
    directory.add_group("detour")?;
    directory.add_member(HR_GROUP, Member::Group("detour"))?;
    let person = site.person("twice-in", &[HR_GROUP, "detour"])?;
    let mut live = site.session(&person)?;
    take_out(&**directory, HR_GROUP, "twice-in")?;
    wait_until_heard(site, "twice-in", &mut live)?;
    take_out(&**directory, FINANCE_GROUP, "twice-in")?;
    let detail = expect_revoked(&mut live)?;
    ensure!(detail == LOST_GROUP, "{detail:?}");
    let mut live = site.session(&person)?;
    ensure!(site.memberships("twice-in")? == HR_GROUP);
    take_out(&**directory, "detour", "twice-in")?;
    expect_revoked(&mut live)?;
    site.expect_nothing_left("twice-in")
}

fn a_renamed_group_is_another_group(site: &Site) -> Result<()> {
    site.directory.add_group("postern-old")?;
    let person = site.person("reader", &["postern-old"])?;
    let mut live = site.session(&person)?;
    ensure!(site.memberships("reader")? == "postern-old");
    site.directory.rename_group("postern-old", "postern-new")?;
    expect_revoked(&mut live)?;
    let mut live = site.session(&person)?;
    ensure!(site.memberships("reader")? == "postern-new");
    // Out of what counts.
    site.directory.rename_group("postern-new", "nothing-new")?;
    expect_revoked(&mut live)?;
    site.expect_nothing_left("reader")
}

fn a_renamed_person_keeps_role_and_session(site: &Site) -> Result<()> {
    let person = site.person("maiden", &[HR_GROUP])?;
    let mut live = site.session(&person)?;
    site.directory.rename("maiden", "married")?;
    wait_until_heard(site, "married", &mut live)?;
    ensure!(live.query("select session_user")? == "maiden");
    ensure!(live.query("select count(*) from employees")? == "3");
    let both = format!("{FINANCE_GROUP},{HR_GROUP}");
    ensure!(site.memberships("maiden")? == both);
    ensure!(site.may_log_in("maiden")? == "t");
    Ok(())
}

/// Waits until an earlier change of a person has been worked off: a group that is given after it
/// can be used.
fn wait_until_heard(site: &Site, login: &str, live: &mut RawClient) -> Result<()> {
    site.directory
        .add_member(FINANCE_GROUP, Member::Person(login))?;
    let set_role = format!("set role \"{FINANCE_GROUP}\"");
    wait_until("the new group can be used", SEEN_LIMIT, || {
        Ok(live.query(&set_role).is_ok())
    })?;
    live.query("reset role")?;
    Ok(())
}

fn a_new_person_with_the_old_name_of_a_renamed_one_gets_nothing(site: &Site) -> Result<()> {
    let person = site.person("smith", &[HR_GROUP])?;
    let mut live = site.session(&person)?;
    site.directory.rename("smith", "smythe")?;
    let password = "The-other-Smith-1".to_owned();
    site.directory.add_person("smith", &password)?;
    site.directory
        .add_member(HR_GROUP, Member::Person("smith"))?;
    let another = Someone {
        login: "smith".to_owned(),
        password,
    };
    let told = RawClient::refused(
        site.told.port(),
        &another.login,
        HR_DATABASE,
        &another.password,
    )?;
    let said = told.field(b'M').unwrap_or_default();
    ensure!(
        said.contains("belongs to another directory entry"),
        "{told:?}"
    );
    ensure!(site.backends("smith")? == "1");
    ensure!(live.query("select session_user")? == "smith");
    // The old name with the old password is nobody's any more, remembered or not.
    wait_until("the old name is refused", SEEN_LIMIT, || {
        Ok(refusal(&site.told, &person)?.is_some())
    })?;
    ensure!(live.query("select session_user")? == "smith");
    Ok(())
}

fn a_changed_password_ends_what_is_remembered_and_no_session(site: &Site) -> Result<()> {
    let old = site.person("changer", &[HR_GROUP])?;
    let mut live = site.session(&old)?;
    ensure!(refusal(&site.told, &old)?.is_none());
    let new = "Another-secret-43".to_owned();
    site.directory.set_password("changer", &new)?;
    wait_until("the old password is refused", SEEN_LIMIT, || {
        Ok(refusal(&site.told, &old)?.as_deref() == Some("28P01"))
    })?;
    let new = Someone {
        password: new,
        ..old
    };
    ensure!(
        refusal(&site.told, &new)?.is_none(),
        "the new one is refused"
    );
    ensure!(live.query("select session_user")? == "changer");
    Ok(())
}
