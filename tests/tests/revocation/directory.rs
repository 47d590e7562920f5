//! What this suite does to a directory beyond what every test does.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use postern_tests::process::run;
use postern_tests::{DirectoryServer, Member, OpenLdap, Samba, samba};

/// Seconds from 1601, where the time of Active Directory begins, to 1970.
const SECONDS_1601_TO_1970: u64 = 11_644_473_600;

/// A directory whose changes are to be heard of.
pub(crate) trait Watched: DirectoryServer + Send + Sync {
    /// Removes a group.
    fn remove_group(&self, group: &str) -> Result<()>;

    /// Gives a group another name.
    fn rename_group(&self, group: &str, name: &str) -> Result<()>;

    /// Takes the permission to log in from a person, who stays in all groups.
    fn disable(&self, login: &str) -> Result<()>;

    /// Lets an account end by itself at a moment.
    fn end_account(&self, login: &str, at: SystemTime) -> Result<()>;

    /// Gives a person another name, who stays the same entry.
    fn rename(&self, login: &str, name: &str) -> Result<()>;

    /// Takes a person out of a group while the server does not run.
    fn remove_member_offline(&self, group: &str, login: &str) -> Result<()>;

    /// Where LDAPS is spoken.
    fn address(&self) -> SocketAddr;

    /// Where LDAP is spoken in the clear.
    fn plain_address(&self) -> SocketAddr;

    /// Ends the server.
    fn stop(&self) -> Result<()>;

    /// Starts a server that was ended.
    fn start_again(&self) -> Result<()>;

    /// Stops the server where it is.
    fn pause(&self) -> Result<()>;

    /// Lets a paused server go on.
    fn resume(&self) -> Result<()>;
}

impl Watched for OpenLdap {
    fn remove_group(&self, group: &str) -> Result<()> {
        let dn = Self::group_dn(group);
        self.ldif(&format!("dn: {dn}\nchangetype: delete\n"))
    }

    fn rename_group(&self, group: &str, name: &str) -> Result<()> {
        let dn = Self::group_dn(group);
        self.ldif(&format!(
            "dn: {dn}\nchangetype: modrdn\nnewrdn: cn={name}\ndeleteoldrdn: 1\n"
        ))
    }

    fn disable(&self, login: &str) -> Result<()> {
        // The year 0 means that an administrator must lift it (slapo-ppolicy(5)).
        replace(self, login, "pwdAccountLockedTime", "000001010000Z")
    }

    fn end_account(&self, login: &str, at: SystemTime) -> Result<()> {
        let seconds = at.duration_since(UNIX_EPOCH)?.as_secs();
        let mut date = Command::new("date");
        date.args(["--utc", "+%Y%m%d%H%M%SZ", &format!("--date=@{seconds}")]);
        replace(self, login, "pwdEndTime", run(&mut date)?.trim())
    }

    fn rename(&self, login: &str, name: &str) -> Result<()> {
        let dn = Self::person_dn(login);
        self.ldif(&format!(
            "dn: {dn}\nchangetype: modrdn\nnewrdn: uid={name}\ndeleteoldrdn: 1\n"
        ))
    }

    fn remove_member_offline(&self, group: &str, login: &str) -> Result<()> {
        let (group, person) = (Self::group_dn(group), Self::person_dn(login));
        self.ldif_offline(&format!(
            "dn: {group}\nchangetype: modify\ndelete: member\nmember: {person}\n"
        ))
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.tls_port()))
    }

    fn plain_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port()))
    }

    fn stop(&self) -> Result<()> {
        Self::stop(self)
    }

    fn start_again(&self) -> Result<()> {
        Self::start_again(self)
    }

    fn pause(&self) -> Result<()> {
        Self::pause(self)
    }

    fn resume(&self) -> Result<()> {
        Self::resume(self)
    }
}

impl Watched for Samba {
    fn remove_group(&self, group: &str) -> Result<()> {
        let dn = Self::dn(group);
        self.ldif(&format!("dn: {dn}\nchangetype: delete\n"))
    }

    fn rename_group(&self, group: &str, name: &str) -> Result<()> {
        let dn = Self::dn(group);
        self.ldif(&format!(
            "dn: {dn}\nchangetype: modrdn\nnewrdn: CN={name}\ndeleteoldrdn: 1\n"
        ))?;
        replace(self, name, "sAMAccountName", name)
    }

    fn disable(&self, login: &str) -> Result<()> {
        // NORMAL_ACCOUNT and ACCOUNTDISABLE.
        replace(self, login, "userAccountControl", "514")
    }

    fn end_account(&self, login: &str, at: SystemTime) -> Result<()> {
        let seconds = at.duration_since(UNIX_EPOCH)?.as_secs() + SECONDS_1601_TO_1970;
        // In units of 100 ns.
        replace(self, login, "accountExpires", &format!("{seconds}0000000"))
    }

    fn rename(&self, login: &str, name: &str) -> Result<()> {
        let dn = Self::dn(login);
        self.ldif(&format!(
            "dn: {dn}\nchangetype: modrdn\nnewrdn: CN={name}\ndeleteoldrdn: 1\n"
        ))?;
        replace(self, name, "sAMAccountName", name)?;
        let principal = format!("{name}@corp.example");
        replace(self, name, "userPrincipalName", &principal)
    }

    fn remove_member_offline(&self, group: &str, login: &str) -> Result<()> {
        self.tool(&["group", "removemembers", group, login])?;
        Ok(())
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from((Self::address(self), samba::TLS_PORT))
    }

    fn plain_address(&self) -> SocketAddr {
        SocketAddr::from((Self::address(self), samba::PORT))
    }

    fn stop(&self) -> Result<()> {
        Self::stop(self)
    }

    fn start_again(&self) -> Result<()> {
        Self::start_again(self)
    }

    fn pause(&self) -> Result<()> {
        Self::pause(self)
    }

    fn resume(&self) -> Result<()> {
        Self::resume(self)
    }
}

/// Where a person is, and how entries are changed there.
trait People {
    fn dn_of(login: &str) -> String;
    fn change(&self, records: &str) -> Result<()>;
}

impl People for OpenLdap {
    fn dn_of(login: &str) -> String {
        Self::person_dn(login)
    }

    fn change(&self, records: &str) -> Result<()> {
        self.ldif(records)
    }
}

impl People for Samba {
    fn dn_of(login: &str) -> String {
        Self::dn(login)
    }

    fn change(&self, records: &str) -> Result<()> {
        self.ldif(records)
    }
}

fn replace<D: People>(directory: &D, login: &str, attribute: &str, value: &str) -> Result<()> {
    let dn = D::dn_of(login);
    directory.change(&format!(
        "dn: {dn}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n"
    ))
}

/// Takes a person out of a group.
pub(crate) fn take_out(directory: &dyn Watched, group: &str, login: &str) -> Result<()> {
    directory.remove_member(group, Member::Person(login))
}
