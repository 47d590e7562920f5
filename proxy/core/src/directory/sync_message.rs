//! The values of RFC 4533: what is asked, and what the server says of its content.

use super::ber::{
    BOOLEAN, ENUMERATED, OCTET_STRING, SEQUENCE, SET, element, number, take, take_any, take_if,
};
use crate::principal::EntryId;

/// The Sync Request control (RFC 4533, 2.2).
pub const SYNC_REQUEST: &str = "1.3.6.1.4.1.4203.1.9.1.1";
/// The Sync State control, of an entry (2.3).
pub const SYNC_STATE: &str = "1.3.6.1.4.1.4203.1.9.1.2";
/// The Sync Info message (2.5).
pub const SYNC_INFO: &str = "1.3.6.1.4.1.4203.1.9.1.4";

/// `refreshAndPersist` (2.2).
const REFRESH_AND_PERSIST: u8 = 3;
/// The choices of Sync Info: context tags, of which only the first is primitive.
const NEW_COOKIE: u8 = 0x80;
const REFRESH_DELETE: u8 = 0xa1;
const REFRESH_PRESENT: u8 = 0xa2;
const ID_SET: u8 = 0xa3;

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has not changed.
    Present,
    /// It was added, or came into view.
    Add,
    /// It has changed.
    Modify,
    /// It is gone, or out of view.
    Delete,
}

/// The value of a Sync State control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncState<'a> {
    /// What became of it.
    pub state: State,
    /// Of which entry.
    pub id: EntryId,
    /// The place that is reached with it, if it says so.
    pub cookie: Option<&'a [u8]>,
}

/// The value of a Sync Info message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncInfo<'a> {
    /// The place that is reached with it, if it says so.
    pub cookie: Option<&'a [u8]>,
    /// What it says.
    pub kind: InfoKind,
}

/// What a Sync Info message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InfoKind {
    /// Nothing but the cookie.
    NewCookie,
    /// The part of the refresh that names what is gone ends; so does the refresh, if `done`.
    RefreshDelete {
        /// The refresh has ended.
        done: bool,
    },
    /// The part of the refresh that names what is left ends: what was not named is gone.
    RefreshPresent {
        /// The refresh has ended.
        done: bool,
    },
    /// These are gone.
    Deleted(Vec<EntryId>),
    /// These are left as they were.
    Present,
}

/// The value of a Sync Request that goes on after the refresh.
///
/// `reloadHint` is left false: a server that has forgotten the cookie's place should rather say so
/// than send everything.
pub fn request(cookie: Option<&[u8]>) -> Vec<u8> {
    let mut content = element(ENUMERATED, &[REFRESH_AND_PERSIST]);
    content.extend(cookie.iter().flat_map(|c| element(OCTET_STRING, c)));
    element(SEQUENCE, &content)
}

/// Reads the value of a Sync State control; `None` when it is malformed.
pub fn sync_state(mut value: &[u8]) -> Option<SyncState<'_>> {
    let mut content = take(&mut value, SEQUENCE)?;
    let state = match number(take(&mut content, ENUMERATED)?)? {
        0 => State::Present,
        1 => State::Add,
        2 => State::Modify,
        3 => State::Delete,
        _ => return None,
    };
    Some(SyncState {
        state,
        id: entry_id(take(&mut content, OCTET_STRING)?)?,
        cookie: take_if(&mut content, OCTET_STRING),
    })
}

/// Reads the value of a Sync Info message; `None` when it is malformed.
pub fn sync_info(mut value: &[u8]) -> Option<SyncInfo<'_>> {
    let (tag, mut content) = take_any(&mut value)?;
    if tag == NEW_COOKIE {
        let (cookie, kind) = (Some(content), InfoKind::NewCookie);
        return Some(SyncInfo { cookie, kind });
    }
    let cookie = take_if(&mut content, OCTET_STRING);
    let flag = take_if(&mut content, BOOLEAN).map(|flag| flag.iter().any(|byte| *byte != 0));
    // The defaults of RFC 4533, 2.5.
    let done = flag.unwrap_or(true);
    let kind = match tag {
        REFRESH_DELETE => InfoKind::RefreshDelete { done },
        REFRESH_PRESENT => InfoKind::RefreshPresent { done },
        ID_SET => {
            let mut set = take(&mut content, SET)?;
            let mut ids = Vec::new();
            while !set.is_empty() {
                ids.push(entry_id(take(&mut set, OCTET_STRING)?)?);
            }
            match flag.unwrap_or(false) {
                true => InfoKind::Deleted(ids),
                false => InfoKind::Present,
            }
        }
        _ => return None,
    };
    Some(SyncInfo { cookie, kind })
}

/// The identifier of 16 bytes in the form that the attribute `entryUUID` gives (RFC 4530).
fn entry_id(bytes: &[u8]) -> Option<EntryId> {
    let number = u128::from_be_bytes(bytes.try_into().ok()?);
    let part = |shift: u32, digits: u32| number >> shift & ((1 << (4 * digits)) - 1);
    Some(EntryId::new(format!(
        "uuid:{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        part(96, 8),
        part(80, 4),
        part(64, 4),
        part(48, 4),
        part(0, 12)
    )))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const UUID: [u8; 16] = [
        0x63, 0xfd, 0x2b, 0x40, 0x7a, 0xa9, 0x10, 0x41, 0x86, 0x93, 0x2f, 0xb9, 0x78, 0x68, 0x16,
        0xd4,
    ];
    const TEXT: &str = "uuid:63fd2b40-7aa9-1041-8693-2fb9786816d4";

    fn uuid() -> Vec<u8> {
        element(OCTET_STRING, &UUID)
    }

    #[test]
    fn a_request_has_the_mode_and_the_cookie() {
        assert_eq!(request(None), b"\x30\x03\x0a\x01\x03");
        assert_eq!(request(Some(b"csn")), b"\x30\x08\x0a\x01\x03\x04\x03csn");
    }

    #[test]
    fn a_state_names_the_entry_and_what_became_of_it() {
        for (number, state) in [
            (0, State::Present),
            (1, State::Add),
            (2, State::Modify),
            (3, State::Delete),
        ] {
            let plain = [element(ENUMERATED, &[number]), uuid()].concat();
            let with_cookie = [plain.clone(), element(OCTET_STRING, b"c")].concat();
            let value = element(SEQUENCE, &plain);
            let read = sync_state(&value).unwrap();
            assert_eq!(
                (read.state, read.id.as_str(), read.cookie),
                (state, TEXT, None)
            );
            let value = element(SEQUENCE, &with_cookie);
            assert_eq!(sync_state(&value).unwrap().cookie, Some(&b"c"[..]));
        }
        let odd = [element(ENUMERATED, &[4]), uuid()].concat();
        assert_eq!(sync_state(&element(SEQUENCE, &odd)), None);
        let short = [element(ENUMERATED, &[1]), element(OCTET_STRING, &UUID[1..])].concat();
        assert_eq!(sync_state(&element(SEQUENCE, &short)), None);
    }

    #[test]
    fn an_info_has_the_defaults_of_the_standard() {
        let kind = |tag, content: &[u8]| sync_info(&element(tag, content)).map(|info| info.kind);
        let no = element(BOOLEAN, &[0]);
        assert_eq!(kind(NEW_COOKIE, b"c"), Some(InfoKind::NewCookie));
        let done = |done| Some(InfoKind::RefreshDelete { done });
        assert_eq!(kind(REFRESH_DELETE, b""), done(true));
        assert_eq!(kind(REFRESH_DELETE, &no), done(false));
        let present = Some(InfoKind::RefreshPresent { done: false });
        assert_eq!(kind(REFRESH_PRESENT, &no), present);
        let set = element(SET, &[uuid(), uuid()].concat());
        assert_eq!(kind(ID_SET, &set), Some(InfoKind::Present));
        let deletes = [element(BOOLEAN, &[255]), set].concat();
        let ids = vec![EntryId::new(TEXT); 2];
        assert_eq!(kind(ID_SET, &deletes), Some(InfoKind::Deleted(ids)));
        assert_eq!(kind(ID_SET, b""), None);
        assert_eq!(kind(0xa4, b""), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_from_a_server_panic(bytes: Vec<u8>) {
            sync_state(&bytes);
            sync_info(&bytes);
            sync_state(&element(SEQUENCE, &bytes));
            sync_info(&element(ID_SET, &element(SET, &bytes)));
        }
    }
}
