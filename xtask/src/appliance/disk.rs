//! The disk: partitions in one file, each made as a file of its own and without being mounted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use postern_tests::process::{run, run_with_input};

use super::tool::tool;

const MIB: u64 = 1024 * 1024;
const SECTOR_BYTES: u64 = 512;

/// The boot files of both slots, and of a third while one is being replaced.
const ESP_MIB: u64 = 128;
/// The files of a slot: three times those of today.
const ROOT_MIB: u64 = 192;
/// Their hashes: less than a hundredth.
const VERITY_MIB: u64 = 4;
/// State, journal and audit file.
const STATE_MIB: u64 = 256;
/// Where the first partition begins, and the room behind the last.
const MARGIN_MIB: u64 = 1;

/// The kinds of partitions, <https://uapi-group.org/specifications/specs/discoverable_partitions_specification/>.
const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
const ROOT: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
const VERITY: &str = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5";
const STATE: &str = "4d21b016-b534-45c2-a9fb-5c16e091fd2d";

/// Names that a disk must have are the same in each: two builds are one.
const DISK_ID: &str = "6d0a6a2e-2f3c-4f5e-9c39-2e7f41ad60e1";
const STATE_ID: &str = "0d7f4b52-6f0d-4f1e-8a52-b7a1c2a85d10";
const VERITY_ID: &str = "a8a2f3de-4c69-4a7e-a0c1-2f6f3f0a9b77";
const ESP_ID: &str = "504f5354";
const UPDATE_ID: &str = "4e455700";
/// What the appliance knows an update by.
const UPDATE_LABEL: &str = "postern-new";
/// What the file system of an update needs for itself; FAT32 has 32 MiB or more.
const UPDATE_MARGIN_MIB: u64 = 40;

/// The partitions, in their order: name, kind, MiB.
const PARTITIONS: [(&str, &str, u64); 6] = [
    ("postern-esp", ESP, ESP_MIB),
    ("root-a", ROOT, ROOT_MIB),
    ("verity-a", VERITY, VERITY_MIB),
    ("root-b", ROOT, ROOT_MIB),
    ("verity-b", VERITY, VERITY_MIB),
    ("postern-state", STATE, STATE_MIB),
];

/// The hashes of a root file system.
#[derive(Debug)]
pub(super) struct Verity {
    /// The hash of all.
    pub(super) root_hash: String,
    /// What the hashes begin with.
    pub(super) salt: String,
    /// Blocks of 4,096 bytes.
    pub(super) blocks: u64,
}

/// Makes the hashes of a root file system, <https://docs.kernel.org/admin-guide/device-mapper/verity.html>.
///
/// # Errors
/// If veritysetup fails.
pub(super) fn hash(root: &Path, hashes: &Path) -> Result<Verity> {
    let length = fs::metadata(root)?.len();
    if length > ROOT_MIB * MIB {
        bail!("the root has {length} bytes, which is more than a slot of {ROOT_MIB} MiB");
    }
    // A salt makes tables for many images useless; nobody has any for this one.
    let salt = "00".repeat(32);
    let mut command = tool("veritysetup");
    command.args(["format", "--salt", &salt, "--uuid", VERITY_ID]);
    let said = run(command.arg(root).arg(hashes))?;
    let root_hash = said.lines().find_map(|it| it.strip_prefix("Root hash:"));
    let root_hash = root_hash.context("veritysetup names no root hash")?.trim();
    Ok(Verity {
        root_hash: root_hash.to_owned(),
        salt,
        blocks: length.div_ceil(4_096),
    })
}

/// A file of the boot partition: its path there and its content.
pub(super) type BootFile = (&'static str, Vec<u8>);

/// Makes the boot partition.
///
/// # Errors
/// If a tool fails.
pub(super) fn make_esp(image: &Path, files: &[BootFile]) -> Result<()> {
    make_fat(image, ESP_MIB, ("POSTERN-ESP", ESP_ID))?;
    for folder in ["EFI", "EFI/BOOT", "EFI/Linux", "loader"] {
        let mut make = tool("mmd");
        run(make.arg("-i").arg(image).arg(format!("::{folder}")))?;
    }
    fill_fat(image, files)
}

/// Makes a drive with the files of a slot.
///
/// # Errors
/// If a tool fails.
pub(super) fn make_update(image: &Path, files: &[BootFile]) -> Result<()> {
    let length: usize = files.iter().map(|it| it.1.len()).sum();
    let mib = u64::try_from(length)?.div_ceil(MIB) + UPDATE_MARGIN_MIB;
    make_fat(image, mib, (UPDATE_LABEL, UPDATE_ID))?;
    fill_fat(image, files)
}

fn make_fat(image: &Path, mib: u64, (label, id): (&str, &str)) -> Result<()> {
    File::create(image)?.set_len(mib * MIB)?;
    let mut format = tool("mkfs.vfat");
    format.args(["-F", "32", "-n", label, "-i", id, "--invariant"]);
    run(format.arg(image))?;
    Ok(())
}

fn fill_fat(image: &Path, files: &[BootFile]) -> Result<()> {
    for (path, content) in files {
        let mut copy = tool("mcopy");
        copy.arg("-i").arg(image).args(["-", &format!("::{path}")]);
        feed(copy, content)?;
    }
    Ok(())
}

/// Makes the state partition: empty, and formatted, because a file system that is made at a start
/// would hide that an old one is damaged.
///
/// # Errors
/// If a tool fails.
pub(super) fn make_state(folder: &Path) -> Result<PathBuf> {
    let image = folder.join("state.img");
    let mut format = tool("mke2fs");
    format.args(["-q", "-t", "ext4", "-m", "0", "-L", "postern-state"]);
    format.args(["-U", STATE_ID, "-E"]);
    format.arg(format!("hash_seed={STATE_ID},lazy_itable_init=1"));
    format.args(["-O", "^metadata_csum_seed"]);
    run(format.arg(&image).arg(format!("{STATE_MIB}M")))?;
    Ok(image)
}

/// Puts partitions together; slot b is empty.
///
/// # Errors
/// If a tool fails, or a part is longer than its partition.
pub(super) fn assemble(disk: &Path, parts: &[(&str, &Path)]) -> Result<()> {
    let whole: u64 = PARTITIONS.iter().map(|it| it.2).sum();
    File::create(disk)?.set_len((whole + 2 * MARGIN_MIB) * MIB)?;
    let mut script = format!("label: gpt\nlabel-id: {DISK_ID}\n");
    for (index, (name, kind, mib)) in PARTITIONS.iter().enumerate() {
        // The last digits of the disk's own name make those of its partitions.
        let id = format!("{}{:04x}", &DISK_ID[..32], index + 1);
        script += &format!("size={mib}MiB, type={kind}, name={name}, uuid={id}\n");
    }
    let mut sfdisk = tool("sfdisk");
    sfdisk.args(["--quiet", "--no-reread", "--no-tell-kernel"]);
    let output = run_with_input(sfdisk.arg(disk), &script)?;
    if !output.status.success() {
        bail!("sfdisk: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut target = OpenOptions::new().write(true).open(disk)?;
    for (name, path) in parts {
        let mut start = MARGIN_MIB * MIB;
        let before = PARTITIONS.iter().take_while(|it| it.0 != *name);
        start += before.map(|it| it.2 * MIB).sum::<u64>();
        copy(path, &mut target, start)?;
    }
    Ok(())
}

/// Copies a file's bytes to a place of the disk; what is zero stays a hole.
fn copy(source: &Path, target: &mut File, start: u64) -> Result<()> {
    let content = fs::read(source).with_context(|| source.display().to_string())?;
    let mut at = start;
    for block in content.chunks(usize::try_from(MIB)?) {
        if block.iter().any(|&it| it != 0) {
            target.seek(SeekFrom::Start(at))?;
            target.write_all(block)?;
        }
        at += block.len() as u64;
    }
    debug_assert!(start.is_multiple_of(SECTOR_BYTES));
    Ok(())
}

/// Runs a program with bytes as its standard input.
fn feed(mut command: Command, content: &[u8]) -> Result<()> {
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("no pipe")?;
    let written = input.write_all(content);
    drop(input);
    let status = child.wait()?;
    // A program that has ended early says why itself.
    if !status.success() || written.is_err() {
        let why = written
            .err()
            .unwrap_or_else(|| io::Error::other("it failed"));
        bail!("{:?}: {status}: {why}", command.get_program());
    }
    Ok(())
}
