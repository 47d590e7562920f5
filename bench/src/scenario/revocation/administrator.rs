//! Whoever changes the directory.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, Mod, StdStream};
use postern_tests::process::run_with_input;
use postern_tests::raw::client_config;
use tokio::net::TcpStream;
use tokio::task::{spawn_blocking, spawn_local};
use tokio::time::timeout;

use crate::limits::CHANGE_TIMEOUT;

/// Where the directory is changed, and what.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) by: By,
    pub(super) ca_file: PathBuf,
    /// The group that is changed.
    pub(super) group: String,
    /// Who is taken out of it, and put back.
    pub(super) member: String,
}

/// By which way the directory is changed.
#[derive(Debug)]
pub(super) enum By {
    /// By a request to the server, over LDAPS.
    Request {
        /// Host and port.
        address: (String, u16),
        login: &'static str,
        password: &'static str,
    },
    /// In the server's data (Samba), by another process.
    File(PathBuf),
}

/// Whoever changes it.
pub(super) struct Administrator<'a> {
    place: &'a Place,
    hand: Hand<'a>,
}

enum Hand<'a> {
    /// An open connection: a change is one request on it, and nothing else has to be started.
    Ldap(Ldap),
    Program(&'a Path),
}

/// When a change was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) asked: Instant,
    pub(super) answered: Instant,
    /// The same by the clock of the audit file.
    pub(super) answered_time: SystemTime,
}

impl<'a> Administrator<'a> {
    pub(super) async fn come(place: &'a Place) -> Result<Self> {
        let hand = match &place.by {
            By::File(file) => Hand::Program(file),
            By::Request {
                address,
                login,
                password,
            } => {
                let mut ldap = connect(address, &place.ca_file).await?;
                let bound = ldap.simple_bind(login, password).await?;
                bound.success().context("the administrator's bind")?;
                Hand::Ldap(ldap)
            }
        };
        Ok(Self { place, hand })
    }

    /// Takes the person out of the group.
    pub(super) async fn take_away(&mut self) -> Result<Change> {
        self.change("delete").await
    }

    /// Puts the person back.
    pub(super) async fn give_back(&mut self) -> Result<Change> {
        self.change("add").await
    }

    async fn change(&mut self, verb: &'static str) -> Result<Change> {
        let Place { group, member, .. } = self.place;
        let asked = Instant::now();
        let answer = match &mut self.hand {
            Hand::Ldap(ldap) => timeout(CHANGE_TIMEOUT, request(ldap, verb, group, member)).await,
            Hand::Program(file) => {
                let change =
                    format!("dn: {group}\nchangetype: modify\n{verb}: member\nmember: {member}\n");
                timeout(CHANGE_TIMEOUT, write(file.to_path_buf(), change)).await
            }
        };
        let (answered, answered_time) = (Instant::now(), SystemTime::now());
        answer.context("the directory does not answer")??;
        Ok(Change {
            asked,
            answered,
            answered_time,
        })
    }
}

async fn connect(address: &(String, u16), ca_file: &Path) -> Result<Ldap> {
    let stream = TcpStream::connect(address.clone()).await?;
    stream.set_nodelay(true)?;
    let settings = LdapConnSettings::new()
        .set_config(client_config(ca_file)?)
        .set_std_stream(StdStream::Tcp(stream.into_std()?));
    let (host, port) = address;
    let url = format!("ldaps://{host}:{port}");
    let (connection, ldap) = LdapConnAsync::with_settings(settings, &url).await?;
    spawn_local(async move {
        // Whoever waits for an answer is told that there will be none.
        drop(connection.drive().await);
    });
    Ok(ldap)
}

async fn request(ldap: &mut Ldap, verb: &str, group: &str, member: &str) -> Result<()> {
    let members = HashSet::from([member]);
    let change = match verb {
        "delete" => Mod::Delete("member", members),
        _ => Mod::Add("member", members),
    };
    let answer = ldap.modify(group, vec![change]).await?;
    answer.success().context("the directory refuses")?;
    Ok(())
}

async fn write(file: PathBuf, change: String) -> Result<()> {
    let written = spawn_blocking(move || {
        run_with_input(Command::new("ldbmodify").arg("-H").arg(file), &change)
    });
    let output = written.await.context("ldbmodify")??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ldbmodify: {said}");
    Ok(())
}
