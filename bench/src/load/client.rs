//! A small frontend of PostgreSQL.
//!
//! Once it is logged in it allocates nothing a message: answers are read into one buffer, counted
//! and skipped.
//! Source: PostgreSQL, "Message Flow",
//! <https://www.postgresql.org/docs/current/protocol-flow.html>.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use postern_core::scram::{ChannelBinding, ClientExchange, ClientFinal, Keys, nonce};
use postern_core::wire::backend::{
    BackendMessage, ErrorFieldsRef, parse, password_message, sasl_initial_response, sasl_response,
    split,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::limits::{CLIENT_BUFFER_BYTES, LOGIN_TIMEOUT, MESSAGE_BYTES_MAX};
use crate::load::door::{Door, Wire};
use crate::load::random::Random;
use crate::route::Login;

/// The tag and the length word of a message, in bytes.
const HEADER_BYTES: usize = 5;
/// The digits of a statement's parameter.
const PARAMETER_DIGITS: usize = 10;
/// The version 3.0.
const PROTOCOL: u32 = 3 << 16;

/// A session.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
    buffer: Box<[u8]>,
    /// Where in the buffer the bytes are that were read and not yet looked at.
    unread: Range<usize>,
    received: Arc<AtomicU64>,
}

/// What a server said instead of letting somebody in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The SQLSTATE: `53300`.
    pub sqlstate: String,
    /// The text.
    pub message: String,
}

/// What came until the server was ready again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answer {
    /// DataRow messages.
    pub rows: u64,
    /// All messages with their headers, in bytes.
    pub bytes: u64,
}

/// A statement with one parameter, a number, that the server has parsed.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Bind, Execute and Sync.
    messages: Vec<u8>,
    /// Where the parameter stands in them, in decimal digits.
    parameter: Range<usize>,
}

impl Client {
    /// Connects and logs in.
    ///
    /// # Errors
    /// If it is refused, or the connection breaks.
    pub async fn log_in(door: &Door) -> Result<Self> {
        match Self::try_log_in(door).await? {
            Ok(client) => Ok(client),
            Err(Refusal { sqlstate, message }) => bail!("{sqlstate}: {message}"),
        }
    }

    /// Connects and logs in, or is told why not.
    ///
    /// # Errors
    /// If the connection breaks, or the server breaks the protocol.
    pub async fn try_log_in(door: &Door) -> Result<Result<Self, Refusal>> {
        let login = async {
            let mut client = Self::new(door.connect().await?);
            let outcome = client.authenticate(&door.login).await?;
            Ok(outcome.map(|()| client))
        };
        timeout(LOGIN_TIMEOUT, login)
            .await
            .context("the login takes too long")?
    }

    /// Sends a query and reads its answer.
    ///
    /// # Errors
    /// The server's error, or that the connection breaks.
    pub async fn query(&mut self, sql: &str) -> Result<Answer> {
        self.ask(sql).await?;
        self.answer().await
    }

    /// Sends a query and reads nothing of its answer.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn ask(&mut self, sql: &str) -> Result<()> {
        let mut message = Vec::new();
        put(&mut message, b'Q', |body| put_text(body, sql));
        self.send(&message).await
    }

    /// Has the server parse a statement with one parameter, `$1`, of a type that a number in
    /// decimal digits can be.
    ///
    /// # Errors
    /// The server's error, or that the connection breaks.
    pub async fn prepare(&mut self, sql: &str) -> Result<Statement> {
        const NAME: &str = "s";
        let mut message = Vec::new();
        put(&mut message, b'P', |body| {
            put_text(body, NAME);
            put_text(body, sql);
            body.extend(0_u16.to_be_bytes());
        });
        put(&mut message, b'S', |_| {});
        self.send(&message).await?;
        self.answer().await?;
        Ok(Statement::new(NAME))
    }

    /// Executes a statement that this session has prepared.
    ///
    /// # Errors
    /// The server's error, or that the connection breaks.
    pub async fn execute(&mut self, statement: &Statement) -> Result<Answer> {
        self.send(&statement.messages).await?;
        self.answer().await
    }

    /// Sends a COPY that takes data, and the data in messages of one piece each.
    ///
    /// # Errors
    /// The server's error, or that the connection breaks.
    pub async fn copy_in(&mut self, sql: &str, piece: &[u8], pieces: u32) -> Result<()> {
        self.ask(sql).await?;
        loop {
            let (tag, length) = self.header().await?;
            if tag == b'E' {
                let refusal = self.refusal(length).await?;
                bail!("{}: {}", refusal.sqlstate, refusal.message);
            }
            self.skip(length).await?;
            if tag == b'G' {
                break;
            }
        }
        let mut message = Vec::new();
        put(&mut message, b'd', |body| body.extend_from_slice(piece));
        for _ in 0..pieces {
            self.send(&message).await?;
        }
        message.clear();
        put(&mut message, b'c', |_| {});
        self.send(&message).await?;
        self.answer().await?;
        Ok(())
    }

    /// Reads until the server is ready for the next query. What a COPY sends out is counted too.
    ///
    /// # Errors
    /// The server's error, or that the connection breaks, or a COPY that waits for data of ours.
    pub async fn answer(&mut self) -> Result<Answer> {
        let mut answer = Answer::default();
        let mut error = None;
        loop {
            let (tag, length) = self.header().await?;
            answer.bytes += u64::try_from(HEADER_BYTES + length)?;
            match tag {
                b'D' => answer.rows += 1,
                b'E' => {
                    let refusal = self.refusal(length).await?;
                    error = Some(format!("{}: {}", refusal.sqlstate, refusal.message));
                    continue;
                }
                b'G' | b'W' => bail!("the server waits for the data of a COPY"),
                _ => {}
            }
            self.skip(length).await?;
            if tag == b'Z' {
                break;
            }
        }
        match error {
            None => Ok(answer),
            Some(error) => bail!(error),
        }
    }

    /// From now on adds every byte that is received, decrypted, to a counter while it comes.
    pub fn count_into(&mut self, received: Arc<AtomicU64>) {
        self.received = received;
    }

    /// The connection.
    #[must_use]
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The bare connection of a session that will rest: the buffer is given back.
    #[must_use]
    pub fn into_wire(self) -> Wire {
        self.wire
    }

    /// Says goodbye and closes the connection.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn leave(mut self) -> Result<()> {
        let mut message = Vec::new();
        put(&mut message, b'X', |_| {});
        self.send(&message).await
    }

    fn new(wire: Wire) -> Self {
        Self {
            wire,
            buffer: vec![0; CLIENT_BUFFER_BYTES].into_boxed_slice(),
            unread: 0..0,
            received: Arc::default(),
        }
    }

    /// From the startup packet to the first ReadyForQuery.
    async fn authenticate(&mut self, login: &Login) -> Result<Result<(), Refusal>> {
        self.send(&startup(login)).await?;
        let password = login.password.as_deref().unwrap_or_default();
        let mut scram = Scram::Idle;
        loop {
            let (tag, length) = self.peek_header().await?;
            if tag == b'E' {
                self.header().await?;
                return Ok(Err(self.refusal(length).await?));
            }
            let bytes = self.whole(HEADER_BYTES + length).await?;
            let frame = split(bytes)?.context("a message of the login is cut")?;
            let message = parse(frame)?;
            if let BackendMessage::ReadyForQuery(_) = message {
                return Ok(Ok(()));
            }
            if let Some(reply) = scram.step(&message, password)? {
                self.send(&reply).await?;
            }
        }
    }

    async fn refusal(&mut self, length: usize) -> Result<Refusal> {
        let bytes = self.whole(length).await?;
        // `parse` wants the whole message; its header has been consumed.
        let mut message = Vec::new();
        put(&mut message, b'E', |body| body.extend_from_slice(bytes));
        let frame = split(&message)?.context("an error is cut")?;
        let BackendMessage::Error(fields) = parse(frame)? else {
            bail!("an error is no error");
        };
        Ok(refusal_of(&fields))
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.wire.write_all(bytes).await?;
        self.wire.flush().await?;
        Ok(())
    }

    /// Consumes the next header: the tag, and the length of what follows.
    async fn header(&mut self) -> Result<(u8, usize)> {
        let header = self.peek_header().await?;
        self.unread.start += HEADER_BYTES;
        Ok(header)
    }

    async fn peek_header(&mut self) -> Result<(u8, usize)> {
        self.need(HEADER_BYTES).await?;
        let unread = self.buffer.get(self.unread.clone()).unwrap_or_default();
        let header = unread.first_chunk::<HEADER_BYTES>();
        let [tag, length @ ..] = header.context("no header")?;
        let length = usize::try_from(u32::from_be_bytes(*length))?;
        let length = length.checked_sub(4).context("a length under its own")?;
        Ok((*tag, length))
    }

    /// Consumes bytes and shows them.
    async fn whole(&mut self, length: usize) -> Result<&[u8]> {
        ensure!(length <= MESSAGE_BYTES_MAX, "a message of {length} bytes");
        self.need(length).await?;
        let start = self.unread.start;
        self.unread.start += length;
        self.buffer.get(start..start + length).context("the buffer")
    }

    /// Consumes bytes, however many.
    async fn skip(&mut self, mut length: usize) -> Result<()> {
        loop {
            let here = length.min(self.unread.len());
            self.unread.start += here;
            length -= here;
            if length == 0 {
                return Ok(());
            }
            self.fill().await?;
        }
    }

    /// Reads until so many bytes are unread.
    async fn need(&mut self, length: usize) -> Result<()> {
        while self.unread.len() < length {
            self.fill().await?;
        }
        Ok(())
    }

    /// Reads once.
    async fn fill(&mut self) -> Result<()> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.start > 0 {
            // Only the start of a message is ever left over.
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        let room = self.buffer.get_mut(self.unread.end..).unwrap_or_default();
        let count = self.wire.read(room).await?;
        ensure!(count > 0, "the server has closed the connection");
        self.unread.end += count;
        let count = u64::try_from(count)?;
        self.received.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }
}

impl Statement {
    /// Sets the parameter; of a number with more digits, the last ones.
    pub fn set(&mut self, mut value: u64) {
        let digits = self.messages.get_mut(self.parameter.clone());
        for digit in digits.unwrap_or_default().iter_mut().rev() {
            *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
            value /= 10;
        }
    }

    fn new(name: &str) -> Self {
        let mut messages = Vec::new();
        let mut parameter = 0..0;
        put(&mut messages, b'B', |body| {
            put_text(body, "");
            put_text(body, name);
            body.extend(0_u16.to_be_bytes());
            body.extend(1_u16.to_be_bytes());
            body.extend(10_u32.to_be_bytes());
            // The header of Bind stands before its body.
            let start = HEADER_BYTES + body.len();
            parameter = start..start + PARAMETER_DIGITS;
            body.extend([b'0'; PARAMETER_DIGITS]);
            body.extend(0_u16.to_be_bytes());
        });
        put(&mut messages, b'E', |body| {
            put_text(body, "");
            body.extend(0_u32.to_be_bytes());
        });
        put(&mut messages, b'S', |_| {});
        Self {
            messages,
            parameter,
        }
    }
}

/// Where a login by SCRAM stands.
enum Scram {
    Idle,
    First(ClientExchange),
    Final(ClientFinal),
    Verified,
}

impl Scram {
    /// What to answer a message of the login, if anything.
    ///
    /// PBKDF2 runs at every login, as in libpq.
    fn step(&mut self, message: &BackendMessage<'_>, password: &str) -> Result<Option<Vec<u8>>> {
        match (std::mem::replace(self, Self::Idle), message) {
            (Self::Idle, BackendMessage::Sasl(offered)) => {
                let binding = ChannelBinding::Unsupported;
                let (exchange, first) = ClientExchange::start(&fresh_nonce(), binding);
                let mechanism = exchange.mechanism();
                ensure!(offered.contains(mechanism), "{mechanism} is not offered");
                *self = Self::First(exchange);
                Ok(Some(sasl_initial_response(mechanism, &first)))
            }
            (Self::Idle, BackendMessage::CleartextPassword) => {
                Ok(Some(password_message(password.as_bytes()).expose().clone()))
            }
            (Self::First(exchange), BackendMessage::SaslContinue(data)) => {
                let challenge = exchange.server_first(data)?;
                let (salt, iterations) = (challenge.salt(), challenge.iterations());
                let keys = Keys::derive(password.as_bytes(), salt, iterations);
                let (outcome, answer) = challenge.answer(&keys);
                *self = Self::Final(outcome);
                Ok(Some(sasl_response(&answer)))
            }
            (Self::Final(outcome), BackendMessage::SaslFinal(data)) => {
                outcome.server_final(data)?;
                *self = Self::Verified;
                Ok(None)
            }
            (
                state @ (Self::Idle | Self::Verified),
                BackendMessage::AuthenticationOk
                | BackendMessage::ParameterStatus { .. }
                | BackendMessage::BackendKeyData { .. }
                | BackendMessage::Notice(_),
            ) => {
                *self = state;
                Ok(None)
            }
            (_, other) => bail!("out of place in a login: {other:?}"),
        }
    }
}

/// Different at every login of this process; it keeps no secret.
fn fresh_nonce() -> String {
    static LOGINS: AtomicU64 = AtomicU64::new(0);
    let mut random = Random::new(LOGINS.fetch_add(1, Ordering::Relaxed));
    let mut bytes = [0; 18];
    for byte in &mut bytes {
        *byte = u8::try_from(random.below(256)).unwrap_or(0);
    }
    nonce(&bytes)
}

fn refusal_of(fields: &ErrorFieldsRef<'_>) -> Refusal {
    Refusal {
        sqlstate: fields.sqlstate().unwrap_or_default().to_owned(),
        message: fields.message().into_owned(),
    }
}

fn startup(login: &Login) -> Vec<u8> {
    let mut body = PROTOCOL.to_be_bytes().to_vec();
    for text in ["user", &login.user, "database", &login.database] {
        put_text(&mut body, text);
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), &body].concat()
}

/// Appends a message.
fn put(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Vec::new();
    body(&mut bytes);
    out.push(tag);
    out.extend(
        u32::try_from(bytes.len() + 4)
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    out.extend(bytes);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.as_bytes());
    out.push(0);
}
