//! What a server offers: its root entry.

use ldap3::Scope;
use postern_core::directory::entry::Entry;

use crate::config::Ldap;
use crate::directory::connection::{Connection, Query};
use crate::directory::error::DirectoryError;
use crate::directory::ldap::people_base;

/// The root entry of a server (RFC 4512, 5.1).
pub(super) struct Offer(Entry);

impl Offer {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] when the server does not answer.
    pub(super) async fn read(connection: &Connection) -> Result<Self, DirectoryError> {
        let query = Query {
            base: "",
            scope: Scope::Base,
            filter: "(objectClass=*)",
            attributes: &["supportedControl", "namingContexts"],
            matched_values: None,
        };
        let entries = connection.search_some(&query, 1).await?;
        Ok(Self(entries.into_iter().next().unwrap_or_default()))
    }

    /// Whether it knows the control with this name.
    pub(super) fn has(&self, control: &str) -> bool {
        self.0.texts("supportedControl").any(|name| name == control)
    }

    /// The longest naming context that holds `dn`; `dn` itself when none is told.
    pub(super) fn context_of<'a>(&'a self, dn: &'a str) -> &'a str {
        let contexts = self.0.texts("namingContexts");
        let holding = contexts.filter(|context| is_within(dn, context));
        holding.max_by_key(|context| context.len()).unwrap_or(dn)
    }
}

/// What is watched: where people are, and where groups are if that is elsewhere.
pub(super) fn bases(config: &Ldap) -> Vec<&str> {
    let (people, groups) = (people_base(config), &*config.group_base_dn);
    if is_within(groups, people) {
        vec![people]
    } else if is_within(people, groups) {
        vec![groups]
    } else {
        vec![people, groups]
    }
}

/// Whether `dn` is `base` or below it, by their spelling: case and spaces around commas do not
/// count.
pub(in crate::directory) fn is_within(dn: &str, base: &str) -> bool {
    let (dn, base) = (plain(dn), plain(base));
    match dn.strip_suffix(&base) {
        Some(rest) => rest.is_empty() || base.is_empty() || rest.ends_with(','),
        None => false,
    }
}

fn plain(dn: &str) -> String {
    let parts: Vec<&str> = dn.split(',').map(str::trim).collect();
    parts.join(",").to_lowercase()
}

#[cfg(test)]
impl Offer {
    /// Of a server with this naming context.
    pub(super) fn for_test(context: &str) -> Self {
        Self(Entry::new("").with("namingContexts", [context]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::tests::ldap_config;

    #[test]
    fn a_context_holds_what_is_below_it() {
        assert!(is_within(
            "OU=People, DC=corp,DC=example",
            "dc=corp,dc=EXAMPLE"
        ));
        assert!(is_within("dc=corp", "DC=corp"));
        assert!(is_within("dc=corp", ""));
        assert!(!is_within("dc=corp", "ou=people,dc=corp"));
        assert!(!is_within("dc=thecorp", "dc=corp"));
        assert!(!is_within("ou=xdc=corp", "dc=corp"));
    }

    #[test]
    fn one_base_within_the_other_is_not_watched_twice() {
        let bases_of = |people: &str, groups: &str| {
            let config = Ldap {
                base_dn: people.to_owned(),
                group_base_dn: groups.to_owned(),
                ..ldap_config()
            };
            bases(&config).join(" ")
        };
        assert_eq!(bases_of("dc=x", "dc=x"), "dc=x");
        assert_eq!(bases_of("ou=p,dc=x", "dc=x"), "dc=x");
        assert_eq!(bases_of("dc=x", "ou=g,dc=x"), "dc=x");
        assert_eq!(bases_of("ou=p,dc=x", "ou=g,dc=x"), "ou=p,dc=x ou=g,dc=x");
    }

    #[test]
    fn the_longest_context_counts() {
        let contexts = ["DC=x", "CN=Configuration,DC=x"];
        let root = Entry::new("").with("namingContexts", contexts);
        let offer = Offer(root);
        assert_eq!(offer.context_of("CN=a,cn=configuration,DC=x"), contexts[1]);
        assert_eq!(offer.context_of("OU=people,DC=x"), contexts[0]);
        assert_eq!(offer.context_of("OU=people,DC=y"), "OU=people,DC=y");
    }
}
