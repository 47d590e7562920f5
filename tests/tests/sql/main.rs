//! Many logins at once against one role store, on every PostgreSQL that is installed; one that does
//! not speak English, one that writes down whatever it can, one that takes another's place,
//! and one that another's dump is restored to.
//!
//! The routines by themselves are tested by `sql/tests`.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use postern_tests::{
    Certificates, DirectoryServer, Local, Member, Postern, Postgres, Psql, Scratch, free_port,
    harness, needs,
};

mod concurrency;
mod failover;
mod german;
mod restore;
mod secrets;

/// The password of everybody here.
const PASSWORD: &str = "Meadow-3141-brook";

/// How long a change of the directory may take to be seen, far above `recheck_s`.
const SEEN_LIMIT: Duration = Duration::from_secs(30);

type Test = harness::Test<Worlds>;

/// One world for each PostgreSQL that is installed, oldest first.
struct Worlds(Vec<World>);

impl Worlds {
    fn start() -> Result<Self> {
        let start = |major| {
            World::start(|scratch, certificates| {
                Postgres::start_version(scratch, certificates, Some(major), "")
            })
        };
        let versions = needs::postgres_versions();
        let worlds = versions.iter().map(|version| start(version.major));
        worlds.collect::<Result<_>>().map(Self)
    }

    /// Runs a test in every world; an error names the version.
    fn each(&self, test: impl Fn(&World) -> Result<()>) -> Result<()> {
        self.0.iter().try_for_each(|world| {
            test(world).with_context(|| format!("PostgreSQL {}", world.postgres.major()))
        })
    }
}

/// One PostgreSQL, a file of accounts, and Postern between them.
struct World {
    postern: Postern,
    postgres: Postgres,
    directory: Local,
    certificates: Certificates,
    scratch: Scratch,
}

impl World {
    /// Starts the servers; `start` makes the database.
    fn start(start: impl FnOnce(&Scratch, &Certificates) -> Result<Postgres>) -> Result<Self> {
        let scratch = Scratch::new()?;
        let certificates = Certificates::new(&scratch)?;
        let postgres = start(&scratch, &certificates)?;
        let directory = Local::start(&scratch)?;
        directory.add_person("somebody", PASSWORD)?;
        let postern = Postern::prepare(&scratch, &certificates, &postgres, free_port()?)?;
        postern.configure(|config| {
            directory.configure(config);
            config.set("cache", "recheck_s", 1);
            // Groups come and go while people log in.
            config.set("revocation", "lost_group", "keep");
        });
        postern.install_schema(&postgres)?;
        postern.start_again()?;
        Ok(Self {
            postern,
            postgres,
            directory,
            certificates,
            scratch,
        })
    }

    /// Adds a person who is in one group.
    fn add_person(&self, login: &str, group: &str) -> Result<()> {
        self.directory.add_person(login, PASSWORD)?;
        self.directory.add_member(group, Member::Person(login))
    }

    fn psql(&self, login: &str) -> Psql {
        self.postern.psql(login, PASSWORD)
    }

    /// The memberships of a role, by the database.
    fn memberships(&self, role: &str) -> Result<BTreeSet<String>> {
        let sql = format!(
            "select g.rolname from pg_auth_members m join pg_roles g on g.oid = m.roleid \
             join pg_roles p on p.oid = m.member where p.rolname = '{role}'"
        );
        let found = self.postgres.sql(&sql)?;
        Ok(found.lines().map(str::to_owned).collect())
    }
}

fn main() -> ExitCode {
    let missing = needs::postgres(None).is_none();
    let missing = missing.then(|| "PostgreSQL is not installed".to_owned());
    let tests = [
        concurrency::TESTS,
        german::TESTS,
        failover::TESTS,
        restore::TESTS,
        secrets::TESTS,
    ];
    harness::run(missing, Worlds::start, &tests.concat())
}
