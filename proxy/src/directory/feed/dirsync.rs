//! DirSync: what has changed in a naming context since a cookie (MS-ADTS, 3.1.1.3.4.1.3).
//!
//! An entry comes when one of the attributes asked for has changed, so that a login, which the
//! server notes in the entry too, is not told. Of `member` only the values that changed come.

use ldap3::Scope;
use ldap3::controls::RawControl;
use postern_core::directory::dirsync::{DIRSYNC, reached, request};
use postern_core::directory::entry::Entry;
use tokio::time::sleep;

use super::outlet::Outlet;
use super::place::Place;
use super::{NO_PLACE, Notice};
use crate::config::Ldap;
use crate::directory::connection::live::Answer;
use crate::directory::connection::{Connection, Query};
use crate::directory::error::{DirectoryError, code};
use crate::limits::{FEED_DIRSYNC_BYTES_MAX, FEED_DIRSYNC_SPACING};

/// What the search is called in errors.
const ASKED: &str = "DirSync";
/// A filter that nothing satisfies.
const NOTHING: &str = "(!(objectClass=*))";

/// What decides about access, beside what the configuration names. `name` changes with a rename
/// and with a move.
const ATTRIBUTES: [&str; 11] = [
    "objectGUID",
    "name",
    "isDeleted",
    "sAMAccountName",
    "member",
    "primaryGroupID",
    "userAccountControl",
    "accountExpires",
    "pwdLastSet",
    "lockoutTime",
    "logonHours",
];

/// DirSync of one naming context.
pub(super) struct DirSync {
    root: String,
    /// Whether the principal has the right to see every change.
    sees_all: bool,
    attributes: Vec<String>,
    id_attribute: String,
}

impl DirSync {
    /// Tells what has changed since the last place that is known, or finds out the newest one.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] when the server refuses, or cannot be talked to any more.
    pub(super) async fn open(
        connection: &Connection,
        config: &Ldap,
        root: &str,
        (place, outlet): (&mut Place, &mut Outlet),
    ) -> Result<Self, DirectoryError> {
        let mut opened = Self {
            root: root.to_owned(),
            sees_all: true,
            attributes: attributes(config),
            id_attribute: config.id_attribute.clone(),
        };
        if place.cookie(root).is_some() {
            let telling = async |it: &Self| it.tell(connection, place, outlet).await;
            match opened.with_either_right(telling).await {
                Err(error) if !error.is_transport() => {
                    tracing::info!(%error, "the directory cannot tell what happened meanwhile");
                    place.forget(root);
                }
                told => return told.map(|()| opened),
            }
        }
        let beginning = async |it: &Self| it.begin(connection, place, outlet).await;
        opened.with_either_right(beginning).await?;
        Ok(opened)
    }

    /// Does `work` with the right to see everything, or else with what the principal may read.
    async fn with_either_right(
        &mut self,
        mut work: impl AsyncFnMut(&Self) -> Result<(), DirectoryError>,
    ) -> Result<(), DirectoryError> {
        self.sees_all = true;
        match work(self).await {
            Err(error) if !error.is_transport() => {
                self.sees_all = false;
                work(self).await
            }
            done => done,
        }
    }

    /// Finds out the newest place.
    async fn begin(
        &self,
        connection: &Connection,
        place: &mut Place,
        outlet: &mut Outlet,
    ) -> Result<(), DirectoryError> {
        let mut cookie = Vec::new();
        loop {
            let query = self.query(NOTHING, &["objectGUID"]);
            let (more, reached) = self.ask(connection, &query, &cookie, |_entry| {}).await?;
            cookie = reached;
            if !more {
                break;
            }
            sleep(FEED_DIRSYNC_SPACING).await;
        }
        // In this order: what changes while everybody is compared is told afterwards.
        place.advance(&self.root, &cookie);
        outlet.gap(NO_PLACE);
        Ok(())
    }

    /// Tells what has changed since the last time.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`] when the server refuses, or cannot be talked to any more.
    pub(super) async fn tell(
        &self,
        connection: &Connection,
        place: &mut Place,
        outlet: &mut Outlet,
    ) -> Result<(), DirectoryError> {
        let attributes: Vec<&str> = self.attributes.iter().map(String::as_str).collect();
        let query = self.query("(objectClass=*)", &attributes);
        loop {
            let cookie = place.cookie(&self.root).unwrap_or_default().to_owned();
            let heard = |entry: Entry| tell(&entry, &self.id_attribute, outlet);
            let (more, reached) = self.ask(connection, &query, &cookie, heard).await?;
            place.advance(&self.root, &reached);
            if !more {
                return Ok(());
            }
            sleep(FEED_DIRSYNC_SPACING).await;
        }
    }

    /// Asks once; whether there is more, and the cookie to ask for that with.
    async fn ask(
        &self,
        connection: &Connection,
        query: &Query<'_>,
        cookie: &[u8],
        mut heard: impl FnMut(Entry),
    ) -> Result<(bool, Vec<u8>), DirectoryError> {
        let control = RawControl {
            ctype: DIRSYNC.to_owned(),
            crit: true,
            val: Some(request(self.sees_all, FEED_DIRSYNC_BYTES_MAX, cookie)),
        };
        let mut search = connection.live_search(query, vec![control]).await?;
        loop {
            match search.next().await? {
                Answer::Entry(entry, _) => heard(entry),
                Answer::Intermediate(..) => {}
                Answer::Done(done) if done.code == code::SUCCESS => {
                    let reached = done.controls.value(DIRSYNC).and_then(reached);
                    let malformed = || search.malformed("an answer without the DirSync control");
                    let reached = reached.ok_or_else(malformed)?;
                    return Ok((reached.more, reached.cookie.to_owned()));
                }
                Answer::Done(done) => return Err(search.ended(ASKED, &done)),
            }
        }
    }

    fn query<'a>(&'a self, filter: &'a str, attributes: &'a [&'a str]) -> Query<'a> {
        Query {
            base: &self.root,
            scope: Scope::Subtree,
            filter,
            attributes,
            matched_values: None,
        }
    }
}

/// Tells that an entry has changed, or that it is gone.
pub(super) fn tell(entry: &Entry, id_attribute: &str, outlet: &mut Outlet) {
    let dn = entry.dn.clone();
    let deleted = entry.texts("isDeleted").any(|text| text == "TRUE");
    // What is deleted keeps no other identifier, and a group has none, perhaps.
    let id = entry.id(id_attribute).or_else(|_| entry.id("objectGUID"));
    match id {
        Ok(id) if !deleted => outlet.change(Notice::Changed { id, dn }),
        Ok(id) if id_attribute.eq_ignore_ascii_case("objectGUID") => {
            outlet.change(Notice::Gone { id, dn: Some(dn) });
        }
        Ok(_) => outlet.gap("an entry is gone that has another identifier"),
        Err(error) => outlet.gap(format!("an entry cannot be identified: {error}")),
    }
}

/// The attributes whose changes matter; those in filters decide who is a person or a group.
fn attributes(config: &Ldap) -> Vec<String> {
    let filters = [&config.login_filter, &config.group_class_filter];
    let named = [
        &config.name_attribute,
        &config.id_attribute,
        &config.group_name_attribute,
        &config.group_member_attribute,
    ];
    let all = (ATTRIBUTES.into_iter())
        .chain(named.into_iter().map(String::as_str))
        .chain(filters.into_iter().flat_map(|filter| in_filter(filter)));
    let mut attributes: Vec<String> = Vec::new();
    for name in all {
        if !attributes.iter().any(|it| it.eq_ignore_ascii_case(name)) {
            attributes.push(name.to_owned());
        }
    }
    attributes
}

/// The attributes that a filter names (RFC 4515): what stands between `(` and an operator.
fn in_filter(filter: &str) -> impl Iterator<Item = &str> {
    filter.split('(').filter_map(|part| {
        let (name, _) = part.split_once(['=', '<', '>', '~', ':'])?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (!name.is_empty() && name.chars().all(is_name)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::tests::ldap_config;

    #[test]
    fn attributes_of_filters_count_and_none_counts_twice() {
        let config = Ldap {
            login_filter: "(&(objectCategory=person)(|(MEMBEROF:1.2.3:=x)(title~=a(b\\28))\
                           (sAMAccountName={login}))"
                .to_owned(),
            name_attribute: "samaccountname".to_owned(),
            id_attribute: "objectGUID".to_owned(),
            ..ldap_config()
        };
        let asked = attributes(&config);
        for name in ["objectCategory", "MEMBEROF", "title", "cn", "objectClass"] {
            assert!(asked.iter().any(|it| it == name), "{name}: {asked:?}");
        }
        assert_eq!(asked.len(), ATTRIBUTES.len() + 5, "{asked:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_filter_panics(filter: String) {
            in_filter(&filter).count();
        }
    }
}
