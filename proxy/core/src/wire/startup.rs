//! The first packet of a connection, which has a length word and no tag.
//!
//! Source: PostgreSQL, Message Formats (StartupMessage, SSLRequest, GSSENCRequest, CancelRequest),
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>, and
//! `ProcessStartupPacket` in `backend_startup.c` for what the page leaves open.

use core::net::SocketAddr;
use std::fmt;

use super::{LENGTH_BYTES, Reader, options, put_message, put_text};
use crate::limits::{
    APPLICATION_NAME_BYTES_MAX, CANCEL_KEY_BYTES, CANCEL_KEY_BYTES_MAX, CANCEL_KEY_BYTES_MIN,
    DATABASE_NAME_BYTES_MAX, STARTUP_BYTES_MAX, STARTUP_BYTES_MIN,
};

/// The code of an SSLRequest: "version" 1234.5679.
pub(super) const SSL_REQUEST: u32 = 80_877_103;
/// The code of a GSSENCRequest: "version" 1234.5680.
const GSSENC_REQUEST: u32 = 80_877_104;
/// The code of a CancelRequest: "version" 1234.5678.
pub(super) const CANCEL_REQUEST: u32 = 80_877_102;
/// Protocol 3, to which the minor version is added.
const PROTOCOL_3: u32 = 3 << 16;
/// The newest minor version of protocol 3 that Postern speaks.
/// All that 3.2 has over 3.0 is a longer cancel key, and that is Postern's own.
const MINOR_MAX: u16 = 2;

/// What parameters of protocol extensions start with.
const PROTOCOL_OPTION_PREFIX: &str = "_pq_.";

/// What a client wants first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstPacket {
    /// SSLRequest: the client asks for TLS, and waits for `S` or `N`.
    Ssl,
    /// GSSENCRequest: the client asks for GSSAPI encryption, and waits for `G` or `N`.
    Gss,
    /// CancelRequest: the client wants a query cancelled, and expects no answer.
    Cancel(CancelRequest),
    /// StartupMessage: the client wants a session.
    Startup(Startup),
}

/// A request to cancel what a session is doing.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelRequest {
    /// The process id of the BackendKeyData that the client was given.
    pub pid: u32,
    /// The key that was given with it, 4 to 256 bytes.
    pub key: Vec<u8>,
}

impl fmt::Debug for CancelRequest {
    /// Leaves the key out, because whoever reads it can cancel the session's queries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = format_args!("{} bytes", self.key.len());
        f.debug_struct("CancelRequest")
            .field("pid", &self.pid)
            .field("key", &key)
            .finish()
    }
}

/// A request for a session: protocol 3 with any minor version, a user, a database, and the other
/// parameters as they were sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup {
    minor: u16,
    user: String,
    database: String,
    parameters: Vec<(String, Vec<u8>)>,
}

/// Whether a session is for queries, or for replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// Queries, as nearly everybody wants.
    No,
    /// Replication commands and queries in one database (`replication=database`).
    Logical,
    /// Replication commands, in no database (`replication=true`).
    Physical,
}

/// The whole length of the first packet, in bytes, the length word included.
///
/// # Errors
///
/// [`StartupError::Length`] when the word is under [`STARTUP_BYTES_MIN`] or over
/// [`STARTUP_BYTES_MAX`]; nothing has been allocated for it yet.
pub fn first_packet_len(word: &[u8; LENGTH_BYTES]) -> Result<usize, StartupError> {
    let length = u32::from_be_bytes(*word);
    match usize::try_from(length) {
        Ok(bytes) if (STARTUP_BYTES_MIN..=STARTUP_BYTES_MAX).contains(&bytes) => Ok(bytes),
        _ => Err(StartupError::Length(length)),
    }
}

/// Reads one whole first packet, from its length word to its last byte.
///
/// # Errors
///
/// One variant of [`StartupError`] for each rule that the packet breaks.
pub fn parse(packet: &[u8]) -> Result<FirstPacket, StartupError> {
    let mut reader = Reader(packet);
    let word = reader.take().ok_or(StartupError::LengthMismatch)?;
    if first_packet_len(&word)? != packet.len() {
        return Err(StartupError::LengthMismatch);
    }
    let code = reader.u32().ok_or(StartupError::LengthMismatch)?;
    match (code, code.to_be_bytes()) {
        (SSL_REQUEST | GSSENC_REQUEST, _) if !reader.is_empty() => {
            Err(StartupError::NegotiationLength)
        }
        (SSL_REQUEST, _) => Ok(FirstPacket::Ssl),
        (GSSENC_REQUEST, _) => Ok(FirstPacket::Gss),
        (CANCEL_REQUEST, _) => parse_cancel(reader).map(FirstPacket::Cancel),
        (_, [0, 3, high, low]) => {
            parse_startup(u16::from_be_bytes([high, low]), reader).map(FirstPacket::Startup)
        }
        (_, [a, b, c, d]) => Err(StartupError::ProtocolVersion {
            major: u16::from_be_bytes([a, b]),
            minor: u16::from_be_bytes([c, d]),
        }),
    }
}

impl Startup {
    /// The minor version of protocol 3 that the session speaks: the newest that the client and
    /// Postern both know.
    ///
    /// There is no 3.1, and whoever asks for it gets 3.0.
    pub fn minor(&self) -> u16 {
        match self.minor {
            ..MINOR_MAX => 0,
            MINOR_MAX.. => MINOR_MAX,
        }
    }

    /// The length of the cancel key that the client expects, in bytes.
    pub fn cancel_key_bytes(&self) -> usize {
        match self.minor() {
            0 => CANCEL_KEY_BYTES_MIN,
            1.. => CANCEL_KEY_BYTES,
        }
    }

    /// The login as the client typed it; never empty.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database; the user when the client named none, as in PostgreSQL.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The value of a parameter other than `user` and `database`.
    ///
    /// When the client sent it more than once the last one counts, as in PostgreSQL.
    /// The name is compared without ASCII case, as PostgreSQL compares setting names.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.parameters
            .iter()
            .rev()
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// What the client calls itself, as PostgreSQL 16 and later show it: what is not printable
    /// ASCII is written as `\xNN`, and what is longer than [`APPLICATION_NAME_BYTES_MAX`] is cut.
    pub fn application_name(&self) -> Option<String> {
        let given = self.get("application_name")?;
        let mut shown = String::new();
        // No byte becomes less than one.
        for byte in given.iter().take(APPLICATION_NAME_BYTES_MAX) {
            match byte {
                b' '..=b'~' => shown.push(char::from(*byte)),
                other => shown += &format!("\\x{other:02x}"),
            }
        }
        shown.truncate(APPLICATION_NAME_BYTES_MAX);
        Some(shown)
    }

    /// Whether the client wants replication.
    ///
    /// PostgreSQL knows the parameter by its exact name only; another spelling of it is refused,
    /// because a server that is less exact would take it.
    ///
    /// # Errors
    ///
    /// [`StartupError::Replication`] when that cannot be told.
    pub fn replication(&self) -> Result<Replication, StartupError> {
        let mut wanted = Replication::No;
        for (name, value) in &self.parameters {
            if name == "replication" {
                wanted = replication_of(value)?;
            } else if name.eq_ignore_ascii_case("replication") {
                return Err(StartupError::Replication);
            }
        }
        Ok(wanted)
    }

    /// The parameters other than `user` and `database`, in the order in which they were sent,
    /// repeated ones repeated.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// The names of the protocol extensions that the client asked for, which a
    /// NegotiateProtocolVersion must list.
    pub fn protocol_options(&self) -> Vec<&str> {
        let names = self.parameters.iter().map(|(name, _)| name.as_str());
        names.filter(|name| is_protocol_option(name)).collect()
    }

    /// True when the client must be told which protocol it gets: it asked for another version
    /// than it gets, or for a protocol extension.
    pub fn wants_negotiation(&self) -> bool {
        self.minor != self.minor()
            || self
                .parameters
                .iter()
                .any(|(name, _)| is_protocol_option(name))
    }

    /// The same request without the parameters of these names, compared without ASCII case.
    ///
    /// A setting can also be smuggled in `options`: see [`Startup::options_may_set`].
    #[must_use]
    pub fn without(mut self, denied: &[impl AsRef<str>]) -> Self {
        self.parameters.retain(|(name, _)| {
            !denied
                .iter()
                .any(|denied| denied.as_ref().eq_ignore_ascii_case(name))
        });
        self
    }

    /// The same request with `address` behind the application name, which is cut so that
    /// PostgreSQL does not cut the address.
    ///
    /// It is for people who read `pg_stat_activity`, and proves nothing: the session can set the
    /// name to anything.
    #[must_use]
    pub fn with_client_address(self, address: SocketAddr) -> Self {
        const NAME: &str = "application_name";
        let address = address.to_string();
        let given = self.get(NAME).unwrap_or_default();
        let room = APPLICATION_NAME_BYTES_MAX.saturating_sub(" - ".len() + address.len());
        // PostgreSQL replaces what is not ASCII anyway, so that a character cut in two is no loss.
        let given = given.get(..room).unwrap_or(given);
        let value = match given {
            [] => address.into_bytes(),
            given => [given, b" - ", address.as_bytes()].concat(),
        };
        let mut named = self.without(&[NAME]);
        named.parameters.push((NAME.to_owned(), value));
        named
    }

    /// True when the `options` parameter may give the setting `name` a value; it leans to yes.
    ///
    /// Every occurrence is looked at, not only the one that PostgreSQL would keep.
    pub fn options_may_set(&self, name: &str) -> bool {
        let given = self.parameters.iter();
        let mut values = given.filter(|(given, _)| given == "options");
        values.any(|(_, value)| options::may_set(value, name))
    }

    /// The same request for another user and database.
    ///
    /// # Errors
    ///
    /// [`StartupError::NoUser`] when `user` is empty, [`StartupError::NulInName`] when either has
    /// a NUL, and [`StartupError::Length`] when the packet would be longer than
    /// [`STARTUP_BYTES_MAX`].
    pub fn with_user_database(self, user: &str, database: &str) -> Result<Self, StartupError> {
        if user.is_empty() {
            return Err(StartupError::NoUser);
        }
        if user.contains('\0') || database.contains('\0') {
            return Err(StartupError::NulInName);
        }
        let startup = Self {
            user: user.into(),
            database: database.into(),
            ..self
        };
        let bytes = startup.encode().len();
        if bytes > STARTUP_BYTES_MAX {
            return Err(StartupError::Length(
                u32::try_from(bytes).unwrap_or(u32::MAX),
            ));
        }
        Ok(startup)
    }

    /// The StartupMessage for a backend.
    ///
    /// It asks for the version that the client speaks and for no protocol extension, because the
    /// client has been told that it gets no more than that.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_message(&mut out, None, |out| {
            let version = PROTOCOL_3 | u32::from(self.minor());
            out.extend_from_slice(&version.to_be_bytes());
            for (name, value) in [("user", &self.user), ("database", &self.database)] {
                put_text(out, name.as_bytes());
                put_text(out, value.as_bytes());
            }
            for (name, value) in &self.parameters {
                if !is_protocol_option(name) {
                    put_text(out, name.as_bytes());
                    put_text(out, value);
                }
            }
            out.push(0);
        });
        out
    }
}

/// Which rule a first packet breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// The length word is out of bounds.
    #[error("the startup packet's length of {0} bytes is out of bounds")]
    Length(u32),
    /// The packet is not as long as its length word says.
    #[error("the startup packet is not as long as it says")]
    LengthMismatch,
    /// An SSLRequest or GSSENCRequest with a body.
    #[error("the encryption request has a body")]
    NegotiationLength,
    /// A CancelRequest without process id, or with a key of a forbidden length.
    #[error("the cancel request has a wrong length")]
    CancelLength,
    /// A protocol other than 3.
    #[error("protocol {major}.{minor} is not supported")]
    ProtocolVersion {
        /// The major version that was asked for.
        major: u16,
        /// The minor version that was asked for.
        minor: u16,
    },
    /// The list of parameters does not end with an empty name.
    #[error("the startup packet has no terminator")]
    NoTerminator,
    /// A name without a value, or a value that does not end.
    #[error("a startup parameter has no value")]
    NoValue,
    /// Bytes after the empty name that ends the list.
    #[error("the startup packet has bytes after its terminator")]
    TrailingBytes,
    /// A parameter's name is not UTF-8.
    #[error("a startup parameter's name is not UTF-8")]
    NameNotUtf8,
    /// No user, or an empty one.
    #[error("the startup packet names no user")]
    NoUser,
    /// The user is not UTF-8, so no directory can know it.
    #[error("the user name is not UTF-8")]
    UserNotUtf8,
    /// The database is not UTF-8, so no configuration can name it.
    #[error("the database name is not UTF-8")]
    DatabaseNotUtf8,
    /// Longer than any database's name: a server would cut it, and open one that was not asked for.
    #[error("the database name is longer than {DATABASE_NAME_BYTES_MAX} bytes")]
    DatabaseTooLong,
    /// `replication` is neither `database` nor a truth value, or is spelled otherwise.
    #[error("the parameter \"replication\" is neither \"database\" nor a Boolean value")]
    Replication,
    /// A user or database that is to be sent has a NUL in it.
    #[error("a name has a NUL in it")]
    NulInName,
}

fn parse_cancel(mut reader: Reader<'_>) -> Result<CancelRequest, StartupError> {
    let pid = reader.u32().ok_or(StartupError::CancelLength)?;
    let key = reader.rest();
    if !(CANCEL_KEY_BYTES_MIN..=CANCEL_KEY_BYTES_MAX).contains(&key.len()) {
        return Err(StartupError::CancelLength);
    }
    Ok(CancelRequest {
        pid,
        key: key.to_vec(),
    })
}

fn parse_startup(minor: u16, mut reader: Reader<'_>) -> Result<Startup, StartupError> {
    let (mut user, mut database) = (None, None);
    let mut parameters = Vec::new();
    loop {
        let name = reader.text().ok_or(StartupError::NoTerminator)?;
        if name.is_empty() {
            break;
        }
        let value = reader.text().ok_or(StartupError::NoValue)?;
        match std::str::from_utf8(name).map_err(|_| StartupError::NameNotUtf8)? {
            "user" => user = Some(value),
            "database" => database = Some(value),
            name => parameters.push((name.to_owned(), value.to_vec())),
        }
    }
    if !reader.is_empty() {
        return Err(StartupError::TrailingBytes);
    }
    let user = user
        .filter(|user| !user.is_empty())
        .ok_or(StartupError::NoUser)?;
    let user = std::str::from_utf8(user).map_err(|_| StartupError::UserNotUtf8)?;
    let database = match database {
        Some(name) if !name.is_empty() => {
            std::str::from_utf8(name).map_err(|_| StartupError::DatabaseNotUtf8)?
        }
        _ => user,
    };
    // The login's name stands for the role's, which has a limit of its own.
    if database.len() > DATABASE_NAME_BYTES_MAX && database != user {
        return Err(StartupError::DatabaseTooLong);
    }
    Ok(Startup {
        minor,
        user: user.to_owned(),
        database: database.to_owned(),
        parameters,
    })
}

/// The value as PostgreSQL reads it: `database`, or a Boolean value or the beginning of one
/// (`parse_bool` in `bool.c`).
fn replication_of(value: &[u8]) -> Result<Replication, StartupError> {
    if value == b"database" {
        return Ok(Replication::Logical);
    }
    let value = value.to_ascii_lowercase();
    let begins =
        |word: &str, least: usize| value.len() >= least && word.as_bytes().starts_with(&value);
    if begins("true", 1) || begins("yes", 1) || begins("on", 2) || begins("1", 1) {
        Ok(Replication::Physical)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || begins("0", 1) {
        Ok(Replication::No)
    } else {
        Err(StartupError::Replication)
    }
}

fn is_protocol_option(name: &str) -> bool {
    name.starts_with(PROTOCOL_OPTION_PREFIX)
}

#[cfg(test)]
#[path = "startup_tests.rs"]
mod tests;
