//! The SQLSTATE codes that a client may see from Postern itself.
//!
//! Source: PostgreSQL, Appendix A, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.

/// A five-character SQLSTATE code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sqlstate(&'static str);

impl Sqlstate {
    /// `protocol_violation`: what the peer sent is not the protocol.
    pub const PROTOCOL_VIOLATION: Self = Self("08P01");
    /// `connection_failure`: the backend was lost.
    pub const CONNECTION_FAILURE: Self = Self("08006");
    /// `feature_not_supported`: a request that Postern refuses by design or configuration.
    pub const FEATURE_NOT_SUPPORTED: Self = Self("0A000");
    /// `invalid_authorization_specification`: refused before a password was asked for.
    pub const INVALID_AUTHORIZATION: Self = Self("28000");
    /// `invalid_password`: the one refusal for every credential failure.
    pub const INVALID_PASSWORD: Self = Self("28P01");
    /// `invalid_catalog_name`: no such database.
    pub const INVALID_CATALOG_NAME: Self = Self("3D000");
    /// `character_not_in_repertoire`: a text is not UTF-8.
    pub const NOT_UTF8: Self = Self("22021");
    /// `invalid_sql_statement_name`: there is no such prepared statement.
    pub const NO_STATEMENT: Self = Self("26000");
    /// `invalid_cursor_name`: there is no such portal.
    pub const NO_PORTAL: Self = Self("34000");
    /// `syntax_error`: no command of the admin console.
    pub const SYNTAX_ERROR: Self = Self("42601");
    /// `undefined_object`: no such session, person or parameter.
    pub const UNDEFINED_OBJECT: Self = Self("42704");
    /// `configuration_limit_exceeded`: a limit of the admin console.
    pub const LIMIT_EXCEEDED: Self = Self("53400");
    /// `object_not_in_prerequisite_state`: it cannot be done as things are.
    pub const NOT_NOW: Self = Self("55000");
    /// `idle_session_timeout`: the admin console was silent for too long.
    pub const IDLE_SESSION_TIMEOUT: Self = Self("57P05");
    /// `duplicate_prepared_statement`: there is one of this name already.
    pub const DUPLICATE_STATEMENT: Self = Self("42P05");
    /// `insufficient_privilege`: somebody who may log in may not do this.
    pub const INSUFFICIENT_PRIVILEGE: Self = Self("42501");
    /// `too_many_connections`: over a limit.
    pub const TOO_MANY_CONNECTIONS: Self = Self("53300");
    /// `admin_shutdown`: shutting down, or revoked.
    pub const ADMIN_SHUTDOWN: Self = Self("57P01");
    /// `cannot_connect_now`: the directory or the database is not reachable.
    pub const CANNOT_CONNECT_NOW: Self = Self("57P03");
    /// `internal_error`: a defect of Postern.
    pub const INTERNAL_ERROR: Self = Self("XX000");

    /// The five characters.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}
