//! The files of `sql/`, in the order in which they are installed.

/// One file of `sql/`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct File {
    /// The path below `sql/`.
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
    "tables/change_log.sql",
    "functions/refuse_change.sql",
    "triggers/change_log_append_only.sql",
    "functions/version.sql",
    "functions/fingerprint.sql",
    "functions/reserved_name.sql",
    "functions/privilege_of.sql",
    "functions/may_grant.sql",
    "functions/granted_by_postern.sql",
    "functions/managed_name.sql",
    "functions/role_refusal.sql",
    "functions/role_plan.sql",
    "functions/judge_group.sql",
    "functions/group_plan.sql",
    "functions/login_plan.sql",
    "functions/check_wish.sql",
    "functions/lock_login.sql",
    "functions/log_change.sql",
    "functions/clear_self_grant.sql",
    "functions/create_person.sql",
    "functions/create_group.sql",
    "functions/set_secret.sql",
    "functions/grant_group.sql",
    "functions/revoke_group.sql",
    "functions/record_entry.sql",
    "functions/end_backends.sql",
    "functions/plan_login.sql",
    "functions/apply_login.sql",
    "functions/disable_login.sql",
    "functions/revoke_login.sql",
    "functions/record_group.sql",
    "functions/adopt_group.sql",
    "functions/record_role.sql",
    "functions/adopt_role.sql",
];
