//! The rules of the credential cache.

/// How long a directory's answer is believed.
#[derive(Debug, Clone)]
pub struct Policy;
