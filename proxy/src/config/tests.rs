//! The reader against files, good and bad.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its files should stop"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::files::Places;
use super::problem::ConfigErrors;
use super::read::{parse, parse_control};
use super::schema::Absent;
use super::*;

mod admin;
mod changes;
mod edited;
mod perimeter;
mod proof;
mod refused;

/// A folder with the files that the configurations name.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "cert.pem",
        "key.pem",
        "ca.pem",
        "password",
        "cluster.key",
        "accounts.toml",
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, "content\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    folder
}

fn read_in(folder: &Path, text: &str) -> Result<Config, ConfigErrors> {
    let path = folder.join("postern.toml");
    std::fs::write(&path, text).unwrap();
    Config::read(&path)
}

/// A complete file, table by table, of which a test replaces or adds lines.
struct Sample {
    tables: BTreeMap<&'static str, BTreeMap<String, String>>,
    rest: String,
}

impl Sample {
    fn new() -> Self {
        let mut sample = Self {
            tables: BTreeMap::new(),
            rest: String::new(),
        };
        sample
            .set("listen.tls_cert_file", "'cert.pem'")
            .set("listen.tls_key_file", "'./key.pem'");
        sample
            .set("directory.flavor", "'openldap'")
            .set("directory.urls", "['ldaps://ldap1']");
        sample
            .set("directory.base_dn", "'dc=example'")
            .set("directory.service_dn", "'cn=svc'");
        sample.set("directory.service_password_file", "'./password'");
        sample.set("[group_rule].prefix", "'app-'");
        sample
            .set("role_store.host", "'db1'")
            .set("role_store.password_file", "'./password'");
        sample.set("[backend].host", "'db1'");
        sample.set("credential.cluster_key_file", "'./cluster.key'");
        sample
    }

    fn set(&mut self, key: &'static str, value: &str) -> &mut Self {
        let (table, key) = key.split_once('.').unwrap();
        self.tables
            .entry(table)
            .or_default()
            .insert(key.to_owned(), value.to_owned());
        self
    }

    fn unset(&mut self, key: &str) -> &mut Self {
        let (table, key) = key.split_once('.').unwrap();
        self.tables.get_mut(table).unwrap().remove(key);
        self
    }

    fn add(&mut self, text: &str) -> &mut Self {
        self.rest.push_str(text);
        self
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (table, keys) in &self.tables {
            writeln!(text, "[{table}]").unwrap();
            for (key, value) in keys {
                writeln!(text, "{key} = {value}").unwrap();
            }
        }
        text + &self.rest
    }

    fn read(&self) -> Result<Config, ConfigErrors> {
        read_in(folder().path(), &self.text())
    }

    /// Reads the sample, which must be refused for exactly these reasons: key and a part of why.
    fn refused(&self, expect: &[(&str, &str)]) {
        let errors = self.read().map(|_| ()).unwrap_err();
        let problems = errors.problems();
        assert_eq!(problems.len(), expect.len(), "{errors}");
        for (key, why) in expect {
            let found = problems
                .iter()
                .any(|one| one.key == *key && one.why.contains(why));
            assert!(found, "no error for {key} with {why:?} in:\n{errors}");
        }
    }

    /// Reads the sample, which must be accepted with a warning that contains each text.
    fn warned(&self, expect: &[&str]) {
        let config = self.read().unwrap();
        assert_eq!(
            config.warnings.len(),
            expect.len(),
            "{:#?}",
            config.warnings
        );
        for text in expect {
            let found = config.warnings.iter().any(|warning| warning.contains(text));
            assert!(found, "no warning with {text:?} in {:#?}", config.warnings);
        }
    }
}

fn with(key: &'static str, value: &str) -> Sample {
    let mut sample = Sample::new();
    sample.set(key, value);
    sample
}

#[test]
fn a_complete_file_is_read_without_a_warning() {
    let config = Sample::new().read().unwrap();
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(
        config.listen.addresses,
        vec!["0.0.0.0:5050".parse().unwrap()]
    );
    assert_eq!(config.listen.tls, ListenTls::Require);
    assert_eq!(config.listen.denied_parameters, Vec::<String>::new());
    assert!(!config.groups.rules.open_replication());
    let Directory::Ldap(ldap) = &config.directory else {
        panic!("not LDAP")
    };
    let url = LdapUrl {
        ldaps: true,
        host: "ldap1".to_owned(),
        port: 636,
    };
    assert_eq!(ldap.urls, vec![url]);
    assert_eq!(ldap.group_base_dn, "dc=example");
    assert_eq!(
        ldap.login_filter,
        "(&(objectClass=inetOrgPerson)(uid={login}))"
    );
    assert_eq!(
        (ldap.name_attribute.as_str(), ldap.id_attribute.as_str()),
        ("uid", "entryUUID")
    );
    assert_eq!(ldap.group_class_filter, "(objectClass=groupOfNames)");
    assert_eq!(ldap.nested_strategy, NestedStrategy::Walk);
    let times = (
        ldap.connect_timeout,
        ldap.operation_timeout,
        ldap.total_timeout,
    );
    let seconds = Duration::from_secs;
    assert_eq!(times, (seconds(3), seconds(5), seconds(8)));
    assert_eq!(config.role_store.endpoint.sslmode, SslMode::VerifyFull);
    assert_eq!(
        config.backends.first().unwrap().auth_methods,
        vec![AuthMethod::ScramSha256]
    );
    assert_eq!(config.cache.policy, postern_core::cache::Policy::default());
    assert_eq!(config.audit.file, Path::new("/var/log/postern/audit.jsonl"));
}

#[test]
fn active_directory_has_its_own_defaults() {
    let config = with("directory.flavor", "'active-directory'")
        .read()
        .unwrap();
    let Directory::Ldap(ldap) = &config.directory else {
        panic!("not LDAP")
    };
    let filter = "(&(objectCategory=person)(objectClass=user)(sAMAccountName={login}))";
    assert_eq!(ldap.login_filter, filter);
    let attributes = (ldap.name_attribute.as_str(), ldap.id_attribute.as_str());
    assert_eq!(attributes, ("sAMAccountName", "objectGUID"));
    assert_eq!(ldap.group_class_filter, "(objectClass=group)");
    assert_eq!(ldap.nested_strategy, NestedStrategy::InChain);
}

#[test]
fn the_default_file_is_complete_once_its_keys_are_filled_in() {
    let text = default_text();
    for table in keys::TABLES {
        assert!(
            text.contains(&format!("[{}]", table.name)),
            "{}",
            table.name
        );
    }
    let folder = folder();
    let empty = read_in(folder.path(), &text).map(|_| ()).unwrap_err();
    let filled = fill_in(&text);
    let plain = read_in(folder.path(), &filled).unwrap();
    assert_eq!(plain.warnings, Vec::<String>::new());
    // Nothing but the keys without a value is wrong with the file as it is printed.
    let active = text.lines().filter(|line| !line.starts_with('#'));
    let blank = active.filter(|line| line.ends_with("= \"\"") || line.ends_with("= []"));
    assert_eq!(empty.problems().len(), blank.count(), "{empty}");
}

/// The default file with values for the keys that stand without one.
fn fill_in(text: &str) -> String {
    let values = [
        ("tls_cert_file", "'cert.pem'"),
        ("tls_key_file", "'key.pem'"),
        ("flavor", "'openldap'"),
        ("urls", "['ldaps://ldap1']"),
        ("base_dn", "'dc=example'"),
        ("service_dn", "'cn=svc'"),
        ("service_password_file", "'password'"),
        ("prefix", "'app-'"),
        ("host", "'db1'"),
        ("password_file", "'password'"),
        ("cluster_key_file", "'cluster.key'"),
    ];
    let lines = text.lines().map(|line| {
        let value = values.iter().find_map(|(key, value)| {
            let empty = [format!("{key} = \"\""), format!("{key} = []")];
            empty
                .contains(&line.to_owned())
                .then(|| format!("{key} = {value}\n"))
        });
        value.unwrap_or_else(|| format!("{line}\n"))
    });
    lines.collect()
}

#[test]
fn every_stated_default_is_the_value_without_the_key() {
    let folder = folder();
    for flavor in ["active-directory", "openldap"] {
        let blank = default_text().replace("flavor = \"\"", &format!("flavor = \"{flavor}\""));
        let text = fill_in(&blank);
        let mut explicit = String::new();
        let mut table = "";
        for line in text.lines() {
            if line.starts_with('[') {
                table = line.trim_matches(['[', ']']);
            }
            let key = stated_default(table, line, flavor);
            writeln!(explicit, "{}", key.unwrap_or_else(|| line.to_owned())).unwrap();
        }
        assert_ne!(text, explicit);
        let left = read_in(folder.path(), &text).unwrap();
        let right = read_in(folder.path(), &explicit).unwrap();
        assert_eq!(format!("{left:#?}"), format!("{right:#?}"));
    }
}

/// The line of a commented key with its default, if the line is one.
fn stated_default(table: &str, line: &str, flavor: &str) -> Option<String> {
    let (name, literal) = line.strip_prefix('#')?.split_once(" = ")?;
    let key = schema::table(table)?.key(name)?;
    let stated = match key.absent {
        Absent::Default(stated) => {
            assert_eq!(stated, literal, "{table}.{name}");
            stated
        }
        Absent::ByFlavor {
            active_directory, ..
        } if flavor == "active-directory" => active_directory,
        Absent::ByFlavor { openldap, .. } => openldap,
        Absent::Required | Absent::RequiredWhen(_) | Absent::Unset { .. } => return None,
    };
    Some(format!("{name} = {stated}"))
}

#[test]
fn every_key_of_the_schema_stands_in_the_default_file() {
    let text = default_text();
    let mut rest = text.as_str();
    for table in keys::TABLES {
        let header = rest.find(&format!("[{}]", table.name)).unwrap();
        rest = rest.get(header..).unwrap();
        for key in table.keys {
            let line = rest.find(&format!("{} = ", key.name));
            rest = rest.get(line.unwrap()..).unwrap();
        }
    }
}

#[test]
fn every_key_of_the_schema_is_asked_for_by_the_program() {
    let folder = folder();
    for table in keys::TABLES {
        for key in table.keys {
            // A table instead of a value is wrong for every key, and must be reported.
            let header = if table.form.repeats() { "[[x]]" } else { "[x]" };
            let header = header.replace('x', table.name);
            let text = format!("{header}\n{} = {{}}\n", key.name);
            let places = Places {
                folder: folder.path().to_owned(),
                credentials: None,
                runtime: None,
            };
            let problems = parse(&text, places).map(|_| ()).unwrap_err();
            let wrong = problems.iter().find(|problem| problem.line == Some(2));
            assert_eq!(wrong.unwrap().why, "is a table", "{text}");
        }
    }
    // A key that nothing reads would be called without effect.
    let mut all = Sample::new();
    all.set("directory.tls_ca_file", "'ca.pem'")
        .set("directory.bind", "'template'");
    all.set("directory.bind_template", "'{login}@x'")
        .set("directory.group_base_dn", "'ou=x'");
    all.set("local.file", "'./accounts.toml'")
        .set("role_store.tls_ca_file", "'ca.pem'");
    all.set("admin.accounts_file", "'./accounts.toml'");
    all.set("credential.mode", "'mirror'")
        .set("credential.mirror_reason", "'r'");
    all.set("[backend].tls_ca_file", "'ca.pem'")
        .set("[backend].databases", "['a']");
    all.set("[group_rule].role", "'$0'")
        .set("[group_rule].databases", "['a']");
    all.add("[[group_rule]]\nnames = ['x']\n[[group_rule]]\nregex = 'x'\n");
    all.set("perimeter.place", "'gateway'")
        .set("perimeter.interfaces", "['eth0']");
    all.set("perimeter.audit_file", "'perimeter.jsonl'");
    all.add("[[perimeter.protect]]\nprefixes = ['10.0.0.0/8']\nports = [1]\n");
    all.add("[[perimeter.allow]]\nsources = ['10.1.0.1/32']\ninterfaces = ['eth0']\n");
    for table in keys::TABLES.iter().filter(|table| !table.form.repeats()) {
        for key in table.keys {
            if let Absent::Default(literal) = key.absent {
                let held = all.tables.entry(table.name).or_default();
                held.entry(key.name.to_owned())
                    .or_insert_with(|| literal.to_owned());
            }
        }
    }
    all.warned(&["[local]: "]);
}

#[test]
fn the_reference_page_is_made_from_the_schema() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    if std::env::var_os("POSTERN_UPDATE_DOCS").is_some() {
        std::fs::write(&path, markdown()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == markdown(),
        "docs/configuration.md is not what the schema says; \
         `POSTERN_UPDATE_DOCS=1 cargo test -p postern reference_page` writes it"
    );
}
