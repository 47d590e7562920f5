//! From the words of the configuration to entries of the maps.

use std::collections::{BTreeMap, BTreeSet};

use postern_ebpf::abi::{ANSWERS_MAX, Allowed, INTERFACES_MAX, PORTS_MAX, PREFIXES_MAX, Protected};

use super::{Configured, Place, Plan, PlannedInterface, Prefix, Refused, Rule};

/// The longest name of an interface, in bytes: `IFNAMSIZ` without its zero.
const INTERFACE_NAME_BYTES_MAX: usize = 15;

/// An entry of a map.
type Entry<T> = (Prefix, T);

/// Checks a configured policy, and makes the entries of the maps from it.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn compile(configured: &Configured) -> Result<Plan, Vec<Refused>> {
    let mut refused = not_for_place(configured);
    let interfaces = interfaces(configured, &mut refused);
    let protected = protected(configured, &mut refused);
    let allowed = allowed(configured, &interfaces, &mut refused);
    if !refused.is_empty() {
        return Err(refused);
    }
    Ok(Plan {
        place: configured.place,
        interfaces,
        protected,
        allowed,
    })
}

fn not_for_place(configured: &Configured) -> Vec<Refused> {
    let place = configured.place;
    let keys = match place {
        Place::Gateway | Place::DatabaseHost => configured.cgroup_keys.clone(),
        Place::ProxyHost => {
            let given = [
                ("interfaces", configured.interfaces.is_empty()),
                ("await_interfaces", configured.await_interfaces.is_empty()),
                ("allow", configured.allow.is_empty()),
            ];
            let given = given.iter().filter(|(_, is_empty)| !is_empty);
            given.map(|(key, _)| *key).collect()
        }
    };
    let refused = |key| Refused::NotForPlace { place, key };
    keys.into_iter().map(refused).collect()
}

fn interfaces(configured: &Configured, refused: &mut Vec<Refused>) -> Vec<PlannedInterface> {
    if !configured.place.has_interfaces() {
        return Vec::new();
    }
    let named = configured.interfaces.iter().map(|name| (name, false));
    let awaited = configured.await_interfaces.iter().map(|name| (name, true));
    let mut seen = BTreeSet::new();
    let mut interfaces = Vec::new();
    for (name, is_awaited) in named.chain(awaited) {
        if !is_interface_name(name) {
            refused.push(Refused::InterfaceName(name.clone()));
        } else if !seen.insert(name) {
            refused.push(Refused::InterfaceTwice(name.clone()));
        } else {
            let name = name.clone();
            interfaces.push(PlannedInterface { name, is_awaited });
        }
    }
    if configured.interfaces.is_empty() && configured.await_interfaces.is_empty() {
        refused.push(Refused::NoInterface);
    }
    if interfaces.len() > INTERFACES_MAX {
        refused.push(Refused::TooManyInterfaces(interfaces.len()));
    }
    interfaces
}

/// What the kernel takes as a name, and nothing that looks like a path.
fn is_interface_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    (1..=INTERFACE_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(is_plain)
        && name != "."
        && name != ".."
}

/// Reads the prefixes of a rule.
fn prefixes(texts: &[String], rule: Rule, refused: &mut Vec<Refused>) -> Vec<Prefix> {
    if texts.is_empty() {
        refused.push(Refused::NoPrefix(rule));
    }
    let mut prefixes = Vec::new();
    for text in texts {
        match Prefix::parse(text) {
            Ok(prefix) => prefixes.push(prefix),
            Err(why) => refused.push(Refused::Prefix {
                rule,
                text: text.clone(),
                why,
            }),
        }
    }
    prefixes
}

fn protected(configured: &Configured, refused: &mut Vec<Refused>) -> Vec<(Prefix, Protected)> {
    if configured.protect.is_empty() {
        refused.push(Refused::NothingProtected);
    }
    let mut entries: BTreeMap<Prefix, Protected> = BTreeMap::new();
    for (at, number, configured) in numbered(&configured.protect) {
        let rule = Rule::Protect(at);
        let value = protected_value(&configured.ports, rule, number, refused);
        for prefix in prefixes(&configured.prefixes, rule, refused) {
            let first = *entries.entry(prefix).or_insert(value);
            if !has_same_ports(&first, &value) {
                refused.push(Refused::OtherPorts {
                    rule,
                    prefix,
                    other: first.rule,
                });
            }
        }
    }
    if configured.place == Place::DatabaseHost {
        protect_link_local(&mut entries);
    }
    let entries: Vec<_> = entries.into_iter().collect();
    for (inner, outer) in nested(&entries) {
        if !includes_ports(&inner.1, &outer.1) {
            refused.push(Refused::PortsLeftOut {
                rule: Rule::Protect(position(inner.1.rule)),
                inner: inner.0,
                outer: outer.0,
                other: outer.1.rule,
            });
        }
    }
    let ports = ports_of(&entries).len();
    if configured.place == Place::Gateway && ports > ANSWERS_MAX {
        refused.push(Refused::TooManyAnswers(ports));
    }
    let last = Rule::Protect(configured.protect.len().saturating_sub(1));
    check_count(entries.len(), last, refused);
    entries
}

fn protected_value(
    ports: &[u16],
    rule: Rule,
    number: u32,
    refused: &mut Vec<Refused>,
) -> Protected {
    let named: BTreeSet<u16> = ports.iter().copied().collect();
    if named.contains(&0) {
        refused.push(Refused::PortZero(rule));
    }
    let count = named.len();
    if count > PORTS_MAX {
        refused.push(Refused::TooManyPorts { rule, count });
    }
    let mut value = Protected {
        ports: [0; PORTS_MAX],
        ports_len: 0,
        rule: number,
    };
    set_ports(&mut value, &named);
    value
}

/// The places that are left repeat the first port: the programs look at all of them.
fn set_ports(value: &mut Protected, named: &BTreeSet<u16>) {
    let first = named.first().copied().unwrap_or(0);
    let repeated = named.iter().copied().chain(std::iter::repeat(first));
    for (place, port) in value.ports.iter_mut().zip(repeated) {
        *place = port;
    }
    value.ports_len = named
        .iter()
        .zip(0..)
        .map(|(_, at)| at + 1)
        .last()
        .unwrap_or(0);
}

/// Protects the addresses that every interface of the database's own machine has by itself
/// (`fe80::/10`, RFC 4291, 2.5.6): a neighbour on the link would reach a server there that listens
/// on all addresses. The ports are those of all rules; a rule with its own link-local prefix is
/// left to say what it means.
fn protect_link_local(entries: &mut BTreeMap<Prefix, Protected>) {
    let Ok(link_local) = Prefix::parse("fe80::/10") else {
        return;
    };
    let all: BTreeSet<u16> = entries.values().flat_map(ports).collect();
    let are_some = entries.values().all(|it| it.ports_len > 0) && all.len() <= PORTS_MAX;
    let Some(mut value) = entries.values().next().copied() else {
        return;
    };
    if entries
        .keys()
        .any(|it| link_local.contains(*it) || it.contains(link_local))
    {
        return;
    }
    set_ports(&mut value, &if are_some { all } else { BTreeSet::new() });
    entries.insert(link_local, value);
}

/// Every port that an entry names, once.
pub(super) fn ports_of(entries: &[(Prefix, Protected)]) -> Vec<u16> {
    let all: BTreeSet<u16> = entries.iter().flat_map(|(_, value)| ports(value)).collect();
    all.into_iter().collect()
}

/// The ports of an entry; none for all.
fn ports(value: &Protected) -> impl Iterator<Item = u16> {
    value
        .ports
        .into_iter()
        .zip(0..value.ports_len)
        .map(|it| it.0)
}

fn has_same_ports(left: &Protected, right: &Protected) -> bool {
    ports(left).eq(ports(right))
}

fn includes_ports(inner: &Protected, outer: &Protected) -> bool {
    match (inner.ports_len, outer.ports_len) {
        (0, _) => true,
        (_, 0) => false,
        _ => ports(outer).all(|port| ports(inner).any(|it| it == port)),
    }
}

fn allowed(
    configured: &Configured,
    interfaces: &[PlannedInterface],
    refused: &mut Vec<Refused>,
) -> Vec<(Prefix, Allowed)> {
    if !configured.place.has_interfaces() {
        return Vec::new();
    }
    if configured.allow.is_empty() {
        refused.push(Refused::NothingAllowed);
    }
    let mut entries: BTreeMap<Prefix, Allowed> = BTreeMap::new();
    for (at, number, configured) in numbered(&configured.allow) {
        let rule = Rule::Allow(at);
        let value = Allowed {
            interfaces: mask(&configured.interfaces, interfaces, rule, refused),
            rule: number,
            reserved: 0,
        };
        for inner in prefixes(&configured.sources, rule, refused) {
            let first = *entries.entry(inner).or_insert(value);
            if first.interfaces != value.interfaces {
                let (outer, other) = (inner, first.rule);
                refused.push(Refused::OtherInterfaces {
                    rule,
                    inner,
                    outer,
                    other,
                });
            }
        }
    }
    let entries: Vec<_> = entries.into_iter().collect();
    for (inner, outer) in nested(&entries) {
        if inner.1.interfaces != outer.1.interfaces {
            refused.push(Refused::OtherInterfaces {
                rule: Rule::Allow(position(inner.1.rule)),
                inner: inner.0,
                outer: outer.0,
                other: outer.1.rule,
            });
        }
    }
    let last = Rule::Allow(configured.allow.len().saturating_sub(1));
    check_count(entries.len(), last, refused);
    entries
}

/// The bits of the interfaces that a rule names.
fn mask(
    names: &[String],
    interfaces: &[PlannedInterface],
    rule: Rule,
    refused: &mut Vec<Refused>,
) -> u64 {
    if names.is_empty() {
        refused.push(Refused::AllowedNowhere(rule));
    }
    let mut mask = 0;
    for name in names {
        match (0..).zip(interfaces).find(|(_, it)| it.name == *name) {
            // More interfaces than bits have been refused already.
            Some((bit, _)) => mask |= 1_u64.checked_shl(bit).unwrap_or(0),
            None => {
                let name = name.clone();
                refused.push(Refused::UnknownInterface { rule, name });
            }
        }
    }
    mask
}

fn check_count(count: usize, rule: Rule, refused: &mut Vec<Refused>) {
    if count > position(PREFIXES_MAX) {
        refused.push(Refused::TooManyPrefixes { rule, count });
    }
}

/// Each entry that lies in another one, with the nearest one that it lies in.
///
/// Comparing with the nearest is enough: what holds between each two neighbours of such a chain
/// holds between its ends.
fn nested<T>(sorted: &[Entry<T>]) -> Vec<(&Entry<T>, &Entry<T>)> {
    let mut around: Vec<&Entry<T>> = Vec::new();
    let mut pairs = Vec::new();
    for entry in sorted {
        while let Some(outer) = around.last() {
            if outer.0.contains(entry.0) {
                pairs.push((entry, *outer));
                break;
            }
            around.pop();
        }
        around.push(entry);
    }
    pairs
}

/// Each rule with its position, as an index and as the maps have it.
fn numbered<T>(rules: &[T]) -> impl Iterator<Item = (usize, u32, &T)> {
    let pairs = rules.iter().enumerate().zip(0..);
    pairs.map(|((at, rule), number)| (at, number, rule))
}

fn position(number: u32) -> usize {
    // A number of 32 bits is always an index here: Linux runs on no smaller machine.
    usize::try_from(number).unwrap_or(usize::MAX)
}
