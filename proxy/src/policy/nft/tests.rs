//! The table as text, and what a listing says of it.

use postern_core::perimeter::{AllowRule, Configured, Plan, ProtectRule, compile};

use super::*;

fn plan(place: Place) -> Plan {
    let rule = |prefixes: &[&str], ports: &[u16]| ProtectRule {
        prefixes: prefixes.iter().map(|it| (*it).to_owned()).collect(),
        ports: ports.to_vec(),
    };
    let is_proxy = place == Place::ProxyHost;
    let interfaces = if is_proxy {
        vec![]
    } else {
        vec!["eth0".to_owned()]
    };
    let allow = AllowRule {
        sources: vec!["10.10.0.5/32".to_owned()],
        interfaces: interfaces.clone(),
    };
    let configured = Configured {
        place,
        interfaces,
        await_interfaces: Vec::new(),
        cgroup_keys: Vec::new(),
        protect: vec![
            rule(&["10.20.0.0/24", "fd00:20::/64"], &[5432, 5433]),
            rule(&["10.30.0.0/24"], &[]),
        ],
        allow: if is_proxy { vec![] } else { vec![allow] },
    };
    match compile(&configured) {
        Ok(plan) => plan,
        Err(refused) => panic!("{refused:?}"),
    }
}

#[test]
fn the_table_of_a_gateway_is_shut_but_for_the_interfaces_where_programs_stand() {
    let table = table(&plan(Place::Gateway), Shut::Beyond(&[2, 3]));
    let expect = "  chain ports_0 {
    ip6 hoplimit 255 icmpv6 type { 133, 134, 135, 136, 137 } accept
    drop
  }
  chain ports_1 {
    ip frag-off & 0x3fff != 0 drop
    exthdr frag exists drop
    meta l4proto { 6, 17, 33, 132, 136 } th dport { 5432, 5433 } drop
    meta l4proto { 6, 17, 33, 132, 136 } accept
    meta l4proto { 1, 58 } accept
    drop
  }
  chain judge {
    ip daddr { 10.30.0.0/24 } jump ports_0
    ip daddr { 10.20.0.0/24 } jump ports_1
    ip6 daddr { fd00:20::/64 } jump ports_1
  }
  chain forward {
    type filter hook forward priority -10; policy accept;
    iif != { 2, 3 } jump judge
  }
  chain output {
    type filter hook output priority -10; policy accept;
    oif lo accept
    oif != { 2, 3 } jump judge
  }
";
    let whole = body(&table.judges, "") + &body(&table.entrances, "");
    assert_eq!(whole, expect);
    let script = script(&table);
    let (chains, rules) = script
        .split_once("flush table inet postern\n")
        .unwrap_or_default();
    assert!(chains.starts_with("table inet postern {\n  chain ports_0 {\n  }\n"));
    assert!(rules.starts_with("table inet postern {\n"));
    assert!(!script.contains("delete"));
    let carry = |mark: String| script.matches(&comment(&mark)).count();
    let rules = |chains: &[Chain]| chains.iter().map(|it| it.rules.len()).sum::<usize>();
    assert_eq!(carry(table.mark_of_judges()), rules(&table.judges));
    assert_eq!(carry(table.mark()), rules(&table.entrances));
}

#[test]
fn each_place_has_its_chains() {
    let chains = |place, shut| {
        let table = table(&plan(place), shut);
        assert!(table.judges.iter().all(|it| it.hook.is_none()));
        assert!(table.entrances.iter().all(|it| it.hook.is_some()));
        table
            .entrances
            .into_iter()
            .map(|it| (it.name, it.rules))
            .collect::<Vec<_>>()
    };
    let expect = |chains: &[(&str, &[&str])]| {
        let owned = chains.iter().map(|(name, rules)| {
            let rules = rules.iter().map(|it| (*it).to_owned()).collect();
            ((*name).to_owned(), rules)
        });
        owned.collect::<Vec<(String, Vec<String>)>>()
    };
    assert_eq!(
        chains(Place::Gateway, Shut::All),
        expect(&[
            ("forward", &["jump judge"]),
            ("output", &["oif lo accept", "jump judge"])
        ])
    );
    assert_eq!(
        chains(Place::DatabaseHost, Shut::Beyond(&[2])),
        expect(&[
            ("input", &["iif lo accept", "iif != { 2 } jump judge"]),
            ("forward", &["iif != { 2 } jump judge"])
        ])
    );
    assert_eq!(
        chains(Place::ProxyHost, Shut::All),
        expect(&[("output", &["jump judge"]), ("forward", &["jump judge"])])
    );
    assert_eq!(
        chains(Place::ProxyHost, Shut::Beyond(&[])),
        expect(&[("forward", &["jump judge"])])
    );
    assert_eq!(
        chains(Place::Gateway, Shut::Beyond(&[])),
        chains(Place::Gateway, Shut::All)
    );
}

/// A listing as nftables makes it, of chains with the comments of their rules.
fn listing(chains: &[(&str, Vec<String>)]) -> String {
    let mut objects = vec![serde_json::json!({"metainfo": {"version": "1.0.6"}})];
    for (chain, comments) in chains {
        objects.push(serde_json::json!({"chain": {"name": chain}}));
        for comment in comments {
            objects.push(serde_json::json!({"rule": {"chain": chain, "comment": comment}}));
        }
    }
    serde_json::json!({ "nftables": objects }).to_string()
}

#[test]
fn a_listing_with_a_rule_more_or_less_or_of_another_table_is_not_the_same() {
    let table = table(&plan(Place::ProxyHost), Shut::Beyond(&[]));
    let other = self::table(&plan(Place::ProxyHost), Shut::All);
    assert_ne!(table.mark(), other.mark());
    assert_eq!(table.mark_of_judges(), other.mark_of_judges());
    let chains = |judges: &str, entrances: &str| {
        let of = |chain: &Chain, mark: &str| vec![mark.to_owned(); chain.rules.len()];
        let judges = table
            .judges
            .iter()
            .map(|it| (it.name.as_str(), of(it, judges)));
        let entrances = table
            .entrances
            .iter()
            .map(|it| (it.name.as_str(), of(it, entrances)));
        judges.chain(entrances).collect::<Vec<_>>()
    };
    let same = chains(&table.mark_of_judges(), &table.mark());
    assert!(is_same(&table, &listing(&same)));
    let of_other = chains(&table.mark_of_judges(), &other.mark());
    assert!(!is_same(&table, &listing(&of_other)));
    assert!(!is_same(
        &table,
        &listing(&chains(&table.mark(), &table.mark()))
    ));
    let mut more = same.clone();
    more.iter_mut()
        .take(1)
        .for_each(|it| it.1.push(table.mark()));
    assert!(!is_same(&table, &listing(&more)));
    let mut fewer = same.clone();
    fewer.pop();
    assert!(!is_same(&table, &listing(&fewer)));
    assert!(!is_same(&table, "not JSON"));
}
