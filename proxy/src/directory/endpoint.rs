//! Where a directory server is, and how a connection to it is made.

use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::net::UnixStream as Pair;
use std::sync::Arc;
use std::time::Duration;

use ldap3::{LdapConnAsync, LdapConnSettings, LdapError, StdStream};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::guard::{self, Answer};
use super::starttls::start_tls;
use crate::config::{Ldap, LdapUrl};
use crate::tls::{self, TlsError, ldap_client_config};

/// What the library is told to connect to: it is given a socket, and needs no name.
const LIBRARY_URL: &str = "ldapi:///";

/// How to reach one server.
pub(super) struct Endpoint {
    /// The URL, for messages.
    pub(super) url: Arc<str>,
    host: String,
    port: u16,
    starttls: bool,
    /// TLS, and the name that the certificate must carry.
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// For TCP and TLS together.
    pub(super) connect_timeout: Duration,
    /// For one request.
    pub(super) operation_timeout: Duration,
}

/// A connection that has been made.
pub(super) struct Connected {
    /// What moves its messages.
    pub(super) driver: LdapConnAsync,
    /// What asks.
    pub(super) ldap: ldap3::Ldap,
    /// The server's certificate in DER form, if there is TLS.
    pub(super) certificate: Option<Vec<u8>>,
    /// How much the server has answered.
    pub(super) answer: Arc<Answer>,
}

impl Endpoint {
    /// The endpoint of `config` at `url`; TLS is set up for `ldaps` and for StartTLS.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when TLS cannot be set up as configured.
    pub(super) fn new(url: &LdapUrl, config: &Ldap) -> Result<Self, TlsError> {
        let scheme = if url.ldaps { "ldaps" } else { "ldap" };
        let host = url.host.trim_start_matches('[').trim_end_matches(']');
        let address = host.parse::<Ipv6Addr>().ok();
        let starttls = config.starttls && !url.ldaps;
        let tls = match starttls || url.ldaps {
            true => {
                let ca_file = config.tls_ca_file.as_deref();
                let known_by = address.map(IpAddr::from);
                let tls = ldap_client_config(ca_file, config.tls_verify, known_by)?;
                Some((tls, tls::server_name(host)?))
            }
            false => None,
        };
        let written = address.map_or_else(|| host.to_owned(), |address| format!("[{address}]"));
        Ok(Self {
            url: format!("{scheme}://{written}:{}", url.port).into(),
            host: host.to_owned(),
            port: url.port,
            starttls,
            tls,
            connect_timeout: config.connect_timeout,
            operation_timeout: config.operation_timeout,
        })
    }

    /// Connects, with TLS as configured. The caller bounds the time.
    ///
    /// # Errors
    ///
    /// The library's.
    pub(super) async fn connect(&self) -> Result<Connected, LdapError> {
        let mut stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        // A bind is two small writes after a handshake: without this the second waits 40 ms for
        // the server's delayed acknowledgement of the first.
        stream.set_nodelay(true)?;
        if self.starttls {
            start_tls(&mut stream).await?;
        }
        let (ours, librarys) = Pair::pair()?;
        ours.set_nonblocking(true)?;
        let (ours, url) = (UnixStream::from_std(ours)?, Arc::clone(&self.url));
        let answer = Arc::new(Answer::default());
        let counted = Arc::clone(&answer);
        let mut certificate = None;
        // Both tasks end with either end of their connections.
        if let Some((config, name)) = &self.tls {
            let connector = TlsConnector::from(Arc::clone(config));
            let stream = connector.connect(name.clone(), stream).await?;
            let certificates = stream.get_ref().1.peer_certificates();
            certificate = certificates.and_then(|it| it.first()).map(|it| it.to_vec());
            drop(tokio::spawn(async move {
                guard::pass(stream, ours, &url, &counted).await;
            }));
        } else {
            drop(tokio::spawn(async move {
                guard::pass(stream, ours, &url, &counted).await;
            }));
        }
        let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(librarys));
        let (driver, ldap) = LdapConnAsync::with_settings(settings, LIBRARY_URL).await?;
        Ok(Connected {
            driver,
            ldap,
            certificate,
            answer,
        })
    }
}
