//! Postern before a directory server, which can be stopped where it is.

use anyhow::{Result, bail};
use postern_tests::{DirectoryServer, OpenLdap, Postern, free_port, needs};

use crate::route::{Login, Route};
use crate::stage::{DATABASE, GROUP, Stage};

/// Another Postern before the stage's PostgreSQL, whose people are in OpenLDAP.
#[derive(Debug)]
pub(super) struct Directory {
    /// Ends first: it has connections to the directory.
    pub(super) postern: Postern,
    /// The directory.
    pub(super) openldap: OpenLdap,
}

impl Directory {
    /// Starts both, with so many people called `name1`, `name2` and so on who may log in.
    ///
    /// # Errors
    /// If OpenLDAP is not installed, or one of them does not start.
    pub(super) fn start(stage: &Stage, name: &str, people: u64) -> Result<Self> {
        if let Some(missing) = needs::missing_for_openldap() {
            bail!("a directory server cannot be started: {missing}");
        }
        let (scratch, certificates) = (stage.scratch(), stage.certificates());
        let openldap = OpenLdap::start(scratch, certificates)?;
        openldap.add_group(GROUP)?;
        openldap.ldif(&records(name, people))?;
        let key_file = stage.postern()?.config_file();
        let key_file = key_file.with_file_name("cluster-key");
        let postern = Postern::prepare(scratch, certificates, stage.postgres(), free_port()?)?;
        postern.configure(|config| {
            openldap.configure(config);
            config
                .set("listen", "tls", "allow-plaintext")
                .set("backend", "sslmode", "disable")
                .unset("backend", "tls_ca_file")
                // Proxies with different keys would give the same role different passwords.
                .set("credential", "cluster_key_file", &key_file);
        });
        postern.start_again()?;
        Ok(Self { postern, openldap })
    }

    /// The route through this Postern, for one of the people.
    ///
    /// # Errors
    /// If it has ended.
    pub(super) fn route(&self, of: &Route, login: Login) -> Result<Route> {
        Ok(Route {
            port: self.postern.port(),
            login,
            pids: vec![self.postern.pid()?],
            ..of.clone()
        })
    }
}

/// The login of a person, who may be there or not.
pub(super) fn person(name: &str, number: u64) -> Login {
    Login {
        user: format!("{name}{number}"),
        password: Some(format!("Bench-{number}-cold")),
        database: DATABASE.to_owned(),
    }
}

/// People, all in the group.
fn records(name: &str, people: u64) -> String {
    let mut records = String::new();
    let mut members = String::new();
    for number in 1..=people {
        let login = person(name, number);
        let (user, password) = (&login.user, login.password.as_deref().unwrap_or_default());
        let dn = OpenLdap::person_dn(user);
        records += &format!(
            "dn: {dn}\nobjectClass: inetOrgPerson\nuid: {user}\ncn: {user}\nsn: {user}\n\
             userPassword: {password}\n\n"
        );
        members += &format!("member: {dn}\n");
    }
    let group = OpenLdap::group_dn(GROUP);
    records + &format!("dn: {group}\nchangetype: modify\nadd: member\n{members}")
}
