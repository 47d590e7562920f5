//! What this machine has, so that a test that cannot run here is skipped loudly.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::geteuid;

use crate::process::{run, run_any};

/// Folders that hold servers and that are not on everybody's PATH.
const SERVER_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Where Debian keeps each version's programs, in folders named after the version.
const DEBIAN_POSTGRES: &str = "/usr/lib/postgresql";

/// More folders with PostgreSQL's programs, separated by colons, for versions that the
/// distribution does not have.
const POSTGRES_FOLDERS_VARIABLE: &str = "POSTERN_POSTGRES_FOLDERS";

/// Where packages put the modules of nginx, and the one that passes on TCP.
const NGINX_MODULE_FOLDERS: [&str; 2] = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules"];
const NGINX_STREAM: &str = "ngx_stream_module.so";

/// What the tests of the perimeter run: iproute2, nftables, util-linux, bpftool, perl.
const PERIMETER: [&str; 7] = ["ip", "tc", "nft", "nsenter", "setpriv", "bpftool", "perl"];

/// A PostgreSQL that is installed here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PostgresVersion {
    /// The major version.
    pub major: u32,
    /// The folder with `initdb` and `postgres`.
    pub bin: PathBuf,
}

/// Says loudly that a test does not run here. `cargo xtask test` counts these lines and takes
/// them off the passed tests, so the test itself just returns.
pub fn skip(test: &str, why: &str) {
    // Written to the stream itself: what `println!` writes in a passing test is swallowed. If
    // even that fails there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// What is set where tests shall run in full that take a sample otherwise.
pub const FULL_VARIABLE: &str = "POSTERN_TESTS_FULL";

/// Whether tests that take a sample otherwise shall run in full.
#[must_use]
pub fn is_full() -> bool {
    std::env::var_os(FULL_VARIABLE).is_some()
}

/// Whether we are root: network namespaces, Samba's ports and eBPF need it.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// A program on the PATH or where servers are installed.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SERVER_FOLDERS.iter().map(PathBuf::from));
    folders.map(|it| it.join(name)).find(|it| it.is_file())
}

/// The driver of JDBC, where Debian puts it.
pub const JDBC: &str = "/usr/share/java/postgresql.jar";

/// A Python with psycopg 3 on libpq 18: that of the folder of tools, or the machine's. Debian's
/// own libpq may be older than what is to be tested.
#[must_use]
pub fn psycopg() -> Option<PathBuf> {
    const IMPORT: &str = "import psycopg; assert psycopg.pq.version() >= 180000";
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/python/bin/python3");
    let found = own.is_file().then_some(own).into_iter();
    let mut found = found.chain(program("python3"));
    found.find(|it| {
        run_any(Command::new(it).args(["-c", IMPORT])).is_ok_and(|it| it.status.success())
    })
}

/// Every PostgreSQL server that is installed here, oldest first, one a major version.
#[must_use]
pub fn postgres_versions() -> Vec<PostgresVersion> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(DEBIAN_POSTGRES)
        .map(|entries| entries.flatten().map(|it| it.path().join("bin")).collect())
        .unwrap_or_default();
    if let Some(more) = std::env::var_os(POSTGRES_FOLDERS_VARIABLE) {
        folders.extend(std::env::split_paths(&more));
    }
    if folders.is_empty() {
        folders.extend(program("postgres").and_then(|it| it.parent().map(Path::to_owned)));
    }
    let mut versions: Vec<PostgresVersion> = folders.into_iter().filter_map(postgres_in).collect();
    versions.sort();
    versions.dedup_by_key(|it| it.major);
    versions
}

/// The PostgreSQL whose programs are in a folder.
#[must_use]
pub fn postgres_in(bin: PathBuf) -> Option<PostgresVersion> {
    let major = bin.join("initdb").is_file().then(|| major(&bin))??;
    Some(PostgresVersion { major, bin })
}

/// PostgreSQL of one major version, or the newest one for `None`.
#[must_use]
pub fn postgres(major: Option<u32>) -> Option<PostgresVersion> {
    let mut versions = postgres_versions().into_iter();
    match major {
        Some(major) => versions.find(|it| it.major == major),
        None => versions.next_back(),
    }
}

/// A client program of PostgreSQL (`psql`, `pgbench`, `pg_dump`), the newest one.
///
/// Debian's wrapper in /usr/bin comes last: it is a script that takes longer than the query.
#[must_use]
pub fn postgres_client(name: &str) -> Option<PathBuf> {
    let versions = postgres_versions();
    let mut folders = versions.iter().rev().map(|it| it.bin.join(name));
    folders.find(|it| it.is_file()).or_else(|| program(name))
}

/// The folder with the programs that run PostgreSQL's own tests of a version, `regress/pg_regress`
/// and `isolation/pg_isolation_regress`: Debian has them in `postgresql-server-dev-15`.
#[must_use]
pub fn pg_regress(version: &PostgresVersion) -> Option<PathBuf> {
    let folder = version.bin.parent()?.join("lib/pgxs/src/test");
    folder
        .join("regress/pg_regress")
        .is_file()
        .then_some(folder)
}

/// Why OpenLDAP cannot be started here, if so.
#[must_use]
pub fn missing_for_openldap() -> Option<String> {
    first_missing(&["slapd", "ldapadd", "ldapmodify"])
}

/// Why Samba's domain controller cannot be started here, if so.
#[must_use]
pub fn missing_for_samba() -> Option<String> {
    if !is_root() {
        return Some("Samba's ports are below 1024, which needs root".to_owned());
    }
    if !Path::new("/usr/share/samba/setup/provision.ldif").is_file() {
        return Some("the package samba-ad-provision is not installed".to_owned());
    }
    if !has_acl_module() {
        return Some("the package samba-vfs-modules is not installed".to_owned());
    }
    first_missing(&["samba", "samba-tool", "ldapmodify", "ldbmodify"])
}

/// Why the perimeter cannot be tested here, if so.
#[must_use]
pub fn missing_for_perimeter() -> Option<String> {
    if !is_root() {
        return Some("network namespaces and eBPF need root".to_owned());
    }
    if postgres(None).is_none() {
        return Some("PostgreSQL is not installed".to_owned());
    }
    first_missing(&PERIMETER)
}

/// The modules that nginx must load to pass on TCP: none where that is built in. `None` where it
/// is not installed or cannot.
#[must_use]
pub fn nginx_stream() -> Option<Vec<PathBuf>> {
    let nginx = program("nginx")?;
    let built = run_any(Command::new(nginx).arg("-V")).ok()?;
    let built = String::from_utf8_lossy(&built.stderr).into_owned();
    if built.split_whitespace().any(|it| it == "--with-stream") {
        return Some(Vec::new());
    }
    let mut files = NGINX_MODULE_FOLDERS
        .iter()
        .map(|it| Path::new(it).join(NGINX_STREAM));
    let file = files.find(|it| it.is_file())?;
    Some(vec![file])
}

/// Whether Samba has the module for access lists, without which it provisions no domain.
fn has_acl_module() -> bool {
    let folders = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten();
    let mut modules = folders.map(|it| it.path().join("samba/vfs/acl_xattr.so"));
    modules.any(|it| it.is_file())
}

/// Names the first of several programs that the machine lacks.
fn first_missing(programs: &[&str]) -> Option<String> {
    let missing = programs.iter().find(|it| program(it).is_none())?;
    Some(format!("{missing} is not installed"))
}

/// The major version of the PostgreSQL in a folder, by its own word.
fn major(bin: &Path) -> Option<u32> {
    let text = run(Command::new(bin.join("postgres")).arg(OsStr::new("--version"))).ok()?;
    let version = text.split_whitespace().nth(2)?;
    let digits = version.split(|it: char| !it.is_ascii_digit()).next()?;
    digits.parse().ok()
}
