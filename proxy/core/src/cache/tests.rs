//! Tests of the rules: every age, every password, every answer of the directory.

use std::hash::DefaultHasher;

use super::*;
use crate::principal::EntryId;
use proptest::prelude::*;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn alice() -> Arc<Principal> {
    Arc::new(Principal {
        id: EntryId::new("uuid:1"),
        dn: "uid=alice".to_owned(),
        name: "alice".to_owned(),
        groups: Vec::new(),
        version: None,
    })
}

fn digest(password: &str) -> PasswordDigest {
    DigestKey::new([7; 32]).digest("alice", password.as_bytes())
}

fn entry() -> Entry {
    Entry::new(digest("right"), alice(), s(1_000))
}

fn decide(entry: &Entry, now: Duration, password: &str) -> Decision {
    entry.decide(&Policy::default(), now, &digest(password))
}

#[test]
fn a_digest_is_of_one_login_one_password_and_one_key() {
    let key = DigestKey::new([1; 32]);
    assert_eq!(key.digest("a", b"b"), key.digest("a", b"b"));
    for other in [
        key.digest("a", b"c"),
        key.digest("b", b"b"),
        key.digest("ab", b""),
    ] {
        assert_ne!(key.digest("a", b"b"), other);
    }
    assert_ne!(
        key.digest("a", b"b"),
        DigestKey::new([2; 32]).digest("a", b"b")
    );
    assert_eq!(
        format!("{:?} {:?}", key, key.digest("a", b"b")),
        "DigestKey PasswordDigest"
    );
}

#[test]
fn the_right_password_is_fresh_then_rechecked_then_dead() {
    for (now, expected) in [
        (s(0), Decision::Fresh(alice())),
        (s(1_000), Decision::Fresh(alice())),
        (s(1_060) - Duration::from_nanos(1), Decision::Fresh(alice())),
        (s(1_060), Decision::Recheck),
        (s(1_900) - Duration::from_nanos(1), Decision::Recheck),
        (s(1_900), Decision::Dead),
        (Duration::MAX, Decision::Dead),
    ] {
        assert_eq!(decide(&entry(), now, "right"), expected, "{now:?}");
    }
}

#[test]
fn a_search_without_a_bind_freshens_and_does_not_prolong() {
    let mut kept = entry();
    for now in (1_030..1_900).step_by(30) {
        assert_eq!(decide(&kept, s(now), "right"), Decision::Fresh(alice()));
        kept = kept.looked_up(alice(), s(now));
    }
    assert_eq!(decide(&kept, s(1_900), "right"), Decision::Dead);
    assert_eq!(
        decide(
            &Entry::new(digest("right"), alice(), s(1_900)),
            s(1_900),
            "right"
        ),
        Decision::Fresh(alice())
    );
}

#[test]
fn a_wrong_password_does_not_end_the_right_one() {
    let entry = entry();
    assert_eq!(decide(&entry, s(1_059), "guess"), Decision::OtherPassword);
    assert_eq!(decide(&entry, s(1_059), "right"), Decision::Fresh(alice()));
    assert_eq!(decide(&entry, s(1_060), "guess"), Decision::OtherPassword);
    assert_eq!(decide(&entry, s(1_060), "right"), Decision::Recheck);
    assert!(entry.survives(Refusal::WrongPassword, &digest("guess"), s(1_060)));
}

#[test]
fn a_new_password_replaces_the_entry_and_the_old_one_dies_with_it() {
    let replacement = Entry::new(digest("new"), alice(), s(1_010));
    assert!(replacement.supersedes(&entry()));
    assert_eq!(
        decide(&replacement, s(1_011), "new"),
        Decision::Fresh(alice())
    );
    assert_eq!(
        decide(&replacement, s(1_011), "right"),
        Decision::OtherPassword
    );
    // The answer to the old password, asked before and arriving after, is not kept.
    assert!(!entry().supersedes(&replacement));
    assert!(
        !entry()
            .looked_up(alice(), s(1_020))
            .supersedes(&replacement)
    );
}

#[test]
fn of_one_bind_the_later_look_stays() {
    let later = entry().looked_up(alice(), s(1_020));
    assert_eq!((later.bound_at(), later.checked_at()), (s(1_000), s(1_020)));
    assert!(later.supersedes(&entry()));
    assert!(!entry().supersedes(&later));
    assert!(later.supersedes(&later));
}

#[test]
fn other_passwords_are_found_in_other_places_of_a_table() {
    let hash = |password| {
        let mut hasher = DefaultHasher::new();
        digest(password).hash(&mut hasher);
        hasher.finish()
    };
    assert_eq!(hash("right"), hash("right"));
    assert_ne!(hash("right"), hash("wrong"));
}

#[test]
fn a_refusal_of_the_remembered_password_or_of_the_account_ends_the_entry() {
    for (refusal, word, asked_at, survives) in [
        (Refusal::WrongPassword, "right", s(1_060), false),
        (Refusal::WrongPassword, "guess", s(1_060), true),
        (Refusal::UnknownLogin, "guess", s(1_060), false),
        (Refusal::AccountRefused, "guess", s(1_060), false),
        // The refusal is older than the success that made the entry.
        (Refusal::WrongPassword, "right", s(999), true),
        (Refusal::AccountRefused, "right", s(999), true),
        (Refusal::AccountRefused, "right", s(1_000), false),
    ] {
        assert_eq!(
            entry().survives(refusal, &digest(word), asked_at),
            survives,
            "{refusal:?}"
        );
    }
}

#[test]
fn during_an_outage_the_right_password_is_good_until_stale() {
    let policy = Policy::default();
    let outage = |entry: &Entry, now, word| entry.during_outage(&policy, now, &digest(word));
    assert_eq!(outage(&entry(), s(1_089), "right"), Outage::Use(alice()));
    assert_eq!(outage(&entry(), s(1_090), "right"), Outage::Stale);
    assert_eq!(outage(&entry(), s(1_001), "guess"), Outage::OtherPassword);
    let checked = entry().looked_up(alice(), s(1_890));
    assert_eq!(outage(&checked, s(1_899), "right"), Outage::Use(alice()));
    assert_eq!(outage(&checked, s(1_900), "right"), Outage::Stale);
}

#[test]
fn a_refused_password_is_refused_from_memory_for_a_while() {
    let policy = Policy::default();
    let negative = Negative::new(Refusal::WrongPassword, s(10));
    assert_eq!(negative.holds(&policy, s(69)), Some(Refusal::WrongPassword));
    assert_eq!(negative.holds(&policy, s(70)), None);
}

proptest! {
    #[test]
    fn no_sequence_of_use_makes_an_entry_live_longer(
        uses in prop::collection::vec(0u64..2_000, 0..40),
    ) {
        let policy = Policy::default();
        let entry = entry();
        let mut now = s(1_000);
        for wait in uses {
            now += s(wait);
            let age = now - s(1_000);
            let decision = entry.decide(&policy, now, &digest("right"));
            prop_assert_eq!(matches!(decision, Decision::Fresh(_)), age < policy.recheck);
            prop_assert_eq!(decision == Decision::Dead, age >= policy.dead);
        }
    }
}
