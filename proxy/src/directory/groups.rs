//! Which groups an entry is in, and by which way.
//!
//! Groups are found by who lists the entry (`member`), as the service principal, never by the
//! entry's own claim: only what lies under `group_base_dn` and satisfies `group_class_filter`
//! counts. `memberOf` serves only to tell the way to a group that was found.

use std::collections::{HashMap, HashSet, VecDeque};

use ldap3::Scope;
use postern_core::directory::entry::Entry;
use postern_core::directory::identifier::sid_text;
use postern_core::limits::GROUPS_PER_PRINCIPAL_MAX;
use postern_core::login_name::escape_filter;
use postern_core::principal::Group;

use super::connection::{Connection, Query};
use super::error::DirectoryError;
use crate::config::{Ldap, LdapFlavor, NestedStrategy};
use crate::limits::{
    GROUP_MEMBERS_COUNTED_MAX, LDAP_ENTRIES_MAX, NESTED_DEPTH_MAX, WALK_BATCH_DNS_MAX,
};

/// Active Directory's rule that follows a linked attribute through all levels,
/// `LDAP_MATCHING_RULE_IN_CHAIN` (MS-ADTS, 3.1.1.3.4.4.3).
const IN_CHAIN: &str = ":1.2.840.113556.1.4.1941:";

/// The groups of `person`: direct, and nested where configured; the primary group counts.
///
/// # Errors
///
/// [`DirectoryError`]; never an incomplete list. Nesting beyond [`NESTED_DEPTH_MAX`] levels is not
/// followed by the walk, and said so in the log.
pub(super) async fn of(
    connection: &mut Connection,
    config: &Ldap,
    person: &Entry,
) -> Result<Vec<Group>, DirectoryError> {
    let sid = person.primary_group_sid();
    let mut found = Found::default();
    let primary = if config.nested {
        primary_group(connection, config, sid.as_deref()).await?
    } else {
        None
    };
    if let Some(primary) = &primary {
        found.add_start(config, primary);
    }
    let starts: Vec<&str> = [person.dn.as_str()]
        .into_iter()
        .chain(primary.iter().map(|p| p.dn.as_str()))
        .collect();
    if config.nested && config.nested_strategy == NestedStrategy::InChain {
        let filter = filter(config, IN_CHAIN, &starts, sid.as_deref());
        let groups = search(connection, config, &filter, &[]).await?;
        found.direct.extend(person.texts("memberOf").map(key));
        found.add(config, &groups);
    } else {
        let filter = filter(config, "", &[&person.dn], sid.as_deref());
        let direct = search(connection, config, &filter, &[&person.dn]).await?;
        found
            .direct
            .extend(direct.iter().map(|group| key(&group.dn)));
        let mut frontier = found.add(config, &direct);
        frontier.extend(
            primary
                .map(|p| p.dn)
                .filter(|dn| !found.seen.contains(&key(dn))),
        );
        if config.nested {
            walk(connection, config, &mut frontier, &mut found).await?;
        }
    }
    if found.is_too_many() {
        let groups_max = GROUPS_PER_PRINCIPAL_MAX;
        return Err(DirectoryError::TooManyGroups {
            dn: person.dn.clone(),
            groups_max,
        });
    }
    Ok(found.into_groups())
}

/// How many members a group has, nested ones not counted, up to [`GROUP_MEMBERS_COUNTED_MAX`].
///
/// Active Directory gives the members of a large group in ranges of 1,500; they are asked for one
/// after the other.
///
/// # Errors
///
/// [`DirectoryError`] when a part cannot be read.
pub(super) async fn members_of(
    connection: &mut Connection,
    config: &Ldap,
    group_dn: &str,
) -> Result<usize, DirectoryError> {
    let attribute = &config.group_member_attribute;
    let (mut count, mut asked) = (0, attribute.clone());
    loop {
        let query = Query {
            base: group_dn,
            scope: Scope::Base,
            filter: "(objectClass=*)",
            attributes: &[&asked],
            matched_values: None,
        };
        let entries = connection.search_some(&query, 1).await?;
        let Some(entry) = entries.first() else {
            return Ok(count);
        };
        let Some((values, next)) = entry.range(attribute) else {
            return Ok(count + entry.values(attribute).len());
        };
        count += values.len();
        match next {
            Some(next) if !values.is_empty() && count < GROUP_MEMBERS_COUNTED_MAX => {
                asked = format!("{attribute};range={next}-*");
            }
            Some(_) | None => return Ok(count),
        }
    }
}

/// A DN in the form in which two spellings by one server are compared: without case.
pub(super) fn key(dn: &str) -> String {
    dn.to_lowercase()
}

/// The group with this SID, wherever it is; `None` when the server does not find it: then only
/// the groups of which it is a member are missing.
async fn primary_group(
    connection: &mut Connection,
    config: &Ldap,
    sid: Option<&[u8]>,
) -> Result<Option<Entry>, DirectoryError> {
    let Some(sid) = sid.and_then(sid_text) else {
        return Ok(None);
    };
    let base = format!("<SID={sid}>");
    let query = Query {
        base: &base,
        scope: Scope::Base,
        filter: "(objectClass=*)",
        attributes: &[&config.group_name_attribute, "memberOf"],
        matched_values: None,
    };
    match connection.search_some(&query, 1).await {
        Ok(entries) => Ok(entries.into_iter().next()),
        Err(error @ DirectoryError::Refused { .. }) if !error.is_transport() => {
            tracing::warn!(%sid, %error, "the primary group's nesting is not known");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Level by level: the groups that list a group of the level before. A group is visited once, so
/// that a cycle ends.
async fn walk(
    connection: &mut Connection,
    config: &Ldap,
    frontier: &mut Vec<String>,
    found: &mut Found,
) -> Result<(), DirectoryError> {
    for _ in 0..NESTED_DEPTH_MAX {
        let mut next = Vec::new();
        for batch in frontier.chunks(WALK_BATCH_DNS_MAX) {
            let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
            let filter = filter(config, "", &batch, None);
            let groups = search(connection, config, &filter, &batch).await?;
            if let [only] = batch.as_slice() {
                found
                    .edges
                    .extend(groups.iter().map(|g| (key(only), key(&g.dn))));
            }
            next.extend(found.add(config, &groups));
            if found.is_too_many() {
                return Ok(());
            }
        }
        *frontier = next;
        if frontier.is_empty() {
            return Ok(());
        }
    }
    tracing::warn!(groups = ?frontier, "groups are nested deeper than the walk follows");
    Ok(())
}

/// One search for groups. Of the members only `members` are wanted, to learn who led here.
async fn search(
    connection: &mut Connection,
    config: &Ldap,
    filter: &str,
    members: &[&str],
) -> Result<Vec<Entry>, DirectoryError> {
    let mut attributes = vec![config.group_name_attribute.as_str(), "memberOf"];
    // The control leaves out every value that no item asks for, the name's too.
    let mut wanted = format!("(({}=*)(memberOf=*)", config.group_name_attribute);
    wanted.extend(members.iter().map(|dn| member_is(config, "", dn)));
    wanted.push(')');
    // Without the control the whole list of members would come, which Active Directory does not
    // know; it has `memberOf` on every group instead.
    let by_values = config.flavor == LdapFlavor::OpenLdap && !members.is_empty();
    if by_values {
        attributes.push(&config.group_member_attribute);
    }
    let query = Query {
        base: &config.group_base_dn,
        scope: Scope::Subtree,
        filter,
        attributes: &attributes,
        matched_values: by_values.then_some(wanted.as_str()),
    };
    connection.search_all(&query).await
}

/// Groups that list one of `members`, or have the SID.
fn filter(config: &Ldap, rule: &str, members: &[&str], sid: Option<&[u8]>) -> String {
    let mut any: String = members
        .iter()
        .map(|dn| member_is(config, rule, dn))
        .collect();
    any.extend(sid.map(sid_is));
    format!("(&{}(|{any}))", config.group_class_filter)
}

fn member_is(config: &Ldap, rule: &str, dn: &str) -> String {
    format!(
        "({}{rule}={})",
        config.group_member_attribute,
        escape_filter(dn)
    )
}

fn sid_is(sid: &[u8]) -> String {
    let escaped: String = sid.iter().map(|byte| format!("\\{byte:02x}")).collect();
    format!("(objectSid={escaped})")
}

/// What was found so far. All keys are [`key`]s of DNs.
#[derive(Debug, Default)]
struct Found {
    /// Name and DN by key.
    groups: HashMap<String, (String, String)>,
    /// The name of the primary group by key, when it may not count: a way may lead through it.
    start: Option<(String, String)>,
    /// All that were found, those without a usable name included.
    seen: HashSet<String>,
    /// A search found so many entries that it stopped: there may be others, even where these are
    /// few groups, told more than once.
    is_cut_short: bool,
    /// The person is a member of these.
    direct: HashSet<String>,
    /// The first is a member of the second.
    edges: HashSet<(String, String)>,
}

impl Found {
    /// Takes in what a search found; returns the DNs of the groups that are new.
    fn add(&mut self, config: &Ldap, entries: &[Entry]) -> Vec<String> {
        let mut new = Vec::new();
        self.is_cut_short |= entries.len() > LDAP_ENTRIES_MAX;
        for entry in entries {
            let this = key(&entry.dn);
            for parent in entry.texts("memberOf") {
                self.edges.insert((this.clone(), key(parent)));
            }
            for member in entry.texts(&config.group_member_attribute) {
                self.edges.insert((key(member), this.clone()));
            }
            if !self.seen.insert(this.clone()) {
                continue;
            }
            new.push(entry.dn.clone());
            if let Some(name) = entry.name(&config.group_name_attribute) {
                self.groups
                    .insert(this, (name.to_owned(), entry.dn.clone()));
            } else {
                tracing::warn!(dn = %entry.dn, "a group without a single name is left out");
            }
        }
        new
    }

    /// These are more than a person may have, or not all.
    fn is_too_many(&self) -> bool {
        self.is_cut_short || self.seen.len() > GROUPS_PER_PRINCIPAL_MAX
    }

    /// Takes in the primary group, of which the person is a member without being listed.
    fn add_start(&mut self, config: &Ldap, entry: &Entry) {
        let this = key(&entry.dn);
        self.edges.extend(
            entry
                .texts("memberOf")
                .map(|parent| (this.clone(), key(parent))),
        );
        self.direct.insert(this.clone());
        let name = entry
            .name(&config.group_name_attribute)
            .unwrap_or(&entry.dn);
        self.start = Some((this, name.to_owned()));
    }

    /// What a group on the way is called.
    fn name_of(&self, key: &str) -> Option<&str> {
        let start = self
            .start
            .as_ref()
            .filter(|(k, _)| k == key)
            .map(|(_, name)| name);
        self.groups
            .get(key)
            .map(|(name, _)| name)
            .or(start)
            .map(String::as_str)
    }

    /// The groups in order of name, each with the shortest way to it.
    fn into_groups(self) -> Vec<Group> {
        let mut parents: HashMap<&str, Vec<&str>> = HashMap::new();
        for (child, parent) in &self.edges {
            parents.entry(child).or_default().push(parent);
        }
        // Of two ways of one length the first by name is shown, so that the answer is the same
        // every time.
        parents.values_mut().for_each(|list| list.sort_unstable());
        let mut direct: Vec<&str> = self.direct.iter().map(String::as_str).collect();
        direct.sort_unstable();
        let mut reached_from: HashMap<&str, Option<&str>> = HashMap::new();
        let mut queue = VecDeque::new();
        for start in direct.into_iter().filter(|k| self.name_of(k).is_some()) {
            reached_from.insert(start, None);
            queue.push_back(start);
        }
        while let Some(child) = queue.pop_front() {
            for parent in parents.get(child).into_iter().flatten().copied() {
                if self.groups.contains_key(parent) && !reached_from.contains_key(parent) {
                    reached_from.insert(parent, Some(child));
                    queue.push_back(parent);
                }
            }
        }
        let mut groups: Vec<Group> = self
            .groups
            .iter()
            .map(|(this, (name, dn))| Group {
                name: name.clone(),
                dn: dn.clone(),
                path: self.path(this, &reached_from),
                direct: self.direct.contains(this),
            })
            .collect();
        groups.sort_unstable();
        groups
    }

    /// The names of the groups on the way to `this`, nearest to the person first.
    fn path(&self, this: &str, reached_from: &HashMap<&str, Option<&str>>) -> Vec<String> {
        let mut path = Vec::new();
        let mut at = this;
        while let Some(Some(child)) = reached_from.get(at) {
            path.extend(self.name_of(child).map(str::to_owned));
            at = child;
        }
        path.reverse();
        path
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::directory::tests::ldap_config;

    fn group(name: &str, members: &[&str]) -> Entry {
        let dn = format!("cn={name},dc=x");
        let members = members.iter().map(|m| format!("CN={m},DC=x"));
        Entry::new(dn).with("cn", [name]).with("member", members)
    }

    fn resolve(direct: &[&str], entries: &[Entry]) -> Vec<(String, bool, Vec<String>)> {
        let mut found = Found::default();
        found.add(&ldap_config(), entries);
        found
            .direct
            .extend(direct.iter().map(|name| key(&format!("cn={name},dc=x"))));
        found
            .into_groups()
            .into_iter()
            .map(|g| (g.name, g.direct, g.path))
            .collect()
    }

    #[test]
    fn the_shortest_way_to_a_nested_group_is_told() {
        let entries = [
            group("a", &["alice"]),
            group("b", &["a"]),
            group("c", &["b", "a"]),
            group("d", &["c"]),
        ];
        let groups = resolve(&["a"], &entries);
        assert_eq!(groups[0], ("a".to_owned(), true, vec![]));
        assert_eq!(groups[1], ("b".to_owned(), false, vec!["a".to_owned()]));
        assert_eq!(groups[2], ("c".to_owned(), false, vec!["a".to_owned()]));
        assert_eq!(
            groups[3],
            ("d".to_owned(), false, vec!["a".to_owned(), "c".to_owned()])
        );
    }

    #[test]
    fn a_search_that_was_cut_short_is_too_many_groups_however_few_it_names() {
        let mut found = Found::default();
        found.add(&ldap_config(), &vec![group("a", &[]); LDAP_ENTRIES_MAX]);
        assert!(!found.is_too_many());
        found.add(&ldap_config(), &vec![group("a", &[]); LDAP_ENTRIES_MAX + 1]);
        assert!(found.is_too_many());
    }

    #[test]
    fn groups_in_a_circle_are_told_once() {
        let entries = [group("a", &["alice", "b"]), group("b", &["a"])];
        let groups = resolve(&["a"], &entries);
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[1], ("b".to_owned(), false, vec!["a".to_owned()]));
    }

    #[test]
    fn a_way_through_a_group_that_was_not_found_is_unknown() {
        let groups = resolve(&[], &[group("b", &["hidden"])]);
        assert_eq!(groups, [("b".to_owned(), false, vec![])]);
    }

    #[test]
    fn a_way_may_lead_through_a_primary_group_that_does_not_count() {
        let mut found = Found::default();
        let primary = Entry::new("CN=Domain Users,DC=x")
            .with("cn", ["Domain Users"])
            .with("memberOf", ["CN=a,DC=x"]);
        found.add_start(&ldap_config(), &primary);
        found.add(&ldap_config(), &[group("a", &[])]);
        let groups = found.into_groups();
        assert_eq!(groups.len(), 1);
        let a = groups.first().unwrap();
        assert_eq!(
            (a.direct, &*a.path),
            (false, &["Domain Users".to_owned()][..])
        );
    }

    #[test]
    fn a_group_without_a_single_name_is_left_out() {
        let entry = Entry::new("ou=odd,dc=x").with("cn", ["a", "postgres"]);
        assert!(resolve(&[], &[entry]).is_empty());
    }

    #[test]
    fn a_dn_cannot_leave_its_place_in_a_filter() {
        let config = ldap_config();
        let filter = filter(&config, "", &["cn=x)(cn=*\\2c,dc=y"], Some(&[1, 255]));
        let class = &config.group_class_filter;
        let want =
            format!("(&{class}(|(member=cn=x\\29\\28cn=\\2a\\5c2c,dc=y)(objectSid=\\01\\ff)))");
        assert_eq!(filter, want);
        assert!(ldap3::parse_filter(&filter).is_ok());
        let chain = member_is(&config, IN_CHAIN, "cn=ä,dc=y");
        assert!(ldap3::parse_filter(&chain).is_ok(), "{chain}");
    }
}
