//! Every major version of the server that there is.

use anyhow::Result;
use postern_tests::needs::{self, PostgresVersion};
use postern_tests::{Postern, Postgres};

use crate::card::compare_at;
use crate::drivers::PSQL;
use crate::site::{GROUP, Site, folder};

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

/// Two servers of the version, one of them behind a Postern of its own, and one card.
fn play(site: &Site, major: u32) -> Result<()> {
    let Some(version) = find(major) else {
        let why = "this PostgreSQL is not installed and could not be had";
        needs::skip(&format!("psql on PostgreSQL {major}"), why);
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
    let person = world.person(&format!("visitor-{major}"), &[GROUP])?;
    let (login, password) = (&person.login, &person.password);
    direct.sql(&format!(
        "create role \"{login}\" login password '{password}' in role \"{GROUP}\""
    ))?;
    let routes = [direct.psql(login, password), postern.psql(login, password)];
    compare_at(site, &PSQL, &routes)
}

/// A version of the machine, or of those that were made ready.
fn find(major: u32) -> Option<PostgresVersion> {
    needs::postgres(Some(major)).or_else(|| {
        let server = format!("servers/node_modules/server-{major}/native/bin");
        needs::postgres_in(folder()?.join(server))
    })
}
