//! The configuration: one TOML file, read once, every error reported at once.
//!
//! [`Config`] is what the rest of the program sees; [`Config::read`] turns a file into it.
//! Every key is declared once, in `keys`: the reader, the file that `postern config default`
//! prints and `docs/configuration.md` come from the declarations.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_core::lockout::Limit;
use postern_core::mapping::GroupRules;
use postern_core::perimeter::{Plan, Prefix};
use postern_ebpf::abi::Mode;

mod accounts;
mod build;
mod document;
mod files;
mod keys;
mod manual;
mod problem;
mod read;
mod schema;
mod section;
mod value;
mod values;

pub(crate) use accounts::{
    Directory, Exchange, FeedChoice, Ldap, LdapBind, LdapFlavor, LdapUrl, Local, LocalOrder,
    NestedStrategy, ServiceAccount,
};
pub(crate) use document::{default_text, markdown};
pub(crate) use files::{SecretFileError, secret_file};
pub(crate) use manual::manual;
#[cfg(test)]
mod tests;

pub(crate) use problem::{ConfigErrors, Problem};
pub(crate) use values::{Change, Values};

use crate::role_store::Deprovision;

/// The whole configuration.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Where clients connect.
    pub(crate) listen: Listen,
    /// Who knows the passwords and the groups.
    pub(crate) directory: Directory,
    /// The local file of accounts, alone or beside the directory.
    pub(crate) local: Option<Local>,
    /// What may stand in `name@domain` and `DOMAIN\name`, of the directory and of the file.
    pub(crate) domains: Vec<String>,
    /// Roles that the database itself authenticates.
    pub(crate) service_accounts: Vec<ServiceAccount>,
    /// Which groups count, and which roles they become.
    pub(crate) groups: Groups,
    /// The privileged connection that makes roles match.
    pub(crate) role_store: RoleStore,
    /// The databases behind Postern; at least one.
    pub(crate) backends: Vec<Backend>,
    /// How a role's password in PostgreSQL is made.
    pub(crate) credential: Credential,
    /// The other proxies before the same databases.
    pub(crate) cluster: Option<Cluster>,
    /// How long a directory's answer is believed.
    pub(crate) cache: Cache,
    /// How many wrong passwords the directory is asked about.
    pub(crate) lockout: Lockout,
    /// What becomes of access when the directory changes between logins.
    pub(crate) revocation: Revocation,
    /// The audit file.
    pub(crate) audit: Audit,
    /// The control socket.
    pub(crate) control: Control,
    /// The admin console, if there is one.
    pub(crate) admin: Option<Admin>,
    /// What is told to a monitoring system.
    pub(crate) metrics: Metrics,
    /// Limits that an operator may change.
    pub(crate) limits: Limits,
    /// What keeps everything else away from the databases.
    pub(crate) perimeter: Option<Perimeter>,
    /// What it says key by key, to tell it from another one.
    pub(crate) values: Values,
    /// What the operator should know at start and in `check`: insecure choices, said aloud.
    pub(crate) warnings: Vec<String>,
}

impl Config {
    /// Whether there is anybody who may open replication connections.
    pub(crate) fn opens_replication(&self) -> bool {
        let mut programs = self.service_accounts.iter();
        self.groups.rules.open_replication() || programs.any(|it| it.replication)
    }
}

/// `[listen]`: where clients connect.
#[derive(Debug, Clone)]
pub(crate) struct Listen {
    /// `addresses`: the sockets to listen on; a port of 0 takes a free one.
    pub(crate) addresses: Vec<SocketAddr>,
    /// `tls`: whether a password may be asked for without TLS.
    pub(crate) tls: ListenTls,
    /// `tls_cert_file`: PEM chain, leaf first. Always set when `tls` is `require`.
    pub(crate) tls_cert_file: Option<PathBuf>,
    /// `tls_key_file`: PEM private key.
    pub(crate) tls_key_file: Option<PathBuf>,
    /// `denied_parameters`: startup parameters that are refused.
    pub(crate) denied_parameters: Vec<String>,
    /// `proxy_protocol_from`: peers that must say whose connection they pass on, and are believed.
    pub(crate) proxy_protocol_from: Vec<Prefix>,
}

/// Whether a password may be asked for without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListenTls {
    /// `require`: a client without TLS is refused before a password.
    Require,
    /// `allow-plaintext`: passwords may cross the network in clear text. Called out at start.
    AllowPlaintext,
}

/// `[groups]`: which groups count, and which roles they become.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    /// The rules, in order; the first that matches a group decides.
    pub(crate) rules: GroupRules,
    /// `lowercase_roles`: role names of people are lower-cased.
    pub(crate) lowercase_roles: bool,
    /// `missing`: what happens to a group whose role does not exist.
    pub(crate) missing: MissingGroup,
}

/// What happens to a group whose role does not exist in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissingGroup {
    /// `create`: NOLOGIN and without rights; the administrator grants to it.
    Create,
    /// `skip`: left out; a login with no group left is refused.
    Skip,
    /// `refuse`: the login is refused.
    Refuse,
}

/// `[role_store]`: the privileged connection, and where the `postern` schema is.
#[derive(Debug, Clone)]
pub(crate) struct RoleStore {
    /// Where and how to connect.
    pub(crate) endpoint: Endpoint,
    /// `database`: the database that holds the `postern` schema.
    pub(crate) database: String,
    /// `user`: the provisioner.
    pub(crate) user: String,
    /// `password_file`: its password.
    pub(crate) password_file: PathBuf,
    /// `statement_timeout_ms`: the longest that a call may take. Default 3,000.
    pub(crate) statement_timeout: Duration,
}

/// A PostgreSQL server and how it is reached.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// `host`: name or address.
    pub(crate) host: String,
    /// `port`: 5432 by default.
    pub(crate) port: u16,
    /// `sslmode`: as libpq means it. Default `verify-full`.
    pub(crate) sslmode: SslMode,
    /// `tls_ca_file`: PEM certificates that sign the server's; the system's store if unset.
    pub(crate) tls_ca_file: Option<PathBuf>,
    /// `connect_timeout_ms`: TCP, TLS and authentication. Default 5,000.
    pub(crate) connect_timeout: Duration,
}

/// libpq's `sslmode`,
/// <https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS only if the server insists.
    Allow,
    /// TLS if the server has it.
    Prefer,
    /// TLS, any certificate (with a CA file: as `verify-ca`, as libpq does).
    Require,
    /// TLS, a certificate signed by the CA.
    VerifyCa,
    /// TLS, a certificate signed by the CA and issued to the host.
    VerifyFull,
}

/// `[[backend]]`: a database server behind Postern.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    /// Where and how to connect.
    pub(crate) endpoint: Endpoint,
    /// `databases`: the names that go to this server; empty for all that no other one lists.
    pub(crate) databases: Vec<String>,
    /// `auth_methods`: what the server may ask for. Default only `scram-sha-256`.
    pub(crate) auth_methods: Vec<AuthMethod>,
    /// `client_address`: whether the application name has the client's address in it.
    pub(crate) client_address: bool,
}

/// What a backend may ask of Postern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthMethod {
    /// `scram-sha-256`, with channel binding where TLS gives it.
    ScramSha256,
    /// `md5`.
    Md5,
    /// `cleartext`: the role's secret itself.
    Cleartext,
    /// `trust`: nothing is asked. Refused unless listed, because such a server checks nobody.
    Trust,
}

/// `[credential]`: how a role's password in PostgreSQL is made.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    /// `mode`.
    pub(crate) mode: CredentialMode,
    /// `cluster_key_file`: 32 random bytes in hex or base64, the same on every proxy of a cluster.
    pub(crate) cluster_key_file: PathBuf,
    /// `epoch`: raise it to change every role's secret.
    pub(crate) epoch: u32,
}

/// How a role's password in PostgreSQL is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CredentialMode {
    /// `derived`: from the cluster key, the role and the epoch.
    Derived,
    /// `mirror`: the person's own password, as a verifier.
    Mirror,
}

/// `[cache]`: how long a directory's answer is believed.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    /// `entries_max`: people remembered at once. Default 10,000.
    pub(crate) entries_max: usize,
    /// The rules themselves.
    pub(crate) policy: postern_core::cache::Policy,
}

/// `[lockout]`: how many wrong passwords the directory is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lockout {
    /// `tries_per_person_max`: for one person, from all addresses.
    pub(crate) person: Limit,
    /// `tries_per_address_max`: from one address, for all people.
    pub(crate) address: Limit,
}

/// `[revocation]`: what becomes of access when the directory changes between logins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Revocation {
    /// `lost_group`: what becomes of sessions of a person who loses some groups.
    pub(crate) lost_group: LostGroup,
    /// `deprovision`: what becomes of the role of a person who is gone.
    pub(crate) deprovision: Deprovision,
    /// `directory_away_s`: how long sessions may last while the directory is out of reach.
    pub(crate) directory_away: Duration,
    /// `after_directory_away`: what becomes of them then.
    pub(crate) after: AwayPolicy,
}

/// What becomes of the sessions of a person who loses some groups and keeps others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LostGroup {
    /// `end`: a membership that is revoked does not undo a `SET ROLE`.
    End,
    /// `keep`: they go on with what is left.
    Keep,
}

/// What becomes of live sessions when the directory has been out of reach for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AwayPolicy {
    /// `end`.
    End,
    /// `keep`.
    Keep,
}

/// `[audit]`: the audit file.
#[derive(Debug, Clone)]
pub(crate) struct Audit {
    /// `file`: JSON lines, appended to.
    pub(crate) file: PathBuf,
}

/// `[control]`: how commands on the same machine reach the running process.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    /// `socket`: a unix socket that only root and the process's own user may use; if unset, that
    /// of the service, and none in a process that is no service.
    pub(crate) socket: Option<PathBuf>,
}

impl Control {
    /// Where commands ask: they are no service, and look where the package's is.
    pub(crate) fn place(&self) -> &Path {
        let of_service = Path::new("/run/postern/control.sock");
        self.socket.as_deref().unwrap_or(of_service)
    }
}

/// `[cluster]`: the other proxies before the same databases.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    /// `listen`: where they reach this one.
    pub(crate) listen: SocketAddr,
    /// `peers`: `host:port` of each.
    pub(crate) peers: Vec<String>,
}

/// `[admin]`: the admin console.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    /// `accounts_file`: its accounts, whose groups are their rights.
    pub(crate) accounts_file: PathBuf,
    /// `database`: the reserved name.
    pub(crate) database: String,
}

/// `[metrics]`: where the process says in numbers what it has done.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// `listen`: the address and port of an HTTP server; none if unset.
    pub(crate) listen: Option<SocketAddr>,
}

/// `[perimeter]`: what keeps everything but the proxy away from the databases.
#[derive(Debug, Clone)]
pub(crate) struct Perimeter {
    /// `place`, `interfaces` and the rules, ready for the kernel's maps.
    pub(crate) plan: Plan,
    /// `mode`: whether what the policy refuses is dropped.
    pub(crate) mode: Mode,
    /// `pins`: the folder on bpffs that holds the policy.
    pub(crate) pins: PathBuf,
    /// `cgroup_root`: where the hooks of a proxy's host are; the mount point if unset.
    pub(crate) cgroup_root: Option<PathBuf>,
    /// `cgroup`: the proxy's cgroup, below the root.
    pub(crate) cgroup: PathBuf,
    /// `default_drop`: whether nftables keeps the prefixes shut until the policy is in force.
    pub(crate) default_drop: bool,
    /// `state_file`: where a watch leaves what the kernel says, for the proxy.
    pub(crate) state_file: PathBuf,
    /// `audit_file`: where denials are recorded, if anywhere.
    pub(crate) audit_file: Option<PathBuf>,
}

/// `[limits]`: what an operator may change; the rest are constants in `limits.rs`.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// `sessions_max`: live sessions at once.
    pub(crate) sessions_max: usize,
    /// `sessions_per_role_max` and the like: of one role, address and database.
    pub(crate) shares: SharesMax,
    /// `logins_per_address_and_minute_max`: how fast logins of one address come, if that is
    /// limited.
    pub(crate) logins_per_minute_max: Option<u32>,
    /// `logins_max`: logins under way at once; the next client gets 53300.
    pub(crate) logins_max: usize,
    /// `cold_logins_max`: those of them that ask the directory or the role store. Default 500:
    /// half of `logins_max`, so that a directory that hangs never keeps out people who are
    /// remembered.
    pub(crate) cold_logins_max: usize,
    /// `connections_per_address_max`: of one address without a session yet. Default 1,000.
    pub(crate) connections_per_address_max: usize,
    /// `directory_calls_max`: directory conversations at once.
    pub(crate) directory_calls_max: usize,
    /// `login_timeout_ms`: from accept to the password. Default 15,000, a quarter of PostgreSQL's.
    pub(crate) login_timeout: Duration,
    /// `drain_timeout_s`: sessions after another process took over. Default 3,600.
    pub(crate) drain_timeout: Duration,
    /// `splice_threads`: workers of the splice; if unset, one a core but for one core.
    pub(crate) splice_threads: Option<usize>,
}

/// How many of the sessions are for one of something; as many as there are if not given.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SharesMax {
    /// `sessions_per_role_max`.
    pub(crate) role: Option<usize>,
    /// `sessions_per_address_max`; an address of IPv6 stands for its first 64 bits.
    pub(crate) address: Option<usize>,
    /// `sessions_per_database_max`.
    pub(crate) database: Option<usize>,
}
