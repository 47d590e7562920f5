//! The value by which a server tells a search in pages (RFC 2696).

use super::ber::{INTEGER, OCTET_STRING, SEQUENCE, take};

/// The control.
pub const PAGED_RESULTS: &str = "1.2.840.113556.1.4.319";

/// The cookie for the next page, empty after the last; `None` when the value is malformed.
pub fn next_page(mut value: &[u8]) -> Option<&[u8]> {
    let mut content = take(&mut value, SEQUENCE)?;
    // An estimate of how many entries there are, which nobody here asks for.
    take(&mut content, INTEGER)?;
    take(&mut content, OCTET_STRING)
}

#[cfg(test)]
mod tests {
    use super::super::ber::element;
    use super::*;

    #[test]
    fn a_page_ends_with_the_cookie_of_the_next_one() {
        let value = b"\x30\x08\x02\x01\x00\x04\x03abc";
        assert_eq!(next_page(value), Some(&b"abc"[..]));
        let last = b"\x30\x05\x02\x01\x00\x04\x00";
        assert_eq!(next_page(last), Some(&b""[..]));
        for end in 0..value.len() {
            let part = value.get(..end).unwrap_or_default();
            assert_eq!(next_page(part), None, "{end}");
        }
    }

    #[test]
    fn a_cookie_of_nested_elements_does_not_overflow_the_stack() {
        // Each level has a header of 6 bytes and all that is inside it.
        let levels = 60_000_u32;
        let nested: Vec<u8> = (0..levels)
            .rev()
            .flat_map(|inside| [&[SEQUENCE, 0x84][..], &(inside * 6).to_be_bytes()].concat())
            .collect();
        assert_eq!(next_page(&nested), None);
        let size = element(INTEGER, &[0]);
        let value = element(SEQUENCE, &[size, nested].concat());
        assert_eq!(next_page(&value), None);
    }
    proptest::proptest! {
        #[test]
        fn no_bytes_from_a_server_panic(bytes: Vec<u8>) {
            next_page(&bytes);
            next_page(&element(SEQUENCE, &bytes));
        }
    }
}
