//! Binding at once by `{login}@domain`.

use anyhow::{Result, ensure};
use postern_tests::DirectoryServer;

use crate::Test;
use crate::world::{PASSWORD, World};

pub(crate) const TESTS: &[Test] = &[
    ("a_principal_name_is_bound_at_once", direct_bind),
    (
        "the_password_of_somebody_who_has_the_principal_name_of_another_is_refused",
        crossed_names,
    ),
    ("a_template_that_is_a_dn_is_bound_at_once", dn_template),
];

fn with_template(world: &World, template: &str, test: impl FnOnce() -> Result<()>) -> Result<()> {
    world.with_config(
        |config| {
            config.set("directory", "bind", "template");
            config.set("directory", "bind_template", template);
        },
        test,
    )
}

fn direct_bind(world: &World) -> Result<()> {
    world.add_person("Edith")?;
    with_template(world, "{login}@corp.example", || {
        for login in ["Edith", "EDITH", "edith@corp.example", "CORP\\edith"] {
            let role = world.role_of(login)?;
            ensure!(role == "Edith", "{login} became {role}");
        }
        let binds = world.binds_of("edith@corp.example")?;
        ensure!(binds == 4, "{binds} binds for four spellings");
        let refusal = world.refused("edith", "Wrong-2718-guess")?;
        ensure!(refusal.reason == "wrong_password", "{refusal:?}");
        let binds = world.binds_of("edith@corp.example")?;
        ensure!(binds == 5, "{binds} binds after one wrong password");
        let unknown = world.refused("nobody-here", PASSWORD)?;
        ensure!(unknown.reason == "wrong_password", "{unknown:?}");
        Ok(())
    })
}

/// `fanny` and `gerda` have each other's name as principal name: the password that opens
/// `fanny@branch.example` is gerda's.
fn crossed_names(world: &World) -> Result<()> {
    const OTHER: &str = "Garden-2236-gate";
    world.add_person("fanny")?;
    world.samba.add_person("gerda", OTHER)?;
    world.replace("fanny", "userPrincipalName", "somebody@branch.example")?;
    world.replace("gerda", "userPrincipalName", "fanny@branch.example")?;
    with_template(world, "{login}@branch.example", || {
        world.refused("fanny", OTHER)?;
        let role = "select 1 from pg_roles where rolname = 'fanny'";
        ensure!(
            world.postgres.sql(role)?.is_empty(),
            "another's password made a role"
        );
        Ok(())
    })
}

fn dn_template(world: &World) -> Result<()> {
    world.add_person("hanna")?;
    with_template(world, "CN={login},CN=Users,DC=corp,DC=example", || {
        let role = world.role_of("hanna")?;
        ensure!(role == "hanna", "{role}");
        let refusal = world.refused("hanna,CN=Users", PASSWORD)?;
        ensure!(
            ["wrong_password", "unknown_login"].contains(&refusal.reason.as_str()),
            "{refusal:?}"
        );
        Ok(())
    })
}
