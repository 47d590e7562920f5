//! HAProxy in TCP mode.

use std::fs;

use anyhow::Result;
use nix::sys::signal::Signal;
use postern_tests::account::Account;
use postern_tests::free_port;

use super::{Ground, Ready, folder, program, version};
use crate::stage::Running;

/// Starts it. It cannot answer PostgreSQL's request for TLS, and passes it on, so it has no route
/// with TLS of its own.
///
/// # Errors
/// If it is not installed or does not start; the message quotes its log.
pub(super) fn start(ground: &Ground<'_>) -> Result<Running> {
    let program = program("haproxy")?;
    let account = Account::unprivileged()?;
    let folder = folder(ground, "haproxy", &account)?;
    let port = free_port()?;
    let cores = std::thread::available_parallelism()?;
    let configuration = configuration(port, ground.backend_port, cores.get());
    let file = folder.join("haproxy.cfg");
    fs::write(&file, &configuration)?;
    let mut command = account.command(&program, "KILL");
    // -db: it stays in the foreground.
    command.args(["-db", "-f"]).arg(&file);
    Ready {
        name: "haproxy",
        version: version(&program, "-v")?,
        port,
        login: ground.login.clone(),
        ca_file: None,
        configuration,
        command,
        folder,
        stop_signal: Signal::SIGTERM,
    }
    .start()
}

/// Its configuration on a machine of so many cores.
pub(crate) fn configuration(port: u16, backend_port: u16, cores: usize) -> String {
    format!(
        "global
    # As many threads as cores is the default; each is bound to one.
    nbthread {cores}
    # Without maxconn, HAProxy allows as many connections as it may have files.

defaults
    mode tcp
    # The manual promises gains and CPU savings of it; it is used for bulk only.
    option splice-auto
    timeout connect 10s
    timeout client 2h
    timeout server 2h

listen postgresql
    bind 127.0.0.1:{port}
    server database 127.0.0.1:{backend_port}
"
    )
}
