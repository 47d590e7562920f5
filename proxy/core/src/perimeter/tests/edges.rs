//! The last values that are taken, and the first ones that are not.

use std::net::Ipv4Addr;

use super::*;

#[test]
fn a_prefix_has_the_octets_of_its_first_address() {
    let host = IpAddr::V4(Ipv4Addr::new(10, 20, 0, 7));
    assert_eq!(prefix("10.20.0.7/32").address(), octets(host));
    assert_eq!(Prefix::single(host), prefix("10.20.0.7/32"));
    assert_ne!(prefix("10.20.0.8/32").address(), octets(host));
    assert!(prefix("10.20.0.0/24").contains(Prefix::single(host)));
    assert!(prefix("10.20.0.7/32").contains(prefix("10.20.0.7/32")));
    assert!(!prefix("10.20.0.7/32").contains(prefix("10.20.0.0/24")));
    assert_eq!(Prefix::covering([0xff; 16], 0).address(), [0; 16]);
    assert_eq!(Prefix::covering([0xff; 16], 200).bits(), 128);
}

#[test]
fn whatever_the_kernel_takes_for_no_name_is_refused() {
    for name in [
        "",
        ".",
        "..",
        "a:b",
        "a b",
        "a\tb",
        "ä",
        "a23456789012345\n",
    ] {
        let refused = compiled(|it| it.interfaces.push(name.to_owned()));
        let expect = Refused::InterfaceName(name.to_owned());
        assert_eq!(refused, Err(vec![expect]), "{name:?}");
    }
    for name in ["a23456789012345", "...", "eth0.7", "x"] {
        let plan = compiled(|it| it.interfaces.push(name.to_owned()));
        assert_eq!(plan.unwrap().bit(name), Some(2), "{name}");
    }
}

#[test]
fn as_many_ports_as_there_are_places_are_taken() {
    let sixteen = |it: &mut Configured| {
        it.protect = vec![
            protect(&["10.0.0.0/16"], &[1, 2, 3, 4, 5, 6, 7, 8]),
            protect(&["10.1.0.0/16"], &[9, 10, 11, 12, 13, 14, 15, 16]),
        ];
    };
    let plan = compiled(sixteen).unwrap();
    assert_eq!(plan.answers(), (1..=16).collect::<Vec<_>>());
    // Elsewhere no answers are held back, and there is no limit to them.
    for place in [Place::DatabaseHost, Place::ProxyHost] {
        let mut configured = match place {
            Place::ProxyHost => proxy_host(),
            Place::Gateway | Place::DatabaseHost => gateway(),
        };
        configured.place = place;
        sixteen(&mut configured);
        configured.protect.push(protect(&["10.2.0.0/16"], &[17]));
        let answers = compile(&configured).unwrap().answers();
        assert!(answers.is_empty(), "{answers:?}");
    }
}

#[test]
fn link_local_addresses_have_every_port_when_eight_are_not_enough() {
    let of_link = |second: &[u16]| {
        let plan = compiled(|it| {
            it.place = Place::DatabaseHost;
            it.protect = vec![
                protect(&["10.0.0.0/16"], &[1, 2, 3, 4]),
                protect(&["10.1.0.0/16"], second),
            ];
        });
        let entries = plan.unwrap().protected;
        let entry = entries.iter().find(|it| it.0 == prefix("fe80::/10"));
        entry.map(|it| (it.1.ports, it.1.ports_len))
    };
    let eight = [1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(of_link(&[5, 6, 7, 8]), Some((eight, 8)));
    assert_eq!(of_link(&[5, 6, 7, 8, 9]), Some(([0; 8], 0)));
}

#[test]
fn an_interface_that_is_named_twice_by_a_rule_counts_once() {
    let plan = compiled(|it| it.allow = vec![allow(&["10.10.0.5/32"], &["eth1", "eth1"])]);
    let bits: Vec<_> = plan
        .unwrap()
        .allowed
        .iter()
        .map(|it| it.1.interfaces)
        .collect();
    assert_eq!(bits, [0b10]);
}

#[test]
fn places_and_lengths_are_written_as_they_are() {
    let places = [Place::Gateway, Place::DatabaseHost, Place::ProxyHost];
    assert_eq!(
        places.map(Place::name),
        ["gateway", "database-host", "proxy-host"]
    );
    assert_eq!(places.map(Place::has_interfaces), [true, true, false]);
    assert_eq!(len(&[7; 258]), [0, 0, 0, 0, 0, 0, 1, 2]);
}

#[test]
fn every_refusal_stands_at_its_key() {
    let (protect, allow) = (Rule::Protect(3), Rule::Allow(4));
    let name = || "eth9".to_owned();
    let (inner, outer) = (prefix("10.0.0.0/9"), prefix("10.0.0.0/8"));
    let why = PrefixError::NoLength;
    let text = || "10.0.0.0".to_owned();
    let cases = [
        (Refused::NothingProtected, (None, "place")),
        (Refused::TooManyAnswers(17), (None, "place")),
        (Refused::NoInterface, (None, "interfaces")),
        (Refused::MissingInterface(name()), (None, "interfaces")),
        (
            Refused::NotForPlace {
                place: Place::Gateway,
                key: "cgroup",
            },
            (None, "cgroup"),
        ),
        (
            Refused::Prefix {
                rule: allow,
                text: text(),
                why,
            },
            (Some(allow), "sources"),
        ),
        (Refused::NoPrefix(protect), (Some(protect), "prefixes")),
        (
            Refused::OtherInterfaces {
                rule: allow,
                inner,
                outer,
                other: 0,
            },
            (Some(allow), "sources"),
        ),
        (Refused::PortZero(protect), (Some(protect), "ports")),
        (Refused::AllowedNowhere(allow), (Some(allow), "interfaces")),
    ];
    for (refused, expect) in cases {
        assert_eq!(refused.stands_at(), expect, "{refused}");
    }
}
