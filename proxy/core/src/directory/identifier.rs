//! Identifiers of entries, as a directory keeps them and as they are written.

use crate::login_name::escape_filter;
use crate::principal::EntryId;

/// The canonical text of an identifier; `None` when the value cannot be one.
pub fn entry_id(attribute: &str, value: &[u8]) -> Option<EntryId> {
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
pub fn id_filter(id: &EntryId) -> Option<String> {
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

/// A binary SID with its last sub-authority replaced.
///
/// Layout: revision 1, the count of sub-authorities, six bytes of authority, and then four
/// little-endian bytes for each (MS-DTYP, 2.4.2.2).
pub fn sid_with_rid(sid: &[u8], rid: u32) -> Option<Vec<u8>> {
    let (&revision, &count) = (sid.first()?, sid.get(1)?);
    if revision != 1 || count == 0 || sid.len() != 8 + 4 * usize::from(count) {
        return None;
    }
    let mut out = sid.get(..sid.len() - 4)?.to_vec();
    out.extend_from_slice(&rid.to_le_bytes());
    Some(out)
}

/// The text form of a binary SID, `S-1-5-21-...`.
pub fn sid_text(sid: &[u8]) -> Option<String> {
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
        let id = entry_id("ObjectGUID", &bytes).unwrap();
        assert_eq!(id.as_str(), "guid:0f8fd50e-d9cb-469f-a165-70867728950e");
    }

    #[test]
    fn an_identifier_is_some_text_without_control_characters() {
        let id = |attribute: &str, value: &[u8]| {
            let id = entry_id(attribute, value)?;
            Some(id.as_str().to_owned())
        };
        let uuid = id("entryUUID", b"0F8FAD5B");
        assert_eq!(uuid.as_deref(), Some("uuid:0f8fad5b"));
        let other = id("employeeNumber", b"A42");
        assert_eq!(other.as_deref(), Some("employeenumber:A42"));
        for broken in [&b""[..], b"a\nb", b"\xff"] {
            assert_eq!(id("employeeNumber", broken), None, "{broken:?}");
        }
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
        // Of another revision, and without a part that could be replaced.
        let other = [&[2], &sid[1..]].concat();
        assert_eq!(sid_with_rid(&other, 513), None);
        assert_eq!(sid_with_rid(&[1, 0, 0, 0, 0, 0, 0, 5], 513), None);
        assert_eq!(sid_text(&sid[..23]), None);
        assert_eq!(sid_text(&[1]), None);
    }
}
