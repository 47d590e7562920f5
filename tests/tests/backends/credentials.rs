//! How Postern logs in to the database as the role.

use anyhow::{Result, ensure};
use postern_tests::cast::HR_GROUP;
use postern_tests::{ConfigFile, World};

use crate::encryption::with_hba;

fn mirror(config: &mut ConfigFile) {
    config
        .set("credential", "mode", "mirror")
        .set("credential", "mirror_reason", "a test");
}

pub(crate) fn weaker_methods_are_refused_unless_allowed(world: &World) -> Result<()> {
    let person = world.person("legacy", &[HR_GROUP])?;
    let psql = world.psql(&person);
    for (method, allowed) in [
        ("password", "cleartext"),
        ("md5", "md5"),
        ("trust", "trust"),
    ] {
        let line = format!("hostssl all all 127.0.0.1/32 {method}");
        // The mirrored password is known here, so that an MD5 hash of it can be stored.
        world.with_config(mirror, || {
            psql.query("select 1")?;
            if method == "md5" {
                let password = &person.password;
                let change = format!("alter role legacy password '{password}'");
                let change = format!("set password_encryption = 'md5'; {change}");
                world.postgres.sql(&change)?;
            }
            with_hba(world, &line, || {
                let told = psql.refused()?;
                let expected = "asks for a login that is not allowed";
                ensure!(told.contains(expected), "{method}: {told}");
                Ok(())
            })
        })?;
        let change = |config: &mut ConfigFile| {
            mirror(config);
            config.set("backend", "auth_methods", ["scram-sha-256", allowed]);
        };
        world.with_config(change, || {
            with_hba(world, &line, || {
                ensure!(psql.query("select session_user")? == "legacy", "{method}");
                Ok(())
            })
        })?;
    }
    Ok(())
}

pub(crate) fn mirror_mode_lets_the_person_in_directly(world: &World) -> Result<()> {
    let person = world.person("mirrored", &[HR_GROUP])?;
    let direct = world.postgres.psql(&person.login, &person.password);
    world.with_config(mirror, || {
        world.psql(&person).query("select 1")?;
        let who = direct.query("select session_user")?;
        ensure!(who == "mirrored", "{who}");
        let stored = world
            .postgres
            .sql("select rolpassword from pg_authid where rolname = 'mirrored'")?;
        ensure!(stored.starts_with("SCRAM-SHA-256$"), "{stored}");
        Ok(())
    })?;
    // Back in the derived mode, the person's password is worth nothing there again.
    world.psql(&person).query("select 1")?;
    let told = direct.refused()?;
    ensure!(told.contains("password authentication failed"), "{told}");
    Ok(())
}

pub(crate) fn derived_mode_keeps_the_persons_password_out_of_the_database(
    world: &World,
) -> Result<()> {
    let person = world.person("derived", &[HR_GROUP])?;
    world.psql(&person).query("select 1")?;
    let direct = world.postgres.psql(&person.login, &person.password);
    let told = direct.refused()?;
    ensure!(told.contains("password authentication failed"), "{told}");
    Ok(())
}

pub(crate) fn another_epoch_changes_every_secret(world: &World) -> Result<()> {
    let person = world.person("rotated", &[HR_GROUP])?;
    let stored = || {
        world
            .postgres
            .sql("select rolpassword from pg_authid where rolname = 'rotated'")
    };
    world.psql(&person).query("select 1")?;
    let before = stored()?;
    let change = |config: &mut ConfigFile| {
        config.set("credential", "epoch", 2);
    };
    world.with_config(change, || {
        world.psql(&person).query("select 1")?;
        ensure!(stored()? != before, "the secret is the old one");
        Ok(())
    })
}
