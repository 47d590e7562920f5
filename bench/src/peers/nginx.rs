//! nginx with its stream module.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use postern_tests::account::Account;
use postern_tests::free_port;
use postern_tests::process::run_any;

use super::{Ground, Ready, folder, program, version};
use crate::stage::Running;

/// Where packages put the module when it is not part of the program.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Starts it. It cannot answer PostgreSQL's request for TLS, and passes it on, so it has no route
/// with TLS of its own.
///
/// # Errors
/// If it is not installed or does not start; the message quotes its log.
pub(super) fn start(ground: &Ground<'_>) -> Result<Running> {
    let program = program("nginx")?;
    let account = Account::unprivileged()?;
    let folder = folder(ground, "nginx", &account)?;
    let port = free_port()?;
    let configuration = format!(
        "{load_module}daemon off;
pid {folder}/pid;
error_log stderr error;
# One a core.
worker_processes auto;
worker_rlimit_nofile {files};

events {{
    worker_connections 20000;
}}

stream {{
    # The defaults, both.
    tcp_nodelay on;
    proxy_buffer_size 16k;
    proxy_connect_timeout 10s;
    proxy_timeout 2h;
    access_log off;
    server {{
        # A socket a worker, so that connections are spread by the kernel.
        listen 127.0.0.1:{port} reuseport;
        proxy_pass 127.0.0.1:{backend_port};
    }}
}}
",
        load_module = load_module(&program)?,
        folder = folder.display(),
        files = file_limit()?,
        backend_port = ground.backend_port,
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, &configuration)?;
    let mut command = account.command(&program, "KILL");
    command.args(["-e", "stderr", "-c"]).arg(&file);
    command.arg("-p").arg(&folder);
    Ready {
        name: "nginx",
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

/// The line that loads the stream module, where it is not built in.
fn load_module(program: &Path) -> Result<String> {
    let built = run_any(Command::new(program).arg("-V"))?;
    let built = String::from_utf8_lossy(&built.stderr).into_owned();
    if built.split_whitespace().any(|it| it == "--with-stream") {
        return Ok(String::new());
    }
    fs::metadata(MODULE).with_context(|| format!("nginx has no stream module: {MODULE}"))?;
    Ok(format!("load_module {MODULE};\n"))
}

/// A worker may have as many files as we may.
fn file_limit() -> Result<u64> {
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    Ok(hard)
}
