//! From the text of the file to a [`Config`], or to everything that is wrong with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::files::Places;
use super::problem::{ConfigErrors, Problem};
use super::schema::{self, Form, Table};
use super::section::{Reading, Section, unknown_table};
use super::{Config, Control, Credential, LdapFlavor, Perimeter, Values, build, keys};
use crate::limits::CONFIG_BYTES_MAX;

impl Config {
    /// Reads the configuration file, and checks it and the files that it names.
    ///
    /// Relative paths in it start at its folder, and `credential:NAME` is a file of
    /// `$CREDENTIALS_DIRECTORY`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the file, at once; no secret is repeated.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigErrors> {
        read_with(path, parse)
    }
}

impl Perimeter {
    /// Reads the tables about the perimeter, and nothing else: the machine where it stands need
    /// not have what a proxy needs.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with these tables, at once.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigErrors> {
        read_with(path, parse_perimeter)
    }
}

impl Credential {
    /// Reads `[credential]`, and nothing else, for the key that seals audit files.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with this table.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigErrors> {
        read_with(path, parse_credential)
    }
}

impl Control {
    /// Reads `[control]`, and nothing else, so that the running process can be asked about a file
    /// that it would refuse, and by whoever may not read its secrets.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with this table.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigErrors> {
        read_with(path, parse_control)
    }
}

fn read_with<T>(
    path: &Path,
    parse: impl FnOnce(&str, Places) -> Result<T, Vec<Problem>>,
) -> Result<T, ConfigErrors> {
    let source = match text_of(path) {
        Ok(source) => source,
        Err(why) => return Err(ConfigErrors::new(path, vec![Problem::of("", why)])),
    };
    parse(&source, Places::of(path)).map_err(|problems| ConfigErrors::new(path, problems))
}

/// The configuration that a text describes.
pub(super) fn parse(source: &str, places: Places) -> Result<Config, Vec<Problem>> {
    let read = read_tables(source, places, |_| true, assemble)?;
    let (mut config, warnings) = read;
    config.warnings = warnings;
    Ok(config)
}

/// The perimeter that a text describes; its other tables are not looked into.
pub(super) fn parse_perimeter(source: &str, places: Places) -> Result<Perimeter, Vec<Problem>> {
    let is_wanted = |table: &Table| table.name.split('.').next() == Some("perimeter");
    let (perimeter, _) = read_tables(source, places, is_wanted, |sections, reading| {
        let Some(section) = sections.one("perimeter") else {
            let why = "is missing: it says what is protected and who is allowed";
            reading.problem(Problem::of("[perimeter]", why));
            return None;
        };
        perimeter(section, sections, reading)
    })?;
    Ok(perimeter)
}

fn parse_credential(source: &str, places: Places) -> Result<Credential, Vec<Problem>> {
    let is_wanted = |table: &Table| table.name == "credential";
    let (credential, _) = read_tables(source, places, is_wanted, |sections, reading| {
        build::credential(sections.one("credential")?, reading)
    })?;
    Ok(credential)
}

/// `[control]` of a text; its other tables are not looked into.
pub(super) fn parse_control(source: &str, places: Places) -> Result<Control, Vec<Problem>> {
    let is_wanted = |table: &Table| table.name == "control";
    let (control, _) = read_tables(source, places, is_wanted, |sections, reading| {
        Some(build::control(sections.one("control")?, reading))
    })?;
    Ok(control)
}

/// Reads the wanted tables of a text and makes something of them; the warnings come beside it.
fn read_tables<T>(
    source: &str,
    places: Places,
    is_wanted: impl Fn(&Table) -> bool,
    assemble: impl FnOnce(&Sections, &mut Reading<'_>) -> Option<T>,
) -> Result<(T, Vec<String>), Vec<Problem>> {
    let mut reading = Reading {
        source,
        places,
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    let (document, errors) = DeTable::parse_recoverable(source);
    if !errors.is_empty() {
        // The message of a syntax error is used without the line of the file that the library
        // would show, because a password without quotes is such a line.
        for error in errors {
            let line = error.span().map(|span| reading.line(span.start));
            reading.problem(Problem::of("", error.message()).at(line));
        }
        return Err(reading.problems);
    }
    let sections = Sections::read(document.get_ref(), is_wanted, &mut reading);
    let assembled = assemble(&sections, &mut reading);
    if !reading.problems.is_empty() {
        return Err(reading.problems);
    }
    let unread = || {
        vec![Problem::of(
            "",
            "a value was not read: this is a defect of Postern",
        )]
    };
    let assembled = assembled.ok_or_else(unread)?;
    for section in sections.tables.values().flatten() {
        section.warn_untaken(&mut reading);
    }
    Ok((assembled, reading.warnings))
}

fn perimeter(
    section: &Section,
    sections: &Sections,
    reading: &mut Reading<'_>,
) -> Option<Perimeter> {
    let rules = build::Rules {
        protect: sections.many("perimeter.protect"),
        allow: sections.many("perimeter.allow"),
    };
    build::perimeter(section, &rules, reading)
}

fn assemble(sections: &Sections, reading: &mut Reading<'_>) -> Option<Config> {
    let has_local = sections.one("local").is_some();
    let listen = build::listen(sections.one("listen")?, reading);
    let directory = build::directory(sections.one("directory")?, has_local, reading);
    let groups = build::groups(
        sections.one("groups")?,
        sections.many("group_rule"),
        reading,
    );
    let role_store = build::role_store(sections.one("role_store")?, reading);
    let backends = build::backends(sections.many("backend"), reading);
    let credential = build::credential(sections.one("credential")?, reading);
    let cache = build::cache(sections.one("cache")?, reading);
    let lockout = build::lockout(sections.one("lockout")?);
    let revocation = build::revocation(sections.one("revocation")?);
    let audit = build::audit(sections.one("audit")?);
    let control = build::control(sections.one("control")?, reading);
    let admin = sections.one("admin");
    let admin = admin.map(|section| build::admin(section, backends.as_deref(), reading));
    let metrics = build::metrics(sections.one("metrics")?, reading);
    let cluster = sections.one("cluster");
    let cluster = cluster.map(|section| build::cluster(section, reading));
    let limits = build::limits(sections.one("limits")?);
    let at = sections.one("perimeter");
    let perimeter = at.map(|section| perimeter(section, sections, reading));
    let service_accounts = build::service_accounts(
        sections.many("service_account"),
        listen.as_ref(),
        role_store.as_ref(),
        reading,
    );
    let (directory, credential) = (directory?, credential?);
    let local = match sections.one("local") {
        Some(section) => Some(build::local(section, &directory, credential.mode, reading)?),
        None => None,
    };
    Some(Config {
        listen: listen?,
        domains: build::domains(&directory, local.as_ref()),
        directory,
        local,
        service_accounts: service_accounts?,
        groups: groups?,
        role_store: role_store?,
        backends: backends?,
        credential,
        cluster: match cluster {
            Some(cluster) => Some(cluster?),
            None => None,
        },
        cache: cache?,
        lockout: lockout?,
        revocation: revocation?,
        audit: audit?,
        control,
        admin: match admin {
            Some(admin) => Some(admin?),
            None => None,
        },
        metrics: metrics?,
        limits: limits?,
        perimeter: match perimeter {
            Some(perimeter) => Some(perimeter?),
            None => None,
        },
        values: Values::of(sections.tables.values().flatten()),
        warnings: Vec::new(),
    })
}

/// The tables of the file by name.
struct Sections {
    tables: BTreeMap<&'static str, Vec<Section>>,
}

impl Sections {
    /// Reads the tables that are wanted; others are not looked into.
    fn read(
        document: &DeTable<'_>,
        is_wanted: impl Fn(&Table) -> bool,
        reading: &mut Reading<'_>,
    ) -> Self {
        let mut sections = Self {
            tables: BTreeMap::new(),
        };
        for (name, value) in document {
            let line = reading.line(name.span().start);
            match schema::table(name.get_ref()) {
                Some(table) if is_wanted(table) => {
                    sections.add(table, value.get_ref(), line, reading);
                }
                Some(_) => {}
                None => reading.problem(unknown_table(name.get_ref()).at(Some(line))),
            }
        }
        for table in keys::TABLES {
            if sections.tables.contains_key(table.name) || !is_wanted(table) {
                continue;
            }
            let absent = match table.form {
                Form::One => {
                    vec![Section::read(table, table.name.to_owned(), None, reading)]
                }
                Form::Optional | Form::Several => continue,
                Form::Many => {
                    let why = "is missing: at least one is needed";
                    reading.problem(Problem::of(format!("[[{}]]", table.name), why));
                    Vec::new()
                }
            };
            sections.tables.insert(table.name, absent);
        }
        for directory in sections.tables.get_mut("directory").into_iter().flatten() {
            // Without a flavor there is an error already; any defaults let the checks go on.
            let flavor = directory.choice("flavor", &keys::FLAVOR);
            directory.fill_by_flavor(flavor != Some(LdapFlavor::OpenLdap), reading);
        }
        sections
    }

    fn add(
        &mut self,
        table: &'static Table,
        value: &DeValue<'_>,
        line: usize,
        reading: &mut Reading<'_>,
    ) {
        let mut read = Vec::new();
        match (table.form, value) {
            (Form::One | Form::Optional, DeValue::Table(content)) => {
                let given = Some((content, line));
                read.push(Section::read(table, table.name.to_owned(), given, reading));
                self.add_below(table, content, reading);
            }
            (Form::Many | Form::Several, DeValue::Array(array)) if !array.is_empty() => {
                for (index, element) in array.iter().enumerate() {
                    let line = reading.line(element.span().start);
                    let label = format!("{} {}", table.name, index + 1);
                    match element.get_ref().as_table() {
                        Some(content) => {
                            let given = Some((content, line));
                            read.push(Section::read(table, label, given, reading));
                        }
                        None => reading.problem(Problem::of(label, "is not a table")),
                    }
                }
            }
            (form, _) => {
                let header = match form.repeats() {
                    false => format!("[{}]", table.name),
                    true => format!("[[{}]]", table.name),
                };
                let problem = Problem::of(table.name, format!("is written as {header}"));
                reading.problem(problem.at(Some(line)));
            }
        }
        self.tables.insert(table.name, read);
    }

    /// Adds the tables that stand below another one.
    fn add_below(&mut self, table: &Table, content: &DeTable<'_>, reading: &mut Reading<'_>) {
        for (name, value) in content {
            if let Some(below) = schema::subtable(table, name.get_ref()) {
                let line = reading.line(name.span().start);
                self.add(below, value.get_ref(), line, reading);
            }
        }
    }

    fn one(&self, name: &str) -> Option<&Section> {
        self.tables.get(name)?.first()
    }

    fn many(&self, name: &str) -> &[Section] {
        self.tables.get(name).map_or(&[], Vec::as_slice)
    }
}

/// The text of the file, or why there is none.
fn text_of(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut bytes = Vec::new();
    file.take(CONFIG_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > CONFIG_BYTES_MAX {
        return Err(format!("is longer than {CONFIG_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let end = error.utf8_error().valid_up_to();
        let line = 1 + error
            .as_bytes()
            .iter()
            .take(end)
            .filter(|byte| **byte == b'\n')
            .count();
        format!("is not UTF-8 text (line {line})")
    })
}
