//! What a directory entry says: attributes, identifiers, and whether the account may log in.

mod state;

use ldap3::asn1::StructureTag;
use postern_core::login_name::{escape_dn, escape_filter};
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

/// The canonical text of an identifier; `None` when the value cannot be one.
fn entry_id(attribute: &str, value: &[u8]) -> Option<EntryId> {
    let kind = attribute.to_ascii_lowercase();
    if kind == "objectguid" {
        return Some(EntryId::new(format!("guid:{}", guid(value)?)));
    }
    let text = std::str::from_utf8(value).ok()?;
    if text.is_empty() || text.chars().any(char::is_control) {
        return None;
    }
    Some(EntryId::new(match kind.as_str() {
        "entryuuid" => format!("uuid:{}", text.to_ascii_lowercase()),
        kind => format!("{kind}:{text}"),
    }))
}

/// The filter that finds the entry with an identifier; `None` when it is of no directory.
pub(super) fn id_filter(id: &EntryId) -> Option<String> {
    let (kind, value) = id.as_str().split_once(':')?;
    match kind {
        "guid" => {
            let number = u128::from_str_radix(&value.replace('-', ""), 16).ok()?;
            let [a0, a1, a2, a3, b0, b1, c0, c1, rest @ ..] = number.to_be_bytes();
            // As in `guid`, the first three fields are turned around.
            let escaped: String = [a3, a2, a1, a0, b1, b0, c1, c0]
                .iter()
                .chain(&rest)
                .map(|byte| format!("\\{byte:02x}"))
                .collect();
            Some(format!("(objectGUID={escaped})"))
        }
        "uuid" => Some(format!("(entryUUID={})", escape_filter(value))),
        "local" => None,
        attribute => Some(format!("({attribute}={})", escape_filter(value))),
    }
}

/// The text form of a GUID. Its first three fields are little-endian on the wire, the rest is in
/// order (<https://learn.microsoft.com/en-us/openspecs/windows_protocols/ms-dtyp/>, 2.3.4.2).
fn guid(bytes: &[u8]) -> Option<String> {
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    let [a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, e @ ..] = bytes;
    let first = u32::from_le_bytes([a0, a1, a2, a3]);
    let second = u16::from_le_bytes([b0, b1]);
    let third = u16::from_le_bytes([c0, c1]);
    let node: String = e.iter().map(|b| format!("{b:02x}")).collect();
    Some(format!(
        "{first:08x}-{second:04x}-{third:04x}-{d0:02x}{d1:02x}-{node}"
    ))
}

/// A binary SID with its last sub-authority replaced.
///
/// Layout: revision 1, the count of sub-authorities, six bytes of authority, and then four
/// little-endian bytes for each (MS-DTYP, 2.4.2.2).
fn sid_with_rid(sid: &[u8], rid: u32) -> Option<Vec<u8>> {
    let (&revision, &count) = (sid.first()?, sid.get(1)?);
    if revision != 1 || count == 0 || sid.len() != 8 + 4 * usize::from(count) {
        return None;
    }
    let mut out = sid.get(..sid.len() - 4)?.to_vec();
    out.extend_from_slice(&rid.to_le_bytes());
    Some(out)
}

/// The text form of a binary SID, `S-1-5-21-...`.
pub(super) fn sid_text(sid: &[u8]) -> Option<String> {
    let (head, rest) = sid.split_at_checked(8)?;
    let &[revision, count, a, b, c, d, e, f] = head else {
        return None;
    };
    if rest.len() != 4 * usize::from(count) {
        return None;
    }
    let authority = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    let mut text = format!("S-{revision}-{authority}");
    for part in rest.as_chunks::<4>().0 {
        text.push_str(&format!("-{}", u32::from_le_bytes(*part)));
    }
    Some(text)
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
    fn a_guid_is_read_with_its_mixed_byte_order() {
        let bytes = [
            0x0e, 0xd5, 0x8f, 0x0f, 0xcb, 0xd9, 0x9f, 0x46, 0xa1, 0x65, 0x70, 0x86, 0x77, 0x28,
            0x95, 0x0e,
        ];
        assert_eq!(
            guid(&bytes).unwrap(),
            "0f8fd50e-d9cb-469f-a165-70867728950e"
        );
        assert_eq!(guid(&bytes[..15]), None);
        let entry = Entry {
            dn: "CN=a".to_owned(),
            attributes: vec![("ObjectGUID".to_owned(), vec![bytes.to_vec()])],
        };
        let id = entry.id("objectGUID").unwrap();
        assert_eq!(id.as_str(), "guid:0f8fd50e-d9cb-469f-a165-70867728950e");
    }

    #[test]
    fn an_identifier_is_found_by_its_own_attribute() {
        let filter = |id: &str| id_filter(&EntryId::new(id));
        let guid = filter("guid:0f8fd50e-d9cb-469f-a165-70867728950e");
        let bytes = "\\0e\\d5\\8f\\0f\\cb\\d9\\9f\\46\\a1\\65\\70\\86\\77\\28\\95\\0e";
        assert_eq!(guid, Some(format!("(objectGUID={bytes})")));
        let uuid = filter("uuid:0f8fad5b)(uid=*");
        assert_eq!(
            uuid.as_deref(),
            Some("(entryUUID=0f8fad5b\\29\\28uid=\\2a)")
        );
        let other = filter("employeenumber:42");
        assert_eq!(other.as_deref(), Some("(employeenumber=42)"));
        assert_eq!(filter("guid:odd"), None);
        assert_eq!(filter("local:1"), None);
        assert_eq!(filter("odd"), None);
    }

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
    fn a_sid_is_read_and_its_last_part_replaced() {
        // S-1-5-21-1-2-1104
        let sid = [
            1, 4, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0x50, 0x04, 0, 0,
        ];
        assert_eq!(sid_text(&sid).unwrap(), "S-1-5-21-1-2-1104");
        let primary = sid_with_rid(&sid, 513).unwrap();
        assert_eq!(sid_text(&primary).unwrap(), "S-1-5-21-1-2-513");
        for broken in [&sid[..23], &sid[..8], &sid[..1], &[]] {
            assert_eq!(sid_with_rid(broken, 513), None);
        }
        assert_eq!(sid_text(&sid[..23]), None);
        assert_eq!(sid_text(&[1]), None);
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
