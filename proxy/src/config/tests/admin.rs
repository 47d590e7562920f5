//! `[admin]`, the limits of shares, and what an operator is shown of the configuration.

use super::*;

#[test]
fn the_console_has_a_reserved_name_that_no_backend_lists() {
    let config = with("admin.accounts_file", "'./accounts.toml'")
        .read()
        .unwrap();
    let admin = config.admin.unwrap();
    assert_eq!(admin.database, "postern");
    assert!(admin.accounts_file.ends_with("accounts.toml"));
    let mut sample = with("admin.accounts_file", "'./accounts.toml'");
    sample.set("[backend].databases", "['hr', 'postern']");
    sample.refused(&[("admin.database", "is the name of the admin console")]);
    sample.set("admin.database", "'console'");
    assert!(sample.read().is_ok());
    assert!(Sample::new().read().unwrap().admin.is_none());
}

#[test]
fn no_share_is_limited_unless_the_file_says_so() {
    let limits = Sample::new().read().unwrap().limits;
    let shares = limits.shares;
    assert_eq!(
        (shares.role, shares.address, shares.database),
        (None, None, None)
    );
    assert_eq!(limits.logins_per_minute_max, None);
    let mut sample = with("limits.sessions_per_role_max", "5");
    sample.set("limits.logins_per_address_and_minute_max", "60");
    let limits = sample.read().unwrap().limits;
    assert_eq!(
        (limits.shares.role, limits.logins_per_minute_max),
        (Some(5), Some(60))
    );
}

#[test]
fn commands_find_the_service_without_a_word_about_where_it_is() {
    let read = |text: &str, runtime: Option<&str>| {
        let places = Places {
            folder: "/etc/postern".into(),
            credentials: None,
            runtime: runtime.map(Into::into),
        };
        parse_control(text, places).unwrap()
    };
    let service = read("", Some("/run/postern"));
    assert_eq!(service.socket.as_deref(), Some(service.place()));
    let command = read("", None);
    assert_eq!(
        (command.socket.as_deref(), command.place()),
        (None, service.place())
    );
    let named = read("[control]\nsocket = 'a.sock'\n", Some("/run/postern"));
    assert_eq!(named.place(), Path::new("/etc/postern/a.sock"));
}

#[test]
fn every_value_is_shown_and_a_password_in_a_url_is_not() {
    let values = Sample::new().read().unwrap().values;
    let shown: BTreeMap<&str, &str> = values.shown().collect();
    assert_eq!(shown.get("listen.tls"), Some(&"\"require\""));
    assert_eq!(shown.get("limits.sessions_max"), Some(&"10000"));
    assert!(shown.get("directory.urls").unwrap().contains("ldap1"));
    assert_eq!(shown.get("control.socket"), None);
    let sample = with("directory.urls", "['ldaps://ldap1', 'ldaps://x:y@ldap2']");
    if let Ok(config) = sample.read() {
        let shown = config.values.shown();
        assert!(shown.into_iter().all(|(_, value)| !value.contains("x:y@")));
    }
}
