//! Clients that insist, with the newest libpq that there is.

use std::process::Command;

use anyhow::{Result, ensure};
use postern_tests::cast::{HR_DATABASE, TESTUSER};
use postern_tests::{World, needs};

use crate::{BREAK_GLASS, record_of_leaving};

const NO_PSYCOPG: &str = "psycopg is not installed: pip install 'psycopg[binary]'";

/// Logs in, and prints who it is or why not.
const PROGRAM: &str = "import sys, psycopg\n\
    try:\n    \
        with psycopg.connect(sys.argv[1]) as c:\n        \
            print('in', c.execute('select session_user').fetchone()[0])\n\
    except psycopg.Error as error:\n    \
        print('refused', error)\n";

/// What psycopg says; none when it is not installed here.
fn connect(
    world: &World,
    (login, password): (&str, &str),
    options: &str,
) -> Result<Option<String>> {
    let Some(python) = needs::psycopg() else {
        return Ok(None);
    };
    let (port, ca_file) = (world.postern.port(), world.postern.ca_file());
    let conninfo = format!(
        "host=localhost port={port} dbname={HR_DATABASE} user={login} password={password} \
         sslmode=verify-full sslrootcert={} {options}",
        ca_file.display()
    );
    let mut command = Command::new(python);
    command.args(["-c", PROGRAM, &conninfo]);
    Ok(Some(postern_tests::process::run(&mut command)?))
}

pub(crate) fn psycopg_logs_in_as_a_local_account_with_every_channel_binding(
    world: &World,
) -> Result<()> {
    for options in [
        "channel_binding=require",
        "channel_binding=require require_auth=scram-sha-256",
        "channel_binding=prefer",
        "channel_binding=disable require_auth=scram-sha-256",
    ] {
        let Some(said) = connect(world, BREAK_GLASS, options)? else {
            needs::skip(
                "psycopg_logs_in_as_a_local_account",
                "psycopg is not installed",
            );
            return Ok(());
        };
        ensure!(said.trim() == "in breakglass", "{options}: {said}");
    }
    let (login, _) = BREAK_GLASS;
    let said = connect(world, (login, "wrong"), "channel_binding=require")?.unwrap_or_default();
    ensure!(said.contains("password authentication failed"), "{said}");
    Ok(())
}

pub(crate) fn a_client_that_insists_on_scram_is_told_by_its_own_library(
    world: &World,
) -> Result<()> {
    if needs::psycopg().is_none() {
        needs::skip(
            "a_client_that_insists_on_scram_is_told_by_its_own_library",
            NO_PSYCOPG,
        );
        return Ok(());
    }
    let person = (TESTUSER.login, TESTUSER.password);
    for (options, words) in [
        (
            "require_auth=scram-sha-256",
            "server requested a cleartext password",
        ),
        (
            "channel_binding=require",
            "channel binding required but not supported",
        ),
    ] {
        let record = record_of_leaving(world, || {
            let said = connect(world, person, options)?.unwrap_or_default();
            ensure!(said.contains(words), "{options}: {said}");
            Ok(())
        })?;
        // The operator sees why such a client left.
        ensure!(
            record["detail"].to_string().contains("require_auth"),
            "{record}"
        );
    }
    let said = connect(world, person, "require_auth=password")?.unwrap_or_default();
    ensure!(said.trim() == "in testuser", "{said}");
    Ok(())
}
