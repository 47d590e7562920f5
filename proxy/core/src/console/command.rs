//! The commands, and what drivers ask before anybody gives one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Right;
use super::words::{Word, statements};
use crate::limits::{CONSOLE_QUERY_STATEMENTS_MAX, LASTING_S_MAX};

/// One statement of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// A table is asked for.
    Show(Shown),
    /// Something is to be done.
    Order(Order),
    /// A constant is asked for, as drivers do to see whether anybody is there.
    Select(Constant),
    /// The value of a parameter of the session is asked for.
    Parameter(String),
    /// A statement that drivers send and that has no effect here.
    Setting(Setting),
}

/// A table that may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// The program and its process.
    Version,
    /// The configuration, without secrets.
    Config,
    /// The live sessions.
    Sessions,
    /// Their client legs.
    Clients,
    /// Their backend legs.
    Servers,
    /// The databases behind.
    Backends,
    /// How the directory is.
    Directory,
    /// What is remembered of it.
    Cache,
    /// How the perimeter is.
    Policy,
    /// What has happened since the start.
    Stats,
    /// Every limit and its use.
    Limits,
    /// The commands.
    Help,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// End sessions.
    Kill {
        /// Which.
        whom: Kill,
        /// Why; whoever is meant is told.
        reason: String,
    },
    /// Keep a person out, and end what they have open.
    Revoke {
        /// The login name or the role.
        name: String,
        /// For how long; until it is undone if not given.
        lasts: Option<Duration>,
        /// Why, for the record.
        reason: String,
    },
    /// Let a person in again.
    Restore {
        /// The login name or the role.
        name: String,
    },
    /// Read the configuration again.
    Reload,
    /// Let no more sessions begin.
    Drain {
        /// After this time those that are left are ended; never if not given.
        within: Option<Duration>,
    },
    /// Let logins wait.
    Pause,
    /// End a drain or a pause.
    Resume,
    /// Close the audit file, and go on in a new one.
    Rotate,
}

/// Whose sessions are ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kill {
    /// One session, by its identifier.
    Session(String),
    /// All of a role.
    Role(String),
}

/// A constant that drivers ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constant {
    /// A number.
    Number(i32),
    /// `version()`.
    Version,
    /// `current_user` or `session_user`.
    User,
    /// `current_database()`.
    Database,
}

/// A statement that drivers send and that has no effect here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// SET.
    Set,
    /// RESET.
    Reset,
    /// DISCARD.
    Discard,
    /// DEALLOCATE.
    Deallocate,
    /// BEGIN or START TRANSACTION. Commands take effect at once all the same.
    Begin,
    /// COMMIT or END.
    Commit,
    /// ROLLBACK or ABORT.
    Rollback,
}

/// Why a query is none of the console's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// It begins with a word of SQL.
    #[error("this is the admin console, which has no SQL")]
    Sql,
    /// It begins with another word.
    #[error("there is no such command")]
    Unknown,
    /// Something else was due.
    #[error("syntax error: {0} was expected")]
    Expected(&'static str),
    /// A quote or a comment does not end.
    #[error("syntax error: a quote or a comment does not end")]
    Unterminated,
    /// A word is too long, or there are too many.
    #[error("syntax error: too long")]
    TooLong,
    /// There are too many statements in it.
    #[error("a query has {CONSOLE_QUERY_STATEMENTS_MAX} statements at most")]
    TooMany,
    /// A control character stands in a word.
    #[error("syntax error: a control character")]
    Control,
}

/// Reads a query. All its statements are read before any is done.
///
/// # Errors
///
/// [`CommandError`] of the first statement that is wrong.
pub fn parse(query: &str) -> Result<Vec<Statement>, CommandError> {
    let statements = statements(query)?;
    let read = statements.iter().map(|cut| match statement(&cut.words) {
        Err(CommandError::Sql) => Err(CommandError::Sql),
        _ if cut.is_too_long => Err(CommandError::TooLong),
        read => read,
    });
    read.collect()
}

/// A time such as `90s`, `15m`, `1h` or `2d`, of [`LASTING_S_MAX`] at most; none for anything else,
/// and for nothing at all.
pub fn lasting(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let digits = text.strip_suffix(unit)?;
    let is_number = digits.bytes().all(|it| it.is_ascii_digit());
    let number: u64 = is_number.then(|| digits.parse().ok()).flatten()?;
    let seconds = number.checked_mul(seconds);
    let seconds = seconds.filter(|it| (1..=LASTING_S_MAX).contains(it))?;
    Some(Duration::from_secs(seconds))
}

impl Statement {
    /// What whoever says it must be allowed to; none for what harms nobody.
    pub fn right(&self) -> Option<Right> {
        match self {
            Self::Show(Shown::Help) => None,
            Self::Show(_) => Some(Right::Show),
            Self::Order(order) => Some(order.right()),
            Self::Select(_) | Self::Parameter(_) | Self::Setting(_) => None,
        }
    }
}

impl Order {
    /// What whoever gives it must be allowed to.
    pub fn right(&self) -> Right {
        match self {
            Self::Kill { .. } => Right::Kill,
            Self::Revoke { .. } => Right::Revoke,
            Self::Restore { .. } => Right::Restore,
            Self::Reload => Right::Reload,
            Self::Drain { .. } => Right::Drain,
            Self::Pause => Right::Pause,
            Self::Resume => Right::Resume,
            Self::Rotate => Right::Rotate,
        }
    }
}

impl Shown {
    /// Every one, in the order of the help.
    pub const ALL: [Self; 12] = [
        Self::Version,
        Self::Config,
        Self::Sessions,
        Self::Clients,
        Self::Servers,
        Self::Backends,
        Self::Directory,
        Self::Cache,
        Self::Policy,
        Self::Stats,
        Self::Limits,
        Self::Help,
    ];

    /// The word behind SHOW, and what the table is about.
    pub const fn about(self) -> (&'static str, &'static str) {
        match self {
            Self::Version => ("version", "the program and its process"),
            Self::Config => ("config", "every key of the configuration and its value"),
            Self::Sessions => ("sessions", "the live sessions, and what has flowed"),
            Self::Clients => ("clients", "the live sessions' clients"),
            Self::Servers => ("servers", "the live sessions' backends"),
            Self::Backends => ("backends", "the database servers that are configured"),
            Self::Directory => (
                "directory",
                "the directory, and whether its changes are heard",
            ),
            Self::Cache => ("cache", "what is remembered of the directory"),
            Self::Policy => ("policy", "whether the perimeter is in force"),
            Self::Stats => ("stats", "what has happened since the start"),
            Self::Limits => ("limits", "every limit and how much of it is used"),
            Self::Help => ("help", "the commands, and the right that each needs"),
        }
    }

    /// The word behind SHOW.
    pub const fn name(self) -> &'static str {
        self.about().0
    }

    /// The table of this name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|it| it.name().eq_ignore_ascii_case(name))
    }
}

impl Setting {
    /// What PostgreSQL says when it is done.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Set => "SET",
            Self::Reset => "RESET",
            Self::Discard => "DISCARD ALL",
            Self::Deallocate => "DEALLOCATE",
            Self::Begin => "BEGIN",
            Self::Commit => "COMMIT",
            Self::Rollback => "ROLLBACK",
        }
    }
}

/// The words that are left of a statement.
struct Words<'a>(&'a [Word]);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a Word> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// Takes this word if it comes next.
    fn takes(&mut self, keyword: &str) -> bool {
        let is_it =
            |it: &&Word| matches!(it, Word::Bare(word) if word.eq_ignore_ascii_case(keyword));
        let found = self.0.first().filter(is_it).is_some();
        if found {
            self.next();
        }
        found
    }

    /// A name or a text, in quotes or without.
    fn text(&mut self, what: &'static str) -> Result<String, CommandError> {
        match self.next() {
            Some(Word::Bare(text) | Word::Quoted(text)) if !text.is_empty() => Ok(text.clone()),
            _ => Err(CommandError::Expected(what)),
        }
    }

    fn time(&mut self) -> Result<Duration, CommandError> {
        const WHAT: &str = "a time such as 90s, 1h or 2d, of a hundred years at most";
        lasting(&self.text(WHAT)?).ok_or(CommandError::Expected(WHAT))
    }

    /// `REASON '...'`, if it is there.
    fn reason(&mut self) -> Result<Option<String>, CommandError> {
        match self.takes("reason") {
            true => self.text("a reason in quotes").map(Some),
            false => Ok(None),
        }
    }

    fn end(&self) -> Result<(), CommandError> {
        match self.0 {
            [] => Ok(()),
            _ => Err(CommandError::Expected("the end of the command")),
        }
    }
}

fn statement(words: &[Word]) -> Result<Statement, CommandError> {
    let mut rest = Words(words);
    let first = match rest.next() {
        Some(Word::Bare(word)) => word.to_ascii_lowercase(),
        _ => return Err(CommandError::Unknown),
    };
    if let Some(setting) = setting(&first, &mut rest) {
        return Ok(Statement::Setting(setting));
    }
    let statement = match first.as_str() {
        "help" => Statement::Show(Shown::Help),
        "show" => return show(&mut rest),
        "select" => return select(&mut rest),
        "kill" => Statement::Order(kill(&mut rest)?),
        "revoke" => Statement::Order(revoke(&mut rest)?),
        "restore" => Statement::Order(Order::Restore {
            name: rest.text("a login name or a role")?,
        }),
        "reload" => Statement::Order(Order::Reload),
        "drain" => Statement::Order(Order::Drain {
            within: rest.takes("within").then(|| rest.time()).transpose()?,
        }),
        "pause" => Statement::Order(Order::Pause),
        "resume" => Statement::Order(Order::Resume),
        "rotate" => Statement::Order(Order::Rotate),
        "with" | "insert" | "update" | "delete" | "create" | "alter" | "drop" | "grant"
        | "copy" | "table" | "values" | "explain" | "truncate" | "do" | "call" | "declare"
        | "fetch" | "listen" | "notify" | "prepare" | "execute" | "lock" | "vacuum" | "merge" => {
            return Err(CommandError::Sql);
        }
        _ => return Err(CommandError::Unknown),
    };
    rest.end()?;
    Ok(statement)
}

/// What drivers and pools send by themselves; whatever follows makes no difference.
fn setting(first: &str, rest: &mut Words<'_>) -> Option<Setting> {
    Some(match first {
        "set" => Setting::Set,
        "reset" => Setting::Reset,
        "discard" => Setting::Discard,
        "deallocate" => Setting::Deallocate,
        "begin" => Setting::Begin,
        "start" if rest.takes("transaction") => Setting::Begin,
        "commit" | "end" => Setting::Commit,
        "rollback" | "abort" => Setting::Rollback,
        _ => return None,
    })
}

fn show(rest: &mut Words<'_>) -> Result<Statement, CommandError> {
    const WHAT: &str = "the name of a table, as HELP lists them,";
    let name = rest.text(WHAT)?;
    if let Some(shown) = Shown::named(&name) {
        rest.end()?;
        return Ok(Statement::Show(shown));
    }
    // SHOW TRANSACTION ISOLATION LEVEL and SHOW TIME ZONE are parameters of several words.
    let mut words = vec![name];
    while !rest.0.is_empty() {
        words.push(rest.text(WHAT)?);
    }
    Ok(Statement::Parameter(words.join("_").to_ascii_lowercase()))
}

fn select(rest: &mut Words<'_>) -> Result<Statement, CommandError> {
    let Ok(word) = rest.text("") else {
        return Err(CommandError::Sql);
    };
    let word = word.to_ascii_lowercase();
    let is_call = matches!(rest.0, [Word::Symbol('('), Word::Symbol(')')]);
    let name = word.strip_prefix("pg_catalog.").unwrap_or(&word);
    let constant = match (name, is_call) {
        ("version", true) => Constant::Version,
        ("current_database", true) => Constant::Database,
        ("current_user" | "session_user" | "user", false) => Constant::User,
        (number, false) => {
            let number = number.parse().map_err(|_| CommandError::Sql)?;
            Constant::Number(number)
        }
        (_, true) => return Err(CommandError::Sql),
    };
    match is_call || rest.0.is_empty() {
        true => Ok(Statement::Select(constant)),
        false => Err(CommandError::Sql),
    }
}

fn kill(rest: &mut Words<'_>) -> Result<Order, CommandError> {
    let whom = match rest.takes("role") {
        true => Kill::Role(rest.text("a role")?),
        false => {
            rest.takes("session");
            Kill::Session(rest.text("a session, as SHOW SESSIONS has it, or ROLE and its name")?)
        }
    };
    let reason = rest.reason()?.unwrap_or_default();
    Ok(Order::Kill { whom, reason })
}

fn revoke(rest: &mut Words<'_>) -> Result<Order, CommandError> {
    let name = rest.text("a login name or a role")?;
    let lasts = rest.takes("for").then(|| rest.time()).transpose()?;
    let reason = rest.reason()?;
    Ok(Order::Revoke {
        name,
        lasts,
        reason: reason.ok_or(CommandError::Expected("REASON and the reason in quotes"))?,
    })
}

#[cfg(test)]
mod tests;
