//! Commands of an administrator of the database: what is installed or handed over.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use postern_core::login_name::LoginName;
use postern_core::mapping::RoleName;
use postern_core::secret::Secret;

use super::{ask, read_config, read_control, runtime};
use crate::cli::{Admin, Adopt, InitSql};
use crate::config::{self, Config, SslMode};
use crate::control::Question;
use crate::directory::Directories;
use crate::operators::OrderError;
use crate::printable::{printable, printable_lines};
use crate::revocation::Command;
use crate::role_store::connect::Connector;
use crate::schema::{self, Install, adopt::connect_and_adopt};
use crate::upkeep::Upkeep;

/// Has the running process replace its configuration, or itself.
pub(super) fn keep_up(path: &Path, what: Upkeep) -> Result<ExitCode> {
    tell(path, &Question::Upkeep { what })
}

/// Asks the running process for what is answered in lines, and prints them.
pub(super) fn tell(path: &Path, question: &Question) -> Result<ExitCode> {
    let control = match read_control(path) {
        Ok(control) => control,
        Err(code) => return Ok(code),
    };
    let answer: Result<Vec<String>, String> =
        ask(&control, question).context("the running process, which does it, does not answer")?;
    match answer {
        Ok(lines) => {
            for line in lines {
                println!("{}", printable_lines(&line));
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => Err(anyhow!(why)),
    }
}

pub(super) fn init_sql(command: &InitSql) -> Result<ExitCode> {
    let config = match read_config(&command.config.path) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let store = &config.role_store;
    let (connector, admin) = connection(&config, &command.admin, "postern init-sql")?;
    let password = Secret::new(
        config::secret_file(&store.password_file)?
            .expose()
            .clone()
            .into(),
    );
    let order = Install {
        provisioner: &RoleName::new(&store.user)?,
        password: &password,
        dry_run: command.dry_run,
    };
    let steps = runtime()?.block_on(schema::connect_and_install(&connector, &admin, &order))?;
    print_steps(&steps, command.dry_run, &store.database);
    Ok(ExitCode::SUCCESS)
}

/// Makes an existing role that of a person whom the directory knows.
pub(super) fn adopt(command: &Adopt) -> Result<ExitCode> {
    let config = match read_config(&command.config.path) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let role = RoleName::new(&command.role)?;
    let name = command.login.as_deref().unwrap_or(&command.role);
    let login = LoginName::parse(name, &config.domains).with_context(|| name.to_owned())?;
    let directories = Directories::new(&config)?;
    let (connector, admin) = connection(&config, &command.admin, "postern adopt")?;
    let entry = runtime()?.block_on(async {
        let principal = directories.look_up(&login).await;
        let principal = principal.with_context(|| format!("the directory, asked for {name}"))?;
        put_on_record(&config, &role, name)?;
        connect_and_adopt(&connector, &admin, &role, &principal.id).await?;
        anyhow::Ok(printable(&principal.dn))
    })?;
    println!("{role} is the role of {entry}; its next login sets its secret and memberships");
    Ok(ExitCode::SUCCESS)
}

/// Has the running process put an adoption into its audit file, before it is made.
fn put_on_record(config: &Config, role: &RoleName, name: &str) -> Result<()> {
    let command = Command::Adopt {
        role: role.to_string(),
        name: name.to_owned(),
    };
    match ask::<Result<Vec<String>, OrderError>>(&config.control, &Question::Command { command }) {
        Ok(answer) => answer.map(drop).map_err(anyhow::Error::from),
        Err(error) => {
            eprintln!("no audit file has it, only postern.change_log: {error:#}");
            Ok(())
        }
    }
}

/// As whom and where an administrator connects to the role store.
fn connection(
    config: &Config,
    admin: &Admin,
    application: &str,
) -> Result<(Connector, tokio_postgres::Config)> {
    let store = &config.role_store;
    let mut endpoint = store.endpoint.clone();
    if let Some(host) = &admin.host {
        endpoint.host.clone_from(host);
    }
    endpoint.port = admin.port.unwrap_or(endpoint.port);
    if endpoint.host.starts_with('/') {
        // A unix socket has no TLS and needs none.
        endpoint.sslmode = SslMode::Disable;
    }
    let mut pg = tokio_postgres::Config::new();
    pg.host(&endpoint.host)
        .port(endpoint.port)
        .dbname(&store.database)
        .user(&admin.user)
        .application_name(application);
    if let Some(path) = &admin.password_file {
        pg.password(config::secret_file(path)?.expose());
    }
    Ok((Connector::new(&endpoint)?, pg))
}

fn print_steps(steps: &[schema::Step], dry_run: bool, database: &str) {
    for step in steps {
        match dry_run {
            true => println!("-- {}\n{};\n", step.what, step.sql),
            false => println!("{}", step.what),
        }
    }
    let version = schema::VERSION;
    match (steps.is_empty(), dry_run) {
        (true, _) => {
            println!("the postern schema in {database} is at version {version}: nothing to do")
        }
        (false, true) => println!("-- {} steps; nothing was done", steps.len()),
        (false, false) => println!("the postern schema in {database} is at version {version}"),
    }
}
