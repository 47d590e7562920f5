//! What a backend says during a login, and the role store besides.

use postern_core::limits::{
    BACKEND_LOGIN_MESSAGE_BYTES_MAX, CANCEL_KEY_BYTES_MAX, CANCEL_KEY_BYTES_MIN,
    ERROR_TEXT_BYTES_MAX,
};
use postern_core::sqlstate::Sqlstate;
use postern_core::wire::backend::{
    BackendMessage, ErrorFields, ErrorFieldsRef, Frame, Severity, authentication_ok,
    authentication_sasl, authentication_sasl_continue, authentication_sasl_final, backend_key_data,
    error_response, negotiate_protocol_version, parse, split,
};

use crate::role_store::role_store;

/// A stream of messages.
pub fn backend(data: &[u8]) {
    role_store(data);
    let mut rest = data;
    while let Ok(Some(frame)) = split(rest) {
        let Some((whole, after)) = rest.split_at_checked(frame.total_len) else {
            panic!("a message of {} bytes of {}", frame.total_len, rest.len());
        };
        assert!(whole.len() <= BACKEND_LOGIN_MESSAGE_BYTES_MAX);
        // It is there with its last byte, and not before.
        let short = whole.split_last().map(|(_, short)| split(short));
        assert_eq!(short, Some(Ok(None)));
        assert_eq!(split(whole), Ok(Some(frame)));
        check(frame, whole);
        rest = after;
    }
    if let Ok(None) = split(rest) {
        assert!(rest.len() < BACKEND_LOGIN_MESSAGE_BYTES_MAX);
    }
}

fn check(frame: Frame<'_>, whole: &[u8]) {
    let Ok(message) = parse(frame) else {
        return;
    };
    // What Postern can say itself, it says with the same bytes.
    let said = match message {
        BackendMessage::AuthenticationOk => authentication_ok(),
        BackendMessage::SaslContinue(data) => authentication_sasl_continue(data),
        BackendMessage::SaslFinal(data) => authentication_sasl_final(data),
        BackendMessage::Sasl(mechanisms) => {
            let names: Vec<_> = mechanisms.iter().map(std::str::from_utf8).collect();
            assert!(!names.is_empty());
            let Ok(names) = names.into_iter().collect::<Result<Vec<_>, _>>() else {
                return;
            };
            assert!(names.iter().all(|name| mechanisms.contains(name)));
            authentication_sasl(&names)
        }
        BackendMessage::BackendKeyData { pid, key } => {
            let key = key.expose();
            assert!((CANCEL_KEY_BYTES_MIN..=CANCEL_KEY_BYTES_MAX).contains(&key.len()));
            assert!(!format!("{message:?}").contains("expose"));
            backend_key_data(pid, key)
        }
        BackendMessage::NegotiateProtocolVersion { minor, options } => {
            let names: Result<Vec<_>, _> = options.iter().map(std::str::from_utf8).collect();
            // The page's form has no major version, so that only the other one is written again.
            let is_whole = frame.body.starts_with(&[0, 3]);
            match names {
                Ok(names) if is_whole => negotiate_protocol_version(minor, &names),
                Ok(_) | Err(_) => return,
            }
        }
        BackendMessage::Error(fields) | BackendMessage::Notice(fields) => {
            return check_fields(fields);
        }
        BackendMessage::ReadyForQuery(status) => return assert!(b"ITE".contains(&status)),
        BackendMessage::CleartextPassword
        | BackendMessage::Md5 { .. }
        | BackendMessage::AuthenticationOther(_)
        | BackendMessage::ParameterStatus { .. }
        | BackendMessage::Other(_) => return,
    };
    assert_eq!(said, whole);
}

/// An error can be told on: one message, no field more than was meant, no text too long.
fn check_fields(fields: ErrorFieldsRef<'_>) {
    if let Some(code) = fields.sqlstate() {
        assert!(code.len() == 5 && code.bytes().all(|it| it.is_ascii_alphanumeric()));
    }
    assert!(
        fields
            .iter()
            .all(|(code, text)| code != 0 && !text.contains(&0))
    );
    let message = fields.message();
    let severity = fields.severity();
    let told = error_response(&ErrorFields {
        severity: Severity::Fatal,
        sqlstate: Sqlstate::PROTOCOL_VIOLATION,
        message: &message,
        detail: Some(&severity),
        hint: None,
    });
    let Ok(Some(frame)) = split(&told) else {
        panic!("{told:?} is not one message");
    };
    let Ok(BackendMessage::Error(again)) = parse(frame) else {
        panic!("{told:?} is not an error");
    };
    assert_eq!(frame.total_len, told.len());
    let codes: Vec<u8> = again.iter().map(|(code, _)| code).collect();
    assert_eq!(codes, b"SVCMD");
    assert!(
        again
            .iter()
            .all(|(_, text)| text.len() <= ERROR_TEXT_BYTES_MAX)
    );
    assert!(message.starts_with(again.message().as_ref()));
}
