//! What a directory entry says: attributes, identifiers, and whether the account may log in.

mod state;

use ldap3::asn1::StructureTag;
use postern_core::directory::identifier::{entry_id, sid_with_rid};
use postern_core::login_name::escape_dn;
use postern_core::principal::EntryId;

pub(super) use self::state::{ACTIVE_DIRECTORY_STATE, OPENLDAP_STATE};
use super::error::DirectoryError;

/// An entry that a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// The distinguished name, in the server's spelling.
    pub(super) dn: String,
    attributes: Vec<(String, Vec<Vec<u8>>)>,
}

impl Entry {
    /// Reads a SearchResultEntry (RFC 4511, 4.5.2); `None` when it is malformed.
    pub(super) fn decode(tag: StructureTag) -> Option<Self> {
        let mut parts = tag.expect_constructed()?.into_iter();
        let dn = String::from_utf8(parts.next()?.expect_primitive()?).ok()?;
        let mut attributes = Vec::new();
        for attribute in parts.next()?.expect_constructed()? {
            let mut parts = attribute.expect_constructed()?.into_iter();
            let name = String::from_utf8(parts.next()?.expect_primitive()?).ok()?;
            let values = parts.next()?.expect_constructed()?.into_iter();
            let values: Option<Vec<_>> = values.map(StructureTag::expect_primitive).collect();
            attributes.push((name, values?));
        }
        Some(Self { dn, attributes })
    }

    /// The values of an attribute; none when it is absent or not readable.
    pub(super) fn values(&self, attribute: &str) -> &[Vec<u8>] {
        let found = self
            .attributes
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(attribute));
        found.map_or(&[], |(_, values)| values.as_slice())
    }

    /// The values of an attribute that are text.
    pub(super) fn texts(&self, attribute: &str) -> impl Iterator<Item = &str> {
        self.values(attribute)
            .iter()
            .filter_map(|v| std::str::from_utf8(v).ok())
    }

    /// The first value of an attribute, as text.
    fn text(&self, attribute: &str) -> Option<&str> {
        self.texts(attribute).next()
    }

    /// The first value of an attribute, as a number.
    fn number<T: std::str::FromStr>(&self, attribute: &str) -> Option<T> {
        self.text(attribute)?.parse().ok()
    }

    /// The values of a large attribute that came in part, with the place to go on from: Active
    /// Directory answers `member;range=0-1499` when there are more than that
    /// (<https://learn.microsoft.com/en-us/windows/win32/adsi/attribute-range-retrieval>).
    pub(super) fn range(&self, attribute: &str) -> Option<(&[Vec<u8>], Option<usize>)> {
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
    pub(super) fn name(&self, attribute: &str) -> Option<&str> {
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
    /// [`DirectoryError::Attribute`] when it is missing, which means that the service principal
    /// may not read it.
    pub(super) fn id(&self, attribute: &str) -> Result<EntryId, DirectoryError> {
        let failed = |why| {
            let (dn, attribute) = (self.dn.clone(), attribute.to_owned());
            Err(DirectoryError::Attribute { dn, attribute, why })
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
    pub(super) fn primary_group_sid(&self) -> Option<Vec<u8>> {
        let sid = self.values("objectSid").first()?;
        sid_with_rid(sid, self.number("primaryGroupID")?)
    }
}

#[cfg(test)]
impl Entry {
    /// An entry as a search would find it.
    pub(super) fn for_test(dn: &str, attributes: &[(&str, &[&str])]) -> Self {
        let attributes = attributes
            .iter()
            .map(|(n, vs)| {
                (
                    (*n).to_owned(),
                    vs.iter().map(|v| v.as_bytes().to_vec()).collect(),
                )
            })
            .collect();
        Self {
            dn: dn.to_owned(),
            attributes,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn an_entry_uuid_is_lower_cased_and_a_missing_one_says_what_to_do() {
        let entry = Entry::for_test("uid=a", &[("entryUUID", &["0F8FAD5B-D9CB"])]);
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
        let one = Entry::for_test("uid=alice,dc=x", &[("uid", &["Alice"])]);
        assert_eq!(one.name("uid"), Some("Alice"));
        let several = Entry::for_test("UID=alice,dc=x", &[("uid", &["asmith", "alice"])]);
        assert_eq!(several.name("uid"), Some("alice"));
        let unclear = Entry::for_test("cn=Alice,dc=x", &[("uid", &["asmith", "alice"])]);
        assert_eq!(unclear.name("uid"), None);
        assert_eq!(Entry::for_test("cn=a", &[("uid", &[""])]).name("uid"), None);
        assert_eq!(Entry::for_test("cn=a", &[]).name("uid"), None);
    }

    #[test]
    fn a_range_of_values_says_where_to_go_on() {
        let part = Entry::for_test("cn=g", &[("member;range=0-1499", &["a", "b"])]);
        assert_eq!(part.range("Member").unwrap().1, Some(1_500));
        let last = Entry::for_test("cn=g", &[("member;range=1500-*", &["c"])]);
        assert_eq!(last.range("member").unwrap().1, None);
        assert!(
            Entry::for_test("cn=g", &[("member", &["a"])])
                .range("member")
                .is_none()
        );
    }
}
