//! The identity is the entry, not the name.

use anyhow::{Result, ensure};
use postern_tests::cast::HR_GROUP;
use postern_tests::samba::{BASE_DN, USERS_DN};
use postern_tests::{DirectoryServer, Member, Samba, wait_until};

use crate::Test;
use crate::names::guid_of;
use crate::world::{PASSWORD, SEEN_LIMIT, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "somebody_with_the_name_of_a_deleted_person_does_not_get_their_role",
        same_name,
    ),
    (
        "a_renamed_person_gets_in_when_the_administrator_has_renamed_the_role",
        renamed,
    ),
    ("a_person_who_moves_in_the_tree_keeps_their_role", moved),
];

fn same_name(world: &World) -> Result<()> {
    world.add_person("agnes")?;
    world.psql("agnes").query("select 1")?;
    let first = guid_of(world, "agnes")?;
    world.samba.remove_person("agnes")?;
    let psql = world.psql("agnes");
    wait_until("the deleted person is refused", SEEN_LIMIT, || {
        Ok(!psql.run("select 1")?.ok)
    })?;
    let refusal = world.last_refusal("agnes")?;
    ensure!(refusal.reason == "unknown_login", "{refusal:?}");

    // The refusal of this very password is remembered for a minute; the new person has another.
    let password = "Harvest-1414-field";
    world.samba.add_person("agnes", password)?;
    world.samba.add_member(HR_GROUP, Member::Person("agnes"))?;
    let second = guid_of(world, "agnes")?;
    ensure!(first != second, "the directory gave one identifier twice");
    let said = world.postern.psql("agnes", password).refused()?;
    ensure!(
        said.contains("belongs to another directory entry"),
        "{said}"
    );
    let refusal = world.last_refusal("agnes")?;
    ensure!(
        refusal.reason == "role_of_another" && refusal.detail.contains(&first),
        "{refusal:?}"
    );
    let stored = "select directory_id from postern.managed_role where role_name = 'agnes'";
    let stored = world.postgres.sql(stored)?;
    ensure!(stored == format!("guid:{first}"), "{stored}");
    Ok(())
}

fn renamed(world: &World) -> Result<()> {
    world.add_person("berta")?;
    world.psql("berta").query("select 1")?;
    let guid = guid_of(world, "berta")?;
    world.samba.ldif(&format!(
        "dn: {}\nchangetype: modrdn\nnewrdn: CN=berta.vogel\ndeleteoldrdn: 1\n",
        Samba::dn("berta")
    ))?;
    world.replace("berta.vogel", "sAMAccountName", "berta.vogel")?;
    ensure!(
        guid_of(world, "berta.vogel")? == guid,
        "a rename made another entry"
    );

    let psql = world.psql("berta.vogel");
    let said = psql.refused()?;
    ensure!(said.contains("has a role under another name"), "{said}");
    let refusal = world.last_refusal("berta.vogel")?;
    let cure = "ALTER ROLE berta RENAME TO \"berta.vogel\"";
    ensure!(refusal.detail.contains(cure), "{refusal:?}");

    world.postgres.sql(cure)?;
    let who = psql.query("select session_user")?;
    ensure!(who == "berta.vogel", "{who}");
    let stored = world.postgres.sql(
        "select directory_id, login, dn from postern.managed_role \
         where role_name = 'berta.vogel'",
    )?;
    let dn = Samba::dn("berta.vogel");
    ensure!(
        stored == format!("guid:{guid}|berta.vogel|{dn}"),
        "{stored}"
    );
    let old = world.refused("berta", PASSWORD)?;
    ensure!(old.reason == "unknown_login", "{old:?}");
    Ok(())
}

fn moved(world: &World) -> Result<()> {
    world.add_person("carla")?;
    world.psql("carla").query("select 1")?;
    world.samba.ldif(&format!(
        "dn: OU=moved,{BASE_DN}\nobjectClass: organizationalUnit\n\n\
         dn: {}\nchangetype: modrdn\nnewrdn: CN=carla\ndeleteoldrdn: 1\n\
         newsuperior: OU=moved,{BASE_DN}\n",
        Samba::dn("carla")
    ))?;
    let dn = "select dn from postern.managed_role where role_name = 'carla'";
    wait_until("the new place is known", SEEN_LIMIT, || {
        world.role_of("carla")?;
        Ok(!world.postgres.sql(dn)?.contains(USERS_DN))
    })?;
    let roles = world.memberships("carla")?;
    ensure!(roles.iter().eq([HR_GROUP]), "{roles:?}");
    Ok(())
}
