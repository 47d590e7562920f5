//! What an operator orders: who is kept out, which session ends, what is compared.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::{User, geteuid};
use postern_tests::cast::{FINANCE_GROUP, HR_DATABASE, HR_GROUP};
use postern_tests::postgres::SUPERUSER;
use postern_tests::world::outcome_of;
use postern_tests::{Postern, Someone, wait_until};
use serde_json::Value;

use crate::directory::take_out;
use crate::proxies::expect_ended;
use crate::site::{SEEN_LIMIT, Site, expect_revoked, refusal, session_of};
use crate::{Test, claims};

pub(crate) const OF_ONE: &[Test] = claims![only
    a_revoke_works_without_the_directory_and_survives_a_restart_until_it_is_undone,
    a_revoke_for_a_second_ends_by_itself,
    a_revoke_on_one_proxy_keeps_the_person_out_of_the_other,
    a_revoke_of_somebody_who_never_came_keeps_them_out,
    kill_ends_one_session_and_tells_the_client_who_did_and_why,
    reconcile_says_what_differs_and_changes_it_only_without_dry_run,
    an_adopted_role_is_the_persons_and_can_be_revoked,
    a_wrong_order_is_refused_with_what_to_do_about_it,
];

/// For the end of the run: after all that has happened nothing differs.
pub(crate) const LAST: &[Test] = claims![nothing_is_left_to_reconcile];

const HELD: &str = "An operator has revoked your access.";

/// What a command says that must succeed.
fn ordered(postern: &Postern, arguments: &[&str]) -> Result<String> {
    let (code, said) = outcome_of(&mut postern.command(arguments)?)?;
    ensure!(code == 0, "{arguments:?}: {code}: {said}");
    Ok(said)
}

/// What a command says that must not.
fn not_ordered(postern: &Postern, arguments: &[&str]) -> Result<String> {
    let (code, said) = outcome_of(&mut postern.command(arguments)?)?;
    ensure!(code != 0, "{arguments:?} succeeded: {said}");
    Ok(said)
}

/// The last order on record, which must be ours.
fn last_order(postern: &Postern, order: &str) -> Result<Value> {
    let records = postern.audit()?;
    let last = records.into_iter().rfind(|it| it["event"] == "ordered");
    let last = last.context("no order is on record")?;
    let own = User::from_uid(geteuid())?.context("we have no name")?.name;
    ensure!(
        last["order"] == order && last["by"] == own.as_str(),
        "{last}"
    );
    Ok(last)
}

fn wait_until_in(postern: &Postern, person: &Someone) -> Result<()> {
    wait_until("the person is in", SEEN_LIMIT, || {
        Ok(refusal(postern, person)?.is_none())
    })
}

fn a_revoke_works_without_the_directory_and_survives_a_restart_until_it_is_undone(
    site: &Site,
) -> Result<()> {
    let person = site.person("intruder", &[HR_GROUP])?;
    let mut first = site.session(&person)?;
    let mut second = site.session(&person)?;
    let told = &site.told;
    site.directory.stop()?;
    let outcome = (|| {
        let order = ["revoke", "intruder", "--reason", "a stolen laptop"];
        let said = ordered(told, &order)?;
        ensure!(said.contains("2 sessions were ended"), "{said}");
        ensure!(said.contains("until postern restore intruder"), "{said}");
        for session in [&mut first, &mut second] {
            let detail = expect_revoked(session)?;
            ensure!(detail == HELD, "{detail}");
        }
        site.expect_nothing_left("intruder")?;
        ensure!(refusal(told, &person)?.is_some(), "it came in again");
        told.stop()?;
        told.start_again()
    })();
    site.directory.start_again()?;
    outcome?;
    let record = last_order(told, "revoke")?;
    ensure!(record["subject"] == "intruder", "{record}");
    let detail = record["detail"].as_str().unwrap_or_default();
    ensure!(detail.contains("a stolen laptop"), "{record}");
    let listed = ordered(told, &["revoked"])?;
    let line = listed.lines().find(|it| it.contains("intruder"));
    let line = line.context("it is not listed")?;
    ensure!(line.contains("a stolen laptop"), "{line}");
    expect_kept_out(site, &person)?;
    ordered(told, &["restore", "intruder"])?;
    last_order(told, "restore")?;
    ensure!(!ordered(told, &["revoked"])?.contains("intruder"));
    wait_until_in(told, &person)?;
    ensure!(site.memberships("intruder")? == HR_GROUP);
    Ok(())
}

/// The directory is back and says that the person may be in; the operator's word counts more.
fn expect_kept_out(site: &Site, person: &Someone) -> Result<()> {
    // Somebody else is in, so it is not the directory that keeps people out.
    let other = site.person("welcome", &[HR_GROUP])?;
    wait_until_in(&site.told, &other)?;
    let code = refusal(&site.told, person)?;
    ensure!(code.as_deref() == Some("28000"), "{code:?}");
    ensure!(site.may_log_in(&person.login)? == "f");
    Ok(())
}

fn a_revoke_for_a_second_ends_by_itself(site: &Site) -> Result<()> {
    let person = site.person("timeout", &[HR_GROUP])?;
    let mut live = site.session(&person)?;
    let order = [
        "revoke",
        "timeout",
        "--for",
        "2s",
        "--reason",
        "cooling off",
    ];
    ordered(&site.told, &order)?;
    expect_revoked(&mut live)?;
    ensure!(
        refusal(&site.told, &person)?.is_some(),
        "it came in at once"
    );
    let record = last_order(&site.told, "revoke")?;
    let detail = record["detail"].as_str().unwrap_or_default();
    ensure!(detail.contains("for 2 s"), "{record}");
    wait_until_in(&site.told, &person)?;
    ensure!(site.memberships("timeout")? == HR_GROUP);
    ensure!(!ordered(&site.told, &["revoked"])?.contains("timeout"));
    Ok(())
}

fn a_revoke_on_one_proxy_keeps_the_person_out_of_the_other(site: &Site) -> Result<()> {
    site.with_untold(|| {
        let person = site.person("everywhere", &[HR_GROUP])?;
        let mut here = site.session(&person)?;
        let mut there = session_of(&site.untold, &person)?;
        let order = ["revoke", "everywhere", "--reason", "x"];
        ordered(&site.untold, &order)?;
        expect_revoked(&mut there)?;
        expect_ended(&mut here)?;
        for postern in [&site.told, &site.untold] {
            ensure!(refusal(postern, &person)?.is_some(), "in again");
        }
        ordered(&site.told, &["restore", "everywhere"])?;
        for postern in [&site.told, &site.untold] {
            wait_until_in(postern, &person)?;
        }
        Ok(())
    })
}

fn a_revoke_of_somebody_who_never_came_keeps_them_out(site: &Site) -> Result<()> {
    let person = site.person("newcomer", &[HR_GROUP])?;
    ordered(&site.told, &["revoke", "newcomer", "--reason", "not yet"])?;
    ensure!(refusal(&site.told, &person)?.is_some(), "the person is in");
    ensure!(site.may_log_in("newcomer")? != "t");
    ordered(&site.told, &["restore", "newcomer@corp.example"])?;
    wait_until_in(&site.told, &person)
}

fn kill_ends_one_session_and_tells_the_client_who_did_and_why(site: &Site) -> Result<()> {
    let person = site.person("wedged", &[HR_GROUP])?;
    let mut first = site.session(&person)?;
    let mut second = site.session(&person)?;
    let pid = first.query("select pg_backend_pid()")?.parse::<u64>()?;
    let listed: Value = serde_json::from_str(&ordered(&site.told, &["sessions", "--json"])?)?;
    let listed = listed.as_array().context("no list of sessions")?;
    let ours = listed.iter().find(|it| it["backend_pid"] == pid);
    let ours = ours.context("the session is not listed")?;
    ensure!(ours["role"] == "wedged", "{ours}");
    for flowed in ["bytes_to_client", "bytes_to_backend"] {
        ensure!(ours[flowed].as_u64() > Some(0), "{flowed}: {ours}");
    }
    let id = ours["session"].as_str().context("no identifier")?;
    ordered(&site.told, &["kill", id, "--reason", "it holds a lock"])?;
    let told = first.read()?;
    let field = |code| told.field(code).unwrap_or_default();
    ensure!(field(b'C') == "57P01", "{told:?}");
    ensure!(field(b'D').contains("it holds a lock"), "{told:?}");
    first.expect_end()?;
    let record = last_order(&site.told, "kill")?;
    ensure!(record["subject"] == id, "{record}");
    ensure!(second.query("select 1")? == "1", "the other one ended too");
    ensure!(refusal(&site.told, &person)?.is_none());
    wait_until("the end is on record", SEEN_LIMIT, || {
        let records = site.told.audit()?;
        let mut closed = records.iter().filter(|it| it["session"] == id);
        Ok(closed.any(|it| it["event"] == "closed" && it["reason"] == "ended"))
    })
}

fn reconcile_says_what_differs_and_changes_it_only_without_dry_run(site: &Site) -> Result<()> {
    let half = site.person("lender", &[HR_GROUP, FINANCE_GROUP])?;
    let gone = site.person("deserter", &[HR_GROUP])?;
    drop(site.session(&gone)?);
    drop(site.session(&half)?);
    site.with_untold(|| {
        let mut live = session_of(&site.untold, &half)?;
        // Nobody follows the directory now.
        site.told.stop()?;
        let outcome = (|| {
            take_out(&*site.directory, FINANCE_GROUP, "lender")?;
            site.directory.remove_person("deserter")?;
            let plan = ordered(&site.untold, &["reconcile", "--dry-run"])?;
            let revoke = |role: &str, what: &str| {
                let mut lines = plan.lines().map(|it| it.split_whitespace().collect());
                lines.any(|it: Vec<&str>| {
                    it.first() == Some(&"revoke") && it.get(1) == Some(&role) && it.contains(&what)
                })
            };
            ensure!(revoke("lender", FINANCE_GROUP), "{plan}");
            ensure!(plan.contains("deserter"), "{plan}");
            let both = format!("{FINANCE_GROUP},{HR_GROUP}");
            ensure!(site.memberships("lender")? == both, "it was no dry run");
            ensure!(site.may_log_in("deserter")? == "t", "it was no dry run");
            ensure!(live.query("select 1")? == "1", "it was no dry run");
            let done = ordered(&site.untold, &["reconcile"])?;
            ensure!(done == plan, "planned:\n{plan}\ndone:\n{done}");
            expect_revoked(&mut live)?;
            ensure!(site.memberships("lender")? == HR_GROUP);
            site.expect_nothing_left("deserter")?;
            last_order(&site.untold, "reconcile")?;
            let again = ordered(&site.untold, &["reconcile", "--dry-run"])?;
            ensure!(again.contains(" 0 differences"), "{again}");
            Ok(())
        })();
        site.told.start_again()?;
        outcome
    })
}

fn adopt(site: &Site, arguments: &[&str]) -> Result<(i32, String)> {
    let mut command = site.told.command(&["adopt"])?;
    command.args(arguments).args(["--admin-user", SUPERUSER]);
    command
        .arg("--admin-host")
        .arg(site.postgres.socket_folder());
    command.args(["--admin-port", &site.postgres.port().to_string()]);
    outcome_of(&mut command)
}

fn an_adopted_role_is_the_persons_and_can_be_revoked(site: &Site) -> Result<()> {
    let person = site.person("veteran", &[HR_GROUP])?;
    let made = "create role veteran login; create schema veteran authorization veteran";
    site.postgres.sql_in(HR_DATABASE, made)?;
    let code = refusal(&site.told, &person)?;
    ensure!(code.as_deref() == Some("28000"), "{code:?}");
    let (code, said) = adopt(site, &["veteran", "--login", "veteran@corp.example"])?;
    ensure!(code == 0 && said.contains("uid=veteran"), "{code}: {said}");
    let record = last_order(&site.told, "adopt")?;
    ensure!(record["subject"] == "veteran", "{record}");
    ensure!(record["detail"] == "for veteran@corp.example", "{record}");
    let mut live = site.session(&person)?;
    ensure!(live.query("select current_schema()")? == "veteran");
    take_out(&*site.directory, HR_GROUP, "veteran")?;
    expect_revoked(&mut live)?;
    site.expect_nothing_left("veteran")?;
    for (arguments, what) in [
        (["nobody-made-it", "--login", "testuser"], "does not exist"),
        (["veteran", "--login", "nobody-knows-me"], "nobody-knows-me"),
        (["veteran", "--login", "testuser"], "veteran"),
        ([SUPERUSER, "--login", "testuser"], SUPERUSER),
    ] {
        let (code, said) = adopt(site, &arguments)?;
        ensure!(code == 1 && said.contains(what), "{arguments:?}: {said}");
    }
    let log = "select provisioner from postern.change_log \
               where role_name = 'veteran' and action like 'adopt%'";
    ensure!(site.postgres.sql(log)? == SUPERUSER);
    Ok(())
}

fn a_wrong_order_is_refused_with_what_to_do_about_it(site: &Site) -> Result<()> {
    let told = &site.told;
    let orders: [(&[&str], &str); 8] = [
        (&["revoke", "nina"], "--reason"),
        (
            &["revoke", "nina", "--for", "0s", "--reason", "x"],
            "such as 1h",
        ),
        (
            &["revoke", "nina", "--for", "soon", "--reason", "x"],
            "such as 1h",
        ),
        (
            &["revoke", "nina", "--for", "99999999d", "--reason", "x"],
            "a hundred years",
        ),
        (&["revoke", "", "--reason", "x"], "\"\""),
        (&["restore", "nina"], "nobody keeps nina out"),
        (&["kill", "0123456789abcdef"], "postern sessions"),
        (&["reconcile", "everything"], "unexpected argument"),
    ];
    for (arguments, words) in orders {
        let said = not_ordered(told, arguments)?;
        ensure!(said.contains(words), "{arguments:?}: {said}");
        ensure!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
    told.stop()?;
    let said = not_ordered(told, &["revoke", "nina", "--reason", "x"]);
    told.start_again()?;
    let said = said?;
    ensure!(said.contains("does not answer"), "{said}");
    ensure!(!ordered(told, &["revoked"])?.contains("nina"));
    Ok(())
}

fn nothing_is_left_to_reconcile(site: &Site) -> Result<()> {
    let limit = Duration::from_secs(30);
    let mut said = String::new();
    let outcome = wait_until("nothing differs from the directory", limit, || {
        said = ordered(&site.told, &["reconcile", "--dry-run"])?;
        Ok(said.contains(" 0 differences"))
    });
    outcome.with_context(|| said)
}
