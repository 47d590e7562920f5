//! The files of `sql/`, in the order in which they are installed.

/// One file of `sql/`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct File {
    /// The path below `sql/`. What is in `people/` belongs to `postern_people`, the rest to
    /// `postern_owner`.
    pub(crate) path: &'static str,
    /// What is in it. `:"provisioner"` stands for the quoted name of the provisioner's role, as
    /// in `psql -v provisioner=postern`.
    pub(crate) sql: &'static str,
}

macro_rules! files {
    ($($path:literal,)*) => {
        &[$(File { path: $path, sql: include_str!(concat!("../../../sql/", $path)) },)*]
    };
}

/// Every file: tables, then the functions that others are built on, then what the provisioner
/// and administrators call.
pub(crate) const FILES: &[File] = files![
    "tables/schema_version.sql",
    "tables/managed_role.sql",
    "tables/group_role.sql",
    "tables/membership.sql",
    "tables/hold.sql",
    "tables/change_log.sql",
    "functions/refuse_change.sql",
    "triggers/change_log_append_only.sql",
    "functions/version.sql",
    "functions/fingerprint.sql",
    "functions/reserved_name.sql",
    "functions/may_set_replication.sql",
    "functions/has_replication.sql",
    "functions/privilege_of.sql",
    "functions/may_grant.sql",
    "functions/granted_by_postern.sql",
    "functions/managed_name.sql",
    "functions/managed_entry.sql",
    "functions/hold_of.sql",
    "functions/role_refusal.sql",
    "functions/role_plan.sql",
    "functions/judge_group.sql",
    "functions/group_plan.sql",
    "functions/login_plan.sql",
    "functions/check_wish.sql",
    "functions/check_operator.sql",
    "functions/lock_entry.sql",
    "functions/lock_login.sql",
    "functions/lock_person.sql",
    "functions/log_change.sql",
    "functions/notify_change.sql",
    "functions/clear_self_grant.sql",
    "functions/forget_dropped.sql",
    "people/create_person_role.sql",
    "people/write_secret.sql",
    "people/set_login.sql",
    "people/set_replication.sql",
    "people/drop_person_role.sql",
    "functions/create_person.sql",
    "functions/create_group.sql",
    "functions/set_secret.sql",
    "functions/grant_group.sql",
    "functions/revoke_group.sql",
    "functions/record_entry.sql",
    "functions/end_backends.sql",
    "functions/use_of.sql",
    "functions/plan_login.sql",
    "functions/apply_login.sql",
    "functions/disable_login.sql",
    "functions/revoke_login.sql",
    "functions/deprovision_login.sql",
    "functions/change_memberships.sql",
    "functions/change_replication.sql",
    "functions/hold_login.sql",
    "functions/release_login.sql",
    "functions/list_holds.sql",
    "functions/managed_logins.sql",
    "functions/record_group.sql",
    "functions/adopt_group.sql",
    "functions/record_role.sql",
    "functions/adopt_role.sql",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_installed_once() -> std::io::Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql");
        let mut found = BTreeSet::new();
        for folder in std::fs::read_dir(&root)? {
            let folder = folder?.path();
            if !folder.is_dir() || folder.ends_with("tests") {
                continue;
            }
            for file in std::fs::read_dir(&folder)? {
                let path = file?.path();
                let path = path.strip_prefix(&root).unwrap_or(&path);
                found.insert(path.to_string_lossy().into_owned());
            }
        }
        let listed: BTreeSet<_> = FILES.iter().map(|file| file.path.to_owned()).collect();
        assert_eq!(found, listed);
        assert_eq!(listed.len(), FILES.len(), "a file is listed twice");
        Ok(())
    }

    #[test]
    fn every_routine_pins_its_search_path_and_is_taken_from_public_in_its_own_file() {
        let routine = "CREATE OR REPLACE FUNCTION postern.";
        for file in FILES.iter().filter(|file| file.sql.contains(routine)) {
            let name = file.path.rsplit('/').next().unwrap_or_default();
            let made = format!("{routine}{}(", name.trim_end_matches(".sql"));
            assert_eq!(file.sql.matches(routine).count(), 1, "{}", file.path);
            for part in [
                made.as_str(),
                "\nSET search_path = pg_catalog, pg_temp\n",
                "REVOKE ALL ON FUNCTION",
                "FROM PUBLIC;",
            ] {
                assert!(file.sql.contains(part), "{}: {part}", file.path);
            }
        }
    }
}
