//! Live sessions, fences and cancel keys.

use std::thread;
use std::time::Duration;

use super::*;

fn key(pid: u32, byte: u8) -> CancelKey {
    CancelKey {
        pid,
        key: vec![byte; 4],
    }
}

fn session(pid: u32) -> LiveSession {
    let address = SocketAddr::from(([127, 0, 0, 1], 5432));
    LiveSession {
        #[expect(clippy::unwrap_used, reason = "a literal that is a valid role name")]
        role: RoleName::new("testuser").unwrap(),
        principal: Arc::new(Principal {
            id: EntryId::new("uuid:1"),
            dn: "uid=testuser".to_owned(),
            name: "testuser".to_owned(),
            groups: Vec::new(),
            version: None,
        }),
        granted: [].into(),
        client: address,
        database: "hr".to_owned(),
        replication: Replication::No,
        target: Target::for_tests(),
        backend: address,
        cancel: Some(CancelKeys {
            client: key(pid, 1),
            backend: key(pid, 9),
        }),
        application_name: None,
        client_tls: None,
        opened: Instant::now(),
        ending: None,
    }
}

/// Through an open door.
fn enter(sessions: &Sessions, id: SessionId) -> Result<(), KeptOut> {
    sessions.open((id, session(7)), Instant::now(), &Door::new())
}

fn roles(names: &[&str]) -> Arc<[RoleName]> {
    names
        .iter()
        .filter_map(|it| RoleName::new(it).ok())
        .collect()
}

#[test]
fn an_answer_from_before_a_loss_opens_no_session() {
    let sessions = Sessions::new(3, SharesMax::default());
    let entry = EntryId::new("uuid:1");
    let (before, after) = (Instant::now(), Instant::now() + Duration::from_secs(1));
    let asking = |granted: &[&str]| LiveSession {
        granted: roles(granted),
        ..session(7)
    };
    let open = |granted: &[&str], asked_at| {
        let id = sessions.identify();
        sessions.open((id, asking(granted)), asked_at, &Door::new())
    };
    assert_eq!(open(&["hr", "it"], before), Ok(()));
    sessions.fence(&entry, before + Duration::from_millis(1), roles(&["it"]));
    assert!(sessions.is_fenced(&entry, before, &roles(&["hr"])));
    assert_eq!(open(&["hr", "it"], before), Err(KeptOut::Lost));
    assert_eq!(open(&["it"], before), Ok(()), "nothing that was lost");
    assert_eq!(open(&["hr", "it"], after), Ok(()), "given back since");
    sessions.fence(&entry, before, roles(&["hr", "it"]));
    assert_eq!(
        open(&["hr"], before),
        Err(KeptOut::Lost),
        "a late word does not outrank a newer one"
    );
    assert_eq!(sessions.count(), 3);
}

#[test]
fn a_drain_has_counted_every_session_that_there_will_be() {
    let (sessions, door) = (Sessions::new(1, SharesMax::default()), Door::new());
    let enter = || {
        let entered = (sessions.identify(), session(7));
        sessions.open(entered, Instant::now(), &door)
    };
    thread::scope(|scope| {
        let logins: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| while enter().is_ok() {}))
            .collect();
        while sessions.count() == 0 {
            thread::yield_now();
        }
        door.drain(None);
        let counted = sessions.count();
        for login in logins {
            assert!(login.join().is_ok());
        }
        assert_eq!(sessions.count(), counted);
    });
    assert_eq!(enter(), Err(KeptOut::Draining));
    assert!(door.resume());
    assert_eq!(enter(), Ok(()));
}

#[test]
fn who_ended_a_session_first_is_on_its_record() {
    let sessions = Sessions::new(2, SharesMax::default());
    let id = sessions.identify();
    assert_eq!(enter(&sessions, id), Ok(()));
    let (first, second) = (Arc::from(*b"first"), Arc::from(*b"second"));
    assert_eq!(sessions.end(Ending::Revoked, &first, |_, _| true), [id]);
    assert_eq!(sessions.end(Ending::Ended, &second, |_, _| true), []);
    assert_eq!(sessions.goodbye_of(id).as_deref(), Some(&b"first"[..]));
    let closed = sessions.close(id).and_then(|it| it.ending);
    assert_eq!(closed, Some((Ending::Revoked, first)));
}

#[test]
fn a_cancel_key_leads_to_its_backend_until_the_session_closes() {
    let sessions = Sessions::new(2, SharesMax::default());
    let id = sessions.identify();
    assert_eq!(enter(&sessions, id), Ok(()));
    let found = sessions.to_cancel(&key(7, 1)).map(|it| it.key);
    assert_eq!(found, Some(key(7, 9)));
    for wrong in [key(7, 2), key(8, 1), key(7, 9)] {
        assert!(sessions.to_cancel(&wrong).is_none(), "{wrong:?}");
    }
    assert!(sessions.close(id).is_some());
    assert!(sessions.to_cancel(&key(7, 1)).is_none());
    assert_eq!(sessions.count(), 0);
}

#[test]
fn every_client_gets_a_key_of_its_own_as_long_as_its_protocol_wants() {
    for bytes in [4, 32] {
        let issue = || CancelKeys::issue(key(7, 9), bytes);
        let (one, other) = (issue(), issue());
        assert_eq!((one.client.pid, one.client.key.len()), (7, bytes));
        assert_eq!(one.backend, key(7, 9));
        assert_ne!(one.client, one.backend);
        assert_ne!(one.client, other.client);
    }
}

#[test]
fn no_log_can_show_a_cancel_key() {
    let key = CancelKey {
        pid: 7,
        key: vec![201, 202, 203, 204],
    };
    assert_eq!(format!("{key:?}"), "CancelKey { pid: 7, .. }");
}

#[test]
fn a_key_that_two_sessions_happen_to_share_cancels_neither() {
    let sessions = Sessions::new(2, SharesMax::default());
    let (old, new) = (sessions.identify(), sessions.identify());
    for id in [old, new] {
        assert_eq!(enter(&sessions, id), Ok(()));
    }
    assert!(sessions.to_cancel(&key(7, 1)).is_none());
    sessions.close(old);
    assert!(sessions.to_cancel(&key(7, 1)).is_none());
}

#[test]
fn no_more_places_than_the_limit_are_given_out() {
    let sessions = Sessions::new(1, SharesMax::default());
    let place = sessions.reserve();
    assert!(place.is_some());
    assert!(sessions.reserve().is_none());
    drop(place);
    assert!(sessions.reserve().is_some());
}

#[test]
fn a_person_who_was_looked_at_since_a_question_is_known_to_have_been() {
    let sessions = Sessions::new(1, SharesMax::default());
    let (entry, before) = (EntryId::new("uuid:1"), Instant::now());
    assert!(!sessions.was_looked_at(&entry, before));
    sessions.fence(&entry, before + Duration::from_secs(1), roles(&["hr"]));
    assert!(sessions.was_looked_at(&entry, before));
    assert!(!sessions.was_looked_at(&entry, before + Duration::from_secs(2)));
    assert!(!sessions.was_looked_at(&EntryId::new("uuid:2"), before));
}
