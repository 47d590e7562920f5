//! `[local]` and `[[service_account]]`: how somebody proves who they are.

use super::*;
use crate::config::Exchange;

fn beside_a_directory() -> Sample {
    with("local.file", "'./password'")
}

fn exchange(sample: &Sample) -> Exchange {
    sample.read().unwrap().local.unwrap().exchange
}

fn service_account(text: &str) -> Sample {
    let mut sample = Sample::new();
    sample.add("[[service_account]]\n").add(text);
    sample
}

#[test]
fn scram_is_the_exchange_where_it_tells_nothing_and_loses_nothing() {
    assert_eq!(exchange(&beside_a_directory()), Exchange::Password);
    let mut by_domain = beside_a_directory();
    by_domain.set("local.domain", "'local'");
    assert_eq!(exchange(&by_domain), Exchange::ScramSha256);
    by_domain.set("credential.mode", "'mirror'");
    assert_eq!(exchange(&by_domain), Exchange::Password);
    by_domain.set("local.exchange", "'scram-sha-256'");
    by_domain.refused(&[("local.exchange", "contradicts credential.mode")]);
    let mut mixed = beside_a_directory();
    mixed.set("local.exchange", "'scram-sha-256'");
    mixed.refused(&[("local.exchange", "needs `domain`")]);
}

#[test]
fn a_domain_of_the_file_is_none_of_the_directory() {
    let mut sample = beside_a_directory();
    sample
        .set("local.domain", "'Corp'")
        .set("directory.domains", "['corp.example', 'CORP']");
    sample.refused(&[("local.domain", "is one of directory.domains")]);
    sample.set("local.domain", "'local'");
    let domains = sample.read().unwrap().domains;
    assert_eq!(domains, ["corp.example", "CORP", "local"]);
    sample.set("local.domain", "'a@b'");
    sample.refused(&[("local.domain", "is not a domain")]);
}

#[test]
fn a_service_account_comes_from_its_networks_only() {
    let sample = service_account("roles = ['etl']\nnetworks = ['10.1.0.0/16', 'fd00::/64']\n");
    let config = sample.read().unwrap();
    let [account] = config.service_accounts.try_into().unwrap();
    for (address, may) in [
        ("10.1.2.3", true),
        ("10.2.2.3", false),
        ("::ffff:10.1.2.3", true),
        ("fd00::1", true),
        ("fd00:0:0:1::1", false),
    ] {
        assert_eq!(account.may_come_from(address.parse().unwrap()), may);
    }
    assert!(account.role("etl").is_some() && account.role("ETL").is_none());
    assert_eq!(account.tls, ListenTls::Require);
}

#[test]
fn a_service_account_that_cannot_be_meant_is_refused() {
    let network = "networks = ['10.0.0.0/8']\n";
    for (text, key, why) in [
        (format!("roles = []\n{network}"), "roles", "is empty"),
        (format!("roles = ['pg_x']\n{network}"), "roles", "reserved"),
        (
            format!("roles = ['postern']\n{network}"),
            "roles",
            "which is role_store.user",
        ),
        (
            format!("roles = ['a', 'a']\n{network}"),
            "roles",
            "is listed already",
        ),
        (
            "roles = ['a']\nnetworks = []\n".to_owned(),
            "networks",
            "is empty",
        ),
        (
            "roles = ['a']\nnetworks = ['10.1.2.3']\n".to_owned(),
            "networks",
            "has no length",
        ),
        (
            format!("roles = ['a']\n{network}tls = 'off'\n"),
            "tls",
            "is not one of the choices",
        ),
    ] {
        let key = format!("service_account 1.{key}");
        service_account(&text).refused(&[(&key, why)]);
    }
    let twice = format!("roles = ['a']\n{network}[[service_account]]\nroles = ['a']\n{network}");
    service_account(&twice).refused(&[("service_account 2.roles", "is listed already")]);
    let plaintext = format!("roles = ['a']\n{network}tls = 'allow-plaintext'\n");
    service_account(&plaintext).warned(&["it has no effect"]);
}
