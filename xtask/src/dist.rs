//! `cargo xtask dist`: a Debian package and a static tarball, the same in every run.
//!
//! Both hold the same tree of files, one with the program as Debian's own are, linked with its C
//! library, and the other with one that needs nothing of the machine.

mod archive;
mod bare;
mod files;
pub(crate) mod libraries;
pub(crate) mod program;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use postern_tests::{Scratch, needs};

use self::archive::Packing;
use self::files::Tree;
use crate::part::Counts;
use crate::setup::{self, Need, Outcome};
use crate::{EXIT_NOT_SET_UP, ebpf, root};

/// What the packages are called after; the workspace has one version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where the packages are put, below the root.
const FOLDER: &str = "target/dist";

/// Options of `cargo xtask dist`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Also install the package in a bare Debian 13, change, upgrade and purge it there.
    #[arg(long)]
    check: bool,
    /// Pack this program instead of building one, and make no tarball: to try the package out.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// The command.
///
/// # Errors
/// If something cannot be built or packed.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if setup::ensure(&[Need::Compiler])? == Outcome::CommandPrinted
        || ebpf::build()? == Outcome::CommandPrinted
    {
        return Ok(ExitCode::from(EXIT_NOT_SET_UP));
    }
    let folder = root()?.join(FOLDER);
    let package = match &arguments.program {
        Some(program) => sample(program, &folder)?,
        None => make(&folder)?,
    };
    if !arguments.check {
        return Ok(ExitCode::SUCCESS);
    }
    let mut counts = rules::check(&package)?;
    counts.add(bare::check(&package)?);
    println!("{} passed, {} failed", counts.passed, counts.failed);
    Ok(match counts.failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// As a part of the tests: what is cheap, with the program that the tests run. In full, the
/// package that is delivered, in a bare Debian 13.
///
/// # Errors
/// If something cannot be packed.
pub(crate) fn check(in_full: bool) -> Result<Counts> {
    if needs::program("dpkg-deb").is_none() {
        return Ok(Counts::skip("dist", "dpkg-deb is not installed"));
    }
    let scratch = Scratch::new()?;
    let packages = match in_full {
        true => {
            setup::ensure(&[Need::Compiler])?;
            ebpf::build()?;
            let first = make(&root()?.join(FOLDER))?;
            [first, make(&scratch.subfolder("again")?)?]
        }
        false => {
            // Cargo has put it beside us.
            let program = std::env::current_exe()?.with_file_name("postern");
            // Some folder or other must make no difference.
            let one = |name| sample(&program, &scratch.subfolder(name)?);
            [one("first")?, one("second-of-another-length")?]
        }
    };
    let mut counts = rules::check_sameness(&packages)?;
    counts.add(rules::check(&packages[0])?);
    if in_full {
        counts.add(bare::check(&packages[0])?);
    }
    Ok(counts)
}

/// Builds both programs and packs them into a folder; returns the Debian package.
fn make(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let scratch = Scratch::new()?;
    let epoch_s = epoch_s()?;
    let dynamic = program::dynamic(&scratch)?;
    let tree = Tree::lay(&dynamic, &scratch.subfolder("package")?)?;
    let package = archive::debian_package(&tree, folder, epoch_s, Packing::Small)?;
    let fixed = program::fixed(&scratch)?;
    let name = format!("postern-{VERSION}-x86_64-linux-static");
    let tree = Tree::lay(&fixed, &scratch.subfolder(&name)?)?;
    let tarball = archive::tarball(&tree, folder, epoch_s)?;
    for file in [&package, &tarball] {
        let bytes = fs::metadata(file)?.len();
        println!("{}  {} KiB", file.display(), bytes / 1_024);
    }
    Ok(package)
}

/// A package that is quickly made, with a program that is there.
fn sample(program: &Path, folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let scratch = Scratch::new()?;
    let stripped = program::stripped(program, &scratch)?;
    let tree = Tree::lay(&stripped, &scratch.subfolder("package")?)?;
    archive::debian_package(&tree, folder, epoch_s()?, Packing::Quick)
}

/// The time that all files are of, in seconds of Unix: what the environment says, or that of the
/// commit, <https://reproducible-builds.org/specs/source-date-epoch/>.
fn epoch_s() -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => {
            let mut git = Command::new("git");
            git.args(["log", "-1", "--format=%ct"]).current_dir(root()?);
            postern_tests::process::run(&mut git)?
        }
    };
    text.trim()
        .parse()
        .context("SOURCE_DATE_EPOCH is no number")
}
