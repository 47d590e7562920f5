//! Handing a cancel request to a database: a connection of its own, and no answer.
//!
//! It is made with tokio's sockets, because it is never handed over to the splice, and because
//! whoever ends sessions has no ring.
//!
//! Source: PostgreSQL, "Canceling Requests in Progress",
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS>.

use std::io;
use std::net::SocketAddr;

use postern_core::wire::backend;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::BackendError;
use super::dial::{Encryption, Target};
use crate::session::CancelKey;
use crate::tls;

impl Target {
    /// Hands a cancel request to the server at an address that was dialled before, with the
    /// attempts that `sslmode` asks for, and waits until the server has acted. The caller bounds
    /// the time.
    ///
    /// # Errors
    ///
    /// [`BackendError::Unreachable`]: what the last attempt failed with.
    pub(crate) async fn cancel(
        &self,
        address: SocketAddr,
        key: &CancelKey,
    ) -> Result<(), BackendError> {
        let request = backend::cancel_request(key.pid, &key.key);
        let mut attempts = self.attempts().iter().peekable();
        loop {
            let encryption = attempts.next().copied().unwrap_or(Encryption::Required);
            match self.try_cancel(address, encryption, &request).await {
                Err(_) if attempts.peek().is_some() => {}
                outcome => {
                    return outcome.map_err(|error| BackendError::Unreachable {
                        host: self.host(),
                        why: error.to_string(),
                    });
                }
            }
        }
    }

    async fn try_cancel(
        &self,
        address: SocketAddr,
        encryption: Encryption,
        request: &[u8],
    ) -> io::Result<()> {
        let mut socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let Some(config) = self.tls().filter(|_| encryption != Encryption::Plain) else {
            return deliver(socket, request).await;
        };
        socket.write_all(&backend::ssl_request()).await?;
        match socket.read_u8().await? {
            b'S' => {
                // What else the server has said in the clear is taken for a part of the handshake,
                // and ends it (CVE-2021-23222).
                let name =
                    tls::server_name(&self.config.endpoint.host).map_err(io::Error::other)?;
                let connector = TlsConnector::from(config.clone());
                deliver(connector.connect(name, socket).await?, request).await
            }
            b'N' if encryption == Encryption::IfOffered => deliver(socket, request).await,
            b'N' => Err(io::Error::other(
                "the server does not offer TLS, and sslmode requires it",
            )),
            _ => Err(io::Error::other(
                "what the server answers to SSLRequest is not the protocol",
            )),
        }
    }
}

/// Sends it, and waits for the server to close the connection when it has acted: that keeps the
/// order that libpq's PQcancel promises. Nothing else comes, and how it ends says nothing.
async fn deliver(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> io::Result<()> {
    stream.write_all(request).await?;
    stream.flush().await?;
    drop(stream.read(&mut [0]).await);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    use super::*;
    use crate::config::{Backend, Endpoint, SslMode};

    #[tokio::test]
    async fn a_cancel_request_follows_every_attempt_of_sslmode() -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        // What it answers to SSLRequest is not the protocol; the second connection asks nothing.
        let server = std::thread::spawn(move || -> io::Result<[u8; 16]> {
            let (mut first, _) = listener.accept()?;
            first.read_exact(&mut [0; 8])?;
            first.write_all(b"X")?;
            let mut said = [0; 16];
            listener.accept()?.0.read_exact(&mut said)?;
            Ok(said)
        });
        let endpoint = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: address.port(),
            sslmode: SslMode::Prefer,
            tls_ca_file: None,
            connect_timeout: Duration::from_secs(20),
        };
        let config = Backend {
            endpoint,
            databases: Vec::new(),
            auth_methods: Vec::new(),
            client_address: false,
        };
        let target = Target::new(config).map_err(io::Error::other)?;
        let key = CancelKey {
            pid: 7,
            key: vec![1, 2, 3, 4],
        };
        let handed = target.cancel(address, &key).await;
        handed.map_err(io::Error::other)?;
        let said = server.join().map_err(|_| io::ErrorKind::Other)??;
        assert_eq!(said.as_slice(), backend::cancel_request(7, &[1, 2, 3, 4]));
        Ok(())
    }
}
