//! The servers of these tests, and what all of them look at.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use postern_tests::cast::{self, HR_GROUP};
use postern_tests::{
    Answer, Certificates, ConfigFile, DirectoryServer, Member, Postern, Postgres, Psql, Samba,
    Scratch,
};

/// The password of everybody here.
pub(crate) const PASSWORD: &str = "Meadow-3141-brook";

/// How long a change of the directory may take to be seen, far above `recheck_s`.
pub(crate) const SEEN_LIMIT: Duration = Duration::from_secs(30);

/// One domain, one database and one Postern between them.
///
/// Each test has people and groups of its own, so that none sees what another left.
pub(crate) struct World {
    pub(crate) postern: Postern,
    pub(crate) samba: Samba,
    pub(crate) postgres: Postgres,
    pub(crate) scratch: Scratch,
}

impl World {
    pub(crate) fn start() -> Result<Self> {
        let scratch = Scratch::new()?;
        let certificates = Certificates::new(&scratch)?;
        let postgres = Postgres::start(&scratch, &certificates)?;
        let samba = Samba::start(&scratch, &certificates)?;
        cast::populate(&samba)?;
        let port = postern_tests::free_port()?;
        let postern = Postern::prepare(&scratch, &certificates, &postgres, port)?;
        postern.configure(|config| {
            samba.configure(config);
            // The directory is asked again after a second, so that tests need not wait long.
            config.set("cache", "recheck_s", 1);
            // Thousands of groups are made here, and nobody waits for what the feed makes of it.
            config.set("directory", "feed", "off");
        });
        postern.install_schema(&postgres)?;
        postern.start_again()?;
        Ok(Self {
            postern,
            samba,
            postgres,
            scratch,
        })
    }

    /// Adds a person who is in [`HR_GROUP`].
    pub(crate) fn add_person(&self, login: &str) -> Result<()> {
        self.samba.add_person(login, PASSWORD)?;
        self.samba.add_member(HR_GROUP, Member::Person(login))
    }

    /// Replaces attributes of a person or group: `[("primaryGroupID", "513")]`.
    pub(crate) fn replace(&self, name: &str, attribute: &str, value: &str) -> Result<()> {
        let dn = Samba::dn(name);
        self.samba.ldif(&format!(
            "dn: {dn}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n"
        ))
    }

    /// psql through Postern with [`PASSWORD`].
    pub(crate) fn psql(&self, login: &str) -> Psql {
        self.postern.psql(login, PASSWORD)
    }

    /// Logs in as `login` and returns the role that the session has.
    pub(crate) fn role_of(&self, login: &str) -> Result<String> {
        self.psql(login).query("select session_user")
    }

    /// The memberships of a role, by the database.
    pub(crate) fn memberships(&self, role: &str) -> Result<BTreeSet<String>> {
        let sql = format!(
            "select g.rolname from pg_auth_members m join pg_roles g on g.oid = m.roleid \
             join pg_roles p on p.oid = m.member where p.rolname = '{role}'"
        );
        Ok(self
            .postgres
            .sql(&sql)?
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// Connects as `login`, which must be refused with PostgreSQL's own words for a wrong
    /// password, and returns the audit record of the refusal.
    pub(crate) fn refused(&self, login: &str, password: &str) -> Result<Refusal> {
        let answer = self.postern.psql(login, password).run("select 1")?;
        self.check_refused(login, &answer)
    }

    /// As [`World::refused`], of a login that was made already.
    pub(crate) fn check_refused(&self, login: &str, answer: &Answer) -> Result<Refusal> {
        ensure!(!answer.ok, "{login} is in, but should have been refused");
        let refusal = self.last_refusal(login)?;
        let words = format!("password authentication failed for user \"{login}\"");
        ensure!(
            answer.stderr.ends_with(&words),
            "{login} was told: {}\nthe truth is: {refusal:?}",
            answer.stderr
        );
        for secret in [&refusal.reason, &refusal.detail] {
            ensure!(
                secret.is_empty() || !answer.stderr.contains(secret.as_str()),
                "{login} was told {secret:?}"
            );
        }
        Ok(refusal)
    }

    /// The audit record of the last refused attempt of a login.
    pub(crate) fn last_refusal(&self, login: &str) -> Result<Refusal> {
        let records = self.postern.audit()?;
        let attempts = records.iter().rev();
        let session = attempts
            .filter(|it| it["user"] == login)
            .find_map(|it| it["session"].as_str());
        let session = session.with_context(|| format!("no attempt of {login} is on record"))?;
        let mut ours = records.iter().filter(|it| it["session"] == session);
        let refused = ours.find(|it| it.get("reason").is_some_and(|it| it.is_string()));
        let Some(refused) = refused else {
            bail!("the last attempt of {login} was not refused: {records:#?}");
        };
        let text = |name: &str| refused[name].as_str().unwrap_or_default().to_owned();
        Ok(Refusal {
            reason: text("reason"),
            detail: text("detail"),
        })
    }

    /// How many binds the directory has seen of one name, in whatever form, by its own log.
    pub(crate) fn binds_of(&self, name: &str) -> Result<usize> {
        let log = std::fs::read(self.samba.log_file())?;
        let log = String::from_utf8_lossy(&log);
        let user = format!("\\[{name}]");
        let binds = log.lines().filter(|it| {
            it.contains("Auth: [LDAP,simple bind")
                && it.to_lowercase().contains(&user.to_lowercase())
        });
        Ok(binds.count())
    }

    /// Runs a test under a changed configuration, and restores it whatever comes of the test.
    pub(crate) fn with_config(
        &self,
        change: impl FnOnce(&mut ConfigFile),
        test: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut before = ConfigFile::new();
        let started = self.postern.restart_with(|config| {
            before = config.clone();
            change(config);
        });
        let outcome = started.and_then(|()| test());
        if self.postern.is_running()? {
            self.postern.stop()?;
        }
        self.postern.configure(|config| *config = before);
        outcome.and(self.postern.start_again())
    }

    /// Runs `postern` with arguments; returns whether it ended with 0, and what it wrote.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let output = postern_tests::process::run_any(&mut self.postern.command(arguments)?)?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok((output.status.success(), text))
    }

    /// A file with the certificate of an authority that signed nothing here.
    pub(crate) fn foreign_authority(&self) -> Result<PathBuf> {
        Ok(Certificates::new(&self.scratch)?.ca_file())
    }
}

/// What the audit file says of a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) detail: String,
}
