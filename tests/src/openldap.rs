//! A private OpenLDAP with the overlays that sites use.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::account::Account;
use crate::certificates::Certificates;
use crate::config_file::ConfigFile;
use crate::directory::{DirectoryServer, Member};
use crate::needs;
use crate::process::{Server, run, run_with_input};
use crate::scratch::{Scratch, write_secret};
use crate::wait::{accepts, free_port};

/// How long a start may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The root of the tree.
pub const BASE_DN: &str = "dc=corp,dc=example";
/// Where the people are.
pub const PEOPLE_DN: &str = "ou=people,dc=corp,dc=example";
/// Where the groups are.
pub const GROUPS_DN: &str = "ou=groups,dc=corp,dc=example";
/// The service principal, who may read everything but passwords.
pub const SERVICE_DN: &str = "cn=postern-reader,dc=corp,dc=example";
/// The service principal's password.
pub const SERVICE_PASSWORD: &str = "Reader-1234-only";
/// The administrator, to whom no rule applies.
pub const ADMIN_DN: &str = "cn=admin,dc=corp,dc=example";
/// The administrator's password.
pub const ADMIN_PASSWORD: &str = "Admin-1234-only";
/// A `groupOfNames` needs a member (RFC 4519, 3.5); this one keeps a group alive without people.
const NOBODY_DN: &str = "cn=nobody,dc=corp,dc=example";

/// Debian's folders.
const MODULES: &str = "/usr/lib/ldap";
const SCHEMA: &str = "/etc/ldap/schema";

/// Overlays that are switched on where the installed OpenLDAP has them, with their settings.
const OVERLAYS: [(&str, &str); 4] = [
    (
        "memberof",
        "memberof-group-oc groupOfNames\nmemberof-refint true",
    ),
    (
        "refint",
        "refint_attributes member\nrefint_nothing cn=nobody,dc=corp,dc=example",
    ),
    ("ppolicy", "ppolicy_hash_cleartext"),
    ("syncprov", ""),
];

/// The entries that are there before anybody asks.
const BASE_ENTRIES: &str = "
dn: dc=corp,dc=example
objectClass: dcObject
objectClass: organization
dc: corp
o: Corp

dn: ou=people,dc=corp,dc=example
objectClass: organizationalUnit

dn: ou=groups,dc=corp,dc=example
objectClass: organizationalUnit

dn: cn=nobody,dc=corp,dc=example
objectClass: organizationalRole

dn: cn=postern-reader,dc=corp,dc=example
objectClass: organizationalRole
objectClass: simpleSecurityObject
userPassword: Reader-1234-only
";

/// A running (or stopped) OpenLDAP.
#[derive(Debug)]
pub struct OpenLdap {
    account: Account,
    folder: PathBuf,
    port: u16,
    tls_port: u16,
    ca_file: PathBuf,
    server: Mutex<Option<Server>>,
}

impl OpenLdap {
    /// Starts it with the base entries.
    ///
    /// # Errors
    /// If it is not installed or does not start; the message quotes its log.
    pub fn start(scratch: &Scratch, certificates: &Certificates) -> Result<Self> {
        Self::start_with(scratch, certificates, "")
    }

    /// Starts it with more lines for the database in `slapd.conf`: an overlay, a rule for access.
    ///
    /// # Errors
    /// If it is not installed or does not start; the message quotes its log.
    pub fn start_with(
        scratch: &Scratch,
        certificates: &Certificates,
        settings: &str,
    ) -> Result<Self> {
        if let Some(missing) = needs::missing_for_openldap() {
            bail!("OpenLDAP cannot be started: {missing}");
        }
        let account = Account::unprivileged()?;
        let folder = scratch.subfolder("openldap")?;
        let directory = Self {
            port: free_port()?,
            tls_port: free_port()?,
            ca_file: certificates.ca_file(),
            server: Mutex::new(None),
            account,
            folder,
        };
        directory.write_files(certificates, settings)?;
        directory.start_again()?;
        Ok(directory)
    }

    /// Starts a stopped server on its old data and ports.
    ///
    /// # Errors
    /// If it runs already or does not start; the message quotes its log.
    pub fn start_again(&self) -> Result<()> {
        let mut slot = self.slot();
        if slot.is_some() {
            bail!("OpenLDAP runs already");
        }
        let mut command = self.account.command(&self.folder.join("slapd"), "KILL");
        command.arg("-f").arg(self.folder.join("slapd.conf"));
        // Staying in the foreground with the log level `stats`, which names every operation.
        command.args(["-d", "stats", "-h"]).arg(format!(
            "ldap://127.0.0.1:{}/ ldaps://127.0.0.1:{}/ {}",
            self.port,
            self.tls_port,
            self.socket_url()
        ));
        let log = self.log_file();
        let mut server = Server::spawn("OpenLDAP", command, &log, Signal::SIGTERM)?;
        server.wait_ready(START_LIMIT, || Ok(accepts("127.0.0.1", self.tls_port)))?;
        *slot = Some(server);
        Ok(())
    }

    /// Ends it; [`OpenLdap::start_again`] starts it again.
    ///
    /// # Errors
    /// If it does not run or does not end.
    pub fn stop(&self) -> Result<()> {
        let server = self.slot().take();
        server.context("OpenLDAP does not run")?.stop()?;
        Ok(())
    }

    /// Stops it where it is: connections are accepted by the kernel and then hang.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self) -> Result<()> {
        let slot = self.slot();
        slot.as_ref().context("OpenLDAP does not run")?.pause()
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self) -> Result<()> {
        let slot = self.slot();
        slot.as_ref().context("OpenLDAP does not run")?.resume()
    }

    /// Adds, changes or deletes entries as the administrator: LDIF change records (RFC 2849);
    /// a record without `changetype` is added.
    ///
    /// # Errors
    /// If the server refuses one; those before it are done.
    pub fn ldif(&self, records: &str) -> Result<()> {
        let mut command = self.tool("ldapmodify");
        let output = run_with_input(command.arg("-a"), records)?;
        if !output.status.success() {
            bail!("ldapmodify: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Changes entries while the server does not run, as after a restore of its data: no overlay
    /// sees it.
    ///
    /// # Errors
    /// If it runs, or refuses one; those before it are done.
    pub fn ldif_offline(&self, records: &str) -> Result<()> {
        if self.slot().is_some() {
            bail!("OpenLDAP runs, and would not see the change");
        }
        let file = self.folder.join("offline.ldif");
        fs::write(&file, records)?;
        let mut command = self.account.command(&self.folder.join("slapd"), "KILL");
        // With `-w` the change counts for those who resume from a cookie (slapmodify(8)).
        command.args(["-T", "modify", "-w", "-f"]);
        run(command
            .arg(self.folder.join("slapd.conf"))
            .arg("-l")
            .arg(file))?;
        Ok(())
    }

    /// Searches the whole tree as the administrator and returns LDIF without line folding.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn search(&self, filter: &str, attributes: &[&str]) -> Result<String> {
        let mut command = self.tool("ldapsearch");
        command.args(["-LLL", "-o", "ldif-wrap=no", "-b", BASE_DN, filter]);
        run(command.args(attributes))
    }

    /// The DN of a person.
    #[must_use]
    pub fn person_dn(login: &str) -> String {
        format!("uid={login},{PEOPLE_DN}")
    }

    /// The DN of a group.
    #[must_use]
    pub fn group_dn(group: &str) -> String {
        format!("cn={group},{GROUPS_DN}")
    }

    /// How many searches it has answered since its start.
    ///
    /// # Errors
    /// If its log cannot be read.
    pub fn searches(&self) -> Result<u64> {
        self.count_operations(" SRCH base=")
    }

    /// How many binds it has refused for their password since its start.
    ///
    /// # Errors
    /// If its log cannot be read.
    pub fn failed_binds(&self) -> Result<u64> {
        // RESULT tag=97 is the answer to a bind (RFC 4511, 4.2.2), and 49 `invalidCredentials`.
        self.count_operations(" RESULT tag=97 err=49")
    }

    /// Where LDAP with StartTLS is spoken.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where LDAPS is spoken.
    #[must_use]
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// The URL for LDAPS.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ldaps://127.0.0.1:{}", self.tls_port)
    }

    /// The URL for StartTLS, or for nothing at all.
    #[must_use]
    pub fn plain_url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    /// The certificate authority that signs the server's certificate.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// The file with the service principal's password.
    #[must_use]
    pub fn service_password_file(&self) -> PathBuf {
        self.folder.join("service-password")
    }

    /// The server's log file.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Whether the log has `text` anywhere.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn log_contains(&self, text: &str) -> Result<bool> {
        let log = fs::read(self.log_file())?;
        Ok(String::from_utf8_lossy(&log).contains(text))
    }

    /// Counts the operations over the network: the administrator's own come through the socket.
    fn count_operations(&self, operation: &str) -> Result<u64> {
        let log = fs::read(self.log_file())?;
        let log = String::from_utf8_lossy(&log);
        let socket = self.folder.join("ldapi").display().to_string();
        // Two passes: the line of a connection's start may come after its first operation.
        let of_administrator: HashSet<&str> = log
            .lines()
            .filter(|it| it.contains(" ACCEPT from PATH=") && it.contains(&socket))
            .filter_map(connection)
            .collect();
        let counted = log
            .lines()
            .filter(|it| it.contains(operation))
            .filter_map(connection)
            .filter(|it| !of_administrator.contains(it));
        Ok(u64::try_from(counted.count())?)
    }

    fn socket_url(&self) -> String {
        let path = self.folder.join("ldapi").display().to_string();
        format!("ldapi://{}/", path.replace('/', "%2F"))
    }

    /// One of OpenLDAP's clients, as the administrator, over the socket in our folder.
    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.args(["-x", "-H", &self.socket_url(), "-D", ADMIN_DN, "-y"]);
        command.arg(self.folder.join("admin-password"));
        // The machine's own ldap.conf must not matter.
        command.env("LDAPNOINIT", "1");
        command
    }

    fn write_files(&self, certificates: &Certificates, settings: &str) -> Result<()> {
        let folder = &self.folder;
        self.account.own_path(folder)?;
        write_secret(&folder.join("admin-password"), ADMIN_PASSWORD)?;
        write_secret(&self.service_password_file(), SERVICE_PASSWORD)?;
        // A profile of AppArmor that Debian ships would keep /usr/sbin/slapd out of this folder;
        // it goes by the program's path.
        let slapd = needs::program("slapd").context("slapd is not installed")?;
        // By a process of its own: what another thread starts meanwhile would inherit our
        // descriptor for a moment, and a file that is open for writing is not executed.
        run(Command::new("cp").arg(slapd).arg(folder.join("slapd")))?;
        fs::create_dir(folder.join("data"))?;
        self.account.own_path(&folder.join("data"))?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let certificate = certificates.issue(&name, &self.account)?;
        let tls = format!(
            "TLSCACertificateFile {}\nTLSCertificateFile {}\nTLSCertificateKeyFile {}\n",
            certificates.ca_file().display(),
            certificate.cert_file.display(),
            certificate.key_file.display()
        );
        let conf = folder.join("slapd.conf");
        write_secret(&conf, &slapd_conf(&tls, &folder.join("data"), settings))?;
        self.account.own_path(&conf)?;
        fs::write(folder.join("base.ldif"), BASE_ENTRIES)?;
        let mut add = self.account.command(&folder.join("slapd"), "KILL");
        add.args(["-T", "add", "-f"]).arg(&conf).arg("-l");
        run(add.arg(folder.join("base.ldif")))?;
        Ok(())
    }

    fn slot(&self) -> MutexGuard<'_, Option<Server>> {
        // A test that panicked while it held the lock left a server or none, both whole.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_member(&self, verb: &str, group: &str, member: Member<'_>) -> Result<()> {
        let member = match member {
            Member::Person(login) => Self::person_dn(login),
            Member::Group(name) => Self::group_dn(name),
        };
        let group = Self::group_dn(group);
        self.ldif(&format!(
            "dn: {group}\nchangetype: modify\n{verb}: member\nmember: {member}\n"
        ))
    }
}

impl DirectoryServer for OpenLdap {
    fn name(&self) -> &'static str {
        "OpenLDAP"
    }

    fn add_person(&self, login: &str, password: &str) -> Result<()> {
        let dn = Self::person_dn(login);
        self.ldif(&format!(
            "dn: {dn}\nobjectClass: inetOrgPerson\nuid: {login}\ncn: {login}\nsn: {login}\n\
             userPassword: {password}\n"
        ))
    }

    fn remove_person(&self, login: &str) -> Result<()> {
        let dn = Self::person_dn(login);
        self.ldif(&format!("dn: {dn}\nchangetype: delete\n"))
    }

    fn set_password(&self, login: &str, password: &str) -> Result<()> {
        let dn = Self::person_dn(login);
        self.ldif(&format!(
            "dn: {dn}\nchangetype: modify\nreplace: userPassword\nuserPassword: {password}\n"
        ))
    }

    fn add_group(&self, group: &str) -> Result<()> {
        let dn = Self::group_dn(group);
        self.ldif(&format!(
            "dn: {dn}\nobjectClass: groupOfNames\ncn: {group}\nmember: {NOBODY_DN}\n"
        ))
    }

    fn add_member(&self, group: &str, member: Member<'_>) -> Result<()> {
        self.change_member("add", group, member)
    }

    fn remove_member(&self, group: &str, member: Member<'_>) -> Result<()> {
        self.change_member("delete", group, member)
    }

    fn binds(&self) -> Result<Option<u64>> {
        // A bind that succeeds is named in a second line too, by its mechanism.
        let all = self.count_operations(" method=")?;
        let service = self.count_operations(&format!(" BIND dn=\"{SERVICE_DN}\" method="))?;
        Ok(Some(all - service))
    }

    fn configure(&self, config: &mut ConfigFile) {
        config
            .set("directory", "kind", "ldap")
            .set("directory", "flavor", "openldap")
            .set("directory", "urls", vec![self.url()])
            .set("directory", "tls_ca_file", &self.ca_file)
            .set("directory", "base_dn", BASE_DN)
            .set("directory", "service_dn", SERVICE_DN)
            .set(
                "directory",
                "service_password_file",
                &self.service_password_file(),
            )
            .set("directory", "domains", ["corp.example"])
            .set("directory", "nested", true);
    }
}

/// The connection that a line of the log is about: `conn=1000`.
fn connection(line: &str) -> Option<&str> {
    line.split_whitespace().find(|it| it.starts_with("conn="))
}

/// The whole `slapd.conf`, <https://www.openldap.org/software/man.cgi?query=slapd.conf>.
fn slapd_conf(tls: &str, data: &Path, settings: &str) -> String {
    let mut conf = String::new();
    for schema in ["core", "cosine", "inetorgperson"] {
        conf += &format!("include {SCHEMA}/{schema}.schema\n");
    }
    conf += &format!("modulepath {MODULES}\nmoduleload back_mdb\nmoduleload back_monitor\n");
    let overlays: Vec<_> = OVERLAYS
        .iter()
        .filter(|(name, _)| Path::new(MODULES).join(format!("{name}.so")).is_file())
        .collect();
    for (name, _) in &overlays {
        conf += &format!("moduleload {name}\n");
    }
    conf += tls;
    conf += "TLSVerifyClient never\n\
             database monitor\n\
             database mdb\n\
             maxsize 268435456\n\
             dbnosync\n";
    conf += &format!("suffix {BASE_DN}\nrootdn {ADMIN_DN}\nrootpw {ADMIN_PASSWORD}\n");
    conf += &format!("directory {}\n", data.display());
    conf += "index objectClass,uid,cn,member,entryUUID,entryCSN eq\n";
    conf += "access to attrs=userPassword by anonymous auth by * none\n";
    // The first rule that fits counts: the settings may have one that allows more.
    let (rules, settings): (Vec<&str>, Vec<&str>) = settings
        .lines()
        .partition(|it| it.starts_with("access to "));
    conf += &rules.join("\n");
    conf.push('\n');
    conf += &format!("access to * by dn.exact={SERVICE_DN} read by self read by * none\n");
    for (name, lines) in &overlays {
        conf += &format!("overlay {name}\n{lines}\n");
    }
    conf + &settings.join("\n") + "\n"
}
