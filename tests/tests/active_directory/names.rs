//! What a person may type, and which role it leads to.

use anyhow::{Result, ensure};
use postern_tests::cast::HR_GROUP;
use postern_tests::{DirectoryServer, Member};

use crate::Test;
use crate::world::{PASSWORD, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_first_login_makes_the_role_and_its_memberships",
        first_login,
    ),
    (
        "every_spelling_of_a_login_leads_to_the_directorys_own",
        spellings,
    ),
    ("another_domain_is_refused_without_a_bind", other_domain),
    ("a_login_name_is_no_filter_and_no_pattern", hostile_names),
    (
        "letters_beyond_ascii_survive_in_the_role_name",
        beyond_ascii,
    ),
];

fn first_login(world: &World) -> Result<()> {
    world.add_person("frida")?;
    let known = world
        .postgres
        .sql("select 1 from pg_roles where rolname = 'frida'")?;
    ensure!(known.is_empty(), "the role is there before its first login");
    let who = world
        .psql("frida")
        .query("select session_user, current_user")?;
    ensure!(who == "frida|frida", "{who}");
    let roles = world.memberships("frida")?;
    ensure!(roles.iter().eq([HR_GROUP]), "{roles:?}");
    let stored = world.postgres.sql(
        "select directory_id, login, dn from postern.managed_role where role_name = 'frida'",
    )?;
    let guid = guid_of(world, "frida")?;
    let expected = format!("guid:{guid}|frida|{}", postern_tests::Samba::dn("frida"));
    ensure!(stored == expected, "{stored}\nis not {expected}");
    Ok(())
}

/// The text form of an entry's objectGUID, as Samba's own tools print it.
pub(crate) fn guid_of(world: &World, login: &str) -> Result<String> {
    let shown = world
        .samba
        .tool(&["user", "show", login, "--attributes=objectGUID"])?;
    let guid = shown.lines().find_map(|it| it.strip_prefix("objectGUID: "));
    Ok(guid.unwrap_or_default().to_owned())
}

fn spellings(world: &World) -> Result<()> {
    world.add_person("Greta.Berg")?;
    for login in [
        "Greta.Berg",
        "greta.berg",
        "GRETA.BERG",
        "greta.berg@corp.example",
        "Greta.Berg@CORP.EXAMPLE",
        "CORP\\greta.berg",
        "corp\\GRETA.BERG",
    ] {
        let role = world.role_of(login)?;
        ensure!(role == "Greta.Berg", "{login} became {role}");
    }
    let roles = world
        .postgres
        .sql("select count(*) from pg_roles where lower(rolname) = 'greta.berg'")?;
    ensure!(roles == "1", "{roles} roles for one person");
    Ok(())
}

fn other_domain(world: &World) -> Result<()> {
    world.add_person("hilda")?;
    for login in [
        "hilda@other.example",
        "OTHER\\hilda",
        "hilda@",
        "\\hilda",
        "CORP\\hilda@corp.example",
    ] {
        let refusal = world.refused(login, PASSWORD)?;
        ensure!(
            refusal.reason == "login_name_invalid",
            "{login}: {refusal:?}"
        );
    }
    let binds = world.binds_of(&postern_tests::Samba::dn("hilda"))?;
    ensure!(binds == 0, "{binds} binds");
    Ok(())
}

fn hostile_names(world: &World) -> Result<()> {
    world.add_person("ingrid")?;
    for login in [
        "ingri*",
        "*",
        "ingrid)(objectClass=*",
        "ingrid\\2a",
        "CN=ingrid,CN=Users,DC=corp,DC=example",
    ] {
        let refusal = world.refused(login, PASSWORD)?;
        ensure!(
            ["unknown_login", "login_name_invalid"].contains(&refusal.reason.as_str()),
            "{login}: {refusal:?}"
        );
    }
    Ok(())
}

fn beyond_ascii(world: &World) -> Result<()> {
    let login = "jürgen.groß";
    world.samba.add_person(login, PASSWORD)?;
    world.samba.add_member(HR_GROUP, Member::Person(login))?;
    for typed in [login, "JÜRGEN.groß"] {
        let role = world.role_of(typed)?;
        ensure!(role == login, "{typed} became {role}");
    }
    Ok(())
}
