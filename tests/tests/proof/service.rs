//! Service accounts: the database authenticates them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::raw::PROTOCOL_3_0;
use postern_tests::world::{last_refusal, outcome_of};
use postern_tests::{ConfigFile, Psql, RawClient, World, wait_until};

use crate::{
    BREAK_GLASS, PROGRAM, accounts_file, last_record, ordered, psql, query_bound,
    record_of_leaving, service_account,
};

pub(crate) const WHO: &str = "select session_user";

/// Whether the database does nothing for the program.
pub(crate) const NO_BACKEND: &str =
    "select count(*) = 0 from pg_stat_activity where usename = 'etl'";

/// A session that stays open for a while, and its end.
pub(crate) struct Session(std::process::Child);

impl Session {
    /// `marker` tells its query from those of earlier claims, which the database may not have
    /// ended yet.
    pub(crate) fn open(world: &World, psql: &Psql, marker: &str) -> Result<Self> {
        let mut command = psql.command()?;
        command.env("PGCHANNELBINDING", "disable");
        let sleep = format!("select pg_sleep(90) as {marker}");
        let child = command.args(["--command", &sleep]).spawn()?;
        let session = Self(child);
        let is_in = format!(
            "select count(*) = 1 from pg_stat_activity where usename = '{}' and query = '{sleep}'",
            psql.user.split('@').next().unwrap_or_default()
        );
        world.wait_for_sql("the session of the program", &is_in)?;
        Ok(session)
    }

    fn expect_end(&mut self) -> Result<()> {
        wait_until(
            "the end of the session",
            postern_tests::world::CHANGE_LIMIT,
            || Ok(self.0.try_wait()?.is_some()),
        )
    }

    pub(crate) fn is_open(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }
}

/// A psql that was killed by an earlier claim leaves its query behind, as with PostgreSQL itself.
pub(crate) fn end_earlier(world: &World) -> Result<()> {
    let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'etl'";
    world.postgres.sql(end)?;
    world.wait_for_sql("the end of earlier claims", NO_BACKEND)
}

impl Drop for Session {
    fn drop(&mut self) {
        // It has ended by itself where a claim says so.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn a_service_account_is_in_by_its_own_password(world: &World) -> Result<()> {
    let said = query_bound(&psql(world, PROGRAM), "disable", WHO)?;
    ensure!(said == Ok(PROGRAM.0.to_owned()), "{said:?}");
    let record = last_record(&world.postern, "authenticated")?;
    ensure!(record["source"] == "database", "{record}");
    ensure!(record["principal"] == "service:etl", "{record}");
    let opened = last_record(&world.postern, "opened")?;
    ensure!(opened["role"] == PROGRAM.0, "{opened}");
    let mut session = Session::open(world, &psql(world, PROGRAM), "listed")?;
    let list = ordered(&world.postern, &["sessions"])?;
    ensure!(list.lines().any(|it| it.contains(PROGRAM.0)), "{list}");
    ensure!(session.is_open()?);
    Ok(())
}

pub(crate) fn a_client_that_could_be_bound_is_told_what_to_change(world: &World) -> Result<()> {
    let said = query_bound(&psql(world, PROGRAM), "prefer", WHO)?;
    let said = said.err().context("it is in")?;
    ensure!(said.contains("channel_binding=disable"), "{said}");
    ensure!(world.last_refusal()? == "not_supported");
    // This one gives up by itself, because nothing that it wants was offered.
    record_of_leaving(world, || {
        let said = query_bound(&psql(world, PROGRAM), "require", WHO)?;
        let said = said.err().context("it is in")?;
        ensure!(said.contains("server did not offer"), "{said}");
        Ok(())
    })?;
    Ok(())
}

pub(crate) fn with_the_databases_own_certificate_the_binding_passes_through(
    world: &World,
) -> Result<()> {
    let checked =
        || -> Result<String> { Ok(outcome_of(&mut world.postern.command(&["check"])?)?.1) };
    let said = checked()?;
    ensure!(
        said.contains("channel binding of service accounts"),
        "{said}"
    );
    ensure!(said.contains("channel_binding=disable"), "{said}");
    let theirs = world.postgres.certificate();
    let folder = world.scratch.subfolder("shared-certificate")?;
    let copy = |from: &Path, name: &str| -> Result<PathBuf> {
        let to = folder.join(name);
        std::fs::copy(from, &to)?;
        Ok(to)
    };
    let (cert, key) = (
        copy(&theirs.cert_file, "server.pem")?,
        copy(&theirs.key_file, "server.key")?,
    );
    let shared = |config: &mut ConfigFile| {
        config
            .set("listen", "tls_cert_file", &cert)
            .set("listen", "tls_key_file", &key);
    };
    world.with_config(shared, || {
        for binding in ["require", "prefer", "disable"] {
            let said = query_bound(&psql(world, PROGRAM), binding, WHO)?;
            ensure!(said == Ok(PROGRAM.0.to_owned()), "{binding}: {said:?}");
        }
        let wrong = query_bound(&psql(world, (PROGRAM.0, "mistyped")), "require", WHO)?;
        let wrong = wrong.err().context("it is in")?;
        ensure!(wrong.contains("password authentication failed"), "{wrong}");
        let said = checked()?;
        ensure!(
            said.contains("passed on: the listener has the same certificate"),
            "{said}"
        );
        Ok(())
    })
}

pub(crate) fn a_wrong_password_is_the_databases_own_refusal(world: &World) -> Result<()> {
    let wrong = psql(world, (PROGRAM.0, "mistyped"));
    let said = query_bound(&wrong, "disable", WHO)?;
    let said = said.err().context("it is in")?;
    let words = "password authentication failed for user \"etl\"";
    ensure!(said.contains(words), "{said}");
    ensure!(world.last_refusal()? == "wrong_password");
    Ok(())
}

pub(crate) fn without_tls_a_service_account_needs_to_be_allowed_to(world: &World) -> Result<()> {
    let mut psql = world.plain.psql(PROGRAM.0, PROGRAM.1).database(HR_DATABASE);
    psql.sslmode = "disable".to_owned();
    let said = psql.refused()?;
    ensure!(said.contains("encrypted connections only"), "{said}");
    let allowed = |config: &mut ConfigFile| {
        config.set("service_account", "tls", "allow-plaintext");
    };
    world.with_plain_config(allowed, || {
        // In clear text nothing can be bound, and the client says so: TLS to the database is no
        // trouble then.
        let said = psql.query(WHO)?;
        ensure!(said == PROGRAM.0, "{said}");
        Ok(())
    })
}

pub(crate) fn from_elsewhere_a_service_account_is_refused_like_anybody(
    world: &World,
) -> Result<()> {
    let far = |config: &mut ConfigFile| {
        config.remove("service_account");
        service_account(config, PROGRAM.0, "10.99.0.0/16");
    };
    world.with_plain_config(far, || {
        let asked = |user: &str| {
            let mut client = RawClient::connect(world.plain.port())?;
            client.startup(PROTOCOL_3_0, &[("user", user), ("database", HR_DATABASE)])?;
            client.read()
        };
        ensure!(asked(PROGRAM.0)? == asked("nobody-at-all")?);
        let port = world.plain.port();
        let told = RawClient::refused(port, PROGRAM.0, HR_DATABASE, PROGRAM.1)?;
        ensure!(told.field(b'C').as_deref() == Some("28P01"), "{told:?}");
        ensure!(last_refusal(&world.plain)? == "unknown_login");
        ensure!(world.plain.log_contains("from outside its networks")?);
        Ok(())
    })
}

pub(crate) fn nobody_of_the_directory_gets_the_role_of_a_service_account(
    world: &World,
) -> Result<()> {
    let person = world.person("robot", &[HR_GROUP])?;
    let reserved = |config: &mut ConfigFile| {
        service_account(config, "robot", "10.99.0.0/16");
    };
    world.with_plain_config(reserved, || {
        let (port, password) = (world.plain.port(), &person.password);
        let told = RawClient::refused(port, "robot", HR_DATABASE, password)?;
        ensure!(told.field(b'C').as_deref() == Some("28P01"), "{told:?}");
        ensure!(last_refusal(&world.plain)? == "role_reserved");
        ensure!(world.may_log_in("robot")?.is_empty(), "the role was made");
        Ok(())
    })
}

pub(crate) fn a_database_that_asks_for_anything_else_is_refused(world: &World) -> Result<()> {
    let everybody = "host all all all scram-sha-256";
    let outcome = ["trust", "md5", "password"]
        .into_iter()
        .try_for_each(|method| {
            let lines = format!("host all etl all {method}\n{everybody}");
            world.postgres.set_hba(&lines)?;
            if method == "md5" {
                world.postgres.sql(
                    "set password_encryption = 'md5'; alter role etl password 'Etl-secret-1'",
                )?;
            }
            let said = query_bound(&psql(world, PROGRAM), "disable", WHO)?;
            let said = said.err().with_context(|| format!("{method}: it is in"))?;
            ensure!(said.contains("does not ask this service account"), "{said}");
            ensure!(said.contains("pg_hba.conf"), "{said}");
            ensure!(world.last_refusal()? == "backend_protocol");
            Ok(())
        });
    world.postgres.set_hba(everybody)?;
    world
        .postgres
        .sql("alter role etl password 'Etl-secret-1'")?;
    outcome
}

pub(crate) fn a_service_account_is_revoked_by_an_operator_and_by_nobody_else(
    world: &World,
) -> Result<()> {
    end_earlier(world)?;
    let program = psql(world, PROGRAM);
    let mut session = Session::open(world, &program, "revoked")?;
    // Everybody is compared with the directory, which does not know the account.
    world.directory.stop()?;
    world.directory.start_again()?;
    ordered(&world.postern, &["reconcile"])?;
    ensure!(session.is_open()?, "ended without an order");
    // By another proxy of the same database.
    ordered(&world.plain, &["revoke", PROGRAM.0, "--reason", "leaked"])?;
    session.expect_end()?;
    world.wait_for_sql("the end of its query", NO_BACKEND)?;
    let lost = last_record(&world.postern, "access_lost")?;
    ensure!(lost["principal"] == "service:etl", "{lost}");
    ensure!(lost["reason"] == "held", "{lost}");
    let said = query_bound(&program, "disable", WHO)?;
    let said = said.err().context("it is in")?;
    ensure!(said.contains("suspended the access"), "{said}");
    ensure!(world.last_refusal()? == "role_held");
    ensure!(world.may_log_in(PROGRAM.0)? == "t", "the role was changed");
    ordered(&world.plain, &["restore", PROGRAM.0])?;
    let said = query_bound(&program, "disable", WHO)?;
    ensure!(said == Ok(PROGRAM.0.to_owned()), "{said:?}");
    Ok(())
}

pub(crate) fn whoever_a_reload_leaves_without_a_way_in_is_sent_away(world: &World) -> Result<()> {
    end_earlier(world)?;
    let narrowed = |config: &mut ConfigFile| {
        config.set("service_account", "networks", ["10.99.0.0/16"]);
    };
    let without_account = |config: &mut ConfigFile| {
        config.remove("service_account");
    };
    let without_file = |config: &mut ConfigFile| {
        config.remove("local");
    };
    let ways = [
        (PROGRAM, "narrowed", narrowed as fn(&mut ConfigFile)),
        (PROGRAM, "removed", without_account),
        (BREAK_GLASS, "without_file", without_file),
    ];
    for (who, marker, change) in ways {
        let mut session = Session::open(world, &psql(world, who), marker)?;
        let file = accounts_file(world);
        world.postern.rewrite(change)?;
        let reloaded = ordered(&world.postern, &["reload"]);
        let ended = session.expect_end();
        world.postern.rewrite(|config| {
            config
                .remove("service_account")
                .set("local", "file", &file)
                .set("local", "domain", "local");
            service_account(config, PROGRAM.0, "127.0.0.0/8");
        })?;
        ordered(&world.postern, &["reload"])?;
        reloaded?;
        ended.with_context(|| marker.to_owned())?;
        let lost = last_record(&world.postern, "access_lost")?;
        ensure!(lost["reason"] == "unconfigured", "{marker}: {lost}");
        end_earlier(world)?;
    }
    ensure!(
        world.may_log_in("breakglass")? == "t",
        "the role was changed"
    );
    Ok(())
}

pub(crate) fn a_service_account_replicates_only_where_the_configuration_says_so(
    world: &World,
) -> Result<()> {
    let own = "hostssl all,replication all 127.0.0.1/32 scram-sha-256";
    world.postgres.set_hba(own)?;
    world.postgres.sql("alter role etl replication")?;
    let identify = || -> Result<(i32, String)> {
        let program = psql(world, PROGRAM);
        let target = format!("dbname={HR_DATABASE} replication=true");
        let mut command = program.command()?;
        command.env("PGCHANNELBINDING", "disable");
        outcome_of(command.args(["-At", "-d", &target, "-c", "IDENTIFY_SYSTEM"]))
    };
    let (_, said) = identify()?;
    ensure!(
        said.contains("\"replication\" is not allowed here"),
        "{said}"
    );
    let another = |config: &mut ConfigFile| {
        config
            .begin("group_rule")
            .set("group_rule", "prefix", "copiers-")
            .set("group_rule", "replication", true);
    };
    world.with_config(another, || {
        let (_, said) = identify()?;
        ensure!(
            said.contains("permission denied to start a replication connection"),
            "{said}"
        );
        Ok(())
    })?;
    let allowed = |config: &mut ConfigFile| {
        config.set("service_account", "replication", true);
    };
    world.with_config(allowed, || {
        let (code, said) = identify()?;
        ensure!(code == 0 && said.contains('|'), "{said}");
        Ok(())
    })
}

pub(crate) fn kill_ends_the_session_of_a_service_account(world: &World) -> Result<()> {
    end_earlier(world)?;
    let mut session = Session::open(world, &psql(world, PROGRAM), "killed")?;
    let opened = last_record(&world.postern, "opened")?;
    let id = opened["session"].as_str().context("no session")?;
    ordered(&world.postern, &["kill", id, "--reason", "deploy"])?;
    session.expect_end()?;
    world.wait_for_sql("the end of its query", NO_BACKEND)?;
    let closed = last_record(&world.postern, "closed")?;
    ensure!(closed["reason"] == "ended", "{closed}");
    Ok(())
}
