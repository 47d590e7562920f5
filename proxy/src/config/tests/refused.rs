//! What the reader refuses, and what it warns about.

use super::*;

#[test]
fn all_errors_are_reported_at_once_with_line_value_and_range() {
    let mut sample = with("cache.recheck_s", "0");
    sample
        .set("limits.sesions_max", "7")
        .set("directory.nested", "'yes'");
    sample
        .set("listen.tls", "'requires'")
        .unset("role_store.host");
    let errors = sample.read().map(|_| ()).unwrap_err();
    let text = errors.to_string();
    for part in [
        "cache.recheck_s = 0: is out of range\n    valid: a whole number of seconds, 1 to 3600\n",
        "limits.sesions_max: there is no such key; did you mean `sessions_max`?\n",
        "directory.nested = 'yes': is a string\n    valid: true or false\n",
        "listen.tls = 'requires': is not one of the choices; did you mean \"require\"?\n",
        "role_store.host: is missing\n",
        "5 errors in ",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    assert!(
        text.lines().next().unwrap().contains("postern.toml:"),
        "{text}"
    );
}

#[test]
fn errors_name_the_line_of_the_key() {
    let text = "[listen]\ntls = 'x'\n\n[[backend]]\nhost = 'a'\n[[backend]]\nport = 0\n";
    let errors = read_in(folder().path(), text).map(|_| ()).unwrap_err();
    let line = |key: &str| {
        errors
            .problems()
            .iter()
            .find(|one| one.key == key)
            .unwrap()
            .line
    };
    assert_eq!(line("listen.tls"), Some(2));
    assert_eq!(line("backend 2.port"), Some(7));
    assert_eq!(line("backend 2.host"), Some(6));
}

#[test]
fn a_secret_in_the_wrong_place_is_never_repeated() {
    for line in [
        "role_store.password = 'hunter2'",
        "role_store.password_file = 'hunter2'",
        "role_store.password = hunter2",
        "role_store.db_secret = 'hunter2'",
        "role_store.passwort = 'hunter2'",
        "directory.service_password_file = 'hunter2'",
        "directory.service_password = 'hunter2'",
        "directory.urls = ['ldaps://svc:hunter2@ldap1']",
        "directory.urls = 'ldaps://svc:hunter2@ldap1'",
        "credential.cluster_key = 'hunter2'",
        "credential.cluster_key_file = ['hunter2']",
        "hunter2",
        "password = 'hunter2",
        "password = \"hunter2",
        "password = \"\\qhunter2\"",
        "password = \"\"\"hunter2",
        "password = 2024-13-hunter2",
        "password = 0xhunter2",
        "pass word = hunter2",
        "[hunter2",
        "= hunter2",
        "password = 'a' hunter2",
    ] {
        let errors = read_in(folder().path(), line).map(|_| ()).unwrap_err();
        assert!(!errors.to_string().contains("hunter2"), "{line}:\n{errors}");
        assert!(
            !format!("{errors:?}").contains("hunter2"),
            "{line}:\n{errors:?}"
        );
    }
    with("role_store.password", "'hunter2'").refused(&[(
        "role_store.password",
        "secrets are given by file: use password_file",
    )]);
}

#[test]
fn files_must_be_there_and_keys_must_be_kept_from_others() {
    with("listen.tls_cert_file", "'none.pem'")
        .refused(&[("listen.tls_cert_file", "the file does not exist")]);
    with("listen.tls_cert_file", "'.'").refused(&[("listen.tls_cert_file", "is a folder")]);
    let folder = folder();
    let open = |name: &str| {
        let path = folder.path().join(name);
        std::fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    };
    open("password");
    let config = read_in(folder.path(), &Sample::new().text()).unwrap();
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    open("key.pem");
    open("cluster.key");
    let errors = read_in(folder.path(), &Sample::new().text())
        .map(|_| ())
        .unwrap_err();
    assert_eq!(errors.problems().len(), 2, "{errors}");
    assert!(errors.to_string().contains("open to everybody"), "{errors}");
}

#[test]
fn insecure_or_contradictory_settings_are_refused() {
    let mut sample = Sample::new();
    sample
        .unset("listen.tls_cert_file")
        .unset("listen.tls_key_file")
        .refused(&[
            ("listen.tls_cert_file", "needed when `tls` is \"require\""),
            ("listen.tls_key_file", "needed when `tls` is \"require\""),
        ]);
    with("listen.tls", "'allow-plaintext'")
        .unset("listen.tls_key_file")
        .refused(&[("listen.tls_key_file", "TLS needs both")]);
    with("directory.urls", "['ldap://ldap1']")
        .refused(&[("directory.urls", "would send passwords in clear text")]);
    with("directory.starttls", "true")
        .refused(&[("directory.starttls", "contradicts an ldaps:// URL")]);
    with("directory.kind", "'local'").refused(&[("directory.kind", "needs a [local] table")]);
    with("directory.bind", "'template'").refused(&[("directory.bind_template", "is missing")]);
    with("directory.login_filter", "'(uid=x)'")
        .refused(&[("directory.login_filter", "does not contain {login}")]);
    with("directory.connect_timeout_ms", "9000").refused(&[(
        "directory.connect_timeout_ms",
        "is longer than total_timeout_ms",
    )]);
    with("cache.recheck_s", "901").refused(&[("cache.recheck_s", "dead_s is only 900")]);
    with("cache.stale_s", "901").refused(&[("cache.stale_s", "dead_s is only 900")]);
    with("listen.addresses", "['localhost']")
        .refused(&[("listen.addresses", "is not an address and a port")]);
    with("listen.addresses", "[]").refused(&[("listen.addresses", "no client could connect")]);
    with("listen.proxy_protocol_from", "['10.0.0.8']")
        .refused(&[("listen.proxy_protocol_from", "\"10.0.0.8\" has no length")]);
    with("[backend].auth_methods", "['cleartext']")
        .set("[backend].sslmode", "'prefer'")
        .refused(&[("backend 1.auth_methods", "without TLS")]);
    with("[backend].auth_methods", "[]").refused(&[("backend 1.auth_methods", "is empty")]);
}

#[test]
fn a_database_belongs_to_one_backend() {
    Sample::new().add("[[backend]]\nhost = 'db2'\n").refused(&[(
        "backend 2.databases",
        "only one backend can take all other databases",
    )]);
    with("[backend].databases", "['a', 'b']")
        .add("[[backend]]\nhost = 'db2'\ndatabases = ['b']\n")
        .refused(&[(
            "backend 2.databases",
            "\"b\" is listed already, by backend 1",
        )]);
    let mut none = Sample::new();
    none.tables.remove("[backend]");
    none.refused(&[("[[backend]]", "at least one is needed")]);
}

#[test]
fn a_group_rule_has_one_matcher_and_a_template_that_fits_it() {
    with("[group_rule].regex", "'x'").refused(&[("group_rule 1.regex", "exactly one of them")]);
    let rule = |text: &str| {
        let mut sample = Sample::new();
        sample.tables.remove("[group_rule]");
        sample.add(&format!("[[group_rule]]\n{text}\n"));
        sample
    };
    rule("role = 'x'").refused(&[("group_rule 1.prefix", "is missing")]);
    rule("regex = 'a('").refused(&[("group_rule 1.regex", "is not a regular expression")]);
    rule("regex = 'a)(b'").refused(&[("group_rule 1.regex", "is not a regular expression")]);
    let role = rule("regex = 'a(b)'\nrole = '$2'")
        .read()
        .map(|_| ())
        .unwrap_err();
    assert_eq!(
        role.problems().first().unwrap().key,
        "group_rule 1.role",
        "{role}"
    );
    rule("names = []").refused(&[("group_rule 1.names", "empty prefix, list or name")]);
    assert!(
        rule("regex = 'db-(ro|rw)-(.+)'\nrole = '$2_$1'")
            .read()
            .is_ok()
    );
}

#[test]
fn insecure_choices_are_said_aloud() {
    with("listen.tls", "'allow-plaintext'").warned(&["listen.tls"]);
    with("directory.tls_verify", "false").warned(&["tls_verify = false"]);
    with("directory.urls", "['ldap://ldap1']")
        .set("directory.allow_plaintext", "true")
        .warned(&["in clear text"]);
    with("directory.allow_plaintext", "true").warned(&["allow_plaintext = true: it has no effect"]);
    with("[backend].sslmode", "'verify-ca'").warned(&["backend 1.sslmode = \"verify-ca\""]);
    with("role_store.sslmode", "'prefer'").warned(&["role_store.sslmode = \"prefer\""]);
    with("role_store.sslmode", "'disable'")
        .set("role_store.host", "'127.0.0.1'")
        .warned(&[]);
    with("[backend].auth_methods", "['trust', 'md5']").warned(&["trust", "md5"]);
    with("credential.mode", "'mirror'").warned(&["no mirror_reason"]);
    with("credential.mode", "'mirror'")
        .set("credential.mirror_reason", "'old'")
        .warned(&[]);
    with("local.file", "'./accounts.toml'").warned(&["[local]: "]);
    with("role_store.user", "'postgres'").warned(&["usually a superuser"]);
    with("directory.nested_strategy", "'in-chain'").warned(&["only Active Directory"]);
    with("directory.bind_template", "'{login}@x'").warned(&["bind_template: it has no effect"]);
}

#[test]
fn a_local_directory_needs_nothing_of_ldap() {
    let mut sample = with("directory.kind", "'local'");
    sample.set("local.file", "'./accounts.toml'");
    sample.tables.insert(
        "directory",
        [("kind".to_owned(), "'local'".to_owned())].into(),
    );
    let config = sample.read().unwrap();
    assert!(matches!(config.directory, Directory::Local));
    assert_eq!(config.local.unwrap().order, LocalOrder::Last);
}

#[test]
fn tables_and_keys_that_nobody_declared_are_refused_with_a_hint() {
    let mut sample = Sample::new();
    sample.add("[limit]\n[colour]\n");
    sample.refused(&[
        ("limit", "did you mean [limits]?"),
        ("colour", "no such table"),
    ]);
    with("listen.sslmode", "'require'").refused(&[("listen.sslmode", "belongs into")]);
    let mut sample = Sample::new();
    sample.tables.insert("cache", BTreeMap::new());
    sample.rest.push_str("[[audit]]\nfile = 'x'\n");
    sample.refused(&[("audit", "is written as [audit]")]);
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_its_line() {
    let errors = read_in(folder().path(), "[listen]\ntls = require\n")
        .map(|_| ())
        .unwrap_err();
    assert_eq!(errors.problems().first().unwrap().line, Some(2), "{errors}");
    let none = Config::read(Path::new("/nonexistent/postern.toml"))
        .map(|_| ())
        .unwrap_err();
    assert!(none.to_string().contains("cannot be read"), "{none}");
}
