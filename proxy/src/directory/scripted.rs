//! The LDAP login against servers that say whatever a test wants them to.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod server;

use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use postern_core::limits::LDAP_ANSWER_BYTES_MAX;
use postern_core::login_name::LoginName;
use postern_core::principal::{EntryId, Principal};
use postern_core::secret::Secret;
use tempfile::TempDir;

pub(super) use self::server::{Asked, Reply, Scripted};
use self::server::{result, text, tlv};
use super::Directories;
use super::error::DirectoryError;
use super::tests::{ldap_config, run};
use crate::config::{Directory, Ldap, LdapUrl};

const ALICE: &str = "uid=alice,dc=x";
const SERVICE: &str = "cn=service,dc=x";

const PERSON: Reply = Reply::Entry(
    ALICE,
    &[("uid", "alice"), ("entryUUID", "u-1"), ("cn", "g")],
);

/// A server on which everything succeeds but a person's bind, which gets `code`.
fn answering(code: u8) -> Scripted {
    Scripted::start(move |asked| match asked {
        Asked::Bind(name, _) if name != SERVICE => vec![Reply::Code(code)],
        Asked::Bind(..) => vec![Reply::Code(0)],
        Asked::Search => vec![PERSON, Reply::Code(0)],
        Asked::Unbind => vec![Reply::Close],
    })
}

/// One login against these servers, with this password.
fn log_in(servers: &[&Scripted], password: &str) -> Result<Principal, DirectoryError> {
    run(async { directories(servers).1.log_in(password).await })
}

fn directories(servers: &[&Scripted]) -> (TempDir, Directories) {
    directories_within(servers, Duration::from_millis(300))
}

/// Directories that give each request so long.
fn directories_within(servers: &[&Scripted], timeout: Duration) -> (TempDir, Directories) {
    let folder = TempDir::new().unwrap();
    let password_file = folder.path().join("service");
    fs::write(&password_file, "secret\n").unwrap();
    let url = |s: &&Scripted| LdapUrl {
        ldaps: false,
        host: "127.0.0.1".to_owned(),
        port: s.port,
    };
    let ldap = Ldap {
        urls: servers.iter().map(url).collect(),
        service_password_file: password_file,
        nested: false,
        operation_timeout: timeout,
        total_timeout: Duration::from_secs(60),
        ..ldap_config()
    };
    (
        folder,
        Directories::of(&Directory::Ldap(Box::new(ldap)), None).unwrap(),
    )
}

impl Directories {
    async fn log_in(&self, password: &str) -> Result<Principal, DirectoryError> {
        let password = Secret::new(password.as_bytes().to_vec());
        let login = LoginName::parse("alice", &[]).unwrap();
        self.authenticate(&login, &password, &super::Breaker::default())
            .await
            .map(super::Verified::into_principal)
    }
}

#[test]
fn a_wrong_password_is_sent_to_one_server_once() {
    let (first, second) = (answering(49), answering(0));
    let error = log_in(&[&first, &second], "wrong").unwrap_err();
    assert!(matches!(error, DirectoryError::WrongPassword), "{error}");
    assert_eq!((first.passwords(), second.passwords()), (1, 0));
}

#[test]
fn a_busy_server_hands_over_to_the_next() {
    for code in [51, 52] {
        let (first, second) = (answering(code), answering(0));
        assert_eq!(log_in(&[&first, &second], "right").unwrap().name, "alice");
        assert_eq!((first.passwords(), second.passwords()), (1, 1));
    }
}

#[test]
fn a_lost_connection_hands_over_to_the_next() {
    let first = Scripted::start(|_| vec![Reply::Close]);
    let second = answering(0);
    assert_eq!(log_in(&[&first, &second], "right").unwrap().dn, ALICE);
    let only = log_in(&[&first], "right").unwrap_err();
    assert!(
        only.is_outage() && only.to_string().contains("closed"),
        "{only}"
    );
}

#[test]
fn silence_after_a_password_is_an_outage_and_not_tried_elsewhere() {
    let (error, passwords) = unanswered(Vec::new);
    assert!(
        matches!(error, DirectoryError::TimedOut { after_ms: 300, .. }),
        "{error}"
    );
    assert_eq!(passwords, (1, 0));
}

#[test]
fn a_connection_lost_after_a_password_is_an_outage_and_not_tried_elsewhere() {
    let (error, passwords) = unanswered(|| vec![Reply::Close]);
    assert!(
        matches!(error, DirectoryError::Unreachable { .. }),
        "{error}"
    );
    assert_eq!(passwords, (1, 0));
}

/// Logs in where the first server does not answer a person's bind; the error, and how many
/// passwords each server saw.
fn unanswered(reply: fn() -> Vec<Reply>) -> (DirectoryError, (usize, usize)) {
    let first = Scripted::start(move |asked| match asked {
        Asked::Bind(name, _) if name != SERVICE => reply(),
        Asked::Bind(..) => vec![Reply::Code(0)],
        Asked::Search => vec![PERSON, Reply::Code(0)],
        Asked::Unbind => vec![Reply::Close],
    });
    let second = answering(0);
    let error = log_in(&[&first, &second], "right").unwrap_err();
    (error, (first.passwords(), second.passwords()))
}

#[test]
fn a_server_that_takes_any_bind_gets_no_unauthenticated_one() {
    let server = answering(0);
    for password in ["", "\0", "\0x", "x\0"] {
        let error = log_in(&[&server], password).unwrap_err();
        assert!(matches!(error, DirectoryError::WrongPassword), "{error}");
    }
    assert_eq!(*server.asked.lock().unwrap(), []);
    let nameless = Scripted::start(|asked| match asked {
        Asked::Search => vec![Reply::Entry("", &[("uid", "alice")]), Reply::Code(0)],
        Asked::Bind(..) => vec![Reply::Code(0)],
        Asked::Unbind => vec![Reply::Close],
    });
    assert!(matches!(
        log_in(&[&nameless], "x"),
        Err(DirectoryError::UnknownLogin)
    ));
    assert_eq!(nameless.passwords(), 0);
}

#[test]
fn the_connection_itself_sends_no_empty_password() {
    let server = answering(0);
    let (_folder, directories) = directories(&[&server]);
    let super::Sources::Ldap(ldap) = &directories.sources else {
        panic!()
    };
    run(async {
        for (name, password) in [(ALICE, ""), ("", "x"), (ALICE, "\0"), ("\0", "x")] {
            let password = Secret::new(password.as_bytes().to_vec());
            let code = ldap
                .servers()
                .as_person(name, &password, async |_, a| Ok(a.code))
                .await;
            assert_eq!(code.unwrap(), 49);
        }
    });
    assert_eq!(server.passwords(), 0);
}

#[test]
fn a_referral_is_not_followed() {
    let away = answering(0);
    let url: &'static str = format!("ldap://127.0.0.1:{}/", away.port).leak();
    let refers = Scripted::start(|asked| match asked {
        Asked::Bind(..) => vec![Reply::Code(0)],
        Asked::Search => vec![Reply::Code(10)],
        Asked::Unbind => vec![Reply::Close],
    });
    let error = log_in(&[&refers, &away], "right").unwrap_err();
    assert!(
        matches!(error, DirectoryError::Refused { code: 10, .. }),
        "{error}"
    );
    let references = Scripted::start(move |asked| match asked {
        Asked::Bind(..) => vec![Reply::Code(0)],
        Asked::Search => vec![Reply::Reference(url), PERSON, Reply::Code(0)],
        Asked::Unbind => vec![Reply::Close],
    });
    assert_eq!(log_in(&[&references], "right").unwrap().name, "alice");
    assert_eq!(*away.asked.lock().unwrap(), []);
}

#[test]
fn a_name_that_nobody_has_costs_the_directory_what_a_wrong_password_does() {
    let steps = |found: usize| {
        let server = Scripted::start(move |asked| match asked {
            Asked::Bind(name, _) if name != SERVICE => vec![Reply::Code(49)],
            Asked::Bind(..) => vec![Reply::Code(0)],
            Asked::Search => (0..found).map(|_| PERSON).chain([Reply::Code(0)]).collect(),
            Asked::Unbind => vec![Reply::Close],
        });
        assert!(log_in(&[&server], "wrong").is_err());
        (server.steps(), server.passwords(), server.decoys())
    };
    let (known, ..) = steps(1);
    assert_eq!(known, ["bind of the service", "search", "bind"]);
    assert_eq!(steps(0), (known.clone(), 0, 1));
    assert_eq!(steps(2), (known, 0, 1));
}

#[test]
fn two_entries_are_refused_also_when_the_server_ignores_the_limit() {
    for count in [2, 3, 50] {
        let server = Scripted::start(move |asked| match asked {
            Asked::Bind(..) => vec![Reply::Code(0)],
            Asked::Search => (0..count).map(|_| PERSON).chain([Reply::Code(0)]).collect(),
            Asked::Unbind => vec![Reply::Close],
        });
        let error = log_in(&[&server], "right").unwrap_err();
        assert!(
            matches!(error, DirectoryError::AmbiguousLogin),
            "{count}: {error}"
        );
        assert_eq!(server.passwords(), 0);
    }
}

#[test]
fn groups_that_were_cut_short_are_an_outage_and_not_fewer_groups() {
    for code in [3, 4, 11, 53, 80] {
        let searches = Mutex::new(0);
        let server = Scripted::start(move |asked| match asked {
            Asked::Bind(..) => vec![Reply::Code(0)],
            Asked::Search => {
                let mut searches = searches.lock().unwrap();
                *searches += 1;
                vec![PERSON, Reply::Code(if *searches == 1 { 0 } else { code })]
            }
            Asked::Unbind => vec![Reply::Close],
        });
        let error = log_in(&[&server], "right").unwrap_err();
        assert!(error.is_outage(), "{code}: {error}");
    }
}

/// What is asked of a server that answers with this after it has found the person.
fn groups_answered(replies: fn() -> Vec<Reply>) -> (DirectoryError, usize) {
    let searches = Mutex::new(0);
    let server = Scripted::start(move |asked| match asked {
        Asked::Bind(..) => vec![Reply::Code(0)],
        Asked::Search => {
            let mut searches = searches.lock().unwrap();
            *searches += 1;
            match *searches {
                1 => vec![PERSON, Reply::Code(0)],
                _ => replies(),
            }
        }
        Asked::Unbind => vec![Reply::Close],
    });
    let (_folder, directories) = directories_within(&[&server], Duration::from_secs(20));
    let error = run(directories.log_in("right")).unwrap_err();
    (error, server.count(&Asked::Search) - 1)
}

/// The end of a page whose control has this value.
fn page(value: &[u8]) -> Reply {
    let value = tlv(0x04, value);
    let control = tlv(0x30, &[text("1.2.840.113556.1.4.319"), value].concat());
    Reply::Operation([tlv(0x65, &result(0)), tlv(0xa0, &control)].concat().leak())
}

#[test]
fn all_pages_together_are_bounded_as_one_answer_is() {
    let (error, asked) = groups_answered(|| {
        let long = tlv(0x04, &vec![0; LDAP_ANSWER_BYTES_MAX / 8]);
        let attribute = tlv(0x30, &[text("cn"), tlv(0x31, &long)].concat());
        let entry = tlv(0x64, &[text("cn=g"), tlv(0x30, &attribute)].concat());
        let next = tlv(0x30, &[tlv(0x02, &[0]), text("more")].concat());
        vec![Reply::Operation(entry.leak()), page(&next)]
    });
    assert!(error.is_outage(), "{error}");
    // On the connection that was kept, and then on another one.
    assert_eq!(asked, 2 * 8, "{error}");
}

#[test]
fn a_page_that_ends_with_nested_elements_is_an_outage_and_ends_nothing() {
    let (error, _asked) = groups_answered(|| {
        // Each level has a header of 6 bytes and all that is inside it.
        let insides = (0..60_000_u32).rev().map(|it| (it * 6).to_be_bytes());
        let nested: Vec<u8> = insides
            .flat_map(|it| [&[0x30, 0x84][..], &it].concat())
            .collect();
        vec![page(&nested)]
    });
    assert!(error.is_outage(), "{error}");
    assert!(
        error.to_string().contains("a malformed page cookie"),
        "{error}"
    );
}

#[test]
fn bytes_that_are_not_ldap_are_an_outage_and_not_a_panic() {
    let nonsense: [&[u8]; 6] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0x30, 0x00],
        &[0x30, 0x05, 0x02, 0x01, 0x01, 0x61, 0x00],
        &[0x30, 0x07, 0x02, 0x01, 0x01, 0x61, 0x02, 0x04, 0x00],
        &[0x30, 0x05, 0x02, 0x01, 0x01, 0x64, 0x00],
        &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x02],
    ];
    for bytes in nonsense {
        let server = Scripted::start(move |_| vec![Reply::Raw(bytes)]);
        let error = log_in(&[&server], "right").unwrap_err();
        assert!(error.is_outage(), "{bytes:?}: {error}");
    }
}

#[test]
fn a_kept_connection_that_the_server_closed_is_replaced() {
    let server = Scripted::start(|asked| match asked {
        Asked::Bind(..) => vec![Reply::Code(0)],
        Asked::Search => vec![PERSON, Reply::Code(0), Reply::Close],
        Asked::Unbind => vec![Reply::Close],
    });
    let (_folder, directories) = directories(&[&server]);
    run(async {
        for _ in 0..3 {
            assert_eq!(directories.log_in("right").await.unwrap().name, "alice");
        }
    });
    assert_eq!(server.passwords(), 3);
}

#[test]
fn the_service_connection_is_kept_between_logins() {
    let server = answering(0);
    let (_folder, directories) = directories(&[&server]);
    run(async {
        for _ in 0..3 {
            directories.log_in("right").await.unwrap();
        }
    });
    let service = Asked::Bind(SERVICE.to_owned(), "secret".to_owned());
    assert_eq!((server.count(&service), server.passwords()), (1, 3));
}

#[test]
fn a_refused_service_principal_is_not_tried_at_every_login() {
    let server = Scripted::start(|_| vec![Reply::Code(49)]);
    let (_folder, directories) = directories(&[&server, &answering(0)]);
    run(async {
        for _ in 0..3 {
            let error = directories.log_in("right").await.unwrap_err();
            assert!(
                matches!(error, DirectoryError::ServiceBind { code: 49, .. }),
                "{error}"
            );
        }
    });
    let service = Asked::Bind(SERVICE.to_owned(), "secret".to_owned());
    assert_eq!(server.count(&service), 1);
}

#[test]
fn who_is_renamed_while_the_groups_are_read_is_read_again() {
    let searches = Mutex::new([0, 0, 32].into_iter());
    let server = Scripted::start(move |asked| match asked {
        Asked::Bind(..) => vec![Reply::Code(0)],
        Asked::Search => match searches.lock().unwrap().next() {
            Some(32) => vec![Reply::Code(32)],
            _ => vec![PERSON, Reply::Code(0)],
        },
        Asked::Unbind => vec![Reply::Close],
    });
    let (_folder, directories) = directories(&[&server]);
    let id = EntryId::new("uuid:6a1b7f0e-0000-4000-8000-000000000001");
    assert!(run(directories.look_up_entry(&id)).is_ok());
    // The entry, its groups by a name that is gone then, and the same once more.
    assert_eq!(server.count(&Asked::Search), 6);
}
