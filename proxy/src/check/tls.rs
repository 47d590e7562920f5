//! The listener's certificate, and how an end date is judged.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use x509_cert::der::DateTime;

use super::{Outcome, Probe};
use crate::config::Listen;
use crate::limits::CERTIFICATE_WARNING_S;
use crate::tls::{
    CertificateFacts, certificate_facts, certificates, server_config, tls_server_end_point,
};

const DAY_S: u64 = 86_400;

/// The listener's certificate and key: usable together, and until when.
pub(super) fn listener(listen: &Listen) -> Vec<Probe> {
    let leg = "listener";
    let (Some(cert_file), Some(key_file)) = (&listen.tls_cert_file, &listen.tls_key_file) else {
        let why = "clients cannot use TLS";
        let cure = "give listen.tls_cert_file and listen.tls_key_file";
        return vec![Probe::warning(leg, "TLS", why, cure)];
    };
    if let Err(error) = server_config(cert_file, key_file) {
        let cure = "give a PEM chain, the server's certificate first, and its key";
        return vec![Probe::failed(leg, "TLS", error.to_string(), cure)];
    }
    let leaf = leaf(listen);
    match leaf.as_ref().and_then(|leaf| certificate_facts(leaf)) {
        Some(facts) => {
            let mut probes = vec![Probe::new(leg, "certificate", certificate_outcome(&facts))];
            if leaf.is_none_or(|leaf| tls_server_end_point(&leaf).is_none()) {
                let why = "no channel binding is defined for the certificate's signature: clients \
                           with channel_binding=require cannot log in";
                let cure = "use a certificate that is signed with ECDSA or RSA, and not Ed25519";
                probes.push(Probe::warning(leg, "channel binding", why, cure));
            }
            probes
        }
        None => Vec::new(),
    }
}

/// Whether the clients of service accounts can be bound to the database's TLS connection, whose
/// certificate this is.
pub(super) fn service_binding(leg: &str, certificate: &[u8], listen: &Listen) -> Probe {
    let what = "channel binding of service accounts";
    let theirs = tls_server_end_point(certificate);
    let ours = leaf(listen).and_then(|leaf| tls_server_end_point(&leaf));
    if theirs.is_some() && theirs == ours {
        let detail = "passed on: the listener has the same certificate";
        return Probe::ok(leg, what, detail);
    }
    let why = "ends at Postern: a client of libpq that connects with TLS is refused, unless it \
               switches channel binding off";
    let cure = "connect these programs with channel_binding=disable, or give the listener the \
                database's own certificate and key";
    Probe::warning(leg, what, why, cure)
}

/// The listener's own certificate, without those behind it.
fn leaf(listen: &Listen) -> Option<CertificateDer<'static>> {
    let chain = certificates(listen.tls_cert_file.as_ref()?).ok()?;
    chain.into_iter().next()
}

/// What the end date of a certificate means today: well, soon, over.
///
/// For every leg: the directory and the role store use it for their servers.
pub(crate) fn certificate_outcome(facts: &CertificateFacts) -> Outcome {
    // A clock before 1970 makes every certificate look valid; nothing else works then either.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    outcome_at(facts, now.as_secs())
}

fn outcome_at(facts: &CertificateFacts, now_s: u64) -> Outcome {
    let names = if facts.names.is_empty() {
        facts.subject.clone()
    } else {
        facts.names.join(", ")
    };
    let end = date(facts.not_after_s);
    let cure = "renew the certificate".to_owned();
    if facts.not_after_s < now_s {
        let why = format!("{names}: over since {end}");
        return Outcome::Failed { why, cure };
    }
    let days = (facts.not_after_s - now_s) / DAY_S;
    if facts.not_after_s - now_s < CERTIFICATE_WARNING_S {
        let why = format!("{names}: ends in {days} days, on {end}");
        return Outcome::Warning { why, cure };
    }
    let detail = format!("{names}: valid until {end}, {days} days");
    Outcome::Ok { detail }
}

/// `YYYY-MM-DD` in UTC.
fn date(unix_s: u64) -> String {
    match DateTime::from_unix_duration(std::time::Duration::from_secs(unix_s)) {
        Ok(date) => format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day()),
        Err(_) => "the end of time".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_well_soon_over_or_over() {
        let facts = CertificateFacts {
            subject: "CN=db1".to_owned(),
            not_after_s: 1_893_456_000,
            names: vec!["db1".to_owned()],
        };
        let check = |before_s: u64, expect: &str| {
            let text = match outcome_at(&facts, facts.not_after_s + DAY_S - before_s) {
                Outcome::Ok { detail } => format!("ok {detail}"),
                Outcome::Warning { why, .. } => format!("warn {why}"),
                Outcome::Failed { why, .. } => format!("failed {why}"),
            };
            assert_eq!(text, expect);
        };
        check(41 * DAY_S, "ok db1: valid until 2030-01-01, 40 days");
        check(10 * DAY_S, "warn db1: ends in 9 days, on 2030-01-01");
        check(0, "failed db1: over since 2030-01-01");
    }
}
