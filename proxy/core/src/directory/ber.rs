//! The little of BER that the library does not read or write: the values of controls, and the
//! answer to StartTLS (X.690; RFC 4511, 5.1).
//!
//! The library reads elements of any depth by recursion; here nothing recurs, so that no value
//! from a server can overflow the stack.

/// The tag of a truth value.
pub const BOOLEAN: u8 = 0x01;
/// The tag of a whole number.
pub const INTEGER: u8 = 0x02;
/// The tag of bytes.
pub const OCTET_STRING: u8 = 0x04;
/// The tag of one of several choices, by number.
pub const ENUMERATED: u8 = 0x0a;
/// The tag of elements in order.
pub const SEQUENCE: u8 = 0x30;
/// The tag of elements in no order.
pub const SET: u8 = 0x31;

/// The tag and the lengths of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its tag.
    pub tag: u8,
    /// The length of the header itself, in bytes.
    pub bytes: usize,
    /// The length of what follows it, in bytes.
    pub content: usize,
}

/// A length that is not known beforehand, which LDAP forbids, or has more digits than anybody
/// needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a length that is none")]
pub struct NoLength;

/// Reads the header of an element; none as long as it is not whole.
///
/// # Errors
///
/// [`NoLength`].
pub fn header(bytes: &[u8]) -> Result<Option<Header>, NoLength> {
    let [tag, first, rest @ ..] = bytes else {
        return Ok(None);
    };
    let digits = match first {
        0..=0x7f => 0,
        0x81..=0x84 => usize::from(first & 0x7f),
        _ => return Err(NoLength),
    };
    let Some(long) = rest.get(..digits) else {
        return Ok(None);
    };
    let content = match digits {
        0 => usize::from(*first),
        _ => long
            .iter()
            .fold(0, |length, digit| length << 8 | usize::from(*digit)),
    };
    Ok(Some(Header {
        tag: *tag,
        bytes: 2 + digits,
        content,
    }))
}

/// Takes one element with this tag; its content.
pub fn take<'a>(bytes: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let mut rest = *bytes;
    let (found, content) = take_any(&mut rest)?;
    *bytes = rest;
    (found == tag).then_some(content)
}

/// Takes one element if it has this tag; its content. Nothing is taken otherwise.
pub fn take_if<'a>(bytes: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    (bytes.first() == Some(&tag))
        .then(|| take(bytes, tag))
        .flatten()
}

/// Takes one element, whatever it is: its tag and content.
pub fn take_any<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
        rest = after;
        digits.iter().try_fold(0_usize, |n, d| {
            n.checked_mul(256)?.checked_add(usize::from(*d))
        })?
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some((tag, content))
}

/// The content of a whole number, as far as it fits.
pub fn number(content: &[u8]) -> Option<i64> {
    let (&first, rest) = content.split_first()?;
    if rest.len() > 7 {
        return None;
    }
    let start = i64::from(i8::from_be_bytes([first]));
    Some(rest.iter().fold(start, |n, d| n << 8 | i64::from(*d)))
}

/// An element with this tag and content.
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length @ ..0x80) => out.push(length),
        Ok(_) | Err(_) => {
            // Eight digits always fit and are allowed, but the shortest form is what peers expect.
            let digits = content.len().to_be_bytes();
            let zeros = digits.iter().take_while(|d| **d == 0).count();
            let digits = digits.get(zeros..).unwrap_or_default();
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or_default());
            out.extend_from_slice(digits);
        }
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for length in [0, 1, 127, 128, 255, 256, 65_536] {
            let content = vec![7; length];
            let bytes = element(OCTET_STRING, &content);
            let mut rest = bytes.as_slice();
            assert_eq!(take(&mut rest, OCTET_STRING), Some(content.as_slice()));
            assert_eq!(rest, b"");
        }
    }

    #[test]
    fn an_element_that_is_not_whole_is_none() {
        let whole = element(OCTET_STRING, &[7; 300]);
        for end in 0..whole.len() {
            let mut part = whole.get(..end).unwrap_or_default();
            assert_eq!(take_any(&mut part), None, "{end}");
        }
        for odd in [
            &b"\x04\x80"[..],
            b"\x04\x89\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            let mut odd_rest = odd;
            assert!(take_any(&mut odd_rest).is_none_or(|(_, content)| content.is_empty()));
        }
    }

    #[test]
    fn an_optional_element_stays_when_it_is_another() {
        let bytes = element(BOOLEAN, &[255]);
        let mut rest = bytes.as_slice();
        assert_eq!(take_if(&mut rest, OCTET_STRING), None);
        assert_eq!(take_if(&mut rest, BOOLEAN), Some(&[255][..]));
    }

    #[test]
    fn numbers_have_a_sign() {
        assert_eq!(number(&[0]), Some(0));
        assert_eq!(number(&[0xff]), Some(-1));
        assert_eq!(number(&[0x10, 0x00]), Some(4_096));
        assert_eq!(number(&[0x80, 0, 0, 0]), Some(-2_147_483_648));
        assert_eq!(number(&[]), None);
        assert_eq!(number(&[1; 9]), None);
    }
}
