//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use postern_core::console::{self, Shown};

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
    /// Serve until SIGTERM or SIGINT. SIGHUP reads the configuration again.
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
    /// Show a table of the running process, as the admin console does.
    Show {
        /// Which: version, config, sessions, clients, servers, backends, directory, cache, policy,
        /// stats, limits or help.
        #[arg(value_parser = shown)]
        what: Shown,
        /// The configuration.
        #[command(flatten)]
        config: ConfigFile,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Keep a person out, on every proxy of the database, and end what they have open.
    Revoke {
        /// The login name, or the name of the role.
        name: String,
        /// For how long: a number with s, m, h or d; until `postern restore` if not given.
        #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
        lasts: Option<Duration>,
        /// Why, for the record; the person is not told.
        #[arg(long)]
        reason: String,
        /// The running process.
        #[command(flatten)]
        process: Process,
    },
    /// Let a person in again who was revoked.
    Restore {
        /// The login name, or the name of the role.
        name: String,
        /// The running process.
        #[command(flatten)]
        process: Process,
    },
    /// List who is kept out by `postern revoke`.
    Revoked {
        /// The running process.
        #[command(flatten)]
        process: Process,
    },
    /// End one live session, or all of a role.
    Kill {
        /// Its identifier, as `postern sessions` shows it.
        #[arg(required_unless_present = "role", conflicts_with = "role")]
        session: Option<String>,
        /// The role whose sessions on this proxy are ended.
        #[arg(long, value_name = "ROLE")]
        role: Option<String>,
        /// Why; the person is told.
        #[arg(long, default_value = "")]
        reason: String,
        /// The running process.
        #[command(flatten)]
        process: Process,
    },
    /// Let no more sessions begin; those that are live go on.
    Drain {
        /// After this time those that are left are ended: a number with s, m, h or d.
        #[arg(long, value_name = "TIME", value_parser = lasting)]
        within: Option<Duration>,
        /// The running process.
        #[command(flatten)]
        process: Process,
    },
    /// Let new logins wait until `postern resume`, for 30 seconds at most.
    Pause(Process),
    /// End a pause or a drain.
    Resume(Process),
    /// Compare every managed role with the directory, and make it as the directory says.
    Reconcile {
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
        /// The running process.
        #[command(flatten)]
        process: Process,
    },
    /// Have the running process read its configuration and the files that it names again: all of
    /// it, or nothing of it.
    ///
    /// Sessions go on. What has changed is printed, or why nothing was taken over; what takes a
    /// restart is refused by name. SIGHUP does the same, with the answer in the log.
    Reload(ConfigFile),
    /// Put the program that is installed now in the place of the running process.
    ///
    /// The new process takes the listening sockets over, so that nobody is refused; the old one
    /// keeps its sessions, and ends with the last of them or after `limits.drain_timeout_s`.
    Upgrade(ConfigFile),
    /// Change what the running process logs.
    LogLevel {
        /// TARGET=LEVEL, such as `postern::login=debug`, or a level for everything; without any,
        /// the levels of the start hold again.
        #[arg(value_name = "DIRECTIVE")]
        directives: Vec<String>,
        /// The configuration.
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Hand an existing role over to Postern, as the role of a person of the directory.
    Adopt(Adopt),
    /// Print what a configuration may hold, or whether one can be used.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Edit the local file of accounts.
    #[command(subcommand)]
    Local(LocalCommand),
    /// Examine the audit file, or close it.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Let only the proxy reach the databases, by the kernel; and see that it does.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Write man pages and shell completions into a folder, for packages.
    #[command(hide = true)]
    Manual {
        /// The folder, which is there already.
        folder: PathBuf,
    },
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

/// The running process, and how its answer is printed.
#[derive(Debug, Args)]
pub(crate) struct Process {
    /// The configuration.
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Print what was done as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `postern adopt`.
#[derive(Debug, Args)]
pub(crate) struct Adopt {
    /// The role.
    pub(crate) role: String,
    /// The login name of the person whose it becomes; the name of the role if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) login: Option<String>,
    /// The database's administrator.
    #[command(flatten)]
    pub(crate) admin: Admin,
    /// The configuration.
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

/// `postern init-sql`.
#[derive(Debug, Args)]
pub(crate) struct InitSql {
    /// The configuration.
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// The database's administrator.
    #[command(flatten)]
    pub(crate) admin: Admin,
    /// Print the statements, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// As whom, and where, an administrator connects to the role store's server.
#[derive(Debug, Args)]
pub(crate) struct Admin {
    /// The administrator; a superuser, or on managed services its stand-in.
    #[arg(long = "admin-user", value_name = "NAME", default_value = "postgres")]
    pub(crate) user: String,
    /// The file with the administrator's password; without it none is sent.
    #[arg(long = "admin-password-file", value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Another way to the same server: a host name, or the folder of its unix socket.
    #[arg(long = "admin-host", value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// The port that goes with it.
    #[arg(long = "admin-port", value_name = "PORT")]
    pub(crate) port: Option<u16>,
}

/// `postern config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read the whole configuration and the files that it names, and say every error; nobody is
    /// asked, neither the directory nor a database nor the running process.
    Check(ConfigFile),
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
        /// Files of one log in their order, the oldest first; the configured one if not given.
        #[arg(long = "file", value_name = "FILE", num_args = 1..)]
        files: Vec<PathBuf>,
        /// The configuration, for the key and the file's place.
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Have the running process close its audit file and go on in a new one.
    ///
    /// The closed file stays beside, with the number of its last record at the end of its name, and
    /// may be moved away; the chain goes on from it.
    Rotate(Process),
    /// Put on record that a closed file is taken away, before it is.
    ///
    /// Nothing is done to the file. If this fails, leave it where it is.
    Taken {
        /// The closed file.
        #[arg(value_name = "FILE")]
        file: String,
        /// Where it is kept from now on.
        #[arg(long, value_name = "PLACE")]
        to: String,
        /// The running process.
        #[command(flatten)]
        process: Process,
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

/// A time such as `90s`, `15m`, `1h` or `2d`.
fn lasting(text: &str) -> Result<Duration, String> {
    let why = || {
        format!(
            "{text:?} is not a number with s, m, h or d, such as 1h, of a hundred years at most"
        )
    };
    console::lasting(text).ok_or_else(why)
}

/// The name of a table.
fn shown(text: &str) -> Result<Shown, String> {
    let names = || Shown::ALL.map(Shown::name).join(", ");
    Shown::named(text).ok_or_else(|| format!("there are {}", names()))
}
