//! `cargo xtask appliance build`: from the sources to a disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use postern_tests::process::run as run_tool;

use super::disk::{self, Verity};
use super::tool::tool;
use super::tree::Tree;
use super::uki;
use crate::dist::program;
use crate::setup::{self, Need, Outcome};
use crate::{EXIT_NOT_SET_UP, ebpf, root};

/// The disk, as it is written to a machine's, and packed.
pub(super) const DISK: &str = "postern.raw";
pub(super) const PACKED: &str = "postern.qcow2";
/// A drive that updates a machine of an older version.
pub(super) const UPDATE: &str = "postern.update";
/// The packages of the image with their versions.
const MANIFEST: &str = "manifest";

/// What the kernel is told beside where its root is. Its check of the timer asks for more
/// punctuality than an emulated machine has.
const KERNEL_OPTIONS: &str = "console=tty1 console=ttyS0 quiet systemd.show_status=no \
                              systemd.machine_id=firmware panic=10 no_timer_check";

/// Options of `cargo xtask appliance build`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The version that the image says it has, in place of the program's.
    #[arg(long, value_name = "VERSION")]
    image_version: Option<String>,
    /// A program that is built already.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Make the image a second time, of the same program, and compare.
    #[arg(long)]
    twice: bool,
}

/// The command.
///
/// # Errors
/// If a tool fails, or a second image differs.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if setup::ensure(&[Need::Compiler, Need::Appliance])? == Outcome::CommandPrinted {
        return Ok(ExitCode::from(EXIT_NOT_SET_UP));
    }
    let version = arguments.image_version.as_deref().unwrap_or(VERSION);
    let folder = folder()?;
    let program = match &arguments.program {
        Some(program) => Some(program.clone()),
        None => built()?,
    };
    let Some(program) = program else {
        return Ok(ExitCode::from(EXIT_NOT_SET_UP));
    };
    make(&folder, &program, version)?;
    if arguments.twice {
        let again = folder.join("again");
        make(&again, &program, version)?;
        for name in [DISK, PACKED, UPDATE] {
            let (first, second) = (hash(&folder.join(name))?, hash(&again.join(name))?);
            if first != second {
                bail!("{name} differs between two builds: {first} and {second}");
            }
            println!("{first}  {name}, twice of one program");
        }
        fs::remove_dir_all(again)?;
    }
    for name in [DISK, PACKED, UPDATE] {
        println!("{}", folder.join(name).display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The version of an image of these sources.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where images are made.
///
/// # Errors
/// If the workspace is not found.
pub(super) fn folder() -> Result<PathBuf> {
    Ok(root()?.join("target/appliance"))
}

/// Builds the program as it is delivered; none if what it needs cannot be installed.
fn built() -> Result<Option<PathBuf>> {
    if ebpf::build()? == Outcome::CommandPrinted {
        return Ok(None);
    }
    Ok(Some(program::built()?))
}

/// Makes an image of a version in a folder: the disk, the packed disk and the update.
///
/// # Errors
/// If a tool fails.
pub(super) fn make(folder: &Path, program: &Path, version: &str) -> Result<()> {
    let work = folder.join("work");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    let start = Instant::now();
    let step = |what: &str| eprintln!("{:6.1} s  {what}", start.elapsed().as_secs_f64());
    step("packages of Debian, and what the appliance adds");
    let tree = Tree::make(&work, program, version)?;
    step("root, and its hashes");
    let root_image = work.join("root.squashfs");
    tree.pack_root(&root_image)?;
    let hashes = work.join("root.verity");
    let verity = disk::hash(&root_image, &hashes)?;
    step("what starts it");
    let boot = boot_file(&tree, &verity, version)?;
    let esp = work.join("esp.img");
    let files = [
        ("EFI/BOOT/BOOTX64.EFI", tree.file("loader")?),
        ("EFI/Linux/postern-a.efi", boot.clone()),
        ("loader/loader.conf", b"timeout 0\neditor no\n".to_vec()),
    ];
    disk::make_esp(&esp, &files)?;
    step("disk and update");
    let update = [
        ("release", release(version).into_bytes()),
        ("root.squashfs", tree.file("root.squashfs")?),
        ("root.verity", tree.file("root.verity")?),
        ("boot.efi", boot),
    ];
    disk::make_update(&folder.join(UPDATE), &update)?;
    let state = disk::make_state(&work)?;
    let parts: [(&str, &Path); 4] = [
        ("postern-esp", &esp),
        ("root-a", &root_image),
        ("verity-a", &hashes),
        ("postern-state", &state),
    ];
    let image = folder.join(DISK);
    disk::assemble(&image, &parts)?;
    let mut convert = tool("qemu-img");
    convert.args([
        "convert",
        "-c",
        "-O",
        "qcow2",
        "-o",
        "compression_type=zstd",
    ]);
    run_tool(convert.arg(&image).arg(folder.join(PACKED)))?;
    fs::write(folder.join(MANIFEST), tree.file(MANIFEST)?)?;
    fs::remove_dir_all(work)?;
    step("done");
    Ok(())
}

/// The file that UEFI starts.
fn boot_file(tree: &Tree, verity: &Verity, version: &str) -> Result<Vec<u8>> {
    let options = format!(
        "{KERNEL_OPTIONS} roothash={} postern.salt={} postern.blocks={}",
        verity.root_hash, verity.salt, verity.blocks
    );
    let (initrd, kernel, release) = (tree.pack_initrd()?, tree.file("kernel")?, release(version));
    let parts: [(&str, &[u8]); 4] = [
        (".osrel", release.as_bytes()),
        (".cmdline", options.as_bytes()),
        (".initrd", &initrd),
        (".linux", &kernel),
    ];
    uki::assemble(&tree.file("stub")?, &parts)
}

/// What the loader sorts images by: <https://www.freedesktop.org/software/systemd/man/os-release.html>.
fn release(version: &str) -> String {
    format!(
        "ID=postern\nIMAGE_ID=postern\nNAME=Postern\nPRETTY_NAME=\"Postern {version}\"\n\
         VERSION_ID={version}\nIMAGE_VERSION={version}\n"
    )
}

/// The SHA-256 of a file.
fn hash(file: &Path) -> Result<String> {
    let said = run_tool(tool("sha256sum").arg(file))?;
    let hash = said.split_whitespace().next().context("no hash")?;
    Ok(hash.to_owned())
}
