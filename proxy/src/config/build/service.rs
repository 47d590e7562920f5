//! `[[service_account]]`, all of them.

use std::collections::BTreeMap;

use postern_core::mapping::RoleName;
use postern_core::perimeter::Prefix;

use crate::config::section::{Reading, Section};
use crate::config::{Listen, ListenTls, RoleStore, ServiceAccount, keys};

/// `[[service_account]]`, in the order of the file.
pub(in crate::config) fn service_accounts(
    sections: &[Section],
    listen: Option<&Listen>,
    role_store: Option<&RoleStore>,
    reading: &mut Reading<'_>,
) -> Option<Vec<ServiceAccount>> {
    let mut owners: BTreeMap<String, usize> = BTreeMap::new();
    for (index, section) in sections.iter().enumerate() {
        for role in section.list("roles").unwrap_or_default() {
            if role_store.is_some_and(|it| it.user == role) {
                let why = format!("lists \"{role}\", which is role_store.user");
                reading.problem(section.problem("roles", why));
            }
            if let Some(first) = owners.insert(role.clone(), index + 1) {
                let why = format!("\"{role}\" is listed already, by service_account {first}");
                reading.problem(section.problem("roles", why));
            }
        }
    }
    let accounts: Vec<_> = sections
        .iter()
        .map(|section| service_account(section, listen, reading))
        .collect();
    accounts.into_iter().collect()
}

fn service_account(
    section: &Section,
    listen: Option<&Listen>,
    reading: &mut Reading<'_>,
) -> Option<ServiceAccount> {
    let names = section.list("roles")?;
    if names.is_empty() {
        reading.problem(section.problem("roles", "is empty: it lets nobody in"));
    }
    let mut roles = Vec::new();
    for name in names {
        match RoleName::new(&name) {
            Ok(role) => roles.push(role),
            Err(error) => {
                let why = format!("\"{name}\": {error}");
                reading.problem(section.problem("roles", why));
            }
        }
    }
    let tls = section.choice("tls", &keys::LISTEN_TLS)?;
    if tls == ListenTls::AllowPlaintext {
        let key = format!("{} = \"allow-plaintext\"", section.name_of("tls"));
        let text = match listen.map(|it| it.tls) {
            Some(ListenTls::Require) => "it has no effect, because listen.tls is \"require\"",
            Some(ListenTls::AllowPlaintext) | None => {
                "what these programs send and get may cross the network in clear text"
            }
        };
        reading.warn(&key, text);
    }
    let networks = networks(section, reading);
    Some(ServiceAccount {
        roles,
        networks: networks?,
        tls,
        replication: section.boolean("replication")?,
    })
}

fn networks(section: &Section, reading: &mut Reading<'_>) -> Option<Vec<Prefix>> {
    let texts = section.list("networks")?;
    if texts.is_empty() {
        let problem = section.problem("networks", "is empty: nobody could come from anywhere");
        reading.problem(problem.valid("[\"10.20.0.0/24\"], or [\"0.0.0.0/0\"] for all of IPv4"));
    }
    let mut prefixes = Vec::new();
    for text in texts {
        match Prefix::parse(&text) {
            Ok(prefix) => prefixes.push(prefix),
            Err(error) => {
                let why = format!("\"{text}\" {error}");
                reading.problem(section.problem("networks", why));
            }
        }
    }
    Some(prefixes)
}
