//! `backend.sslmode`, against certificates that fit and certificates that do not.

use anyhow::{Result, ensure};
use postern_tests::account::Account;
use postern_tests::cast::HR_GROUP;
use postern_tests::{Certificates, ConfigFile, Someone, World};

/// Whether this session of the backend is encrypted.
const ENCRYPTED: &str = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";

/// Only the backend's leg changes; the role store stays verified.
fn mode(sslmode: &'static str) -> impl Fn(&mut ConfigFile) {
    move |config| {
        config.set("backend", "sslmode", sslmode);
    }
}

/// Runs a claim with other lines in `pg_hba.conf` for all but the provisioner.
pub(crate) fn with_hba(
    world: &World,
    line: &str,
    claim: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let scram = "127.0.0.1/32 scram-sha-256";
    let provisioner = format!("hostssl all postern {scram}");
    world.postgres.set_hba(&format!("{provisioner}\n{line}"))?;
    let outcome = claim();
    world
        .postgres
        .set_hba(&format!("hostssl all all {scram}"))?;
    outcome
}

fn encrypted(world: &World, person: &Someone) -> Result<String> {
    world.psql(person).query(ENCRYPTED)
}

fn unavailable(world: &World, person: &Someone) -> Result<()> {
    let told = world.psql(person).refused()?;
    ensure!(told.contains("the database is not available"), "{told}");
    ensure!(world.last_refusal()? == "backend_unreachable");
    Ok(())
}

pub(crate) fn disable_sends_everything_in_the_clear(world: &World) -> Result<()> {
    let person = world.person("cleartext", &[HR_GROUP])?;
    world.with_config(mode("disable"), || {
        let told = world.psql(&person).refused()?;
        ensure!(told.contains("no pg_hba.conf entry"), "{told}");
        with_hba(world, "host all all 127.0.0.1/32 scram-sha-256", || {
            ensure!(encrypted(world, &person)? == "f");
            Ok(())
        })
    })
}

pub(crate) fn prefer_and_allow_take_what_the_server_takes(world: &World) -> Result<()> {
    let person = world.person("flexible", &[HR_GROUP])?;
    for (sslmode, both) in [("prefer", "t"), ("allow", "f")] {
        world.with_config(mode(sslmode), || {
            for (line, expected) in [("hostssl", "t"), ("hostnossl", "f"), ("host", both)] {
                let line = format!("{line} all all 127.0.0.1/32 scram-sha-256");
                with_hba(world, &line, || {
                    let found = encrypted(world, &person)?;
                    ensure!(found == expected, "{sslmode} with {line}: {found}");
                    Ok(())
                })?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

pub(crate) fn require_encrypts_and_believes_any_certificate(world: &World) -> Result<()> {
    let person = world.person("demanding", &[HR_GROUP])?;
    let change = |config: &mut ConfigFile| {
        mode("require")(config);
        config.unset("backend", "tls_ca_file");
    };
    world.with_config(change, || {
        ensure!(encrypted(world, &person)? == "t");
        with_hba(
            world,
            "hostnossl all all 127.0.0.1/32 scram-sha-256",
            || {
                let told = world.psql(&person).refused()?;
                ensure!(told.contains("no pg_hba.conf entry"), "{told}");
                Ok(())
            },
        )
    })?;
    // As libpq: with a CA file, `require` is `verify-ca`.
    let foreign = Certificates::new(&world.scratch)?;
    let change = |config: &mut ConfigFile| {
        mode("require")(config);
        config.set("backend", "tls_ca_file", &foreign.ca_file());
    };
    world.with_config(change, || unavailable(world, &person))
}

/// Gives PostgreSQL a certificate for other names, and its own back afterwards.
fn with_names(world: &World, names: &[&str], claim: impl FnOnce() -> Result<()>) -> Result<()> {
    let account = Account::unprivileged()?;
    // The name of its folder, by which its certificate is called.
    let name = "postgres";
    world.certificates.issue_for(name, names, &account)?;
    world.postgres.reload()?;
    let outcome = claim();
    world.certificates.issue(name, &account)?;
    world.postgres.reload()?;
    outcome
}

fn with_role_store_unverified(sslmode: &'static str) -> impl Fn(&mut ConfigFile) {
    move |config| {
        mode(sslmode)(config);
        // Both legs meet the same certificate; only the backend's is the claim.
        config
            .set("role_store", "sslmode", "require")
            .unset("role_store", "tls_ca_file");
    }
}

pub(crate) fn verify_ca_needs_the_authority_and_not_the_name(world: &World) -> Result<()> {
    let person = world.person("checker", &[HR_GROUP])?;
    world.with_config(with_role_store_unverified("verify-ca"), || {
        with_names(world, &["elsewhere.example"], || {
            ensure!(encrypted(world, &person)? == "t");
            Ok(())
        })
    })?;
    let foreign = Certificates::new(&world.scratch)?;
    let change = |config: &mut ConfigFile| {
        mode("verify-ca")(config);
        config.set("backend", "tls_ca_file", &foreign.ca_file());
    };
    world.with_config(change, || unavailable(world, &person))
}

pub(crate) fn verify_full_needs_the_name_too(world: &World) -> Result<()> {
    let person = world.person("strict", &[HR_GROUP])?;
    world.with_config(with_role_store_unverified("verify-full"), || {
        ensure!(encrypted(world, &person)? == "t");
        with_names(world, &["elsewhere.example"], || {
            unavailable(world, &person)
        })?;
        ensure!(encrypted(world, &person)? == "t");
        Ok(())
    })?;
    // The role store's own leg is as strict, and a cold login needs it.
    let foreign = Certificates::new(&world.scratch)?;
    let cold = world.person("colder", &[HR_GROUP])?;
    let change = |config: &mut ConfigFile| {
        config.set("role_store", "tls_ca_file", &foreign.ca_file());
    };
    world.with_config(change, || {
        let told = world.psql(&cold).refused()?;
        ensure!(told.contains("the database is not available"), "{told}");
        ensure!(world.last_refusal()? == "role_store_unreachable");
        Ok(())
    })
}
