//! The licences of what the program is linked with, as their authors ask for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{cargo, root};

/// How the file of a licence begins, in any case.
const NAMES: [&str; 4] = ["license", "licence", "copying", "notice"];

/// What cargo says of all packages,
/// <https://doc.rust-lang.org/cargo/commands/cargo-metadata.html>.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// None of the workspace's own.
    source: Option<String>,
    manifest_path: String,
}

/// A list of every library, and the text of every licence once, with the libraries that have it.
pub(crate) fn text() -> Result<String> {
    let linked = linked()?;
    let is_linked = |it: &&Package| linked.contains_key(&format!("{} v{}", it.name, it.version));
    let packages = packages()?;
    let mut list = String::from("Postern is linked with these libraries.\n\n");
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages
        .iter()
        .filter(|it| it.source.is_some())
        .filter(is_linked)
    {
        let name = format!("{} {}", package.name, package.version);
        let licence = package.license.as_deref().unwrap_or("see below");
        writeln!(list, "{name}: {licence}")?;
        for text in licences(Path::new(&package.manifest_path))? {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    if texts.is_empty() {
        bail!("no library has a licence, which cannot be");
    }
    for (text, names) in texts {
        writeln!(
            list,
            "\n{}\n{}\n\n{}",
            "-".repeat(72),
            names.join(", "),
            text.trim_end()
        )?;
    }
    Ok(list)
}

/// What the program is linked with and what makes its code, as `name vVERSION`.
fn linked() -> Result<BTreeMap<String, ()>> {
    let tree = said(&[
        "tree",
        "--locked",
        "--package",
        "postern",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--target",
        "x86_64-unknown-linux-gnu",
    ])?;
    let names = tree.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((format!("{} {}", words.next()?, words.next()?), ()))
    });
    Ok(names.collect())
}

fn packages() -> Result<Vec<Package>> {
    let metadata = said(&["metadata", "--locked", "--format-version", "1"])?;
    let metadata: Metadata = serde_json::from_str(&metadata)?;
    let mut packages = metadata.packages;
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(packages)
}

/// The texts beside a manifest, in the order of their names.
fn licences(manifest: &Path) -> Result<Vec<String>> {
    let folder = manifest.parent().context("a manifest without a folder")?;
    let mut texts = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        if path.is_file() && NAMES.iter().any(|it| name.starts_with(it)) {
            let text = fs::read(&path)?;
            texts.insert(name, String::from_utf8_lossy(&text).into_owned());
        }
    }
    Ok(texts.into_values().collect())
}

fn said(arguments: &[&str]) -> Result<String> {
    let output = cargo::command(arguments).current_dir(root()?).output()?;
    if !output.status.success() {
        bail!("cargo: {}", String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).context("cargo does not answer with text")
}
