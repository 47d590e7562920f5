//! Replication connections, physical and logical, on every PostgreSQL that is installed.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postern_tests::raw::PROTOCOL_3_0;
use postern_tests::world::outcome_of;
use postern_tests::{
    Certificates, DirectoryServer, Local, Member, Postern, Postgres, Psql, RawClient, Scratch,
    free_port, harness, needs, process, wait_until, wal,
};

/// The password of everybody here.
const PASSWORD: &str = "Meadow-3141-brook";
/// Whose members may replicate.
const COPIERS: &str = "postern-copiers";
/// Whose members may not.
const READERS: &str = "postern-readers";
/// How long a change of the file of accounts may take to be seen.
const SEEN_LIMIT: Duration = Duration::from_secs(30);

const SETTINGS: &str = "wal_level = logical\nmax_wal_senders = 10\nmax_replication_slots = 10\n";
const HBA: &str = "hostssl all,replication all 127.0.0.1/32 scram-sha-256";

fn main() -> ExitCode {
    let missing = needs::postgres(None).is_none();
    let missing = missing.then(|| "PostgreSQL is not installed".to_owned());
    harness::run(missing, Worlds::start, TESTS)
}

const TESTS: &[harness::Test<Worlds>] = &[
    (
        "only_members_of_a_group_with_replication_may_replicate",
        only_members_of_a_group_with_replication_may_replicate,
    ),
    (
        "a_base_backup_and_a_stream_of_wal_come_through",
        a_base_backup_and_a_stream_of_wal_come_through,
    ),
    (
        "changes_come_through_a_logical_slot",
        changes_come_through_a_logical_slot,
    ),
    (
        "the_attribute_goes_with_the_group_and_with_the_person",
        the_attribute_goes_with_the_group_and_with_the_person,
    ),
    (
        "reconcile_finds_an_attribute_that_no_rule_gives_or_that_is_missing",
        reconcile_finds_an_attribute_that_no_rule_gives_or_that_is_missing,
    ),
    (
        "without_the_administrators_word_nothing_is_given_and_check_says_so",
        without_the_administrators_word_nothing_is_given_and_check_says_so,
    ),
];

/// One world for each PostgreSQL that is installed, oldest first.
struct Worlds(Vec<World>);

impl Worlds {
    fn start() -> Result<Self> {
        let versions = needs::postgres_versions();
        let worlds = versions.iter().map(|version| World::start(version.major));
        worlds.collect::<Result<_>>().map(Self)
    }

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
    scratch: Scratch,
}

impl World {
    fn start(major: u32) -> Result<Self> {
        let scratch = Scratch::new()?;
        let certificates = Certificates::new(&scratch)?;
        let postgres = Postgres::start_version(&scratch, &certificates, Some(major), SETTINGS)?;
        postgres.set_hba(HBA)?;
        let directory = Local::start(&scratch)?;
        directory.add_person("nobody", PASSWORD)?;
        let postern = Postern::prepare(&scratch, &certificates, &postgres, free_port()?)?;
        postern.configure(|config| {
            directory.configure(config);
            // Raw clients show their passwords.
            config.set("local", "exchange", "password");
            config.set("cache", "recheck_s", 1);
            config
                .remove("group_rule")
                .begin("group_rule")
                .set("group_rule", "names", [COPIERS])
                .set("group_rule", "replication", true)
                .begin("group_rule")
                .set("group_rule", "prefix", "postern-");
        });
        postern.install_schema(&postgres)?;
        let world = Self {
            postern,
            postgres,
            directory,
            scratch,
        };
        world.allow()?;
        world.postern.start_again()?;
        Ok(world)
    }

    /// What an administrator says once.
    fn allow(&self) -> Result<()> {
        let statement = match self.postgres.major() {
            16.. => "alter role postern_people replication",
            _ => "alter function postern.set_replication(text, boolean) owner to postgres",
        };
        self.postgres.sql(statement).map(drop)
    }

    /// Takes that back.
    fn forbid(&self) -> Result<()> {
        let statement = match self.postgres.major() {
            16.. => "alter role postern_people noreplication",
            _ => "alter function postern.set_replication(text, boolean) owner to postern_people",
        };
        self.postgres.sql(statement).map(drop)
    }

    /// Adds a person who is in one group.
    fn person(&self, login: &str, group: &str) -> Result<Psql> {
        self.directory.add_person(login, PASSWORD)?;
        self.directory.add_member(group, Member::Person(login))?;
        Ok(self.postern.psql(login, PASSWORD))
    }

    /// Whether a role has REPLICATION.
    fn replicates(&self, role: &str) -> Result<bool> {
        let sql = format!("select rolreplication from pg_roles where rolname = '{role}'");
        Ok(self.postgres.sql(&sql)? == "t")
    }

    /// Whether the installed clients know this server: they refuse newer ones.
    fn has_clients(&self) -> Result<bool> {
        let Some(program) = needs::postgres_client("pg_basebackup") else {
            return Ok(false);
        };
        let said = process::run(std::process::Command::new(program).arg("--version"))?;
        let version = said.split_whitespace().nth(2).unwrap_or_default();
        let major = version.split('.').next().unwrap_or_default();
        Ok(major.parse::<u32>()? >= self.postgres.major())
    }
}

/// Runs a replication command with psql.
fn command(psql: &Psql, mode: &str, sql: &str) -> Result<(i32, String)> {
    let target = format!("dbname={} replication={mode}", psql.database);
    outcome_of(psql.command()?.args(["-At", "-d", &target, "-c", sql]))
}

fn only_members_of_a_group_with_replication_may_replicate(worlds: &Worlds) -> Result<()> {
    worlds.each(|world| {
        let copier = world.person("copier", COPIERS)?;
        let reader = world.person("reader", READERS)?;
        for mode in ["true", "database"] {
            let (code, said) = command(&copier, mode, "IDENTIFY_SYSTEM")?;
            ensure!(code == 0, "{mode}: {said}");
            let (code, said) = command(&reader, mode, "IDENTIFY_SYSTEM")?;
            let told = "permission denied to start a replication connection";
            ensure!(code != 0 && said.contains(told), "{mode}: {said}");
            let records = world.postern.audit()?;
            let last = records.iter().rfind(|it| it["event"] == "refused");
            let reason = last.map(|it| it["reason"].to_string());
            ensure!(
                reason.as_deref() == Some("\"replication_not_granted\""),
                "{reason:?}"
            );
        }
        ensure!(reader.query("select 1")? == "1");
        ensure!(!world.replicates("reader")?);
        for (login, expected) in [
            (
                "copier",
                "replication  opened by a group, physical and logical",
            ),
            (
                "reader",
                "replication  refused: none of the groups opens it",
            ),
        ] {
            let arguments = ["explain-login", login, "--database", "postgres"];
            let (_, said) = outcome_of(&mut world.postern.command(&arguments)?)?;
            ensure!(said.lines().any(|it| it == expected), "{said}");
        }
        let (code, said) = command(&copier, "perhaps", "IDENTIFY_SYSTEM")?;
        ensure!(
            code != 0 && said.contains("invalid startup packet"),
            "{said}"
        );
        Ok(())
    })
}

fn a_base_backup_and_a_stream_of_wal_come_through(worlds: &Worlds) -> Result<()> {
    worlds.each(|world| {
        let claim = "a_base_backup_and_a_stream_of_wal_come_through";
        if !world.has_clients()? {
            let why = format!("no pg_basebackup for PostgreSQL {}", world.postgres.major());
            needs::skip(claim, &why);
            return Ok(());
        }
        let copier = world.person("backup", COPIERS)?;
        let backup = world.scratch.subfolder("backup")?;
        // The log is streamed over a second connection beside the data.
        let mut command =
            copier.client("pg_basebackup", &["--checkpoint=fast", "--no-password"])?;
        process::run(command.arg("--wal-method=stream").arg("-D").arg(&backup))?;
        ensure!(backup.join("backup_manifest").is_file());
        let mut verify = std::process::Command::new(
            needs::postgres_client("pg_verifybackup").context("no pg_verifybackup")?,
        );
        // Only the server's own version reads its log; the checksums are what counts.
        process::run(verify.arg("--no-parse-wal").arg(&backup))?;

        let log = world.scratch.subfolder("log")?;
        wal::receive_a_segment(&world.postgres, &copier, &log)
    })
}

fn changes_come_through_a_logical_slot(worlds: &Worlds) -> Result<()> {
    worlds.each(|world| {
        let claim = "changes_come_through_a_logical_slot";
        let Some(_) = needs::postgres_client("pg_recvlogical") else {
            needs::skip(claim, "no pg_recvlogical");
            return Ok(());
        };
        let copier = world.person("follower", COPIERS)?;
        world.postgres.sql("create table followed (id int)")?;
        let slot = |arguments: &[&str]| -> Result<String> {
            let mut command = copier.client("pg_recvlogical", &["--no-password"])?;
            command.args(["-d", &copier.database, "--slot=changes"]);
            process::run(command.args(arguments))
        };
        // The plug-in that every server has.
        slot(&["--create-slot", "--plugin=pgoutput"])?;
        world
            .postgres
            .sql("create publication everything for all tables")?;
        world.postgres.sql("insert into followed values (42)")?;
        let end = world.postgres.sql("select pg_current_wal_insert_lsn()")?;
        let received = world.scratch.subfolder("changes")?.join("received");
        let file = format!("--file={}", received.display());
        let end = format!("--endpos={end}");
        slot(&[
            "--start",
            "--no-loop",
            &file,
            &end,
            "-oproto_version=1",
            "-opublication_names=everything",
        ])?;
        let bytes = std::fs::read(&received)?;
        let has = |part: &[u8]| bytes.windows(part.len()).any(|it| it == part);
        ensure!(has(b"followed") && has(b"42"), "{bytes:?}");
        slot(&["--drop-slot"])?;
        Ok(())
    })
}

fn the_attribute_goes_with_the_group_and_with_the_person(worlds: &Worlds) -> Result<()> {
    worlds.each(|world| {
        for (login, stays) in [("mover", true), ("leaver", false)] {
            let psql = world.person(login, COPIERS)?;
            if stays {
                world.directory.add_member(READERS, Member::Person(login))?;
            }
            ensure!(command(&psql, "database", "IDENTIFY_SYSTEM")?.0 == 0);
            ensure!(world.replicates(login)?);
            // A session for replication, which is to end with the right to it.
            let mut client = RawClient::encrypted(
                world.postern.port(),
                &postern_tests::raw::client_config(world.postern.ca_file())?,
            )?
            .map_err(|told| anyhow::anyhow!("{told:?}"))?;
            let parameters = [("user", login), ("replication", "true")];
            client.startup(PROTOCOL_3_0, &parameters)?;
            let in_session = client.finish(PASSWORD)?;
            let mut client = in_session.map_err(|told| anyhow::anyhow!("{told:?}"))?;
            world
                .directory
                .remove_member(COPIERS, Member::Person(login))?;
            wait_until("the attribute is gone", SEEN_LIMIT, || {
                Ok(!world.replicates(login)?)
            })?;
            let told = client.read()?;
            ensure!(told.field(b'C').as_deref() == Some("57P01"), "{told:?}");
            ensure!(command(&psql, "database", "IDENTIFY_SYSTEM")?.0 != 0);
            ensure!(psql.run("select 1")?.ok == stays);
            // And it comes back with the group.
            world.directory.add_member(COPIERS, Member::Person(login))?;
            wait_until("the attribute is back", SEEN_LIMIT, || {
                Ok(command(&psql, "database", "IDENTIFY_SYSTEM")?.0 == 0)
            })?;
        }
        Ok(())
    })
}

fn reconcile_finds_an_attribute_that_no_rule_gives_or_that_is_missing(
    worlds: &Worlds,
) -> Result<()> {
    worlds.each(|world| {
        let ordered = |arguments: &[&str]| -> Result<String> {
            let (code, said) = outcome_of(&mut world.postern.command(arguments)?)?;
            ensure!(code == 0, "{arguments:?}: {said}");
            Ok(said)
        };
        let people = [("keeper", COPIERS), ("browser", READERS)];
        for (login, group) in people {
            ensure!(world.person(login, group)?.query("select 1")? == "1");
        }
        let mut plan = String::new();
        // Until the watch has seen to the people who have just come, it mends this as well.
        wait_until("both differences stand", SEEN_LIMIT, || {
            world.postgres.sql("alter role keeper noreplication")?;
            world.postgres.sql("alter role browser replication")?;
            plan = ordered(&["reconcile", "--dry-run"])?;
            let has = |line: &str| plan.lines().any(|it| it == line);
            let is_planned = has("grant   keeper  the attribute REPLICATION")
                && has("revoke  browser  the attribute REPLICATION");
            // A dry run changes nothing.
            Ok(is_planned && !world.replicates("keeper")? && world.replicates("browser")?)
        })?;
        let done = ordered(&["reconcile"])?;
        ensure!(done == plan, "planned:\n{plan}\ndone:\n{done}");
        ensure!(world.replicates("keeper")? && !world.replicates("browser")?);
        let again = ordered(&["reconcile", "--dry-run"])?;
        ensure!(again.contains(" 0 differences"), "{again}");
        Ok(())
    })
}

fn without_the_administrators_word_nothing_is_given_and_check_says_so(
    worlds: &Worlds,
) -> Result<()> {
    worlds.each(|world| {
        let checked = || outcome_of(&mut world.postern.command(&["check"])?);
        ensure!(checked()?.1.contains("given and taken away by group rules"));
        world.forbid()?;
        let psql = world.person("waiting", COPIERS)?;
        let outcome = (|| -> Result<()> {
            ensure!(psql.query("select 1")? == "1", "other sessions are open");
            let (code, said) = command(&psql, "true", "IDENTIFY_SYSTEM")?;
            ensure!(code != 0, "{said}");
            let (_, compared) = outcome_of(&mut world.postern.command(&["reconcile"])?)?;
            let left = "left    waiting  the attribute REPLICATION: PostgreSQL does not let";
            ensure!(compared.contains(left), "{compared}");
            // PostgreSQL's own words, which are not the same in every version.
            ensure!(said.to_lowercase().contains("replication"), "{said}");
            let said = checked()?.1;
            ensure!(said.contains("as a superuser, once: ALTER"), "{said}");
            Ok(())
        })();
        world.allow()?;
        outcome
    })
}
