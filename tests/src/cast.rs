//! The people and groups that the demonstration and the tests share.
//!
//! ```text
//! testuser ── postern-hr-data
//! nina ────── payroll-team ── postern-finance-data      (a group in a group)
//! noah ────── canteen                                   (no group that counts)
//! ```

use anyhow::Result;

use crate::directory::{DirectoryServer, Member};
use crate::postgres::Postgres;

/// A person of the cast.
#[derive(Debug, Clone, Copy)]
pub struct Person {
    /// The login name.
    pub login: &'static str,
    /// The password; long and mixed enough for Active Directory's default policy.
    pub password: &'static str,
}

/// Reads the personnel data by being in [`HR_GROUP`].
pub const TESTUSER: Person = Person {
    login: "testuser",
    password: "Sesame-4711-open",
};

/// Reads the books by being in [`PAYROLL_GROUP`], which is in [`FINANCE_GROUP`].
pub const NINA: Person = Person {
    login: "nina",
    password: "Maple-0815-leaf",
};

/// Has a good password and no group that counts.
pub const NOAH: Person = Person {
    login: "noah",
    password: "Harbour-2342-light",
};

/// Groups count when their name begins with this.
pub const GROUP_PREFIX: &str = "postern-";
/// May read the database [`HR_DATABASE`].
pub const HR_GROUP: &str = "postern-hr-data";
/// May read the database [`FINANCE_DATABASE`].
pub const FINANCE_GROUP: &str = "postern-finance-data";
/// A group whose name does not count, in one whose name does.
pub const PAYROLL_GROUP: &str = "payroll-team";
/// A group that does not count.
pub const CANTEEN_GROUP: &str = "canteen";

/// Has a table `employees`.
pub const HR_DATABASE: &str = "hr";
/// Has a table `invoices`.
pub const FINANCE_DATABASE: &str = "finance";

/// Puts the people and groups into a directory.
///
/// # Errors
/// If the directory refuses.
pub fn populate(directory: &dyn DirectoryServer) -> Result<()> {
    for person in [TESTUSER, NINA, NOAH] {
        directory.add_person(person.login, person.password)?;
    }
    for group in [HR_GROUP, FINANCE_GROUP, PAYROLL_GROUP, CANTEEN_GROUP] {
        directory.add_group(group)?;
    }
    directory.add_member(HR_GROUP, Member::Person(TESTUSER.login))?;
    directory.add_member(PAYROLL_GROUP, Member::Person(NINA.login))?;
    directory.add_member(FINANCE_GROUP, Member::Group(PAYROLL_GROUP))?;
    directory.add_member(CANTEEN_GROUP, Member::Person(NOAH.login))
}

/// Makes the databases with a few rows each. Nobody may read them yet.
///
/// # Errors
/// If the server refuses.
pub fn make_databases(postgres: &Postgres) -> Result<()> {
    for (database, rows) in [(HR_DATABASE, EMPLOYEES), (FINANCE_DATABASE, INVOICES)] {
        postgres.sql(&format!("create database {database}"))?;
        postgres.sql_in(database, rows)?;
    }
    Ok(())
}

/// What the administrator does once: a role for each group, handed over to Postern, which may
/// read the tables of its database. The schema must be installed.
///
/// # Errors
/// If the server refuses.
pub fn prepare_groups(postgres: &Postgres) -> Result<()> {
    for (database, group) in [(HR_DATABASE, HR_GROUP), (FINANCE_DATABASE, FINANCE_GROUP)] {
        postgres.sql(&role_statements(group))?;
        postgres.sql_in(database, &grant_statement(group))?;
    }
    Ok(())
}

/// Makes a group's role and hands it over to Postern; for the role store's database.
#[must_use]
pub fn role_statements(group: &str) -> String {
    format!("create role \"{group}\"; select postern.adopt_group('{group}')")
}

/// Lets a group's role read; for the database of the tables.
#[must_use]
pub fn grant_statement(group: &str) -> String {
    format!("grant select on all tables in schema public to \"{group}\"")
}

const EMPLOYEES: &str = "
create table employees (id integer primary key, name text not null, grade text not null);
insert into employees values (1, 'Ada', 'A7'), (2, 'Grace', 'A9'), (3, 'Edsger', 'A8');
";

const INVOICES: &str = "
create table invoices (id integer primary key, customer text not null, cents bigint not null);
insert into invoices values (1, 'Acme', 129900), (2, 'Initech', 4200);
";
