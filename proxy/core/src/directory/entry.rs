//! An entry that a search found: its attributes, its name and its identifiers.

use thiserror::Error;

use super::identifier::{entry_id, sid_with_rid};
use crate::login_name::escape_dn;
use crate::principal::EntryId;

/// An entry that a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// The distinguished name, in the server's spelling.
    pub dn: String,
    attributes: Vec<(String, Vec<Vec<u8>>)>,
}

/// An attribute that an identity needs is missing or unusable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{dn}: the attribute {attribute} {why}")]
pub struct AttributeError {
    /// The entry.
    pub dn: String,
    /// The attribute.
    pub attribute: String,
    /// What is wrong with it, and what to do.
    pub why: &'static str,
}

impl Entry {
    /// An entry without attributes.
    pub fn new(dn: impl Into<String>) -> Self {
        let (dn, attributes) = (dn.into(), Vec::new());
        Self { dn, attributes }
    }

    /// The entry with one attribute more, in the server's spelling.
    #[must_use]
    pub fn with<V: Into<Vec<u8>>>(
        mut self,
        attribute: impl Into<String>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        let values = values.into_iter().map(V::into).collect();
        self.attributes.push((attribute.into(), values));
        self
    }

    /// The values of an attribute; none when it is absent or not readable.
    pub fn values(&self, attribute: &str) -> &[Vec<u8>] {
        let found = self
            .attributes
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(attribute));
        found.map_or(&[], |(_, values)| values.as_slice())
    }

    /// The values of an attribute that are text.
    pub fn texts(&self, attribute: &str) -> impl Iterator<Item = &str> {
        self.values(attribute)
            .iter()
            .filter_map(|v| std::str::from_utf8(v).ok())
    }

    /// The first value of an attribute, as text.
    pub(super) fn text(&self, attribute: &str) -> Option<&str> {
        self.texts(attribute).next()
    }

    /// The first value of an attribute, as a number.
    pub(super) fn number<T: std::str::FromStr>(&self, attribute: &str) -> Option<T> {
        self.text(attribute)?.parse().ok()
    }

    /// The values of a large attribute that came in part, with the place to go on from: Active
    /// Directory answers `member;range=0-1499` when there are more than that
    /// (<https://learn.microsoft.com/en-us/windows/win32/adsi/attribute-range-retrieval>).
    pub fn range(&self, attribute: &str) -> Option<(&[Vec<u8>], Option<usize>)> {
        self.attributes.iter().find_map(|(name, values)| {
            let (base, range) = name.split_once(";range=")?;
            let (_, last) = range.split_once('-')?;
            if !base.eq_ignore_ascii_case(attribute) {
                return None;
            }
            let next = match last {
                "*" => None,
                number => Some(number.parse::<usize>().ok()?.checked_add(1)?),
            };
            Some((values.as_slice(), next))
        })
    }

    /// The one value of a naming attribute.
    ///
    /// An attribute may have several values, in no order; then the one that is the entry's own
    /// relative name counts, and without such a one none does: which of them would come first is
    /// chance, and a name must not depend on chance or on what the client typed.
    pub fn name(&self, attribute: &str) -> Option<&str> {
        let mut values = self.texts(attribute);
        let first = values.next()?;
        let name = match values.next() {
            None => first,
            Some(_) => self.texts(attribute).find(|value| {
                let rdn = format!("{attribute}={},", escape_dn(value));
                self.dn
                    .get(..rdn.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(&rdn))
            })?,
        };
        (!name.is_empty()).then_some(name)
    }

    /// The stable identifier in `attribute`.
    ///
    /// # Errors
    ///
    /// When it is missing, which means that the service principal may not read it, or is none.
    pub fn id(&self, attribute: &str) -> Result<EntryId, AttributeError> {
        let failed = |why| {
            let (dn, attribute) = (self.dn.clone(), attribute.to_owned());
            Err(AttributeError { dn, attribute, why })
        };
        let Some(value) = self.values(attribute).first() else {
            return failed("is missing: the service principal must be allowed to read it");
        };
        match entry_id(attribute, value) {
            Some(id) => Ok(id),
            None => failed("is no identifier: directory.id_attribute names the wrong one"),
        }
    }

    /// The security identifier of the primary group, which neither `member` nor `memberOf` show:
    /// the person's own `objectSid` with the last part replaced by `primaryGroupID`.
    pub fn primary_group_sid(&self) -> Option<Vec<u8>> {
        let sid = self.values("objectSid").first()?;
        sid_with_rid(sid, self.number("primaryGroupID")?)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn an_entry_uuid_is_lower_cased_and_a_missing_one_says_what_to_do() {
        let entry = Entry::new("uid=a").with("entryUUID", ["0F8FAD5B-D9CB"]);
        assert_eq!(
            entry.id("entryUUID").unwrap().as_str(),
            "uuid:0f8fad5b-d9cb"
        );
        let error = entry.id("objectGUID").unwrap_err().to_string();
        assert!(
            error.contains("service principal must be allowed to read"),
            "{error}"
        );
    }

    #[test]
    fn of_several_names_only_the_entrys_own_counts() {
        let one = Entry::new("uid=alice,dc=x").with("uid", ["Alice"]);
        assert_eq!(one.name("uid"), Some("Alice"));
        let several = Entry::new("UID=alice,dc=x").with("uid", ["asmith", "alice"]);
        assert_eq!(several.name("uid"), Some("alice"));
        let unclear = Entry::new("cn=Alice,dc=x").with("uid", ["asmith", "alice"]);
        assert_eq!(unclear.name("uid"), None);
        assert_eq!(Entry::new("cn=a").with("uid", [""]).name("uid"), None);
        assert_eq!(Entry::new("cn=a").name("uid"), None);
    }

    #[test]
    fn a_range_of_values_says_where_to_go_on() {
        let part = Entry::new("cn=g").with("member;range=0-1499", ["a", "b"]);
        assert_eq!(part.range("Member").unwrap().1, Some(1_500));
        let last = Entry::new("cn=g").with("member;range=1500-*", ["c"]);
        assert_eq!(last.range("member").unwrap().1, None);
        assert!(
            Entry::new("cn=g")
                .with("member", ["a"])
                .range("member")
                .is_none()
        );
    }
}
