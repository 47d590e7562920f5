//! What `check` tries of the directory, part by part, with what to do when a part fails.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ldap3::Scope;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::connection::{Connection, Query};
use super::error::{DirectoryError, code};
use super::feed::{self, FeedSource};
use super::groups;
use super::ldap::LdapDirectory;
use super::local::LocalFile;
use crate::check::Probe;
use crate::config::{FeedChoice, Ldap};
use crate::limits::{CERTIFICATE_WARNING_DAYS, GROUP_MEMBERS_COUNTED_MAX};

/// What the probes belong to.
const LEG: &str = "directory";

/// How many groups are looked at to find one with members.
const GROUPS_LOOKED_AT: u16 = 20;

/// What went wrong, and what to do.
#[derive(Debug, Clone)]
struct Trouble {
    /// What went wrong.
    why: String,
    /// What the operator can do.
    advice: String,
}

/// Every server: reached, its certificate, the service principal, a group.
pub(super) async fn ldap(directory: &LdapDirectory) -> Vec<Probe> {
    let mut probes = Vec::new();
    for index in 0..directory.servers().endpoints().len() {
        server(directory, index, &mut probes).await;
    }
    probes
}

/// The local file: usable, and how many accounts it has.
pub(super) fn local(file: &LocalFile) -> Probe {
    let outcome = match file.accounts() {
        Ok(accounts) => Ok(format!("{} accounts", accounts.len())),
        Err(error) => Err(Trouble {
            why: error.to_string(),
            advice: "make accounts with: postern local passwd NAME".to_owned(),
        }),
    };
    probe(format!("local file {}", file.path().display()), outcome)
}

fn probe(what: String, outcome: Result<String, Trouble>) -> Probe {
    match outcome {
        Ok(seen) => Probe::ok(LEG, what, seen),
        Err(Trouble { why, advice }) => Probe::failed(LEG, what, why, advice),
    }
}

/// One server. What needs a part that failed is not tried.
async fn server(directory: &LdapDirectory, index: usize, probes: &mut Vec<Probe>) {
    let Some(endpoint) = directory.servers().endpoints().get(index) else {
        return;
    };
    let url = endpoint.url.to_string();
    let mut add = |part: &str, outcome| {
        probes.push(probe(format!("{url}: {part}"), outcome));
    };
    match Connection::open(endpoint).await {
        Ok(connection) => {
            add("reachable", Ok("connected".to_owned()));
            add("TLS", certificate(&connection));
            connection.close();
        }
        Err(error) => {
            let advice = open_advice(&error.to_string());
            add(
                "reachable",
                Err(Trouble {
                    why: error.to_string(),
                    advice,
                }),
            );
            return;
        }
    }
    let mut connection = match directory.servers().open_service(index).await {
        Ok(connection) => {
            add("service bind", Ok(directory.config().service_dn.clone()));
            connection
        }
        Err(error) => {
            let advice = bind_advice(&error);
            add(
                "service bind",
                Err(Trouble {
                    why: error.to_string(),
                    advice,
                }),
            );
            return;
        }
    };
    add(
        "group search",
        group(&mut connection, directory.config()).await,
    );
    probes.push(changes(&connection, directory.config()).await);
    connection.close();
}

/// How changes would be heard of, and why not in a better way.
async fn changes(connection: &Connection, config: &Ldap) -> Probe {
    let what = format!("{}: changes", connection.server());
    if config.feed == FeedChoice::Off {
        let why = "directory.feed is \"off\": a change is found at the person's next login only";
        return Probe::warning(LEG, what, why, "set directory.feed to \"auto\"");
    }
    match feed::seen(connection, config).await {
        Ok(seen) => {
            let told = told_by(seen.source, config);
            if seen.shortfalls.is_empty() {
                return Probe::ok(LEG, what, told);
            }
            let why: String = seen
                .shortfalls
                .iter()
                .map(|s| format!("; {}", s.why))
                .collect();
            let cures: Vec<&str> = seen.shortfalls.iter().map(|s| s.cure).collect();
            Probe::warning(LEG, what, told + &why, cures.join("; "))
        }
        Err(error) => {
            let cure = "see the directory server's log";
            Probe::failed(LEG, what, error.to_string(), cure)
        }
    }
}

fn told_by(source: FeedSource, config: &Ldap) -> String {
    match source {
        FeedSource::Syncrepl | FeedSource::Notification | FeedSource::DirSync => {
            format!("told by {source}")
        }
        FeedSource::Poll => {
            let interval = config.poll_interval.as_secs();
            format!("not told: everybody is compared every {interval} s")
        }
    }
}

/// The server's certificate and the day on which it ends.
fn certificate(connection: &Connection) -> Result<String, Trouble> {
    let failed = |why: String| Trouble {
        why,
        advice: "renew the directory server's certificate".to_owned(),
    };
    let Some(der) = connection.certificate() else {
        return Ok("none: passwords cross the network in clear text".to_owned());
    };
    let certificate = Certificate::from_der(der).map_err(|e| failed(e.to_string()))?;
    let end = certificate.tbs_certificate.validity.not_after;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let Some(left) = end.to_unix_duration().checked_sub(now) else {
        return Err(failed(format!("the certificate ended on {end}")));
    };
    let soon = left < Duration::from_secs(CERTIFICATE_WARNING_DAYS * 86_400);
    let note = if soon { ": renew it soon" } else { "" };
    Ok(format!(
        "certificate valid until {end}, {} days{note}",
        left.as_secs() / 86_400
    ))
}

/// A group that the configured search finds, one with members if there is one.
async fn group(connection: &mut Connection, config: &Ldap) -> Result<String, Trouble> {
    let query = Query {
        base: &config.group_base_dn,
        scope: Scope::Subtree,
        filter: &config.group_class_filter,
        attributes: &[&config.group_name_attribute],
        matched_values: None,
    };
    let failed = |error: DirectoryError| Trouble {
        why: error.to_string(),
        advice: "check directory.group_base_dn, and that the service principal may read there"
            .to_owned(),
    };
    let found = connection
        .search_some(&query, GROUPS_LOOKED_AT)
        .await
        .map_err(failed)?;
    let mut empty = None;
    for entry in &found {
        let name = entry
            .name(&config.group_name_attribute)
            .unwrap_or(&entry.dn);
        let members = groups::members_of(connection, config, &entry.dn)
            .await
            .map_err(failed)?;
        if members > 0 {
            let least = if members >= GROUP_MEMBERS_COUNTED_MAX {
                "at least "
            } else {
                ""
            };
            return Ok(format!("found {name}, {least}{members} members"));
        }
        empty.get_or_insert_with(|| name.to_owned());
    }
    Err(match empty {
        Some(name) => Trouble {
            why: format!(
                "found {name} and others, but no {} in them",
                config.group_member_attribute
            ),
            advice: "allow the service principal to read directory.group_member_attribute of \
                     groups"
                .to_owned(),
        },
        None => Trouble {
            why: format!(
                "no entry under {} satisfies {}",
                config.group_base_dn, config.group_class_filter
            ),
            advice: "check directory.group_base_dn and directory.group_class_filter, and that \
                     the service principal may read there"
                .to_owned(),
        },
    })
}

fn open_advice(why: &str) -> String {
    let advice = if why.contains("UnknownIssuer") || why.contains("CaUsedAsEndEntity") {
        "set directory.tls_ca_file to the certificate of the authority that signed the server's"
    } else if why.contains("NotValidForName") || why.contains("not valid for name") {
        "name the server in directory.urls as its certificate does"
    } else if why.contains("Expired") || why.contains("expired") {
        "renew the directory server's certificate"
    } else if why.contains("certificate") {
        "check directory.tls_ca_file and the server's certificate"
    } else if why.contains("lookup") {
        "check the host in directory.urls and the name server"
    } else if why.contains("StartTLS") || why.contains("connect with result code") {
        "the server refuses StartTLS: give it a certificate, or use an ldaps:// URL"
    } else {
        "check directory.urls, that the server runs, and the firewalls between"
    };
    advice.to_owned()
}

fn bind_advice(error: &DirectoryError) -> String {
    let refused = |wanted: &[u32]| {
        let DirectoryError::ServiceBind { code, .. } = error else {
            return false;
        };
        wanted.contains(code)
    };
    let advice = if refused(&[code::INVALID_CREDENTIALS]) {
        "check directory.service_dn and the content of directory.service_password_file"
    } else if refused(&[code::STRONGER_AUTH_REQUIRED, code::CONFIDENTIALITY_REQUIRED]) {
        "the server wants TLS: use an ldaps:// URL or directory.starttls = true"
    } else if matches!(error, DirectoryError::ServicePassword { .. }) {
        "write the service principal's password into the file, readable by postern only"
    } else {
        "see the directory server's log"
    };
    advice.to_owned()
}
