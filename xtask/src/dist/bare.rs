//! The package in a Debian 13 that has nothing but its essential packages: installed, changed,
//! upgraded and purged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use postern_tests::postgres::SUPERUSER;
use postern_tests::process::run;
use postern_tests::world::outcome_of;
use postern_tests::{
    Certificates, DirectoryServer, Local, Postern, Postgres, Scratch, free_port, needs,
};

use super::archive::{self, Packing};
use super::files::Tree;
use super::program::CLibrary;
use super::rules::told;
use super::{FOLDER, VERSION, epoch_s};
use crate::part::Counts;
use crate::{root, setup};

/// The release, and what the root has beside its essential packages: something that shows manual
/// pages.
const RELEASE: &str = "trixie";
const BESIDE: &str = "man-db";
/// A version that comes after ours.
const LATER: &str = "+later";
/// The line that an operator adds.
const EDITED: &str = "# edited by an operator";
/// The record that nobody may remove.
const RECORD: &str = "var/log/postern/audit.jsonl";

/// A root that a package is tried out in.
struct Root {
    folder: PathBuf,
    scratch: Scratch,
}

/// Installs, tries, upgrades and purges the package, step by step: what has failed is not gone on
/// with.
///
/// # Errors
/// If the root cannot be made.
pub(super) fn check(package: &Path) -> Result<Counts> {
    if !needs::is_root() {
        return Ok(Counts::skip("dist", "another root needs root"));
    }
    setup::try_to_install(setup::Need::Emulator);
    setup::try_to_install(setup::Need::Postgres);
    if needs::program("mmdebstrap").is_none() {
        return Ok(Counts::skip("dist", "mmdebstrap is not installed"));
    }
    let bare = Root::make()?;
    let steps: [(&str, &dyn Fn() -> Result<()>); 7] = [
        ("apt installs it and says what is next", &|| {
            bare.install(package)
        }),
        (
            "the program runs, and says what the configuration lacks",
            &|| bare.try_out(),
        ),
        (
            "postern check is content with a whole configuration",
            &|| bare.is_content(),
        ),
        ("pages, completions, account and folders are there", &|| {
            bare.look_around()
        }),
        ("nothing of it is enabled", &|| bare.is_not_enabled()),
        (
            "an upgrade keeps the configuration as it was changed",
            &|| bare.upgrade(package),
        ),
        (
            "a purge takes the configuration and leaves the record",
            &|| bare.purge(),
        ),
    ];
    let mut counts = Counts::default();
    for (claim, step) in steps {
        counts.add(told(claim, step()));
        if counts.failed > 0 {
            break;
        }
    }
    Ok(counts)
}

impl Root {
    /// Unpacks a Debian, which is fetched once.
    fn make() -> Result<Self> {
        let archive = root()?.join(FOLDER).join(format!("{RELEASE}.tar"));
        if !archive.is_file() {
            eprintln!("Fetching a bare Debian, once.");
            fs::create_dir_all(root()?.join(FOLDER))?;
            let mut make = Command::new("mmdebstrap");
            make.args(["--variant=minbase", "--quiet"]);
            make.arg(format!("--include={BESIDE}"));
            run(make.arg(RELEASE).arg(&archive))?;
        }
        let scratch = Scratch::new()?;
        let folder = scratch.subfolder("debian")?;
        let mut unpack = Command::new("tar");
        unpack.args([
            "--extract",
            "--numeric-owner",
            "--exclude=./dev/*",
            "--file",
        ]);
        run(unpack.arg(&archive).arg("--directory").arg(&folder))?;
        fs::copy("/etc/resolv.conf", folder.join("etc/resolv.conf"))?;
        // Nothing starts while packages are installed.
        let policy = folder.join("usr/sbin/policy-rc.d");
        fs::write(&policy, "#!/bin/sh\nexit 101\n")?;
        super::files::set_mode(&policy, 0o755)?;
        Ok(Self { folder, scratch })
    }

    /// A command inside, in mounts of its own, so that nothing is left mounted.
    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "sh", "-euc"]);
        command.arg(
            "mount -t proc proc \"$1/proc\"; mount --rbind /dev \"$1/dev\"; \
             exec chroot \"$1\" sh -euc \"$2\"",
        );
        command.arg("sh").arg(&self.folder).arg(script);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
            .env("LC_ALL", "C.UTF-8")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// What a command inside prints; it has to succeed.
    fn run(&self, script: &str) -> Result<String> {
        let (code, text) = outcome_of(&mut self.command(script))?;
        if code != 0 {
            bail!("{script}: {text}");
        }
        Ok(text)
    }

    fn apt_install(&self, package: &Path) -> Result<String> {
        let name = package.file_name().context("a package without a name")?;
        fs::copy(package, self.folder.join("root").join(name))?;
        let name = name.to_string_lossy();
        self.run(&format!(
            "cd /root; apt-get update --quiet --quiet; \
             apt-get install --yes --no-install-recommends ./{name}"
        ))
    }

    fn install(&self, package: &Path) -> Result<()> {
        let said = self.apt_install(package)?;
        for next in ["postern check", "LoadCredential=", "postern.socket"] {
            ensure!(said.contains(next), "{next} is not said: {said}");
        }
        Ok(())
    }

    fn try_out(&self) -> Result<()> {
        let version = self.run("postern --version")?;
        ensure!(version.trim() == format!("postern {VERSION}"), "{version}");
        let (code, said) = outcome_of(&mut self.command("postern check"))?;
        ensure!(code == 1, "the code is {code}: {said}");
        for text in [
            "listen.tls_cert_file",
            "directory.urls",
            "is empty",
            " failed",
        ] {
            ensure!(said.contains(text), "{text} is not in: {said}");
        }
        Ok(())
    }

    /// The servers are outside, on the loopback that is the same inside.
    fn is_content(&self) -> Result<()> {
        let outside = Scratch::new()?;
        let certificates = Certificates::new(&outside)?;
        let postgres = Postgres::start(&outside, &certificates)?;
        let directory = Local::start(&outside)?;
        let postern = Postern::prepare(&outside, &certificates, &postgres, free_port()?)?;
        let mut text = String::new();
        postern.configure(|config| {
            directory.configure(config);
            text = config.to_string();
        });
        fs::write(postern.config_file(), &text)?;
        let mut install = Command::new(self.folder.join("usr/bin/postern"));
        install.args(["init-sql", "--admin-user", SUPERUSER, "--config"]);
        install.arg(postern.config_file()).arg("--admin-host");
        install.arg(postgres.socket_folder()).arg("--admin-port");
        run(install.arg(postgres.port().to_string()))?;

        let inside = |path: &Path| self.folder.join(path.strip_prefix("/").unwrap_or(path));
        fs::create_dir_all(inside(outside.path()))?;
        for entry in fs::read_dir(outside.path())? {
            let path = entry?.path();
            if path != postgres.socket_folder() {
                let mut copy = Command::new("cp");
                run(copy.arg("--archive").arg(&path).arg(inside(&path)))?;
            }
        }
        fs::write(self.folder.join("etc/hosts"), "127.0.0.1 localhost\n")?;
        fs::write(self.folder.join("etc/postern/postern.toml"), text)?;
        let (code, said) = outcome_of(&mut self.command("postern check"))?;
        ensure!(code == 0, "the code is {code}: {said}");
        for probe in ["listener", "role store", "backend", "io_uring"] {
            ensure!(said.contains(probe), "{probe} is not in: {said}");
        }
        Ok(())
    }

    fn look_around(&self) -> Result<()> {
        self.run(
            "man --where postern; man --where 5 postern.toml; man --where postern-check; \
             bash -n /usr/share/bash-completion/completions/postern; \
             test -s /usr/share/zsh/vendor-completions/_postern; \
             test -s /usr/share/fish/vendor_completions.d/postern.fish; \
             test \"$(stat -c %U:%a /var/log/postern)\" = postern:750; \
             test \"$(stat -c %U:%a /etc/postern/secrets)\" = root:700; \
             test \"$(id -un postern)\" = postern",
        )?;
        Ok(())
    }

    fn is_not_enabled(&self) -> Result<()> {
        for (unit, state) in [
            ("postern.service", "disabled"),
            ("postern.socket", "disabled"),
            ("postern.slice", "disabled"),
            ("postern-policy.service", "disabled"),
            ("postern-watch.service", "disabled"),
            ("postern-closed.service", "disabled"),
        ] {
            let asked = format!("systemctl is-enabled {unit}");
            let (_, said) = outcome_of(&mut self.command(&asked))?;
            ensure!(said.trim() == state, "{unit}: {said}");
        }
        Ok(())
    }

    fn upgrade(&self, package: &Path) -> Result<()> {
        let edited = self.folder.join("etc/postern/postern.toml");
        let text = fs::read_to_string(&edited)? + EDITED + "\n";
        fs::write(&edited, &text)?;
        let said = self.apt_install(&later(package, &self.scratch)?)?;
        for next in ["goes on as it is", "postern-policy", "postern-watch"] {
            ensure!(said.contains(next), "{next} is not said: {said}");
        }
        let version = self.run("dpkg-query --show --showformat='${Version}' postern")?;
        ensure!(version == format!("{VERSION}{LATER}"), "{version}");
        ensure!(fs::read_to_string(&edited)? == text, "it is another one");
        Ok(())
    }

    fn purge(&self) -> Result<()> {
        fs::write(self.folder.join(RECORD), "{}\n")?;
        let said = self.run("apt-get purge --yes postern")?;
        ensure!(said.contains("/var/log/postern is left"), "{said}");
        ensure!(self.folder.join(RECORD).is_file(), "the record is gone");
        for gone in ["etc/postern/postern.toml", "usr/bin/postern"] {
            ensure!(!self.folder.join(gone).exists(), "{gone} is still there");
        }
        Ok(())
    }
}

/// The same package under a version that comes after it.
fn later(package: &Path, scratch: &Scratch) -> Result<PathBuf> {
    let before = scratch.subfolder("before")?;
    let mut extract = Command::new("dpkg-deb");
    run(extract.arg("--extract").arg(package).arg(&before))?;
    let tree = Tree::lay(
        &before.join("usr/bin/postern"),
        &scratch.subfolder("after")?,
        CLibrary::Without,
    )?;
    let folder = scratch.subfolder("later")?;
    let version = format!("{VERSION}{LATER}");
    archive::versioned_package(&tree, &folder, epoch_s()?, (&version, Packing::Quick))
}
