//! `[directory]` and `[local]`, with the checks across keys.

use std::time::Duration;

use super::{milliseconds, seconds};
use crate::config::keys;
use crate::config::section::{Reading, Section};
use crate::config::{
    CredentialMode, Directory, Exchange, Ldap, LdapBind, LdapFlavor, LdapUrl, Local, LocalOrder,
    NestedStrategy,
};
use crate::tls::server_name;

/// The default port of `ldaps://` (IANA).
const LDAPS_PORT: u16 = 636;
/// The default port of `ldap://` (RFC 4516).
const LDAP_PORT: u16 = 389;
/// What the name that a client typed replaces in filters and templates.
const LOGIN: &str = "{login}";

/// `[local]`, beside a directory or alone, and with how roles get their passwords.
pub(in crate::config) fn local(
    section: &Section,
    directory: &Directory,
    mode: CredentialMode,
    reading: &mut Reading<'_>,
) -> Option<Local> {
    let domain = domain(section, directory, reading);
    let order = match section.has("domain") {
        true => LocalOrder::First,
        false => section.choice("order", &keys::LOCAL_ORDER)?,
    };
    let is_mixed = matches!(directory, Directory::Ldap(_)) && !section.has("domain");
    let is_mirrored = mode == CredentialMode::Mirror;
    let exchange = match section.choice("exchange", &keys::EXCHANGE) {
        Some(Exchange::ScramSha256) if is_mixed => {
            let why = "needs `domain` beside a directory: the way in which somebody is asked would \
                       tell whether the file has the name";
            let problem = section.problem("exchange", why);
            reading.problem(problem.valid("`domain`, or exchange = \"password\""));
            return None;
        }
        Some(Exchange::ScramSha256) if is_mirrored => {
            let why = "contradicts credential.mode = \"mirror\": it shows no password that could \
                       be passed on";
            let problem = section.problem("exchange", why);
            reading.problem(problem.valid("exchange = \"password\", or mode = \"derived\""));
            return None;
        }
        Some(exchange) => exchange,
        None if section.has("exchange") => return None,
        None if is_mixed || is_mirrored => Exchange::Password,
        None => Exchange::ScramSha256,
    };
    Some(Local {
        file: section.path("file")?,
        order,
        domain,
        exchange,
    })
}

/// `local.domain`, which must not be one of the directory's.
fn domain(section: &Section, directory: &Directory, reading: &mut Reading<'_>) -> Option<String> {
    let domain = section.text("domain")?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ['.', '-', '_'].contains(&c);
    if !domain.chars().all(is_plain) {
        let problem = section.problem("domain", "is not a domain");
        reading.problem(problem.valid("letters, digits, dots, dashes and underscores"));
    }
    let Directory::Ldap(ldap) = directory else {
        return Some(domain);
    };
    if ldap
        .domains
        .iter()
        .any(|it| it.eq_ignore_ascii_case(&domain))
    {
        let why = "is one of directory.domains: nobody could tell whose name it is";
        reading.problem(section.problem("domain", why));
    }
    Some(domain)
}

/// All domains that a login name may have.
pub(in crate::config) fn domains(directory: &Directory, local: Option<&Local>) -> Vec<String> {
    let of_directory = match directory {
        Directory::Ldap(ldap) => ldap.domains.as_slice(),
        Directory::Local => &[],
    };
    let of_file = local.and_then(|it| it.domain.as_ref());
    of_directory.iter().chain(of_file).cloned().collect()
}

/// `[directory]`; `has_local` says whether there is a `[local]` table.
pub(in crate::config) fn directory(
    section: &Section,
    has_local: bool,
    reading: &mut Reading<'_>,
) -> Option<Directory> {
    let is_ldap = section.choice("kind", &keys::DIRECTORY_KIND)?;
    if has_local {
        let text = match is_ldap {
            true => "its accounts log in whatever the directory says of these people",
            false => "its accounts are all there are: nobody disables them when a person leaves",
        };
        reading.warn("[local]", text);
    }
    if is_ldap {
        return ldap(section, reading).map(|ldap| Directory::Ldap(Box::new(ldap)));
    }
    if !has_local {
        let problem = section.problem("kind", "needs a [local] table with the file of accounts");
        reading.problem(problem);
    }
    Some(Directory::Local)
}

fn ldap(section: &Section, reading: &mut Reading<'_>) -> Option<Ldap> {
    for key in [
        "flavor",
        "urls",
        "base_dn",
        "service_dn",
        "service_password_file",
    ] {
        section.require(key, reading);
    }
    let urls = urls(section, reading);
    let transport = transport(section, urls.as_deref(), reading);
    let bind = bind(section, reading);
    let filters = filters(section, reading);
    let times = timeouts(section, reading);
    let flavor = section.choice("flavor", &keys::FLAVOR)?;
    let nested_strategy = section.choice("nested_strategy", &keys::NESTED_STRATEGY)?;
    if flavor == LdapFlavor::OpenLdap && nested_strategy == NestedStrategy::InChain {
        reading.warn(
            "directory.nested_strategy = \"in-chain\"",
            "only Active Directory knows this rule, \
             other servers answer with no groups",
        );
    }
    let base_dn = section.text("base_dn")?;
    let (starttls, tls_verify) = transport?;
    let (login_filter, group_class_filter) = filters?;
    let (connect_timeout, operation_timeout, total_timeout) = times?;
    Some(Ldap {
        urls: urls?,
        starttls,
        tls_ca_file: section.path("tls_ca_file"),
        tls_verify,
        flavor,
        bind: bind?,
        service_dn: section.text("service_dn")?,
        service_password_file: section.path("service_password_file")?,
        login_filter,
        name_attribute: section.text("name_attribute")?,
        id_attribute: section.text("id_attribute")?,
        domains: section.list("domains")?,
        group_base_dn: section
            .text("group_base_dn")
            .unwrap_or_else(|| base_dn.clone()),
        base_dn,
        group_class_filter,
        group_member_attribute: section.text("group_member_attribute")?,
        group_name_attribute: section.text("group_name_attribute")?,
        nested: section.boolean("nested")?,
        nested_strategy,
        connect_timeout,
        operation_timeout,
        total_timeout,
        feed: section.choice("feed", &keys::FEED)?,
        poll_interval: seconds(section, "poll_interval_s")?,
    })
}

fn urls(section: &Section, reading: &mut Reading<'_>) -> Option<Vec<LdapUrl>> {
    let texts = section.list("urls")?;
    if texts.is_empty() {
        reading.problem(section.problem("urls", "is empty: there is no directory to ask"));
    }
    let mut urls = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match url(text) {
            Ok(url) if urls.contains(&url) => {
                reading.problem(section.problem("urls", format!("lists \"{text}\" twice")));
            }
            Ok(url) => urls.push(url),
            Err(why) => {
                // The text is not repeated: somebody may have written a password into it.
                let problem = section.problem("urls", format!("element {}: {why}", index + 1));
                reading.problem(problem.valid("\"ldaps://host[:port]\", \"ldap://host[:port]\""));
            }
        }
    }
    Some(urls)
}

/// `ldap[s]://host[:port]`, with brackets around an IPv6 address, and at most a slash after it.
fn url(text: &str) -> Result<LdapUrl, &'static str> {
    let (scheme, rest) = text
        .split_once("://")
        .ok_or("has no ldaps:// or ldap:// before it")?;
    let ldaps = match scheme.to_ascii_lowercase().as_str() {
        "ldaps" => true,
        "ldap" => false,
        _ => return Err("starts with neither ldaps:// nor ldap://"),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Err("names a user; use service_dn and service_password_file");
    }
    if rest.contains(['/', '?', '#']) {
        return Err("has a path; use base_dn and login_filter");
    }
    let (host, port) = match rest.strip_prefix('[') {
        Some(bracketed) => {
            let (host, port) = bracketed.split_once(']').ok_or("has no closing bracket")?;
            host.parse::<std::net::Ipv6Addr>()
                .map_err(|_| "is not an IPv6 address")?;
            (host, port)
        }
        None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
    };
    if host.is_empty() {
        return Err("has no host");
    }
    if server_name(host).is_err() {
        return Err("has neither a host name nor an address");
    }
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.starts_with('+') => return Err("has a bad port"),
        Some(digits) => digits
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or("has a bad port")?,
        None if port.is_empty() => {
            if ldaps {
                LDAPS_PORT
            } else {
                LDAP_PORT
            }
        }
        None => return Err("has text after the address"),
    };
    Ok(LdapUrl {
        ldaps,
        host: host.to_owned(),
        port,
    })
}

/// `starttls` and `tls_verify`, which depend on each other, on `allow_plaintext` and on the URLs.
fn transport(
    section: &Section,
    urls: Option<&[LdapUrl]>,
    reading: &mut Reading<'_>,
) -> Option<(bool, bool)> {
    let starttls = section.boolean("starttls")?;
    let allow_plaintext = section.boolean("allow_plaintext")?;
    let tls_verify = section.boolean("tls_verify")?;
    let any_plain = urls.is_some_and(|urls| urls.iter().any(|url| !url.ldaps));
    let any_ldaps = urls.is_some_and(|urls| urls.iter().any(|url| url.ldaps));
    if starttls && any_ldaps {
        let why = "contradicts an ldaps:// URL, which has TLS from the first byte";
        reading.problem(
            section
                .problem("starttls", why)
                .valid("true with ldap:// URLs only"),
        );
    }
    if any_plain && !starttls && !allow_plaintext {
        let why = "has an ldap:// URL, which would send passwords in clear text";
        let valid = "ldaps://, or `starttls = true`, or `allow_plaintext = true` to insist";
        reading.problem(section.problem("urls", why).valid(valid));
    }
    if any_plain && !starttls && allow_plaintext {
        reading.warn(
            "directory.allow_plaintext = true",
            "passwords go to the directory in clear text, those of \
             people and that of the service principal",
        );
    } else if allow_plaintext {
        reading.warn(
            "directory.allow_plaintext = true",
            "it has no effect: every connection uses TLS",
        );
    }
    if !tls_verify {
        reading.warn(
            "directory.tls_verify = false",
            "whoever is between here and the directory can read \
             every password",
        );
    }
    Some((starttls, tls_verify))
}

fn bind(section: &Section, reading: &mut Reading<'_>) -> Option<LdapBind> {
    if section.choice("bind", &keys::BIND)? {
        return Some(LdapBind::Search);
    }
    let Some(template) = section.text("bind_template") else {
        if !section.has("bind_template") {
            let why = "is missing; it is needed when `bind` is \"template\"";
            let example = "\"uid={login},ou=people,dc=example,dc=com\" or \"{login}@example.com\"";
            reading.problem(section.problem("bind_template", why).valid(example));
        }
        return None;
    };
    if template.matches(LOGIN).count() != 1 {
        let why = "does not contain {login} exactly once";
        reading.problem(section.problem("bind_template", why));
    }
    Some(LdapBind::Template(template))
}

fn filters(section: &Section, reading: &mut Reading<'_>) -> Option<(String, String)> {
    let login = section.text("login_filter");
    let group = section.text("group_class_filter");
    let texts = [
        ("login_filter", login.as_deref()),
        ("group_class_filter", group.as_deref()),
    ];
    for (key, text) in texts
        .into_iter()
        .filter_map(|(key, text)| Some((key, text?)))
    {
        if let Err(why) = balanced(text) {
            reading.problem(section.problem(key, why).valid("a filter as of RFC 4515"));
        }
    }
    if login.as_deref().is_some_and(|login| !login.contains(LOGIN)) {
        let why = "does not contain {login}: it would find the same entry for everybody";
        reading.problem(section.problem("login_filter", why));
    }
    Some((login?, group?))
}

/// Whether a filter's parentheses match; parentheses in values are written as `\28` and `\29`.
fn balanced(filter: &str) -> Result<(), &'static str> {
    let mut depth = 0_usize;
    for (index, char) in filter.char_indices() {
        if depth == 0 && char != '(' {
            return Err(if index == 0 {
                "does not start with a parenthesis"
            } else {
                "has text after its last parenthesis"
            });
        }
        match char {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 && index + 1 != filter.len() {
            return Err("has text after its last parenthesis");
        }
    }
    if depth == 0 {
        Ok(())
    } else {
        Err("has a parenthesis that is not closed")
    }
}

/// The timeouts for connecting, one operation and everything.
fn timeouts(
    section: &Section,
    reading: &mut Reading<'_>,
) -> Option<(Duration, Duration, Duration)> {
    let connect = milliseconds(section, "connect_timeout_ms");
    let operation = milliseconds(section, "operation_timeout_ms");
    let total = milliseconds(section, "total_timeout_ms")?;
    let parts = [
        ("connect_timeout_ms", connect),
        ("operation_timeout_ms", operation),
    ];
    for (key, time) in parts {
        if time.is_some_and(|time| time > total) {
            let why = format!(
                "is longer than total_timeout_ms, which is {}",
                total.as_millis()
            );
            let problem = section.problem(key, why);
            reading.problem(problem.valid("a value up to that of total_timeout_ms"));
        }
    }
    Some((connect?, operation?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<(bool, &str, u16), &'static str>) {
        let expect = expect.map(|(ldaps, host, port)| LdapUrl {
            ldaps,
            host: host.to_owned(),
            port,
        });
        assert_eq!(url(text), expect, "{text}");
    }

    #[test]
    fn a_directory_url_is_a_scheme_a_host_and_a_port() {
        check(
            "ldaps://dc1.example.com",
            Ok((true, "dc1.example.com", 636)),
        );
        check(
            "ldap://dc1.example.com/",
            Ok((false, "dc1.example.com", 389)),
        );
        check("LDAPS://[::1]:1636", Ok((true, "::1", 1636)));
        check("ldap://[::1]", Ok((false, "::1", 389)));
        check("ldap://127.0.0.1:1389", Ok((false, "127.0.0.1", 1389)));
        check(
            "dc1.example.com",
            Err("has no ldaps:// or ldap:// before it"),
        );
        check(
            "http://dc1",
            Err("starts with neither ldaps:// nor ldap://"),
        );
        check("ldap://", Err("has no host"));
        check("ldap://dc1:", Err("has a bad port"));
        check("ldap://dc1:0", Err("has a bad port"));
        check("ldap://dc1:99999", Err("has a bad port"));
        check("ldap://dc1:+1", Err("has a bad port"));
        check("ldap://::1", Err("has no host"));
        check("ldap://[::1", Err("has no closing bracket"));
        check("ldap://[dc1]", Err("is not an IPv6 address"));
        check("ldap://[::1]x", Err("has text after the address"));
        check(
            "ldap://dc1/dc=example",
            Err("has a path; use base_dn and login_filter"),
        );
        let user = Err("names a user; use service_dn and service_password_file");
        check("ldap://cn=x:secret@dc1", user);
    }

    #[test]
    fn the_parentheses_of_a_filter_match() {
        assert_eq!(balanced("(&(a=b)(c={login}))"), Ok(()));
        assert_eq!(balanced("a=b"), Err("does not start with a parenthesis"));
        assert_eq!(
            balanced("(a=b)(c=d)"),
            Err("has text after its last parenthesis")
        );
        assert_eq!(
            balanced("(a=b))"),
            Err("has text after its last parenthesis")
        );
        assert_eq!(
            balanced("((a=b)"),
            Err("has a parenthesis that is not closed")
        );
        assert_eq!(
            balanced("(a=b) "),
            Err("has text after its last parenthesis")
        );
    }
}
