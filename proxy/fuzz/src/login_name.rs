//! What a person typed as their name.

use postern_core::limits::LOGIN_NAME_BYTES_MAX;
use postern_core::login_name::{LoginName, LoginNameError, escape_dn, escape_filter};
use postern_core::mapping::person_role;

use crate::pieces::Pieces;

/// A login name and the domains that are accepted, a line each.
pub fn login_name(data: &[u8]) {
    let mut input = Pieces(data);
    let text = input.text();
    let domains = input.texts(4);
    check_escapes(&text);
    let Ok(login) = LoginName::parse(&text, &domains) else {
        return;
    };
    let name = login.name();
    assert!(text.len() <= LOGIN_NAME_BYTES_MAX && login.text() == text);
    assert!(!name.is_empty() && name.trim() == name && !name.chars().any(char::is_control));
    assert!(!name.contains(['@', '\\']));
    assert!(
        login
            .domain()
            .is_none_or(|it| domains.iter().any(|listed| listed == it))
    );
    // The name alone is the same name, and so it is with each domain, in both forms.
    let spelled = |text: &str| LoginName::parse(text, &domains);
    let alone = spelled(name);
    assert!(
        alone
            .as_ref()
            .is_ok_and(|it| it.name() == name && it.domain().is_none())
    );
    for domain in &domains {
        for text in [format!("{name}@{domain}"), format!("{domain}\\{name}")] {
            match spelled(&text) {
                Ok(other) => assert_eq!(other.name(), name),
                Err(error) => assert_ne!(error, LoginNameError::Empty, "{text:?}"),
            }
        }
    }
    // Spellings of one name do not begin to count anew.
    let key = login.person_key();
    for text in [
        name.to_ascii_uppercase(),
        name.to_ascii_lowercase(),
        name.replace(' ', "  "),
    ] {
        let other = spelled(&text).map(|it| it.person_key());
        assert!(
            other.is_err() || other == Ok(key.clone()),
            "{text:?} beside {name:?}"
        );
    }
    check_role(name);
}

/// Folding a role name twice is folding it once.
fn check_role(name: &str) {
    if let Ok(role) = person_role(name, true) {
        assert_eq!(person_role(role.as_str(), true), Ok(role));
    }
    if let Ok(role) = person_role(name, false) {
        assert_eq!(role.as_str(), name);
    }
}

/// What is escaped has none of the characters that mean something, and is the same text when it
/// is read as the RFCs read it.
fn check_escapes(text: &str) {
    let filter = escape_filter(text);
    assert!(!filter.contains(['*', '(', ')', '\0', '\n']));
    assert_eq!(
        read_filter(&filter),
        Some(text.as_bytes().to_vec()),
        "{filter}"
    );
    let dn = escape_dn(text);
    assert_eq!(read_dn(&dn), Some(text.as_bytes().to_vec()), "{dn}");
}

/// RFC 4515, 3: a backslash and two hexadecimal digits are an octet.
fn read_filter(escaped: &str) -> Option<Vec<u8>> {
    let mut bytes = escaped.bytes();
    let mut read = Vec::new();
    while let Some(byte) = bytes.next() {
        read.push(match byte {
            b'\\' => hex(bytes.next()?, bytes.next()?)?,
            byte => byte,
        });
    }
    Some(read)
}

/// RFC 4514, 2.4 and 3: a backslash stands before a character that means something or before two
/// hexadecimal digits; none of those stands alone.
fn read_dn(escaped: &str) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    let mut bytes = escaped.bytes();
    if escaped.starts_with(['#', ' ']) {
        return None;
    }
    let mut ends_with_space = false;
    while let Some(byte) = bytes.next() {
        ends_with_space = byte == b' ';
        read.push(match byte {
            b'\\' => match bytes.next()? {
                special
                @ (b' ' | b'#' | b'=' | b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\') => special,
                high => hex(high, bytes.next()?)?,
            },
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | 0 => return None,
            byte => byte,
        });
    }
    (!ends_with_space).then_some(read)
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digits = [high, low];
    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()
}
