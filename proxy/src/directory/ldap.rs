//! Login by LDAP: find the entry, bind as it, read its groups.

use std::future::Future;
use std::time::{SystemTime, UNIX_EPOCH};

use ldap3::{Scope, parse_filter};
use postern_core::directory::account::{ACTIVE_DIRECTORY_STATE, OPENLDAP_STATE};
use postern_core::directory::entry::{AttributeError, Entry};
use postern_core::directory::identifier::id_filter;
use postern_core::login_name::{LoginName, escape_dn, escape_filter};
use postern_core::principal::{EntryId, Principal};
use postern_core::secret::Secret;
use tokio::time::timeout;

use super::connection::{BindAnswer, Connection, Query};
use super::error::{DirectoryError, code, refusal_of_bind};
use super::feed::is_within;
use super::groups;
use super::servers::Servers;
use crate::clock::since_1970;
use crate::config::{Ldap, LdapBind, LdapFlavor};
use crate::limits::READS_OF_RENAMED_MAX;
use crate::random;

/// What stands for the login name in a filter or a bind template.
const LOGIN: &str = "{login}";

/// A directory that speaks LDAP.
pub(super) struct LdapDirectory {
    config: Ldap,
    servers: Servers,
    /// The login filter for whatever name: who is a person.
    anybody: String,
}

impl LdapDirectory {
    /// The directory of `config`; no connection is made yet.
    ///
    /// # Errors
    ///
    /// When a filter is malformed, TLS cannot be set up, or the service principal's password
    /// cannot be read.
    pub(super) fn new(config: &Ldap) -> Result<Self, DirectoryError> {
        let login_filter = config.login_filter.replace(LOGIN, "x");
        for (key, filter) in [
            ("login_filter", &login_filter),
            ("group_class_filter", &config.group_class_filter),
        ] {
            if parse_filter(filter).is_err() {
                return Err(DirectoryError::Filter {
                    key,
                    filter: filter.clone(),
                });
            }
        }
        // Where the name stands in a place that takes no pattern, the identifier alone decides.
        let anybody = Some(config.login_filter.replace(LOGIN, "*"))
            .filter(|filter| parse_filter(filter).is_ok())
            .unwrap_or_else(|| "(objectClass=*)".to_owned());
        Ok(Self {
            anybody,
            config: config.clone(),
            servers: Servers::new(config)?,
        })
    }

    /// Checks the password and reads the groups, within the total timeout.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`]; the first server's word about a password is final.
    pub(super) async fn authenticate(
        &self,
        login: &LoginName,
        password: &Secret<Vec<u8>>,
    ) -> Result<Principal, DirectoryError> {
        self.in_time(async {
            let entry = match &self.config.bind {
                LdapBind::Search => self.search_then_bind(login, password).await?,
                LdapBind::Template(template) if is_dn(template) => {
                    self.bind_as_dn(template, login, password).await?
                }
                LdapBind::Template(template) => {
                    self.bind_as_principal_name(template, login, password)
                        .await?
                }
            };
            self.principal(entry).await
        })
        .await
    }

    /// The entry and its groups, without a password.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`]; also when the account's attributes say that it may not log in.
    pub(super) async fn look_up(&self, login: &LoginName) -> Result<Principal, DirectoryError> {
        self.in_time(async {
            let entry = self.find(login).await?;
            self.principal(entry).await
        })
        .await
    }

    /// The entry with this identifier and its groups, and when it will be refused by the passing
    /// of time alone.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`]; [`DirectoryError::EntryGone`] also when it is no person's any more.
    pub(super) async fn look_up_entry(
        &self,
        id: &EntryId,
    ) -> Result<(Principal, Option<SystemTime>), DirectoryError> {
        let gone = || DirectoryError::EntryGone { id: id.clone() };
        let own = id_filter(id).ok_or_else(gone)?;
        let filter = format!("(&{}{own})", self.anybody);
        let base = people_base(&self.config);
        self.in_time(async {
            let mut tries_left = READS_OF_RENAMED_MAX;
            loop {
                let entry = match self.find_one(base, Scope::Subtree, &filter).await {
                    Err(DirectoryError::UnknownLogin) => return Err(gone()),
                    found => found?,
                };
                let refused_from = entry.refused_from(since_1970());
                let refused_from = refused_from.and_then(|at| UNIX_EPOCH.checked_add(at));
                let dn = entry.dn.clone();
                let principal = self.principal(entry).await?;
                tries_left -= 1;
                // Groups are found by the name, which nobody has any more who was renamed between
                // the two searches: that would look as if every group were lost.
                if tries_left == 0 || self.is_there(&dn, &filter).await? {
                    return Ok((principal, refused_from));
                }
            }
        })
        .await
    }

    /// Whether the entry that a filter has found has this name still.
    async fn is_there(&self, dn: &str, filter: &str) -> Result<bool, DirectoryError> {
        let query = Query {
            base: dn,
            scope: Scope::Base,
            filter,
            // No attribute at all (RFC 4511, 4.5.1.8).
            attributes: &["1.1"],
            matched_values: None,
        };
        let found = self
            .servers
            .as_service(async |connection| connection.search_some(&query, 1).await)
            .await;
        match found {
            Err(DirectoryError::Refused { code, .. }) if code == code::NO_SUCH_OBJECT => Ok(false),
            found => Ok(!found?.is_empty()),
        }
    }

    /// Whether the entry with this name is a group; also when there is none any more, because it
    /// may have been one.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`], when that cannot be said.
    pub(super) async fn is_group(&self, dn: &str) -> Result<bool, DirectoryError> {
        let query = Query {
            base: dn,
            scope: Scope::Base,
            filter: &self.config.group_class_filter,
            // No attribute at all (RFC 4511, 4.5.1.8).
            attributes: &["1.1"],
            matched_values: None,
        };
        let ask = self
            .servers
            .as_service(async |connection| connection.search_some(&query, 1).await);
        match self.in_time(ask).await {
            Ok(found) => Ok(!found.is_empty()),
            Err(DirectoryError::Refused { code, .. }) if code == code::NO_SUCH_OBJECT => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The settings.
    pub(super) fn config(&self) -> &Ldap {
        &self.config
    }

    /// The servers.
    pub(super) fn servers(&self) -> &Servers {
        &self.servers
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, DirectoryError>>,
    ) -> Result<T, DirectoryError> {
        let after = self.config.total_timeout;
        timeout(after, work).await.unwrap_or_else(|_elapsed| {
            Err(DirectoryError::TimedOut {
                server: self.servers.urls(),
                what: "everything that a login asks",
                after_ms: after.as_millis(),
            })
        })
    }

    async fn search_then_bind(
        &self,
        login: &LoginName,
        password: &Secret<Vec<u8>>,
    ) -> Result<Entry, DirectoryError> {
        let entry = match self.find(login).await {
            Err(error @ (DirectoryError::UnknownLogin | DirectoryError::AmbiguousLogin)) => {
                self.bind_as_nobody().await?;
                return Err(error);
            }
            found => found?,
        };
        self.servers
            .as_person(&entry.dn, password, async |c, answer| accepted(c, answer))
            .await?;
        Ok(entry)
    }

    /// A bind that cannot succeed, with no word of the client's, so that a name that nobody has
    /// takes as many steps, and as long, as one that somebody has. What the server says does not
    /// matter, but that it answers does: an outage is told to everybody in the same way.
    async fn bind_as_nobody(&self) -> Result<(), DirectoryError> {
        let name = format!("cn={},{}", random::uuid(), self.config.base_dn);
        let password = Secret::new(random::uuid().into_bytes());
        self.servers
            .as_person(&name, &password, async |_, _| Ok(()))
            .await
    }

    /// Binds as the DN that the template gives, and reads exactly that entry.
    async fn bind_as_dn(
        &self,
        template: &str,
        login: &LoginName,
        password: &Secret<Vec<u8>>,
    ) -> Result<Entry, DirectoryError> {
        let dn = template.replace(LOGIN, &escape_dn(login.name()));
        self.servers
            .as_person(&dn, password, async |c, answer| accepted(c, answer))
            .await?;
        let filter = self.login_filter(login);
        self.find_one(&dn, Scope::Base, &filter).await
    }

    /// Binds as `{login}@domain`, and looks the entry up.
    ///
    /// The name before the `@` of a principal name and the login name are two attributes, which
    /// may belong to two people: the server is asked whom it has bound, and that must be the
    /// entry that the search finds.
    async fn bind_as_principal_name(
        &self,
        template: &str,
        login: &LoginName,
        password: &Secret<Vec<u8>>,
    ) -> Result<Entry, DirectoryError> {
        let name = template.replace(LOGIN, login.name());
        let bound = self
            .servers
            .as_person(&name, password, async |connection, answer| {
                accepted(connection, answer)?;
                match self.config.flavor {
                    LdapFlavor::ActiveDirectory => bound_sids(connection).await.map(Bound::Sids),
                    LdapFlavor::OpenLdap => connection.who_am_i().await.map(Bound::Name),
                }
            })
            .await?;
        let entry = self.find(login).await?;
        if bound.is(&entry) {
            Ok(entry)
        } else {
            Err(DirectoryError::OtherEntry)
        }
    }

    /// The one entry with this login name.
    async fn find(&self, login: &LoginName) -> Result<Entry, DirectoryError> {
        self.find_one(
            &self.config.base_dn,
            Scope::Subtree,
            &self.login_filter(login),
        )
        .await
    }

    async fn find_one(
        &self,
        base: &str,
        scope: Scope,
        filter: &str,
    ) -> Result<Entry, DirectoryError> {
        let attributes = self.person_attributes();
        let query = Query {
            base,
            scope,
            filter,
            attributes: &attributes,
            matched_values: None,
        };
        let mut found = self
            .servers
            .as_service(async |connection| connection.search_some(&query, 2).await)
            .await?;
        match (found.pop(), found.pop()) {
            (None, _) => Err(DirectoryError::UnknownLogin),
            // A bind as the empty name would be anonymous, and succeed.
            (Some(entry), None) if entry.dn.is_empty() => Err(DirectoryError::UnknownLogin),
            (Some(entry), None) => Ok(entry),
            (Some(_), Some(_)) => Err(DirectoryError::AmbiguousLogin),
        }
    }

    /// The entry as a principal: may it log in, who is it, which groups is it in.
    async fn principal(&self, entry: Entry) -> Result<Principal, DirectoryError> {
        if let Some(refusal) = entry.refusal(since_1970()) {
            return Err(DirectoryError::AccountRefused(refusal));
        }
        let attribute = &self.config.name_attribute;
        let name = entry.name(attribute).ok_or_else(|| AttributeError {
            dn: entry.dn.clone(),
            attribute: attribute.clone(),
            why: "is missing, or has several values of which none is in the DN: the service \
                  principal must be allowed to read it, and it must say one name",
        })?;
        let (name, id) = (name.to_owned(), entry.id(&self.config.id_attribute)?);
        let version = entry.version();
        let groups = self
            .servers
            .as_service(async |connection| groups::of(connection, &self.config, &entry).await)
            .await?;
        Ok(Principal {
            id,
            dn: entry.dn,
            name,
            groups,
            version,
        })
    }

    fn login_filter(&self, login: &LoginName) -> String {
        self.config
            .login_filter
            .replace(LOGIN, &escape_filter(login.name()))
    }

    fn person_attributes(&self) -> Vec<&str> {
        let mut attributes = vec![
            self.config.name_attribute.as_str(),
            self.config.id_attribute.as_str(),
        ];
        match self.config.flavor {
            LdapFlavor::ActiveDirectory => {
                attributes.extend(["objectSid", "primaryGroupID", "memberOf"]);
                attributes.extend(ACTIVE_DIRECTORY_STATE);
            }
            LdapFlavor::OpenLdap => {
                attributes.push("memberOf");
                attributes.extend(OPENLDAP_STATE);
            }
        }
        attributes
    }
}

/// Yes, or why not.
fn accepted(connection: &Connection, answer: BindAnswer) -> Result<(), DirectoryError> {
    if answer.code == code::SUCCESS {
        return Ok(());
    }
    Err(refusal_of_bind(answer.code, &answer.message)
        .unwrap_or_else(|| connection.bind_refused(answer)))
}

/// Where people are: below `base_dn`, or below what the bind template says if that is elsewhere.
pub(super) fn people_base(config: &Ldap) -> &str {
    if let LdapBind::Template(template) = &config.bind
        && is_dn(template)
        && let Some((_, named)) = template.split_once(LOGIN)
        && let Some((_, parent)) = named.split_once(',')
        && !is_within(parent, &config.base_dn)
    {
        return parent;
    }
    &config.base_dn
}

/// Whether a bind template is a DN; otherwise it is a principal name, `{login}@domain`.
fn is_dn(template: &str) -> bool {
    template.contains('=')
}

/// Whom a server says that it has bound.
enum Bound {
    /// `dn:` and the DN (RFC 4532).
    Name(String),
    /// The security identifiers of the person and of the groups, in Active Directory.
    Sids(Vec<Vec<u8>>),
}

impl Bound {
    fn is(&self, entry: &Entry) -> bool {
        match self {
            Self::Name(name) => name
                .strip_prefix("dn:")
                .is_some_and(|dn| groups::key(dn) == groups::key(&entry.dn)),
            // The entry is a person's, so its identifier is no group's.
            Self::Sids(sids) => match entry.values("objectSid") {
                [sid] => sids.contains(sid),
                _ => false,
            },
        }
    }
}

/// The identifiers that the connection acts with: `tokenGroups` of the root entry
/// (MS-ADTS, 3.1.1.3.2.22).
async fn bound_sids(connection: &mut Connection) -> Result<Vec<Vec<u8>>, DirectoryError> {
    let query = Query {
        base: "",
        scope: Scope::Base,
        filter: "(objectClass=*)",
        attributes: &["tokenGroups"],
        matched_values: None,
    };
    let root = connection.search_some(&query, 1).await?;
    Ok(root
        .first()
        .map(|entry| entry.values("tokenGroups").to_vec())
        .unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::tests::ldap_config;

    #[test]
    fn a_bound_identity_must_be_the_entry_that_was_found() {
        let entry = Entry::new("CN=Alice,DC=x").with("objectSid", ["sid of alice"]);
        let name = |text: &str| Bound::Name(text.to_owned()).is(&entry);
        assert!(name("dn:cn=alice,dc=x"));
        for other in ["dn:cn=bob,dc=x", "u:alice", "cn=Alice,DC=x", "dn:", ""] {
            assert!(!name(other), "{other}");
        }
        let sids = |texts: &[&str]| {
            Bound::Sids(texts.iter().map(|t| t.as_bytes().to_vec()).collect()).is(&entry)
        };
        assert!(sids(&["sid of alice", "sid of a group"]));
        assert!(!sids(&["sid of bob", "sid of a group"]) && !sids(&[]));
        assert!(!Bound::Sids(vec![vec![]]).is(&Entry::new("CN=Alice,DC=x")));
    }

    #[test]
    fn people_are_where_the_template_says() {
        let base = |template: &str| {
            let config = Ldap {
                base_dn: "ou=people,dc=x".to_owned(),
                bind: LdapBind::Template(template.to_owned()),
                ..ldap_config()
            };
            people_base(&config).to_owned()
        };
        assert_eq!(
            base("uid={login},ou=staff, ou=people,dc=x"),
            "ou=people,dc=x"
        );
        assert_eq!(base("uid={login},ou=others,dc=x"), "ou=others,dc=x");
        assert_eq!(base("{login}@x"), "ou=people,dc=x");
    }

    #[test]
    fn a_template_with_an_attribute_is_a_dn() {
        assert!(is_dn("uid={login},ou=people,dc=example"));
        assert!(!is_dn("{login}@corp.example"));
    }
}
