//! What a client sends while it is asked who it is.

use postern_core::limits::{PASSWORD_BYTES_MAX, SASL_MESSAGE_BYTES_MAX};
use postern_core::wire::backend;
use postern_core::wire::frontend::{Header, password, sasl_initial_response};

/// A message from its tag on.
pub fn frontend(data: &[u8]) {
    let Some((header, body)) = data.split_first_chunk::<{ Header::BYTES }>() else {
        return;
    };
    let (as_password, as_sasl) = (Header::password(header), Header::sasl(header));
    for (read, limit) in [
        (as_password, PASSWORD_BYTES_MAX),
        (as_sasl, SASL_MESSAGE_BYTES_MAX),
    ] {
        if let Ok(read) = read {
            assert!(read.body_bytes <= limit);
        }
    }
    // The two have one tag, and differ only in how long they may be.
    if let Ok(read) = as_sasl {
        assert_eq!(as_password, Ok(read));
    }
    if let Ok(found) = password(body) {
        assert!(!found.is_empty() && !found.contains(&0));
        assert!(found.len() < PASSWORD_BYTES_MAX);
        let sent = backend::password_message(found);
        let (_, again) = sent.expose().split_at(Header::BYTES);
        assert_eq!(again, body);
    }
    if let Ok(found) = sasl_initial_response(body) {
        assert!(!found.mechanism.contains(&0));
        if let (Ok(name), Some(data)) = (std::str::from_utf8(found.mechanism), found.data) {
            let sent = backend::sasl_initial_response(name, data);
            assert_eq!(sent.get(Header::BYTES..), Some(body));
        }
    }
}
