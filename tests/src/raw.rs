//! A client that speaks the protocol byte by byte, for what psql never sends.
//!
//! It is for a listener with `tls = "allow-plaintext"`, and for the packets before TLS; with
//! [`RawClient::encrypted`] for any.
//! Source: PostgreSQL, "Message Formats",
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>.

mod leg;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use self::leg::Leg;

/// How long an answer may take: far above every timeout of the program, so that a hang fails.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// The longest message that a test expects, in bytes.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The code of an SSLRequest.
pub const SSL_REQUEST: u32 = 80_877_103;
/// The code of a GSSENCRequest.
pub const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
/// The version 3.0 in a startup packet.
pub const PROTOCOL_3_0: u32 = 3 << 16;
/// The version 3.2 in a startup packet.
pub const PROTOCOL_3_2: u32 = (3 << 16) | 2;

/// One connection.
#[derive(Debug)]
pub struct RawClient {
    stream: Leg,
    /// What BackendKeyData had, once it came.
    pub cancel_key: Option<CancelKey>,
}

/// What BackendKeyData has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelKey {
    /// The process number.
    pub pid: u32,
    /// The key, of 4 bytes in protocol 3.0 and 4 to 256 in 3.2.
    pub key: Vec<u8>,
}

/// One message from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The letter that says what it is.
    pub tag: u8,
    /// What follows the length.
    pub body: Vec<u8>,
}

impl Message {
    /// A field of an ErrorResponse or NoticeResponse: `C` is the SQLSTATE, `M` the text.
    #[must_use]
    pub fn field(&self, code: u8) -> Option<String> {
        let mut fields = self.body.split(|&byte| byte == 0);
        let field = fields.find(|it| it.first() == Some(&code))?;
        Some(String::from_utf8_lossy(field.get(1..)?).into_owned())
    }

    /// The columns of a DataRow as text.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        let mut rest = self.body.get(2..).unwrap_or_default();
        let mut columns = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
            let Some((value, after)) = after.split_at_checked(length) else {
                break;
            };
            columns.push(String::from_utf8_lossy(value).into_owned());
            rest = after;
        }
        columns
    }
}

impl RawClient {
    /// Connects to a port of 127.0.0.1.
    ///
    /// # Errors
    /// If nobody listens.
    pub fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: Leg::Plain(stream),
            cancel_key: None,
        })
    }

    /// Connects to a port of 127.0.0.1 and shakes hands, by a configuration that remembers the
    /// sessions which the server offers to resume. What the server says instead of going on with
    /// TLS is the message.
    ///
    /// # Errors
    /// If nobody listens, or the handshake fails.
    pub fn encrypted(port: u16, config: &Arc<ClientConfig>) -> Result<Result<Self, Message>> {
        let mut client = Self::connect(port)?;
        client.send_packet(&SSL_REQUEST.to_be_bytes())?;
        match client.read_byte()? {
            b'S' => {}
            b'E' => return Ok(Err(client.read_body(b'E')?)),
            other => bail!("{other} is the answer to SSLRequest"),
        }
        Ok(Ok(client.handshake_with(config)?))
    }

    /// Connects to a port of 127.0.0.1 and begins with TLS.
    ///
    /// # Errors
    /// If nobody listens, or the handshake fails.
    pub fn direct(port: u16, config: &Arc<ClientConfig>) -> Result<Self> {
        Self::connect(port)?.handshake_with(config)
    }

    /// Shakes hands on a connection that has said nothing yet, or only what comes before TLS.
    ///
    /// # Errors
    /// If the handshake fails.
    pub fn handshake_with(self, config: &Arc<ClientConfig>) -> Result<Self> {
        let Leg::Plain(stream) = self.stream else {
            bail!("encrypted before it could be");
        };
        let name = ServerName::try_from("localhost")?;
        let tls = ClientConnection::new(Arc::clone(config), name)?;
        let mut tls = StreamOwned::new(tls, stream);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        Ok(Self {
            stream: Leg::Tls(Box::new(tls)),
            cancel_key: None,
        })
    }

    /// The protocol that the server chose by ALPN.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.stream {
            Leg::Plain(_) => None,
            Leg::Tls(tls) => tls.conn.alpn_protocol(),
        }
    }

    /// How the TLS handshake was made; none without TLS.
    #[must_use]
    pub fn handshake(&self) -> Option<HandshakeKind> {
        match &self.stream {
            Leg::Plain(_) => None,
            Leg::Tls(tls) => tls.conn.handshake_kind(),
        }
    }

    /// Connects, logs in and waits until the server is ready; a refusal is the message.
    ///
    /// # Errors
    /// If the connection breaks, or the server does something else than PostgreSQL would.
    pub fn log_in(
        port: u16,
        user: &str,
        database: &str,
        password: &str,
    ) -> Result<Result<Self, Message>> {
        Self::connect(port)?.go_on(user, database, password)
    }

    /// Logs in on a connection that has said nothing yet, or only made its handshake.
    ///
    /// # Errors
    /// As [`RawClient::log_in`].
    pub fn go_on(
        mut self,
        user: &str,
        database: &str,
        password: &str,
    ) -> Result<Result<Self, Message>> {
        self.startup(PROTOCOL_3_0, &[("user", user), ("database", database)])?;
        self.finish(password)
    }

    /// Goes on with the password after the startup packet.
    ///
    /// # Errors
    /// As [`RawClient::log_in`].
    pub fn finish(mut self, password: &str) -> Result<Result<Self, Message>> {
        let asked = self.read()?;
        if asked.tag == b'E' {
            return Ok(Err(asked));
        }
        ensure!(asked.tag == b'R', "not asked for a password: {asked:?}");
        self.password(password.as_bytes())?;
        let messages = self.read_until_ready()?;
        match messages.into_iter().find(|it| it.tag == b'E') {
            Some(refusal) => Ok(Err(refusal)),
            None => Ok(Ok(self)),
        }
    }

    /// As [`RawClient::log_in`], for a login that must succeed.
    ///
    /// # Errors
    /// If it is refused.
    pub fn logged_in(port: u16, user: &str, database: &str, password: &str) -> Result<Self> {
        match Self::log_in(port, user, database, password)? {
            Ok(client) => Ok(client),
            Err(refusal) => bail!("{user} is refused: {:?}", refusal.field(b'M')),
        }
    }

    /// As [`RawClient::log_in`], for a login that must be refused.
    ///
    /// # Errors
    /// If it succeeds.
    pub fn refused(port: u16, user: &str, database: &str, password: &str) -> Result<Message> {
        match Self::log_in(port, user, database, password)? {
            Ok(_) => bail!("{user} is in, but should have been refused"),
            Err(refusal) => Ok(refusal),
        }
    }

    /// Asks the server to cancel what another connection is doing, and waits until it has closed
    /// this one.
    ///
    /// # Errors
    /// If nobody listens, or there is an answer, which no cancel request gets.
    pub fn cancel(port: u16, key: &CancelKey) -> Result<()> {
        Self::connect(port)?.then_cancel(key)
    }

    /// As [`RawClient::cancel`], on a connection that has said nothing yet, or only made its
    /// handshake.
    ///
    /// # Errors
    /// As [`RawClient::cancel`].
    pub fn then_cancel(mut self, key: &CancelKey) -> Result<()> {
        let mut packet = CANCEL_REQUEST.to_be_bytes().to_vec();
        packet.extend(key.pid.to_be_bytes());
        packet.extend(&key.key);
        self.send_packet(&packet)?;
        self.expect_end()
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        Ok(self.stream.flush()?)
    }

    /// Our end of the connection.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn local_address(&self) -> Result<SocketAddr> {
        Ok(self.stream.socket().local_addr()?)
    }

    /// Closes the sending half of the connection.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn finish_sending(&mut self) -> Result<()> {
        Ok(self.stream.socket().shutdown(Shutdown::Write)?)
    }

    /// Sends a packet without a tag, with its length before it.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn send_packet(&mut self, body: &[u8]) -> Result<()> {
        self.send(&framed(None, body)?)
    }

    /// Sends a startup packet.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn startup(&mut self, version: u32, parameters: &[(&str, &str)]) -> Result<()> {
        let mut body = version.to_be_bytes().to_vec();
        for (name, value) in parameters {
            for text in [name, value] {
                body.extend(text.as_bytes());
                body.push(0);
            }
        }
        body.push(0);
        self.send_packet(&body)
    }

    /// Sends a password message; the NUL at its end is added.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn password(&mut self, password: &[u8]) -> Result<()> {
        let mut body = password.to_vec();
        body.push(0);
        self.send(&framed(Some(b'p'), &body)?)
    }

    /// Sends a simple query without waiting for its answer.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn send_query(&mut self, sql: &str) -> Result<()> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.send(&framed(Some(b'Q'), &body)?)
    }

    /// Runs a simple query and returns the first column of its first row.
    ///
    /// # Errors
    /// If the server refuses it, or the connection breaks.
    pub fn query(&mut self, sql: &str) -> Result<String> {
        self.send_query(sql)?;
        let messages = self.read_until_ready()?;
        if let Some(error) = messages.iter().find(|it| it.tag == b'E') {
            bail!("{sql}: {:?}", error.field(b'M'));
        }
        let row = messages.iter().find(|it| it.tag == b'D');
        let columns = row.map(Message::columns).unwrap_or_default();
        Ok(columns.into_iter().next().unwrap_or_default())
    }

    /// Reads one byte, as the answer to SSLRequest is.
    ///
    /// # Errors
    /// If there is none.
    pub fn read_byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        let [byte] = byte;
        Ok(byte)
    }

    /// Reads so many bytes as they come.
    ///
    /// # Errors
    /// If the connection ends before.
    pub fn read_bytes(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads one message.
    ///
    /// # Errors
    /// If the connection ends or the message is none.
    pub fn read(&mut self) -> Result<Message> {
        let tag = self.read_byte()?;
        self.read_body(tag)
    }

    fn read_body(&mut self, tag: u8) -> Result<Message> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length))?;
        let length = length.checked_sub(4).context("a length without itself")?;
        ensure!(
            length <= MESSAGE_BYTES_MAX,
            "a message of {length} bytes with the tag {tag}"
        );
        let body = self.read_bytes(length)?;
        if tag == b'K'
            && let Some((pid, key)) = body.split_first_chunk::<4>()
        {
            self.cancel_key = Some(CancelKey {
                pid: u32::from_be_bytes(*pid),
                key: key.to_vec(),
            });
        }
        Ok(Message { tag, body })
    }

    /// Reads until ReadyForQuery, or a FATAL error, included.
    ///
    /// # Errors
    /// If the connection ends before.
    pub fn read_until_ready(&mut self) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            let message = self.read()?;
            let fatal = message.tag == b'E' && message.field(b'V').as_deref() == Some("FATAL");
            let last = fatal || message.tag == b'Z';
            messages.push(message);
            if last {
                return Ok(messages);
            }
        }
    }

    /// Waits until the server has closed the connection, without having said anything more.
    ///
    /// # Errors
    /// If it says something, or does not close.
    pub fn expect_end(&mut self) -> Result<()> {
        let mut byte = [0];
        let count = self.stream.read(&mut byte)?;
        ensure!(count == 0, "the server says {byte:?} instead of closing");
        Ok(())
    }
}

/// TLS of a client that believes the authority in a file; it remembers sessions.
///
/// # Errors
/// If the file holds no certificate.
pub fn client_config(ca_file: &Path) -> Result<Arc<ClientConfig>> {
    client_that_offers(ca_file, &[])
}

/// As [`client_config`], of a client that offers these protocols by ALPN.
///
/// # Errors
/// As [`client_config`].
pub fn client_that_offers(ca_file: &Path, protocols: &[&str]) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca_file)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

/// A message with its tag, if it has one, and its length.
fn framed(tag: Option<u8>, body: &[u8]) -> Result<Vec<u8>> {
    let mut bytes: Vec<u8> = tag.into_iter().collect();
    bytes.extend(u32::try_from(body.len() + 4)?.to_be_bytes());
    bytes.extend(body);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_columns_are_found() {
        let error = Message {
            tag: b'E',
            body: b"SFATAL\0C28P01\0Mno\0\0".to_vec(),
        };
        assert_eq!(error.field(b'C').as_deref(), Some("28P01"));
        assert_eq!(error.field(b'H'), None);
        let row = Message {
            tag: b'D',
            body: b"\0\x02\0\0\0\x01a\xff\xff\xff\xff".to_vec(),
        };
        assert_eq!(row.columns(), ["a", ""]);
    }
}
