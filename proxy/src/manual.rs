//! Man pages and shell completions, made from the command line's own declarations and from those
//! of the configuration, for packages: `postern manual FOLDER`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::Cli;
use crate::config;

/// The name of the program in every page and completion.
const NAME: &str = "postern";

/// The shells, and what each looks for.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "postern.bash"),
    (Shell::Fish, "postern.fish"),
    (Shell::Zsh, "_postern"),
];

/// What the page of the program has beside what the declarations say: a heading, and what is
/// explained below it.
const SECTIONS: [(&str, &[(&str, &str)]); 3] = [
    (
        "FILES",
        &[
            (
                "/etc/postern/postern.toml",
                "The configuration; see postern.toml(5).",
            ),
            (
                "/usr/share/postern/monitoring",
                "Alerts for Prometheus and a dashboard for Grafana.",
            ),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            (
                "POSTERN_LOG",
                "What is logged, for example debug, or info,postern::login=debug.",
            ),
            (
                "CREDENTIALS_DIRECTORY",
                "Where credential:NAME of the configuration is; systemd sets it.",
            ),
            (
                "RUNTIME_DIRECTORY",
                "Where control.sock is put without control.socket; systemd sets it.",
            ),
        ],
    ),
    (
        "EXIT STATUS",
        &[
            ("0", "It is done, or everything is well."),
            ("1", "It is not; what is wrong was said."),
            ("2", "The command line is not understood."),
            (
                "78",
                "The configuration cannot be used; every error in it was said.",
            ),
        ],
    ),
];

/// Writes `postern.1`, a page for each command, `postern.toml.5`, and completions for bash, fish
/// and zsh into a folder that is there.
///
/// # Errors
///
/// If a file cannot be written.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let put = |name: &str, text: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())
    };
    clap_mangen::generate_to(Cli::command(), folder)
        .with_context(|| folder.display().to_string())?;
    put(&format!("{NAME}.1"), &program()?)?;
    put("postern.toml.5", config::manual().as_bytes())?;
    for (shell, name) in COMPLETIONS {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut shown(), NAME, &mut text);
        put(name, &text)?;
    }
    Ok(())
}

/// The command line without the commands that are hidden, which completions would offer as well.
fn shown() -> clap::Command {
    let whole = Cli::command();
    let commands = whole.get_subcommands().filter(|it| !it.is_hide_set());
    clap::Command::new(NAME)
        .version(crate::VERSION)
        .args(whole.get_arguments())
        .subcommands(commands)
}

/// The page of the program itself.
fn program() -> Result<Vec<u8>> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut text = Vec::new();
    Man::new(command).render(&mut text)?;
    let mut more = Roff::new();
    for (heading, entries) in SECTIONS {
        more.control("SH", [heading]);
        for (name, meaning) in entries {
            more.control("TP", []);
            more.text([bold(*name)]);
            more.text([roman(*meaning)]);
        }
    }
    more.control("SH", ["SEE ALSO"]);
    more.text([bold("postern.toml"), roman("(5)")]);
    more.to_writer(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_shell_its_completions() -> Result<()> {
        let folder = tempfile::tempdir()?;
        write(folder.path())?;
        let read = |name: &str| {
            fs::read_to_string(folder.path().join(name)).with_context(|| name.to_owned())
        };
        for name in [
            "postern.1",
            "postern-check.1",
            "postern-policy-load.1",
            "postern.toml.5",
        ] {
            assert!(read(name)?.contains(".TH "), "{name}");
        }
        for name in ["postern.bash", "postern.fish", "_postern"] {
            let text = read(name)?;
            assert!(text.contains("explain-login"), "{name}");
        }
        assert!(read("postern.1")?.contains("POSTERN_LOG"));
        assert!(read("postern.toml.5")?.contains("login_timeout_ms"));
        Ok(())
    }

    #[test]
    fn what_is_hidden_has_no_page_and_is_not_completed() -> Result<()> {
        let folder = tempfile::tempdir()?;
        write(folder.path())?;
        assert!(!folder.path().join("postern-manual.1").exists());
        for (_, name) in COMPLETIONS {
            let text = fs::read_to_string(folder.path().join(name))?;
            let lines = text.lines().filter(|it| it.contains("manual"));
            assert_eq!(lines.collect::<Vec<_>>(), Vec::<&str>::new(), "{name}");
            assert!(text.contains("version"), "{name}");
        }
        Ok(())
    }
}
