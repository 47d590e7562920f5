//! Where a directory server is, and how a connection to it is made.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ldap3::{LdapConnAsync, LdapConnSettings, LdapError, StdStream};
use tokio::net::TcpStream;

use super::starttls::start_tls;
use crate::config::{Ldap, LdapUrl};
use crate::tls::{TlsError, ldap_client_config};

/// How to reach one server.
pub(super) struct Endpoint {
    /// The URL, for messages.
    pub(super) url: Arc<str>,
    host: String,
    port: u16,
    /// What the library parses; its host is the name that the certificate must carry.
    library_url: String,
    starttls: bool,
    settings: LdapConnSettings,
    /// For TCP and TLS together.
    pub(super) connect_timeout: Duration,
    /// For one request.
    pub(super) operation_timeout: Duration,
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
        let mut settings = LdapConnSettings::new();
        if starttls || url.ldaps {
            let ca_file = config.tls_ca_file.as_deref();
            let known_by = address.map(IpAddr::from);
            settings =
                settings.set_config(ldap_client_config(ca_file, config.tls_verify, known_by)?);
        }
        // After StartTLS the library sees what it would see from the start with `ldaps`.
        let library_scheme = if starttls { "ldaps" } else { scheme };
        let written = address.map_or_else(|| host.to_owned(), |address| format!("[{address}]"));
        // The library cannot make a certificate's name of an IPv6 address; the settings above
        // know the address and do not look at the name.
        let named = address.map_or(host, |_| "ipv6.invalid");
        Ok(Self {
            url: format!("{scheme}://{written}:{}", url.port).into(),
            library_url: format!("{library_scheme}://{named}:{}", url.port),
            host: host.to_owned(),
            starttls,
            port: url.port,
            settings,
            connect_timeout: config.connect_timeout,
            operation_timeout: config.operation_timeout,
        })
    }

    /// Connects, with TLS as configured. The caller bounds the time.
    ///
    /// # Errors
    ///
    /// The library's.
    pub(super) async fn connect(&self) -> Result<(LdapConnAsync, ldap3::Ldap), LdapError> {
        let mut stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        // A bind is two small writes after a handshake: without this the second waits 40 ms for
        // the server's delayed acknowledgement of the first.
        stream.set_nodelay(true)?;
        if self.starttls {
            start_tls(&mut stream).await?;
        }
        let stream = StdStream::Tcp(stream.into_std()?);
        let settings = self.settings.clone().set_std_stream(stream);
        LdapConnAsync::with_settings(settings, &self.library_url).await
    }
}
