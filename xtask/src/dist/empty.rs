//! The tarball in a root that has nothing else: whatever its program needs is within.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use postern_tests::account::Account;
use postern_tests::certificates::Certificates;
use postern_tests::process::run;
use postern_tests::scratch::write_secret;
use postern_tests::world::outcome_of;
use postern_tests::{Scratch, needs};

use super::VERSION;
use super::rules::told;
use crate::part::Counts;

/// What the tarball has beside what the package has, and a line of each.
const LICENCES: [(&str, &str); 3] = [
    ("LICENSE", "Version 2.0, January 2004"),
    ("c-library", "GNU LESSER GENERAL PUBLIC LICENSE"),
    ("c-library", "-Lnative=FOLDER"),
];
/// A machine with one server, that does not listen; only `/etc/hosts` has its name.
const HOSTS: &str = "127.0.0.1 database.example\n";
/// It looks names up by a library first, which a program with another C library must not load:
/// this one ends whoever does.
const SERVICES: &str = "hosts: resolve files dns\n";
const LIBRARY: &str = "lib/x86_64-linux-gnu/libnss_resolve.so.2";
const LIBRARY_SOURCE: &str = "__attribute__((constructor)) void load(void) { __builtin_trap(); }";
const SETTINGS: &str = r#"
[listen]
tls_cert_file = "/etc/postern/listener.pem"
tls_key_file = "/etc/postern/secrets/listener-key"
[directory]
kind = "local"
[local]
file = "/etc/postern/accounts.toml"
[[group_rule]]
prefix = "postern-"
[role_store]
host = "database.example"
port = 1
sslmode = "disable"
password_file = "/etc/postern/secrets/provisioner"
[[backend]]
host = "database.example"
port = 1
sslmode = "disable"
[credential]
cluster_key_file = "/etc/postern/secrets/cluster-key"
[audit]
file = "/etc/postern/audit.jsonl"
"#;

/// A root with what is in the tarball, and no more.
struct Root {
    folder: PathBuf,
    scratch: Scratch,
}

/// Unpacks the tarball and runs its program.
///
/// # Errors
/// If it cannot be unpacked.
pub(super) fn check(tarball: &Path) -> Result<Counts> {
    let scratch = Scratch::new()?;
    let folder = scratch.subfolder("root")?;
    let mut unpack = Command::new("tar");
    unpack.args(["--extract", "--strip-components=1", "--file"]);
    run(unpack.arg(tarball).arg("--directory").arg(&folder))?;
    let root = Root { folder, scratch };
    let mut counts = told(
        "the tarball has the licences that no other system has",
        root.has_licences(),
    );
    if !needs::is_root() {
        counts.add(Counts::skip("dist", "another root needs root"));
        return Ok(counts);
    }
    counts.add(told(
        "its program runs where there is nothing else",
        root.runs(),
    ));
    counts.add(told(
        "it finds a server by its name, and loads no library for that",
        root.finds_names(),
    ));
    Ok(counts)
}

impl Root {
    fn has_licences(&self) -> Result<()> {
        let documents = self.folder.join("usr/share/doc/postern");
        for (name, line) in LICENCES {
            let text = fs::read_to_string(documents.join(name)).context(name)?;
            ensure!(text.contains(line), "{line} is not in {name}");
        }
        Ok(())
    }

    /// What a command inside says, and with what it ends.
    fn outcome(&self, words: &[&str]) -> Result<(i32, String)> {
        let mut command = Command::new("chroot");
        command.arg(&self.folder).arg("/usr/bin/postern");
        outcome_of(command.args(words))
    }

    fn runs(&self) -> Result<()> {
        let (code, said) = self.outcome(&["--version"])?;
        ensure!(code == 0, "{said}");
        ensure!(said.trim() == format!("postern {VERSION}"), "{said}");
        let (code, said) = self.outcome(&["check"])?;
        ensure!(code == 1, "the code is {code}: {said}");
        for text in ["listen.tls_cert_file", "is empty", " failed"] {
            ensure!(said.contains(text), "{text} is not in: {said}");
        }
        Ok(())
    }

    fn finds_names(&self) -> Result<()> {
        let certificates = Certificates::new(&self.scratch)?;
        let listener = certificates.issue("listener", &Account::own())?;
        let etc = self.folder.join("etc");
        let ours = etc.join("postern");
        fs::create_dir_all(ours.join("secrets"))?;
        fs::copy(&listener.cert_file, ours.join("listener.pem"))?;
        fs::copy(&listener.key_file, ours.join("secrets/listener-key"))?;
        write_secret(&ours.join("secrets/cluster-key"), &"0a".repeat(32))?;
        write_secret(&ours.join("secrets/provisioner"), "no secret\n")?;
        write_secret(&ours.join("accounts.toml"), "")?;
        fs::write(ours.join("postern.toml"), SETTINGS)?;
        fs::write(etc.join("hosts"), HOSTS)?;
        fs::write(etc.join("nsswitch.conf"), SERVICES)?;
        let source = self.scratch.path().join("library.c");
        fs::write(&source, LIBRARY_SOURCE)?;
        let library = self.folder.join(LIBRARY);
        fs::create_dir_all(library.parent().context("a library without a folder")?)?;
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-nostdlib", "-o"]);
        run(compile.arg(&library).arg(&source))?;
        let (code, said) = self.outcome(&["check"])?;
        ensure!(code == 1, "the code is {code}: {said}");
        ensure!(said.contains("127.0.0.1:1: Connection refused"), "{said}");
        ensure!(!said.contains("cannot resolve"), "{said}");
        Ok(())
    }
}
