//! `cargo xtask dist`: a Debian package and a static tarball, the same in every run.
//!
//! Both hold the same tree of files, one with the program as Debian's own are, linked with its C
//! library, and the other with one that needs nothing of the machine.

mod archive;
mod bare;
mod empty;
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
use self::program::CLibrary;
use crate::part::Counts;
use crate::setup::{self, Need, Outcome};
use crate::{EXIT_NOT_SET_UP, ebpf, root};

/// What the packages are called after; the workspace has one version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where the packages are put, below the root.
const FOLDER: &str = "target/dist";
/// Where the programs are built a second time, below the root.
const ANEW: &str = "target/anew";

/// Options of `cargo xtask dist`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Also install the package in a bare Debian 13, change, upgrade and purge it there, and run
    /// the tarball's program in a root that has nothing else.
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
    let packed = match &arguments.program {
        Some(program) => Packed {
            package: sample(program, &folder)?,
            tarball: None,
        },
        None => make(&folder, program::FOLDER)?,
    };
    if !arguments.check {
        return Ok(ExitCode::SUCCESS);
    }
    let counts = packed.check()?;
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
    if in_full {
        setup::ensure(&[Need::Compiler])?;
        ebpf::build()?;
        let first = make(&root()?.join(FOLDER), program::FOLDER)?;
        // Cargo would not compile what it has; this folder has nothing.
        let anew = root()?.join(ANEW);
        if anew.exists() {
            fs::remove_dir_all(&anew)?;
        }
        let again = make(&scratch.subfolder("again")?, ANEW)?;
        fs::remove_dir_all(&anew)?;
        let mut counts = rules::check_sameness(&first.package, &again.package)?;
        if let (Some(tarball), Some(again)) = (&first.tarball, &again.tarball) {
            counts.add(rules::check_sameness(tarball, again)?);
        }
        counts.add(first.check()?);
        return Ok(counts);
    }
    // Cargo has put it beside us.
    let program = std::env::current_exe()?.with_file_name("postern");
    // Some folder or other must make no difference.
    let one = |name| sample(&program, &scratch.subfolder(name)?);
    let (first, again) = (one("first")?, one("second-of-another-length")?);
    let mut counts = rules::check_sameness(&first, &again)?;
    counts.add(rules::check(&first)?);
    Ok(counts)
}

/// What was made.
#[derive(Debug)]
struct Packed {
    package: PathBuf,
    /// Not of a sample.
    tarball: Option<PathBuf>,
}

impl Packed {
    /// Looks at both, and tries them out.
    fn check(&self) -> Result<Counts> {
        let mut counts = rules::check(&self.package)?;
        if let Some(tarball) = &self.tarball {
            counts.add(empty::check(tarball)?);
        }
        counts.add(bare::check(&self.package)?);
        Ok(counts)
    }
}

/// Builds both programs in another folder, below the root, and packs them into this one.
fn make(folder: &Path, target: &str) -> Result<Packed> {
    fs::create_dir_all(folder)?;
    let scratch = Scratch::new()?;
    let epoch_s = epoch_s()?;
    let dynamic = program::dynamic(target, &scratch)?;
    let tree = Tree::lay(&dynamic, &scratch.subfolder("package")?, CLibrary::Without)?;
    let package = archive::debian_package(&tree, folder, epoch_s, Packing::Small)?;
    let fixed = program::fixed(target, &scratch)?;
    let name = format!("postern-{VERSION}-x86_64-linux-static");
    let tree = Tree::lay(&fixed, &scratch.subfolder(&name)?, CLibrary::Within)?;
    let tarball = archive::tarball(&tree, folder, epoch_s)?;
    for file in [&package, &tarball] {
        let bytes = fs::metadata(file)?.len();
        println!("{}  {} KiB", file.display(), bytes / 1_024);
    }
    Ok(Packed {
        package,
        tarball: Some(tarball),
    })
}

/// A package that is quickly made, with a program that is there.
fn sample(program: &Path, folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let scratch = Scratch::new()?;
    let stripped = program::stripped(program, &scratch)?;
    let tree = Tree::lay(&stripped, &scratch.subfolder("package")?, CLibrary::Without)?;
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
