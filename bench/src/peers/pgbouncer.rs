//! PgBouncer in session mode.

use std::fs;
use std::path::Path;

use anyhow::Result;
use nix::sys::signal::Signal;
use postern_tests::account::Account;
use postern_tests::free_port;
use postern_tests::scratch::write_secret;

use super::{Ground, Ready, folder, program, version};
use crate::stage::{DATABASE, Running};

/// Starts it. Its clients log in by SCRAM, and may use TLS, as those of Postern.
///
/// # Errors
/// If it is not installed or does not start; the message quotes its log.
pub(super) fn start(ground: &Ground<'_>) -> Result<Running> {
    let program = program("pgbouncer")?;
    let account = Account::unprivileged()?;
    let folder = folder(ground, "pgbouncer", &account)?;
    let name = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let certificate = ground.certificates.issue(&name, &account)?;
    let port = free_port()?;
    let login = &ground.login;
    // With the same verifier that PostgreSQL has, PgBouncer logs in with what the client proved
    // and derives nothing from a password.
    let users = folder.join("users.txt");
    write_secret(
        &users,
        &format!("\"{}\" \"{}\"\n", login.user, ground.verifier),
    )?;
    account.own_path(&users)?;
    let place = Place {
        port,
        backend_port: ground.backend_port,
        users: &users,
        ca_file: &ground.certificates.ca_file(),
        cert_file: &certificate.cert_file,
        key_file: &certificate.key_file,
    };
    let configuration = place.configuration();
    let file = folder.join("pgbouncer.ini");
    fs::write(&file, &configuration)?;
    let mut command = account.command(&program, "KILL");
    command.arg(&file);
    Ready {
        name: "pgbouncer",
        version: version(&program, "--version")?,
        port,
        login: login.clone(),
        ca_file: Some(ground.certificates.ca_file()),
        configuration,
        command,
        folder,
        // SIGTERM is the immediate shutdown of this version, SIGINT waits for clients.
        stop_signal: Signal::SIGTERM,
    }
    .start()
}

/// What its configuration depends on.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// Where it listens, on 127.0.0.1.
    pub(crate) port: u16,
    /// The database server, on 127.0.0.1.
    pub(crate) backend_port: u16,
    /// Who may log in, and what PostgreSQL keeps of the password.
    pub(crate) users: &'a Path,
    /// Who signed its certificate.
    pub(crate) ca_file: &'a Path,
    /// Its certificate.
    pub(crate) cert_file: &'a Path,
    /// Its key.
    pub(crate) key_file: &'a Path,
}

impl Place<'_> {
    /// Its configuration.
    pub(crate) fn configuration(&self) -> String {
        format!(
            "[databases]
{database} = host=127.0.0.1 port={backend_port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
; One session, one server connection, as with every other route.
pool_mode = session
; The default, DISCARD ALL: without it one session would leave its settings and prepared
; statements to the next. It is sent once a session and so is not in the cost of a transaction.
server_reset_query = DISCARD ALL
; No client has to wait for another's server connection.
max_client_conn = 20000
default_pool_size = 20000
auth_type = scram-sha-256
auth_file = {users}
ignore_startup_parameters = extra_float_digits,options
; Clients choose; the server's leg is not encrypted, as with every other route.
client_tls_sslmode = allow
client_tls_cert_file = {cert_file}
client_tls_key_file = {key_file}
; Newer versions start with TLS only if they have one.
client_tls_ca_file = {ca_file}
server_tls_sslmode = disable
; The defaults: tcp_nodelay = 1, tcp_defer_accept = 1, pkt_buf = 4096, listen_backlog = 128.
; A line a session in the log would be in the cost of logins only here.
log_connections = 0
log_disconnections = 0
log_stats = 0
",
            database = DATABASE,
            port = self.port,
            backend_port = self.backend_port,
            users = self.users.display(),
            ca_file = self.ca_file.display(),
            cert_file = self.cert_file.display(),
            key_file = self.key_file.display(),
        )
    }
}
