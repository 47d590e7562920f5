//! Accounts that exist and may not log in: the client hears one and the same thing, the audit
//! record has the truth.

use std::process::Command;

use anyhow::{Result, ensure};
use postern_tests::process::run_any;
use postern_tests::{Samba, wait_until};

use crate::Test;
use crate::world::{PASSWORD, SEEN_LIMIT, World};

pub(crate) const TESTS: &[Test] = &[
    ("a_disabled_account_is_refused", disabled),
    ("an_expired_account_is_refused", expired),
    ("a_password_that_must_be_changed_is_refused", must_change),
    (
        "a_locked_account_is_refused_with_the_right_password",
        locked,
    ),
    (
        "an_account_disabled_after_its_login_is_refused_after_the_recheck",
        disabled_later,
    ),
];

/// `userAccountControl`: NORMAL_ACCOUNT and ACCOUNTDISABLE.
const DISABLED: &str = "514";

fn refused_as(world: &World, login: &str, truth: &str) -> Result<()> {
    let refusal = world.refused(login, PASSWORD)?;
    ensure!(
        refusal.reason == "account_refused" && refusal.detail.contains(truth),
        "{login}: {refusal:?}"
    );
    let role = format!("select 1 from pg_roles where rolname = '{login}'");
    ensure!(world.postgres.sql(&role)?.is_empty(), "{login} has a role");
    Ok(())
}

fn disabled(world: &World) -> Result<()> {
    world.add_person("paula")?;
    world.replace("paula", "userAccountControl", DISABLED)?;
    refused_as(world, "paula", "disabled")?;
    // Whether an account is disabled is nothing for those who do not know its password.
    let wrong = world.refused("paula", "Wrong-2718-guess")?;
    ensure!(wrong.reason != "no_group", "{wrong:?}");
    Ok(())
}

fn expired(world: &World) -> Result<()> {
    world.add_person("petra")?;
    // 2023-11-14, in units of 100 ns since 1601.
    world.replace("petra", "accountExpires", "133444736000000000")?;
    refused_as(world, "petra", "expired")
}

fn must_change(world: &World) -> Result<()> {
    world.add_person("rosa")?;
    world.replace("rosa", "pwdLastSet", "0")?;
    refused_as(world, "rosa", "must be changed")
}

fn locked(world: &World) -> Result<()> {
    world.add_person("rita")?;
    let threshold = |tries: u32| {
        world.samba.ldif(&format!(
            "dn: {}\nchangetype: modify\nreplace: lockoutThreshold\nlockoutThreshold: {tries}\n",
            postern_tests::samba::BASE_DN
        ))
    };
    threshold(3)?;
    let outcome = lock_out(world).and_then(|()| refused_as(world, "rita", "locked"));
    threshold(0)?;
    outcome
}

fn lock_out(world: &World) -> Result<()> {
    for _ in 0..4 {
        let mut who = Command::new("ldapwhoami");
        who.env("LDAPTLS_CACERT", world.samba.ca_file());
        who.args(["-x", "-H", &world.samba.url(), "-w", "Wrong-2718-guess"]);
        let output = run_any(who.args(["-D", &Samba::dn("rita")]))?;
        ensure!(!output.status.success(), "a wrong password was right");
    }
    Ok(())
}

fn disabled_later(world: &World) -> Result<()> {
    world.add_person("sarah")?;
    world.role_of("sarah")?;
    world.replace("sarah", "userAccountControl", DISABLED)?;
    let psql = world.psql("sarah");
    wait_until("the disabled account is refused", SEEN_LIMIT, || {
        Ok(!psql.run("select 1")?.ok)
    })?;
    let refusal = world.last_refusal("sarah")?;
    ensure!(refusal.reason == "account_refused", "{refusal:?}");
    Ok(())
}
