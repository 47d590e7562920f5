//! Licences, sources and bans of every package, by the rules of `deny.toml`. It takes a second
//! where building cargo-deny takes minutes, so that it is looked at in every run.
//!
//! cargo-deny reads the licences' texts beside what the packages say, and warns of two versions.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cargo;

/// The one registry, and how `Cargo.lock` names it.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What is read of `deny.toml`.
#[derive(Debug, Deserialize)]
struct Rules {
    graph: Graph,
    licenses: Licences,
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

/// A package that may not be there: `name`, or `name:<1.2.3` for what is older.
#[derive(Debug, Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    package: String,
}

/// What is read of `Cargo.lock`.
#[derive(Debug, Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Debug, Deserialize)]
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
}

/// What is read of `cargo metadata`.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Licenced>,
}

#[derive(Debug, Deserialize)]
struct Licenced {
    name: String,
    version: String,
    license: Option<String>,
}

/// How many packages there are, and what is wrong with them.
pub(super) fn findings(root: &Path) -> Result<(usize, Vec<String>)> {
    let read = |name: &str| fs::read_to_string(root.join(name)).context(name.to_owned());
    let rules: Rules = toml::from_str(&read("deny.toml")?)?;
    let lock: Lock = toml::from_str(&read("Cargo.lock")?)?;
    let mut metadata = cargo::command(&["metadata", "--format-version=1", "--locked"]);
    for target in &rules.graph.targets {
        metadata.args(["--filter-platform", target]);
    }
    let metadata = postern_tests::process::run(metadata.current_dir(root))?;
    let metadata: Metadata = serde_json::from_str(&metadata)?;
    let mut findings = check_sources(&lock.package);
    findings.extend(check_bans(&rules.bans.deny, &lock.package)?);
    findings.extend(check_licences(&rules.licenses.allow, &metadata.packages));
    Ok((lock.package.len(), findings))
}

/// Ours have no source; all others are of the registry, by their checksums.
fn check_sources(packages: &[Locked]) -> Vec<String> {
    let others = packages
        .iter()
        .filter_map(|it| Some((it, it.source.as_ref()?)));
    let strangers = others.filter(|(it, source)| *source != REGISTRY || it.checksum.is_none());
    strangers
        .map(|(it, source)| format!("{} {} comes from {source}", it.name, it.version))
        .collect()
}

fn check_bans(bans: &[Ban], packages: &[Locked]) -> Result<Vec<String>> {
    let mut of_name: BTreeMap<&str, Vec<&Locked>> = BTreeMap::new();
    for package in packages {
        of_name.entry(&package.name).or_default().push(package);
    }
    let mut findings = Vec::new();
    for Ban { package: ban } in bans {
        let (name, floor) = match ban.split_once(":<") {
            Some((name, floor)) => (name, Some(version(floor)?)),
            None => (ban.as_str(), None),
        };
        if name.contains([':', '@']) {
            bail!("deny.toml: {ban} is neither a name nor a name:<version");
        }
        for found in of_name.get(name).into_iter().flatten() {
            if floor.is_none_or(|floor| version(&found.version).is_ok_and(|it| it < floor)) {
                findings.push(format!("{} {} is banned: {ban}", found.name, found.version));
            }
        }
    }
    Ok(findings)
}

/// The three numbers of a version, without what may follow them.
fn version(text: &str) -> Result<[u64; 3]> {
    let numbers = text.split(['-', '+']).next().unwrap_or_default();
    let numbers: Result<Vec<u64>, _> = numbers.split('.').map(str::parse).collect();
    let numbers = numbers.ok().and_then(|it| it.try_into().ok());
    numbers.with_context(|| format!("{text} is no version"))
}

fn check_licences(allowed: &[String], packages: &[Licenced]) -> Vec<String> {
    let mut findings = Vec::new();
    for Licenced {
        name,
        version,
        license,
    } in packages
    {
        let license = license.as_deref().unwrap_or_default();
        if !is_allowed(license, allowed) {
            findings.push(format!("{name} {version} has the licence \"{license}\""));
        }
    }
    findings
}

/// Whether a licence of SPDX can be taken, <https://spdx.github.io/spdx-spec/v2.3/SPDX-license-expressions/>.
/// Old packages write a slash for OR. What is no expression cannot.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ");
    let spaced = spaced.replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any(&mut rest, allowed) == Some(true) && rest.is_empty()
}

/// `ALL OR ALL ...`; `None` where there is no such thing.
fn any(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let mut is_allowed = all(words, allowed)?;
    while let Some((&"OR", rest)) = words.split_first() {
        *words = rest;
        is_allowed |= all(words, allowed)?;
    }
    Some(is_allowed)
}

/// `ONE AND ONE ...`.
fn all(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let mut is_allowed = one(words, allowed)?;
    while let Some((&"AND", rest)) = words.split_first() {
        *words = rest;
        is_allowed &= one(words, allowed)?;
    }
    Some(is_allowed)
}

/// `( ANY )`, a name, or a name with an exception, which only counts where it is allowed as such.
fn one(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let (first, rest) = words.split_first()?;
    *words = rest;
    if *first == "(" {
        let inner = any(words, allowed)?;
        let (end, rest) = words.split_first()?;
        *words = rest;
        return (*end == ")").then_some(inner);
    }
    let mut name = (*first).to_owned();
    if let Some((&"WITH", rest)) = words.split_first() {
        let (exception, rest) = rest.split_first()?;
        name = format!("{name} WITH {exception}");
        *words = rest;
    }
    Some(allowed.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked(name: &str, version: &str, source: &str) -> Locked {
        Locked {
            name: name.to_owned(),
            version: version.to_owned(),
            source: Some(source.to_owned()),
            checksum: Some("00".to_owned()),
        }
    }

    #[test]
    fn a_licence_is_taken_where_a_choice_allows_it() {
        let allowed = ["MIT", "Apache-2.0", "ISC"].map(str::to_owned);
        for expression in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/GPL-3.0",
            "Apache-2.0 AND ISC",
            "(GPL-3.0 OR MIT) AND ISC",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0",
        ] {
            assert!(is_allowed(expression, &allowed), "{expression}");
        }
        for expression in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "GPL-3.0 OR MIT AND OpenSSL",
            "Apache-2.0 WITH LLVM-exception",
            "(MIT",
            "MIT ISC",
            "MIT OR",
        ] {
            assert!(!is_allowed(expression, &allowed), "{expression}");
        }
    }

    #[test]
    fn only_what_is_older_than_its_floor_is_banned() -> Result<()> {
        let bans = ["openssl-sys", "rustls:<0.23.18"];
        let bans = bans.map(|it| Ban {
            package: it.to_owned(),
        });
        let packages = [
            locked("rustls", "0.23.9", REGISTRY),
            locked("rustls", "0.23.18", REGISTRY),
            locked("rustls-webpki", "0.1.0", REGISTRY),
            locked("openssl-sys", "0.9.100", REGISTRY),
        ];
        assert_eq!(
            check_bans(&bans, &packages)?,
            [
                "openssl-sys 0.9.100 is banned: openssl-sys",
                "rustls 0.23.9 is banned: rustls:<0.23.18",
            ]
        );
        let other = Ban {
            package: "rustls@0.23.9".to_owned(),
        };
        assert!(check_bans(&[other], &packages).is_err());
        Ok(())
    }

    #[test]
    fn what_is_of_another_source_or_has_no_checksum_is_found() {
        let git = "git+https://example.org/a";
        let unsure = Locked {
            checksum: None,
            ..locked("b", "1.0.0", REGISTRY)
        };
        let own = Locked {
            source: None,
            checksum: None,
            ..locked("d", "1.0.0", "")
        };
        let packages = [
            locked("a", "1.0.0", git),
            unsure,
            locked("c", "1.0.0", REGISTRY),
            own,
        ];
        assert_eq!(
            check_sources(&packages),
            [
                format!("a 1.0.0 comes from {git}"),
                format!("b 1.0.0 comes from {REGISTRY}"),
            ]
        );
    }
}
