//! The default drop: nftables keeps the protected prefixes shut where the programs do not stand.
//!
//! One table, `inet postern`, that is put in place as a whole, in one transaction.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use nix::unistd::{AccessFlags, access};
use postern_core::perimeter::{Place, Plan, Prefix, address_of};
use ring::digest;

use super::error::PolicyError;

/// The family and name of the table.
const TABLE: &str = "inet postern";
/// Where the program is if the search path does not have it.
const ELSEWHERE: &str = "/usr/sbin/nft";

/// What is shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shut<'a> {
    /// Everything, until a policy is in force.
    All,
    /// What does not pass one of these interfaces, by the kernel's numbers. A number, unlike a
    /// name, does not come back with an interface at which no program stands.
    Beyond(&'a [u32]),
}

/// A table before it is text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// What becomes of packets to protected prefixes; the same whatever is shut.
    judges: Vec<Chain>,
    /// Which packets are judged.
    entrances: Vec<Chain>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Chain {
    name: String,
    /// Where it is called from; none if another chain jumps to it.
    hook: Option<&'static str>,
    rules: Vec<String>,
}

/// The table for a policy.
pub(super) fn table(plan: &Plan, shut: Shut<'_>) -> Table {
    let mut judges = Vec::new();
    let mut judge = Vec::new();
    for (number, (ports, prefixes)) in (0..).zip(by_ports(plan)) {
        judges.push(ports_chain(number, &ports));
        for (family, is_v4) in [("ip", true), ("ip6", false)] {
            let of_family = prefixes.iter().filter(|it| it.is_ipv4() == is_v4);
            let elements: Vec<String> = of_family.map(element).collect();
            if elements.is_empty() {
                continue;
            }
            let elements = elements.join(", ");
            judge.push(format!(
                "{family} daddr {{ {elements} }} jump ports_{number}"
            ));
        }
    }
    judges.push(Chain {
        name: "judge".to_owned(),
        hook: None,
        rules: judge,
    });
    Table {
        judges,
        entrances: entrances(plan.place, shut),
    }
}

/// Puts a table in the place of the one that is there.
///
/// # Errors
///
/// nftables is not there, or refuses.
pub(super) fn apply(table: &Table) -> Result<(), PolicyError> {
    run(&["-f", "-"], &script(table)).map(drop)
}

/// Opens a table that shuts everything for the interfaces where programs stand; the prefixes in it
/// are left as they are, which with thousands of them saves most of the time.
///
/// # Errors
///
/// nftables is not there, or refuses, also because the table is not there any more.
pub(super) fn open(plan: &Plan, table: &Table) -> Result<(), PolicyError> {
    let mut script = String::new();
    for chain in entrances(plan.place, Shut::All) {
        // Writing to a String cannot fail.
        let _ = writeln!(script, "flush chain {TABLE} {}", chain.name);
    }
    let body = body(&table.entrances, &comment(&table.mark()));
    // As above.
    let _ = writeln!(script, "table {TABLE} {{\n{body}}}");
    run(&["-f", "-"], &script).map(drop)
}

/// Removes the table.
///
/// # Errors
///
/// nftables refuses; a table that is not there is none.
pub(super) fn remove() -> Result<(), PolicyError> {
    let script = format!("table {TABLE}\ndelete table {TABLE}\n");
    run(&["-f", "-"], &script).map(drop)
}

/// # Errors
///
/// nftables is not there.
pub(super) fn check() -> Result<(), PolicyError> {
    match is_there() {
        true => Ok(()),
        false => Err(absent(&ErrorKind::NotFound.into())),
    }
}

/// Whether nftables is there.
pub(super) fn is_there() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join("nft"));
    let mut places = in_path.chain([PathBuf::from(ELSEWHERE)]);
    places.any(|it| access(&it, AccessFlags::X_OK).is_ok())
}

/// What differs between the kernel's table and the one that should be there; nothing if it is
/// the same. Every rule carries a digest.
///
/// # Errors
///
/// nftables is not there, or refuses.
pub(super) fn difference(expected: Option<&Table>) -> Result<Option<String>, PolicyError> {
    let tables = run(&["-j", "list", "tables"], "")?;
    let has_table = tables.contains("\"name\": \"postern\"");
    let Some(expected) = expected else {
        let left = "nftables has a table inet postern, which is not configured";
        return Ok(has_table.then(|| left.to_owned()));
    };
    if !has_table {
        return Ok(Some("the default drop is not in place".to_owned()));
    }
    let listed = run(&["-j", "-t", "list", "table", "inet", "postern"], "")?;
    let same = is_same(expected, &listed);
    let other = "the default drop is not the one that was put in place";
    Ok((!same).then(|| other.to_owned()))
}

/// Whether a listing of nftables has the rules of a table, each with its mark and no others.
fn is_same(expected: &Table, listed: &str) -> bool {
    let listed: serde_json::Value = serde_json::from_str(listed).unwrap_or_default();
    let objects = listed.get("nftables").and_then(|it| it.as_array());
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    let (judges, entrances) = (expected.mark_of_judges(), expected.mark());
    for object in objects.into_iter().flatten() {
        let Some(rule) = object.get("rule") else {
            continue;
        };
        let text = |key| rule.get(key).and_then(|it| it.as_str());
        let chain = text("chain").unwrap_or_default();
        let mark = match expected.judges.iter().any(|it| it.name == chain) {
            true => &judges,
            false => &entrances,
        };
        if text("comment") != Some(mark) {
            return false;
        }
        *found.entry(chain).or_default() += 1;
    }
    // Chains of earlier tables are left, without rules.
    let chains = expected.chains().filter(|it| !it.rules.is_empty());
    found
        == chains
            .map(|it| (it.name.as_str(), it.rules.len()))
            .collect()
}

/// The protected prefixes by their ports.
fn by_ports(plan: &Plan) -> BTreeMap<Vec<u16>, Vec<Prefix>> {
    let mut groups: BTreeMap<Vec<u16>, Vec<Prefix>> = BTreeMap::new();
    for (prefix, value) in &plan.protected {
        let ports = value.ports.into_iter().zip(0..value.ports_len);
        let ports = ports.map(|(port, _)| port).collect();
        groups.entry(ports).or_default().push(*prefix);
    }
    groups
}

/// What becomes of packets to prefixes with these ports; the same as the programs' verdict on
/// packets of strangers.
fn ports_chain(number: u32, ports: &[u16]) -> Chain {
    let rules = if ports.is_empty() {
        let discovery = "ip6 hoplimit 255 icmpv6 type { 133, 134, 135, 136, 137 } accept";
        vec![discovery.to_owned(), "drop".to_owned()]
    } else {
        let texts: Vec<String> = ports.iter().map(u16::to_string).collect();
        let with_ports = "meta l4proto { 6, 17, 33, 132, 136 }";
        vec![
            "ip frag-off & 0x3fff != 0 drop".to_owned(),
            "exthdr frag exists drop".to_owned(),
            format!("{with_ports} th dport {{ {} }} drop", texts.join(", ")),
            format!("{with_ports} accept"),
            "meta l4proto { 1, 58 } accept".to_owned(),
            "drop".to_owned(),
        ]
    };
    Chain {
        name: format!("ports_{number}"),
        hook: None,
        rules,
    }
}

/// The chains that the kernel calls, by the place.
fn entrances(place: Place, shut: Shut<'_>) -> Vec<Chain> {
    let unless = |side: &str| match shut {
        Shut::All | Shut::Beyond([]) => "jump judge".to_owned(),
        Shut::Beyond(interfaces) => {
            let numbers: Vec<String> = interfaces.iter().map(u32::to_string).collect();
            format!("{side} != {{ {} }} jump judge", numbers.join(", "))
        }
    };
    let chain = |name: &'static str, rules: Vec<String>| Chain {
        name: name.to_owned(),
        hook: Some(name),
        rules,
    };
    // What does not leave the machine by the network is not what the perimeter is about.
    let own = |side: &str| format!("{side} lo accept");
    match place {
        Place::Gateway => vec![
            chain("forward", vec![unless("iif")]),
            chain("output", vec![own("oif"), unless("oif")]),
        ],
        Place::DatabaseHost => vec![
            chain("input", vec![own("iif"), unless("iif")]),
            chain("forward", vec![unless("iif")]),
        ],
        // Sockets are the programs'; nothing of others is forwarded to the database from here.
        Place::ProxyHost => match shut {
            Shut::All => vec![
                chain("output", vec![unless("oif")]),
                chain("forward", vec![unless("iif")]),
            ],
            Shut::Beyond(_) => vec![chain("forward", vec![unless("iif")])],
        },
    }
}

fn element(prefix: &Prefix) -> String {
    let address = address_of(prefix.address());
    match address.is_ipv4() && prefix.is_ipv4() {
        true => prefix.to_string(),
        false => {
            let address = std::net::Ipv6Addr::from(prefix.address());
            format!("{address}/{}", prefix.bits())
        }
    }
}

impl Table {
    fn chains(&self) -> impl Iterator<Item = &Chain> {
        self.judges.iter().chain(&self.entrances)
    }

    /// What every rule of a judge carries: a digest of all judges.
    fn mark_of_judges(&self) -> String {
        mark(&body(&self.judges, ""))
    }

    /// What every other rule carries: a digest of the whole table.
    fn mark(&self) -> String {
        mark(&(body(&self.judges, "") + &body(&self.entrances, "")))
    }
}

fn mark(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    let digest = super::hexadecimal(digest.as_ref());
    format!("postern {}", digest.get(..16).unwrap_or_default())
}

fn comment(mark: &str) -> String {
    format!(" comment \"{mark}\"")
}

fn body(chains: &[Chain], comment: &str) -> String {
    let mut text = String::new();
    for chain in chains {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  chain {} {{", chain.name);
        text.push_str(&chain.head());
        for rule in &chain.rules {
            // As above.
            let _ = writeln!(text, "    {rule}{comment}");
        }
        text.push_str("  }\n");
    }
    text
}

impl Chain {
    /// The line that says where it is called from, if it is by the kernel.
    fn head(&self) -> String {
        let line = |hook| format!("    type filter hook {hook} priority -10; policy accept;\n");
        self.hook.map(line).unwrap_or_default()
    }
}

/// The script that puts a table in the place of the one that is there.
///
/// The chains stay and get other rules. Were they deleted and made again, also in one transaction,
/// a packet on its way through both at that moment would meet neither's rules.
fn script(table: &Table) -> String {
    let judges = body(&table.judges, &comment(&table.mark_of_judges()));
    let entrances = body(&table.entrances, &comment(&table.mark()));
    let chains = table.chains();
    let chains: String = chains
        .map(|it| format!("  chain {} {{\n{}  }}\n", it.name, it.head()))
        .collect();
    let rules = judges + &entrances;
    format!("table {TABLE} {{\n{chains}}}\nflush table {TABLE}\ntable {TABLE} {{\n{rules}}}\n")
}

fn run(arguments: &[&str], input: &str) -> Result<String, PolicyError> {
    let output = match start("nft", arguments, input) {
        Err(error) if error.kind() == ErrorKind::NotFound => start(ELSEWHERE, arguments, input),
        output => output,
    };
    let output = output.map_err(|error| absent(&error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    let why = why.lines().next().unwrap_or_default();
    Err(PolicyError::Nft(format!("nft refused: {why}")))
}

fn absent(error: &std::io::Error) -> PolicyError {
    PolicyError::Nft(format!(
        "nft cannot be run ({error}), so that nothing keeps the protected prefixes shut until \
         the policy is in force; install nftables, or say default_drop = false in [perimeter]"
    ))
}

fn start(program: &str, arguments: &[&str], input: &str) -> std::io::Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take()
        && let Err(error) = stdin.write_all(input.as_bytes())
        // It said what is wrong before it had read everything.
        && error.kind() != ErrorKind::BrokenPipe
    {
        return Err(error);
    }
    child.wait_with_output()
}

#[cfg(test)]
mod tests;
