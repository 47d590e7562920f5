//! What a directory says: messages, elements, the values that tell of changes and of pages, and
//! identifiers.

use postern_core::directory::ber::{
    INTEGER, OCTET_STRING, SEQUENCE, element, number, take, take_any,
};
use postern_core::directory::dirsync::{reached, request};
use postern_core::directory::identifier::{entry_id, id_filter, sid_text, sid_with_rid};
use postern_core::directory::paging::next_page;
use postern_core::directory::sync_message::{self, InfoKind, sync_info, sync_state};
use postern_core::principal::EntryId;

use crate::ldap::ldap;

/// The attributes that identifiers are read from.
const ATTRIBUTES: [&str; 4] = ["objectGUID", "entryUUID", "employeeNumber", "nsUniqueId"];
/// The relative identifier that is put in place of another.
const RID: u32 = 513;

/// Messages or a value from a server.
pub fn directory(data: &[u8]) {
    ldap(data);
    check_elements(data);
    check_changes(data);
    check_pages(data);
    for attribute in ATTRIBUTES {
        check_identifier(attribute, data);
    }
    check_sid(data);
}

/// Elements are within what came, one behind the other, and are written as they are read.
fn check_elements(data: &[u8]) {
    let mut rest = data;
    while let Some((tag, content)) = take_any(&mut rest) {
        let written = element(tag, content);
        let mut again = written.as_slice();
        assert_eq!(take(&mut again, tag), Some(content));
        assert!(again.is_empty());
        if tag == INTEGER
            && let Some(read) = number(content)
        {
            let start = content.len().saturating_sub(8);
            assert!(start == 0 && content.len() <= 8);
            let mut bytes = [if read < 0 { 0xff } else { 0 }; 8];
            let place = 8 - content.len();
            for (byte, digit) in bytes.iter_mut().skip(place).zip(content) {
                *byte = *digit;
            }
            assert_eq!(i64::from_be_bytes(bytes), read);
        }
    }
    // What is not taken stays.
    assert!(data.ends_with(rest));
}

/// The values of RFC 4533 and of DirSync.
fn check_changes(data: &[u8]) {
    if let Some(state) = sync_state(data) {
        check_uuid(&state.id);
        assert!(state.cookie.is_none_or(|it| it.len() < data.len()));
    }
    if let Some(info) = sync_info(data) {
        assert!(info.cookie.is_none_or(|it| it.len() < data.len()));
        if let InfoKind::Deleted(ids) = info.kind {
            // Sixteen bytes, a tag and a length each: no more memory than a few times what came.
            assert!(ids.len() <= data.len() / 18);
            ids.iter().for_each(check_uuid);
        }
    }
    if let Some(found) = reached(data) {
        // What is asked for with the cookie has it, whole.
        let asked = request(true, 1_024, found.cookie);
        let again = element(OCTET_STRING, found.cookie);
        assert!(asked.ends_with(&again));
    }
    assert!(sync_message::request(Some(data)).ends_with(&element(OCTET_STRING, data)));
}

/// The value of RFC 2696: the cookie is what the server has put there, whole.
fn check_pages(data: &[u8]) {
    if let Some(cookie) = next_page(data) {
        assert!(cookie.len() + 6 <= data.len());
    }
    let content = [element(INTEGER, &[0]), element(OCTET_STRING, data)].concat();
    let value = element(SEQUENCE, &content);
    assert_eq!(next_page(&value), Some(data));
    let short = value.split_last().map(|(_, short)| next_page(short));
    assert_eq!(short, Some(None));
}

/// An identifier of 16 bytes is found by its own filter.
fn check_uuid(id: &EntryId) {
    assert_eq!(id.as_str().len(), "uuid:".len() + 36);
    let filter = format!("(entryUUID={})", id.as_str().trim_start_matches("uuid:"));
    assert_eq!(id_filter(id), Some(filter));
}

/// Whatever a value is, the filter that looks for it is one comparison with that value.
fn check_identifier(attribute: &str, value: &[u8]) {
    let Some(id) = entry_id(attribute, value) else {
        return;
    };
    let Some(filter) = id_filter(&id) else {
        panic!("{id} cannot be looked for");
    };
    let begin = format!("({attribute}=");
    let start = filter.get(..begin.len()).unwrap_or_default();
    assert!(start.eq_ignore_ascii_case(&begin), "{filter}");
    let looked_for = filter
        .get(begin.len()..)
        .and_then(|it| it.strip_suffix(')'));
    let looked_for = looked_for.unwrap_or_default();
    assert!(!looked_for.contains(['(', ')', '*', '\0']), "{filter}");
    let read = read_filter(looked_for);
    let is_same = match attribute {
        // Compared by the directory without case, and kept in lower case.
        "entryUUID" => read.is_some_and(|it| it.eq_ignore_ascii_case(value)),
        _ => read.as_deref() == Some(value),
    };
    assert!(is_same, "{filter} for {value:?}");
}

/// RFC 4515, 3: a backslash and two hexadecimal digits are an octet.
fn read_filter(escaped: &str) -> Option<Vec<u8>> {
    let mut bytes = escaped.bytes();
    let mut read = Vec::new();
    while let Some(byte) = bytes.next() {
        read.push(match byte {
            b'\\' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    Some(read)
}

/// A security identifier keeps all but its last part.
fn check_sid(sid: &[u8]) {
    let Some(other) = sid_with_rid(sid, RID) else {
        return;
    };
    assert_eq!(other.len(), sid.len());
    assert!(other.ends_with(&RID.to_le_bytes()));
    let (Some(text), Some(other)) = (sid_text(sid), sid_text(&other)) else {
        panic!("{sid:?} has no text");
    };
    let parent = |text: &str| text.rsplit_once('-').map(|(parent, _)| parent.to_owned());
    assert_eq!(parent(&text), parent(&other));
    assert!(other.ends_with("-513") && text.starts_with("S-1-"));
}
