//! Accounts of the local file, which prove themselves by SCRAM.

use anyhow::{Context, Result, ensure};
use postern_tests::cast::{HR_DATABASE, TESTUSER};
use postern_tests::world::{last_refusal, outcome_of};
use postern_tests::{RawClient, World, wait_until};

use crate::{
    BREAK_GLASS, accounts_file, last_record, psql, query_bound, record_of_leaving, set_password,
};

const WHO: &str = "select session_user, count(*) from employees";

pub(crate) fn a_local_account_is_in_with_and_without_channel_binding(world: &World) -> Result<()> {
    for binding in ["require", "prefer", "disable"] {
        let said = query_bound(&psql(world, BREAK_GLASS), binding, WHO)?;
        ensure!(said == Ok("breakglass|3".to_owned()), "{binding}: {said:?}");
        let record = last_record(&world.postern, "authenticated")?;
        ensure!(record["source"] == "local", "{record}");
    }
    // There is nothing to be bound to without TLS.
    let mut plain = world.plain.psql(BREAK_GLASS.0, BREAK_GLASS.1);
    plain.sslmode = "disable".to_owned();
    let who = plain.database(HR_DATABASE).query(WHO)?;
    ensure!(who == "breakglass|3", "{who}");
    // People of the directory are asked for their password, as ever.
    let person = (TESTUSER.login, TESTUSER.password);
    let who = psql(world, person).query("select session_user")?;
    ensure!(who == TESTUSER.login, "{who}");
    Ok(())
}

pub(crate) fn a_wrong_password_and_an_unknown_name_are_told_the_same(world: &World) -> Result<()> {
    let refused = |login: &str, reason: &str| {
        let told = psql(world, (login, "Not-this-one")).refused()?;
        let recorded = world.last_refusal()?;
        ensure!(recorded == reason, "{login}: {recorded}");
        Ok(told.replace(login, "NAME"))
    };
    let wrong = refused(BREAK_GLASS.0, "wrong_password")?;
    let unknown = refused("nobody@local", "unknown_login")?;
    ensure!(wrong == unknown, "{wrong} and {unknown}");
    let words = "password authentication failed for user \"NAME\"";
    ensure!(wrong.contains(words), "{wrong}");
    Ok(())
}

pub(crate) fn the_same_password_keeps_its_verifier(world: &World) -> Result<()> {
    let text = || Ok(std::fs::read_to_string(accounts_file(world))?);
    let before: Result<String> = text();
    set_password(world, "breakglass", BREAK_GLASS.1)?;
    ensure!(text()? == before?, "another verifier");
    Ok(())
}

pub(crate) fn a_second_login_does_not_ask_the_role_store(world: &World) -> Result<()> {
    psql(world, BREAK_GLASS).query("select 1")?;
    let before = world.postgres.syncs()?;
    psql(world, BREAK_GLASS).query("select 1")?;
    let after = world.postgres.syncs()?;
    ensure!(before == after, "{before} became {after}");
    Ok(())
}

pub(crate) fn without_its_domain_a_local_name_is_the_directorys(world: &World) -> Result<()> {
    psql(world, ("breakglass", BREAK_GLASS.1)).refused()?;
    ensure!(world.last_refusal()? == "unknown_login");
    // And with it a person of the directory is nobody.
    let name = format!("{}@local", TESTUSER.login);
    psql(world, (&name, TESTUSER.password)).refused()?;
    ensure!(world.last_refusal()? == "unknown_login");
    Ok(())
}

pub(crate) fn a_disabled_account_is_refused_and_an_open_session_ends(world: &World) -> Result<()> {
    set_password(world, "leaver", "Local-leaver-1")?;
    let account = ("leaver@local", "Local-leaver-1");
    let mut command = psql(world, account).command()?;
    let sleep = "select pg_sleep(60)";
    let child = command.args(["--command", sleep]).spawn()?;
    let mut session = Reaped(child);
    let is_in = "select count(*) = 1 from pg_stat_activity where usename = 'leaver'";
    world.wait_for_sql("the session", is_in)?;
    let file = accounts_file(world);
    let text = std::fs::read_to_string(&file)?;
    let (before, after) = text
        .split_once("name = \"leaver\"")
        .context("not in the file")?;
    let changed = after.replacen("disabled = false", "disabled = true", 1);
    ensure!(changed != after, "{after}");
    postern_tests::scratch::write_secret(&file, &format!("{before}name = \"leaver\"{changed}"))?;
    wait_until(
        "the end of the session",
        postern_tests::world::CHANGE_LIMIT,
        || Ok(session.0.try_wait()?.is_some()),
    )?;
    let told = psql(world, account).refused()?;
    ensure!(told.contains("password authentication failed"), "{told}");
    ensure!(world.last_refusal()? == "account_refused");
    Ok(())
}

/// A child that is ended with the claim.
struct Reaped(std::process::Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // It has ended by itself when the claim holds.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn an_ed25519_certificate_is_never_bound_to_and_never_silently(
    world: &World,
) -> Result<()> {
    let certificate = world.certificates.issue_ed25519("edwards")?;
    let change = |config: &mut postern_tests::ConfigFile| {
        config
            .set("listen", "tls_cert_file", &certificate.cert_file)
            .set("listen", "tls_key_file", &certificate.key_file);
    };
    world.with_config(change, || {
        let mut psql = psql(world, BREAK_GLASS);
        psql.ca_file = Some(certificate.cert_file.clone());
        for binding in ["prefer", "disable"] {
            let said = query_bound(&psql, binding, WHO)?;
            ensure!(said == Ok("breakglass|3".to_owned()), "{binding}: {said:?}");
        }
        let record = record_of_leaving(world, || {
            let said = query_bound(&psql, "require", WHO)?;
            let said = said.err().context("it is in")?;
            let words = "channel binding is required, but server did not offer";
            ensure!(said.contains(words), "{said}");
            Ok(())
        })?;
        let detail = record["detail"].to_string();
        ensure!(detail.contains("channel_binding"), "{detail}");
        let words = "no channel binding is defined for the signature of this certificate";
        ensure!(world.postern.log_contains(words)?, "not said at the start");
        let (_, table) = outcome_of(&mut world.postern.command(&["check"])?)?;
        ensure!(table.contains("no channel binding"), "{table}");
        Ok(())
    })
}

pub(crate) fn scram_without_a_domain_or_with_mirrored_passwords_is_refused_at_the_start(
    world: &World,
) -> Result<()> {
    let file = world.postern.config_file();
    let text = std::fs::read_to_string(&file)?;
    let check = |text: &str| {
        let path = world.scratch.secret_file("refused.toml", text)?;
        let mut command = std::process::Command::new(postern_tests::postern::binary()?);
        outcome_of(command.args(["check", "--config"]).arg(path))
    };
    let scram = "[local]\nexchange = \"scram-sha-256\"\n";
    let explicit = text.replacen("[local]\n", scram, 1);
    let mixed = explicit.replacen("domain = \"local\"\n", "", 1);
    let (code, said) = check(&mixed)?;
    ensure!(code != 0 && said.contains("needs `domain`"), "{said}");
    let mirror = explicit.replacen("[credential]\n", "[credential]\nmode = \"mirror\"\n", 1);
    let (code, said) = check(&mirror)?;
    ensure!(
        code != 0 && said.contains("contradicts credential.mode"),
        "{said}"
    );
    // A directory's password is mirrored, and the file's is asked for as such.
    world.with_plain_config(
        |config| {
            config.set("credential", "mode", "mirror");
        },
        || {
            let (login, password) = BREAK_GLASS;
            let mut client =
                RawClient::logged_in(world.plain.port(), login, HR_DATABASE, password)?;
            ensure!(client.query("select session_user")? == "breakglass");
            RawClient::refused(world.plain.port(), login, HR_DATABASE, "mistyped")?;
            ensure!(last_refusal(&world.plain)? == "wrong_password");
            Ok(())
        },
    )
}
