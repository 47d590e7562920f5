//! The feed against servers that say whatever a test wants them to.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use super::Listener;
use crate::config::{Ldap, LdapUrl};
use crate::directory::feed::{FeedSource, Notice};
use crate::directory::scripted::{Asked, Reply, Scripted};
use crate::directory::tests::ldap_config;

/// The root entry of a server that offers content synchronization.
const ROOT: Reply = Reply::Entry("", &[("supportedControl", "1.3.6.1.4.1.4203.1.9.1.1")]);
/// An intermediate response with the name of Sync Info, 1.3.6.1.4.1.4203.1.9.1.4, without a value.
const EMPTY_INFO: &[u8] = b"\x79\x1a\x80\x181.3.6.1.4.1.4203.1.9.1.4";
/// The same, that says `refreshDelete`: the refresh is done.
const REFRESHED: &[u8] = b"\x79\x1e\x80\x181.3.6.1.4.1.4203.1.9.1.4\x81\x02\xa1\x00";

/// A feed of a server that offers synchronization and answers it so.
fn answered(answer: fn() -> Vec<Reply>) -> (TempDir, Listener) {
    let searches = AtomicUsize::new(0);
    let server = Scripted::start(move |asked| match asked {
        Asked::Bind(..) => {
            searches.store(0, Ordering::Relaxed);
            vec![Reply::Code(0)]
        }
        // The root, the newest change, and then the synchronization.
        Asked::Search => match searches.fetch_add(1, Ordering::Relaxed) {
            0 => vec![ROOT, Reply::Code(0)],
            1 => vec![Reply::Code(32)],
            _ => answer(),
        },
        Asked::Unbind => vec![Reply::Close],
    });
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "secret").unwrap();
    let config = Ldap {
        urls: vec![LdapUrl {
            ldaps: false,
            host: "127.0.0.1".to_owned(),
            port: server.port,
        }],
        service_password_file: file,
        ..ldap_config()
    };
    (folder, Listener::start(&config))
}

#[test]
fn nonsense_loses_the_connection_and_not_the_feed() {
    let nonsense: [fn() -> Vec<Reply>; 6] = [
        || vec![Reply::Entry("uid=a,dc=x", &[])],
        || vec![Reply::Operation(EMPTY_INFO)],
        || vec![Reply::Operation(b"\x79\x02\xa1\x00")],
        || vec![Reply::Operation(b"\x79\x00"), Reply::Close],
        || {
            vec![
                Reply::Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
                Reply::Close,
            ]
        },
        || vec![Reply::Close],
    ];
    for (number, answer) in nonsense.into_iter().enumerate() {
        let (_folder, mut feed) = answered(answer);
        for _ in 0..2 {
            let error = feed.wait_lost();
            assert!(!error.is_empty(), "{number}");
        }
        let told = feed.count(|notice| !matches!(notice, Notice::Lost { .. }));
        assert_eq!(told, 0, "{number}: {:#?}", feed.log);
    }
}

#[test]
fn a_refusal_leads_to_the_poll() {
    for answer in [|| vec![Reply::Code(12)], || vec![Reply::Code(50)]] {
        let (_folder, mut feed) = answered(answer);
        assert_eq!(feed.wait_gap(), "the directory tells no changes");
        assert_eq!(feed.wait_following(), FeedSource::Poll);
    }
}

#[test]
fn a_synchronization_that_ends_is_lost_and_begun_again() {
    let (_folder, mut feed) = answered(|| vec![Reply::Operation(REFRESHED), Reply::Code(52)]);
    assert_eq!(feed.wait_following(), FeedSource::Syncrepl);
    let error = feed.wait_lost();
    assert!(error.contains("result code 52 (unavailable)"), "{error}");
    assert_eq!(feed.wait_following(), FeedSource::Syncrepl);
    // It gave no cookie, so that everybody is compared each time.
    assert_eq!(feed.gaps(), 2, "{:#?}", feed.log);
}
