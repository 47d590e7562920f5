//! The leg to the database: TLS as libpq means it, methods of authentication, credentials.

#[path = "backends/credentials.rs"]
mod credentials;
#[path = "backends/encryption.rs"]
mod encryption;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use postern_tests::cast::{FINANCE_GROUP, HR_GROUP};
use postern_tests::world::every_session_has_exactly_one_terminal_record;
use postern_tests::{ConfigFile, RawClient, World, claims, harness};

fn main() -> ExitCode {
    harness::run(
        World::missing(),
        || World::start(|_| {}),
        claims![
            a_database_that_does_not_exist_is_postgresqls_own_error,
            a_database_that_no_backend_lists_is_not_served,
            encryption::disable_sends_everything_in_the_clear,
            encryption::prefer_and_allow_take_what_the_server_takes,
            encryption::require_encrypts_and_believes_any_certificate,
            encryption::verify_ca_needs_the_authority_and_not_the_name,
            encryption::verify_full_needs_the_name_too,
            credentials::weaker_methods_are_refused_unless_allowed,
            credentials::mirror_mode_lets_the_person_in_directly,
            credentials::derived_mode_keeps_the_persons_password_out_of_the_database,
            credentials::another_epoch_changes_every_secret,
            every_session_has_exactly_one_terminal_record,
        ],
    )
}

fn a_database_that_does_not_exist_is_postgresqls_own_error(world: &World) -> Result<()> {
    let person = world.person("explorer", &[HR_GROUP])?;
    let told = world.psql(&person).database("atlantis").refused()?;
    let own = "FATAL:  database \"atlantis\" does not exist";
    ensure!(told.contains(own), "{told}");
    let port = world.plain.port();
    let refusal = RawClient::refused(port, "explorer", "atlantis", &person.password)?;
    let code = refusal.field(b'C');
    ensure!(code.as_deref() == Some("3D000"), "{refusal:?}");
    Ok(())
}

fn a_database_that_no_backend_lists_is_not_served(world: &World) -> Result<()> {
    let person = world.person("visitor", &[HR_GROUP, FINANCE_GROUP])?;
    let port = world.postgres.port();
    let ca_file = world.postgres.ca_file().to_owned();
    let change = move |config: &mut ConfigFile| {
        config.set("backend", "databases", ["hr"]);
        config
            .begin("backend")
            .set("backend", "host", "127.0.0.1")
            .set("backend", "port", port)
            .set("backend", "tls_ca_file", &ca_file)
            .set("backend", "databases", ["finance"]);
    };
    world.with_config(change, || {
        world.psql(&person).query("select 1 from employees")?;
        world.finance(&person).query("select 1 from invoices")?;
        let opened = |database: &str| -> Result<String> {
            let records = world.postern.audit()?;
            let mut opened = records.iter().filter(|it| it["event"] == "opened");
            let last = opened.rfind(|it| it["database"] == database);
            Ok(last.map(|it| it["backend"].to_string()).unwrap_or_default())
        };
        ensure!(opened("finance")?.contains("127.0.0.1"));
        let told = world.psql(&person).database("postgres").refused()?;
        ensure!(told.contains("\"postgres\" is not served here"), "{told}");
        Ok(())
    })
}
