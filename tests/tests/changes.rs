//! What happens when the directory, or somebody behind Postern's back, changes something.

use std::process::ExitCode;

use anyhow::{Result, anyhow, ensure};
use postern_tests::cast::{FINANCE_GROUP, HR_DATABASE, HR_GROUP};
use postern_tests::world::{CHANGE_LIMIT, every_session_has_exactly_one_terminal_record};
use postern_tests::{DirectoryServer, Member, Someone, World, claims, harness, wait_until};

fn main() -> ExitCode {
    harness::run(
        World::missing(),
        || {
            World::start(|config| {
                config.set("cache", "recheck_s", 1);
            })
        },
        claims![
            a_group_taken_away_ends_everything_the_person_had,
            a_session_that_a_revocation_ended_says_so_on_record,
            a_group_given_back_lets_the_person_in_again,
            one_of_two_groups_taken_away_is_one_membership_revoked,
            a_person_removed_from_the_directory_is_refused,
            a_new_password_works_at_once_and_the_old_one_is_refused_at_once,
            a_secret_changed_behind_the_back_is_forced_once_and_on_record,
            a_dropped_role_is_made_again,
            a_login_that_an_administrator_forbids_stays_forbidden,
            a_proxy_that_still_remembers_a_person_gives_nothing_back,
            a_role_that_is_not_managed_is_refused_and_untouched,
            a_role_is_not_inherited_by_a_new_person_of_the_same_name,
            memberships_that_an_administrator_granted_stay,
            every_session_has_exactly_one_terminal_record,
        ],
    )
}

/// Logs in until it is refused: the entry in the cache is due within a second.
fn wait_until_refused(world: &World, person: &Someone) -> Result<()> {
    let psql = world.psql(person);
    wait_until("the login is refused", CHANGE_LIMIT, || {
        Ok(!psql.run("select 1")?.ok)
    })
}

fn a_group_taken_away_ends_everything_the_person_had(world: &World) -> Result<()> {
    let leaver = world.person("leaver", &[HR_GROUP])?;
    let stayer = world.person("stayer", &[HR_GROUP])?;
    let mut live = world.raw(&leaver)?;
    let mut other = world.raw(&stayer)?;
    ensure!(live.query("select count(*) from employees")? == "3");
    world
        .directory
        .remove_member(HR_GROUP, Member::Person("leaver"))?;
    wait_until_refused(world, &leaver)?;
    ensure!(world.last_refusal()? == "no_group");
    ensure!(world.memberships("leaver")?.is_empty());
    ensure!(world.may_log_in("leaver")? == "f");
    let told = live.read()?;
    ensure!(told.field(b'C').as_deref() == Some("57P01"), "{told:?}");
    live.expect_end()?;
    ensure!(other.query("select count(*) from employees")? == "3");
    wait_until("the revocation is on record", CHANGE_LIMIT, || {
        let mut records = world.postern.audit()?;
        records.extend(world.plain.audit()?);
        let mut ended = records.iter().filter(|it| it["event"] == "access_ended");
        Ok(ended.any(|it| it["role"] == "leaver" && it["backends_left"] == 0))
    })
}

fn a_session_that_a_revocation_ended_says_so_on_record(world: &World) -> Result<()> {
    let person = world.person("departed", &[HR_GROUP])?;
    let mut live = world.raw(&person)?;
    ensure!(live.query("select count(*) from employees")? == "3");
    // It reads and leaves at once, as psql does, while the revocation is still under way.
    let told = std::thread::spawn(move || live.read().map(|message| message.field(b'C')));
    world
        .directory
        .remove_member(HR_GROUP, Member::Person("departed"))?;
    // The proxy that has the session is the one that hears of it.
    wait_until("the login is refused", CHANGE_LIMIT, || {
        Ok(world.raw(&person).is_err())
    })?;
    let told = told.join().map_err(|_| anyhow!("the client panicked"))??;
    ensure!(told.as_deref() == Some("57P01"), "{told:?}");
    wait_until("the end is on record", CHANGE_LIMIT, || {
        let records = world.plain.audit()?;
        let opened = records
            .iter()
            .find(|it| it["event"] == "opened" && it["role"] == "departed");
        let session = opened.map(|it| it["session"].clone());
        let closed = records
            .iter()
            .find(|it| it["event"] == "closed" && Some(&it["session"]) == session.as_ref());
        Ok(closed.is_some_and(|it| it["reason"] == "revoked"))
    })
}

fn a_group_given_back_lets_the_person_in_again(world: &World) -> Result<()> {
    let person = world.person("returner", &[HR_GROUP])?;
    let psql = world.psql(&person);
    psql.query("select 1")?;
    let directory = &world.directory;
    directory.remove_member(HR_GROUP, Member::Person("returner"))?;
    wait_until_refused(world, &person)?;
    directory.add_member(HR_GROUP, Member::Person("returner"))?;
    wait_until("the person is in again", CHANGE_LIMIT, || {
        Ok(psql.run("select count(*) from employees")?.stdout == "3")
    })?;
    ensure!(world.memberships("returner")? == HR_GROUP);
    ensure!(world.may_log_in("returner")? == "t");
    Ok(())
}

fn one_of_two_groups_taken_away_is_one_membership_revoked(world: &World) -> Result<()> {
    let person = world.person("mover", &[HR_GROUP, FINANCE_GROUP])?;
    let psql = world.psql(&person);
    psql.query("select 1")?;
    let both = format!("{FINANCE_GROUP},{HR_GROUP}");
    ensure!(world.memberships("mover")? == both);
    world
        .directory
        .remove_member(FINANCE_GROUP, Member::Person("mover"))?;
    wait_until("the membership is revoked", CHANGE_LIMIT, || {
        psql.query("select 1")?;
        Ok(world.memberships("mover")? == HR_GROUP)
    })?;
    let denied = world.finance(&person).run("select * from invoices")?;
    ensure!(denied.stderr.contains("permission denied"), "{denied:?}");
    Ok(())
}

fn a_person_removed_from_the_directory_is_refused(world: &World) -> Result<()> {
    let person = world.person("retiree", &[HR_GROUP])?;
    world.psql(&person).query("select 1")?;
    world.directory.remove_person("retiree")?;
    wait_until_refused(world, &person)?;
    ensure!(world.last_refusal()? == "unknown_login");
    Ok(())
}

fn a_new_password_works_at_once_and_the_old_one_is_refused_at_once(world: &World) -> Result<()> {
    let old = world.person("changer", &[HR_GROUP])?;
    // With the default re-check, so that only the new password can have ended the old one.
    let change = |config: &mut postern_tests::ConfigFile| {
        config.set("cache", "recheck_s", 60);
    };
    world.with_config(change, || {
        world.psql(&old).query("select 1")?;
        let new = Someone {
            login: old.login.clone(),
            password: "Another-secret-43".to_owned(),
        };
        world.directory.set_password("changer", &new.password)?;
        world.psql(&new).query("select 1")?;
        let told = world.psql(&old).refused()?;
        ensure!(told.contains("password authentication failed"), "{told}");
        world.psql(&new).query("select 1")?;
        Ok(())
    })
}

fn count_of(world: &World, event: &str) -> Result<usize> {
    let records = world.postern.audit()?;
    Ok(records.iter().filter(|it| it["event"] == event).count())
}

fn a_secret_changed_behind_the_back_is_forced_once_and_on_record(world: &World) -> Result<()> {
    let person = world.person("victim", &[HR_GROUP])?;
    let psql = world.psql(&person);
    psql.query("select 1")?;
    let before = count_of(world, "secret_forced")?;
    world.postgres.sql("alter role victim password 'meddled'")?;
    ensure!(psql.query("select session_user")? == "victim");
    ensure!(count_of(world, "secret_forced")? == before + 1);
    ensure!(psql.query("select session_user")? == "victim");
    ensure!(count_of(world, "secret_forced")? == before + 1, "twice");
    Ok(())
}

fn a_dropped_role_is_made_again(world: &World) -> Result<()> {
    let person = world.person("phoenix", &[HR_GROUP])?;
    let psql = world.psql(&person);
    psql.query("select 1")?;
    world.wait_for_sql(
        "the session has ended",
        "select count(*) = 0 from pg_stat_activity where usename = 'phoenix'",
    )?;
    world.postgres.sql("drop role phoenix")?;
    ensure!(psql.query("select count(*) from employees")? == "3");
    ensure!(world.memberships("phoenix")? == HR_GROUP);
    Ok(())
}

fn a_login_that_an_administrator_forbids_stays_forbidden(world: &World) -> Result<()> {
    let person = world.person("locked", &[HR_GROUP])?;
    let psql = world.psql(&person);
    psql.query("select 1")?;
    world.postgres.sql("alter role locked nologin")?;
    let told = psql.refused()?;
    ensure!(told.contains("disabled by an administrator"), "{told}");
    ensure!(world.last_refusal()? == "role_disabled");
    ensure!(world.may_log_in("locked")? == "f");
    world.postgres.sql("alter role locked login")?;
    ensure!(psql.query("select session_user")? == "locked");
    Ok(())
}

fn a_proxy_that_still_remembers_a_person_gives_nothing_back(world: &World) -> Result<()> {
    let person = world.person("straddler", &[HR_GROUP])?;
    // The other proxy asks the directory again within a second; this one would after a minute.
    let remembers = |config: &mut postern_tests::ConfigFile| {
        config.set("cache", "recheck_s", 60);
    };
    world.with_plain_config(remembers, || {
        let mut live = world.raw(&person)?;
        ensure!(live.query("select count(*) from employees")? == "3");
        world.psql(&person).query("select 1")?;
        world
            .directory
            .remove_member(HR_GROUP, Member::Person("straddler"))?;
        wait_until_refused(world, &person)?;
        ensure!(
            world.raw(&person).is_err(),
            "the proxy that remembers let the person in"
        );
        ensure!(world.may_log_in("straddler")? == "f");
        ensure!(world.memberships("straddler")?.is_empty());
        Ok(())
    })
}

fn a_role_that_is_not_managed_is_refused_and_untouched(world: &World) -> Result<()> {
    let person = world.person("batchjob", &[HR_GROUP])?;
    world
        .postgres
        .sql("create role batchjob login password 'of the batch job'")?;
    let state = "select rolpassword, rolcanlogin from pg_authid where rolname = 'batchjob'";
    let before = world.postgres.sql(state)?;
    let told = world.psql(&person).refused()?;
    ensure!(told.contains("is not managed here"), "{told}");
    ensure!(world.last_refusal()? == "role_not_managed");
    ensure!(world.postgres.sql(state)? == before, "it was altered");
    ensure!(world.memberships("batchjob")?.is_empty());
    let refusal = postern_tests::RawClient::refused(
        world.plain.port(),
        "batchjob",
        HR_DATABASE,
        &person.password,
    )?;
    let code = refusal.field(b'C');
    ensure!(code.as_deref() == Some("28000"), "{code:?}");
    Ok(())
}

fn a_role_is_not_inherited_by_a_new_person_of_the_same_name(world: &World) -> Result<()> {
    let person = world.person("smith", &[HR_GROUP])?;
    world.psql(&person).query("select 1")?;
    world.directory.remove_person("smith")?;
    wait_until_refused(world, &person)?;
    let another = Someone {
        login: "smith".to_owned(),
        password: "The-other-Smith-1".to_owned(),
    };
    world.directory.add_person("smith", &another.password)?;
    world
        .directory
        .add_member(HR_GROUP, Member::Person("smith"))?;
    let told = world.psql(&another).refused()?;
    ensure!(
        told.contains("belongs to another directory entry"),
        "{told}"
    );
    ensure!(world.last_refusal()? == "role_of_another");
    Ok(())
}

fn memberships_that_an_administrator_granted_stay(world: &World) -> Result<()> {
    let person = world.person("veteran", &[HR_GROUP, FINANCE_GROUP])?;
    let psql = world.psql(&person);
    psql.query("select 1")?;
    world
        .postgres
        .sql("create role badge; grant badge to veteran")?;
    world
        .directory
        .remove_member(FINANCE_GROUP, Member::Person("veteran"))?;
    wait_until("the membership is revoked", CHANGE_LIMIT, || {
        psql.query("select 1")?;
        Ok(!world.memberships("veteran")?.contains(FINANCE_GROUP))
    })?;
    ensure!(world.memberships("veteran")? == format!("badge,{HR_GROUP}"));
    Ok(())
}
