//! Entries as the LDAP library hands them over.

use ldap3::asn1::StructureTag;
use postern_core::directory::entry::Entry;

/// Reads a SearchResultEntry (RFC 4511, 4.5.2); `None` when it is malformed.
pub(super) fn decode_entry(tag: StructureTag) -> Option<Entry> {
    let mut parts = tag.expect_constructed()?.into_iter();
    let mut entry = Entry::new(String::from_utf8(parts.next()?.expect_primitive()?).ok()?);
    for attribute in parts.next()?.expect_constructed()? {
        let mut parts = attribute.expect_constructed()?.into_iter();
        let name = String::from_utf8(parts.next()?.expect_primitive()?).ok()?;
        let values = parts.next()?.expect_constructed()?.into_iter();
        let values: Option<Vec<_>> = values.map(StructureTag::expect_primitive).collect();
        entry = entry.with(name, values?);
    }
    Some(entry)
}
