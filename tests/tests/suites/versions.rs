//! Every major version of the server that there is, and what only the newest knows.

use anyhow::Result;
use postern_tests::needs::{self, PostgresVersion};
use postern_tests::{Postern, Postgres};

use crate::card::{Driver, compare_at};
use crate::drivers::{PSQL, PSYCOPG_DIRECT};
use crate::site::{GROUP, Site, folder};

/// The newest version, the first with keys of more than 4 bytes.
pub(crate) const NEWEST: u32 = 18;

pub(crate) fn psql_plays_the_same_card_on_postgresql_13(site: &Site) -> Result<()> {
    play(site, 13)
}

pub(crate) fn psql_plays_the_same_card_on_postgresql_14(site: &Site) -> Result<()> {
    play(site, 14)
}

pub(crate) fn psql_plays_the_same_card_on_postgresql_15(site: &Site) -> Result<()> {
    play(site, 15)
}

pub(crate) fn psql_plays_the_same_card_on_postgresql_16(site: &Site) -> Result<()> {
    play(site, 16)
}

pub(crate) fn psql_plays_the_same_card_on_postgresql_17(site: &Site) -> Result<()> {
    play(site, 17)
}

pub(crate) fn psql_plays_the_same_card_on_postgresql_18(site: &Site) -> Result<()> {
    play(site, 18)
}

/// No server before 17 lets a client begin with TLS, so that the two routes are of the newest.
pub(crate) fn psycopg_plays_the_same_card_by_direct_tls_in_the_newest_protocol(
    site: &Site,
) -> Result<()> {
    play_card(site, NEWEST, &PSYCOPG_DIRECT)
}

fn play(site: &Site, major: u32) -> Result<()> {
    play_card(site, major, &PSQL)
}

/// Two servers of the version, one of them behind a Postern of its own, and one card.
fn play_card(site: &Site, major: u32, driver: &Driver) -> Result<()> {
    let name = driver.name;
    let Some(version) = find(major, name) else {
        return Ok(());
    };
    let world = &site.world;
    let (scratch, certificates) = (&world.scratch, &world.certificates);
    let direct = Postgres::start_found(scratch, certificates, version.clone())?;
    let behind = Postgres::start_found(scratch, certificates, version)?;
    let postern = Postern::start(scratch, certificates, &behind, &world.directory)?;
    for postgres in [&direct, &behind] {
        postgres.sql(&format!("create role \"{GROUP}\""))?;
    }
    behind.sql(&format!("select postern.adopt_group('{GROUP}')"))?;
    let person = world.person(&format!("{name}-{major}"), &[GROUP])?;
    let (login, password) = (&person.login, &person.password);
    direct.sql(&format!(
        "create role \"{login}\" login password '{password}' in role \"{GROUP}\""
    ))?;
    let routes = [direct.psql(login, password), postern.psql(login, password)];
    compare_at(site, driver, &routes)
}

/// A version of the machine, or of those that were made ready; `None` is a loud skip.
pub(crate) fn find(major: u32, what: &str) -> Option<PostgresVersion> {
    let found = needs::postgres(Some(major)).or_else(|| {
        let server = format!("servers/node_modules/server-{major}/native/bin");
        needs::postgres_in(folder()?.join(server))
    });
    if found.is_none() {
        let why = "this PostgreSQL is not installed and could not be had";
        needs::skip(&format!("{what} on PostgreSQL {major}"), why);
    }
    found
}
