//! The licences of what the program is linked with, as their authors ask for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use postern_tests::process::run;
use serde::Deserialize;

use super::VERSION;
use super::program::TARGET;
use crate::{cargo, root};

/// Below the compiler's folder: what its own library is made of, and texts of licences by their
/// names.
const RUST_NOTICE: &str = "share/doc/rust/COPYRIGHT-library.html";
const RUST_LICENCES: &str = "share/doc/rust/licenses";
/// What Debian says of its C library, and the licence of that.
const C_PACKAGE: &str = "libc6-dev";
const C_NOTICE: &str = "/usr/share/doc/libc6-dev/copyright";
const C_LICENCE: &str = "/usr/share/common-licenses/LGPL-2.1";

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
    let library = RustLibrary::of_the_compiler()?;
    writeln!(list, "{}: Apache-2.0 OR MIT, and see below", library.name)?;
    for text in library.licences {
        texts.entry(text).or_default().push(library.name.clone());
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

/// What is said where the C library is within: whose it is, its licence, and how to have another.
pub(super) fn c_library() -> Result<String> {
    let mut query = Command::new("dpkg-query");
    let version = run(query.args(["--show", "--showformat=${source:Version}", C_PACKAGE]))?;
    let read = |path: &str| fs::read_to_string(path).with_context(|| path.to_owned());
    let line = "-".repeat(72);
    Ok(format!(
        "The GNU C library is within this program, unchanged; its licence, the GNU Lesser General\n\
         Public License, version 2.1, is below.  Its source is Debian's, glibc {version}:\n\
         https://snapshot.debian.org/package/glibc/{version}/\n\
         \n\
         You may have another one in its place, as that licence wants it: in the sources of\n\
         Postern {VERSION}, with the libc.a of your own in FOLDER,\n\
         \n\
         \x20 cargo xtask ebpf\n\
         \x20 RUSTFLAGS='-Ctarget-feature=+crt-static -Lnative=FOLDER' cargo build --release \\\n\
         \x20   --locked --package postern --target {TARGET}\n\
         \n{line}\n{}\n{line}\n{}",
        read(C_NOTICE)?,
        read(C_LICENCE)?,
    ))
}

/// The library that comes with the compiler.
struct RustLibrary {
    name: String,
    /// Its notice, and the licences that it names.
    licences: Vec<String>,
}

impl RustLibrary {
    fn of_the_compiler() -> Result<Self> {
        let folder = cargo::rustc(&["--print", "sysroot"])?;
        let folder = Path::new(folder.trim());
        let version = cargo::rustc(&["--version"])?;
        let version = version.split(' ').nth(1).context("rustc has no version")?;
        let notice = folder.join(RUST_NOTICE);
        let html = fs::read_to_string(&notice).with_context(|| {
            format!(
                "the notice of Rust's library, {}, is not there; rustup has it with the compiler",
                notice.display()
            )
        })?;
        let mut licences = vec![text_of(&html)];
        let mut files: Vec<PathBuf> = fs::read_dir(folder.join(RUST_LICENCES))?
            .map(|it| Ok(it?.path()))
            .collect::<Result<_>>()?;
        files.sort();
        for file in files {
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            if html.contains(name.as_ref()) {
                licences.push(fs::read_to_string(&file)?);
            }
        }
        Ok(Self {
            name: format!("Rust's library {version}"),
            licences,
        })
    }
}

/// What a page says, without its marks.
fn text_of(html: &str) -> String {
    let mut text = String::new();
    for (index, part) in html.split('<').enumerate() {
        // What is before the first mark has none.
        let said = part.split_once('>').map_or(part, |(_, after)| after);
        text.push_str(if index == 0 { part } else { said });
    }
    for (code, sign) in [
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&#60;", "<"),
        ("&#62;", ">"),
        ("&#38;", "&"),
        ("&amp;", "&"),
    ] {
        text = text.replace(code, sign);
    }
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let kept = lines.iter().enumerate().filter(|(index, line)| {
        let before = index.checked_sub(1).and_then(|it| lines.get(it));
        !line.trim().is_empty() || before.is_some_and(|it| !it.is_empty())
    });
    kept.map(|(_, line)| format!("{line}\n")).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_without_its_marks() {
        let html = "<!DOCTYPE html>\n<p>a <b>b</b></p>\n\n\n\n<pre>&#60;c&#62; &#34;d&#34;</pre>\n";
        assert_eq!(text_of(html), "a b\n\n<c> \"d\"\n");
    }
}
