//! Which groups count, and which roles they become.

/// The rules, in order; the first that matches a group decides.
#[derive(Debug, Clone)]
pub struct GroupRules;
