//! The tests that drivers bring along for themselves, made ready to be pointed at any server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use postern_tests::process::run;

use super::{drivers, succeed};
use crate::cargo;

/// What tells the tests of tokio-postgres where to go. They name a port, and a role that nobody
/// logs in as through Postern; both become what the variables of libpq say.
const ADAPTED: &str = r#"
fn adapt(text: &str) -> String {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let [user, password, database] = ["PGUSER", "PGPASSWORD", "PGDATABASE"].map(variable);
    let who = format!("user={user} password={password} dbname={database}");
    let text = text.replace("5433", &variable("PGPORT"));
    text.replace("user=postgres", &who)
}

async fn connect_adapted(
    text: &str,
    tls: NoTls,
) -> Result<(Client, Connection<tokio_postgres::Socket, NoTlsStream>), Error> {
    tokio_postgres::connect(&adapt(text), tls).await
}
"#;

/// What is replaced in the tests of tokio-postgres: the file, what stands there, and by what.
const REPLACED: [(&str, &str, &str); 3] = [
    (
        "main.rs",
        "connect(\"127.0.0.1:5433\")",
        "connect(adapt(\"127.0.0.1:5433\"))",
    ),
    (
        "main.rs",
        "s.parse::<Config>()",
        "adapt(s).parse::<Config>()",
    ),
    (
        "runtime.rs",
        "tokio_postgres::connect(",
        "crate::connect_adapted(",
    ),
];

/// psycopg2's sources: those of the package that is installed have no tests.
const PSYCOPG2: &str = "psycopg2-binary>=2.9,<3";

/// Compiles the tests of the tokio-postgres whose card is played.
pub(super) fn tokio_postgres(folder: &Path) -> Result<()> {
    let source = source_of("tokio-postgres")?;
    let place = folder.join("tokio-postgres");
    if place.is_dir() {
        fs::remove_dir_all(&place)?;
    }
    run(Command::new("cp")
        .arg("--recursive")
        .arg(source)
        .arg(&place))?;
    let manifest = place.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    // The benches are not needed, and it is in nobody's workspace.
    let text = text.replace("[[bench]]", "[[package.metadata.bench]]");
    fs::write(&manifest, text + "\n[workspace]\n")?;
    let tests = place.join("tests/test");
    for (file, from, to) in REPLACED {
        let path = tests.join(file);
        let text = fs::read_to_string(&path)?;
        if !text.contains(from) {
            bail!("{} has changed: there is no {from}", path.display());
        }
        fs::write(&path, text.replace(from, to))?;
    }
    let main = tests.join("main.rs");
    let text = fs::read_to_string(&main)?;
    fs::write(&main, text + ADAPTED)?;
    let mut build = cargo::command(&[
        "test",
        "--no-run",
        "--test",
        "test",
        "--message-format=json",
    ]);
    build.arg("--manifest-path").arg(manifest);
    build.arg("--target-dir").arg(folder.join("rust-tests"));
    let messages = run(&mut build)?;
    let program = messages.lines().rev().find_map(executable);
    let program = program.context("cargo names no program")?;
    let built = folder.join("built");
    fs::create_dir_all(&built)?;
    fs::copy(program, built.join("tokio_postgres_tests"))?;
    Ok(())
}

/// The path of a program in a line of cargo's messages.
fn executable(line: &str) -> Option<PathBuf> {
    let (_, after) = line.split_once("\"executable\":\"")?;
    Some(PathBuf::from(after.split('"').next()?))
}

/// Where cargo has the sources of a driver of Rust.
fn source_of(package: &str) -> Result<PathBuf> {
    let mut metadata = cargo::command(&["metadata", "--format-version=1", "--manifest-path"]);
    let said = run(metadata.arg(drivers()?.join("rust/Cargo.toml")))?;
    let paths = said.split("\"manifest_path\":\"").skip(1);
    let mut paths = paths.filter_map(|it| it.split('"').next()).map(Path::new);
    let found = paths.find_map(|it| {
        let folder = it.parent()?;
        let name = folder.file_name()?.to_str()?.strip_prefix(package)?;
        let version = name.strip_prefix('-')?;
        version
            .starts_with(|it: char| it.is_ascii_digit())
            .then_some(folder)
    });
    Ok(found
        .with_context(|| format!("cargo knows no {package}"))?
        .to_owned())
}

/// Downloads psycopg2's sources.
pub(super) fn psycopg2(folder: &Path) -> Result<()> {
    let place = folder.join("psycopg2");
    if place.join("tests").is_dir() {
        return Ok(());
    }
    let downloads = folder.join("downloads");
    let mut download = Command::new(folder.join("python/bin/pip"));
    download.args([
        "download",
        "--quiet",
        "--no-deps",
        "--disable-pip-version-check",
    ]);
    download.args(["--no-binary", ":all:", PSYCOPG2, "--dest"]);
    succeed(download.arg(&downloads))?;
    let mut archives = fs::read_dir(&downloads)?.flatten().map(|it| it.path());
    let archive = archives.next().context("nothing was downloaded")?;
    fs::create_dir_all(&place)?;
    let mut unpack = Command::new("tar");
    unpack
        .args(["--strip-components=1", "--directory"])
        .arg(&place);
    succeed(unpack.arg("--extract").arg("--file").arg(archive))
}
