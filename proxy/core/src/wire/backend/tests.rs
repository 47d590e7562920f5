//! Tests of [`super`].

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use proptest::prelude::*;

use super::*;
use crate::sqlstate::Sqlstate;
use crate::wire::put_message;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, Some(tag), |out| out.extend_from_slice(body));
    out
}

fn read(tag: u8, body: &[u8]) -> Result<BackendMessage<'_>, BackendError> {
    parse(Frame {
        tag,
        body,
        total_len: HEADER_BYTES + body.len(),
    })
}

/// What PostgreSQL sends to a SCRAM client, from the mechanisms to the end of the login.
fn a_login() -> Vec<u8> {
    [
        message(b'R', b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"),
        message(b'R', b"\0\0\0\x0br=abc,s=AAAA,i=4096"),
        message(b'R', b"\0\0\0\x0cv=AAAA"),
        message(b'R', b"\0\0\0\0"),
        message(b'S', b"server_version\x0017.2\0"),
        message(b'K', b"\0\0\x04\xd2\x01\x02\x03\x04"),
        message(b'Z', b"I"),
    ]
    .concat()
}

/// Everything that `bytes` holds, printed, and the bytes that are left.
fn drain(bytes: &mut Vec<u8>, seen: &mut Vec<String>) {
    while let Some(frame) = split(bytes).unwrap() {
        seen.push(format!("{:?}", parse(frame).unwrap()));
        let total_len = frame.total_len;
        bytes.drain(..total_len);
    }
}

#[test]
fn a_login_reads_the_same_at_every_split_and_byte_by_byte() {
    let whole = a_login();
    let mut expected = Vec::new();
    drain(&mut whole.clone(), &mut expected);
    assert_eq!(
        expected,
        [
            "Sasl(Mechanisms([\"SCRAM-SHA-256-PLUS\", \"SCRAM-SHA-256\"]))",
            "SaslContinue([114, 61, 97, 98, 99, 44, 115, 61, 65, 65, 65, 65, 44, 105, 61, 52, 48, \
             57, 54])",
            "SaslFinal([118, 61, 65, 65, 65, 65])",
            "AuthenticationOk",
            "ParameterStatus { name: [115, 101, 114, 118, 101, 114, 95, 118, 101, 114, 115, 105, \
             111, 110], value: [49, 55, 46, 50] }",
            "BackendKeyData { pid: 1234, key: 4 bytes }",
            "ReadyForQuery(73)",
        ]
    );
    for at in 0..=whole.len() {
        let (mut buffer, mut seen) = (whole[..at].to_vec(), Vec::new());
        drain(&mut buffer, &mut seen);
        buffer.extend_from_slice(&whole[at..]);
        drain(&mut buffer, &mut seen);
        assert_eq!((seen, buffer), (expected.clone(), vec![]), "split at {at}");
    }
    let (mut buffer, mut seen) = (Vec::new(), Vec::new());
    for byte in whole {
        buffer.push(byte);
        drain(&mut buffer, &mut seen);
    }
    assert_eq!((seen, buffer), (expected, vec![]));
}

#[test]
fn a_length_is_refused_before_the_body_is_awaited() {
    let longest = u32::try_from(BACKEND_LOGIN_MESSAGE_BYTES_MAX - 1).unwrap();
    for length in [0, 3, longest + 1, i32::MAX as u32, 1 << 31, u32::MAX] {
        let header = [&b"R"[..], &length.to_be_bytes()].concat();
        assert_eq!(split(&header), Err(BackendError::Length(length)));
    }
    for length in [5, longest] {
        let header = [&b"R"[..], &length.to_be_bytes()].concat();
        assert_eq!(split(&header), Ok(None));
    }
    // Not PostgreSQL at all.
    assert_eq!(
        split(b"HTTP/1.1 400"),
        Err(BackendError::Length(u32::from_be_bytes(*b"TTP/")))
    );
    let largest = message(
        b'N',
        &vec![0; BACKEND_LOGIN_MESSAGE_BYTES_MAX - HEADER_BYTES],
    );
    assert_eq!(
        split(&largest).unwrap().unwrap().total_len,
        BACKEND_LOGIN_MESSAGE_BYTES_MAX
    );
}

#[test]
fn every_message_with_bytes_missing_or_left_over_is_refused() {
    for (tag, body) in [
        (b'R', &b"\0\0\0\0"[..]),
        (b'R', b"\0\0\0\x03"),
        (b'R', b"\0\0\0\x05salt"),
        (b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"),
        (b'S', b"a\0b\0"),
        (b'Z', b"I"),
        (b'E', b"SFATAL\0C28P01\0Mno\0\0"),
        (b'N', b"\0"),
        (b'v', b"\0\x03\0\0\0\0\0\x01_pq_.a\0"),
    ] {
        assert!(read(tag, body).is_ok());
        for end in 0..body.len() {
            assert_eq!(read(tag, &body[..end]), Err(BackendError::Truncated));
        }
        let longer = [body, b"x"].concat();
        assert_eq!(read(tag, &longer), Err(BackendError::TrailingBytes));
    }
}

#[test]
fn authentication_requests_are_told_apart() {
    assert_eq!(
        read(b'R', b"\0\0\0\x03"),
        Ok(BackendMessage::CleartextPassword)
    );
    assert_eq!(
        read(b'R', b"\0\0\0\x05salt"),
        Ok(BackendMessage::Md5 { salt: *b"salt" })
    );
    assert_eq!(
        read(b'R', b"\0\0\0\x07"),
        Ok(BackendMessage::AuthenticationOther(7))
    );
    assert_eq!(
        read(b'R', b"\0\0\0\x08data"),
        Ok(BackendMessage::AuthenticationOther(8))
    );
    assert_eq!(read(b'R', b"\0\0\0\x0a\0"), Err(BackendError::NoMechanisms));
    match read(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0") {
        Ok(BackendMessage::Sasl(offered)) => {
            assert!(offered.contains("SCRAM-SHA-256"));
            assert!(!offered.contains("SCRAM-SHA-256-PLUS"));
            assert!(!offered.contains(""));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cancel_key_has_4_to_256_bytes() {
    for length in [4, 5, 32, 256] {
        let body = [&b"\0\0\0\x07"[..], &vec![9; length]].concat();
        match read(b'K', &body) {
            Ok(BackendMessage::BackendKeyData { pid: 7, key }) => {
                assert_eq!(key.expose(), vec![9; length]);
            }
            other => panic!("{other:?}"),
        }
    }
    for length in [0, 3, 257] {
        let body = [&b"\0\0\0\x07"[..], &vec![9; length]].concat();
        assert_eq!(read(b'K', &body), Err(BackendError::CancelKeyLength));
    }
}

#[test]
fn a_transaction_status_is_one_of_three() {
    for status in 0..=u8::MAX {
        let expected = match status {
            b'I' | b'T' | b'E' => Ok(BackendMessage::ReadyForQuery(status)),
            _ => Err(BackendError::TransactionStatus),
        };
        assert_eq!(read(b'Z', &[status]), expected);
    }
}

#[test]
fn an_error_reads_with_or_without_its_fields() {
    let fields = |body| match read(b'E', body) {
        Ok(BackendMessage::Error(fields)) => fields,
        other => panic!("{other:?}"),
    };
    let whole = fields(b"SFATALE\0VFATAL\0C28P01\0Mn\xe9\0R\0\0");
    assert_eq!(whole.severity(), "FATAL");
    assert_eq!(whole.sqlstate(), Some("28P01"));
    assert_eq!(whole.message(), "n\u{fffd}");
    assert_eq!(whole.get(b'R'), Some(&b""[..]));
    assert_eq!(whole.get(b'H'), None);
    assert_eq!(whole.iter().count(), 5);

    let empty = fields(b"\0");
    assert_eq!(
        (empty.severity().as_ref(), empty.message().as_ref()),
        ("", "")
    );
    for body in [
        &b"\0"[..],
        b"C\0\0",
        b"C28P0\0\0",
        b"C28P012\0\0",
        b"C28p01\0\0",
        b"C28\xff01\0\0",
    ] {
        assert_eq!(fields(body).sqlstate(), None);
    }
}

#[test]
fn what_postern_reports_is_read_as_it_was_meant() {
    let sent = error_response(&ErrorFields {
        severity: Severity::Fatal,
        sqlstate: Sqlstate::INVALID_PASSWORD,
        message: "password authentication failed for user \"testuser\"",
        detail: Some("d"),
        hint: Some("h"),
    });
    match parse(split(&sent).unwrap().unwrap()) {
        Ok(BackendMessage::Error(fields)) => {
            assert_eq!(fields.sqlstate(), Some("28P01"));
            assert_eq!(fields.get(b'D'), Some(&b"d"[..]));
            assert_eq!(fields.get(b'H'), Some(&b"h"[..]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_negotiation_lists_exactly_the_options_that_it_counts() {
    let names = |body| {
        let message = read(b'v', body)?;
        let BackendMessage::NegotiateProtocolVersion { minor, options } = message else {
            panic!("{message:?}");
        };
        Ok((
            minor,
            options.iter().map(<[u8]>::to_vec).collect::<Vec<_>>(),
        ))
    };
    let sent = negotiate_protocol_version(2, &["_pq_.a", "_pq_.b"]);
    let body = split(&sent).unwrap().unwrap().body;
    assert_eq!(
        names(body),
        Ok((2, vec![b"_pq_.a".to_vec(), b"_pq_.b".to_vec()]))
    );
    assert_eq!(names(b"\0\0\0\0\0\0\0\0"), Ok((0, vec![])));
    assert_eq!(
        names(b"\0\x03\0\0\0\0\0\x02a\0"),
        Err(BackendError::Truncated)
    );
    assert_eq!(
        names(b"\0\x03\0\0\xff\xff\xff\xffa\0"),
        Err(BackendError::Truncated)
    );
    assert_eq!(
        names(b"\0\x03\0\0\0\0\0\x01a\0b\0"),
        Err(BackendError::TrailingBytes)
    );
    assert_eq!(
        names(b"\0\x02\0\0\0\0\0\0"),
        Err(BackendError::ProtocolVersion)
    );
}

#[test]
fn a_message_that_has_no_place_in_a_login_is_named_by_its_tag() {
    assert_eq!(read(b'D', b"anything"), Ok(BackendMessage::Other(b'D')));
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(Some(frame)) = split(&bytes) {
            let _ = format!("{:?}", parse(frame));
        }
        for tag in b"RKEvNSZD" {
            let _ = format!("{:?}", read(*tag, &bytes));
        }
        for kind in 0..13 {
            let _ = format!("{:?}", read(b'R', &[&[0, 0, 0, kind], &bytes[..]].concat()));
        }
    }

    #[test]
    fn any_stream_splits_the_same_whole_and_byte_by_byte(
        messages in proptest::collection::vec(
            (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..8),
    ) {
        let whole: Vec<u8> = messages.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
        let (mut buffer, mut seen) = (Vec::new(), Vec::new());
        for byte in whole {
            buffer.push(byte);
            if let Some(frame) = split(&buffer).unwrap() {
                prop_assert_eq!(frame.total_len, buffer.len());
                seen.push((frame.tag, frame.body.to_vec()));
                buffer.clear();
            }
        }
        prop_assert_eq!(seen, messages);
    }
}
