//! The walk-through, step by step.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use postern_tests::cast::{self, Person};
use postern_tests::{Answer, Member, wait_until};

use super::stage::{RECHECK_S, Stage};
use super::transcript::Transcript;

/// A query that would run for ten minutes.
const LONG_QUERY: &str = "select pg_sleep(600)";
/// How long after its cache entry is due a login may still be answered from it: the busy machine.
const CHANGE_LIMIT: Duration = Duration::from_secs(30);

/// Between two logins that wait for a change.
const LOGIN_INTERVAL: Duration = Duration::from_millis(500);

const EMPLOYEES: &str = "select * from employees";
const INVOICES: &str = "select * from invoices";

/// Every role that is not PostgreSQL's own.
const ROLES: &str = "select rolname as role, rolcanlogin as can_login, rolsuper as superuser, \
    rolcreaterole as create_role from pg_roles where rolname !~ '^pg_' order by 1";

/// The role of a person and every role that it is a member of, at any depth.
const MEMBERSHIPS: &str = "with recursive cte as (select oid from pg_roles where rolname = \
    'testuser' union all select m.roleid from cte join pg_auth_members m on m.member = cte.oid) \
    select oid, oid::regrole::text as rolename from cte";

/// Plays everything. A claim that does not hold is counted; what cannot be played is an error.
///
/// # Errors
/// If psql or a server's tool cannot be run, or an answer does not come in time.
pub(super) fn play(stage: &Stage, transcript: &mut Transcript) -> Result<()> {
    let mut play = Play { stage, transcript };
    play.introduction();
    play.roles_before()?;
    play.administrator()?;
    play.first_connection()?;
    play.second_connection()?;
    play.roles_after()?;
    play.only_what_the_groups_give()?;
    play.nested_group()?;
    play.no_group()?;
    play.wrong_password()?;
    play.group_taken_away()?;
    play.group_given_back()?;
    play.audit()
}

struct Play<'a> {
    stage: &'a Stage,
    transcript: &'a mut Transcript,
}

/// How often the directory and the role store have been asked, by their own logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Calls {
    binds: Option<u64>,
    syncs: u64,
}

impl Play<'_> {
    fn introduction(&self) {
        let stage = self.stage;
        println!();
        self.transcript.say(&format!(
            "{} has the people, PostgreSQL {} has the data, Postern is between them.",
            stage.directory.name(),
            stage.postgres.major()
        ));
        self.transcript
            .command("export PGHOST=localhost PGSSLMODE=verify-full");
        let ca_file = stage.postern.ca_file().display().to_string();
        self.transcript
            .command(&format!("export PGSSLROOTCERT={ca_file}"));
    }

    fn roles_before(&mut self) -> Result<()> {
        self.transcript
            .heading("The roles before anybody has logged in");
        let answer = self.superuser(ROLES)?;
        let is_unknown = !answer.stdout.contains(cast::TESTUSER.login);
        self.transcript
            .check(answer.ok && is_unknown, "PostgreSQL knows no testuser");
        Ok(())
    }

    fn administrator(&mut self) -> Result<()> {
        self.transcript
            .heading("The administrator says what each group may do, once");
        let postgres = &self.stage.postgres;
        let socket = postgres.socket_folder().display();
        let psql = format!("psql -h {socket} -p {} -U postgres", postgres.port());
        for (database, group) in [
            (cast::HR_DATABASE, cast::HR_GROUP),
            (cast::FINANCE_DATABASE, cast::FINANCE_GROUP),
        ] {
            let role = cast::role_statements(group);
            let grant = cast::grant_statement(group);
            let typed = [
                format!("{psql} <<< {role:?}"),
                format!("{psql} {database} <<< {grant:?}"),
            ];
            typed.iter().for_each(|it| self.transcript.command(it));
            let done = postgres
                .sql(&role)
                .and_then(|_| postgres.sql_in(database, &grant));
            let claim = format!("{group} may read {database}");
            self.transcript.check(done.is_ok(), &claim);
            done?;
        }
        Ok(())
    }

    fn first_connection(&mut self) -> Result<()> {
        self.transcript
            .heading("testuser connects for the first time");
        let answer = self.person(cast::TESTUSER, EMPLOYEES)?;
        self.transcript.check(
            answer.stdout.contains("Ada"),
            "testuser reads the personnel data",
        );
        Ok(())
    }

    fn second_connection(&mut self) -> Result<()> {
        self.transcript
            .heading("testuser connects again, and nobody is asked");
        let before = self.calls()?;
        let answer = self.person(
            cast::TESTUSER,
            "select current_user, count(*) from employees",
        )?;
        let after = self.calls()?;
        if let (Some(before), Some(after)) = (before.binds, after.binds) {
            let name = self.stage.directory.name();
            let log = format!("{name}'s log:");
            self.transcript.lines(&format!(
                "{log:<18}passwords checked before: {before}, after: {after}"
            ));
        }
        self.transcript.lines(&format!(
            "PostgreSQL's log: roles synchronised before: {}, after: {}",
            before.syncs, after.syncs
        ));
        self.transcript
            .check(answer.stdout.contains("testuser"), "testuser is in");
        self.transcript.check(
            before == after && before.syncs > 0,
            "the login came from the cache: neither the directory nor the role store was asked",
        );
        Ok(())
    }

    fn roles_after(&mut self) -> Result<()> {
        self.transcript
            .heading("The roles and memberships after it");
        let roles = self.superuser(ROLES)?;
        self.transcript.check(
            roles.stdout.contains("testuser"),
            "there is a role testuser",
        );
        let memberships = self.superuser(MEMBERSHIPS)?;
        self.transcript.check(
            memberships.stdout.contains(cast::HR_GROUP),
            "it is a member of the role of its group",
        );
        Ok(())
    }

    fn only_what_the_groups_give(&mut self) -> Result<()> {
        self.transcript
            .heading("testuser looks at data of another group");
        let psql = self
            .stage
            .psql(cast::TESTUSER)
            .database(cast::FINANCE_DATABASE);
        let line = self.typed(cast::TESTUSER, cast::FINANCE_DATABASE, INVOICES);
        self.transcript.command(&line);
        let answer = psql.display(INVOICES)?;
        self.transcript.output(&answer);
        let is_denied = !answer.ok && answer.stderr.contains("permission denied");
        self.transcript
            .check(is_denied, "PostgreSQL itself denies it");
        Ok(())
    }

    fn nested_group(&mut self) -> Result<()> {
        self.transcript
            .heading("nina is in a group that is in a group");
        let (inner, outer) = (cast::PAYROLL_GROUP, cast::FINANCE_GROUP);
        self.transcript
            .say(&format!("nina is in {inner}, and {inner} is in {outer}."));
        let answer = self.person(cast::NINA, INVOICES)?;
        self.transcript
            .check(answer.stdout.contains("Acme"), "nina reads the invoices");
        Ok(())
    }

    fn no_group(&mut self) -> Result<()> {
        self.transcript
            .heading("noah has a good password and no group that counts");
        self.refusal(cast::NOAH, "noah is refused")
    }

    fn wrong_password(&mut self) -> Result<()> {
        self.transcript.heading("testuser with a wrong password");
        let wrong = Person {
            password: "guess",
            ..cast::TESTUSER
        };
        self.refusal(wrong, "the wrong password is refused, in the same words")?;
        let answer = self.person(cast::TESTUSER, "select current_user")?;
        self.transcript
            .check(answer.ok, "the right one still works");
        Ok(())
    }

    fn group_taken_away(&mut self) -> Result<()> {
        let group = cast::HR_GROUP;
        self.transcript.heading(&format!(
            "testuser is taken out of {group} while a psql is open"
        ));
        let psql = self.stage.psql(cast::TESTUSER);
        let answer = std::thread::scope(|scope| {
            let open = scope.spawn(|| psql.display(LONG_QUERY));
            self.wait_for_backend()?;
            self.stage
                .directory
                .remove_member(group, Member::Person(cast::TESTUSER.login))?;
            open.join().map_err(|_| anyhow!("psql's thread panicked"))?
        })?;
        self.show(cast::TESTUSER, LONG_QUERY, &answer);
        let says_why = answer.stderr.contains("access was revoked");
        self.transcript
            .check(says_why, "the open psql is ended at once, and says why");
        let answer = self.wait_for_login(false)?;
        self.show(cast::TESTUSER, EMPLOYEES, &answer);
        let is_refused = answer.stderr.contains("password authentication failed");
        self.transcript
            .check(is_refused, "the next login is refused");
        let memberships = self.superuser(MEMBERSHIPS)?;
        let is_gone = memberships.ok && !memberships.stdout.contains(group);
        self.transcript
            .check(is_gone, "the membership is gone from PostgreSQL too");
        Ok(())
    }

    fn group_given_back(&mut self) -> Result<()> {
        let group = cast::HR_GROUP;
        self.transcript
            .heading(&format!("testuser is in {group} again"));
        self.stage
            .directory
            .add_member(group, Member::Person(cast::TESTUSER.login))?;
        let answer = self.wait_for_login(true)?;
        self.show(cast::TESTUSER, EMPLOYEES, &answer);
        self.transcript
            .check(answer.stdout.contains("Ada"), "testuser is in");
        Ok(())
    }

    fn audit(&mut self) -> Result<()> {
        self.transcript.heading("What the audit file says");
        let mut verify = self.stage.postern.command(&["audit", "verify"])?;
        let config = self.stage.postern.config_file().display().to_string();
        self.transcript
            .command(&format!("postern audit verify --config {config}"));
        let output = verify.output().context("cannot start postern")?;
        self.transcript
            .lines(&String::from_utf8_lossy(&output.stdout));
        self.transcript
            .lines(&String::from_utf8_lossy(&output.stderr));
        self.transcript.check(
            output.status.success(),
            "no record was changed, added or removed",
        );
        Ok(())
    }

    /// Waits until testuser's long query runs.
    fn wait_for_backend(&self) -> Result<()> {
        let sql = format!("select count(*) from pg_stat_activity where query = '{LONG_QUERY}'");
        wait_until("the long query runs", CHANGE_LIMIT, || {
            let running = self.stage.postgres.sql(&sql)?;
            Ok(running == "1")
        })
    }

    /// Logs testuser in until it succeeds or fails as wanted.
    fn wait_for_login(&self, wanted: bool) -> Result<Answer> {
        let psql = self.stage.psql(cast::TESTUSER);
        let start = Instant::now();
        let mut last = None;
        let mut due = Duration::ZERO;
        eprint!("Waiting ");
        let limit = CHANGE_LIMIT + Duration::from_secs(RECHECK_S.into());
        let waited = wait_until("the directory is asked again", limit, || {
            if start.elapsed() < due {
                return Ok(false);
            }
            due = start.elapsed() + LOGIN_INTERVAL;
            eprint!(".");
            std::io::stderr().flush()?;
            let answer = psql.display(EMPLOYEES)?;
            let is_wanted = answer.ok == wanted;
            last = Some(answer);
            Ok(is_wanted)
        });
        eprintln!(" {:.1} s", start.elapsed().as_secs_f64());
        waited?;
        last.context("no login was tried")
    }

    /// Runs one command of a person's through Postern and shows it.
    fn person(&self, person: Person, sql: &str) -> Result<Answer> {
        let answer = self.stage.psql(person).display(sql)?;
        self.show(person, sql, &answer);
        Ok(answer)
    }

    fn show(&self, person: Person, sql: &str, answer: &Answer) {
        let psql = self.stage.psql(person);
        self.transcript
            .command(&self.typed(person, &psql.database, sql));
        self.transcript.output(answer);
    }

    /// A login that must be refused in PostgreSQL's own words.
    fn refusal(&mut self, person: Person, claim: &str) -> Result<()> {
        let answer = self.person(person, "select 1")?;
        let words = format!(
            "password authentication failed for user \"{}\"",
            person.login
        );
        self.transcript
            .check(!answer.ok && answer.stderr.contains(&words), claim);
        Ok(())
    }

    /// Runs SQL as the administrator and shows it.
    fn superuser(&self, sql: &str) -> Result<Answer> {
        let psql = self.stage.postgres.superuser("postgres");
        let (host, port) = (&psql.host, psql.port);
        self.transcript.command(&format!(
            "psql -h {host} -p {port} -U postgres -c \"{sql}\""
        ));
        let answer = psql.display(sql)?;
        self.transcript.output(&answer);
        Ok(answer)
    }

    fn calls(&self) -> Result<Calls> {
        Ok(Calls {
            binds: self.stage.directory.binds()?,
            syncs: self.stage.postgres.syncs()?,
        })
    }

    /// A command line through Postern as a person would type it.
    fn typed(&self, person: Person, database: &str, sql: &str) -> String {
        let port = self.stage.postern.port();
        let Person { login, password } = person;
        format!("PGPASSWORD={password} psql -p {port} -U {login} {database} -c \"{sql}\"")
    }
}
