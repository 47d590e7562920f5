//! What holds of a package without installing it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use postern_tests::process::run;
use postern_tests::{Scratch, needs};

use super::VERSION;
use super::archive::ARCHITECTURE;
use crate::part::Counts;

/// What somebody who installs it looks for.
const EXPECTED: [&str; 19] = [
    "etc/postern/postern.toml",
    "usr/bin/postern",
    "usr/lib/systemd/system/postern.service",
    "usr/lib/systemd/system/postern-closed.service",
    "usr/lib/systemd/system/postern-policy.service",
    "usr/lib/systemd/system/postern-watch.service",
    "usr/lib/systemd/system/postern.slice",
    "usr/lib/systemd/system/postern.socket",
    "usr/lib/sysusers.d/postern.conf",
    "usr/lib/tmpfiles.d/postern.conf",
    "usr/share/bash-completion/completions/postern",
    "usr/share/doc/postern/changelog.gz",
    "usr/share/doc/postern/copyright",
    "usr/share/doc/postern/libraries.gz",
    "usr/share/fish/vendor_completions.d/postern.fish",
    "usr/share/man/man1/postern.1.gz",
    "usr/share/man/man5/postern.toml.5.gz",
    "usr/share/postern/monitoring/alerts.yml",
    "usr/share/zsh/vendor-completions/_postern",
];
/// Whatever an operator edits.
const CONFFILES: &str = "/etc/postern/postern.toml\n";
/// What no script of the package may do: live sessions are not its own.
const STARTS: [&str; 4] = [
    "systemctl start",
    "systemctl restart",
    "enable --now p",
    "invoke-rc.d",
];

/// What lintian may find: nobody receives mail for packages that are made here, and tests do not
/// wait for a compressor.
const TOLERATED: &str = "bogus-mail-host,bogus-mail-host-in-debian-changelog,\
    uses-no-compression-for-control-tarball,uses-no-compression-for-data-tarball";

/// One rule: what it claims, and whether that holds of a package.
type Rule = (&'static str, fn(&Unpacked) -> Result<()>);

const RULES: [Rule; 8] = [
    (
        "the package has every file that is looked for",
        has_every_file,
    ),
    (
        "every file is root's and nobody else can change it",
        is_owned_by_root,
    ),
    (
        "the package says what it is and what it needs",
        describes_itself,
    ),
    (
        "what an operator edits is kept, and nothing else",
        keeps_what_is_edited,
    ),
    (
        "the scripts are understood and start nothing",
        starts_nothing,
    ),
    (
        "a removal leaves no unit enabled and nobody listening",
        stops_everything,
    ),
    (
        "the guides lead to what the package has",
        leads_to_what_is_there,
    ),
    ("the completions are understood by their shells", completes),
];

/// A package, and what is in it.
struct Unpacked {
    package: PathBuf,
    scratch: Scratch,
}

impl Unpacked {
    fn root(&self) -> PathBuf {
        self.scratch.path().join("package")
    }

    fn control(&self, name: &str) -> Result<String> {
        let path = self.root().join("DEBIAN").join(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    fn field(&self, name: &str) -> Result<String> {
        let mut field = Command::new("dpkg-deb");
        let value = run(field.arg("--field").arg(&self.package).arg(name))?;
        Ok(value.trim().to_owned())
    }

    /// The lines of the package's content: mode, owner, size, date, time, path.
    fn contents(&self) -> Result<String> {
        run(Command::new("dpkg-deb")
            .arg("--contents")
            .arg(&self.package))
    }
}

/// Checks every rule, and what lintian finds where it is installed.
///
/// # Errors
/// If the package cannot be read.
pub(super) fn check(package: &Path) -> Result<Counts> {
    let unpacked = Unpacked {
        package: package.to_owned(),
        scratch: Scratch::new()?,
    };
    let mut extract = Command::new("dpkg-deb");
    run(extract
        .arg("--raw-extract")
        .arg(package)
        .arg(unpacked.root()))?;
    let mut counts = Counts::default();
    for (claim, rule) in RULES {
        counts.add(told(claim, rule(&unpacked)));
    }
    counts.add(match needs::program("lintian") {
        Some(lintian) => told("lintian finds no error", finds_no_error(&lintian, package)),
        None => Counts::skip("lintian", "it is not installed"),
    });
    Ok(counts)
}

fn finds_no_error(lintian: &Path, package: &Path) -> Result<()> {
    let mut lintian = Command::new(lintian);
    lintian.args([
        "--allow-root",
        "--fail-on",
        "error",
        "--suppress-tags",
        TOLERATED,
    ]);
    run(lintian.arg(package))?;
    Ok(())
}

/// Whether what two runs have made is the same, byte by byte.
///
/// # Errors
/// If one cannot be read.
pub(super) fn check_sameness(first: &Path, second: &Path) -> Result<Counts> {
    let is_same = std::fs::read(first)? == std::fs::read(second)?;
    let outcome = match is_same {
        true => Ok(()),
        false => Err(anyhow::anyhow!("{} differs", second.display())),
    };
    let name = first.file_name().unwrap_or_default().to_string_lossy();
    Ok(told(&format!("two runs make the same {name}"), outcome))
}

/// A line for a claim, and its count.
pub(super) fn told(claim: &str, outcome: Result<()>) -> Counts {
    match &outcome {
        Ok(()) => println!("ok      {claim}"),
        Err(error) => println!("FAILED  {claim}: {error:#}"),
    }
    Counts::one(outcome.is_ok())
}

fn has_every_file(package: &Unpacked) -> Result<()> {
    let root = package.root();
    let absent = EXPECTED.iter().filter(|it| !root.join(it).is_file());
    let absent: Vec<&&str> = absent.collect();
    ensure!(absent.is_empty(), "there is no {absent:?}");
    Ok(())
}

fn is_owned_by_root(package: &Unpacked) -> Result<()> {
    for line in package.contents()?.lines() {
        let mut words = line.split_whitespace();
        let (mode, owner) = (words.next().unwrap_or_default(), words.next());
        let path = words.next_back().unwrap_or_default();
        ensure!(owner == Some("root/root"), "{line}");
        let expected = match (path, mode.starts_with('d')) {
            ("./usr/bin/postern", _) => "-rwxr-xr-x",
            (_, true) => "drwxr-xr-x",
            (_, false) => "-rw-r--r--",
        };
        ensure!(mode == expected, "{line}");
    }
    Ok(())
}

fn describes_itself(package: &Unpacked) -> Result<()> {
    for (name, value) in [
        ("Package", "postern"),
        ("Version", VERSION),
        ("Architecture", ARCHITECTURE),
    ] {
        let found = package.field(name)?;
        ensure!(found == value, "{name}: {found}");
    }
    let needed = package.field("Depends")?;
    ensure!(needed.starts_with("libc6 (>= 2."), "Depends: {needed}");
    let breaks = package.field("Breaks")?;
    // Older ones do not know `notify-reload` (253) and `RestartSteps=` (254), and pass over them.
    ensure!(breaks == "systemd (<< 254)", "Breaks: {breaks}");
    for script in ["control", "postinst", "prerm", "postrm"] {
        let text = package.control(script)?;
        ensure!(
            !text.contains('@') || script == "control",
            "{script} has a hole"
        );
    }
    for hole in ["@VERSION@", "@SIZE@", "@LIBRARIES@", "@ARCHITECTURE@"] {
        ensure!(
            !package.control("control")?.contains(hole),
            "{hole} is left"
        );
    }
    Ok(())
}

fn keeps_what_is_edited(package: &Unpacked) -> Result<()> {
    let conffiles = package.control("conffiles")?;
    ensure!(conffiles == CONFFILES, "{conffiles}");
    let contents = package.contents()?;
    let paths = contents
        .lines()
        .filter_map(|it| it.split_whitespace().next_back());
    let files = paths
        .filter_map(|it| it.strip_prefix('.'))
        .filter(|it| !it.ends_with('/'));
    let in_etc: BTreeSet<&str> = files.filter(|it| it.starts_with("/etc/")).collect();
    let kept: BTreeSet<&str> = conffiles.lines().collect();
    ensure!(in_etc == kept, "{in_etc:?}");
    Ok(())
}

fn starts_nothing(package: &Unpacked) -> Result<()> {
    for script in ["postinst", "prerm", "postrm"] {
        let path = package.root().join("DEBIAN").join(script);
        run(Command::new("sh").arg("-n").arg(path))?;
        let text = package.control(script)?;
        // What is said to the operator is no command.
        let commands = text.lines().filter(|it| {
            let it = it.trim();
            !it.starts_with("echo") && !it.starts_with(|it: char| it.is_ascii_digit())
        });
        for line in commands {
            let found = STARTS.iter().find(|it| line.contains(**it));
            ensure!(found.is_none(), "{script}: {line}");
        }
    }
    Ok(())
}

fn stops_everything(package: &Unpacked) -> Result<()> {
    let script = package.control("prerm")?;
    for entry in std::fs::read_dir(package.root().join("usr/lib/systemd/system"))? {
        let entry = entry?;
        let unit = entry.file_name().to_string_lossy().into_owned();
        let is_enabled = std::fs::read_to_string(entry.path())?.contains("[Install]");
        ensure!(
            !is_enabled || script.contains(&unit),
            "prerm leaves {unit} enabled"
        );
    }
    // A connection would start the service again.
    let first = "systemctl disable --now postern.socket postern.service ";
    ensure!(
        script.contains(first),
        "prerm does not stop the socket first"
    );
    Ok(())
}

fn leads_to_what_is_there(package: &Unpacked) -> Result<()> {
    let documents = package.root().join("usr/share/doc/postern");
    for entry in std::fs::read_dir(&documents)? {
        let path = entry?.path();
        if path.extension().is_none_or(|it| it != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            let is_elsewhere = target.is_empty() || target.starts_with("https://");
            ensure!(
                is_elsewhere || documents.join(target).exists(),
                "{} leads to {target}",
                path.display()
            );
        }
    }
    Ok(())
}

fn completes(package: &Unpacked) -> Result<()> {
    for (shell, file) in [
        ("bash", "usr/share/bash-completion/completions/postern"),
        ("zsh", "usr/share/zsh/vendor-completions/_postern"),
        ("fish", "usr/share/fish/vendor_completions.d/postern.fish"),
    ] {
        // The other two are found well by being where they are, if nobody here has the shell.
        if let Some(program) = needs::program(shell) {
            run(Command::new(program)
                .arg("-n")
                .arg(package.root().join(file)))?;
        }
    }
    Ok(())
}
