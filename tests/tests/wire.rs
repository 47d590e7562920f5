//! What psql never sends, and what only a second connection can see.

#[path = "wire/cancel.rs"]
mod cancel;
#[path = "wire/crowd.rs"]
mod crowd;
#[path = "wire/direct_tls.rs"]
mod direct_tls;
#[path = "wire/encryption.rs"]
mod encryption;
#[path = "wire/libpq.rs"]
mod libpq;
#[path = "wire/limits.rs"]
mod limits;
#[path = "wire/proxy_protocol.rs"]
mod proxy_protocol;
#[path = "wire/resumption.rs"]
mod resumption;
#[path = "wire/startup.rs"]
mod startup;
#[path = "wire/versions.rs"]
mod versions;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use postern_tests::cast::{HR_DATABASE, HR_GROUP};
use postern_tests::openldap::PEOPLE_DN;
use postern_tests::raw::{GSS_REQUEST, PROTOCOL_3_0, SSL_REQUEST};
use postern_tests::world::{every_session_has_exactly_one_terminal_record, last_refusal};
use postern_tests::{RawClient, World, claims, harness};

fn main() -> ExitCode {
    harness::run(
        World::missing(),
        // What the feed asks would be counted among what logins ask.
        || {
            World::start(|config| {
                config.set("directory", "feed", "off");
            })
        },
        claims![
            crowd::two_hundred_first_logins_at_once_are_one_bind_and_one_sync,
            crowd::two_hundred_wrong_passwords_at_once_are_one_bind,
            crowd::forty_people_who_log_in_for_the_first_time_at_once_are_all_in,
            crowd::a_client_that_gives_up_does_not_take_the_others_with_it,
            a_login_sent_byte_by_byte_is_a_login,
            an_empty_password_and_one_with_nul_never_reach_the_directory,
            a_password_of_white_space_is_sent_as_it_is,
            without_tls_no_password_is_asked_for,
            plaintext_after_a_tls_request_is_refused,
            gssapi_encryption_is_declined_and_tls_may_follow,
            without_a_rule_that_opens_it_replication_is_refused_before_a_password,
            versions::a_client_of_3_2_gets_what_it_asked_for_in_front_of_any_server,
            versions::whatever_is_newer_or_unknown_is_named_in_the_answer,
            versions::libpq_18_insists_on_3_2_and_gets_it,
            direct_tls::a_client_may_begin_with_tls,
            direct_tls::without_the_protocol_postgresql_there_is_an_alert_and_no_handshake,
            direct_tls::the_protocol_is_answered_where_tls_is_negotiated_too,
            direct_tls::nothing_is_negotiated_inside_tls,
            direct_tls::each_kind_of_encryption_is_asked_for_once,
            direct_tls::libpq_18_begins_with_tls_and_cancels_so,
            encryption::libpq_18_gets_in_by_every_way_that_has_tls_and_by_no_other,
            encryption::a_mistyped_password_is_one_bind_also_where_libpq_tries_both_ways,
            proxy_protocol::a_trusted_proxy_is_believed_about_the_clients_address,
            proxy_protocol::a_real_haproxy_passes_clients_on_and_its_checks_leave_no_record,
            proxy_protocol::a_limit_by_address_counts_each_client_behind_a_proxy,
            proxy_protocol::a_proxy_that_says_nothing_or_nonsense_is_closed,
            proxy_protocol::nobody_else_is_believed,
            startup::ten_thousand_bytes_are_a_startup_packet_and_not_one_more,
            startup::of_repeated_names_the_last_counts,
            startup::empty_values_and_escapes_arrive_as_with_postgresql,
            startup::a_packet_that_does_not_end_is_refused,
            startup::a_role_that_one_is_not_in_is_not_had_by_a_startup_packet,
            startup::a_startup_packet_that_names_a_role_is_refused_where_that_is_denied,
            startup::what_the_database_says_during_the_login_reaches_the_client,
            a_query_sent_before_the_session_is_ready_is_answered,
            parameters_reach_the_backend_and_not_the_provisioner,
            garbage_is_refused_and_disturbs_nobody,
            a_forged_name_forges_no_line,
            cancel::a_cancel_request_ends_the_query_of_its_session_and_no_other,
            cancel::a_wrong_cancel_key_ends_nothing,
            cancel::a_key_of_any_length_cancels_over_every_kind_of_connection,
            cancel::keys_are_posterns_own_and_never_the_same,
            cancel::ctrl_c_in_psql_cancels_its_query,
            cancel::a_query_is_cancelled_while_every_place_is_held,
            cancel::ctrl_c_in_psql_cancels_its_query_while_every_place_is_held,
            cancel::an_address_has_as_many_cancel_requests_a_minute_as_logins,
            resumption::a_client_that_comes_again_resumes_its_tls_session,
            resumption::a_ticket_of_an_earlier_process_buys_a_full_handshake,
            limits::one_session_too_many_is_told_so,
            limits::one_login_too_many_is_told_so,
            limits::a_client_that_never_sends_its_password_is_dropped_in_time,
            every_session_has_exactly_one_terminal_record,
        ],
    )
}

fn an_empty_password_and_one_with_nul_never_reach_the_directory(world: &World) -> Result<()> {
    let person = world.person("careful", &[HR_GROUP])?;
    let before = world.directory_calls()?;
    let with_nul = format!("{}\0", person.password);
    for (password, reason) in [
        ("", "password_empty"),
        (with_nul.as_str(), "password_invalid"),
        ("\0", "password_invalid"),
        ("\0abc", "password_invalid"),
    ] {
        let refusal = RawClient::refused(world.plain.port(), "careful", HR_DATABASE, password)?;
        let code = refusal.field(b'C');
        ensure!(code.as_deref() == Some("28P01"), "{password:?}: {code:?}");
        let recorded = last_refusal(&world.plain)?;
        ensure!(recorded == reason, "{password:?}: {recorded}");
    }
    ensure!(world.directory_calls()? == before);
    Ok(())
}

fn a_password_of_white_space_is_sent_as_it_is(world: &World) -> Result<()> {
    let person = world.person("spacious", &[HR_GROUP])?;
    // Three spaces, in base64.
    world.directory.ldif(&format!(
        "dn: uid=spacious,{PEOPLE_DN}\nchangetype: modify\nreplace: userPassword\n\
         userPassword:: ICAg\n"
    ))?;
    let port = world.plain.port();
    for wrong in [" ", "    ", person.password.as_str()] {
        let (before, _) = world.directory_calls()?;
        let refusal = RawClient::refused(port, "spacious", HR_DATABASE, wrong)?;
        ensure!(refusal.field(b'C').as_deref() == Some("28P01"), "{wrong:?}");
        let recorded = last_refusal(&world.plain)?;
        ensure!(recorded == "wrong_password", "{wrong:?}: {recorded}");
        let (binds, _) = world.directory_calls()?;
        ensure!(binds > before, "{wrong:?} was not sent");
    }
    let mut client = RawClient::logged_in(port, "spacious", HR_DATABASE, "   ")?;
    ensure!(client.query("select session_user")? == "spacious");
    Ok(())
}

fn without_tls_no_password_is_asked_for(world: &World) -> Result<()> {
    let person = world.person("exposed", &[HR_GROUP])?;
    let mut client = RawClient::connect(world.postern.port())?;
    client.startup(
        PROTOCOL_3_0,
        &[("user", "exposed"), ("database", HR_DATABASE)],
    )?;
    let told = client.read()?;
    ensure!(told.tag == b'E', "{told:?}");
    ensure!(told.field(b'C').as_deref() == Some("28000"), "{told:?}");
    client.expect_end()?;
    let mut psql = world.psql(&person);
    psql.sslmode = "disable".to_owned();
    let told = psql.refused()?;
    ensure!(told.contains("encrypted connections only"), "{told}");
    ensure!(world.last_refusal()? == "tls_required");
    Ok(())
}

fn plaintext_after_a_tls_request_is_refused(world: &World) -> Result<()> {
    for request in [SSL_REQUEST, GSS_REQUEST] {
        let mut client = RawClient::connect(world.postern.port())?;
        let mut bytes = 8_u32.to_be_bytes().to_vec();
        bytes.extend(request.to_be_bytes());
        bytes.push(b'!');
        client.send(&bytes)?;
        let told = client.read()?;
        ensure!(told.field(b'C').as_deref() == Some("08P01"), "{told:?}");
        client.expect_end()?;
    }
    Ok(())
}

fn gssapi_encryption_is_declined_and_tls_may_follow(world: &World) -> Result<()> {
    let person = world.person("kerberos", &[HR_GROUP])?;
    let mut client = RawClient::connect(world.postern.port())?;
    client.send_packet(&GSS_REQUEST.to_be_bytes())?;
    ensure!(client.read_byte()? == b'N');
    client.send_packet(&SSL_REQUEST.to_be_bytes())?;
    ensure!(client.read_byte()? == b'S');
    let mut client = RawClient::connect(world.plain.port())?;
    client.send_packet(&GSS_REQUEST.to_be_bytes())?;
    ensure!(client.read_byte()? == b'N');
    let parameters = [("user", "kerberos"), ("database", HR_DATABASE)];
    client.startup(PROTOCOL_3_0, &parameters)?;
    ensure!(client.read()?.tag == b'R');
    client.password(person.password.as_bytes())?;
    client.read_until_ready()?;
    ensure!(client.query("select 1")? == "1");
    Ok(())
}

fn without_a_rule_that_opens_it_replication_is_refused_before_a_password(
    world: &World,
) -> Result<()> {
    world.person("copier", &[HR_GROUP])?;
    for parameters in [
        [("user", "copier"), ("replication", "database")],
        [("user", "copier"), ("replication", "true")],
        [("user", "copier"), ("replication", "on")],
    ] {
        let mut client = RawClient::connect(world.plain.port())?;
        client.startup(PROTOCOL_3_0, &parameters)?;
        let told = client.read()?;
        ensure!(told.field(b'C').as_deref() == Some("28000"), "{told:?}");
        ensure!(last_refusal(&world.plain)? == "parameter_denied");
    }
    Ok(())
}

fn a_query_sent_before_the_session_is_ready_is_answered(world: &World) -> Result<()> {
    let person = world.person("hasty", &[HR_GROUP])?;
    for _ in 0..2 {
        let mut client = RawClient::connect(world.plain.port())?;
        client.startup(
            PROTOCOL_3_0,
            &[("user", "hasty"), ("database", HR_DATABASE)],
        )?;
        client.password(person.password.as_bytes())?;
        client.send_query("select count(*) from employees")?;
        client.send_query("select 'second'")?;
        client.read_until_ready()?;
        for expected in ["3", "second"] {
            let messages = client.read_until_ready()?;
            let row = messages.iter().find(|it| it.tag == b'D');
            let row = row.map(postern_tests::raw::Message::columns);
            ensure!(row == Some(vec![expected.to_owned()]), "{messages:?}");
        }
    }
    Ok(())
}

fn a_login_sent_byte_by_byte_is_a_login(world: &World) -> Result<()> {
    let person = world.person("typewriter", &[HR_GROUP])?;
    let mut body = PROTOCOL_3_0.to_be_bytes().to_vec();
    body.extend(b"user\0typewriter\0database\0hr\0\0");
    let mut packet = u32::try_from(body.len() + 4)?.to_be_bytes().to_vec();
    packet.extend(body);
    let mut client = RawClient::connect(world.plain.port())?;
    for byte in &packet {
        client.send(std::slice::from_ref(byte))?;
    }
    ensure!(client.read()?.tag == b'R');
    let password = format!("{}\0", person.password);
    let mut message = vec![b'p'];
    message.extend(u32::try_from(password.len() + 4)?.to_be_bytes());
    message.extend(password.as_bytes());
    for byte in &message {
        client.send(std::slice::from_ref(byte))?;
    }
    client.read_until_ready()?;
    ensure!(client.query("select session_user")? == "typewriter");
    Ok(())
}

fn parameters_reach_the_backend_and_not_the_provisioner(world: &World) -> Result<()> {
    let person = world.person("tuner", &[HR_GROUP])?;
    let psql = world.psql(&person);
    let mut command = psql.command()?;
    // A provisioner that had these could write nothing, and would find no function.
    command.env(
        "PGOPTIONS",
        format!(
            "-c default_transaction_read_only=on -c search_path=nowhere \
             -c TimeZone=Etc/GMT+7 -c role={HR_GROUP}"
        ),
    );
    command.env("PGAPPNAME", "sneaky-name");
    command.args(["-At", "-c"]).arg(
        "select current_setting('default_transaction_read_only'), \
         current_setting('search_path'), current_setting('TimeZone'), \
         current_setting('application_name'), current_user",
    );
    let settings = postern_tests::process::run(&mut command)?;
    ensure!(
        settings.trim() == format!("on|nowhere|Etc/GMT+7|sneaky-name|{HR_GROUP}"),
        "{settings}"
    );
    let own = ["connection authorized: user=tuner", "sneaky-name"];
    ensure!(world.postgres_lines(&own)? == 1);
    let leaked = ["connection authorized: user=postern ", "sneaky-name"];
    ensure!(
        world.postgres_lines(&leaked)? == 0,
        "it reached the provisioner"
    );
    Ok(())
}

fn garbage_is_refused_and_disturbs_nobody(world: &World) -> Result<()> {
    let person = world.person("calm", &[HR_GROUP])?;
    let mut live = world.raw(&person)?;
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0xff; 64],
        vec![0, 0, 0, 7, 0, 3, 0],
        vec![0, 0, 0, 8, 0, 2, 0, 0],
        vec![0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0],
        b"\0\0\0\x0a\0\x03\0\0us".to_vec(),
    ] {
        for port in [world.plain.port(), world.postern.port()] {
            let mut client = RawClient::connect(port)?;
            client.send(&bytes)?;
            let told = client.read()?;
            ensure!(told.tag == b'E', "{bytes:?}: {told:?}");
            let code = told.field(b'C');
            ensure!(
                matches!(code.as_deref(), Some("08P01" | "28000")),
                "{bytes:?}: {code:?}"
            );
            client.expect_end()?;
        }
    }
    ensure!(live.query("select count(*) from employees")? == "3");
    Ok(())
}

fn a_forged_name_forges_no_line(world: &World) -> Result<()> {
    let forged = "eve\n2026-01-01T00:00:00Z  INFO FORGED\r\u{1b}[2J\u{202e}{\"seq\":1}\n";
    for (user, database) in [(forged, "hr"), ("eve", forged)] {
        let mut client = RawClient::connect(world.plain.port())?;
        client.startup(PROTOCOL_3_0, &[("user", user), ("database", database)])?;
        // Refused before or after the password; both write records.
        if client.read()?.tag == b'R' {
            client.password(b"x")?;
            client.read_until_ready()?;
        }
    }
    for file in [world.plain.audit_file(), world.plain.log_file()] {
        let bytes = std::fs::read(&file)?;
        let text = String::from_utf8_lossy(&bytes);
        let forges = |line: &str| line.trim_start().starts_with("2026-01-01T00:00:00Z");
        ensure!(!text.lines().any(forges), "{}", file.display());
        ensure!(
            !text.contains(['\u{1b}', '\r', '\u{202e}']),
            "{}",
            file.display()
        );
    }
    let audit = std::fs::read(world.plain.audit_file())?;
    let plain = audit.iter().all(|byte| matches!(byte, b'\n' | b' '..=b'~'));
    ensure!(plain, "the audit file is not printable ASCII");
    let records = world.plain.audit()?;
    ensure!(
        records.iter().any(|it| it["user"] == forged),
        "not on record"
    );
    Ok(())
}

/// How much later than its limit something may come on a busy machine.
const SLACK: Duration = Duration::from_secs(4);
