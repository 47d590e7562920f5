//! A route whose server ends with the object.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use postern_tests::process::run;
use postern_tests::{Postern, Psql, Server};

use crate::route::{Encryption, Kind, Login, Route};

/// How much of a log an error message quotes, in lines.
const QUOTED_LINES: usize = 25;

/// A route, and the server that it needs.
#[derive(Debug)]
pub struct Running {
    route: Route,
    server: Held,
}

#[derive(Debug)]
enum Held {
    /// Somebody else's.
    Foreign,
    Postern(Box<Postern>),
    Process(Mutex<Server>),
}

impl Running {
    /// A server that is not ours to end.
    #[must_use]
    pub fn foreign(route: Route) -> Self {
        Self {
            route,
            server: Held::Foreign,
        }
    }

    /// A peer that we have started.
    #[must_use]
    pub fn process(route: Route, server: Server) -> Self {
        Self {
            route,
            server: Held::Process(Mutex::new(server)),
        }
    }

    /// Starts a prepared Postern.
    ///
    /// # Errors
    /// If it does not start; the message quotes its log.
    pub fn postern(postern: Postern, login: Login) -> Result<Self> {
        postern.start_again()?;
        let version =
            run(std::process::Command::new(postern_tests::postern::binary()?).arg("--version"))?;
        let route = Route {
            name: "postern".to_owned(),
            kind: Kind::Postern,
            host: "localhost".to_owned(),
            port: postern.port(),
            login,
            ca_file: Some(postern.ca_file().to_owned()),
            pids: vec![postern.pid()?],
            version: version.trim().to_owned(),
            configuration: fs::read_to_string(postern.config_file())?,
        };
        Ok(Self {
            route,
            server: Held::Postern(Box::new(postern)),
        })
    }

    /// The route.
    #[must_use]
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// Postern, if it is that.
    #[must_use]
    pub fn as_postern(&self) -> Option<&Postern> {
        match &self.server {
            Held::Postern(postern) => Some(postern),
            Held::Foreign | Held::Process(_) => None,
        }
    }

    /// Fails if the server has ended by itself; the message quotes its log.
    ///
    /// # Errors
    /// As said.
    pub fn check(&self) -> Result<()> {
        let runs = match &self.server {
            Held::Foreign => true,
            Held::Postern(postern) => postern.is_running()?,
            Held::Process(server) => lock(server).is_running()?,
        };
        if !runs {
            bail!("{} has ended: {}", self.route.name, self.quote_log());
        }
        Ok(())
    }

    /// The end of its log, for error messages.
    pub(super) fn quote_log(&self) -> String {
        match &self.server {
            Held::Foreign => format!("the log of {} is not known", self.route.name),
            Held::Postern(postern) => tail(&postern.log_file()),
            Held::Process(server) => tail(lock(server).log_file()),
        }
    }
}

fn lock(server: &Mutex<Server>) -> MutexGuard<'_, Server> {
    // A thread that panicked meanwhile left the server whole.
    server.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client's connection on a route.
#[must_use]
pub fn psql(route: &Route, encryption: Encryption) -> Psql {
    let (sslmode, ca_file) = match (encryption, &route.ca_file) {
        (Encryption::Tls, Some(file)) => ("verify-full", Some(file.clone())),
        (Encryption::Tls, None) => ("require", None),
        (Encryption::Plain, _) => ("disable", None),
    };
    Psql {
        host: route.host.clone(),
        port: route.port,
        user: route.login.user.clone(),
        password: route.login.password.clone(),
        database: route.login.database.clone(),
        sslmode: sslmode.to_owned(),
        ca_file,
    }
}

/// The end of a log, for error messages.
pub(super) fn tail(log: &Path) -> String {
    let text = fs::read(log).with_context(|| log.display().to_string());
    let text = match text {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) => return format!("the log cannot be read: {error:#}"),
    };
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(QUOTED_LINES);
    let last = lines.get(first..).unwrap_or_default().join("\n  ");
    format!("the log ends with:\n  {last}\n")
}
