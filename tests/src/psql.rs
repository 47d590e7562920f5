//! The real psql, as a person runs it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::needs;
use crate::process::{run_any, run_with_input, through};

/// The longest that one psql may run, in seconds: far above what any test needs, so that a hang
/// fails the test and not the whole run.
const RUN_LIMIT_S: u32 = 120;

/// How and as whom psql connects.
#[derive(Debug, Clone)]
pub struct Psql {
    /// Name or address, or the folder of a Unix socket.
    pub host: String,
    /// TCP port, or the number in the socket's name.
    pub port: u16,
    /// The login.
    pub user: String,
    /// The password; psql never asks.
    pub password: Option<String>,
    /// The database.
    pub database: String,
    /// libpq's `sslmode`.
    pub sslmode: String,
    /// libpq's `sslrootcert`.
    pub ca_file: Option<PathBuf>,
}

/// What one run of psql gave.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Whether it ended with 0.
    pub ok: bool,
    /// Unaligned rows without headings, without the last newline.
    pub stdout: String,
    /// Messages of the server and of psql.
    pub stderr: String,
}

impl Psql {
    /// Over TLS to `localhost`, verified in full.
    #[must_use]
    pub fn new(port: u16, ca_file: &Path, user: &str, password: &str) -> Self {
        Self {
            host: "localhost".to_owned(),
            port,
            user: user.to_owned(),
            password: Some(password.to_owned()),
            database: "postgres".to_owned(),
            sslmode: "verify-full".to_owned(),
            ca_file: Some(ca_file.to_owned()),
        }
    }

    /// The same in another database.
    #[must_use]
    pub fn database(&self, name: &str) -> Self {
        Self {
            database: name.to_owned(),
            ..self.clone()
        }
    }

    /// The same as somebody else.
    #[must_use]
    pub fn login(&self, user: &str, password: &str) -> Self {
        Self {
            user: user.to_owned(),
            password: Some(password.to_owned()),
            ..self.clone()
        }
    }

    /// Runs SQL, or psql's own commands; rows come unaligned and without headings.
    ///
    /// # Errors
    /// If psql cannot be started. What the server refuses is an [`Answer`].
    pub fn run(&self, sql: &str) -> Result<Answer> {
        let mut command = self.command()?;
        command.args(["--no-align", "--tuples-only", "--quiet", "--file", "-"]);
        command.args(["--set", "ON_ERROR_STOP=1"]);
        let output = run_with_input(&mut command, sql)?;
        Ok(Answer {
            ok: output.status.success(),
            stdout: lossy(&output.stdout),
            stderr: lossy(&output.stderr),
        })
    }

    /// Runs SQL that must succeed and returns its rows.
    ///
    /// # Errors
    /// If it does not succeed; the message has the server's.
    pub fn query(&self, sql: &str) -> Result<String> {
        let answer = self.run(sql)?;
        if !answer.ok {
            bail!("psql as {} failed: {}", self.user, answer.stderr);
        }
        Ok(answer.stdout)
    }

    /// Connects, which must fail, and returns what psql said.
    ///
    /// # Errors
    /// If the login succeeds.
    pub fn refused(&self) -> Result<String> {
        let answer = self.run("select 1")?;
        if answer.ok {
            bail!("{} is in, but should have been refused", self.user);
        }
        Ok(answer.stderr)
    }

    /// One command in the form that a person sees: aligned, with headings.
    ///
    /// # Errors
    /// If psql cannot be started.
    pub fn display(&self, sql: &str) -> Result<Answer> {
        let output = run_any(self.command()?.args(["--command", sql]))?;
        Ok(Answer {
            ok: output.status.success(),
            stdout: lossy(&output.stdout),
            stderr: lossy(&output.stderr),
        })
    }

    /// psql with its connection in the environment, for options of the caller's own.
    ///
    /// # Errors
    /// If psql is not installed.
    pub fn command(&self) -> Result<Command> {
        self.client("psql", &["--no-psqlrc", "--no-password"])
    }

    /// Another client program (`pgbench`, `pg_dump`) with the same connection.
    ///
    /// # Errors
    /// If it is not installed.
    pub fn client(&self, name: &str, arguments: &[&str]) -> Result<Command> {
        let mut limited = Command::new("timeout");
        limited.arg(RUN_LIMIT_S.to_string());
        let client = self.unlimited_client(name, arguments)?;
        Ok(through(limited, &client))
    }

    /// As [`Psql::client`], for one that the caller ends by a signal.
    ///
    /// # Errors
    /// As there.
    pub fn unlimited_client(&self, name: &str, arguments: &[&str]) -> Result<Command> {
        let path = needs::postgres_client(name);
        let path = path.with_context(|| format!("{name} is not installed"))?;
        let mut command = Command::new(path);
        command.args(arguments);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PG") {
                command.env_remove(variable);
            }
        }
        command.envs(self.environment());
        Ok(command)
    }

    /// libpq's environment variables for this connection, in the order in which they are read
    /// best, <https://www.postgresql.org/docs/current/libpq-envars.html>.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("PGHOST", self.host.clone()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", self.user.clone()),
            ("PGDATABASE", self.database.clone()),
            ("PGSSLMODE", self.sslmode.clone()),
        ];
        if let Some(file) = &self.ca_file {
            variables.push(("PGSSLROOTCERT", file.display().to_string()));
        }
        if let Some(password) = &self.password {
            variables.push(("PGPASSWORD", password.clone()));
        }
        variables
    }
}

/// Text of a program, without the newlines at its end.
fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}
