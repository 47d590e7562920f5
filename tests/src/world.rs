//! Everything that one end-to-end test binary talks to, and what its claims have in common.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::cast::{self, FINANCE_DATABASE, HR_DATABASE};
use crate::config_file::ConfigFile;
use crate::needs;
use crate::postern::records_of;
use crate::process::{run, run_any};
use crate::wait::{free_port, wait_until};
use crate::{
    Certificates, DirectoryServer, Member, OpenLdap, Postern, Postgres, Psql, RawClient, Scratch,
};

/// A list of tests for [`crate::harness::run`] from the names of functions.
#[macro_export]
macro_rules! claims {
    ($($claim:path),+ $(,)?) => {
        &[$((
            stringify!($claim),
            (|world: &$crate::World| $claim(world).map_err(|error| world.explain(error)))
                as fn(&$crate::World) -> anyhow::Result<()>,
        )),+]
    };
}

/// How long a change may take to be seen on a busy machine.
pub const CHANGE_LIMIT: Duration = Duration::from_secs(30);

/// PostgreSQL with the two databases of the cast, OpenLDAP with its people, and two Posterns of
/// one cluster before them: one that insists on TLS, and one that does not.
#[derive(Debug)]
pub struct World {
    /// Insists on TLS.
    pub postern: Postern,
    /// Allows plaintext, for [`RawClient`].
    pub plain: Postern,
    /// The directory.
    pub directory: OpenLdap,
    /// The databases.
    pub postgres: Postgres,
    /// The authority of all certificates.
    pub certificates: Certificates,
    /// The folder of everything.
    pub scratch: Scratch,
}

/// A person that one claim has for itself.
#[derive(Debug, Clone)]
pub struct Someone {
    /// The login name, which is the role's name too.
    pub login: String,
    /// The password.
    pub password: String,
}

impl World {
    /// Why it cannot be started on this machine, if so.
    #[must_use]
    pub fn missing() -> Option<String> {
        match needs::postgres(None) {
            Some(_) => needs::missing_for_openldap(),
            None => Some("PostgreSQL is not installed".to_owned()),
        }
    }

    /// Starts everything, with changes to the configuration of both Posterns.
    ///
    /// # Errors
    /// If something is not installed or does not start.
    pub fn start(change: impl Fn(&mut ConfigFile)) -> Result<Self> {
        let scratch = Scratch::new()?;
        let certificates = Certificates::new(&scratch)?;
        // The bound parameters of a statement are logged too: a secret would be seen.
        let settings = "log_statement = 'all'\n";
        let postgres = Postgres::start_version(&scratch, &certificates, None, settings)?;
        let directory = OpenLdap::start(&scratch, &certificates)?;
        cast::populate(&directory)?;
        cast::make_databases(&postgres)?;
        let postern = Postern::prepare(&scratch, &certificates, &postgres, free_port()?)?;
        let plain = Postern::prepare(&scratch, &certificates, &postgres, free_port()?)?;
        let key = postern.config_file().with_file_name("cluster-key");
        for each in [&postern, &plain] {
            let socket = each.config_file().with_file_name("control.sock");
            each.configure(|config| {
                directory.configure(config);
                config
                    .set("credential", "cluster_key_file", &key)
                    .set("control", "socket", &socket);
                change(config);
            });
        }
        plain.configure(|config| {
            config.set("listen", "tls", "allow-plaintext");
        });
        postern.install_schema(&postgres)?;
        cast::prepare_groups(&postgres)?;
        postern.start_again()?;
        plain.start_again()?;
        Ok(Self {
            postern,
            plain,
            directory,
            postgres,
            certificates,
            scratch,
        })
    }

    /// Adds a person to the directory, in groups that are made when they are missing.
    ///
    /// # Errors
    /// If the directory refuses.
    pub fn person(&self, login: &str, groups: &[&str]) -> Result<Someone> {
        let password = format!("Secret-{login}-42");
        self.directory.add_person(login, &password)?;
        for group in groups {
            self.group(group)?;
            self.directory.add_member(group, Member::Person(login))?;
        }
        Ok(Someone {
            login: login.to_owned(),
            password,
        })
    }

    /// Adds a group to the directory unless it is there.
    ///
    /// # Errors
    /// If the directory refuses.
    pub fn group(&self, group: &str) -> Result<()> {
        if self
            .directory
            .search(&format!("(cn={group})"), &["cn"])?
            .is_empty()
        {
            self.directory.add_group(group)?;
        }
        Ok(())
    }

    /// psql through the Postern that insists on TLS, in the personnel database.
    #[must_use]
    pub fn psql(&self, person: &Someone) -> Psql {
        let psql = self.postern.psql(&person.login, &person.password);
        psql.database(HR_DATABASE)
    }

    /// psql in the books' database.
    #[must_use]
    pub fn finance(&self, person: &Someone) -> Psql {
        self.psql(person).database(FINANCE_DATABASE)
    }

    /// A raw session through the Postern that allows plaintext, in the personnel database.
    ///
    /// # Errors
    /// If it is refused.
    pub fn raw(&self, person: &Someone) -> Result<RawClient> {
        let (login, password) = (&person.login, &person.password);
        RawClient::logged_in(self.plain.port(), login, HR_DATABASE, password)
    }

    /// Binds and searches of the directory so far, over the network.
    ///
    /// # Errors
    /// If its log cannot be read.
    pub fn directory_calls(&self) -> Result<(u64, u64)> {
        let binds = self.directory.binds()?.unwrap_or_default();
        Ok((binds, self.directory.searches()?))
    }

    /// How many lines of PostgreSQL's log have every one of some texts.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn postgres_lines(&self, texts: &[&str]) -> Result<usize> {
        let log = fs::read(self.postgres.log_file())?;
        let log = String::from_utf8_lossy(&log);
        let lines = log.lines();
        let matching = lines.filter(|line| texts.iter().all(|text| line.contains(text)));
        Ok(matching.count())
    }

    /// The roles that a person's role is directly in, separated by commas.
    ///
    /// # Errors
    /// If PostgreSQL does not answer.
    pub fn memberships(&self, role: &str) -> Result<String> {
        self.postgres.sql(&format!(
            "select string_agg(g.rolname, ',' order by g.rolname::text collate \"C\") \
             from pg_auth_members m join pg_roles g on g.oid = m.roleid \
             join pg_roles p on p.oid = m.member where p.rolname = {}",
            literal(role)
        ))
    }

    /// Whether a role exists and may log in: `t`, `f`, or nothing.
    ///
    /// # Errors
    /// If PostgreSQL does not answer.
    pub fn may_log_in(&self, role: &str) -> Result<String> {
        let role = literal(role);
        self.postgres.sql(&format!(
            "select rolcanlogin from pg_roles where rolname = {role}"
        ))
    }

    /// Waits until a condition in PostgreSQL is true; the SQL gives `t` or `f`.
    ///
    /// # Errors
    /// When it is not in time.
    pub fn wait_for_sql(&self, what: &str, sql: &str) -> Result<()> {
        wait_until(what, CHANGE_LIMIT, || Ok(self.postgres.sql(sql)? == "t"))
    }

    /// Runs `claim` with the first Postern configured otherwise, and puts it back afterwards.
    ///
    /// # Errors
    /// What the claim says, or that Postern does not start.
    pub fn with_config(
        &self,
        change: impl FnOnce(&mut ConfigFile),
        claim: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        with_config(&self.postern, change, claim)
    }

    /// As [`World::with_config`] for the Postern that allows plaintext.
    ///
    /// # Errors
    /// What the claim says, or that Postern does not start.
    pub fn with_plain_config(
        &self,
        change: impl FnOnce(&mut ConfigFile),
        claim: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        with_config(&self.plain, change, claim)
    }

    /// Why the last login was refused, by the audit file.
    ///
    /// # Errors
    /// If no login was.
    pub fn last_refusal(&self) -> Result<String> {
        last_refusal(&self.postern)
    }

    /// Adds the end of both logs to why a claim does not hold.
    #[must_use]
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let mut text = String::new();
        for (name, postern) in [("postern", &self.postern), ("plain", &self.plain)] {
            let log = postern.log().unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let first = lines.len().saturating_sub(12);
            let tail = lines.get(first..).unwrap_or_default().join("\n  ");
            text += &format!("\nthe log of {name} ends with:\n  {tail}");
        }
        anyhow!("{error:#}{text}")
    }
}

/// Why the last login was refused, by the audit file of one Postern.
///
/// # Errors
/// If no login was.
pub fn last_refusal(postern: &Postern) -> Result<String> {
    let records = postern.audit()?;
    let refused = records.iter().rfind(|it| it["event"] == "refused");
    let reason = refused.and_then(|it| it["reason"].as_str());
    Ok(reason.context("no login was refused")?.to_owned())
}

fn with_config(
    postern: &Postern,
    change: impl FnOnce(&mut ConfigFile),
    claim: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mut before = ConfigFile::new();
    postern.configure(|config| before = config.clone());
    let outcome = postern.restart_with(change).and_then(|()| claim());
    // A claim about starting may have left it stopped.
    if postern.is_running()? {
        postern.stop()?;
    }
    postern.configure(|config| *config = before);
    let back = postern.start_again();
    outcome.and(back)
}

/// The last claim of every world: all that happened in it is on record, once.
///
/// # Errors
/// When it is not.
pub fn every_session_has_exactly_one_terminal_record(world: &World) -> Result<()> {
    let mut sessions_seen = 0;
    for postern in [&world.postern, &world.plain] {
        postern.stop()?;
        let drained = postern.drained_audit_files()?;
        let mut logs: Vec<_> = drained.into_iter().map(|it| vec![it]).collect();
        logs.push(postern.audit_files()?);
        let mut records = Vec::new();
        for files in &logs {
            let of_files: Result<Vec<_>> = files.iter().map(|it| records_of(it)).collect();
            let of_log = of_files?.concat();
            for (index, record) in of_log.iter().enumerate() {
                let seq = record["seq"].as_u64().context("no sequence number")?;
                ensure!(
                    u64::try_from(index)? + of_log[0]["seq"].as_u64().unwrap_or(0) == seq,
                    "a gap before {record}"
                );
            }
            let mut verify = postern.command(&["audit", "verify"])?;
            run(verify.arg("--file").args(files))?;
            records.extend(of_log);
        }
        let mut sessions: HashMap<String, (u32, u32)> = HashMap::new();
        for record in &records {
            let session = record["session"].as_str().context("no session")?;
            let event = record["event"].as_str().context("no event")?;
            let counts = sessions.entry(session.to_owned()).or_default();
            counts.0 += u32::from(event == "attempted");
            counts.1 += u32::from(matches!(event, "refused" | "closed"));
        }
        sessions.remove("-");
        sessions_seen += sessions.len();
        for (session, (attempted, terminal)) in &sessions {
            ensure!(
                *attempted <= 1 && *terminal == 1,
                "{session}: {attempted} attempts, {terminal} ends"
            );
        }
        ensure!(no_login_thread_failed(postern)?, "a defect is in the log");
        postern.start_again()?;
    }
    ensure!(sessions_seen > 0, "no session is on record");
    Ok(())
}

fn no_login_thread_failed(postern: &Postern) -> Result<bool> {
    Ok(!postern.log_contains("panicked")? && !postern.log_contains("defect of Postern")?)
}

/// A text as an SQL literal.
#[must_use]
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// What a command wrote to both streams, and its exit code; it need not succeed.
///
/// # Errors
/// If it cannot be started, or a signal ended it.
pub fn outcome_of(command: &mut std::process::Command) -> Result<(i32, String)> {
    let output = run_any(command)?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    match output.status.code() {
        Some(code) => Ok((code, text)),
        None => bail!("ended by a signal: {text}"),
    }
}

/// The file of the scratch folder with this name.
#[must_use]
pub fn scratch_file(world: &World, name: &str) -> PathBuf {
    world.scratch.path().join(name)
}
