//! The log: to the journal with its fields where standard error leads there, and as lines of text
//! otherwise; and its levels, which can be changed while the process runs.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};

use nix::sys::stat::fstat;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// What is logged when nobody says otherwise.
const DEFAULT: &str = "info";

/// What comes before whatever is said, which may say otherwise. The LDAP library has a line for
/// every message that nobody waits for, and a directory can send 100,000 of them for one question.
const QUIET: &str = "ldap3=error";

/// What the log has, by target.
#[derive(Debug)]
pub(crate) struct Levels {
    handle: reload::Handle<EnvFilter, Registry>,
    /// As it was at the start.
    first: String,
    /// What was said since.
    said: Mutex<Vec<String>>,
}

/// Begins to log. `$POSTERN_LOG` has the levels of the start.
///
/// The journal is spoken to natively where `$JOURNAL_STREAM` says that it is at the other end of
/// standard error, <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.
pub(crate) fn begin() -> Levels {
    let first = std::env::var("POSTERN_LOG").unwrap_or_else(|_| DEFAULT.to_owned());
    let parsed = EnvFilter::try_new(format!("{QUIET},{first}"));
    let (filter, first, refused) = match parsed {
        Ok(filter) => (filter, first, None),
        Err(error) => (
            EnvFilter::new(format!("{QUIET},{DEFAULT}")),
            DEFAULT.to_owned(),
            Some((first, error)),
        ),
    };
    let (filter, handle) = reload::Layer::new(filter);
    let journal = match leads_to_journal() {
        true => tracing_journald::layer().ok(),
        false => None,
    };
    let output: Box<dyn Layer<_> + Send + Sync> = match journal {
        Some(journal) => Box::new(journal.with_field_prefix(Some("POSTERN".to_owned()))),
        None => Box::new(
            fmt::layer()
                .with_writer(io::stderr)
                .with_ansi(io::stderr().is_terminal()),
        ),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(output)
        .init();
    if let Some((said, error)) = refused {
        tracing::warn!(
            said,
            %error,
            "POSTERN_LOG is not understood, and the log has what it has without it: a directive is \
             TARGET=LEVEL, such as postern::login=debug"
        );
    }
    Levels {
        handle,
        first,
        said: Mutex::default(),
    }
}

impl Levels {
    /// Changes the levels by directives such as `postern::login=debug`; without any, those of the
    /// start hold again. Returns what holds now.
    ///
    /// # Errors
    ///
    /// One is no directive: nothing has changed.
    pub(crate) fn say(&self, directives: &[String]) -> Result<String, String> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = match directives {
            [] => Vec::new(),
            _ => said.clone(),
        };
        for directive in directives {
            let target = |it: &str| it.split('=').next().map(str::to_owned);
            next.retain(|it| target(it) != target(directive));
            next.push(directive.clone());
        }
        let text = std::iter::once(&self.first).chain(&next);
        let text: Vec<&str> = text.map(String::as_str).collect();
        let text = text.join(",");
        let filter = EnvFilter::builder().parse(format!("{QUIET},{text}"));
        let filter = filter.map_err(|error| {
            format!("{error}: a directive is TARGET=LEVEL, such as postern::login=debug")
        })?;
        self.handle
            .reload(filter)
            .map_err(|error| error.to_string())?;
        *said = next;
        Ok(text)
    }
}

/// Device and inode of standard error are what `$JOURNAL_STREAM` names.
fn leads_to_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    fstat(io::stderr().as_fd()).is_ok_and(|it| named == format!("{}:{}", it.st_dev, it.st_ino))
}
