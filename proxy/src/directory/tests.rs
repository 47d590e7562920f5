//! The order of the sources, and the local file.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_core::credential::SCRAM_ITERATIONS;
use postern_core::directory::account::AccountRefusal;
use postern_core::scram::Verifier;
use tempfile::TempDir;

use super::error::LocalError;
use super::*;
use crate::config::{Exchange, FeedChoice, Ldap, LdapBind, LdapFlavor, LdapUrl, NestedStrategy};

/// Settings of a directory that nobody runs: the port is one that is never listened on.
pub(super) fn ldap_config() -> Ldap {
    Ldap {
        urls: vec![LdapUrl {
            ldaps: false,
            host: "127.0.0.1".to_owned(),
            port: 1,
        }],
        starttls: false,
        tls_ca_file: None,
        tls_verify: true,
        flavor: LdapFlavor::OpenLdap,
        base_dn: "dc=x".to_owned(),
        bind: LdapBind::Search,
        service_dn: "cn=service,dc=x".to_owned(),
        service_password_file: PathBuf::new(),
        login_filter: "(uid={login})".to_owned(),
        name_attribute: "uid".to_owned(),
        id_attribute: "entryUUID".to_owned(),
        domains: vec![],
        group_base_dn: "dc=x".to_owned(),
        group_class_filter: "(objectClass=groupOfNames)".to_owned(),
        group_member_attribute: "member".to_owned(),
        group_name_attribute: "cn".to_owned(),
        nested: true,
        nested_strategy: NestedStrategy::Walk,
        connect_timeout: Duration::from_secs(3),
        operation_timeout: Duration::from_secs(5),
        total_timeout: Duration::from_secs(8),
        feed: FeedChoice::Auto,
        poll_interval: Duration::from_secs(30),
    }
}

fn login(name: &str) -> LoginName {
    LoginName::parse(name, &[]).unwrap()
}

fn secret(password: &str) -> Secret<Vec<u8>> {
    Secret::new(password.as_bytes().to_vec())
}

fn verifier(password: &str) -> Verifier {
    Verifier::from_password(password.as_bytes(), b"0123456789abcdef", SCRAM_ITERATIONS)
}

fn accounts_file(folder: &Path) -> PathBuf {
    let path = folder.join("accounts.toml");
    let readers = ["readers".to_owned()];
    local::set_password(&path, "Alice", Some(&readers), &verifier("right"), "id-1").unwrap();
    path
}

pub(super) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// The local file, and beside it a directory that cannot be reached.
fn with_dead_directory(folder: &TempDir, order: LocalOrder) -> Directories {
    let password_file = folder.path().join("service");
    fs::write(&password_file, "secret\n").unwrap();
    let ldap = Ldap {
        service_password_file: password_file,
        ..ldap_config()
    };
    let local = Local {
        file: accounts_file(folder.path()),
        order,
        domain: None,
        exchange: Exchange::Password,
    };
    Directories::of(&Directory::Ldap(Box::new(ldap)), Some(&local)).unwrap()
}

fn only_local(path: &Path) -> Directories {
    let local = Local {
        file: path.to_owned(),
        order: LocalOrder::First,
        domain: None,
        exchange: Exchange::Password,
    };
    Directories::of(&Directory::Local, Some(&local)).unwrap()
}

#[test]
fn a_local_account_logs_in_with_its_password_only() {
    let folder = TempDir::new().unwrap();
    let directories = only_local(&accounts_file(folder.path()));
    run(async {
        let verified = directories
            .authenticate(&login("alice"), &secret("right"), &Breaker::default())
            .await
            .unwrap();
        let principal = verified.into_principal();
        assert_eq!(principal.name, "Alice");
        assert_eq!(principal.id.as_str(), "local:id-1");
        assert_eq!(principal.dn, "local:Alice");
        let wrong = directories
            .authenticate(&login("alice"), &secret("wrong"), &Breaker::default())
            .await;
        assert!(matches!(wrong, Err(DirectoryError::WrongPassword)));
        let unknown = directories
            .authenticate(&login("bob"), &secret("right"), &Breaker::default())
            .await;
        assert!(matches!(unknown, Err(DirectoryError::UnknownLogin)));
    });
}

#[test]
fn a_directory_that_is_away_is_noticed_whatever_stands_beside_it() {
    let folder = TempDir::new().unwrap();
    let secret_file = folder.path().join("password");
    fs::write(&secret_file, "secret").unwrap();
    let directory = Directory::Ldap(Box::new(Ldap {
        service_password_file: secret_file,
        ..ldap_config()
    }));
    let beside = |order, domain: Option<&str>| Local {
        file: accounts_file(folder.path()),
        order,
        domain: domain.map(str::to_owned),
        exchange: Exchange::Password,
    };
    for local in [
        None,
        Some(beside(LocalOrder::First, None)),
        Some(beside(LocalOrder::Last, None)),
        Some(beside(LocalOrder::Last, Some("local"))),
    ] {
        let directories = Directories::of(&directory, local.as_ref()).unwrap();
        let breaker = Breaker::default();
        run(async {
            directories
                .authenticate(&login("bob"), &secret("right"), &breaker)
                .await
                .unwrap_err();
        });
        assert!(breaker.is_lost(), "{local:?}");
    }
}

#[test]
fn a_local_account_is_found_by_its_identifier() {
    let folder = TempDir::new().unwrap();
    let path = accounts_file(folder.path());
    let directories = only_local(&path);
    let (id, other) = (EntryId::new("local:id-1"), EntryId::new("local:id-2"));
    run(async {
        let person = directories.look_up_entry(&id).await.unwrap();
        assert_eq!(
            (person.principal.name.as_str(), person.refused_from),
            ("Alice", None)
        );
        for gone in [&other, &EntryId::new("uuid:1")] {
            let error = directories.look_up_entry(gone).await.unwrap_err();
            assert!(matches!(&error, DirectoryError::EntryGone { id } if id == gone));
            assert!(!error.is_outage());
        }
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("disabled = false", "disabled = true")).unwrap();
        let error = directories.look_up_entry(&id).await.unwrap_err();
        assert!(matches!(
            error,
            DirectoryError::AccountRefused(AccountRefusal::Disabled)
        ));
        // The directory beside the file is not asked for what is the file's.
        let fresh = TempDir::new().unwrap();
        let both = with_dead_directory(&fresh, LocalOrder::Last);
        assert!(both.look_up_entry(&id).await.is_ok());
        assert!(
            both.look_up_entry(&EntryId::new("uuid:1"))
                .await
                .unwrap_err()
                .is_outage()
        );
    });
}

#[test]
fn a_password_that_nobody_can_have_is_refused_without_asking() {
    let folder = TempDir::new().unwrap();
    let directories = with_dead_directory(&folder, LocalOrder::First);
    run(async {
        for password in ["", "\0", "\0right", "right\0"] {
            let refused = directories
                .authenticate(&login("bob"), &secret(password), &Breaker::default())
                .await;
            assert!(
                matches!(refused, Err(DirectoryError::WrongPassword)),
                "{password:?}"
            );
        }
    });
}

#[test]
fn a_name_in_the_first_source_is_not_asked_of_the_second() {
    let folder = TempDir::new().unwrap();
    let directories = with_dead_directory(&folder, LocalOrder::First);
    run(async {
        assert!(
            directories
                .authenticate(&login("ALICE"), &secret("right"), &Breaker::default())
                .await
                .is_ok()
        );
        let wrong = directories
            .authenticate(&login("alice"), &secret("wrong"), &Breaker::default())
            .await;
        assert!(matches!(wrong, Err(DirectoryError::WrongPassword)));
        let other = directories
            .authenticate(&login("bob"), &secret("right"), &Breaker::default())
            .await
            .unwrap_err();
        assert!(other.is_outage(), "{other}");
        assert!(other.to_string().contains("ldap://127.0.0.1:1"), "{other}");
    });
}

#[test]
fn the_last_source_opens_when_the_directory_is_out_of_reach() {
    let folder = TempDir::new().unwrap();
    let directories = with_dead_directory(&folder, LocalOrder::Last);
    run(async {
        assert!(
            directories
                .authenticate(&login("alice"), &secret("right"), &Breaker::default())
                .await
                .is_ok()
        );
        assert!(directories.look_up(&login("alice")).await.is_ok());
        let wrong = directories
            .authenticate(&login("alice"), &secret("wrong"), &Breaker::default())
            .await;
        assert!(matches!(wrong, Err(DirectoryError::WrongPassword)));
        let other = directories
            .authenticate(&login("bob"), &secret("right"), &Breaker::default())
            .await
            .unwrap_err();
        assert!(other.is_outage(), "{other}");
    });
}

#[test]
fn a_directorys_word_about_a_password_is_final() {
    let folder = TempDir::new().unwrap();
    let file = LocalFile::new(&accounts_file(folder.path())).unwrap();
    let final_words = [
        DirectoryError::WrongPassword,
        DirectoryError::AmbiguousLogin,
        DirectoryError::AccountRefused(AccountRefusal::Disabled),
    ];
    for word in final_words {
        assert!(last_resort(&file, "alice", word).is_err());
    }
    assert!(last_resort(&file, "alice", DirectoryError::UnknownLogin).is_ok());
    assert!(last_resort(&file, "bob", DirectoryError::UnknownLogin).is_err());
}

#[test]
fn a_changed_file_counts_at_the_next_login() {
    let folder = TempDir::new().unwrap();
    let path = accounts_file(folder.path());
    let directories = only_local(&path);
    run(async {
        assert!(directories.look_up(&login("alice")).await.is_ok());
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("disabled = false", "disabled = true")).unwrap();
        let disabled = directories
            .authenticate(&login("alice"), &secret("right"), &Breaker::default())
            .await;
        let Err(DirectoryError::AccountRefused(refusal)) = disabled else {
            panic!()
        };
        assert_eq!(refusal, AccountRefusal::Disabled);
        let wrong = directories
            .authenticate(&login("alice"), &secret("wrong"), &Breaker::default())
            .await;
        assert!(matches!(wrong, Err(DirectoryError::WrongPassword)));
        local::set_password(&path, "alice", None, &verifier("new"), "unused").unwrap();
        local::remove(&path, "ALICE").unwrap();
        let gone = directories.look_up(&login("alice")).await;
        assert!(matches!(gone, Err(DirectoryError::UnknownLogin)));
        assert!(matches!(
            local::remove(&path, "alice"),
            Err(LocalError::NoAccount { .. })
        ));
    });
}

#[test]
fn a_new_password_keeps_the_rest_of_the_file() {
    let folder = TempDir::new().unwrap();
    let path = accounts_file(folder.path());
    local::set_password(&path, "bob", None, &verifier("b"), "id-2").unwrap();
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("[[group]]\nname = \"all\"\nmembers = [\"readers\"]\n");
    fs::write(&path, text).unwrap();
    local::set_password(&path, "alice", None, &verifier("new"), "unused").unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let directories = only_local(&path);
    run(async {
        let alice = directories
            .authenticate(&login("alice"), &secret("new"), &Breaker::default())
            .await
            .unwrap();
        let alice = alice.into_principal();
        assert_eq!(alice.id.as_str(), "local:id-1");
        let groups: Vec<_> = alice
            .groups
            .iter()
            .map(|g| (&*g.name, g.direct, &*g.path))
            .collect();
        assert_eq!(
            groups,
            [
                ("all", false, &["readers".to_owned()][..]),
                ("readers", true, &[])
            ]
        );
        let bob = directories
            .authenticate(&login("bob"), &secret("b"), &Breaker::default())
            .await
            .unwrap();
        assert_eq!(bob.into_principal().groups, []);
    });
}

#[test]
fn local_groups_in_a_circle_end() {
    let folder = TempDir::new().unwrap();
    let path = accounts_file(folder.path());
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str(
        "[[group]]\nname = \"a\"\nmembers = [\"readers\", \"b\"]\n\
         [[group]]\nname = \"b\"\nmembers = [\"a\"]\n",
    );
    fs::write(&path, text).unwrap();
    let alice = run(only_local(&path).look_up(&login("alice"))).unwrap();
    let names: Vec<&str> = alice.groups.iter().map(|g| g.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "readers"]);
}

#[test]
fn a_file_that_is_not_as_it_must_be_is_refused_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let path = accounts_file(folder.path());
    let good = fs::read_to_string(&path).unwrap();
    let error = || LocalFile::new(&path).err().unwrap().to_string();
    let twice = good.replace("id-1", "id-2").replace("Alice", "alice");
    for (text, want) in [
        (format!("{good}surprise = 1\n"), "surprise"),
        (good.replace("id-1", ""), "id is empty"),
        (
            format!("{good}{}", good.replace("Alice", "bob")),
            "another account's too",
        ),
        (format!("{good}{twice}"), "is there twice"),
        (
            good.replace("SCRAM-SHA-256", "md5"),
            "not a SCRAM-SHA-256 verifier",
        ),
        (good.replace("$4096:", "$4000000000:"), "iterations"),
        (good.replace("Alice", "A\\nB"), "not a name"),
    ] {
        fs::write(&path, &text).unwrap();
        assert!(error().contains(want), "{want}: {}", error());
        assert!(error().contains(path.to_str().unwrap()));
    }
    fs::write(&path, &good).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(error().contains("chmod 600"), "{}", error());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(LocalFile::new(&path).is_ok());
    fs::remove_file(&path).unwrap();
    assert!(error().contains("No such file"), "{}", error());
}
