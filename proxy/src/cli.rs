//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The only way in to a PostgreSQL database: directory passwords, roles kept in step, one splice.
#[derive(Debug, Parser)]
#[command(name = "postern", version, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve until SIGTERM or SIGINT.
    Run(ConfigFile),
    /// Test everything that a login needs, and say what to do where it fails.
    Check {
        /// The configuration.
        #[command(flatten)]
        config: ConfigFile,
        /// Print the table as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Install or upgrade the postern schema in the role store's database.
    InitSql(InitSql),
    /// Show what a login would find and do, without a password and without an effect.
    ExplainLogin {
        /// The login name, as a client would type it.
        name: String,
        /// The database that the login would ask for; the role's own name if not given.
        #[arg(long)]
        database: Option<String>,
        /// The configuration.
        #[command(flatten)]
        config: ConfigFile,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the live sessions of the running process.
    Sessions {
        /// The configuration.
        #[command(flatten)]
        config: ConfigFile,
        /// Print them as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print what a configuration may hold.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Edit the local file of accounts.
    #[command(subcommand)]
    Local(LocalCommand),
    /// Examine the audit file.
    #[command(subcommand)]
    Audit(AuditCommand),
}

/// The configuration file.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration file.
    #[arg(
        long = "config",
        value_name = "FILE",
        default_value = "/etc/postern/postern.toml"
    )]
    pub(crate) path: PathBuf,
}

/// `postern init-sql`.
#[derive(Debug, Args)]
pub(crate) struct InitSql {
    /// The configuration.
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// The administrator who installs; a superuser, or on managed services its stand-in.
    #[arg(long, value_name = "NAME", default_value = "postgres")]
    pub(crate) admin_user: String,
    /// The file with the administrator's password; without it none is sent.
    #[arg(long, value_name = "FILE")]
    pub(crate) admin_password_file: Option<PathBuf>,
    /// Another way to the same server: a host name, or the folder of its unix socket.
    #[arg(long, value_name = "HOST")]
    pub(crate) admin_host: Option<String>,
    /// The port that goes with it.
    #[arg(long, value_name = "PORT")]
    pub(crate) admin_port: Option<u16>,
    /// Print the statements, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `postern config`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum ConfigCommand {
    /// A complete file with every key, its default and its meaning.
    Default,
    /// The same as a page of Markdown.
    Reference,
}

/// `postern local`.
#[derive(Debug, Subcommand)]
pub(crate) enum LocalCommand {
    /// Create an account or change its password, which is read from standard input.
    Passwd {
        /// The account's name.
        name: String,
        /// The file of accounts; it is created when it is missing.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// A group of the account; may be given several times, and replaces the groups it had.
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
    },
    /// Remove an account.
    Remove {
        /// The account's name.
        name: String,
        /// The file of accounts.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
}

/// `postern audit`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check the chain of every record, and name the first that does not fit.
    Verify {
        /// The audit file; the configured one if not given.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// The configuration, for the key and the file's place.
        #[command(flatten)]
        config: ConfigFile,
    },
}
