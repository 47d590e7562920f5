//! Names that look like more than names: connection strings, quotes and backslashes.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context as _, Result, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::{DirectoryServer as _, Member, RawClient, World};

/// Somebody whom nobody may connect to.
struct Trap(TcpListener);

impl Trap {
    fn set() -> Result<(Self, u16)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        Ok((Self(listener), port))
    }

    fn is_untouched(&self) -> Result<()> {
        let kind = self.0.accept().err().map(|it| it.kind());
        ensure!(kind == Some(ErrorKind::WouldBlock), "somebody connected");
        Ok(())
    }
}

/// What a library would take for where to connect to (CVE-2021-41395).
fn connection_strings(port: u16) -> Vec<String> {
    [
        "x host=127.0.0.1 port=PORT",
        "hr host=127.0.0.1 port=PORT",
        "dbname=hr host=127.0.0.1 port=PORT",
        "hr' host='127.0.0.1' port='PORT",
        "hr\" host=127.0.0.1 port=PORT \"",
        "hr\\' host=127.0.0.1 port=PORT",
        "postgresql://127.0.0.1:PORT/hr",
        "postgres:///hr?host=127.0.0.1&port=PORT",
        "hr;host=127.0.0.1;port=PORT",
        "service=hr",
    ]
    .map(|it| it.replace("PORT", &port.to_string()))
    .into()
}

pub(crate) fn a_name_like_a_connection_string_is_a_name_and_nobody_is_dialled(
    world: &World,
) -> Result<()> {
    let person = world.person("literal", &[HR_GROUP])?;
    let (trap, trap_port) = Trap::set()?;
    let port = world.plain.port();
    for name in connection_strings(trap_port) {
        let told = RawClient::refused(port, &person.login, &name, &person.password)?;
        let (code, text) = (told.field(b'C'), told.field(b'M'));
        ensure!(
            code.as_deref() == Some("3D000"),
            "{name}: {code:?} {text:?}"
        );
        let own = format!("database \"{name}\" does not exist");
        ensure!(text.as_deref() == Some(own.as_str()), "{name}: {text:?}");
        let told = RawClient::refused(port, &name, HR_DATABASE, "guess")?;
        ensure!(
            told.field(b'C').as_deref() == Some("28P01"),
            "{name}: {told:?}"
        );
    }
    // Where there is such a database, and such a person, these are meant.
    let name = format!("x host=127.0.0.1 port={trap_port}");
    world.postgres.sql(&format!("create database \"{name}\""))?;
    world.directory.add_person(&name, &person.password)?;
    world
        .directory
        .add_member(HR_GROUP, Member::Person(&name))?;
    let mut client =
        RawClient::logged_in(port, &name, &name, &person.password).context("of that name")?;
    let who = client.query("select concat_ws('|', session_user, current_database())")?;
    ensure!(who == format!("{name}|{name}"), "{who}");
    trap.is_untouched()
}
