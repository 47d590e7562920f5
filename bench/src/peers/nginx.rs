//! nginx with its stream module.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use postern_tests::account::Account;
use postern_tests::{free_port, needs};

use super::{Ground, Ready, folder, program, version};
use crate::stage::Running;

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
    let place = Place {
        port,
        backend_port: ground.backend_port,
        folder: &folder,
        load_modules: &load_modules()?,
        files: file_limit()?,
    };
    let configuration = place.configuration();
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

/// What its configuration depends on.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// Where it listens, on 127.0.0.1.
    pub(crate) port: u16,
    /// The database server, on 127.0.0.1.
    pub(crate) backend_port: u16,
    /// Where its files go.
    pub(crate) folder: &'a Path,
    /// The lines that load the stream module, if it needs any.
    pub(crate) load_modules: &'a str,
    /// How many files a worker may have open.
    pub(crate) files: u64,
}

impl Place<'_> {
    /// Its configuration.
    pub(crate) fn configuration(&self) -> String {
        format!(
            "{load_modules}daemon off;
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
            load_modules = self.load_modules,
            folder = self.folder.display(),
            files = self.files,
            port = self.port,
            backend_port = self.backend_port,
        )
    }
}

/// The lines that load the stream module, where it is not built in.
fn load_modules() -> Result<String> {
    let modules = needs::nginx_stream().context("nginx has no stream module")?;
    let lines = modules
        .iter()
        .map(|it| format!("load_module {};\n", it.display()));
    Ok(lines.collect())
}

/// A worker may have as many files as we may.
fn file_limit() -> Result<u64> {
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    Ok(hard)
}
