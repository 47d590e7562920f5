//! From checked values to the typed configuration, with the checks across keys.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use postern_core::cache::Policy;
use postern_core::lockout::Limit;
use postern_core::mapping::{GroupRule, GroupRuleError, GroupRules, Matcher};
use postern_core::perimeter::Prefix;
use regex::Regex;

use super::keys;
use super::section::{Reading, Section};
use super::{
    Audit, AuthMethod, Backend, Cache, Control, Credential, CredentialMode, Endpoint, Groups,
    Listen, ListenTls, Lockout, Metrics, Revocation, RoleStore, SslMode,
};
use crate::tls::server_name;

mod admin;
mod cluster;
mod directory;
mod limits;
mod perimeter;
mod service;

pub(super) use admin::admin;
pub(super) use cluster::cluster;
pub(super) use directory::{directory, domains, local};
pub(super) use limits::limits;
pub(super) use perimeter::{Rules, perimeter};
pub(super) use service::service_accounts;

/// `[listen]`.
pub(super) fn listen(section: &Section, reading: &mut Reading<'_>) -> Option<Listen> {
    let tls = section.choice("tls", &keys::LISTEN_TLS);
    let cert = section.path("tls_cert_file");
    let key = section.path("tls_key_file");
    match tls {
        Some(ListenTls::Require) => {
            section.require("tls_cert_file", reading);
            section.require("tls_key_file", reading);
        }
        Some(ListenTls::AllowPlaintext) => {
            reading.warn(
                "listen.tls = \"allow-plaintext\"",
                "passwords of clients may cross the network in \
                 clear text",
            );
            if section.has("tls_cert_file") != section.has("tls_key_file") {
                let (missing, given) = match section.has("tls_cert_file") {
                    true => ("tls_key_file", "tls_cert_file"),
                    false => ("tls_cert_file", "tls_key_file"),
                };
                let why = format!("is missing, but `{given}` is given; TLS needs both");
                reading.problem(section.problem(missing, why));
            }
        }
        None => {}
    }
    let addresses = addresses(section, reading);
    Some(Listen {
        addresses: addresses?,
        tls: tls?,
        tls_cert_file: cert,
        tls_key_file: key,
        denied_parameters: section.list("denied_parameters")?,
        proxy_protocol_from: trusted_proxies(section, reading),
    })
}

fn trusted_proxies(section: &Section, reading: &mut Reading<'_>) -> Vec<Prefix> {
    let mut trusted = Vec::new();
    for text in section.list("proxy_protocol_from").unwrap_or_default() {
        match Prefix::parse(&text) {
            Ok(prefix) => trusted.push(prefix),
            Err(error) => {
                let why = format!("\"{text}\" {error}");
                reading.problem(section.problem("proxy_protocol_from", why));
            }
        }
    }
    trusted
}

fn addresses(section: &Section, reading: &mut Reading<'_>) -> Option<Vec<SocketAddr>> {
    let texts = section.list("addresses")?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    if texts.is_empty() {
        reading.problem(section.problem("addresses", "is empty: no client could connect"));
    }
    for text in texts {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 && addresses.contains(&address) => {
                reading.problem(section.problem("addresses", format!("lists {text} twice")));
            }
            Ok(address) => addresses.push(address),
            Err(_) => {
                let why = format!("\"{text}\" is not an address and a port");
                let problem = section.problem("addresses", why);
                reading.problem(problem.valid("\"0.0.0.0:5050\", \"[::]:5050\""));
            }
        }
    }
    Some(addresses)
}

/// `[groups]` and `[[group_rule]]`.
pub(super) fn groups(
    section: &Section,
    rules: &[Section],
    reading: &mut Reading<'_>,
) -> Option<Groups> {
    let rules: Vec<_> = rules.iter().map(|rule| group_rule(rule, reading)).collect();
    Some(Groups {
        rules: GroupRules::new(rules.into_iter().collect::<Option<Vec<_>>>()?),
        lowercase_roles: section.boolean("lowercase_roles")?,
        missing: section.choice("missing", &keys::MISSING)?,
    })
}

fn group_rule(section: &Section, reading: &mut Reading<'_>) -> Option<GroupRule> {
    let prefix = section.text("prefix");
    let names = section.list("names");
    let regex = section.text("regex");
    let role = section.text("role");
    let databases = section.list("databases").unwrap_or_default();
    let kinds: Vec<&str> = ["prefix", "names", "regex"]
        .into_iter()
        .filter(|key| section.has(key))
        .collect();
    match kinds.as_slice() {
        [] => section.require("prefix", reading),
        [_] => {}
        [first, .., last] => {
            let why = format!("stands beside `{first}`: a rule has exactly one of them");
            reading.problem(
                section
                    .problem(last, why)
                    .valid("`prefix`, `names` or `regex`"),
            );
            return None;
        }
    }
    let matcher = if let Some(prefix) = prefix {
        Matcher::Prefix(prefix)
    } else if let Some(names) = names {
        Matcher::Names(names)
    } else {
        Matcher::Regex(expression(section, &regex?, reading)?)
    };
    let (strict, replication) = (section.boolean("strict")?, section.boolean("replication")?);
    match GroupRule::new(matcher, role, databases) {
        Ok(rule) => Some(rule.strict(strict).replication(replication)),
        Err(error) => {
            let key = match error {
                GroupRuleError::EmptyMatcher | GroupRuleError::Regex(_) => kinds.first().copied(),
                GroupRuleError::EmptyDatabase => Some("databases"),
                GroupRuleError::EmptyTemplate
                | GroupRuleError::LoneDollar
                | GroupRuleError::UnknownCapture(_) => Some("role"),
            };
            reading.problem(section.problem(key.unwrap_or("prefix"), error.to_string()));
            None
        }
    }
}

/// The expression; the rule itself sees to it that it matches whole names only.
fn expression(section: &Section, text: &str, reading: &mut Reading<'_>) -> Option<Regex> {
    let error = match Regex::new(text) {
        Ok(regex) => return Some(regex),
        Err(error) => error.to_string(),
    };
    // The library draws the place over several lines; its last line says what is wrong.
    let why = error
        .lines()
        .last()
        .unwrap_or_default()
        .trim_start_matches("error: ");
    reading.problem(section.problem("regex", format!("is not a regular expression: {why}")));
    None
}

/// `[role_store]`.
pub(super) fn role_store(section: &Section, reading: &mut Reading<'_>) -> Option<RoleStore> {
    let endpoint = endpoint(section, reading);
    let user = section.text("user");
    if user.as_deref() == Some("postgres") {
        reading.warn(
            "role_store.user = \"postgres\"",
            "it is usually a superuser: a role with CREATEROLE is \
             enough, and cannot be used to take over the server",
        );
    }
    Some(RoleStore {
        endpoint: endpoint?,
        database: section.text("database")?,
        user: user?,
        password_file: section.path("password_file")?,
        statement_timeout: milliseconds(section, "statement_timeout_ms")?,
    })
}

/// `[[backend]]`, all of them.
pub(super) fn backends(sections: &[Section], reading: &mut Reading<'_>) -> Option<Vec<Backend>> {
    let mut owners: BTreeMap<String, usize> = BTreeMap::new();
    let mut catch_all = None;
    for (index, section) in sections.iter().enumerate() {
        let number = index + 1;
        let databases = section.list("databases").unwrap_or_default();
        if databases.is_empty()
            && let Some(first) = catch_all.replace(number)
        {
            let why = format!(
                "is empty, as in backend {first}: only one backend can take all other databases"
            );
            reading.problem(section.problem("databases", why));
        }
        for database in databases {
            if let Some(first) = owners.insert(database.clone(), number) {
                let why = format!("\"{database}\" is listed already, by backend {first}");
                reading.problem(section.problem("databases", why));
            }
        }
    }
    let backends: Vec<_> = sections
        .iter()
        .map(|section| backend(section, reading))
        .collect();
    backends.into_iter().collect()
}

fn backend(section: &Section, reading: &mut Reading<'_>) -> Option<Backend> {
    let endpoint = endpoint(section, reading);
    let names = section.list("auth_methods")?;
    if names.is_empty() {
        reading.problem(section.problem("auth_methods", "is empty: no server could be used"));
    }
    let find = |name: &String| keys::AUTH_METHODS.iter().find(|(choice, _)| choice == name);
    let methods: Vec<AuthMethod> = names
        .iter()
        .filter_map(find)
        .map(|(_, method)| *method)
        .collect();
    let name = section.name_of("auth_methods");
    for method in &methods {
        match method {
            AuthMethod::ScramSha256 => {}
            AuthMethod::Md5 => reading.warn(
                &name,
                "md5: what a server stores for it is enough to log in",
            ),
            AuthMethod::Cleartext => {
                reading.warn(&name, "cleartext: the server sees the role's secret");
                refuse_cleartext_without_tls(section, endpoint.as_ref(), reading);
            }
            AuthMethod::Trust => reading.warn(
                &name,
                "trust: a server that asks for nothing lets everybody in who reaches it",
            ),
        }
    }
    Some(Backend {
        endpoint: endpoint?,
        databases: section.list("databases").unwrap_or_default(),
        auth_methods: methods,
        client_address: section.boolean("client_address")?,
    })
}

fn refuse_cleartext_without_tls(
    section: &Section,
    endpoint: Option<&Endpoint>,
    reading: &mut Reading<'_>,
) {
    let Some(endpoint) = endpoint else { return };
    let insists = match endpoint.sslmode {
        SslMode::Disable | SslMode::Allow | SslMode::Prefer => false,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => true,
    };
    if !insists && !is_loopback(&endpoint.host) {
        let why = "lists cleartext, which would send the role's secret without TLS";
        let problem = section.problem("auth_methods", why);
        reading.problem(problem.valid("cleartext with sslmode \"require\" or stricter"));
    }
}

fn endpoint(section: &Section, reading: &mut Reading<'_>) -> Option<Endpoint> {
    let host = section.text("host")?;
    let sslmode = section.choice("sslmode", &keys::SSLMODE);
    if server_name(&host).is_err() {
        reading.problem(section.problem("host", "is not a host name or an address"));
    }
    let mode = section.text("sslmode").unwrap_or_default();
    if sslmode != Some(SslMode::VerifyFull) && sslmode.is_some() && !is_loopback(&host) {
        let name = section.name_of("sslmode");
        let key = format!("{name} = \"{mode}\"");
        reading.warn(
            &key,
            format!(
                "whoever is between here and {host} can pose as the server; \"verify-full\" \
                 prevents it"
            ),
        );
    }
    if matches!(
        sslmode,
        Some(SslMode::Disable | SslMode::Allow | SslMode::Prefer)
    ) && section.has("tls_ca_file")
    {
        let name = section.name_of("tls_ca_file");
        reading.warn(
            &name,
            format!("it has no effect: sslmode = \"{mode}\" looks at no certificate"),
        );
    }
    Some(Endpoint {
        host,
        port: section.integer("port")?,
        sslmode: sslmode?,
        tls_ca_file: section.path("tls_ca_file"),
        connect_timeout: milliseconds(section, "connect_timeout_ms")?,
    })
}

/// Whether a connection to the host cannot leave the machine.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// `[credential]`.
pub(super) fn credential(section: &Section, reading: &mut Reading<'_>) -> Option<Credential> {
    let mode = section.choice("mode", &keys::CREDENTIAL_MODE)?;
    let mirror_reason = match mode {
        CredentialMode::Mirror => section.text("mirror_reason"),
        CredentialMode::Derived => None,
    };
    if mode == CredentialMode::Mirror && mirror_reason.is_none() {
        reading.warn(
            "credential.mode = \"mirror\"",
            "there is no mirror_reason: whoever has a person's \
             directory password can reach the database past Postern",
        );
    }
    Some(Credential {
        mode,
        cluster_key_file: section.path("cluster_key_file")?,
        epoch: section.integer("epoch")?,
    })
}

/// `[cache]`.
pub(super) fn cache(section: &Section, reading: &mut Reading<'_>) -> Option<Cache> {
    let recheck = seconds(section, "recheck_s")?;
    let dead = seconds(section, "dead_s")?;
    let stale = seconds(section, "stale_s")?;
    for (key, time) in [("recheck_s", recheck), ("stale_s", stale)] {
        if time > dead {
            let why = format!(
                "is {} but dead_s is only {}",
                time.as_secs(),
                dead.as_secs()
            );
            reading.problem(
                section
                    .problem(key, why)
                    .valid("a value up to that of dead_s"),
            );
        }
    }
    Some(Cache {
        entries_max: section.integer("entries_max")?,
        policy: Policy {
            recheck,
            dead,
            stale,
            negative: seconds(section, "negative_s")?,
        },
    })
}

/// `[lockout]`.
pub(super) fn lockout(section: &Section) -> Option<Lockout> {
    let window = seconds(section, "window_s")?;
    let limit = |key| {
        let tries_max = section.integer(key)?;
        Some(Limit { tries_max, window })
    };
    Some(Lockout {
        person: limit("tries_per_person_max")?,
        address: limit("tries_per_address_max")?,
    })
}

/// `[revocation]`.
pub(super) fn revocation(section: &Section) -> Option<Revocation> {
    Some(Revocation {
        lost_group: section.choice("lost_group", &keys::LOST_GROUP)?,
        deprovision: section.choice("deprovision", &keys::DEPROVISION)?,
        directory_away: seconds(section, "directory_away_s")?,
        after: section.choice("after_directory_away", &keys::AFTER_DIRECTORY_AWAY)?,
    })
}

/// `[audit]`.
pub(super) fn audit(section: &Section) -> Option<Audit> {
    Some(Audit {
        file: section.path("file")?,
    })
}

/// `[control]`.
pub(super) fn control(section: &Section, reading: &Reading<'_>) -> Control {
    let of_service = || Some(reading.places.runtime.as_ref()?.join("control.sock"));
    Control {
        socket: section.path("socket").or_else(of_service),
    }
}

/// `[metrics]`.
pub(super) fn metrics(section: &Section, reading: &mut Reading<'_>) -> Option<Metrics> {
    let listen = match section.text("listen") {
        None => None,
        Some(text) => match text.parse::<SocketAddr>() {
            Ok(address) => Some(address),
            Err(_) => {
                let why = format!("\"{text}\" is not an address and a port");
                let problem = section.problem("listen", why);
                reading.problem(problem.valid("\"127.0.0.1:9187\", \"[::1]:9187\""));
                return None;
            }
        },
    };
    Some(Metrics { listen })
}

/// A key with the unit milliseconds.
pub(super) fn milliseconds(section: &Section, key: &str) -> Option<Duration> {
    section.integer(key).map(Duration::from_millis)
}

/// A key with the unit seconds.
pub(super) fn seconds(section: &Section, key: &str) -> Option<Duration> {
    section.integer(key).map(Duration::from_secs)
}
