//! What the server may send on a connection to the role store, judged while it passes.
//!
//! tokio-postgres, which reads it then, keeps a message until it is whole, whatever length it
//! announces, and answers whatever login it is asked for. Neither is for somebody who only claims
//! to be the server.
//!
//! Source: PostgreSQL, Message Formats,
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>.

use super::tag::{
    AUTHENTICATION, AUTHENTICATION_CLEARTEXT_PASSWORD, AUTHENTICATION_MD5_PASSWORD,
    AUTHENTICATION_OK, AUTHENTICATION_SASL_FINAL, NOTICE_RESPONSE, NOTIFICATION_RESPONSE,
    PARAMETER_STATUS, READY_FOR_QUERY,
};
use super::{HEADER_BYTES, LENGTH_BYTES};
use crate::limits::{
    BACKEND_LOGIN_BYTES_MAX, BACKEND_LOGIN_MESSAGE_BYTES_MAX, ROLE_STORE_ANSWER_BYTES_MAX,
    ROLE_STORE_ASIDE_BYTES_MAX, ROLE_STORE_MESSAGE_BYTES_MAX, ROLE_STORE_SETTINGS_BYTES_MAX,
};

/// The size of the number that a request for authentication begins with, in bytes.
const CODE_BYTES: usize = size_of::<u32>();

/// Which logins of the server are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logins {
    /// What it asks for, because it is known to be the one that was meant.
    All,
    /// SCRAM only: it shows nobody the password, and proves that the server knows its verifier.
    Scram,
}

/// Follows the messages of one connection. It keeps none of them, and no memory but its own.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    logins: Logins,
    /// SCRAM has been brought to its end.
    has_proved: bool,
    /// The login is over.
    is_ready: bool,
    /// What has arrived of a tag and a length word.
    head: Start<HEADER_BYTES>,
    tag: u8,
    /// What is missing of the body, in bytes.
    left: usize,
    /// What has arrived of the number that a request for authentication begins with.
    code: Start<CODE_BYTES>,
    /// The login so far, or after it the answer, in bytes.
    sent: usize,
    /// All ParameterStatus so far, in bytes.
    settings: usize,
    /// The rule that was broken.
    breach: Option<Breach>,
}

/// The first bytes of something, as far as they have arrived.
#[derive(Debug, Clone, Copy)]
struct Start<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

/// Which rule the server breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// A length word is under its own size.
    #[error("the server sent a message of {0} bytes, its length included")]
    Length(usize),
    /// A message is too long.
    #[error("the server sent a message of {bytes} bytes, and {max} are the most")]
    Message {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The messages of a login, or of an answer, are too long together.
    #[error("the server sent more than {0} bytes at once")]
    Total(usize),
    /// More is said of settings than is kept.
    #[error("the server told more than {ROLE_STORE_SETTINGS_BYTES_MAX} bytes of settings")]
    Settings,
    /// A login that is not answered; what the server does.
    #[error("the server {0}")]
    Login(&'static str),
}

impl Guard {
    /// At the beginning of a connection.
    pub fn new(logins: Logins) -> Self {
        Self {
            logins,
            has_proved: false,
            is_ready: false,
            head: Start::NONE,
            tag: 0,
            left: 0,
            code: Start::NONE,
            sent: 0,
            settings: 0,
            breach: None,
        }
    }

    /// Judges the next bytes, cut anywhere.
    ///
    /// # Errors
    ///
    /// The [`Breach`]; then none of these bytes may be used, and nothing that comes after them.
    pub fn pass(&mut self, bytes: &[u8]) -> Result<(), Breach> {
        if self.breach.is_none() {
            self.breach = self.judge(bytes).err();
        }
        self.breach.map_or(Ok(()), Err)
    }

    fn judge(&mut self, mut bytes: &[u8]) -> Result<(), Breach> {
        while !bytes.is_empty() {
            let is_body = self.left > 0;
            let wanted = match is_body {
                true => self.left,
                false => HEADER_BYTES - self.head.length,
            };
            let (part, rest) = bytes.split_at(wanted.min(bytes.len()));
            bytes = rest;
            match is_body {
                true => self.body(part)?,
                false => self.head(part)?,
            }
        }
        Ok(())
    }

    fn head(&mut self, part: &[u8]) -> Result<(), Breach> {
        self.head.add(part);
        let Some([tag, a, b, c, d]) = self.head.whole() else {
            return Ok(());
        };
        self.head = Start::NONE;
        // A length that does not fit is longer than every limit.
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let left = length.checked_sub(LENGTH_BYTES);
        self.left = left.ok_or(Breach::Length(length))?;
        self.tag = tag;
        self.count(length.saturating_add(1))?;
        match self.left {
            0 => self.end(),
            _ => Ok(()),
        }
    }

    /// Judges a message by its length, before any of its body is kept.
    fn count(&mut self, bytes: usize) -> Result<(), Breach> {
        let is_aside = matches!(
            self.tag,
            NOTICE_RESPONSE | NOTIFICATION_RESPONSE | PARAMETER_STATUS
        );
        let (max, total_max) = match (self.is_ready, is_aside) {
            (false, _) => (BACKEND_LOGIN_MESSAGE_BYTES_MAX, BACKEND_LOGIN_BYTES_MAX),
            (true, true) => (ROLE_STORE_ASIDE_BYTES_MAX, ROLE_STORE_ANSWER_BYTES_MAX),
            (true, false) => (ROLE_STORE_MESSAGE_BYTES_MAX, ROLE_STORE_ANSWER_BYTES_MAX),
        };
        if bytes > max {
            return Err(Breach::Message { bytes, max });
        }
        // Notifications come as they please, are read at once, and are nobody's answer.
        if !self.is_ready || self.tag != NOTIFICATION_RESPONSE {
            self.sent = self.sent.saturating_add(bytes);
        }
        if self.sent > total_max {
            return Err(Breach::Total(total_max));
        }
        if self.tag == PARAMETER_STATUS {
            self.settings = self.settings.saturating_add(bytes);
        }
        match self.settings > ROLE_STORE_SETTINGS_BYTES_MAX {
            true => Err(Breach::Settings),
            false => Ok(()),
        }
    }

    fn body(&mut self, part: &[u8]) -> Result<(), Breach> {
        self.left = self.left.saturating_sub(part.len());
        if self.tag == AUTHENTICATION {
            self.code.add(part);
        }
        match self.left {
            0 => self.end(),
            _ => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), Breach> {
        if self.tag == READY_FOR_QUERY {
            self.is_ready = true;
            self.sent = 0;
        }
        let code = self.code.whole().map(u32::from_be_bytes);
        self.code = Start::NONE;
        match code {
            Some(code) => self.login(code),
            None => Ok(()),
        }
    }

    fn login(&mut self, code: u32) -> Result<(), Breach> {
        if code == AUTHENTICATION_SASL_FINAL {
            self.has_proved = true;
        }
        let what = match (self.logins, code) {
            (Logins::All, _) => return Ok(()),
            (Logins::Scram, AUTHENTICATION_CLEARTEXT_PASSWORD) => "asks for the password as it is",
            (Logins::Scram, AUTHENTICATION_MD5_PASSWORD) => "asks for the password by MD5",
            (Logins::Scram, AUTHENTICATION_OK) if !self.has_proved => {
                "asks for no password (trust)"
            }
            // What else there is tokio-postgres answers by SCRAM or not at all.
            (Logins::Scram, _) => return Ok(()),
        };
        Err(Breach::Login(what))
    }
}

impl<const N: usize> Start<N> {
    const NONE: Self = Self {
        bytes: [0; N],
        length: 0,
    };

    /// Takes of the next bytes what is missing.
    fn add(&mut self, part: &[u8]) {
        let missing = self.bytes.iter_mut().skip(self.length);
        for (place, byte) in missing.zip(part) {
            *place = *byte;
            self.length += 1;
        }
    }

    fn whole(&self) -> Option<[u8; N]> {
        (self.length == N).then_some(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A login by SCRAM with a setting and a key, and an answer of one row.
    const SESSION: &[&[u8]] = &[
        b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0",
        b"R\0\0\0\x0a\0\0\0\x0br=",
        b"R\0\0\0\x0a\0\0\0\x0cv=",
        b"R\0\0\0\x08\0\0\0\0",
        b"S\0\0\0\x08a\0b\0",
        b"K\0\0\0\x0c\0\0\0\x01\0\0\0\x02",
        b"Z\0\0\0\x05I",
        b"1\0\0\0\x04",
        b"D\0\0\0\x0d\0\x01\0\0\0\x03off",
        b"C\0\0\0\x09SHOW\0",
        b"Z\0\0\0\x05I",
    ];

    /// A guard that has seen the login of [`SESSION`].
    fn ready() -> Result<Guard, Breach> {
        let mut guard = Guard::new(Logins::Scram);
        guard.pass(&SESSION.iter().take(7).copied().collect::<Vec<_>>().concat())?;
        Ok(guard)
    }

    fn message(tag: u8, length: u32) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend(length.to_be_bytes());
        bytes
    }

    fn whole(tag: u8, length: u32) -> Vec<u8> {
        let mut bytes = message(tag, length);
        bytes.resize(length as usize + 1, b'x');
        bytes
    }

    /// The result, which is the same wherever the bytes are cut.
    fn outcome(messages: &[&[u8]]) -> Result<(), Breach> {
        let bytes = messages.concat();
        let at_once = Guard::new(Logins::Scram).pass(&bytes);
        for cut in 0..=bytes.len() {
            let (before, after) = bytes.split_at(cut);
            let mut guard = Guard::new(Logins::Scram);
            let cut_up = guard.pass(before).and_then(|()| guard.pass(after));
            assert_eq!(cut_up, at_once, "cut at {cut}");
        }
        let mut guard = Guard::new(Logins::Scram);
        let one_by_one = bytes.chunks(1).try_for_each(|byte| guard.pass(byte));
        assert_eq!(one_by_one, at_once, "byte by byte");
        at_once
    }

    #[test]
    fn a_session_passes_wherever_it_is_cut() {
        assert_eq!(outcome(SESSION), Ok(()));
    }

    #[test]
    fn without_proof_a_login_is_scram_from_the_beginning_to_the_end() {
        let scram: Vec<_> = SESSION.iter().take(2).copied().collect();
        for asked in [
            &b"R\0\0\0\x08\0\0\0\x03"[..],
            b"R\0\0\0\x0c\0\0\0\x05salt",
            b"R\0\0\0\x08\0\0\0\0",
        ] {
            for before in [&[][..], &scram] {
                let outcome = outcome(&[before, &[asked]].concat());
                assert!(
                    matches!(outcome, Err(Breach::Login(_))),
                    "{asked:?}: {outcome:?}"
                );
            }
            assert_eq!(Guard::new(Logins::All).pass(asked), Ok(()));
        }
    }

    #[test]
    fn after_a_breach_nothing_passes() {
        for broken in [&b"E\0\0\0\x03"[..], b"R\0\0\0\x08\0\0\0\x03"] {
            let mut guard = Guard::new(Logins::Scram);
            let breach = guard.pass(broken);
            assert!(breach.is_err(), "{broken:?}");
            for message in SESSION.iter().chain([&&b""[..]]) {
                assert_eq!(guard.pass(message), breach, "{message:?}");
            }
        }
    }

    #[test]
    fn a_length_is_judged_before_the_body_comes() -> Result<(), Breach> {
        let long = |bytes, max| Err(Breach::Message { bytes, max });
        let login = BACKEND_LOGIN_MESSAGE_BYTES_MAX;
        assert_eq!(
            outcome(&[&message(b'E', 0x7fff_ffff)]),
            long(0x8000_0000, login)
        );
        assert_eq!(outcome(&[&message(b'E', 3)]), Err(Breach::Length(3)));
        assert_eq!(outcome(&[&message(b'E', 65_535)]), Ok(()));
        assert_eq!(outcome(&[&message(b'E', 65_536)]), long(65_537, login));
        for (tag, max) in [
            (b'D', ROLE_STORE_MESSAGE_BYTES_MAX),
            (b'R', ROLE_STORE_MESSAGE_BYTES_MAX),
            (b'A', ROLE_STORE_ASIDE_BYTES_MAX),
            (b'N', ROLE_STORE_ASIDE_BYTES_MAX),
        ] {
            let length = u32::try_from(max).unwrap_or(u32::MAX);
            assert_eq!(ready()?.pass(&message(tag, length)), long(max + 1, max));
            assert_eq!(ready()?.pass(&message(tag, length - 1)), Ok(()));
        }
        Ok(())
    }

    #[test]
    fn a_login_and_an_answer_have_an_end() -> Result<(), Breach> {
        let mut guard = Guard::new(Logins::Scram);
        let notice = whole(b'N', 65_535);
        for _ in 0..BACKEND_LOGIN_BYTES_MAX / notice.len() {
            guard.pass(&notice)?;
        }
        let over = guard.pass(&notice);
        assert_eq!(over, Err(Breach::Total(BACKEND_LOGIN_BYTES_MAX)));
        let mut guard = ready()?;
        let row = whole(b'D', 1_048_575);
        for _ in 0..ROLE_STORE_ANSWER_BYTES_MAX / row.len() {
            guard.pass(&row)?;
        }
        // Notifications come in between, and are no part of it.
        guard.pass(&whole(b'A', 8_000))?;
        let over = guard.pass(&row);
        assert_eq!(over, Err(Breach::Total(ROLE_STORE_ANSWER_BYTES_MAX)));
        Ok(())
    }

    #[test]
    fn each_answer_is_counted_by_itself() -> Result<(), Breach> {
        let mut guard = ready()?;
        let row = whole(b'D', 16_777_215);
        for _ in 0..6 {
            guard.pass(&row)?;
            guard.pass(b"Z\0\0\0\x05I")?;
        }
        Ok(())
    }

    #[test]
    fn settings_are_counted_as_long_as_the_connection_lives() -> Result<(), Breach> {
        let mut guard = ready()?;
        let setting = whole(b'S', 1_023);
        let known = guard.settings;
        for _ in 0..(ROLE_STORE_SETTINGS_BYTES_MAX - known) / setting.len() {
            guard.pass(&setting)?;
            guard.pass(b"Z\0\0\0\x05I")?;
        }
        assert_eq!(guard.pass(&setting), Err(Breach::Settings));
        Ok(())
    }
}
