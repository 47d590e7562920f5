//! The main job with OpenLDAP: a person with a directory account and no account in the database
//! is in, with exactly the rights of their groups.

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use postern_tests::cast::{self, FINANCE_DATABASE, HR_DATABASE, NINA, NOAH, TESTUSER};
use postern_tests::{Certificates, OpenLdap, Postern, Postgres, Psql, Scratch};

struct World {
    postern: Postern,
    directory: OpenLdap,
    postgres: Postgres,
    _scratch: Scratch,
}

impl World {
    fn start() -> Result<Self> {
        let scratch = Scratch::new()?;
        let certificates = Certificates::new(&scratch)?;
        let postgres = Postgres::start(&scratch, &certificates)?;
        let directory = OpenLdap::start(&scratch, &certificates)?;
        cast::populate(&directory)?;
        cast::make_databases(&postgres)?;
        let postern = Postern::start(&scratch, &certificates, &postgres, &directory)?;
        Ok(Self {
            postern,
            directory,
            postgres,
            _scratch: scratch,
        })
    }
}

fn first_login(world: &World) -> Result<()> {
    let psql = world
        .postern
        .psql(TESTUSER.login, TESTUSER.password)
        .database(HR_DATABASE);
    let who = psql.query("select session_user, current_user")?;
    ensure!(who == "testuser|testuser", "{who}");
    Ok(())
}

fn main() -> Result<()> {
    let arguments = Arguments::from_args();
    let world = World::start()?;
    let world: &'static World = Box::leak(Box::new(world));
    let trials = vec![Trial::test("first", move || {
        first_login(world).map_err(|e| Failed::from(format!("{e:#}")))
    })];
    let c = libtest_mimic::run(&arguments, trials);
    println!("{}", world.postern.log()?);
    c.exit();
}
