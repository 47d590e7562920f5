//! What the role store's server sends.

use postern_core::limits::{BACKEND_LOGIN_BYTES_MAX, ROLE_STORE_ANSWER_BYTES_MAX};
use postern_core::wire::backend::split;
use postern_core::wire::role_store::{Breach, Guard, Logins};

/// How a server says that it lets in, that it wants the password, or that it has proved itself.
const LET_IN: u32 = 0;
const CLEARTEXT: u32 = 3;
const MD5: u32 = 5;
const SASL_FINAL: u32 = 12;

/// A stream of messages, judged while it passes.
pub(crate) fn role_store(data: &[u8]) {
    for logins in [Logins::All, Logins::Scram] {
        let verdict = judge(logins, data);
        match verdict {
            Ok(()) => check_passed(logins, data),
            Err(breach) => check_breach(logins, breach),
        }
    }
}

/// The verdict, which is the same wherever the bytes are cut, and the last one.
fn judge(logins: Logins, data: &[u8]) -> Result<(), Breach> {
    let mut at_once = Guard::new(logins);
    let verdict = at_once.pass(data);
    let mut one_by_one = Guard::new(logins);
    let cut_up = data.chunks(1).try_for_each(|byte| one_by_one.pass(byte));
    assert_eq!(cut_up, verdict, "byte by byte");
    let cut = data.iter().map(|byte| usize::from(*byte)).sum::<usize>() % (data.len() + 1);
    let (before, after) = data.split_at(cut);
    let mut in_two = Guard::new(logins);
    let cut_up = in_two.pass(before).and_then(|()| in_two.pass(after));
    assert_eq!(cut_up, verdict, "cut at {cut}");
    if verdict.is_err() {
        for mut guard in [at_once, one_by_one, in_two] {
            assert_eq!(guard.pass(b""), verdict);
            assert_eq!(guard.pass(b"Z\0\0\0\x05I"), verdict);
        }
    }
    verdict
}

/// What has passed asks for nothing that tells a stranger the password, and lets nobody in before
/// the server has proved itself.
fn check_passed(logins: Logins, data: &[u8]) {
    let mut is_known = logins == Logins::All;
    let mut rest = data;
    while let Ok(Some(frame)) = split(rest) {
        if let (b'R', Some(code)) = (frame.tag, frame.body.first_chunk()) {
            match u32::from_be_bytes(*code) {
                SASL_FINAL => is_known = true,
                LET_IN => assert!(is_known),
                CLEARTEXT | MD5 => assert_eq!(logins, Logins::All),
                _ => {}
            }
        }
        rest = rest.get(frame.total_len..).unwrap_or_default();
    }
}

/// A breach says what is over which limit.
fn check_breach(logins: Logins, breach: Breach) {
    match breach {
        Breach::Length(bytes) => assert!(bytes < 4),
        Breach::Message { bytes, max } => assert!(bytes > max),
        Breach::Total(max) => {
            assert!([BACKEND_LOGIN_BYTES_MAX, ROLE_STORE_ANSWER_BYTES_MAX].contains(&max));
        }
        Breach::Login(_) => assert_eq!(logins, Logins::Scram),
        Breach::Settings => {}
    }
}
