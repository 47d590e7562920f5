//! `[admin]`.

use crate::config::section::{Reading, Section};
use crate::config::{Admin, Backend};

/// `[admin]`, beside the backends, none of which can serve what has its name.
pub(in crate::config) fn admin(
    section: &Section,
    backends: Option<&[Backend]>,
    reading: &mut Reading<'_>,
) -> Option<Admin> {
    let database = section.text("database");
    for (index, backend) in backends.into_iter().flatten().enumerate() {
        if let Some(name) = backend
            .databases
            .iter()
            .find(|it| Some(*it) == database.as_ref())
        {
            let why = format!(
                "is the name of the admin console, and backend {} lists \"{name}\", which nobody \
                 could reach",
                index + 1
            );
            let problem = section.problem("database", why);
            reading.problem(problem.valid("a name that no database has"));
        }
    }
    Some(Admin {
        accounts_file: section.path("accounts_file")?,
        database: database?,
    })
}
