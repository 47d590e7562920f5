//! The drivers, each of which plays the card.

use anyhow::Result;

use crate::card::{Driver, compare};
use crate::site::Site;

type Test = (&'static str, fn(&Site) -> Result<()>);

/// A claim a driver: its name, the program that runs it, options, and its script.
macro_rules! drivers {
    ($($name:ident: $program:literal, $options:expr, $script:expr;)+) => {
        &[$((
            concat!(stringify!($name), "_plays_the_same_card_on_both_routes"),
            |site| {
                let driver = Driver {
                    name: stringify!($name),
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
    psql: "bash", [], Some("psql.sh");
};

/// psql alone.
pub(crate) const PSQL: Driver = Driver {
    name: "psql",
    program: "bash",
    options: &[],
    script: Some("psql.sh"),
};

/// What the packages of `cargo xtask test --only suites` bring.
pub(crate) const OTHERS: &[Test] = drivers! {
    psycopg3: "prepared:python/bin/python", [], Some("python/psycopg3_card.py");
    psycopg2: "prepared:python/bin/python", [], Some("python/psycopg2_card.py");
    asyncpg: "prepared:python/bin/python", [], Some("python/asyncpg_card.py");
    pg8000: "prepared:python/bin/python", [], Some("python/pg8000_card.py");
    node_postgres: "node", ["--max-old-space-size=4096"], Some("node/pg_card.js");
    postgres_js: "node", ["--max-old-space-size=4096"], Some("node/postgres_card.js");
    tokio_postgres: "prepared:rust/debug/tokio_postgres_card", [], None;
    sqlx: "prepared:rust/debug/sqlx_card", [], None;
    jdbc: "java", ["-Xmx3g", "Card"], None;
    lib_pq: "prepared:go/pq", [], None;
    pgx: "prepared:go/pgx", [], None;
    dbd_pg: "perl", [], Some("dbd_pg.pl");
    ruby_pg: "ruby", [], Some("ruby_pg.rb");
    php_pgsql: "php", [], Some("pgsql.php");
    luasql: "lua5.3", [], Some("luasql.lua");
    pgtcl: "tclsh", [], Some("pgtcl.tcl");
};
