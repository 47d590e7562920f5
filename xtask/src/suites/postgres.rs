//! PostgreSQL's own tests: its sources, which are those of the server that is installed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use postern_tests::needs;
use postern_tests::process::run;

use super::succeed;

/// Where Debian says which release it is.
const RELEASE: &str = "/etc/os-release";
/// What the archive's lists are signed with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The sources of PostgreSQL's tests, and the two programs of them that are compiled.
pub(super) fn tests(folder: &Path) -> Result<()> {
    let version = needs::postgres(None).context("PostgreSQL is not installed")?;
    let major = version.major;
    let sources = folder.join(format!("postgresql-{major}"));
    let server = run(Command::new(version.bin.join("postgres")).arg("--version"))?;
    let server = server.split_whitespace().nth(2).unwrap_or_default();
    if release(&sources).as_deref() != Some(server) {
        download(folder, major, &sources)?;
    }
    let fetched = release(&sources).context("the sources do not say what they are")?;
    if fetched != server {
        println!("The tests are those of PostgreSQL {fetched}, the server is {server}");
    }
    let config = version.bin.join("pg_config");
    let ask = |what: &str| -> Result<String> {
        let said = run(Command::new(&config).arg(what))?;
        Ok(said.trim().to_owned())
    };
    let (server, client) = (ask("--includedir-server")?, ask("--includedir")?);
    let library = ask("--pkglibdir")?;
    let built = folder.join("built");
    fs::create_dir_all(&built)?;
    let mut regress = Command::new("cc");
    regress.args(["-O1", "-shared", "-fPIC", "-I", &server]);
    regress.arg(sources.join("src/test/regress/regress.c"));
    succeed(regress.arg("-o").arg(built.join("regress.so")))?;
    let mut pipeline = Command::new("cc");
    pipeline.args(["-O1", "-I", &client, "-I", &format!("{client}/internal")]);
    pipeline.args(["-I", &server]);
    pipeline.arg(sources.join("src/test/modules/libpq_pipeline/libpq_pipeline.c"));
    pipeline.arg("-o").arg(built.join("libpq_pipeline"));
    // Debian keeps the two static libraries one folder above the modules.
    let above = Path::new(&library).join("..").join("lib");
    pipeline.arg("-L").arg(above).args(["-L", &library]);
    succeed(pipeline.args(["-lpq", "-lpgport", "-lpgcommon"]))
}

/// The version that sources say of themselves.
fn release(sources: &Path) -> Option<String> {
    // Where nothing was unpacked yet there is no such file.
    let configure = fs::read_to_string(sources.join("configure")).ok()?;
    let mut lines = configure.lines();
    let version = lines.find_map(|it| it.strip_prefix("PACKAGE_VERSION="))?;
    Some(version.trim_matches('\'').to_owned())
}

/// Debian's source package, by apt, with lists of its own: the machine's may have no sources.
fn download(folder: &Path, major: u32, sources: &Path) -> Result<()> {
    let release = fs::read_to_string(RELEASE)?;
    let is_debian = release.lines().any(|it| it == "ID=debian");
    let code_name = release
        .lines()
        .find_map(|it| it.strip_prefix("VERSION_CODENAME="))
        .filter(|_| is_debian)
        .context("only Debian's sources are known")?;
    let apt = folder.join("apt");
    // What was fetched before is of another version.
    for old in [&apt, sources] {
        if old.is_dir() {
            fs::remove_dir_all(old)?;
        }
    }
    fs::create_dir_all(apt.join("lists/partial"))?;
    fs::create_dir_all(apt.join("cache/archives/partial"))?;
    let signed = format!("deb-src [signed-by={KEYRING}] http://deb.debian.org");
    let list = format!(
        "{signed}/debian {code_name} main\n{signed}/debian-security {code_name}-security main\n"
    );
    fs::write(apt.join("sources.list"), list)?;
    succeed(apt_tool("apt-get", &apt).arg("update"))?;
    fetch(&apt, &format!("postgresql-{major}"))?;
    let mut archives = fs::read_dir(&apt)?
        .flatten()
        .map(|it| it.path())
        .filter(|it| it.to_string_lossy().contains(".orig.tar"));
    let archive = archives.next().context("the source has no archive")?;
    fs::create_dir_all(sources)?;
    let mut unpack = Command::new("tar");
    unpack
        .args(["--strip-components=1", "--directory"])
        .arg(sources);
    succeed(unpack.arg("--extract").arg("--file").arg(archive))
}

/// The source of the package that is installed. Where the archive has it no more, or the server is
/// not Debian's, it is the one that apt would take.
fn fetch(apt: &Path, package: &str) -> Result<()> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${source:Version}", package]);
    let mut wanted = vec![package.to_owned()];
    if let Ok(installed) = run(&mut query) {
        wanted.insert(0, format!("{package}={installed}"));
    }
    let fetched = wanted.iter().any(|wanted| {
        let mut source = apt_tool("apt-get", apt);
        source.args(["source", "--download-only", wanted]);
        // What is wrong with one version was printed, and the next is tried.
        succeed(source.current_dir(apt)).is_ok()
    });
    if !fetched {
        bail!("apt has no source of {package}");
    }
    Ok(())
}

/// A program of apt's that looks at the folder and at nothing of the machine's.
fn apt_tool(name: &str, apt: &Path) -> Command {
    let mut command = Command::new(name);
    for (option, file) in [
        ("Dir::Etc::sourcelist", "sources.list"),
        ("Dir::Etc::sourceparts", "none"),
        ("Dir::State::lists", "lists"),
        ("Dir::Cache", "cache"),
    ] {
        let file = apt.join(file);
        command
            .arg("-o")
            .arg(format!("{option}={}", file.display()));
    }
    command.args(["-o", "APT::Sandbox::User=root", "--quiet"]);
    command
}
