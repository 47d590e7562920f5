//! Change notification and DirSync with Samba as a domain controller.

use std::time::Duration;

use postern_core::principal::EntryId;
use postern_tests::samba::{BASE_DN, SERVICE_LOGIN, TLS_PORT, USERS_DN};
use postern_tests::{Certificates, DirectoryServer as _, Member, Samba, Scratch, needs};

use super::{Listener, look_up};
use crate::config::{FeedChoice, Ldap, LdapFlavor, LdapUrl, NestedStrategy};
use crate::directory::feed::{FeedSource, Notice};
use crate::directory::tests::ldap_config;

struct World {
    directory: Samba,
    config: Ldap,
    /// The folder of everything; it goes last.
    _scratch: Scratch,
}

impl World {
    /// `None` where Samba cannot be started; that is said.
    fn start(test: &str) -> Option<Self> {
        if let Some(why) = needs::missing_for_samba() {
            needs::skip(test, &why);
            return None;
        }
        let scratch = Scratch::new().unwrap();
        let certificates = Certificates::new(&scratch).unwrap();
        let directory = Samba::start(&scratch, &certificates).unwrap();
        let config = Ldap {
            urls: vec![LdapUrl {
                ldaps: true,
                host: directory.address().to_string(),
                port: TLS_PORT,
            }],
            tls_ca_file: Some(directory.ca_file().to_owned()),
            flavor: LdapFlavor::ActiveDirectory,
            base_dn: USERS_DN.to_owned(),
            group_base_dn: BASE_DN.to_owned(),
            service_dn: SERVICE_LOGIN.to_owned(),
            service_password_file: directory.service_password_file(),
            login_filter: "(&(objectClass=user)(sAMAccountName={login}))".to_owned(),
            name_attribute: "sAMAccountName".to_owned(),
            id_attribute: "objectGUID".to_owned(),
            group_class_filter: "(objectClass=group)".to_owned(),
            group_name_attribute: "sAMAccountName".to_owned(),
            nested_strategy: NestedStrategy::InChain,
            ..ldap_config()
        };
        Some(Self {
            directory,
            config,
            _scratch: scratch,
        })
    }

    fn id(&self, name: &str) -> EntryId {
        let filter = format!("(sAMAccountName={name})");
        let found = self.directory.search(&filter, &["objectGUID"]).unwrap();
        let text = found
            .lines()
            .find_map(|it| it.strip_prefix("objectGUID:: "));
        let bytes = decoded(text.unwrap());
        let part = |range: std::ops::Range<usize>, reversed: bool| {
            let mut bytes = bytes.get(range).unwrap().to_vec();
            if reversed {
                bytes.reverse();
            }
            bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()
        };
        EntryId::new(format!(
            "guid:{}-{}-{}-{}-{}",
            part(0..4, true),
            part(4..6, true),
            part(6..8, true),
            part(8..10, false),
            part(10..16, false)
        ))
    }

    fn change(&self, dn: &str, lines: &str) {
        self.directory
            .ldif(&format!("dn: {dn}\n{lines}\n"))
            .unwrap();
    }
}

fn decoded(base64: &str) -> Vec<u8> {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    engine.decode(base64).unwrap()
}

/// Everything that decides about access, but a deletion; the person and where it is in the end.
fn changes_are_told(world: &World, feed: &mut Listener) -> (EntryId, String) {
    let directory = &world.directory;
    directory.add_person("alice", "Secret-alice-42").unwrap();
    directory.add_group("inner").unwrap();
    directory.add_group("outer").unwrap();
    let alice = world.id("alice");
    let (inner, outer) = (world.id("inner"), world.id("outer"));
    feed.wait_changed("a person added", &alice);

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
    directory.set_password("alice", "Another-43-alice").unwrap();
    feed.wait_changed("a new password", &alice);
    directory.tool(&["user", "disable", "alice"]).unwrap();
    feed.wait_changed("an account that is disabled", &alice);
    let dn = Samba::dn("alice");
    let expiry = "changetype: modify\nreplace: accountExpires\naccountExpires: 133444736000000000";
    world.change(&dn, expiry);
    feed.wait_changed("an account that expires", &alice);
    world.change(
        &dn,
        "changetype: modrdn\nnewrdn: CN=alicia\ndeleteoldrdn: 1",
    );
    let renamed = feed.wait_changed("a person renamed", &alice);
    assert_eq!(renamed, Samba::dn("alicia"));
    let there = format!("newsuperior: OU=Domain Controllers,{BASE_DN}");
    let moving = format!("changetype: modrdn\nnewrdn: CN=alicia\ndeleteoldrdn: 1\n{there}");
    world.change(&renamed, &moving);
    let moved = feed.wait_changed("a person moved out of the base", &alice);
    assert_eq!(moved, format!("CN=alicia,OU=Domain Controllers,{BASE_DN}"));
    (alice, moved)
}

#[test]
fn an_ordinary_account_is_told_all_but_deletions_and_those_are_looked_for() {
    let test = "an_ordinary_account_is_told_all_but_deletions_and_those_are_looked_for";
    let Some(mut world) = World::start(test) else {
        return;
    };
    world.config.poll_interval = Duration::from_secs(600);
    let (mut feed, source) = Listener::following(&world.config);
    assert_eq!(source, FeedSource::Notification);
    let (_, dn) = changes_are_told(&world, &mut feed);
    assert_eq!(feed.gaps(), 1, "{:#?}", feed.log);
    drop(feed);
    world.config.poll_interval = Duration::from_millis(500);
    let (mut feed, _) = Listener::following(&world.config);
    world.change(&dn, "changetype: delete");
    assert_eq!(feed.wait_gap(), "not every change is told");
}

#[test]
fn an_account_that_may_see_deletions_is_told_them_too() {
    let Some(world) = World::start("an_account_that_may_see_deletions_is_told_them_too") else {
        return;
    };
    world.directory.show_deletions().unwrap();
    let (mut feed, source) = Listener::following(&world.config);
    assert_eq!(source, FeedSource::Notification);
    let (alice, dn) = changes_are_told(&world, &mut feed);
    world.change(&dn, "changetype: delete");
    feed.wait_gone("a person deleted", &alice);
    assert_eq!(feed.gaps(), 1, "{:#?}", feed.log);
}

#[test]
fn a_person_is_found_by_the_identifier_and_what_became_of_them_is_told() {
    let test = "a_person_is_found_by_the_identifier_and_what_became_of_them_is_told";
    let Some(world) = World::start(test) else {
        return;
    };
    let directory = &world.directory;
    directory.add_person("alice", "Secret-alice-42").unwrap();
    let alice = world.id("alice");
    let look_up = |id: &EntryId| look_up(&world.config, id);
    let (dn, renamed) = (Samba::dn("alice"), Samba::dn("alicia"));
    world.change(
        &dn,
        "changetype: modrdn\nnewrdn: CN=alicia\ndeleteoldrdn: 1",
    );
    let person = look_up(&alice).unwrap();
    assert_eq!(
        (&person.principal.id, &person.principal.dn),
        (&alice, &renamed)
    );
    // The password's own end, by the domain's default policy of 42 days.
    let from = person.refused_from.unwrap();
    let left = from.duration_since(std::time::SystemTime::now()).unwrap();
    assert_eq!(left.as_secs() / 86_400, 41);
    let replace = |line: &str| {
        let (name, _) = line.split_once(':').unwrap();
        let change = format!("changetype: modify\nreplace: {name}\n{line}");
        world.change(&renamed, &change);
        look_up(&alice).unwrap_err().to_string()
    };
    let expired = replace("accountExpires: 133444736000000000");
    assert_eq!(expired, "the account is refused: account expired");
    let must_change = {
        world.change(
            &renamed,
            "changetype: modify\nreplace: accountExpires\naccountExpires: 0",
        );
        replace("pwdLastSet: 0")
    };
    assert_eq!(must_change, "the account is refused: password expired");
    let disabled = replace("userAccountControl: 514");
    assert_eq!(disabled, "the account is refused: disabled");
    world.change(&renamed, "changetype: delete");
    assert!(look_up(&alice).unwrap_err().to_string().contains("is gone"));
    assert!(
        look_up(&world.id("Domain Users"))
            .unwrap_err()
            .to_string()
            .contains("is gone")
    );
}

#[test]
fn what_a_login_writes_is_not_told() {
    let Some(world) = World::start("what_a_login_writes_is_not_told") else {
        return;
    };
    world
        .directory
        .add_person("alice", "Secret-alice-42")
        .unwrap();
    let alice = world.id("alice");
    let (mut feed, _) = Listener::following(&world.config);
    let seen = "changetype: modify\nreplace: description\ndescription: seen";
    world.change(&Samba::dn("alice"), seen);
    world.directory.add_group("later").unwrap();
    feed.wait_changed("a group", &world.id("later"));
    let told = feed.count(|it| matches!(it, Notice::Changed { id, .. } if *id == alice));
    assert_eq!(told, 0, "{:#?}", feed.log);
}

#[test]
fn what_happens_while_the_feed_is_away_is_told_without_a_gap() {
    let test = "what_happens_while_the_feed_is_away_is_told_without_a_gap";
    let Some(world) = World::start(test) else {
        return;
    };
    world.directory.show_deletions().unwrap();
    world
        .directory
        .add_person("alice", "Secret-alice-42")
        .unwrap();
    world.directory.add_person("bob", "Secret-bob-42").unwrap();
    let (alice, bob) = (world.id("alice"), world.id("bob"));
    let (mut feed, _) = Listener::following(&world.config);
    world.directory.stop().unwrap();
    feed.wait_lost();
    // On the data itself, while nobody can be told.
    world.directory.tool(&["user", "disable", "alice"]).unwrap();
    world.directory.tool(&["user", "delete", "bob"]).unwrap();
    world.directory.start_again().unwrap();
    // In whatever order the server tells them.
    let (mut changed, mut gone) = (false, false);
    feed.wait("what happened meanwhile", |notice| {
        changed |= matches!(notice, Notice::Changed { id, .. } if *id == alice);
        gone |= matches!(notice, Notice::Gone { id, .. } if *id == bob);
        (changed && gone).then_some(())
    });
    assert_eq!(feed.gaps(), 1, "{:#?}", feed.log);
    // And hung: found out, and followed again.
    assert_eq!(feed.wait_following(), FeedSource::Notification);
    world.directory.pause().unwrap();
    let error = feed.wait_lost();
    assert!(error.contains("did not answer within"), "{error}");
    world.directory.resume().unwrap();
    assert_eq!(feed.wait_following(), FeedSource::Notification);
    assert_eq!(feed.gaps(), 1, "{:#?}", feed.log);
}

#[test]
fn dirsync_alone_tells_within_its_interval() {
    let Some(mut world) = World::start("dirsync_alone_tells_within_its_interval") else {
        return;
    };
    world.config.feed = FeedChoice::DirSync;
    world
        .directory
        .add_person("alice", "Secret-alice-42")
        .unwrap();
    let alice = world.id("alice");
    let (mut feed, source) = Listener::following(&world.config);
    assert_eq!(source, FeedSource::DirSync);
    world.directory.tool(&["user", "disable", "alice"]).unwrap();
    feed.wait_changed("an account that is disabled", &alice);
}
