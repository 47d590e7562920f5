//! `cargo xtask ebpf`: builds the policy programs for the kernel.
//!
//! A compiler for the kernel needs the source of Rust's `core` and a linker (`bpf-linker`) with
//! the same LLVM as the compiler. Two compilers are known to have what is needed: rustup's nightly
//! with the component `rust-src`, and Debian's packages `rustc-web` and `rust-web-src`.

#[path = "../../ebpf/digest.rs"]
mod digest;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::setup::{self, Need, Outcome};
use crate::{EXIT_NOT_SET_UP, root};

/// The linker's version.
const LINKER_VERSION: &str = "0.13.0";
/// What the programs are compiled for: the machine's own byte order.
const TARGET: &str = if cfg!(target_endian = "big") {
    "bpfeb-unknown-none"
} else {
    "bpfel-unknown-none"
};

/// A compiler that can build for the kernel.
pub(crate) struct Compiler {
    cargo: Vec<&'static str>,
    rustc: PathBuf,
    /// The major version of its LLVM.
    llvm: u32,
}

/// The command.
///
/// # Errors
/// If the programs do not compile.
pub(crate) fn run() -> Result<ExitCode> {
    if build()? == Outcome::CommandPrinted {
        return Ok(ExitCode::from(EXIT_NOT_SET_UP));
    }
    println!("The policy programs are in {}.", digest::OBJECT);
    Ok(ExitCode::SUCCESS)
}

/// Builds the programs unless they are there and nothing has changed; installs what that needs.
///
/// # Errors
/// If the compiler or its linker cannot be installed, or the programs do not compile.
pub(crate) fn build() -> Result<Outcome> {
    let root = root()?;
    let sources = digest::of_sources(&root).context("ebpf/ cannot be read")?;
    let built = fs::read_to_string(root.join(digest::OBJECT_SOURCES));
    if built.is_ok_and(|it| it.trim() == sources) && root.join(digest::OBJECT).is_file() {
        return Ok(Outcome::Ready);
    }
    if setup::ensure(&[Need::Compiler, Need::KernelCompiler])? == Outcome::CommandPrinted {
        return Ok(Outcome::CommandPrinted);
    }
    let compiler = Compiler::find().context("no compiler for the kernel is installed")?;
    let linker = linker(&root, &compiler)?;
    compile(&root, &compiler, &linker)?;
    let object = root
        .join("target/bpf")
        .join(TARGET)
        .join("release/postern-programs");
    let wanted = root.join(digest::OBJECT);
    fs::create_dir_all(wanted.parent().context("a file in no folder")?)?;
    strip(&compiler, &object, &wanted)?;
    fs::write(root.join(digest::OBJECT_SOURCES), sources + "\n")?;
    Ok(Outcome::Ready)
}

impl Compiler {
    /// The first of those that are known to work.
    pub(crate) fn find() -> Option<Self> {
        let nightly = ["rustup", "run", "nightly"];
        let debian = PathBuf::from("/usr/bin/rustc");
        let of_rustup = said(&["rustup", "which", "--toolchain", "nightly", "rustc"])
            .map(|it| (PathBuf::from(it), [&nightly[..], &["cargo"]].concat()));
        let of_debian = debian.is_file().then(|| (debian, vec!["/usr/bin/cargo"]));
        let mut known = [of_rustup, of_debian].into_iter().flatten();
        known.find_map(|(rustc, cargo)| {
            let path = rustc.to_str()?;
            let folder = PathBuf::from(said(&[path, "--print", "sysroot"])?);
            let core = folder.join("lib/rustlib/src/rust/library/core/src/lib.rs");
            let version = said(&[path, "--version", "--verbose"])?;
            let llvm = version
                .lines()
                .find_map(|it| it.strip_prefix("LLVM version: "))?;
            let llvm = llvm.split('.').next()?.parse().ok()?;
            let has_llvm = llvm_folder(llvm).join("lib").is_dir();
            (core.is_file() && has_llvm).then_some(Self { cargo, rustc, llvm })
        })
    }
}

/// Where Debian has a version of LLVM.
fn llvm_folder(major: u32) -> PathBuf {
    PathBuf::from(format!("/usr/lib/llvm-{major}"))
}

/// The linker with the compiler's LLVM; it is built where it is not there yet.
fn linker(root: &Path, compiler: &Compiler) -> Result<PathBuf> {
    let llvm = compiler.llvm;
    let folder = root.join(format!(
        "target/tools/bpf-linker-{LINKER_VERSION}-llvm-{llvm}"
    ));
    let linker = folder.join("bin/bpf-linker");
    if linker.is_file() {
        return Ok(linker);
    }
    eprintln!("Building bpf-linker {LINKER_VERSION} with LLVM {llvm}, once; a minute or two.");
    let mut cargo = crate::cargo::command(&["install", "bpf-linker", "--locked"]);
    cargo.args(["--version", LINKER_VERSION, "--no-default-features"]);
    cargo
        .args(["--features", &format!("llvm-{llvm}"), "--root"])
        .arg(&folder);
    cargo
        .arg("--target-dir")
        .arg(root.join("target/tools/build"));
    cargo
        .env("LLVM_PREFIX", llvm_folder(llvm))
        .env("PATH", path(llvm, &folder)?);
    let status = cargo
        .stdout(std::io::stderr())
        .status()
        .context("cannot start cargo")?;
    if !status.success() || !linker.is_file() {
        bail!("bpf-linker could not be built; its output is above");
    }
    Ok(linker)
}

fn compile(root: &Path, compiler: &Compiler, linker: &Path) -> Result<()> {
    let (program, leading) = compiler.cargo.split_first().context("no cargo")?;
    let mut cargo = Command::new(program);
    cargo
        .args(leading)
        .args(["build", "--release", "--locked", "--target", TARGET]);
    cargo.args(["--package", "postern-ebpf", "--bin", "postern-programs"]);
    cargo
        .args(["--features", "programs", "-Z", "build-std=core"])
        .current_dir(root);
    for (name, _) in std::env::vars_os() {
        // The cargo that has started us is another one.
        let name = name.to_string_lossy().into_owned();
        let is_theirs = name.starts_with("CARGO") || name.starts_with("RUST");
        if is_theirs && !matches!(name.as_str(), "CARGO_HOME" | "RUSTUP_HOME") {
            cargo.env_remove(name);
        }
    }
    // More optimization takes more than the 512 bytes of stack, less makes the verifier follow
    // twice the paths; the types are for who inspects the maps.
    let linker = format!("-Clinker={}", linker.display());
    let flags = [
        "-Copt-level=2",
        "-Cdebuginfo=2",
        "-Cpanic=abort",
        "-Clink-arg=--btf",
        &linker,
    ];
    // Which line each instruction is of goes into the kernel, too.
    let flags = crate::cargo::flags_without_paths(root, &flags)?;
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags);
    // A stable compiler is asked for its own unstable features: the target needs build-std.
    cargo
        .env("RUSTC", &compiler.rustc)
        .env("RUSTC_BOOTSTRAP", "1");
    cargo.env("CARGO_TARGET_DIR", root.join("target/bpf"));
    let status = cargo.stdout(std::io::stderr()).status();
    if !status
        .with_context(|| format!("cannot start {program}"))?
        .success()
    {
        bail!("the policy programs do not compile; the compiler's output is above");
    }
    Ok(())
}

/// Takes what debuggers want out of the object; the kernel wants the types of the maps (BTF) only.
fn strip(compiler: &Compiler, object: &Path, wanted: &Path) -> Result<()> {
    let mut strip = Command::new(llvm_folder(compiler.llvm).join("bin/llvm-objcopy"));
    strip.arg("--strip-debug").args([object, wanted]);
    let status = strip.status().context("cannot start llvm-objcopy")?;
    if !status.success() {
        bail!("llvm-objcopy failed: {status}");
    }
    Ok(())
}

/// The search path with LLVM's own tools first; and with where the linker goes, or else cargo
/// would tell everybody to put it there.
fn path(llvm: u32, linker: &Path) -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let first = [llvm_folder(llvm).join("bin"), linker.join("bin")];
    let folders = first.into_iter().chain(std::env::split_paths(&path));
    Ok(std::env::join_paths(folders)?)
}

/// What a program says when it succeeds.
fn said(command: &[&str]) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    // rustup would take the toolchain of the cargo that has started us.
    command.env_remove("RUSTUP_TOOLCHAIN");
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
