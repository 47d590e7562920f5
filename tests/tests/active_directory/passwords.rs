//! Right passwords, wrong ones, and changed ones.

use anyhow::{Result, ensure};
use postern_tests::samba::SERVICE_PASSWORD;
use postern_tests::{DirectoryServer, Samba};

use crate::Test;
use crate::world::{PASSWORD, World};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_wrong_password_and_an_unknown_name_are_refused_in_the_same_words",
        wrong_and_unknown,
    ),
    (
        "a_wrong_password_costs_one_bind_with_two_servers",
        one_bind_with_two_servers,
    ),
    (
        "a_dead_first_server_costs_no_login_and_no_second_bind",
        dead_first_server,
    ),
    (
        "a_wrong_password_that_is_tried_again_costs_no_bind",
        wrong_password_again,
    ),
    (
        "a_new_password_works_at_once_and_ends_the_old_one",
        changed_password,
    ),
    ("an_empty_password_costs_no_bind", empty_password),
];

/// Active Directory's global catalog over TLS.
const GLOBAL_CATALOG_PORT: u16 = 3_269;

/// See [`nothing_written`].
pub(crate) const LAST: &[Test] = &[(
    "no_password_is_in_the_log_or_in_the_audit_file",
    nothing_written,
)];

const WRONG: &str = "Wrong-2718-guess";

fn wrong_and_unknown(world: &World) -> Result<()> {
    world.add_person("karin")?;
    let wrong = world.refused("karin", WRONG)?;
    ensure!(wrong.reason == "wrong_password", "{wrong:?}");
    let unknown = world.refused("nobody-at-all", PASSWORD)?;
    ensure!(unknown.reason == "unknown_login", "{unknown:?}");
    let roles = world
        .postgres
        .sql("select count(*) from pg_roles where rolname in ('karin', 'nobody-at-all')")?;
    ensure!(roles == "0", "a refused person has a role");
    Ok(())
}

fn one_bind_with_two_servers(world: &World) -> Result<()> {
    world.add_person("lena")?;
    // The global catalog is a second way to the same domain.
    let catalog = format!("ldaps://{}:{GLOBAL_CATALOG_PORT}", world.samba.address());
    let urls = vec![world.samba.url(), catalog];
    world.with_config(
        |config| {
            config.set("directory", "urls", urls);
        },
        || {
            let refusal = world.refused("lena", WRONG)?;
            ensure!(refusal.reason == "wrong_password", "{refusal:?}");
            let binds = world.binds_of(&Samba::dn("lena"))?;
            ensure!(binds == 1, "{binds} binds for one wrong password");
            let role = world.role_of("lena")?;
            ensure!(role == "lena", "{role}");
            Ok(())
        },
    )
}

fn dead_first_server(world: &World) -> Result<()> {
    world.add_person("lotte")?;
    let dead = format!("ldaps://127.0.0.1:{}", postern_tests::free_port()?);
    let urls = vec![dead, world.samba.url()];
    world.with_config(
        |config| {
            config.set("directory", "urls", urls);
        },
        || {
            let refusal = world.refused("lotte", WRONG)?;
            ensure!(refusal.reason == "wrong_password", "{refusal:?}");
            let role = world.role_of("lotte")?;
            ensure!(role == "lotte", "{role}");
            let binds = world.binds_of(&Samba::dn("lotte"))?;
            ensure!(
                binds == 2,
                "{binds} binds for one wrong password and a right one"
            );
            Ok(())
        },
    )
}

fn wrong_password_again(world: &World) -> Result<()> {
    world.add_person("mona")?;
    for _ in 0..4 {
        world.refused("mona", WRONG)?;
    }
    let binds = world.binds_of(&Samba::dn("mona"))?;
    ensure!(
        binds == 1,
        "{binds} binds for one wrong password four times"
    );
    // The right one is not held up by it.
    world.role_of("mona")?;
    Ok(())
}

fn changed_password(world: &World) -> Result<()> {
    const NEW: &str = "Valley-1618-stone";
    world.add_person("nora")?;
    world.role_of("nora")?;
    world.samba.set_password("nora", NEW)?;
    let new = world.postern.psql("nora", NEW);
    new.query("select 1")?;
    let refusal = world.refused("nora", PASSWORD)?;
    ensure!(refusal.reason == "wrong_password", "{refusal:?}");
    ensure!(
        new.run("select 1")?.ok,
        "the old password ended the new one"
    );
    Ok(())
}

fn empty_password(world: &World) -> Result<()> {
    world.add_person("olga")?;
    let before = world.samba.binds()?;
    let answer = world.postern.psql("olga", "").run("select 1")?;
    ensure!(!answer.ok, "an empty password opened the door");
    ensure!(world.samba.binds()? == before, "the directory was asked");
    Ok(())
}

/// The last test: everything that the others did is in the files by now.
fn nothing_written(world: &World) -> Result<()> {
    let audit = std::fs::read_to_string(world.postern.audit_file())?;
    for (name, text) in [("log", world.postern.log()?), ("audit file", audit)] {
        for password in [PASSWORD, WRONG, SERVICE_PASSWORD] {
            ensure!(!text.contains(password), "the {name} has {password}");
        }
    }
    Ok(())
}
