//! The servers of these tests, and what all of them look at.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use postern_tests::cast::{self, HR_DATABASE};
use postern_tests::world::literal;
use postern_tests::{
    Certificates, ConfigFile, Member, OpenLdap, Postern, Postgres, Psql, RawClient, Samba, Scratch,
    Someone, needs, wait_until,
};
use serde_json::Value;

use crate::directory::Watched;

/// How long a change of the directory may take to be true everywhere, on a busy machine. Samba
/// alone takes up to 5 s to tell of it. It is far below the time after which a login asks the
/// directory, and below that of the regular comparison: only the feed is this quick.
pub(crate) const SEEN_LIMIT: Duration = Duration::from_secs(20);

/// After this time a login asks the directory again, in seconds: after the whole run.
const RECHECK_S: i32 = 900;

/// How much of a log an error quotes, in lines.
const QUOTED_LINES: usize = 15;

/// A claim about a site.
type Claim = fn(&Site) -> Result<()>;

/// The sites.
pub(crate) struct World {
    openldap: Mutex<Site>,
    /// Or why there is none.
    samba: Result<Mutex<Site>, String>,
}

impl World {
    pub(crate) fn start() -> Result<Self> {
        let openldap = thread::spawn(|| {
            Site::start(|scratch, certificates| {
                Ok(Box::new(OpenLdap::start(scratch, certificates)?))
            })
        });
        let samba = match needs::missing_for_samba() {
            Some(why) => Err(why),
            None => Ok(Mutex::new(Site::start(|scratch, certificates| {
                let samba = Samba::start(scratch, certificates)?;
                samba.show_deletions()?;
                Ok(Box::new(samba))
            })?)),
        };
        let openldap = openldap.join().map_err(|_| anyhow!("a start panicked"))??;
        Ok(Self {
            openldap: Mutex::new(openldap),
            samba,
        })
    }

    /// Tests a claim with OpenLDAP.
    pub(crate) fn with_openldap(&self, claim: Claim) -> Result<()> {
        on(&self.openldap, claim)
    }

    /// Tests a claim with Samba; without one, it is skipped by its name.
    pub(crate) fn with_samba(&self, name: &str, claim: Claim) -> Result<()> {
        match &self.samba {
            Ok(samba) => on(samba, claim),
            Err(why) => {
                needs::skip(&format!("{name}::samba"), why);
                Ok(())
            }
        }
    }
}

/// One claim at a time: some stop servers.
fn on(site: &Mutex<Site>, claim: Claim) -> Result<()> {
    // A claim that panicked may have left anything; the next ones say so if it matters.
    let site = site.lock().unwrap_or_else(PoisonError::into_inner);
    claim(&site).map_err(|error| site.explain(&error))
}

/// A directory, a database, and two Posterns of one cluster between them.
pub(crate) struct Site {
    /// It follows the directory.
    pub(crate) told: Postern,
    /// It hears of changes by the database alone. It runs in [`Site::with_untold`] only: what it
    /// does would hide what the other one does not.
    pub(crate) untold: Postern,
    pub(crate) directory: Box<dyn Watched>,
    pub(crate) postgres: Postgres,
    /// The folder of everything, which goes with it.
    _scratch: Scratch,
}

impl Site {
    fn start(
        directory: impl FnOnce(&Scratch, &Certificates) -> Result<Box<dyn Watched>>,
    ) -> Result<Self> {
        let scratch = Scratch::new()?;
        let certificates = Certificates::new(&scratch)?;
        let postgres = Postgres::start(&scratch, &certificates)?;
        let directory = directory(&scratch, &certificates)?;
        cast::populate(&*directory)?;
        cast::make_databases(&postgres)?;
        let prepare = || {
            let port = postern_tests::free_port()?;
            Postern::prepare(&scratch, &certificates, &postgres, port)
        };
        let (told, untold) = (prepare()?, prepare()?);
        let key = told.config_file().with_file_name("cluster-key");
        for each in [&told, &untold] {
            each.configure(|config| {
                directory.configure(config);
                config
                    .set("credential", "cluster_key_file", &key)
                    // So that a test can read the SQLSTATE.
                    .set("listen", "tls", "allow-plaintext")
                    // Only what is told between logins may be why a claim holds.
                    .set("cache", "recheck_s", RECHECK_S)
                    .set("cache", "dead_s", RECHECK_S);
            });
        }
        untold.configure(|config| {
            config.set("directory", "feed", "off");
        });
        told.install_schema(&postgres)?;
        cast::prepare_groups(&postgres)?;
        told.start_again()?;
        Ok(Self {
            told,
            untold,
            directory,
            postgres,
            _scratch: scratch,
        })
    }

    /// Adds a person to the directory, in groups that are there.
    pub(crate) fn person(&self, login: &str, groups: &[&str]) -> Result<Someone> {
        let password = format!("Secret-{login}-42");
        self.directory.add_person(login, &password)?;
        for group in groups {
            self.directory.add_member(group, Member::Person(login))?;
        }
        Ok(Someone {
            login: login.to_owned(),
            password,
        })
    }

    /// psql through the Postern that follows the directory, over TLS.
    pub(crate) fn psql(&self, person: &Someone) -> Psql {
        let psql = self.told.psql(&person.login, &person.password);
        psql.database(HR_DATABASE)
    }

    /// A session through the Postern that follows the directory.
    pub(crate) fn session(&self, person: &Someone) -> Result<RawClient> {
        session_of(&self.told, person)
    }

    /// The roles that a person's role is directly in, separated by commas.
    pub(crate) fn memberships(&self, role: &str) -> Result<String> {
        self.postgres.sql(&format!(
            "select string_agg(g.rolname, ',' order by g.rolname::text collate \"C\") \
             from pg_auth_members m join pg_roles g on g.oid = m.roleid \
             join pg_roles p on p.oid = m.member where p.rolname = {}",
            literal(role)
        ))
    }

    /// Whether a role exists and may log in: `t`, `f`, or nothing.
    pub(crate) fn may_log_in(&self, role: &str) -> Result<String> {
        let role = literal(role);
        let sql = format!("select rolcanlogin from pg_roles where rolname = {role}");
        self.postgres.sql(&sql)
    }

    /// How many backends a role has.
    pub(crate) fn backends(&self, role: &str) -> Result<String> {
        let role = literal(role);
        let sql = format!("select count(*) from pg_stat_activity where usename = {role}");
        self.postgres.sql(&sql)
    }

    /// Waits until a condition in PostgreSQL is true; the SQL gives `t` or `f`.
    pub(crate) fn wait_for_sql(&self, what: &str, sql: &str) -> Result<()> {
        wait_until(what, SEEN_LIMIT, || Ok(self.postgres.sql(sql)? == "t"))
    }

    /// Nothing is left of a person's access in the database.
    pub(crate) fn expect_nothing_left(&self, role: &str) -> Result<()> {
        let (role, text) = (literal(role), role);
        self.wait_for_sql(
            "the role has lost LOGIN, its memberships and its backends",
            &format!(
                "select not rolcanlogin and not exists \
                 (select from pg_auth_members m where m.member = r.oid) and not exists \
                 (select from pg_stat_activity a where a.usesysid = r.oid) \
                 from pg_roles r where rolname = {role}"
            ),
        )
        .with_context(|| format!("of {text}"))
    }

    /// The audit records of one Postern that are about a person, by their login, in their order.
    pub(crate) fn records(&self, postern: &Postern, login: &str) -> Result<Vec<Value>> {
        let entry = self.postgres.sql(&format!(
            "select directory_id from postern.managed_role where login = {}",
            literal(login)
        ))?;
        let records = postern.audit()?.into_iter();
        let ours = records.filter(|it| {
            it["principal"] == entry.as_str() || it["role"] == login || it["name"] == login
        });
        Ok(ours.collect())
    }

    /// Runs a claim with a Postern configured otherwise, and puts it back afterwards.
    pub(crate) fn with_config(
        &self,
        postern: &Postern,
        change: impl FnOnce(&mut ConfigFile),
        claim: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut before = ConfigFile::new();
        postern.configure(|config| before = config.clone());
        let outcome = postern.restart_with(change).and_then(|()| claim());
        // A claim about stopping may have left it stopped.
        if postern.is_running()? {
            postern.stop()?;
        }
        postern.configure(|config| *config = before);
        let back = postern.start_again();
        outcome.and(back)
    }

    /// Runs a claim while the Postern runs that hears by the database alone.
    pub(crate) fn with_untold(&self, claim: impl FnOnce() -> Result<()>) -> Result<()> {
        self.untold.start_again()?;
        // Whoever is in by then is looked at.
        let outcome = self.untold.wait_until_listening().and_then(|()| claim());
        if self.untold.is_running()? {
            self.untold.stop()?;
        }
        outcome
    }

    /// Adds the end of both logs to why a claim does not hold.
    fn explain(&self, error: &anyhow::Error) -> anyhow::Error {
        let mut text = format!("with {}: {error:#}", self.directory.name());
        for (name, postern) in [("told", &self.told), ("untold", &self.untold)] {
            let log = postern.log().unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let first = lines.len().saturating_sub(QUOTED_LINES);
            let tail = lines.get(first..).unwrap_or_default().join("\n  ");
            text += &format!("\nthe log of {name} ends with:\n  {tail}");
        }
        anyhow!(text)
    }
}

/// A session through a Postern in the personnel database.
pub(crate) fn session_of(postern: &Postern, person: &Someone) -> Result<RawClient> {
    let (login, password) = (&person.login, &person.password);
    RawClient::logged_in(postern.port(), login, HR_DATABASE, password)
}

/// The SQLSTATE with which a login is refused; nothing when it is let in.
pub(crate) fn refusal(postern: &Postern, person: &Someone) -> Result<Option<String>> {
    let (login, password) = (&person.login, &person.password);
    let outcome = RawClient::log_in(postern.port(), login, HR_DATABASE, password)?;
    Ok(outcome.err().and_then(|it| it.field(b'C')))
}

/// Waits, within [`SEEN_LIMIT`], until a session that does nothing is ended as revoked; returns
/// the detail that it was told.
pub(crate) fn expect_revoked(session: &mut RawClient) -> Result<String> {
    expect_revoked_within(session, SEEN_LIMIT)
}

/// As [`expect_revoked`], within another time.
pub(crate) fn expect_revoked_within(session: &mut RawClient, limit: Duration) -> Result<String> {
    let start = Instant::now();
    let told = session.read().context("the session was not ended")?;
    let took = start.elapsed();
    let field = |code| told.field(code).unwrap_or_default();
    ensure!(
        field(b'C') == "57P01" && field(b'S') == "FATAL",
        "the session was told {told:?}"
    );
    let words = "terminating connection because access was revoked";
    ensure!(field(b'M') == words, "{:?}", field(b'M'));
    session.expect_end()?;
    ensure!(took < limit, "it took {} ms", took.as_millis());
    Ok(field(b'D'))
}
