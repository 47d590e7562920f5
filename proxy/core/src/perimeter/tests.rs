//! What is compiled, and what is refused.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not so"
)]

use std::net::IpAddr;

use postern_ebpf::abi::{INTERFACES_MAX, PREFIXES_MAX};
use proptest::prelude::*;

use super::*;

mod edges;

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|it| (*it).to_owned()).collect()
}

fn protect(prefixes: &[&str], ports: &[u16]) -> ProtectRule {
    ProtectRule {
        prefixes: texts(prefixes),
        ports: ports.to_vec(),
    }
}

fn allow(sources: &[&str], interfaces: &[&str]) -> AllowRule {
    AllowRule {
        sources: texts(sources),
        interfaces: texts(interfaces),
    }
}

/// A gateway between three subnets.
fn gateway() -> Configured {
    Configured {
        place: Place::Gateway,
        interfaces: texts(&["eth0", "eth1"]),
        await_interfaces: texts(&["wg0"]),
        cgroup_keys: Vec::new(),
        protect: vec![protect(&["10.20.0.0/24", "fd00:20::/64"], &[5432])],
        allow: vec![allow(&["10.10.0.5/32", "fd00:10::5/128"], &["eth1", "wg0"])],
    }
}

fn proxy_host() -> Configured {
    Configured {
        place: Place::ProxyHost,
        interfaces: Vec::new(),
        await_interfaces: Vec::new(),
        allow: Vec::new(),
        ..gateway()
    }
}

/// The policy of `gateway` after a change.
fn compiled(change: impl FnOnce(&mut Configured)) -> Result<Plan, Vec<Refused>> {
    let mut configured = gateway();
    change(&mut configured);
    compile(&configured)
}

fn prefix(text: &str) -> Prefix {
    Prefix::parse(text).unwrap()
}

#[test]
fn a_prefix_is_read_and_written_alike() {
    for text in [
        "0.0.0.0/0",
        "10.20.0.0/24",
        "192.0.2.1/32",
        "2000::/3",
        "fd00::1/128",
        "::1/128",
    ] {
        assert_eq!(prefix(text).to_string(), text);
    }
    assert_eq!(prefix("::ffff:10.20.0.0/120"), prefix("10.20.0.0/24"));
    assert_eq!(prefix("::ffff:0.0.0.0/96"), prefix("0.0.0.0/0"));
    assert_eq!(prefix("10.20.0.0/24").bits(), 120);
}

#[test]
fn whatever_is_not_exactly_one_prefix_is_refused() {
    let why = |text: &str| Prefix::parse(text).unwrap_err();
    for text in [
        "",
        "/",
        "db1/24",
        "10.20.0/24",
        "10.20.0.0.0/24",
        " 10.0.0.0/8",
        "fe80::1%eth0/64",
    ] {
        assert!(
            matches!(why(text), PrefixError::NotAnAddress),
            "{text:?}: {:?}",
            why(text)
        );
    }
    assert_eq!(why("10.0.0.1"), PrefixError::NoLength);
    for text in [
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10.0.0.0/8/8",
        "fd00::/129",
        "fd00::/999",
    ] {
        assert_eq!(why(text), PrefixError::BadLength, "{text}");
    }
    assert_eq!(
        why("10.20.0.1/24"),
        PrefixError::HostBits(prefix("10.20.0.0/24"))
    );
    assert_eq!(
        why("::ffff:10.0.0.1/104"),
        PrefixError::HostBits(prefix("10.0.0.0/8"))
    );
    for text in ["::/0", "::/64", "::/80"] {
        assert_eq!(why(text), PrefixError::HoldsIpv4, "{text}");
    }
    assert_eq!(prefix("::/96").to_string(), "::/96");
}

#[test]
fn entries_have_the_ports_the_bits_and_the_rules() {
    let plan = compiled(|it| it.protect.push(protect(&["10.30.0.0/16"], &[]))).unwrap();
    let seen: Vec<_> = plan
        .protected
        .iter()
        .map(|(prefix, value)| (prefix.to_string(), value.ports_len, value.rule))
        .collect();
    let expect = [
        ("10.20.0.0/24", 1, 0),
        ("10.30.0.0/16", 0, 1),
        ("fd00:20::/64", 1, 0),
    ];
    assert_eq!(
        seen,
        expect.map(|(it, ports, rule)| (it.to_owned(), ports, rule))
    );
    assert_eq!(plan.protected.first().unwrap().1.ports, [5432; 8]);
    assert!(
        plan.allowed
            .iter()
            .all(|(_, value)| value.interfaces == 0b110)
    );
    assert_eq!(plan.answers(), [5432]);
    assert_eq!(plan.bit("wg0"), Some(2));
    assert_eq!(plan.bit("eth9"), None);
}

#[test]
fn at_the_proxys_host_the_cgroup_is_what_is_allowed() {
    let plan = compile(&proxy_host()).unwrap();
    assert_eq!((plan.interfaces, plan.allowed), (Vec::new(), Vec::new()));
}

/// A change, and why the policy is refused after it.
type Case = (fn(&mut Configured), Refused);

fn refuses_each<const N: usize>(cases: [Case; N]) {
    for (change, expect) in cases {
        assert_eq!(compiled(change), Err(vec![expect]));
    }
}

#[test]
fn a_policy_without_its_parts_or_with_impossible_names_is_refused() {
    refuses_each([
        (|it| it.protect.clear(), Refused::NothingProtected),
        (|it| it.allow.clear(), Refused::NothingAllowed),
        (
            |it| it.interfaces.push("eth0".to_owned()),
            Refused::InterfaceTwice("eth0".to_owned()),
        ),
        (
            |it| it.await_interfaces.push("eth1".to_owned()),
            Refused::InterfaceTwice("eth1".to_owned()),
        ),
        (
            |it| it.interfaces.push("a/b".to_owned()),
            Refused::InterfaceName("a/b".to_owned()),
        ),
        (
            |it| it.interfaces.push("a234567890123456".to_owned()),
            Refused::InterfaceName("a234567890123456".to_owned()),
        ),
    ]);
}

#[test]
fn what_no_entry_can_hold_is_refused() {
    let (first, second) = (Rule::Protect(0), Rule::Protect(1));
    refuses_each([
        (
            |it| it.cgroup_keys.push("cgroup"),
            Refused::NotForPlace {
                place: Place::Gateway,
                key: "cgroup",
            },
        ),
        (
            |it| it.protect.push(protect(&["10.20.1.1/24"], &[])),
            Refused::Prefix {
                rule: second,
                text: "10.20.1.1/24".to_owned(),
                why: PrefixError::HostBits(prefix("10.20.1.0/24")),
            },
        ),
        (
            |it| it.protect.push(protect(&[], &[])),
            Refused::NoPrefix(second),
        ),
        (
            |it| it.protect = vec![protect(&["10.0.0.0/8"], &[0, 5432])],
            Refused::PortZero(first),
        ),
        (
            |it| it.protect = vec![protect(&["10.0.0.0/8"], &[1, 2, 3, 4, 5, 6, 7, 8, 9])],
            Refused::TooManyPorts {
                rule: first,
                count: 9,
            },
        ),
        (
            |it| {
                it.protect = vec![
                    protect(&["10.0.0.0/16"], &[1, 2, 3, 4, 5, 6, 7, 8]),
                    protect(&["10.1.0.0/16"], &[9, 10, 11, 12, 13, 14, 15, 16]),
                    protect(&["10.2.0.0/16"], &[17]),
                ];
            },
            Refused::TooManyAnswers(17),
        ),
    ]);
}

#[test]
fn protected_prefixes_that_contradict_each_other_are_refused() {
    let (first, second) = (Rule::Protect(0), Rule::Protect(1));
    refuses_each([
        (
            |it| it.protect.push(protect(&["10.20.0.0/24"], &[])),
            Refused::OtherPorts {
                rule: second,
                prefix: prefix("10.20.0.0/24"),
                other: 0,
            },
        ),
        (
            |it| it.protect.push(protect(&["10.20.0.128/25"], &[5433])),
            Refused::PortsLeftOut {
                rule: second,
                inner: prefix("10.20.0.128/25"),
                outer: prefix("10.20.0.0/24"),
                other: 0,
            },
        ),
        (
            |it| it.protect.push(protect(&["10.0.0.0/8"], &[])),
            Refused::PortsLeftOut {
                rule: first,
                inner: prefix("10.20.0.0/24"),
                outer: prefix("10.0.0.0/8"),
                other: 1,
            },
        ),
    ]);
}

#[test]
fn allowed_sources_that_contradict_each_other_are_refused() {
    refuses_each([
        (
            |it| it.allow.push(allow(&["10.11.0.0/16"], &["eth2"])),
            Refused::UnknownInterface {
                rule: Rule::Allow(1),
                name: "eth2".to_owned(),
            },
        ),
        (
            |it| it.allow.push(allow(&["10.11.0.0/16"], &[])),
            Refused::AllowedNowhere(Rule::Allow(1)),
        ),
        (
            |it| it.allow.push(allow(&["10.10.0.5/32"], &["eth1"])),
            Refused::OtherInterfaces {
                rule: Rule::Allow(1),
                inner: prefix("10.10.0.5/32"),
                outer: prefix("10.10.0.5/32"),
                other: 0,
            },
        ),
        (
            |it| it.allow.push(allow(&["10.10.0.0/24"], &["eth0"])),
            Refused::OtherInterfaces {
                rule: Rule::Allow(0),
                inner: prefix("10.10.0.5/32"),
                outer: prefix("10.10.0.0/24"),
                other: 1,
            },
        ),
    ]);
}

#[test]
fn a_policy_without_an_interface_is_refused() {
    let refused = compiled(|it| {
        it.interfaces.clear();
        it.await_interfaces.clear();
        it.allow = vec![allow(&["10.10.0.5/32"], &["eth0"])];
    });
    let unknown = Refused::UnknownInterface {
        rule: Rule::Allow(0),
        name: "eth0".to_owned(),
    };
    assert_eq!(refused, Err(vec![Refused::NoInterface, unknown]));
}

#[test]
fn the_proxys_host_has_neither_interfaces_nor_allowed_sources() {
    let mut configured = gateway();
    configured.place = Place::ProxyHost;
    let refused = compile(&configured).unwrap_err();
    let key = |key| Refused::NotForPlace {
        place: Place::ProxyHost,
        key,
    };
    assert_eq!(
        refused,
        ["interfaces", "await_interfaces", "allow"].map(key)
    );
}

#[test]
fn what_repeats_or_narrows_a_rule_without_contradiction_is_taken() {
    let plan = compiled(|it| {
        it.protect.push(protect(&["10.20.0.0/24"], &[5432, 5432]));
        it.protect.push(protect(&["10.20.0.7/32"], &[5433, 5432]));
        it.protect.push(protect(&["10.20.0.8/32"], &[]));
        it.allow.push(allow(&["10.10.0.0/24"], &["wg0", "eth1"]));
    });
    let plan = plan.unwrap();
    let rules: Vec<u32> = plan.protected.iter().map(|(_, value)| value.rule).collect();
    assert_eq!(rules, [0, 2, 3, 0]);
}

#[test]
fn the_limits_are_reached_and_not_passed() {
    let names = |count: usize| (0..count).map(|it| format!("if{it}")).collect::<Vec<_>>();
    let with = |count: usize| {
        compiled(|it| {
            it.interfaces = names(count);
            it.await_interfaces.clear();
            it.allow = vec![allow(&["10.10.0.5/32"], &[&format!("if{}", count - 1)])];
        })
    };
    let full = with(INTERFACES_MAX).unwrap();
    assert_eq!(full.allowed.first().unwrap().1.interfaces, 1 << 63);
    let refused = Refused::TooManyInterfaces(INTERFACES_MAX + 1);
    assert_eq!(with(INTERFACES_MAX + 1), Err(vec![refused]));
    let many = |count: u32| {
        compiled(|it| {
            let texts = (0..count).map(|at| format!("{}/32", std::net::Ipv4Addr::from(at)));
            let sources = texts.collect();
            it.allow = vec![AllowRule {
                sources,
                interfaces: texts_of_eth1(),
            }];
        })
    };
    assert_eq!(many(PREFIXES_MAX).unwrap().allowed.len(), 65_536);
    let (rule, count) = (Rule::Allow(0), 65_537);
    let refused = Refused::TooManyPrefixes { rule, count };
    assert_eq!(many(PREFIXES_MAX + 1), Err(vec![refused]));
}

fn texts_of_eth1() -> Vec<String> {
    texts(&["eth1"])
}

#[test]
fn only_an_interface_that_is_not_awaited_is_missing() {
    let plan = compile(&gateway()).unwrap();
    let missing = plan.missing(|name| name == "eth0");
    assert_eq!(missing, [Refused::MissingInterface("eth1".to_owned())]);
}

#[test]
fn the_digest_changes_with_everything_that_decides() {
    let digest = |change: fn(&mut Configured)| compiled(change).unwrap().digest(Mode::Enforce);
    let changes: [fn(&mut Configured); 5] = [
        |_| {},
        |it| it.place = Place::DatabaseHost,
        |it| it.protect = vec![protect(&["10.20.0.0/24"], &[5432])],
        |it| it.protect = vec![protect(&["10.20.0.0/24", "fd00:20::/64"], &[5433])],
        |it| it.allow = vec![allow(&["10.10.0.5/32", "fd00:10::5/128"], &["eth1"])],
    ];
    let mut digests: Vec<_> = changes.map(digest).to_vec();
    digests.push(compile(&gateway()).unwrap().digest(Mode::Monitor));
    assert_eq!(digest(|_| {}), *digests.first().unwrap());
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), changes.len() + 1);
}

#[test]
fn every_refusal_names_what_it_is_about() {
    let refused = compiled(|it| it.protect.push(protect(&["10.20.0.128/25"], &[5433])));
    let refused = refused.unwrap_err();
    let first = refused.first().unwrap();
    assert_eq!(
        first.to_string(),
        "10.20.0.128/25 lies in 10.20.0.0/24 of rule 1, whose ports it does not include"
    );
    assert_eq!(first.stands_at(), (Some(Rule::Protect(1)), "prefixes"));
}

proptest! {
    #[test]
    fn a_prefix_contains_what_shares_its_bits(
        bytes: [u8; 16],
        bits in 0_u8..=128,
        flip in 0_u8..128,
    ) {
        let outer = Prefix::covering(bytes, bits);
        prop_assert!(outer.contains(Prefix::covering(bytes, 128)));
        let flipped = u128::from_be_bytes(bytes) ^ (1 << (127 - u32::from(flip)));
        let other = Prefix::covering(flipped.to_be_bytes(), 128);
        prop_assert_eq!(outer.contains(other), flip >= bits);
    }

    #[test]
    fn an_address_is_the_same_after_a_way_through_its_octets(address: IpAddr) {
        let canonical = address.to_canonical();
        prop_assert_eq!(address_of(octets(address)), canonical);
    }
}

#[test]
fn the_database_s_own_link_local_addresses_are_protected_with_all_its_ports() {
    let on_host = |change: &dyn Fn(&mut Configured)| {
        let plan = compiled(|it| {
            it.place = Place::DatabaseHost;
            change(it);
        });
        let entries = plan.unwrap().protected;
        let mut of_link = entries.iter().filter(|it| it.0 == prefix("fe80::/10"));
        of_link
            .next()
            .map(|(_, value)| (value.ports, value.ports_len))
    };
    assert_eq!(on_host(&|_| ()), Some(([5432; 8], 1)));
    let two = |it: &mut Configured| it.protect.push(protect(&["10.21.0.0/24"], &[6432]));
    let ports = [5432, 6432, 5432, 5432, 5432, 5432, 5432, 5432];
    assert_eq!(on_host(&two), Some((ports, 2)));
    let all = |it: &mut Configured| it.protect.push(protect(&["10.21.0.0/24"], &[]));
    assert_eq!(on_host(&all), Some(([0; 8], 0)));
    let own = |it: &mut Configured| it.protect.push(protect(&["fe80::1/128"], &[22]));
    assert_eq!(on_host(&own), None);
    let gateway = compiled(|_| ()).unwrap();
    assert!(
        gateway
            .protected
            .iter()
            .all(|it| it.0 != prefix("fe80::/10"))
    );
}
