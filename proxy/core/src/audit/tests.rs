//! Tests of the log as a whole: what is sealed is found again, and nothing else is.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not so"
)]

mod files;

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::limits::{AUDIT_LINE_BYTES_MAX, AUDIT_LIST_ITEMS_MAX, AUDIT_TEXT_BYTES_MAX};
use crate::secret::Secret;

fn key(byte: u8) -> Secret<[u8; 32]> {
    Secret::new([byte; 32])
}

fn refused(detail: &str) -> Record {
    Record::Refused {
        client: "192.0.2.7:40000".to_owned(),
        reason: RefusedReason::WrongPassword,
        detail: detail.to_owned(),
    }
}

/// One record of each kind, with text in every field.
fn one_of_each() -> Vec<Record> {
    let text = || "a \"b\" \\ \n\u{1b}[31m é".to_owned();
    let mut records = vec![
        Record::Started {
            version: text(),
            config_digest: None,
        },
        Record::Attempted {
            client: text(),
            user: text(),
            database: text(),
            tls: Some(text()),
        },
        refused(&text()),
        Record::Authenticated {
            principal: text(),
            dn: text(),
            name: text(),
            source: Source::Directory,
            groups: 3,
            roles: 2,
        },
        Record::RolesChanged {
            role: text(),
            steps: vec![text(), text()],
        },
        Record::SecretForced {
            role: text(),
            backend: text(),
        },
        Record::Opened {
            role: text(),
            database: text(),
            backend: text(),
            backend_pid: Some(u32::MAX),
            application_name: Some(text()),
        },
        Record::Closed {
            reason: ClosedReason::ClientClosed,
            bytes_to_client: u64::MAX,
            bytes_to_backend: 0,
            duration_ms: 1,
        },
        Record::Denied {
            refused_at: text(),
            dropped: true,
            hook: text(),
            reason: text(),
            source: text(),
            destination: text(),
            interface: Some(text()),
            pid: Some(u32::MAX),
            command: Some(text()),
            cgroup: None,
        },
        Record::DenialsUnreported {
            suppressed: u64::MAX,
            lost: 1,
        },
        Record::Recovered {
            dropped_bytes: 5,
            lost_records: 0,
        },
        Record::FileEnded { file: text() },
        Record::FileBegun { after: text() },
        Record::Stopped,
    ];
    records.extend(losses(text));
    records
}

/// What becomes of access between logins.
fn losses(text: impl Fn() -> String) -> Vec<Record> {
    vec![
        Record::AccessLost {
            principal: text(),
            name: text(),
            reason: LostReason::LostGroup,
            detail: text(),
            heard: text(),
            detected_at: text(),
            sessions: 3,
        },
        Record::AccessEnded {
            principal: text(),
            role: Some(text()),
            backends_left: 0,
            took_ms: 41,
        },
        Record::OrderEnded {
            by: text(),
            from: text(),
            order: text(),
            outcome: OrderOutcome::Denied,
            detail: text(),
        },
        Record::Ordered {
            by: text(),
            from: text(),
            order: text(),
            subject: text(),
            detail: text(),
        },
    ]
}

fn log(records: &[Record]) -> Vec<String> {
    let mut chain = Chain::new(&key(1));
    (0..)
        .zip(records)
        .map(|(at, record)| chain.seal(at, "s-1", record))
        .collect()
}

fn verify(bytes: &[u8]) -> Result<Summary, Broken> {
    let mut verifier = Verifier::new(&key(1));
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        verifier.line(line)?;
    }
    Ok(verifier.end_file())
}

fn why(lines: &[&str]) -> Why {
    verify(lines.concat().as_bytes()).unwrap_err().why
}

#[test]
fn labels_are_unique_and_plain() {
    let refused = RefusedReason::ALL.iter().map(|reason| reason.label());
    let closed = ClosedReason::ALL.iter().map(|reason| reason.label());
    let lost = LostReason::ALL.iter().map(|reason| reason.label());
    for labels in [
        refused.collect::<Vec<_>>(),
        closed.collect(),
        lost.collect(),
    ] {
        let unique: HashSet<_> = labels.iter().collect();
        assert_eq!(unique.len(), labels.len());
        for label in labels {
            assert!(
                label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{label}"
            );
        }
    }
}

#[test]
fn a_line_has_its_fields_in_one_order() {
    let mut chain = Chain::new(&key(1));
    let line = chain.seal(1_709_251_199_001, "s-1", &refused("no such \"user\""));
    let prev = Chain::new(&key(1)).position().prev.clone();
    let hash = &chain.position().prev;
    assert_eq!(
        line,
        format!(
            "{{\"seq\":1,\"at\":\"2024-02-29T23:59:59.001Z\",\"session\":\"s-1\",\
             \"event\":\"refused\",\"client\":\"192.0.2.7:40000\",\"reason\":\"wrong_password\",\
             \"detail\":\"no such \\\"user\\\"\",\"prev\":\"{prev}\",\"hash\":\"{hash}\"}}\n"
        )
    );
}

#[test]
fn every_record_is_json_whose_event_is_its_name() {
    let records = one_of_each();
    for (line, record) in log(&records).iter().zip(&records) {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(json["event"], record.event());
        assert_eq!(json["session"], "s-1");
    }
}

#[test]
fn a_whole_log_verifies_and_is_summed_up() {
    let lines = log(&one_of_each());
    let summary = verify(lines.concat().as_bytes()).unwrap();
    assert_eq!((summary.records, summary.seq), (18, Some((1, 18))));
    assert!(lines[17].contains(&summary.last_hash.unwrap()));
    let empty = verify(b"").unwrap();
    assert_eq!((empty.records, empty.seq, empty.last_hash), (0, None, None));
}

#[test]
fn a_chain_goes_on_after_a_restart_and_after_a_rewind() {
    let mut lines = log(&one_of_each());
    let mut chain = Chain::resume(&key(1), lines[17].as_bytes()).unwrap();
    let before = chain.position().clone();
    chain.seal(0, "s-2", &refused("never written"));
    chain.rewind(before);
    lines.push(chain.seal(0, "s-2", &refused("written")));
    assert_eq!(
        verify(lines.concat().as_bytes()).unwrap().seq,
        Some((1, 19))
    );

    let resume = |key_byte, line: &str| {
        Chain::resume(&key(key_byte), line.as_bytes())
            .err()
            .map(|error| error.0)
    };
    assert_eq!(resume(2, &lines[17]), Some(Why::Edited));
    assert_eq!(resume(1, lines[17].trim_end()), Some(Why::Unfinished));
    assert_eq!(resume(1, "{}\n"), Some(Why::NotARecord));
    assert_eq!(resume(1, "hello\n"), Some(Why::NotJson));
    assert_eq!(resume(1, ""), Some(Why::Unfinished));
}

#[test]
fn each_kind_of_tampering_is_named() {
    let lines = log(&one_of_each());
    let [a, b, c, d] = [&lines[0], &lines[1], &lines[2], &lines[3]].map(String::as_str);
    assert_eq!(
        why(&[b, c]),
        Why::Missing {
            expected: 1,
            found: 2
        }
    );
    assert_eq!(
        why(&[a, c, d]),
        Why::Missing {
            expected: 2,
            found: 3
        }
    );
    assert_eq!(
        why(&[a, b, b]),
        Why::Reordered {
            expected: 3,
            found: 2
        }
    );
    assert_eq!(
        why(&[a, b, c, a]),
        Why::Reordered {
            expected: 4,
            found: 1
        }
    );
    assert_eq!(why(&[a, &b.replace("s-1", "s-9")]), Why::Edited);
    assert_eq!(why(&[&a.replace("s-1", "s-9")]), Why::Edited);
    assert_eq!(why(&[a, "{\"seq\":2}\n"]), Why::NotARecord);
    assert_eq!(why(&[a, "\n"]), Why::NotJson);
    assert_eq!(why(&[a, b.trim_end()]), Why::Unfinished);
    assert_eq!(why(&[a, &b.replace("\"}\n", "\"}\r\n")]), Why::NotARecord);
    assert_eq!(
        why(&[a, &b.replace("{\"seq\"", "{ \"seq\"")]),
        Why::NotARecord
    );

    let mut other = Chain::new(&key(2));
    assert_eq!(
        why(&[&other.seal(0, "s-1", &Record::Stopped)]),
        Why::WrongKey
    );
    assert_eq!(
        why(&[a, &other.seal(0, "s-1", &Record::Stopped)]),
        Why::Edited
    );

    // A line with the right number and key, from another log of the same key.
    let mut other = Chain::new(&key(1));
    other.seal(77, "s-7", &Record::Stopped);
    assert_eq!(
        why(&[a, &other.seal(0, "s-1", &Record::Stopped)]),
        Why::Unchained
    );
}

#[test]
fn any_changed_byte_anywhere_is_found() {
    let bytes = log(&one_of_each()).concat().into_bytes();
    for at in 0..bytes.len() {
        let mut edited = bytes.clone();
        for bit in 0..8 {
            edited[at] = bytes[at] ^ (1 << bit);
            assert!(verify(&edited).is_err(), "byte {at}, bit {bit}");
        }
        for byte in [b'\n', b'"', b' ', b'0', 0] {
            edited[at] = byte;
            assert!(
                byte == bytes[at] || verify(&edited).is_err(),
                "byte {at} as {byte}"
            );
        }
    }
}

#[test]
fn any_removed_or_added_byte_is_found() {
    let bytes = log(&one_of_each()).concat().into_bytes();
    for at in 0..=bytes.len() {
        for byte in [b'\n', b' ', b'1', 0] {
            let mut added = bytes.clone();
            added.insert(at, byte);
            assert!(verify(&added).is_err(), "byte {byte} added at {at}");
        }
        if at < bytes.len() {
            let mut removed = bytes.clone();
            removed.remove(at);
            assert!(verify(&removed).is_err(), "byte removed at {at}");
        }
    }
}

#[test]
fn a_long_text_is_cut_with_a_mark_that_cannot_be_forged() {
    let detail = |text: &str| {
        let line = log(&[refused(text)]).remove(0);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        json["detail"].as_str().unwrap().to_owned()
    };
    let whole = "x".repeat(AUDIT_TEXT_BYTES_MAX);
    assert_eq!(detail(&whole), whole);
    let cut = detail(&"é".repeat(AUDIT_TEXT_BYTES_MAX));
    assert!(cut.ends_with("é...[cut, 2048 bytes in all]") && cut.len() > AUDIT_TEXT_BYTES_MAX);
    // Three bytes each: the limit falls inside a character.
    let cut = detail(&"€".repeat(AUDIT_TEXT_BYTES_MAX));
    assert!(cut.starts_with(&"€".repeat(341)) && cut.len() > AUDIT_TEXT_BYTES_MAX);
    let fake = "x...[cut, 9999 bytes in all]";
    assert!(detail(fake) == fake && fake.len() <= AUDIT_TEXT_BYTES_MAX);
}

#[test]
fn the_longest_line_is_within_its_limit() {
    let worst = || "\0".repeat(AUDIT_TEXT_BYTES_MAX + 1);
    let steps = vec![worst(); AUDIT_LIST_ITEMS_MAX + 44];
    let mut chain = Chain::new(&key(1));
    chain.rewind(Position {
        seq: u64::MAX - 1,
        prev: "0".repeat(64),
    });
    let line = chain.seal(
        0,
        &worst(),
        &Record::RolesChanged {
            role: worst(),
            steps,
        },
    );
    assert!(line.contains("[and 44 more]"));
    assert!(line.len() <= AUDIT_LINE_BYTES_MAX, "{} bytes", line.len());
    for record in one_of_each() {
        assert!(chain.seal(0, &worst(), &record).len() <= AUDIT_LINE_BYTES_MAX);
    }
}

/// Texts that try to be something else: newlines, quotes, escapes, terminal codes, bidirectional
/// controls, NUL, line separators, characters that need surrogates, and lines of the log itself.
fn hostile() -> impl Strategy<Value = String> {
    let forged = log(&[Record::Stopped]).remove(0);
    let fragment = prop_oneof![
        any::<String>(),
        any::<char>().prop_map(String::from),
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("\",\"event\":\"opened".to_owned()),
        Just("\\".to_owned()),
        Just("\\u000a\\ud800".to_owned()),
        Just("\u{1b}[2J\u{9b}31m\u{7f}".to_owned()),
        Just("\u{202e}\u{2066}\u{200b}".to_owned()),
        Just("\0\u{2028}\u{2029}\u{85}".to_owned()),
        Just("\u{1f600}\u{10ffff}\u{d7ff}\u{e000}".to_owned()),
        Just(forged),
    ];
    prop::collection::vec(fragment, 0..8).prop_map(|fragments| fragments.concat())
}

proptest! {
    #[test]
    fn no_text_forges_a_line(
        session in hostile(),
        a in hostile(),
        b in hostile(),
        c in hostile(),
    ) {
        let records = [
            Record::Attempted {
                client: c.clone(),
                user: a.clone(),
                database: b.clone(),
                tls: None,
            },
            Record::RolesChanged { role: a.clone(), steps: vec![b.clone(), c.clone()] },
        ];
        let mut chain = Chain::new(&key(1));
        let lines: Vec<_> = records.iter().map(|it| chain.seal(0, &session, it)).collect();
        for line in &lines {
            let printable = line.trim_end_matches('\n').bytes().all(|b| (b' '..=b'~').contains(&b));
            prop_assert!(printable && line.matches('\n').count() == 1);
        }
        let json: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        prop_assert_eq!(json.as_object().unwrap().len(), 10);
        prop_assert_eq!(&json["event"], "attempted");
        let sent = [("session", &session), ("user", &a), ("database", &b), ("client", &c)];
        for (field, text) in sent {
            if text.len() <= AUDIT_TEXT_BYTES_MAX {
                prop_assert_eq!(json[field].as_str().unwrap(), text);
            }
        }
        prop_assert_eq!(verify(lines.concat().as_bytes()).unwrap().records, 2);
    }

    #[test]
    fn no_bytes_make_the_verifier_panic(bytes in any::<Vec<u8>>()) {
        prop_assert!(verify(&bytes).is_err() || bytes.is_empty());
    }
}
