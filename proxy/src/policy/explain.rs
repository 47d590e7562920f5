//! `postern policy explain`: which rule decides, by the kernel's maps and the programs' verdict.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use postern_core::perimeter::{Place, Prefix, octets};
use postern_ebpf::Reason;
use postern_ebpf::abi::{Address, Allowed, Interface, Protected, Settings};
use postern_ebpf::packet::Flow;
use postern_ebpf::verdict::{Origin, Policy, Start, connection, packet};

use super::error::PolicyError;
use super::maps::{Bank, Maps};
use super::netlink;
use super::pins::Pins;
use crate::config::Perimeter;

/// The source port of the packet that is asked about; no rule looks at it.
const SOURCE_PORT: u16 = 40_000;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// Where from.
    pub(crate) source: IpAddr,
    /// Where to.
    pub(crate) destination: SocketAddr,
    /// Where it arrives; each interface if not given.
    pub(crate) interface: Option<String>,
}

/// What decides.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Explanation {
    source: IpAddr,
    destination: SocketAddr,
    mode: &'static str,
    /// The rule that protects the destination.
    protected: Option<DecidingRule>,
    /// The rule that allows the source.
    allowed: Option<DecidingRule>,
    /// What becomes of it, by where it arrives or who sends it.
    verdicts: Vec<Verdict>,
}

/// A rule of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
struct DecidingRule {
    /// Its position, from 1.
    rule: u32,
    /// Its prefix.
    prefix: String,
    /// Its ports, or its interfaces.
    of: Vec<String>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
struct Verdict {
    /// Where it arrives, or who sends it.
    from: String,
    /// Whether it passes.
    passes: bool,
    /// Why.
    reason: &'static str,
}

/// What the kernel finds for the addresses of a question.
#[derive(Debug, Clone)]
struct Looked {
    found: Vec<(Address, Option<Protected>, Option<Allowed>)>,
    settings: Settings,
}

/// Asks the kernel's maps.
///
/// # Errors
///
/// No policy is loaded, or the question has no answer.
pub(crate) fn explain(
    perimeter: &Perimeter,
    question: &Question,
) -> Result<Explanation, PolicyError> {
    let source = question.source.to_canonical();
    let to = question.destination.ip().to_canonical();
    if source.is_ipv4() != to.is_ipv4() {
        let text = format!("no packet goes from {source} to {to}: one is IPv4, the other is IPv6");
        return Err(PolicyError::Question(text));
    }
    let pins = Pins::new(&perimeter.pins);
    if pins.record().is_none() {
        return Err(PolicyError::NotLoaded(perimeter.pins.clone()));
    }
    // A load that is under way changes the bank that is looked into.
    let _lock = pins.lock()?;
    let maps = Maps::open(&pins.current())?;
    let number = maps.active()?;
    let bank = maps.read(number)?;
    let mut found = Vec::new();
    for address in [octets(source), octets(to)] {
        let (protected, allowed) = maps.look_up(number, address)?;
        found.push((address, protected, allowed));
    }
    let looked = Looked {
        found,
        settings: bank.settings,
    };
    let names = names(perimeter)?;
    let verdicts = match perimeter.plan.place {
        Place::Gateway | Place::DatabaseHost => {
            at_interfaces(question, &bank.interfaces, &names, &looked)?
        }
        Place::ProxyHost => of_sockets(question, &looked),
    };
    let destination = SocketAddr::new(to, question.destination.port());
    Ok(Explanation {
        source,
        destination,
        mode: if bank.settings.mode == 0 {
            "monitor"
        } else {
            "enforce"
        },
        protected: protecting(&bank, &looked, to),
        allowed: allowing(&bank, &looked, source, perimeter),
        verdicts,
    })
}

/// The verdicts on the question's packet, by the interface on which it arrives.
fn at_interfaces(
    question: &Question,
    known: &BTreeMap<u32, Interface>,
    names: &BTreeMap<u32, String>,
    looked: &Looked,
) -> Result<Vec<Verdict>, PolicyError> {
    let mut origins = Vec::new();
    if let Some(name) = &question.interface {
        let Some((index, _)) = names.iter().find(|(_, it)| *it == name) else {
            return Err(PolicyError::Question(format!(
                "there is no interface {name}"
            )));
        };
        let bit = known.get(index).map_or(0, |it| it.bit);
        origins.push((format!("on {name}"), Origin::Arrived(bit)));
    } else {
        for (index, interface) in known.iter().filter(|(index, _)| **index != 0) {
            let name = names.get(index).cloned();
            let name = name.unwrap_or_else(|| format!("interface {index}, which has gone"));
            origins.push((format!("on {name}"), Origin::Arrived(interface.bit)));
        }
        origins.push(("on another interface".to_owned(), Origin::Arrived(0)));
        let own = known.get(&0).map_or(0, |it| it.bit);
        origins.push(("from this machine itself".to_owned(), Origin::Made(own)));
    }
    let bytes = bytes(question);
    let verdicts = origins.into_iter().map(|(from, origin)| {
        let mut flow = Flow::default();
        let reason = packet(&bytes[..], Start::Internet, origin, looked, &mut flow);
        verdict(from, reason)
    });
    Ok(verdicts.collect())
}

/// The verdicts on a connection, by whose socket it is.
fn of_sockets(question: &Question, looked: &Looked) -> Vec<Verdict> {
    let destination = octets(question.destination.ip().to_canonical());
    let port = question.destination.port();
    let sockets = [("from the proxy", true), ("from any other process", false)];
    let verdicts = sockets.iter().map(|(from, of_proxy)| {
        let reason = connection(&destination, port, *of_proxy, looked);
        verdict((*from).to_owned(), reason)
    });
    verdicts.collect()
}

fn verdict(from: String, reason: Reason) -> Verdict {
    Verdict {
        from,
        passes: reason.passes(),
        reason: reason.name(),
    }
}

impl Policy for Looked {
    fn protected(&self, address: &Address) -> Option<&Protected> {
        let found = self.found.iter().find(|(it, ..)| it == address);
        found.and_then(|(_, protected, _)| protected.as_ref())
    }

    fn allowed(&self, address: &Address) -> Option<&Allowed> {
        let found = self.found.iter().find(|(it, ..)| it == address);
        found.and_then(|(.., allowed)| allowed.as_ref())
    }

    fn holds_answers(&self, port: u16) -> bool {
        self.settings.holds_answers(port)
    }
}

fn protecting(bank: &Bank, looked: &Looked, address: IpAddr) -> Option<DecidingRule> {
    let value = looked.protected(&octets(address))?;
    let ports = value.ports.into_iter().zip(0..value.ports_len);
    Some(DecidingRule {
        rule: value.rule.saturating_add(1),
        prefix: longest(&bank.protected, address)?,
        of: ports.map(|(port, _)| port.to_string()).collect(),
    })
}

fn allowing(
    bank: &Bank,
    looked: &Looked,
    address: IpAddr,
    perimeter: &Perimeter,
) -> Option<DecidingRule> {
    let value = looked.allowed(&octets(address))?;
    let interfaces = (0_u32..).zip(&perimeter.plan.interfaces);
    let of_rule = interfaces.filter(|(bit, _)| value.interfaces >> bit & 1 == 1);
    Some(DecidingRule {
        rule: value.rule.saturating_add(1),
        prefix: longest(&bank.allowed, address)?,
        of: of_rule.map(|(_, it)| it.name.clone()).collect(),
    })
}

/// The longest prefix of a map that an address lies in.
fn longest<T>(entries: &[(Prefix, T)], address: IpAddr) -> Option<String> {
    let single = Prefix::single(address);
    let around = entries.iter().filter(|(prefix, _)| prefix.contains(single));
    let longest = around.max_by_key(|(prefix, _)| prefix.bits())?;
    Some(longest.0.to_string())
}

fn names(perimeter: &Perimeter) -> Result<BTreeMap<u32, String>, PolicyError> {
    if !perimeter.plan.place.has_interfaces() {
        return Ok(BTreeMap::new());
    }
    let links = netlink::links();
    let links = links.map_err(|error| PolicyError::kernel("list the interfaces", &error))?;
    Ok(links.into_iter().map(|it| (it.index, it.name)).collect())
}

/// A packet that begins a TCP connection (RFC 791, RFC 8200, RFC 9293), for the verdict to read.
fn bytes(question: &Question) -> Vec<u8> {
    const TCP: u8 = 6;
    const SYN: u8 = 2;
    let source = question.source.to_canonical();
    let destination = question.destination.ip().to_canonical();
    let mut bytes = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let start = [0x45, 0, 0, 40, 0, 0, 0, 0, 64, TCP, 0, 0];
            [&start[..], &source.octets(), &destination.octets()].concat()
        }
        (source, destination) => {
            let start = [0x60, 0, 0, 0, 0, 20, TCP, 64];
            [&start[..], &octets(source), &octets(destination)].concat()
        }
    };
    bytes.extend_from_slice(&SOURCE_PORT.to_be_bytes());
    bytes.extend_from_slice(&question.destination.port().to_be_bytes());
    // Numbers, the length of the header, the flag, the rest.
    bytes.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, SYN, 0xff, 0xff, 0, 0, 0, 0]);
    bytes
}

impl Explanation {
    /// Whether it passes anywhere.
    pub(crate) fn passes(&self) -> bool {
        self.verdicts.iter().any(|it| it.passes)
    }

    /// For a person.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{} -> {}\n\n", self.source, self.destination);
        let protected = match &self.protected {
            None => "not protected".to_owned(),
            Some(rule) => match rule.of.is_empty() {
                true => format!(
                    "protected by rule {} ({}, all ports)",
                    rule.rule, rule.prefix
                ),
                false => {
                    let ports = rule.of.join(", ");
                    format!(
                        "protected by rule {} ({}, ports {ports})",
                        rule.rule, rule.prefix
                    )
                }
            },
        };
        let allowed = match &self.allowed {
            None => "not allowed".to_owned(),
            Some(rule) => {
                let on = rule.of.join(", ");
                format!("allowed by rule {} ({} on {on})", rule.rule, rule.prefix)
            }
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "destination  {protected}");
        if !self.verdicts.iter().any(|it| it.from == "from the proxy") {
            // As above.
            let _ = writeln!(text, "source       {allowed}");
        }
        text.push('\n');
        let width = self.verdicts.iter().map(|it| it.from.chars().count()).max();
        let width = width.unwrap_or_default();
        for verdict in &self.verdicts {
            let done = if verdict.passes { "pass" } else { "drop" };
            // As above.
            let _ = writeln!(text, "{:<width$}  {done}  {}", verdict.from, verdict.reason);
        }
        if self.mode == "monitor" {
            text.push_str("\nmode is monitor: what would be dropped is reported and passes\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use postern_ebpf::abi::{ANSWERS_MAX, PORTS_MAX};

    use super::*;

    fn ip(text: &str) -> IpAddr {
        match text.parse() {
            Ok(address) => address,
            Err(_) => panic!("{text}"),
        }
    }

    fn question(source: &str, destination: &str) -> Question {
        Question {
            source: ip(source),
            destination: SocketAddr::new(ip(destination), 5432),
            interface: None,
        }
    }

    /// Port 5432 of the destination is protected, the source is allowed on the first interface.
    fn looked(question: &Question) -> Looked {
        let mut ports = [0; PORTS_MAX];
        ports.iter_mut().take(1).for_each(|port| *port = 5432);
        let protected = Protected {
            ports,
            ports_len: 1,
            rule: 2,
        };
        let allowed = Allowed {
            interfaces: 1,
            rule: 4,
            reserved: 0,
        };
        Looked {
            found: vec![
                (octets(question.source), None, Some(allowed)),
                (octets(question.destination.ip()), Some(protected), None),
            ],
            settings: Settings {
                mode: 1,
                answers_len: 0,
                answers: [0; ANSWERS_MAX],
                cgroup: 0,
                cgroup_level: 0,
                reserved: 0,
                generation: 1,
                digest: [0; 32],
            },
        }
    }

    #[test]
    fn the_verdict_is_that_of_the_programs_for_each_interface() -> Result<(), PolicyError> {
        let interface = |bit| Interface { bit, link: 1 };
        let known = BTreeMap::from([(2, interface(1)), (3, interface(2))]);
        let names = BTreeMap::from([(2, "eth0".to_owned()), (3, "eth1".to_owned())]);
        for (source, destination) in [("10.1.0.5", "10.2.0.5"), ("fd00:1::5", "fd00:2::5")] {
            let mut question = question(source, destination);
            let looked = looked(&question);
            let verdicts = at_interfaces(&question, &known, &names, &looked)?;
            let seen: Vec<_> = verdicts
                .iter()
                .map(|it| (it.from.as_str(), it.reason))
                .collect();
            let expect = [
                ("on eth0", "source_allowed"),
                ("on eth1", "wrong_interface"),
                ("on another interface", "wrong_interface"),
                ("from this machine itself", "wrong_interface"),
            ];
            assert_eq!(seen, expect);
            question.interface = Some("eth1".to_owned());
            let verdicts = at_interfaces(&question, &known, &names, &looked)?;
            assert_eq!(verdicts.len(), 1);
            question.interface = Some("eth9".to_owned());
            assert!(at_interfaces(&question, &known, &names, &looked).is_err());
        }
        Ok(())
    }

    #[test]
    fn only_the_proxy_gets_through_on_its_host() {
        let question = question("10.1.0.5", "10.2.0.5");
        let verdicts = of_sockets(&question, &looked(&question));
        let seen: Vec<_> = verdicts.iter().map(|it| (it.passes, it.reason)).collect();
        assert_eq!(seen, [(true, "proxy"), (false, "foreign_socket")]);
    }

    #[test]
    fn a_person_reads_which_rules_decide() {
        let explanation = Explanation {
            source: ip("10.1.0.5"),
            destination: SocketAddr::new(ip("10.2.0.5"), 5432),
            mode: "enforce",
            protected: Some(DecidingRule {
                rule: 1,
                prefix: "10.2.0.0/24".to_owned(),
                of: vec!["5432".to_owned()],
            }),
            allowed: None,
            verdicts: vec![
                verdict("on eth0".to_owned(), Reason::SourceNotAllowed),
                verdict("on another interface".to_owned(), Reason::SourceNotAllowed),
            ],
        };
        let expect = "\
10.1.0.5 -> 10.2.0.5:5432

destination  protected by rule 1 (10.2.0.0/24, ports 5432)
source       not allowed

on eth0               drop  source_not_allowed
on another interface  drop  source_not_allowed
";
        assert_eq!(explanation.text(), expect);
        assert!(!explanation.passes());
    }

    #[test]
    fn the_longest_prefix_is_the_one_that_is_named() {
        let entries: Vec<_> = ["10.0.0.0/8", "10.2.0.0/24", "10.2.0.0/16"]
            .iter()
            .filter_map(|text| Prefix::parse(text).ok())
            .map(|prefix| (prefix, ()))
            .collect();
        assert_eq!(
            longest(&entries, ip("10.2.0.5")).as_deref(),
            Some("10.2.0.0/24")
        );
        assert_eq!(longest(&entries, ip("11.0.0.1")), None);
    }
}
