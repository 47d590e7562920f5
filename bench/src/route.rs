//! A way to the database that a run measures.

use std::path::PathBuf;

use serde::Serialize;

/// What a route is: the bars compare Postern with the best of the peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// No proxy at all.
    Direct,
    /// Postern.
    Postern,
    /// A proxy that Postern is compared with.
    Peer,
}

/// A server that clients of the bench connect to.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its name in every table, lower case: `direct`, `postern`, `pgbouncer`.
    pub name: String,
    /// Whether it is measured, or compared with.
    pub kind: Kind,
    /// The host that clients name; `localhost` where a certificate is checked.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Who logs in, and the password; `None` where the server asks for none.
    pub login: Login,
    /// The authority of its certificate, where clients can use TLS that this route ends itself.
    /// A proxy that passes the bytes of TLS on without ending it has `None` here.
    pub ca_file: Option<PathBuf>,
    /// The processes that are this route, for CPU time and memory: none for `direct`.
    /// Children of these count too.
    pub pids: Vec<u32>,
    /// What it says of itself: `PgBouncer 1.18.0`.
    pub version: String,
    /// The whole of its configuration, as the report shows it.
    pub configuration: String,
}

/// Who logs in to the database of the bench.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user name.
    pub user: String,
    /// The password, where one is asked for.
    pub password: Option<String>,
    /// The database.
    pub database: String,
}

/// Whether the client's leg is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// Plain TCP.
    Plain,
    /// TLS from the client to the route, which ends it.
    Tls,
}

impl Route {
    /// Whether clients can connect so.
    pub fn supports(&self, encryption: Encryption) -> bool {
        match encryption {
            Encryption::Plain => true,
            Encryption::Tls => self.ca_file.is_some(),
        }
    }
}
