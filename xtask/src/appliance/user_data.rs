//! Whether what is read of a cloud-config is taken whole, and the rest refused by its line.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use postern_tests::process::run_any;
use postern_tests::{Scratch, needs};

use crate::root;

/// Reads a text as the machine does and returns the folder that was written to, and the reason if
/// it was refused; nothing where there is no awk.
fn read(text: &str) -> Result<Option<(Scratch, Option<String>)>> {
    let Some(awk) = needs::program("awk") else {
        needs::skip("user-data", "awk is not installed");
        return Ok(None);
    };
    let scratch = Scratch::new()?;
    let folder = scratch.subfolder("files")?;
    fs::create_dir(folder.join("secrets"))?;
    let file = scratch.path().join("user-data");
    fs::write(&file, text)?;
    let mut command = Command::new(awk);
    command
        .arg("-v")
        .arg(format!("folder={}", folder.display()));
    command
        .arg("-f")
        .arg(root()?.join("appliance/root/usr/lib/postern/user-data.awk"));
    let output = run_any(command.arg(file))?;
    let said = String::from_utf8(output.stdout)?.trim().to_owned();
    Ok(Some((scratch, (!output.status.success()).then_some(said))))
}

#[test]
fn every_file_of_ours_is_taken_and_no_other() -> Result<()> {
    let text = "#cloud-config\r\nhostname: gate\nusers:\n  - name: path\nwrite_files:\n\
                - path: /etc/motd\n  encoding: b64\n  content: |\n    path: /etc/postern/shell\n\
                # Ours.\n\
                - path: \"/etc/postern/postern.toml\"\n  permissions: '0644'\n  content: |\n\
                \u{20}   [listen]\n\n      addresses = []\n\
                - path: /etc/postern/secrets/cluster-key\n  content: |-\n      c2VjcmV0\n\
                runcmd:\n  - path: /etc/postern/shell\n";
    let Some((scratch, refused)) = read(text)? else {
        return Ok(());
    };
    ensure!(refused.is_none(), "{refused:?}");
    let folder = scratch.path().join("files");
    let settings = fs::read_to_string(folder.join("postern.toml"))?;
    ensure!(settings == "[listen]\n\n  addresses = []\n", "{settings:?}");
    let secret = fs::read_to_string(folder.join("secrets/cluster-key"))?;
    ensure!(secret == "c2VjcmV0\n", "{secret:?}");
    ensure!(!folder.join("shell").exists(), "a text was taken for a key");
    Ok(())
}

#[test]
fn what_would_be_taken_by_half_is_refused_by_its_line() -> Result<()> {
    let refused = [
        ("write_files: []\n", "the entries of write_files below it"),
        ("write_files:\n- {path: x}\n", "an entry is `path`"),
        (
            "write_files:\n- content: >\n    text\n  path: /etc/motd\n",
            "line 3: write path before content",
        ),
        (
            "write_files:\n- path: /etc/postern/tls/ca.pem\n",
            "tls/ca.pem: the only folders",
        ),
        (
            "write_files:\n- path: /etc/postern/../motd\n",
            "../motd: the only folders",
        ),
        (
            "write_files:\n- path: /etc/postern/ca.pem\n  encoding: b64\n",
            "without encoding",
        ),
        (
            "write_files:\n- encoding: b64\n  path: /etc/postern/ca.pem\n",
            "without encoding",
        ),
        (
            "write_files:\n- path: /etc/postern/ca.pem\n  content: text\n",
            "ca.pem: write content: |",
        ),
        (
            "write_files:\n- path: /etc/postern/ca.pem\n  source: x\n",
            "source is not understood",
        ),
        (
            "write_files:\n- path: /etc/postern/ca.pem\n",
            "ca.pem has no content",
        ),
    ];
    for (text, wanted) in refused {
        let Some((_scratch, refused)) = read(&format!("#cloud-config\n{text}"))? else {
            return Ok(());
        };
        let refused = refused.with_context(|| format!("{text:?} is taken"))?;
        ensure!(refused.contains(wanted), "{text:?}: {refused}");
        ensure!(refused.starts_with("user-data, line "), "{refused}");
    }
    let Some((_scratch, refused)) = read("{}\n")? else {
        return Ok(());
    };
    ensure!(refused.is_some_and(|it| it.contains("#cloud-config")));
    Ok(())
}
