//! Why the program cannot start or go on.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::{config, tls};

/// Why the program cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// An address cannot be listened on.
    #[error("{key}: {address} cannot be used: {error}")]
    Listen {
        /// Where it is configured.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What bind(2) or listen(2) said.
        error: io::Error,
    },
    /// A socket that was passed on cannot be used.
    #[error(transparent)]
    Inherited(#[from] crate::listener::inherited::InheritedError),
    /// The process that is to be followed does not hand over.
    #[error("the process that runs does not hand over: {0}")]
    Handover(io::Error),
    /// The control socket cannot be opened.
    #[error("control.socket: {path} cannot be used: {error}")]
    Control {
        /// The path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The splice workers do not start.
    #[error(transparent)]
    Ring(#[from] postern_ring::StartError),
    /// The audit file cannot be used.
    #[error(transparent)]
    Audit(#[from] crate::audit::AuditError),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// A file with a secret cannot be used.
    #[error(transparent)]
    Secret(#[from] config::SecretFileError),
    /// The accounts of the admin console cannot be used.
    #[error("admin.accounts_file: {0}")]
    Console(crate::directory::LocalError),
    /// The directory cannot be used as configured.
    #[error(transparent)]
    Directory(#[from] crate::directory::DirectoryError),
    /// The role store cannot be used as configured.
    #[error(transparent)]
    RoleStore(#[from] crate::role_store::RoleStoreError),
    /// The cluster key is not one.
    #[error("credential.cluster_key_file: {path}: {error}", path = path.display())]
    ClusterKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        error: postern_core::credential::ClusterKeyError,
    },
    /// A thread or runtime could not be started.
    #[error("the system gives no {what}: {error}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// A login thread ended, which none does.
    #[error("a login thread ended")]
    ThreadEnded,
}
