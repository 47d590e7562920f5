//! The drivers, each of which plays the card.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::card::{Driver, compare};
use crate::site::Site;

type Test = (&'static str, fn(&Site) -> Result<()>);

/// The fewest drivers that are to have played, and the fewest languages that they are for.
const DRIVERS_MIN: usize = 10;
const LANGUAGES_MIN: usize = 6;

/// A claim a driver: its name and language, the program that runs it, options, and its script.
macro_rules! drivers {
    ($($name:ident, $language:literal: $program:literal, $options:expr, $script:expr;)+) => {
        &[$((
            concat!(stringify!($name), "_plays_the_same_card_on_both_routes"),
            |site| {
                let driver = Driver {
                    name: stringify!($name),
                    language: $language,
                    program: $program,
                    options: &$options,
                    script: $script,
                };
                compare(site, &driver).map_err(|error| site.explain(error))
            },
        )),+]
    };
}

/// Everybody has bash, and who has PostgreSQL has psql.
pub(crate) const SAMPLE: &[Test] = drivers! {
    psql, "C": "bash", [], Some("psql.sh");
};

/// psql alone.
pub(crate) const PSQL: Driver = Driver {
    name: "psql",
    language: "C",
    program: "bash",
    options: &[],
    script: Some("psql.sh"),
};

/// psycopg on libpq 18, which begins with TLS and speaks the newest protocol.
pub(crate) const PSYCOPG_DIRECT: Driver = Driver {
    name: "psycopg3_direct",
    language: "Python",
    program: "prepared:python/bin/python",
    options: &[],
    script: Some("python/psycopg3_direct_card.py"),
};

/// What the packages of `cargo xtask test --only suites` bring.
pub(crate) const OTHERS: &[Test] = drivers! {
    psycopg3, "Python": "prepared:python/bin/python", [], Some("python/psycopg3_card.py");
    psycopg2, "Python": "prepared:python/bin/python", [], Some("python/psycopg2_card.py");
    asyncpg, "Python": "prepared:python/bin/python", [], Some("python/asyncpg_card.py");
    pg8000, "Python": "prepared:python/bin/python", [], Some("python/pg8000_card.py");
    node_postgres, "JavaScript": "node", ["--max-old-space-size=4096"], Some("node/pg_card.js");
    postgres_js, "JavaScript": "node", ["--max-old-space-size=4096"], Some("node/postgres_card.js");
    tokio_postgres, "Rust": "prepared:rust/debug/tokio_postgres_card", [], None;
    sqlx, "Rust": "prepared:rust/debug/sqlx_card", [], None;
    jdbc, "Java": "java", ["-Xmx3g", "Card"], None;
    lib_pq, "Go": "prepared:go/pq", [], None;
    pgx, "Go": "prepared:go/pgx", [], None;
    dbd_pg, "Perl": "perl", [], Some("dbd_pg.pl");
    ruby_pg, "Ruby": "ruby", [], Some("ruby_pg.rb");
    php_pgsql, "PHP": "php", [], Some("pgsql.php");
    luasql, "Lua": "lua5.3", [], Some("luasql.lua");
    pgtcl, "Tcl": "tclsh", [], Some("pgtcl.tcl");
};

/// The last claim: those that were skipped, or were not the same on both routes, do not count.
pub(crate) fn at_least_ten_drivers_of_six_languages_have_played(site: &Site) -> Result<()> {
    let played = site.played();
    let languages: BTreeSet<&str> = played.values().copied().collect();
    eprintln!(
        "  {} drivers of {} languages",
        played.len(),
        languages.len()
    );
    ensure!(played.len() >= DRIVERS_MIN, "only {played:?} have played");
    ensure!(languages.len() >= LANGUAGES_MIN, "only {languages:?}");
    Ok(())
}
