//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::policy::Tc;

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
    /// Ask the running process whether it and what it rests on are well; the exit code is 1 if not.
    Health {
        /// The configuration.
        #[command(flatten)]
        config: ConfigFile,
        /// Print the table as JSON.
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
    /// Let only the proxy reach the databases, by the kernel; and see that it does.
    #[command(subcommand)]
    Policy(PolicyCommand),
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

/// `postern policy`.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Put the configured policy in force, in place of an earlier one, and have the kernel confirm
    /// it.
    Load(Load),
    /// The same for a policy that is in force; an error if none is.
    Replace(Load),
    /// Shut everything that is protected until a policy is in force: for the boot, before the
    /// network.
    Close {
        /// The configuration.
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Take the policy away, and open what it protects.
    Unload(Unload),
    /// Ask the kernel whether the policy is in force; the exit code is 1 if anything is not as
    /// configured.
    Status {
        /// The configuration.
        #[command(flatten)]
        config: ConfigFile,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show denials as they come, and attach the policy to interfaces that come.
    Watch(Watch),
    /// Say which rule decides about a connection, from the kernel's maps.
    Explain(Explain),
}

/// `postern policy load` and `replace`.
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// The configuration.
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// How programs are attached to interfaces: for tests of kernels that have only one way.
    #[arg(long, value_enum, default_value = "auto", hide = true)]
    pub(crate) tc: Tc,
}

/// `postern policy unload`.
#[derive(Debug, Args)]
pub(crate) struct Unload {
    /// The configuration.
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `postern policy watch`.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The configuration.
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Print one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// End after this many milliseconds without a denial.
    #[arg(long, value_name = "MS", hide = true)]
    pub(crate) once_idle_ms: Option<u64>,
    /// How programs are attached to interfaces, as with `load`.
    #[arg(long, value_enum, default_value = "auto", hide = true)]
    pub(crate) tc: Tc,
}

/// `postern policy explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The source address.
    #[arg(value_name = "SRC")]
    pub(crate) source: IpAddr,
    /// The destination: `address:port`, with brackets around an IPv6 address.
    #[arg(value_name = "DST:PORT")]
    pub(crate) destination: SocketAddr,
    /// The interface on which it arrives; each one if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) interface: Option<String>,
    /// The configuration.
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Print it as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

impl PolicyCommand {
    /// The configuration.
    pub(crate) const fn config(&self) -> &ConfigFile {
        match self {
            Self::Load(command) | Self::Replace(command) => &command.config,
            Self::Close { config } | Self::Status { config, .. } => config,
            Self::Unload(command) => &command.config,
            Self::Watch(command) => &command.config,
            Self::Explain(command) => &command.config,
        }
    }
}
