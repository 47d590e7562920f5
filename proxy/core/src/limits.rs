//! Every limit of this crate, with its unit and its reason.

/// The longest startup packet, in bytes, its own length word included.
/// PostgreSQL's `MAX_STARTUP_PACKET_LENGTH` is the same number without the length word, so that
/// whatever passes here also passes there.
pub const STARTUP_BYTES_MAX: usize = 10_000;

/// The shortest first packet, in bytes: a length word and a code.
pub const STARTUP_BYTES_MIN: usize = 8;

/// The longest header of the PROXY protocol, in bytes.
/// An address has at most 52; the rest is for what balancers say besides, such as a certificate's
/// name.
pub const PROXY_HEADER_BYTES_MAX: usize = 4_096;

/// The longest application name that PostgreSQL keeps, in bytes: `NAMEDATALEN - 1`.
pub const APPLICATION_NAME_BYTES_MAX: usize = 63;

/// The longest password message body, in bytes.
/// Access tokens that are used as passwords are a few KiB; nothing legitimate is larger, and a
/// connection that has proved nothing must not keep more.
pub const PASSWORD_BYTES_MAX: usize = 8_192;

/// The longest message that a backend may send before it is ready for queries, in bytes.
/// libpq's own bound for messages before authentication is 30,000 (`fe-connect.c`).
pub const BACKEND_LOGIN_MESSAGE_BYTES_MAX: usize = 65_536;

/// All that a backend may send between the dial and its first ReadyForQuery, in bytes.
/// Twenty parameters and a few notices are 2 KiB; a hostile backend must not fill memory.
pub const BACKEND_LOGIN_BYTES_MAX: usize = 1024 * 1024;

/// The longest message of an answer of the role store, in bytes.
/// A row with all the groups that somebody may have is a third of a megabyte.
pub const ROLE_STORE_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// All that one answer of the role store may have, in bytes.
/// A page of managed roles with a hundred groups each is about 3 MB.
pub const ROLE_STORE_ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The longest message of the role store that is no part of an answer, in bytes: a notification
/// has 8,000 at most.
pub const ROLE_STORE_ASIDE_BYTES_MAX: usize = 65_536;

/// All that the role store may say of settings (ParameterStatus) on one connection, in bytes.
/// PostgreSQL tells about 15 at the login, some 500 bytes, and each again when it changes; each
/// name is kept as long as the connection.
pub const ROLE_STORE_SETTINGS_BYTES_MAX: usize = 65_536;

/// The longest text of one field of an ErrorResponse that Postern itself writes, in bytes.
/// A reason and a hint are a few lines; names that a peer chose must not make it more.
pub const ERROR_TEXT_BYTES_MAX: usize = 2_048;

/// The longest text of a cluster key file, in bytes: 64 hexadecimal digits and some white space.
pub const CLUSTER_KEY_TEXT_BYTES_MAX: usize = 256;

/// The longest text of a SCRAM verifier, in bytes.
/// PostgreSQL's own is 133 bytes; a longer salt fits.
pub const SCRAM_VERIFIER_BYTES_MAX: usize = 512;

/// The longest role or group role name, in bytes: PostgreSQL's `NAMEDATALEN - 1`.
/// Longer names are refused, because PostgreSQL would truncate them and two would become one.
pub const ROLE_NAME_BYTES_MAX: usize = 63;

/// Longest name of a database, in bytes: `NAMEDATALEN` without its NUL. Servers of some versions
/// cut longer ones.
pub const DATABASE_NAME_BYTES_MAX: usize = 63;

/// The longest login name that is accepted from a client, in bytes.
/// `DOMAIN\name` and `name@domain` with a DNS name of 253 bytes fit.
pub const LOGIN_NAME_BYTES_MAX: usize = 512;

/// The most SCRAM iterations that a backend may ask for.
/// A hostile backend must not buy minutes of CPU; PostgreSQL's default is 4,096.
pub const SCRAM_ITERATIONS_MAX: u32 = 1_000_000;

/// The longest SCRAM message that is accepted from a peer, in bytes.
pub const SCRAM_MESSAGE_BYTES_MAX: usize = 4_096;

/// The longest SASL message that is accepted from a client, in bytes, its mechanism included.
/// PostgreSQL's own bound for SCRAM is the same (`PG_MAX_SASL_MESSAGE_LENGTH`); clients send
/// about 150.
pub const SASL_MESSAGE_BYTES_MAX: usize = 1_024;

/// The shortest and longest cancel key, in bytes (protocol 3.0 always uses four).
pub const CANCEL_KEY_BYTES_MIN: usize = 4;

/// The cancel key that Postern gives to a client of protocol 3.2, in bytes.
/// PostgreSQL's own since 18 is as long, and nobody guesses 256 bits.
pub const CANCEL_KEY_BYTES: usize = 32;

/// See [`CANCEL_KEY_BYTES_MIN`].
pub const CANCEL_KEY_BYTES_MAX: usize = 256;

/// The most groups of one principal that are looked at.
/// Active Directory itself refuses a logon with more than about 1,010 security groups.
pub const GROUPS_PER_PRINCIPAL_MAX: usize = 5_000;

/// The longest message of a directory, in bytes, and the most elements in it.
/// A group of 100,000 members is about 10 MB.
pub const LDAP_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// See [`LDAP_MESSAGE_BYTES_MAX`].
pub const LDAP_ELEMENTS_MAX: usize = 500_000;

/// The most levels of elements in a message of a directory: an entry has five, and a control less.
pub const LDAP_DEPTH_MAX: usize = 16;

/// All that a directory may answer to one question, the pages of a search together, in bytes.
/// A first refresh of the feed with 100,000 people is about 15 MB.
pub const LDAP_ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most elements in all that a directory may answer to one question.
/// A first refresh of the feed with 100,000 people has up to 1,400,000. One that is kept takes some
/// 50 bytes of memory beside its content: about 100 MiB for all.
pub const LDAP_ANSWER_ELEMENTS_MAX: usize = 2_000_000;

/// The most requests of one connection to a directory that wait for their last answer.
/// There is a search and now and then a question whether the server is there.
pub const LDAP_REQUESTS_MAX: usize = 16;

/// The longest audit text that is copied from a peer, in bytes; the rest is cut and said so.
pub const AUDIT_TEXT_BYTES_MAX: usize = 1_024;

/// The most texts of one list in an audit record; the rest is counted and said so.
/// A first login with more groups than this is rare, and the role store's own log has every step.
pub const AUDIT_LIST_ITEMS_MAX: usize = 256;

/// The longest sealed audit line, in bytes, its newline included.
/// A byte of text becomes at most six (`\u0000`), the mark of a cut text is under 64, and a record
/// has at most one list and 16 other texts.
pub const AUDIT_LINE_BYTES_MAX: usize =
    (AUDIT_LIST_ITEMS_MAX + 16) * (6 * AUDIT_TEXT_BYTES_MAX + 64) + 4_096;

/// The most audit records that wait for the writer with somebody waiting for them.
/// More than this many logins at once are over `logins_max` anyway; the next one is refused.
pub const AUDIT_QUEUE_RECORDS_MAX: usize = 4_096;

/// The most bytes of sealed lines that go to the audit file in one `write(2)`.
/// Enough for hundreds of records, and small beside the page cache.
pub const AUDIT_BATCH_BYTES_MAX: usize = 256 * 1_024;

/// How long written audit records may wait for `fdatasync(2)`, in milliseconds, and how often a
/// failed write is tried again without a new record.
/// This much of the log may be lost with the power; nothing is lost with the process.
pub const AUDIT_SYNC_INTERVAL_MS: u64 = 1_000;

/// The longest message to the admin console, in bytes, its tag and length word included.
/// A command is a line; a client that sends more is no person and no driver.
pub const CONSOLE_MESSAGE_BYTES_MAX: usize = 16_384;

/// The longest name, reason or other word of a command of the admin console, in bytes.
/// It is kept in the audit file, which cuts texts of a peer at the same length.
pub const CONSOLE_WORD_BYTES_MAX: usize = AUDIT_TEXT_BYTES_MAX;

/// The most words of one statement of the admin console; the longest command has six.
pub const CONSOLE_WORDS_MAX: usize = 64;

/// The most statements of one query to the admin console. A script sends them one by one, and what
/// a person puts on a line is a few.
pub const CONSOLE_QUERY_STATEMENTS_MAX: usize = 64;

/// The longest time that a command of an operator may name, in seconds: a hundred years, which is
/// as long as a hold in the role store may last, and can be added to any clock.
pub const LASTING_S_MAX: u64 = 36_525 * 86_400;

/// The most rows that one command of the admin console answers with; the rest is counted.
/// Nobody reads more, and all of them are in memory at once.
pub const CONSOLE_ROWS_MAX: usize = 10_000;
