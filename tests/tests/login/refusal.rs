//! Who is not let in, and what they are told.

use anyhow::{Result, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP, NOAH};
use postern_tests::postern::{PROVISIONER, PROVISIONER_PASSWORD};
use postern_tests::postgres::SUPERUSER;
use postern_tests::{DirectoryServer, RawClient, World};

use crate::testuser;

pub(crate) fn without_a_group_the_refusal_is_postgresqls_own(world: &World) -> Result<()> {
    let through = world.postern.psql(NOAH.login, NOAH.password);
    let told = through.database(HR_DATABASE).refused()?;
    let direct = world.postgres.psql(NOAH.login, NOAH.password);
    let own = direct.database(HR_DATABASE).refused()?;
    let (port, own_port) = (world.postern.port(), world.postgres.port());
    let own = own.replace(&own_port.to_string(), &port.to_string());
    ensure!(told == own, "{told:?} is not {own:?}");
    ensure!(world.last_refusal()? == "no_group");
    ensure!(world.may_log_in(NOAH.login)?.is_empty(), "a role was made");
    Ok(())
}

pub(crate) fn unknown_wrong_and_no_group_are_told_byte_for_byte_the_same(
    world: &World,
) -> Result<()> {
    // Names of one length, so that only the letters of the name may differ.
    world.person("mallory1", &[HR_GROUP])?;
    let lonely = world.person("mallory2", &[])?;
    let port = world.plain.port();
    let mut told = Vec::new();
    for (login, password) in [
        ("mallory0", "whatever"),
        ("mallory1", "wrong"),
        ("mallory2", lonely.password.as_str()),
        ("mallory3", ""),
    ] {
        let refusal = RawClient::refused(port, login, HR_DATABASE, password)?;
        let bytes = String::from_utf8_lossy(&refusal.body).replace(login, "NAME");
        ensure!(refusal.field(b'C').as_deref() == Some("28P01"), "{bytes}");
        told.push(bytes);
    }
    let same = told.windows(2).all(|pair| pair.first() == pair.last());
    ensure!(same, "{told:?}");
    Ok(())
}

pub(crate) fn a_wrong_password_costs_one_bind_and_repeating_it_costs_none(
    world: &World,
) -> Result<()> {
    let typist = world.person("typist", &[HR_GROUP])?;
    let wrong = world.psql(&typist).login(&typist.login, "mistyped");
    let before = world.directory.binds()?.unwrap_or_default();
    wrong.refused()?;
    ensure!(world.last_refusal()? == "wrong_password");
    let once = world.directory_calls()?;
    ensure!(once.0 - before == 1, "{before} {once:?}");
    for _ in 0..5 {
        wrong.refused()?;
        ensure!(world.last_refusal()? == "wrong_password_remembered");
    }
    let again = world.directory_calls()?;
    ensure!(once == again, "{once:?} became {again:?}");
    Ok(())
}

pub(crate) fn guesses_at_a_person_reach_the_directory_four_times(world: &World) -> Result<()> {
    let target = world.person("target", &[HR_GROUP])?;
    let before = world.directory.failed_binds()?;
    for number in 0..12 {
        let guess = format!("guess-{number}");
        world.psql(&target).login(&target.login, &guess).refused()?;
    }
    let after = world.directory.failed_binds()?;
    ensure!(after - before == 4, "{before} became {after}");
    ensure!(world.last_refusal()? == "refresh_limit");
    // Whoever is in before is not kept out by the guesses of others.
    let steady = world.person("targeted", &[HR_GROUP])?;
    let right = world.psql(&steady);
    right.query("select 1")?;
    for number in 0..12 {
        let guess = format!("guess-{number}");
        right.login(&steady.login, &guess).refused()?;
    }
    right.query("select 1")?;
    Ok(())
}

pub(crate) fn a_wrong_password_does_not_keep_the_right_one_out(world: &World) -> Result<()> {
    let steady = world.person("steady", &[HR_GROUP])?;
    let right = world.psql(&steady);
    right.query("select 1")?;
    for number in 0..6 {
        right
            .login("steady", &format!("guess-{number}"))
            .refused()?;
    }
    // Four tries in half an hour, then none.
    ensure!(world.last_refusal()? == "refresh_limit");
    let before = world.directory_calls()?;
    right.query("select 1")?;
    ensure!(world.directory_calls()? == before, "the entry was evicted");
    Ok(())
}

pub(crate) fn a_foreign_domain_is_refused_without_the_directory(world: &World) -> Result<()> {
    let before = world.directory_calls()?;
    for login in [
        "testuser@elsewhere.example",
        "ELSEWHERE\\testuser",
        "a@b@corp.example",
    ] {
        let psql = world.psql(&testuser());
        let told = psql.login(login, &testuser().password).refused()?;
        ensure!(told.contains("password authentication failed"), "{told}");
        ensure!(world.last_refusal()? == "login_name_invalid", "{login}");
    }
    ensure!(world.directory_calls()? == before);
    Ok(())
}

pub(crate) fn filter_characters_in_a_login_find_nobody(world: &World) -> Result<()> {
    for login in ["*", "test*", "testuser)(uid=*", "testuser)(|(uid=*", "\\2a"] {
        let psql = world.psql(&testuser());
        psql.login(login, &testuser().password).refused()?;
        let reason = world.last_refusal()?;
        let expected = ["unknown_login", "login_name_invalid"];
        ensure!(expected.contains(&reason.as_str()), "{login}: {reason}");
    }
    Ok(())
}

pub(crate) fn a_role_that_an_administrator_let_expire_opens_no_session(
    world: &World,
) -> Result<()> {
    let person = world.person("seasonal", &[HR_GROUP])?;
    let psql = world.psql(&person);
    psql.query("select 1")?;
    let valid = |until: &str| {
        let sql = format!("alter role seasonal valid until '{until}'");
        world.postgres.sql(&sql)
    };
    valid("2000-01-01")?;
    // Neither what is remembered nor the secret that is set anew lets it in.
    for _ in 0..2 {
        let told = psql.refused()?;
        let own = "the database does not accept the role's secret";
        ensure!(told.contains(own), "{told}");
        ensure!(world.last_refusal()? == "backend_refused");
    }
    let kept = "select rolvaliduntil = '2000-01-01' from pg_roles where rolname = 'seasonal'";
    ensure!(world.postgres.sql(kept)? == "t", "it was lifted");
    valid("infinity")?;
    ensure!(psql.query("select session_user")? == "seasonal");
    Ok(())
}

pub(crate) fn nobody_gets_in_as_whom_postern_asks_with(world: &World) -> Result<()> {
    let database = format!("database={HR_DATABASE}");
    let backends = || world.postgres_lines(&["connection authorized", &database]);
    let before = backends()?;
    for login in ["nobody-at-all", PROVISIONER, "postern_owner", SUPERUSER] {
        for password in ["whatever", PROVISIONER_PASSWORD] {
            let port = world.plain.port();
            let told = RawClient::refused(port, login, HR_DATABASE, password)?;
            ensure!(told.field(b'C').as_deref() == Some("28P01"), "{told:?}");
        }
    }
    ensure!(backends()? == before, "the database let somebody in");
    // Whoever is let in is seen.
    world.psql(&testuser()).query("select 1")?;
    ensure!(backends()? > before, "nobody is seen");
    Ok(())
}
