//! `[directory]`, `[local]` and `[[service_account]]`: who knows whose account something is.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use postern_core::mapping::RoleName;
use postern_core::perimeter::Prefix;

use super::ListenTls;

/// `[directory]`: who knows the passwords and the groups.
#[derive(Debug, Clone)]
pub(crate) enum Directory {
    /// `kind = "ldap"`: Active Directory, OpenLDAP or another LDAP server.
    Ldap(Box<Ldap>),
    /// `kind = "local"`: only the file of `[local]`.
    Local,
}

impl Directory {
    /// Whether its changes are heard of.
    pub(crate) fn is_followed(&self) -> bool {
        matches!(self, Self::Ldap(ldap) if ldap.feed != FeedChoice::Off)
    }
}

/// `[directory]` with `kind = "ldap"`.
#[derive(Debug, Clone)]
pub(crate) struct Ldap {
    /// `urls`: `ldaps://host[:port]` or `ldap://host[:port]`, tried in order, the next one on a
    /// transport error only.
    pub(crate) urls: Vec<LdapUrl>,
    /// `starttls`: upgrade `ldap://` by StartTLS (RFC 4511, 4.14).
    pub(crate) starttls: bool,
    /// `tls_ca_file`: PEM certificates that sign the directory's; the system's store if unset.
    pub(crate) tls_ca_file: Option<PathBuf>,
    /// `tls_verify`: false accepts any certificate. Called out at start.
    pub(crate) tls_verify: bool,
    /// `flavor`: which server it is, for the defaults below.
    pub(crate) flavor: LdapFlavor,
    /// `base_dn`: where people are searched.
    pub(crate) base_dn: String,
    /// `bind`: how the person is bound.
    pub(crate) bind: LdapBind,
    /// `service_dn`: the service principal's DN or `user@domain`.
    pub(crate) service_dn: String,
    /// `service_password_file`: the file that holds its password.
    pub(crate) service_password_file: PathBuf,
    /// `login_filter`: RFC 4515 filter with `{login}`, which is replaced by the escaped name.
    pub(crate) login_filter: String,
    /// `name_attribute`: the canonical login name (`sAMAccountName`, `uid`).
    pub(crate) name_attribute: String,
    /// `id_attribute`: the stable identifier (`objectGUID`, `entryUUID`).
    pub(crate) id_attribute: String,
    /// `domains`: what may stand in `name@domain` and `DOMAIN\name`; compared without case.
    pub(crate) domains: Vec<String>,
    /// `group_base_dn`: where groups are searched; `base_dn` if unset.
    pub(crate) group_base_dn: String,
    /// `group_class_filter`: RFC 4515 filter that every group satisfies.
    pub(crate) group_class_filter: String,
    /// `group_member_attribute`: the attribute of a group that lists DNs (`member`).
    pub(crate) group_member_attribute: String,
    /// `group_name_attribute`: the group's canonical name.
    pub(crate) group_name_attribute: String,
    /// `nested`: groups of groups count.
    pub(crate) nested: bool,
    /// `nested_strategy`: how nesting is resolved.
    pub(crate) nested_strategy: NestedStrategy,
    /// `connect_timeout_ms`: TCP and TLS. Default 3,000.
    pub(crate) connect_timeout: Duration,
    /// `operation_timeout_ms`: one bind or search. Default 5,000.
    pub(crate) operation_timeout: Duration,
    /// `total_timeout_ms`: everything that one login asks the directory. Default 8,000.
    pub(crate) total_timeout: Duration,
    /// `feed`: how changes of the directory are heard of.
    pub(crate) feed: FeedChoice,
    /// `poll_interval_s`: how often everybody is compared where changes are not heard of.
    pub(crate) poll_interval: Duration,
}

/// How changes of the directory are heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FeedChoice {
    /// `auto`: the best that the server offers and allows.
    Auto,
    /// `syncrepl`: content synchronization (RFC 4533).
    Syncrepl,
    /// `notification`: change notification, with DirSync where that is allowed.
    Notification,
    /// `dirsync`: DirSync alone.
    DirSync,
    /// `poll`: everybody is compared at an interval.
    Poll,
    /// `off`: changes are found at the next login only.
    Off,
}

/// One directory server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LdapUrl {
    /// TLS from the first byte.
    pub(crate) ldaps: bool,
    /// The host name or address, which the certificate must carry.
    pub(crate) host: String,
    /// 636 for `ldaps`, 389 for `ldap` by default.
    pub(crate) port: u16,
}

/// Which server it is: sets the defaults of the attributes and filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LdapFlavor {
    /// `active-directory`, Samba included.
    ActiveDirectory,
    /// `openldap` and other servers that follow the RFCs (`inetOrgPerson`, `groupOfNames`).
    OpenLdap,
}

/// How the person's password is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LdapBind {
    /// `search`: find the entry as the service principal, then bind as the DN found.
    Search,
    /// `template`: bind at once as this DN or `{login}@domain`, then look the entry up as the
    /// service principal. `{login}` is escaped as RFC 4514 asks when the template is a DN.
    Template(String),
}

/// How nested groups are resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NestedStrategy {
    /// `in-chain`: the server's matching rule 1.2.840.113556.1.4.1941.
    InChain,
    /// `walk`: breadth first, a query a level, to the depth limit, cycles handled.
    Walk,
}

/// `[local]`: the file of accounts.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    /// `file`: the accounts and groups, as `postern local passwd` writes them.
    pub(crate) file: PathBuf,
    /// `order`: asked before or after the directory; of no matter when it is alone or has a
    /// domain.
    pub(crate) order: LocalOrder,
    /// `domain`: what tells its names from those of the directory, compared without case.
    pub(crate) domain: Option<String>,
    /// `exchange`: how its accounts prove who they are.
    pub(crate) exchange: Exchange,
}

/// How an account of the local file proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// `scram-sha-256`: without showing the password.
    ScramSha256,
    /// `password`: by the password itself, as people of the directory do.
    Password,
}

/// `[[service_account]]`: roles that the database itself authenticates.
#[derive(Debug, Clone)]
pub(crate) struct ServiceAccount {
    /// `roles`: their exact names.
    pub(crate) roles: Vec<RoleName>,
    /// `networks`: where they may come from.
    pub(crate) networks: Vec<Prefix>,
    /// `tls`: whether they may come without TLS.
    pub(crate) tls: ListenTls,
    /// `replication`: whether replication connections are passed on, too.
    pub(crate) replication: bool,
}

impl ServiceAccount {
    /// The role of this name, if it is one of these.
    pub(crate) fn role(&self, name: &str) -> Option<&RoleName> {
        self.roles.iter().find(|it| it.as_str() == name)
    }

    /// Whether it may come from an address.
    pub(crate) fn may_come_from(&self, address: IpAddr) -> bool {
        let address = Prefix::single(address);
        self.networks.iter().any(|it| it.contains(address))
    }
}

/// When the local file is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LocalOrder {
    /// `first`: a name in the file is never asked of the directory.
    First,
    /// `last`: only for names that the directory does not know, or when it cannot be reached.
    Last,
}
