//! The directory's servers: which is asked, when the next one is, and which connections are kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use postern_core::secret::Secret;
use zeroize::Zeroize as _;

use super::connection::{BindAnswer, Connection};
use super::endpoint::Endpoint;
use super::error::{DirectoryError, code};
use crate::config::Ldap;
use crate::limits::{
    DIRECTORY_FILE_BYTES_MAX, LDAP_SERVER_RETRY_AFTER, SERVICE_CONNECTION_AGE_MAX,
    SERVICE_CONNECTIONS_IDLE_MAX,
};

/// All servers of one directory.
pub(super) struct Servers {
    endpoints: Vec<Endpoint>,
    /// When each server failed last; one that failed lately is asked last.
    failed_at: Mutex<Vec<Option<Instant>>>,
    service_dn: String,
    service_password_file: PathBuf,
    /// Bound as the service principal and not in use.
    idle: Mutex<Vec<Connection>>,
    /// The last refusal of the service principal: asking again at every login would lock it out.
    service_refused: Mutex<Option<(Instant, DirectoryError)>>,
}

impl Servers {
    /// The servers of `config`.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up or the service principal's password cannot be read.
    pub(super) fn new(config: &Ldap) -> Result<Self, DirectoryError> {
        read_password(&config.service_password_file)?;
        let endpoints: Vec<Endpoint> = config
            .urls
            .iter()
            .map(|url| Endpoint::new(url, config))
            .collect::<Result<_, _>>()
            .map_err(Arc::new)?;
        Ok(Self {
            failed_at: Mutex::new(vec![None; endpoints.len()]),
            endpoints,
            service_dn: config.service_dn.clone(),
            service_password_file: config.service_password_file.clone(),
            idle: Mutex::new(Vec::new()),
            service_refused: Mutex::new(None),
        })
    }

    /// The servers in the configured order.
    pub(super) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Their URLs, for messages about all of them.
    pub(super) fn urls(&self) -> String {
        let urls: Vec<&str> = self.endpoints.iter().map(|e| &*e.url).collect();
        urls.join(", ")
    }

    /// Does `work` as the service principal, on a kept connection if there is one.
    ///
    /// The work is done again on another connection, and then on the next server, when it fails
    /// by transport; it must only read.
    ///
    /// # Errors
    ///
    /// The work's own, or the last server's.
    pub(super) async fn as_service<T>(
        &self,
        mut work: impl AsyncFnMut(&mut Connection) -> Result<T, DirectoryError>,
    ) -> Result<T, DirectoryError> {
        if let Some(mut connection) = self.take_idle() {
            let result = work(&mut connection).await;
            if !self.give_back(connection, &result) {
                return result;
            }
        }
        let mut last = None;
        for index in self.order() {
            let mut connection = match self.open_service(index).await {
                Ok(connection) => connection,
                Err(error) if error.is_transport() => {
                    self.failed(index, &error);
                    last = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let result = work(&mut connection).await;
            if !self.give_back(connection, &result) {
                return result;
            }
            last = result.err();
        }
        Err(last.unwrap_or_else(|| self.none()))
    }

    /// Binds with a person's password on a connection of its own, and hands that to `then`.
    ///
    /// The next server is asked only while the password was not judged and cannot have been: a
    /// result code is final, and so is silence or a lost connection after the bind was sent,
    /// because asking the next server then could count one wrong password twice.
    ///
    /// # Errors
    ///
    /// When no server gave an answer.
    pub(super) async fn as_person<T>(
        &self,
        name: &str,
        password: &Secret<Vec<u8>>,
        then: impl AsyncFnOnce(&mut Connection, BindAnswer) -> Result<T, DirectoryError>,
    ) -> Result<T, DirectoryError> {
        let mut last = None;
        for index in self.order() {
            let Some(endpoint) = self.endpoints.get(index) else {
                continue;
            };
            let mut connection = match Connection::open(endpoint).await {
                Ok(connection) => connection,
                Err(error) if error.is_transport() => {
                    self.failed(index, &error);
                    last = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let answer = match connection.bind(name, password).await {
                Ok(answer) => answer,
                Err(error) => {
                    self.failed(index, &error);
                    return Err(error);
                }
            };
            if !matches!(answer.code, code::BUSY | code::UNAVAILABLE) {
                let result = then(&mut connection, answer).await;
                connection.close();
                return result;
            }
            let error = connection.bind_refused(answer);
            connection.close();
            self.failed(index, &error);
            last = Some(error);
        }
        Err(last.unwrap_or_else(|| self.none()))
    }

    /// A new connection to one server, bound as the service principal.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::ServiceBind`] when the principal is refused, and what opening says.
    pub(super) async fn open_service(&self, index: usize) -> Result<Connection, DirectoryError> {
        let endpoint = self.endpoints.get(index).ok_or_else(|| self.none())?;
        if let Some((at, error)) = &*lock(&self.service_refused)
            && at.elapsed() < LDAP_SERVER_RETRY_AFTER
        {
            return Err(error.clone());
        }
        let password = read_password(&self.service_password_file)?;
        let mut connection = Connection::open(endpoint).await?;
        let answer = connection.bind(&self.service_dn, &password).await?;
        if answer.code == code::SUCCESS {
            *lock(&self.service_refused) = None;
            return Ok(connection);
        }
        let error = DirectoryError::ServiceBind {
            server: endpoint.url.to_string(),
            dn: self.service_dn.clone(),
            code: answer.code,
            message: answer.message,
        };
        if answer.code == code::INVALID_CREDENTIALS {
            *lock(&self.service_refused) = Some((Instant::now(), error.clone()));
        }
        connection.close();
        Err(error)
    }

    /// Servers in the configured order, those that failed lately after the others.
    pub(super) fn order(&self) -> Vec<usize> {
        let failed_at = lock(&self.failed_at);
        let lately = |index: &usize| {
            let at = failed_at.get(*index).copied().flatten();
            at.is_some_and(|at| at.elapsed() < LDAP_SERVER_RETRY_AFTER)
        };
        let mut order: Vec<usize> = (0..self.endpoints.len()).collect();
        order.sort_by_key(lately);
        order
    }

    /// Notes that a server failed: it is asked last for a while.
    pub(super) fn failed(&self, index: usize, error: &DirectoryError) {
        tracing::warn!(%error, "a directory server failed");
        if let Some(at) = lock(&self.failed_at).get_mut(index) {
            *at = Some(Instant::now());
        }
    }

    /// A kept connection that still looks alive.
    fn take_idle(&self) -> Option<Connection> {
        let mut idle = lock(&self.idle);
        while let Some(mut connection) = idle.pop() {
            if !connection.is_closed() && connection.age() < SERVICE_CONNECTION_AGE_MAX {
                return Some(connection);
            }
            connection.close();
        }
        None
    }

    /// Keeps a connection whose work went well; after a transport error closes it, and says true:
    /// the work is to be done again elsewhere.
    fn give_back<T>(&self, connection: Connection, result: &Result<T, DirectoryError>) -> bool {
        let error = result.as_ref().err().filter(|e| e.is_transport());
        let Some(error) = error else {
            let mut idle = lock(&self.idle);
            if idle.len() < SERVICE_CONNECTIONS_IDLE_MAX {
                idle.push(connection);
            } else {
                connection.close();
            }
            return false;
        };
        // Its siblings to the same server are no better.
        let server = Arc::clone(connection.server());
        lock(&self.idle).retain(|other| *other.server() != server);
        let lost = matches!(error, DirectoryError::Unreachable { .. });
        let index = self.endpoints.iter().position(|e| e.url == server);
        // A kept connection that the server closed says nothing about the server.
        if let (false, Some(index)) = (lost, index) {
            self.failed(index, error);
        }
        connection.close();
        true
    }

    fn none(&self) -> DirectoryError {
        let why = "no server is configured".to_owned();
        DirectoryError::Unreachable {
            server: self.urls(),
            why,
        }
    }
}

/// The service principal's password: the file's content without the line end.
///
/// It is read again for each connection, so that it can be changed without a restart.
fn read_password(path: &Path) -> Result<Secret<Vec<u8>>, DirectoryError> {
    let failed = |why: String| DirectoryError::ServicePassword {
        path: path.to_owned(),
        why,
    };
    let size = fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
    if size > DIRECTORY_FILE_BYTES_MAX {
        return Err(failed("is too large to be a password".to_owned()));
    }
    let mut bytes = fs::read(path).map_err(|e| failed(e.to_string()))?;
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    if bytes.is_empty() || bytes.contains(&0) {
        bytes.zeroize();
        return Err(failed("holds no password".to_owned()));
    }
    Ok(Secret::new(bytes))
}

/// The data stays usable when a holder panicked: every change to it is a single store.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
