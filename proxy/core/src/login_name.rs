//! What a person typed as their name, and how it may be put into LDAP filters and DNs.
//!
//! A login name only ever leads to a directory entry; the identity is the entry, never this text.
//! The rules here refuse what a directory and PostgreSQL would read differently: LDAP compares
//! without case and folds spaces (RFC 4518), PostgreSQL compares bytes.

use crate::limits::LOGIN_NAME_BYTES_MAX;

/// A login name that passed every rule about its form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LoginName {
    text: String,
    name: String,
    domain: Option<String>,
}

/// The rule that a login name breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum LoginNameError {
    /// There is no text, or no name beside the domain.
    #[error("the login name is empty")]
    Empty,
    /// Longer than [`LOGIN_NAME_BYTES_MAX`].
    #[error("the login name is longer than {LOGIN_NAME_BYTES_MAX} bytes")]
    TooLong,
    /// LDAP ignores leading and trailing spaces, so such a name is a second spelling of another.
    #[error("the login name begins or ends with white space")]
    EdgeWhitespace,
    /// A control character, or one that is not seen (bidirectional, zero width).
    #[error("the login name has a control character or an invisible one")]
    HiddenCharacter,
    /// Both `\` and `@`, or one of them twice: more than one reading.
    #[error("the login name has more than one '@' or '\\'")]
    SeveralDomains,
    /// `@` or `\`, and the configuration lists no domain at all.
    #[error("the login name has a domain, and no domain is configured")]
    NoDomainsConfigured,
    /// The domain is not one of the configured ones.
    #[error("the domain of the login name is not one of the configured ones")]
    UnknownDomain,
}

impl LoginName {
    /// Takes `name`, `name@domain` or `DOMAIN\name` apart.
    ///
    /// `domains` are the accepted ones, compared without ASCII case.
    /// A person whose login itself contains `@` cannot use it with these rules: what follows the
    /// `@` is always a domain, so that nobody reaches another person's entry by a longer spelling.
    ///
    /// # Errors
    ///
    /// The first rule that the text breaks.
    pub fn parse(text: &str, domains: &[String]) -> Result<Self, LoginNameError> {
        if text.is_empty() {
            return Err(LoginNameError::Empty);
        }
        if text.len() > LOGIN_NAME_BYTES_MAX {
            return Err(LoginNameError::TooLong);
        }
        if text.chars().any(is_hidden) {
            return Err(LoginNameError::HiddenCharacter);
        }
        refuse_edge_whitespace(text)?;
        let separators = text.matches(['@', '\\']).count();
        if separators > 0 && domains.is_empty() {
            return Err(LoginNameError::NoDomainsConfigured);
        }
        if separators > 1 {
            return Err(LoginNameError::SeveralDomains);
        }
        let (name, domain) = if let Some((name, domain)) = text.split_once('@') {
            (name, Some(listed(domain, domains)?))
        } else if let Some((domain, name)) = text.split_once('\\') {
            (name, Some(listed(domain, domains)?))
        } else {
            (text, None)
        };
        if name.is_empty() {
            return Err(LoginNameError::Empty);
        }
        // `alice @example` would reach the directory as `alice `, which is `alice` to it.
        refuse_edge_whitespace(name)?;
        Ok(Self {
            text: text.to_owned(),
            name: name.to_owned(),
            domain,
        })
    }

    /// The text as the client sent it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The name without its domain.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The domain in the configuration's spelling, if one was typed.
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// One key for the spellings of a name that a directory may take for the same person: without
    /// case, without the domain, compatibility characters and spaces folded (RFC 4518, section 2).
    ///
    /// It is for limits that count attempts at a person, which must not be reset by writing the
    /// name differently.
    /// It is not an identity, and nothing may be remembered as proven under it: two people of
    /// different domains share it.
    pub fn person_key(&self) -> String {
        // Characters that the profile does not know are left as they are: a directory that knows
        // them compares them by themselves.
        let folded = match stringprep::nameprep(&self.name) {
            Ok(folded) => folded.into_owned(),
            Err(_) => self.name.to_lowercase(),
        };
        folded.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// Escapes a value for an LDAP search filter (RFC 4515, section 3).
///
/// Control characters are escaped as well, which the RFC allows, so that a filter in a log is one
/// line.
pub fn escape_filter(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '*' | '(' | ')' | '\\' => push_hex(&mut escaped, c),
            c if c.is_ascii_control() => push_hex(&mut escaped, c),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Escapes an attribute value for a distinguished name (RFC 4514, section 2.4).
pub fn escape_dn(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    let last = value.len().saturating_sub(1);
    for (at, c) in value.char_indices() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => {
                escaped.push('\\');
                escaped.push(c);
            }
            ' ' if at == 0 || at == last => escaped.push_str("\\ "),
            '#' if at == 0 => escaped.push_str("\\#"),
            c if c.is_ascii_control() => push_hex(&mut escaped, c),
            c => escaped.push(c),
        }
    }
    escaped
}

/// True for characters that change how a text looks without being seen: controls, line and
/// paragraph separators, bidirectional and zero-width characters, fillers, annotations and tags.
///
/// These are Unicode's `Cc` and `Default_Ignorable_Code_Point`, and what RFC 4518 maps to nothing;
/// a directory ignores most of them, so they would be second spellings of other names.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
                | '\u{ffa0}' | '\u{fff0}'..='\u{fffc}' | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        )
}

fn refuse_edge_whitespace(text: &str) -> Result<(), LoginNameError> {
    if text.trim().len() == text.len() {
        Ok(())
    } else {
        Err(LoginNameError::EdgeWhitespace)
    }
}

fn listed(domain: &str, domains: &[String]) -> Result<String, LoginNameError> {
    domains
        .iter()
        .find(|listed| !domain.is_empty() && listed.eq_ignore_ascii_case(domain))
        .cloned()
        .ok_or(LoginNameError::UnknownDomain)
}

/// Both RFCs write an escaped octet as a backslash and two hexadecimal digits.
fn push_hex(escaped: &mut String, c: char) {
    let mut bytes = [0; 4];
    for byte in c.encode_utf8(&mut bytes).bytes() {
        escaped.push('\\');
        escaped.push_str(&format!("{byte:02x}"));
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        reason = "a test stops at the first thing that is not so"
    )]

    use super::*;
    use proptest::prelude::*;

    fn domains() -> Vec<String> {
        vec!["corp.example".to_owned(), "CORP".to_owned()]
    }

    #[test]
    fn the_three_forms_are_taken_apart() {
        for (text, name, domain) in [
            ("alice", "alice", None),
            ("Alice Smith", "Alice Smith", None),
            ("alice@corp.example", "alice", Some("corp.example")),
            ("alice@Corp.Example", "alice", Some("corp.example")),
            ("corp\\alice", "alice", Some("CORP")),
            ("jürgen@CORP", "jürgen", Some("CORP")),
        ] {
            let login = LoginName::parse(text, &domains()).unwrap();
            assert_eq!(
                (login.name(), login.domain(), login.text()),
                (name, domain, text)
            );
        }
    }

    #[test]
    fn a_name_of_the_longest_kind_needs_no_domain() {
        let name = "a".repeat(LOGIN_NAME_BYTES_MAX);
        for domains in [Vec::new(), domains()] {
            let login = LoginName::parse(&name, &domains).unwrap();
            assert_eq!((login.name(), login.domain()), (name.as_str(), None));
        }
    }

    #[test]
    fn every_broken_rule_has_its_own_error() {
        let long = "a".repeat(LOGIN_NAME_BYTES_MAX + 1);
        for (text, why) in [
            ("", LoginNameError::Empty),
            ("@corp.example", LoginNameError::Empty),
            ("CORP\\", LoginNameError::Empty),
            (long.as_str(), LoginNameError::TooLong),
            (" alice", LoginNameError::EdgeWhitespace),
            ("alice ", LoginNameError::EdgeWhitespace),
            ("alice\u{a0}", LoginNameError::EdgeWhitespace),
            ("alice @CORP", LoginNameError::EdgeWhitespace),
            ("CORP\\ alice", LoginNameError::EdgeWhitespace),
            ("ali\0ce", LoginNameError::HiddenCharacter),
            ("alice\n", LoginNameError::HiddenCharacter),
            ("ali\u{202e}ce", LoginNameError::HiddenCharacter),
            ("ali\u{200b}ce", LoginNameError::HiddenCharacter),
            ("CORP\\alice@corp.example", LoginNameError::SeveralDomains),
            ("alice@old@corp.example", LoginNameError::SeveralDomains),
            ("CORP\\\\alice", LoginNameError::SeveralDomains),
            ("alice@other.example", LoginNameError::UnknownDomain),
            ("alice@", LoginNameError::UnknownDomain),
            ("\\alice", LoginNameError::UnknownDomain),
            ("alice@corp.example ", LoginNameError::EdgeWhitespace),
        ] {
            assert_eq!(LoginName::parse(text, &domains()), Err(why), "{text:?}");
        }
    }

    #[test]
    fn without_configured_domains_every_domain_is_refused_as_such() {
        for text in ["alice@corp.example", "CORP\\alice", "a@b@c", "@", "\\"] {
            assert_eq!(
                LoginName::parse(text, &[]),
                Err(LoginNameError::NoDomainsConfigured)
            );
        }
    }

    #[test]
    fn an_empty_configured_domain_opens_nothing() {
        let domains = vec![String::new()];
        assert_eq!(
            LoginName::parse("alice@", &domains),
            Err(LoginNameError::UnknownDomain)
        );
    }

    #[test]
    fn spellings_of_one_person_share_a_key() {
        let key = |text| LoginName::parse(text, &domains()).unwrap().person_key();
        for text in ["ALICE", "alice@CORP", "corp\\Alice", "\u{ff41}lice"] {
            assert_eq!(key(text), "alice", "{text}");
        }
        assert_eq!(key("Alice  \u{a0} Smith"), "alice smith");
        assert_ne!(key("alice"), key("alicia"));
    }

    #[test]
    fn hidden_characters_are_those_that_unicode_and_rfc_4518_name() {
        let class = r"^[\p{Cc}\p{Default_Ignorable_Code_Point}\u{2028}\u{2029}\u{fff9}-\u{fffc}]$";
        let class = regex::Regex::new(class).unwrap();
        for c in '\0'..=char::MAX {
            let mut bytes = [0; 4];
            assert_eq!(
                is_hidden(c),
                class.is_match(c.encode_utf8(&mut bytes)),
                "{:x}",
                c as u32
            );
        }
    }

    #[test]
    fn filters_are_escaped_as_rfc_4515_shows() {
        for (value, escaped) in [
            (
                "Parens R Us (for all your parenthetical needs)",
                "Parens R Us \\28for all your parenthetical needs\\29",
            ),
            ("*", "\\2a"),
            ("C:\\MyFile", "C:\\5cMyFile"),
            ("\0\0\0\u{4}", "\\00\\00\\00\\04"),
            ("Lučić", "Lučić"),
            (
                "x)(uid=*))(|(uid=*",
                "x\\29\\28uid=\\2a\\29\\29\\28|\\28uid=\\2a",
            ),
        ] {
            assert_eq!(escape_filter(value), escaped);
        }
    }

    #[test]
    fn dn_values_are_escaped_as_rfc_4514_shows() {
        for (value, escaped) in [
            ("James \"Jim\" Smith, III", "James \\\"Jim\\\" Smith\\, III"),
            ("Before\rAfter", "Before\\0dAfter"),
            ("#1", "\\#1"),
            ("a#1", "a#1"),
            (" a ", "\\ a\\ "),
            (" ", "\\ "),
            ("a b", "a b"),
            ("a+b;c<d>e=f\\", "a\\+b\\;c\\<d\\>e\\=f\\\\"),
            ("x,dc=evil", "x\\,dc\\=evil"),
        ] {
            assert_eq!(escape_dn(value), escaped);
        }
    }

    /// Reads escapes back as a directory does.
    fn unescape(text: &str) -> Vec<u8> {
        let mut bytes = text.bytes().peekable();
        let mut plain = Vec::new();
        while let Some(byte) = bytes.next() {
            if byte != b'\\' {
                plain.push(byte);
                continue;
            }
            let first = bytes.next().unwrap();
            match (first as char).to_digit(16) {
                None => plain.push(first),
                Some(high) => {
                    let low = (bytes.next().unwrap() as char).to_digit(16).unwrap();
                    plain.push(u8::try_from(high * 16 + low).unwrap());
                }
            }
        }
        plain
    }

    proptest! {
        #[test]
        fn escaped_values_read_back_and_hold_no_operator(value in any::<String>()) {
            let filter = escape_filter(&value);
            prop_assert!(!filter.contains(['*', '(', ')', '\0']));
            prop_assert_eq!(unescape(&filter), value.as_bytes());
            let dn = escape_dn(&value);
            prop_assert_eq!(unescape(&dn), value.as_bytes());
        }

        #[test]
        fn no_text_panics_and_what_is_accepted_is_what_was_typed(text in any::<String>()) {
            if let Ok(login) = LoginName::parse(&text, &domains()) {
                prop_assert_eq!(login.text(), &text);
                prop_assert!(!login.name().is_empty() && text.contains(login.name()));
                prop_assert!(!login.person_key().is_empty() || text.trim().is_empty());
            }
        }
    }
}
