//! When the directory changes, access changes: the live sessions, the role in the database and
//! what is remembered, with OpenLDAP and with Active Directory (Samba).
//!
//! Each directory has a database and two Posterns before it: one that follows the directory, and
//! one that does not and hears by the database alone. The claims of one directory run one after
//! the other, those of the two at the same time: most of each is waiting for the directory.

use std::process::ExitCode;

use postern_tests::{harness, needs};

mod cuts;
mod directory;
mod losses;
mod operators;
mod parts;
mod proxies;
mod races;
mod record;
mod relay;
mod site;

use site::World;

type Test = harness::Test<World>;

/// Two directories, each with one claim that runs; the others wait for their turn, so that the
/// quicker directory need not wait for the slower one.
const THREADS: usize = 12;

/// A list of tests from the names of functions, each with every directory; after `only`, with
/// OpenLDAP.
macro_rules! claims {
    (only $($claim:ident),+ $(,)?) => {
        &[$((
            stringify!($claim),
            (|world| world.with_openldap($claim)) as fn(&crate::World) -> anyhow::Result<()>,
        ),)+]
    };
    ($($claim:ident),+ $(,)?) => {
        &[$(
            (
                concat!(stringify!($claim), "::samba"),
                (|world| world.with_samba(stringify!($claim), $claim))
                    as fn(&crate::World) -> anyhow::Result<()>,
            ),
            (
                concat!(stringify!($claim), "::openldap"),
                (|world| world.with_openldap($claim)) as fn(&crate::World) -> anyhow::Result<()>,
            ),
        )+]
    };
}
pub(crate) use claims;

fn main() -> ExitCode {
    let tests = [
        losses::TESTS,
        parts::TESTS,
        record::TESTS,
        proxies::TESTS,
        races::TESTS,
        operators::OF_ONE,
        cuts::TESTS,
        cuts::OF_ONE,
        operators::LAST,
    ];
    let missing = match needs::postgres(None) {
        Some(_) => needs::missing_for_openldap(),
        None => Some("PostgreSQL is not installed".to_owned()),
    };
    harness::run_at_once(THREADS, missing, World::start, &tests.concat())
}
