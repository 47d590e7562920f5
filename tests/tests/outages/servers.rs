//! Which directory server is asked, and which is believed.

use anyhow::{Result, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::world::last_refusal;
use postern_tests::{
    Certificates, ConfigFile, DirectoryServer, OpenLdap, RawClient, Someone, World, cast, free_port,
};

fn set_urls(urls: Vec<String>) -> impl Fn(&mut ConfigFile) {
    move |config| {
        config.set("directory", "urls", urls.clone());
    }
}

fn testuser() -> Someone {
    Someone {
        login: cast::TESTUSER.login.to_owned(),
        password: cast::TESTUSER.password.to_owned(),
    }
}

pub(crate) fn the_second_server_is_asked_when_the_first_refuses_the_connection(
    world: &World,
) -> Result<()> {
    let person = world.person("second", &[HR_GROUP])?;
    let dead = format!("ldaps://127.0.0.1:{}", free_port()?);
    let urls = vec![dead, world.directory.url()];
    world.with_plain_config(set_urls(urls), || {
        world.raw(&person)?.query("select 1")?;
        Ok(())
    })
}

pub(crate) fn the_second_server_is_asked_when_the_first_hangs(world: &World) -> Result<()> {
    let person = world.person("unhurried", &[HR_GROUP])?;
    let hung = OpenLdap::start(&world.scratch, &world.certificates)?;
    let urls = vec![hung.url(), world.directory.url()];
    let change = |config: &mut ConfigFile| {
        set_urls(urls)(config);
        config.set("directory", "connect_timeout_ms", 500);
    };
    world.with_plain_config(change, || {
        hung.pause()?;
        let outcome = world.raw(&person);
        hung.resume()?;
        ensure!(outcome?.query("select 1")? == "1");
        ensure!(hung.binds()? == Some(0), "the hung one was asked");
        Ok(())
    })
}

pub(crate) fn a_wrong_password_is_tried_on_one_server_only(world: &World) -> Result<()> {
    let other = OpenLdap::start(&world.scratch, &world.certificates)?;
    cast::populate(&other)?;
    let urls = vec![world.directory.url(), other.url()];
    world.with_plain_config(set_urls(urls), || {
        let before = world.directory.binds()?;
        let port = world.plain.port();
        RawClient::refused(port, cast::TESTUSER.login, HR_DATABASE, "mistyped")?;
        ensure!(last_refusal(&world.plain)? == "wrong_password");
        ensure!(world.directory.binds()? > before, "the first was not asked");
        let asked = other.binds()?;
        ensure!(asked == Some(0), "the second was asked: {asked:?}");
        Ok(())
    })
}

pub(crate) fn starttls_encrypts_the_bind(world: &World) -> Result<()> {
    let person = world.person("starter", &[HR_GROUP])?;
    let url = world.directory.plain_url();
    let change = |config: &mut ConfigFile| {
        set_urls(vec![url])(config);
        config.set("directory", "starttls", true);
    };
    let count = || -> Result<usize> {
        let log = std::fs::read(world.directory.log_file())?;
        let log = String::from_utf8_lossy(&log);
        Ok(log.lines().filter(|it| it.contains(" STARTTLS")).count())
    };
    let before = count()?;
    world.with_plain_config(change, || {
        world.raw(&person)?.query("select 1")?;
        ensure!(count()? > before, "no StartTLS in the directory's log");
        Ok(())
    })
}

pub(crate) fn plain_ldap_is_refused_unless_it_is_allowed(world: &World) -> Result<()> {
    let person = world.person("naked", &[HR_GROUP])?;
    let url = world.directory.plain_url();
    let plain = set_urls(vec![url]);
    let mut refused = false;
    // It does not start, which is an error of the world's.
    let outcome = world.with_plain_config(&plain, || {
        refused = true;
        Ok(())
    });
    ensure!(outcome.is_err() && !refused, "it starts with plain LDAP");
    let said = world
        .plain
        .log_contains("`allow_plaintext = true` to insist")?;
    ensure!(said, "it does not say which key");
    let change = |config: &mut ConfigFile| {
        plain(config);
        config.set("directory", "allow_plaintext", true);
    };
    world.with_plain_config(change, || {
        world.raw(&person)?.query("select 1")?;
        Ok(())
    })
}

pub(crate) fn a_directory_with_a_foreign_certificate_is_not_believed(world: &World) -> Result<()> {
    let foreign = Certificates::new(&world.scratch)?;
    let person = world.person("trusting", &[HR_GROUP])?;
    let foreign_ca = |config: &mut ConfigFile| {
        config.set("directory", "tls_ca_file", &foreign.ca_file());
    };
    world.with_plain_config(foreign_ca, || {
        let before = world.directory.binds()?;
        let (_, told) = crate::timed_refusal(world, &person)?;
        let code = told.field(b'C');
        ensure!(code.as_deref() == Some("57P03"), "{told:?}");
        ensure!(world.directory.binds()? == before, "a password was sent");
        Ok(())
    })?;
    let unverified = |config: &mut ConfigFile| {
        config
            .set("directory", "tls_ca_file", &foreign.ca_file())
            .set("directory", "tls_verify", false);
    };
    world.with_plain_config(unverified, || {
        world.raw(&person)?.query("select 1")?;
        let loud = world.plain.log()?;
        ensure!(loud.contains("tls_verify"), "not said aloud");
        Ok(())
    })
}

pub(crate) fn a_bind_by_template_needs_no_search_for_the_person(world: &World) -> Result<()> {
    let change = |config: &mut ConfigFile| {
        config.set("directory", "bind", "template").set(
            "directory",
            "bind_template",
            format!("uid={{login}},{}", postern_tests::openldap::PEOPLE_DN),
        );
    };
    world.with_plain_config(change, || {
        let mut session = world.raw(&testuser())?;
        ensure!(session.query("select session_user")? == "testuser");
        let port = world.plain.port();
        RawClient::refused(port, "testuser", HR_DATABASE, "mistyped")?;
        // The DN is escaped: this is no other entry.
        RawClient::refused(port, "testuser,ou=people", HR_DATABASE, "x")?;
        Ok(())
    })
}
