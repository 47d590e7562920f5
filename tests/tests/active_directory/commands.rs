//! What an administrator asks the program.

use anyhow::{Result, ensure};
use postern_tests::cast::{FINANCE_GROUP, NINA, PAYROLL_GROUP};

use crate::Test;
use crate::world::World;

pub(crate) const TESTS: &[Test] = &[
    ("check_finds_nothing_wrong", check),
    (
        "check_says_that_the_authority_is_not_trusted",
        check_foreign,
    ),
    ("explain_login_tells_the_way_to_a_nested_group", explain),
    (
        "explain_login_tells_why_a_disabled_account_is_refused",
        explain_disabled,
    ),
];

fn check(world: &World) -> Result<()> {
    let (ok, said) = world.command(&["check"])?;
    ensure!(ok, "{said}");
    let url = world.samba.url();
    ensure!(said.contains(&url), "{said}");
    Ok(())
}

fn check_foreign(world: &World) -> Result<()> {
    let authority = world.foreign_authority()?;
    world.with_config(
        |config| {
            config.set("directory", "tls_ca_file", &authority);
        },
        || {
            let (ok, said) = world.command(&["check"])?;
            ensure!(!ok && said.contains("certificate"), "{said}");
            ensure!(said.contains("tls_ca_file"), "no cure is named: {said}");
            Ok(())
        },
    )
}

fn explain(world: &World) -> Result<()> {
    let (ok, said) = world.command(&["explain-login", NINA.login])?;
    ensure!(ok, "{said}");
    let group = said.lines().find(|it| it.contains(FINANCE_GROUP));
    let group = group.unwrap_or_default();
    ensure!(
        group.contains(&format!("through {PAYROLL_GROUP}")),
        "{said}"
    );
    ensure!(said.contains("admitted as nina"), "{said}");
    Ok(())
}

fn explain_disabled(world: &World) -> Result<()> {
    world.add_person("dora")?;
    world.replace("dora", "userAccountControl", "514")?;
    let (ok, said) = world.command(&["explain-login", "dora"])?;
    ensure!(!ok && said.contains("disabled"), "{said}");
    Ok(())
}
