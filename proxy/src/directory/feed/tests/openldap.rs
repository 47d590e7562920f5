//! Content synchronization with OpenLDAP.

use std::fmt::Write as _;
use std::sync::Arc;

use postern_core::principal::EntryId;
use postern_tests::openldap::{BASE_DN, GROUPS_DN, PEOPLE_DN, SERVICE_DN};
use postern_tests::{Certificates, DirectoryServer as _, Member, OpenLdap, Scratch, needs};
use tokio::sync::mpsc;

use super::{Listener, look_up};
use crate::config::{FeedChoice, Ldap, LdapUrl};
use crate::directory::feed::offer::Offer;
use crate::directory::feed::outlet::Outlet;
use crate::directory::feed::place::Place;
use crate::directory::feed::syncrepl::Syncrepl;
use crate::directory::feed::{FeedSource, Notice};
use crate::directory::servers::Servers;
use crate::directory::tests::{ldap_config, run};

struct World {
    directory: OpenLdap,
    config: Ldap,
    /// The folder of everything; it goes last.
    _scratch: Scratch,
}

impl World {
    /// `None` where OpenLDAP is not installed; that is said.
    fn start(test: &str) -> Option<Self> {
        Self::start_with(test, "")
    }

    /// With more lines for the database's configuration.
    fn start_with(test: &str, settings: &str) -> Option<Self> {
        if let Some(why) = needs::missing_for_openldap() {
            needs::skip(test, &why);
            return None;
        }
        let scratch = Scratch::new().unwrap();
        let certificates = Certificates::new(&scratch).unwrap();
        let directory = OpenLdap::start_with(&scratch, &certificates, settings).unwrap();
        let config = Ldap {
            urls: vec![LdapUrl {
                ldaps: true,
                host: "127.0.0.1".to_owned(),
                port: directory.tls_port(),
            }],
            tls_ca_file: Some(directory.ca_file().to_owned()),
            base_dn: BASE_DN.to_owned(),
            group_base_dn: BASE_DN.to_owned(),
            service_dn: SERVICE_DN.to_owned(),
            service_password_file: directory.service_password_file(),
            ..ldap_config()
        };
        Some(Self {
            directory,
            config,
            _scratch: scratch,
        })
    }

    fn id(&self, filter: &str) -> EntryId {
        let found = self.directory.search(filter, &["entryUUID"]).unwrap();
        let uuid = found.lines().find_map(|it| it.strip_prefix("entryUUID: "));
        EntryId::new(format!("uuid:{}", uuid.unwrap()))
    }

    fn change(&self, dn: &str, lines: &str) {
        self.directory
            .ldif(&format!("dn: {dn}\n{lines}\n"))
            .unwrap();
    }

    /// Starts the synchronization at a cookie; what it then says until it has caught up.
    fn resumed_at(&self, cookie: &str, context: Option<&str>) -> (Vec<Notice>, Place) {
        let servers = Servers::new(&self.config).unwrap();
        let (sender, mut receiver) = mpsc::channel(10_000);
        let mut place = Place::default();
        let server: Arc<str> = "it".into();
        place.at_server(&server);
        place.advance(&self.config.base_dn, cookie.as_bytes());
        run(async {
            let connection = servers.open_service(0).await.unwrap();
            let offer = Offer::for_test(context.unwrap_or(BASE_DN));
            let mut outlet = Outlet::new(sender);
            let way_out = (&mut place, &mut outlet);
            let opened = Syncrepl::open(&connection, &self.config, &offer, way_out).await;
            assert!(opened.is_ok(), "{:?}", opened.err());
        });
        let mut told = Vec::new();
        while let Ok(notice) = receiver.try_recv() {
            told.push(notice);
        }
        (told, place)
    }
}

#[test]
fn whatever_changes_is_told_by_the_entrys_identifier() {
    let test = "whatever_changes_is_told_by_the_entrys_identifier";
    let Some(world) = World::start(test) else {
        return;
    };
    let directory = &world.directory;
    directory.add_person("alice", "Secret-alice-42").unwrap();
    directory.add_group("inner").unwrap();
    directory.add_group("outer").unwrap();
    let alice = world.id("(uid=alice)");
    let (inner, outer) = (world.id("(cn=inner)"), world.id("(cn=outer)"));
    let (mut feed, source) = Listener::following(&world.config);
    assert_eq!(source, FeedSource::Syncrepl);

    let member = Member::Person("alice");
    directory.add_member("inner", member).unwrap();
    feed.wait_changed("a member added", &inner);
    directory
        .add_member("outer", Member::Group("inner"))
        .unwrap();
    feed.wait_changed("a group added to a group", &outer);
    directory
        .remove_member("outer", Member::Group("inner"))
        .unwrap();
    feed.wait_changed("a group taken out of a group", &outer);
    directory.remove_member("inner", member).unwrap();
    feed.wait_changed("a member taken out", &inner);
    directory.set_password("alice", "Another-43").unwrap();
    feed.wait_changed("a new password", &alice);
    let dn = OpenLdap::person_dn("alice");
    let lock = "changetype: modify\nadd: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z";
    world.change(&dn, lock);
    feed.wait_changed("an account that is disabled", &alice);
    world.change(
        &dn,
        "changetype: modrdn\nnewrdn: uid=alicia\ndeleteoldrdn: 1",
    );
    let renamed = feed.wait_changed("a person renamed", &alice);
    assert_eq!(renamed, format!("uid=alicia,{PEOPLE_DN}"));
    let there = format!("newsuperior: {GROUPS_DN}");
    let moving = format!("changetype: modrdn\nnewrdn: uid=alicia\ndeleteoldrdn: 1\n{there}");
    world.change(&renamed, &moving);
    let moved = feed.wait_changed("a person moved", &alice);
    assert_eq!(moved, format!("uid=alicia,{GROUPS_DN}"));
    world.change(&moved, "changetype: delete");
    feed.wait_gone("a person deleted", &alice);
    assert_eq!(feed.gaps(), 1, "{:#?}", feed.log);
}

#[test]
fn a_person_moved_out_of_the_base_is_gone() {
    let Some(mut world) = World::start("a_person_moved_out_of_the_base_is_gone") else {
        return;
    };
    let elsewhere = format!("ou=elsewhere,{BASE_DN}");
    world.change(&elsewhere, "objectClass: organizationalUnit");
    world
        .directory
        .add_person("alice", "Secret-alice-42")
        .unwrap();
    world.directory.add_group("staff").unwrap();
    let (alice, staff) = (world.id("(uid=alice)"), world.id("(cn=staff)"));
    // Two bases, and so two searches on one connection.
    world.config.base_dn = PEOPLE_DN.to_owned();
    world.config.group_base_dn = GROUPS_DN.to_owned();
    let (mut feed, _) = Listener::following(&world.config);
    world
        .directory
        .add_member("staff", Member::Person("alice"))
        .unwrap();
    feed.wait_changed("a group in the other base", &staff);
    let moving = format!("newrdn: uid=alice\ndeleteoldrdn: 1\nnewsuperior: {elsewhere}");
    let dn = OpenLdap::person_dn("alice");
    world.change(&dn, &format!("changetype: modrdn\n{moving}"));
    feed.wait_gone("a person out of view", &alice);
}

#[test]
fn a_restart_is_lived_through_without_a_gap_and_without_losing_a_change() {
    let test = "a_restart_is_lived_through_without_a_gap_and_without_losing_a_change";
    let Some(world) = World::start(test) else {
        return;
    };
    let directory = &world.directory;
    directory.add_person("alice", "Secret-alice-42").unwrap();
    let alice = world.id("(uid=alice)");
    let (mut feed, _) = Listener::following(&world.config);
    assert_eq!(feed.gaps(), 1);
    directory.stop().unwrap();
    feed.wait_lost();
    directory.start_again().unwrap();
    assert_eq!(feed.wait_following(), FeedSource::Syncrepl);
    directory.set_password("alice", "Another-43").unwrap();
    feed.wait_changed("a change after the restart", &alice);
    assert_eq!(feed.gaps(), 1, "{:#?}", feed.log);
    // Changed before the feed is back: told by the server's catching up, or as it happens.
    directory.stop().unwrap();
    directory.start_again().unwrap();
    directory.set_password("alice", "Another-44").unwrap();
    feed.wait_changed("a change about the time of the restart", &alice);
}

#[test]
fn a_server_stopped_where_it_is_is_found_out_and_followed_again() {
    let test = "a_server_stopped_where_it_is_is_found_out_and_followed_again";
    let Some(world) = World::start(test) else {
        return;
    };
    world
        .directory
        .add_person("alice", "Secret-alice-42")
        .unwrap();
    let alice = world.id("(uid=alice)");
    let (mut feed, _) = Listener::following(&world.config);
    world.directory.pause().unwrap();
    let error = feed.wait_lost();
    assert!(error.contains("did not answer within"), "{error}");
    world.directory.resume().unwrap();
    assert_eq!(feed.wait_following(), FeedSource::Syncrepl);
    world.directory.set_password("alice", "Another-43").unwrap();
    feed.wait_changed("a change after the pause", &alice);
}

#[test]
fn the_next_server_is_followed_with_a_gap() {
    let Some(mut world) = World::start("the_next_server_is_followed_with_a_gap") else {
        return;
    };
    let dead = LdapUrl {
        ldaps: true,
        host: "127.0.0.1".to_owned(),
        port: 1,
    };
    world.config.urls.insert(0, dead);
    let mut feed = Listener::start(&world.config);
    assert!(feed.wait_lost().contains("127.0.0.1:1 is not reachable"));
    assert_eq!(
        feed.wait_gap(),
        "the feed starts where the directory is now"
    );
    assert_eq!(feed.wait_following(), FeedSource::Syncrepl);
}

#[test]
fn a_large_directory_is_not_read_to_start() {
    let Some(world) = World::start("a_large_directory_is_not_read_to_start") else {
        return;
    };
    let mut people = String::new();
    for number in 0..2_000 {
        let dn = OpenLdap::person_dn(&format!("p{number}"));
        let class = "objectClass: inetOrgPerson";
        let name = format!("uid: p{number}\ncn: p{number}\nsn: p{number}");
        writeln!(people, "dn: {dn}\n{class}\n{name}\n").unwrap();
    }
    world.directory.ldif(&people).unwrap();
    let id = world.id("(uid=p1999)");
    let (mut feed, _) = Listener::following(&world.config);
    world.directory.set_password("p1999", "Another-43").unwrap();
    feed.wait_changed("a change", &id);
    let changes = feed.count(|notice| matches!(notice, Notice::Changed { .. }));
    assert_eq!((changes, feed.gaps()), (1, 1), "{:#?}", feed.log);
}

#[test]
fn a_place_that_the_server_cannot_go_on_from_is_a_gap() {
    let Some(world) = World::start("a_place_that_the_server_cannot_go_on_from_is_a_gap") else {
        return;
    };
    world
        .directory
        .add_person("alice", "Secret-alice-42")
        .unwrap();
    let alice = world.id("(uid=alice)");
    let is_gap = |notice: &Notice| matches!(notice, Notice::Gap { .. });
    // Newer than the server, as after it was restored, and older than all it knows.
    let newer = "rid=000,csn=20991122101600.490944Z#000000#000#000000";
    let (told, place) = world.resumed_at(newer, None);
    assert!(matches!(&*told, [Notice::Gap { .. }]), "{told:?}");
    assert_ne!(place.cookie(BASE_DN), Some(newer.as_bytes()));
    let older = "rid=000,csn=20001122101600.490944Z#000000#000#000000";
    let (told, place) = world.resumed_at(older, None);
    assert!(told.iter().any(is_gap), "{told:?}");
    assert_ne!(place.cookie(BASE_DN), Some(older.as_bytes()));
    let is_alice = |it: &Notice| matches!(it, Notice::Changed { id, .. } if *id == alice);
    assert!(told.iter().any(is_alice), "{told:?}");
}

#[test]
fn more_changes_than_the_server_lets_pass_at_once_are_a_gap() {
    let test = "more_changes_than_the_server_lets_pass_at_once_are_a_gap";
    let Some(world) = World::start_with(test, "sizelimit 3\n") else {
        return;
    };
    let older = "rid=000,csn=20001122101600.490944Z#000000#000#000000";
    let (told, place) = world.resumed_at(older, None);
    assert!(matches!(told.last(), Some(Notice::Gap { .. })), "{told:?}");
    assert_ne!(place.cookie(BASE_DN), Some(older.as_bytes()));
    let (_, source) = Listener::following(&world.config);
    assert_eq!(source, FeedSource::Syncrepl);
}

#[test]
fn what_is_gone_is_named_where_the_server_remembers_it() {
    let test = "what_is_gone_is_named_where_the_server_remembers_it";
    let Some(world) = World::start_with(test, "syncprov-sessionlog 100\n") else {
        return;
    };
    let directory = &world.directory;
    for name in ["alice", "bob"] {
        directory.add_person(name, "Secret-42").unwrap();
    }
    let (alice, bob) = (world.id("(uid=alice)"), world.id("(uid=bob)"));
    let found = directory.search("(dc=corp)", &["contextCSN"]).unwrap();
    let newest = found.lines().find_map(|it| it.strip_prefix("contextCSN: "));
    let cookie = format!("rid=000,csn={}", newest.unwrap());
    directory.remove_person("alice").unwrap();
    directory.set_password("bob", "Another-43").unwrap();
    let (told, _) = world.resumed_at(&cookie, None);
    let gone = Notice::Gone {
        id: alice,
        dn: None,
    };
    let changed = Notice::Changed {
        id: bob,
        dn: OpenLdap::person_dn("bob"),
    };
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.contains(&gone) && told.contains(&changed), "{told:?}");
}

#[test]
fn where_the_newest_change_may_not_be_read_everything_passes_and_nothing_is_told_of_it() {
    let test =
        "where_the_newest_change_may_not_be_read_everything_passes_and_nothing_is_told_of_it";
    let Some(mut world) = World::start(test) else {
        return;
    };
    world
        .directory
        .add_person("alice", "Secret-alice-42")
        .unwrap();
    // An entry that has no such attribute stands for one that may not be read.
    world.config.base_dn = PEOPLE_DN.to_owned();
    world.config.group_base_dn = PEOPLE_DN.to_owned();
    let (told, place) = world.resumed_at("", Some(PEOPLE_DN));
    assert!(matches!(&*told, [Notice::Gap { .. }]), "{told:?}");
    let place = place.cookie(PEOPLE_DN).map(<[u8]>::to_owned).unwrap();
    let (told, _) = world.resumed_at(&String::from_utf8(place).unwrap(), None);
    assert_eq!(told, []);
}

#[test]
fn a_server_that_does_not_synchronize_is_polled() {
    let Some(mut world) = World::start("a_server_that_does_not_synchronize_is_polled") else {
        return;
    };
    // The database of slapd's own state has no provider.
    world.config.base_dn = "cn=monitor".to_owned();
    world.config.group_base_dn = "cn=monitor".to_owned();
    world.config.poll_interval = std::time::Duration::from_millis(50);
    let (mut feed, source) = Listener::following(&world.config);
    assert_eq!(source, FeedSource::Poll);
    for _ in 0..3 {
        assert_eq!(feed.wait_gap(), "the directory tells no changes");
    }
    world.directory.stop().unwrap();
    feed.wait_lost();
}

#[test]
fn a_person_is_found_by_the_identifier_and_what_became_of_them_is_told() {
    let test = "a_person_is_found_by_the_identifier_and_what_became_of_them_is_told";
    let Some(mut world) = World::start(test) else {
        return;
    };
    world.config.base_dn = PEOPLE_DN.to_owned();
    let directory = &world.directory;
    directory.add_person("alice", "Secret-alice-42").unwrap();
    directory.add_group("staff").unwrap();
    directory
        .add_member("staff", Member::Person("alice"))
        .unwrap();
    let (alice, staff) = (world.id("(uid=alice)"), world.id("(cn=staff)"));
    let look_up = |id: &EntryId| look_up(&world.config, id);
    let dn = OpenLdap::person_dn("alice");
    world.change(
        &dn,
        "changetype: modrdn\nnewrdn: uid=alicia\ndeleteoldrdn: 1",
    );
    let person = look_up(&alice).unwrap();
    assert_eq!(
        (&person.principal.id, &*person.principal.name),
        (&alice, "alicia")
    );
    assert_eq!(person.principal.groups.first().unwrap().name, "staff");
    assert_eq!(person.refused_from, None);
    let dn = OpenLdap::person_dn("alicia");
    world.change(
        &dn,
        "changetype: modify\nadd: pwdEndTime\npwdEndTime: 20991231235959Z",
    );
    let from = look_up(&alice).unwrap().refused_from.unwrap();
    let since_1970 = from.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(since_1970.as_secs(), 4_102_444_799);
    let lock = "changetype: modify\nadd: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z";
    world.change(&dn, lock);
    let locked = look_up(&alice).unwrap_err().to_string();
    assert_eq!(locked, "the account is refused: locked out");
    // A group is nobody, and neither is who has moved out of the base.
    assert!(look_up(&staff).unwrap_err().to_string().contains("is gone"));
    let moving = format!("newrdn: uid=alicia\ndeleteoldrdn: 1\nnewsuperior: {GROUPS_DN}");
    world.change(&dn, &format!("changetype: modrdn\n{moving}"));
    assert!(look_up(&alice).unwrap_err().to_string().contains("is gone"));
    directory.stop().unwrap();
    assert!(look_up(&alice).unwrap_err().is_outage());
}

#[test]
fn a_feed_that_is_off_says_nothing_and_ends_with_its_reader() {
    let config = Ldap {
        feed: FeedChoice::Off,
        ..ldap_config()
    };
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "secret").unwrap();
    let config = Ldap {
        service_password_file: file,
        ..config
    };
    let feed = super::Feed::new(&config).unwrap();
    let (sender, mut receiver) = mpsc::channel(1);
    run(async {
        receiver.close();
        feed.follow(sender).await;
        assert_eq!(receiver.recv().await, None);
    });
}
