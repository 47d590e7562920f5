//! `cargo xtask setup`: installs what is missing, by Debian's packages.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use postern_tests::{Scratch, needs};

use crate::{EXIT_NOT_SET_UP, ebpf};

/// Something that a command needs on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A C compiler with headers, for two of the crates.
    Compiler,
    /// A C++ compiler, for libFuzzer; the tests do without where it is missing.
    CppCompiler,
    /// A Rust compiler for the kernel's programs, and the LLVM of its linker.
    KernelCompiler,
    /// What puts the perimeter's default drop into the kernel, and what its tests make and look at
    /// networks with.
    Network,
    /// A PostgreSQL server and its clients.
    Postgres,
    /// slapd and the LDAP clients.
    OpenLdap,
    /// Samba as a domain controller, and the LDAP clients.
    Samba,
    /// A proxy that the bench compares with.
    PgBouncer,
    /// Another.
    HaProxy,
    /// Another, with its module for TCP.
    Nginx,
    /// What checks alerts and figures as a monitoring system reads them; the tests do without where
    /// it is missing.
    Prometheus,
    /// The program that reads hardware counters; the bench does without where it is missing.
    Perf,
    /// What counts instructions without them, and what its guest is made with; the same holds.
    Emulator,
    /// What the bootable image is made with and started in.
    Appliance,
    /// What the suites of others run; each of these is done without where it is missing. Python,
    /// with what makes places for its packages.
    Python,
    /// Node and npm.
    Node,
    /// Go, with two drivers.
    Go,
    /// A compiler of Java, with a driver.
    Java,
    /// What a driver of Rust is linked with.
    OpenSsl,
    /// Perl, with a driver.
    Perl,
    /// Ruby, with a driver.
    Ruby,
    /// PHP, with a driver.
    Php,
    /// Lua, with a driver.
    Lua,
    /// Tcl, with a driver.
    Tcl,
    /// The programs that run PostgreSQL's own tests, and what is needed to compile the rest.
    PostgresTests,
}

/// Everything that any command needs.
pub(crate) const ALL: [Need; 10] = [
    Need::Compiler,
    Need::CppCompiler,
    Need::KernelCompiler,
    Need::Network,
    Need::Postgres,
    Need::OpenLdap,
    Need::Samba,
    Need::PgBouncer,
    Need::HaProxy,
    Need::Nginx,
];

/// The programs of [`Need::Network`].
const NETWORK: [&str; 6] = ["ip", "tc", "nft", "nsenter", "setpriv", "bpftool"];
/// The programs of [`Need::Emulator`].
const EMULATOR: [&str; 2] = ["qemu-system-x86_64", "mmdebstrap"];

/// The programs of [`Need::Appliance`].
const APPLIANCE: [&str; 13] = [
    "mmdebstrap",
    "mksquashfs",
    "veritysetup",
    "mkfs.vfat",
    "mcopy",
    "mke2fs",
    "sfdisk",
    "xz",
    "zstd",
    "qemu-img",
    "qemu-system-x86_64",
    "dpkg-deb",
    "xorrisofs",
];

/// The packages of [`Need::Appliance`].
const APPLIANCE_PACKAGES: [&str; 14] = [
    "mmdebstrap",
    "debian-archive-keyring",
    "squashfs-tools",
    "cryptsetup-bin",
    "dosfstools",
    "mtools",
    "e2fsprogs",
    "fdisk",
    "xz-utils",
    "zstd",
    "qemu-utils",
    "qemu-system-x86",
    "ovmf",
    "xorriso",
];
/// The packages of [`Need::Go`], where Debian puts them.
const GO: [&str; 2] = [
    "/usr/share/gocode/src/github.com/lib/pq",
    "/usr/share/gocode/src/github.com/jackc/pgx",
];
/// UEFI for virtual machines, where Debian puts it.
pub(crate) const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// The variables that it begins with.
pub(crate) const FIRMWARE_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// Succeeds where Tcl has the driver of [`Need::Tcl`].
const PGTCL: &str = "echo 'exit [catch {package require Pgtcl}]' | tclsh";

/// Keeps packages from starting their services; in force while the file is there,
/// <https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt>.
const POLICY_FILE: &str = "/usr/sbin/policy-rc.d";
const POLICY: &str = "#!/bin/sh\nexit 101\n";

/// How the machine's packages can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    Root,
    Sudo,
    None,
}

/// Whether everything is there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is.
    Ready,
    /// It is not, and we may not install it; the command to paste was printed.
    CommandPrinted,
}

/// The command.
///
/// # Errors
/// If apt fails.
pub(crate) fn run() -> Result<ExitCode> {
    match ensure(&ALL)? {
        Outcome::Ready => {
            println!("Everything is installed.");
            Ok(ExitCode::SUCCESS)
        }
        Outcome::CommandPrinted => Ok(ExitCode::from(EXIT_NOT_SET_UP)),
    }
}

/// Installs what is missing of `wanted`.
///
/// # Errors
/// If apt fails, or something is missing although its packages are installed.
pub(crate) fn ensure(wanted: &[Need]) -> Result<Outcome> {
    let absent = missing(wanted);
    if absent.is_empty() {
        return Ok(Outcome::Ready);
    }
    let power = power();
    if power == Power::None {
        print_command(&absent);
        return Ok(Outcome::CommandPrinted);
    }
    install(power, &absent)?;
    let missing = missing(wanted);
    if !missing.is_empty() {
        bail!("still missing after the installation: {missing:?}");
    }
    Ok(Outcome::Ready)
}

/// Installs something that can be done without. What goes wrong is noted and is no error.
pub(crate) fn try_to_install(need: Need) {
    let absent = missing(&[need]);
    let power = power();
    if absent.is_empty() || power == Power::None {
        return;
    }
    if let Err(error) = install(power, &absent) {
        eprintln!("{need:?} is left out: {error:#}");
    }
}

/// What of `wanted` the machine lacks. What needs root to run is not missed without root.
fn missing(wanted: &[Need]) -> Vec<Need> {
    wanted.iter().copied().filter(|&it| !is_there(it)).collect()
}

fn is_there(need: Need) -> bool {
    match need {
        Need::Compiler => needs::program("cc").is_some(),
        Need::CppCompiler => needs::program("c++").is_some(),
        Need::KernelCompiler => ebpf::Compiler::find().is_some(),
        Need::Network => NETWORK.iter().all(|it| needs::program(it).is_some()),
        Need::Postgres => {
            needs::postgres(None).is_some() && needs::postgres_client("psql").is_some()
        }
        Need::OpenLdap => needs::missing_for_openldap().is_none(),
        Need::Samba => !needs::is_root() || needs::missing_for_samba().is_none(),
        Need::PgBouncer => needs::program("pgbouncer").is_some(),
        Need::HaProxy => needs::program("haproxy").is_some(),
        Need::Prometheus => needs::program("promtool").is_some(),
        Need::Nginx => needs::nginx_stream().is_some(),
        Need::Perf => needs::program("perf").is_some(),
        Need::Emulator => EMULATOR.iter().all(|it| needs::program(it).is_some()),
        Need::Appliance => {
            let has_firmware = Path::new(FIRMWARE).exists();
            has_firmware && APPLIANCE.iter().all(|it| needs::program(it).is_some())
        }
        Need::Python => runs("python3", &["-c", "import ensurepip, venv"]),
        Need::Node => needs::program("node").is_some() && needs::program("npm").is_some(),
        Need::Go => needs::program("go").is_some() && GO.iter().all(|it| Path::new(it).is_dir()),
        Need::Java => needs::program("javac").is_some() && Path::new(needs::JDBC).exists(),
        Need::OpenSsl => runs("pkg-config", &["--exists", "openssl"]),
        Need::Perl => runs("perl", &["-MDBD::Pg", "-e", "1"]),
        Need::Ruby => runs("ruby", &["-e", "require 'pg'"]),
        Need::Php => runs(
            "php",
            &["-r", "exit(function_exists('pg_connect') ? 0 : 1);"],
        ),
        Need::Lua => runs("lua5.3", &["-e", "require('luasql.postgres')"]),
        Need::Tcl => runs("sh", &["-c", PGTCL]),
        Need::PostgresTests => {
            needs::postgres(None).is_some_and(|it| needs::pg_regress(&it).is_some())
                && Path::new("/usr/include/postgresql/libpq-fe.h").is_file()
        }
    }
}

/// The packages that bring something, on the releases of Debian and Ubuntu that have them.
/// Those that a release does not know are left out: Debian 13 has split Samba differently.
fn packages(need: Need) -> Vec<String> {
    let names: &[&str] = match need {
        Need::Compiler => &["gcc", "libc6-dev"],
        Need::CppCompiler => &["g++"],
        Need::KernelCompiler => &[
            "rustc-web",
            "cargo-web",
            "rust-web-src",
            "llvm-22-dev",
            "libpolly-22-dev",
            "zlib1g-dev",
            "libzstd-dev",
            "libxml2-dev",
            "g++",
        ],
        Need::Network => &["iproute2", "nftables", "util-linux", "bpftool"],
        Need::Postgres => &["postgresql"],
        Need::OpenLdap => &["slapd", "ldap-utils"],
        Need::Samba => &[
            "samba",
            "samba-ad-dc",
            "samba-ad-provision",
            "samba-dsdb-modules",
            "ldb-tools",
            "samba-vfs-modules",
            "winbind",
            "python3-samba",
            "ldap-utils",
        ],
        Need::PgBouncer => &["pgbouncer"],
        Need::HaProxy => &["haproxy"],
        Need::Prometheus => &["prometheus"],
        Need::Nginx => &["nginx", "libnginx-mod-stream"],
        // Debian's name and Ubuntu's.
        Need::Perf => &["linux-perf", "linux-tools-generic"],
        // The guest is Debian's also where the machine is not.
        Need::Emulator => &["qemu-system-x86", "mmdebstrap", "debian-archive-keyring"],
        Need::Appliance => &APPLIANCE_PACKAGES,
        Need::Python => &["python3", "python3-venv"],
        Need::Node => &["nodejs", "npm"],
        Need::Go => &[
            "golang-go",
            "golang-github-lib-pq-dev",
            "golang-github-jackc-pgx-v4-dev",
        ],
        Need::Java => &["default-jdk-headless", "libpostgresql-jdbc-java"],
        Need::OpenSsl => &["libssl-dev", "pkg-config"],
        Need::Perl => &["libdbd-pg-perl"],
        Need::Ruby => &["ruby", "ruby-pg"],
        Need::Php => &["php-cli", "php-pgsql"],
        Need::Lua => &["lua5.3", "lua-sql-postgres"],
        Need::Tcl => &["tcl", "libpgtcl"],
        Need::PostgresTests => return postgres_tests(),
    };
    names.iter().map(|&it| it.to_owned()).collect()
}

/// The packages of [`Need::PostgresTests`], for the server that is installed.
fn postgres_tests() -> Vec<String> {
    let major = needs::postgres(None).map(|it| format!("postgresql-server-dev-{}", it.major));
    let others = ["libpq-dev", "gcc", "libc6-dev", "bzip2", "xz-utils"];
    let others = others.iter().map(|&it| it.to_owned());
    major.into_iter().chain(others).collect()
}

/// Whether a program is there and succeeds; what it prints is nobody's concern.
fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    let command = command.args(arguments).stdin(Stdio::null());
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|it| it.success())
}

fn power() -> Power {
    if needs::program("apt-get").is_none() {
        return Power::None;
    }
    if needs::is_root() {
        return Power::Root;
    }
    let sudo = Command::new("sudo")
        .args(["-n", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match sudo {
        Ok(status) if status.success() => Power::Sudo,
        _ => Power::None,
    }
}

fn print_command(missing: &[Need]) {
    let packages: Vec<String> = missing.iter().flat_map(|&it| packages(it)).collect();
    eprintln!("Missing on this machine: {missing:?}. As root, run:");
    eprintln!();
    eprintln!("  apt-get update");
    eprintln!(
        "  apt-get install --no-install-recommends {}",
        packages.join(" ")
    );
    eprintln!();
}

/// Installs what is absent, by the lists of packages that are there, and by new ones where those do
/// not do: old lists lack packages, and name files that the archive no longer has.
fn install(power: Power, absent: &[Need]) -> Result<()> {
    let _policy = PolicyFile::put(power)?;
    let by_old_lists = install_known(power, absent);
    if by_old_lists.is_ok() && missing(absent).is_empty() {
        return Ok(());
    }
    apt(power, &["update"])?;
    install_known(power, absent)
}

fn install_known(power: Power, absent: &[Need]) -> Result<()> {
    let wanted: Vec<String> = absent.iter().flat_map(|&it| packages(it)).collect();
    let known = known_packages(&wanted)?;
    if known.is_empty() {
        bail!("apt knows none of the packages {}", wanted.join(" "));
    }
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(known.iter().map(String::as_str));
    apt(power, &arguments)
}

/// Those of `packages` that apt could install.
fn known_packages(packages: &[String]) -> Result<Vec<String>> {
    let mut known = Vec::new();
    for package in packages {
        let policy = Command::new("apt-cache")
            .args(["policy", package])
            .env("LC_ALL", "C")
            .output()
            .context("cannot start apt-cache")?;
        let policy = String::from_utf8_lossy(&policy.stdout);
        let candidate = policy
            .lines()
            .find_map(|it| it.trim().strip_prefix("Candidate:"));
        if candidate.is_some_and(|it| it.trim() != "(none)") {
            known.push(package.clone());
        }
    }
    Ok(known)
}

fn apt(power: Power, arguments: &[&str]) -> Result<()> {
    let mut command = as_root(power, "env");
    // Another installation may be under way, the machine's own upgrades for example.
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    command.args(["-o", "DPkg::Lock::Timeout=300", "--quiet"]);
    // Standard output is for what a command has to say for itself.
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(std::io::stderr());
    let sudo = if power == Power::Sudo { "sudo " } else { "" };
    eprintln!("Running: {sudo}apt-get {}", arguments.join(" "));
    let status = command.status().context("cannot start apt-get")?;
    if !status.success() {
        bail!("apt-get {} failed: {status}", arguments.join(" "));
    }
    Ok(())
}

fn as_root(power: Power, program: &str) -> Command {
    if power == Power::Sudo {
        let mut command = Command::new("sudo");
        command.args(["-n", program]);
        command
    } else {
        Command::new(program)
    }
}

/// The file that keeps services from starting, there as long as this object.
struct PolicyFile {
    power: Option<Power>,
}

impl PolicyFile {
    /// Puts the file in place unless the machine has one of its own.
    fn put(power: Power) -> Result<Self> {
        if Path::new(POLICY_FILE).exists() {
            return Ok(Self { power: None });
        }
        let scratch = Scratch::new()?;
        let file = scratch.secret_file("policy-rc.d", POLICY)?;
        let mut install = as_root(power, "install");
        install.args(["-m", "755"]).arg(file).arg(POLICY_FILE);
        let status = install.status().context("cannot start install")?;
        if !status.success() {
            bail!("cannot write {POLICY_FILE}: {status}");
        }
        Ok(Self { power: Some(power) })
    }
}

impl Drop for PolicyFile {
    fn drop(&mut self) {
        let Some(power) = self.power else { return };
        let removed = match power {
            Power::Sudo => as_root(power, "rm").arg(POLICY_FILE).status().map(|_| ()),
            Power::Root | Power::None => fs::remove_file(POLICY_FILE),
        };
        if let Err(error) = removed {
            eprintln!("cannot remove {POLICY_FILE}: {error}; please do");
        }
    }
}
