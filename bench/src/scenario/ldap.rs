//! Postern before a directory server, which can be stopped where it is.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};
use postern_tests::{DirectoryServer, OpenLdap, Postern, free_port, needs};

use crate::route::{Login, Route};
use crate::stage::{DATABASE, GROUP, Stage};

/// Another Postern before the stage's PostgreSQL, whose people are in OpenLDAP.
///
/// No two have people of the same name: the role of one's would not be given to the other's.
#[derive(Debug)]
pub(super) struct Directory {
    number: u32,
    /// Ends first: it has connections to the directory.
    pub(super) postern: Postern,
    /// The directory.
    pub(super) openldap: OpenLdap,
}

impl Directory {
    /// Starts both, with so many people who may log in.
    ///
    /// # Errors
    /// If OpenLDAP is not installed, or one of them does not start.
    pub(super) fn start(stage: &Stage, people: u64) -> Result<Self> {
        if let Some(missing) = needs::missing_for_openldap() {
            bail!("a directory server cannot be started: {missing}");
        }
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let (scratch, certificates) = (stage.scratch(), stage.certificates());
        let openldap = OpenLdap::start(scratch, certificates)?;
        openldap.add_group(GROUP)?;
        openldap.ldif(&records((0..people).map(|it| person(number, it))))?;
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
        Ok(Self {
            number,
            postern,
            openldap,
        })
    }

    /// The route through this Postern, for the first of the people.
    ///
    /// # Errors
    /// If it has ended.
    pub(super) fn route(&self, of: &Route) -> Result<Route> {
        Ok(Route {
            port: self.postern.port(),
            login: self.person(0),
            pids: vec![self.postern.pid()?],
            ..of.clone()
        })
    }

    /// The login of one of the people, counted from 0, or of nobody above their number.
    pub(super) fn person(&self, index: u64) -> Login {
        person(self.number, index)
    }
}

fn person(directory: u32, index: u64) -> Login {
    Login {
        user: format!("person{index}of{directory}"),
        password: Some(format!("Bench-{index}-cold")),
        database: DATABASE.to_owned(),
    }
}

/// People, all in the group.
fn records(people: impl Iterator<Item = Login>) -> String {
    let mut records = String::new();
    let mut members = String::new();
    for login in people {
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
