//! A private Samba domain controller for Active Directory.
//!
//! Samba's ports are fixed, so each one has a loopback address of its own.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::account::Account;
use crate::certificates::{Certificates, ServerCertificate};
use crate::config_file::ConfigFile;
use crate::directory::{DirectoryServer, Member};
use crate::needs;
use crate::process::{Server, run, run_with_input};
use crate::scratch::{Scratch, write_secret};
use crate::template;
use crate::wait::accepts;

/// How long a start may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The root of the tree.
pub const BASE_DN: &str = "DC=corp,DC=example";
/// Where people and groups are.
pub const USERS_DN: &str = "CN=Users,DC=corp,DC=example";
/// The service principal, an ordinary account: those may read people and groups.
pub const SERVICE_LOGIN: &str = "postern-reader@corp.example";
const SERVICE_NAME: &str = "postern-reader";
/// The service principal's password.
pub const SERVICE_PASSWORD: &str = "Reader-1234-only";
/// The administrator, who may change everything.
pub const ADMIN_LOGIN: &str = "administrator@corp.example";
/// The administrator's password.
pub const ADMIN_PASSWORD: &str = "Admin-1234-only";

/// Names of the domain, which are part of the template.
const REALM: &str = "CORP.EXAMPLE";
const DOMAIN: &str = "CORP";
const HOST: &str = "DC1";

/// LDAPS, a fixed port of Samba's.
pub const TLS_PORT: u16 = 636;
/// LDAP with StartTLS.
pub const PORT: u16 = 389;

/// A running (or stopped) domain controller.
#[derive(Debug)]
pub struct Samba {
    folder: PathBuf,
    address: Ipv4Addr,
    ca_file: PathBuf,
    server: Mutex<Option<Server>>,
}

impl Samba {
    /// Provisions a domain (from a template after the first time) and starts it.
    ///
    /// # Errors
    /// If it is not installed, we are not root, or it does not start; the message quotes its log.
    pub fn start(scratch: &Scratch, certificates: &Certificates) -> Result<Self> {
        if let Some(missing) = needs::missing_for_samba() {
            bail!("Samba cannot be started: {missing}");
        }
        let folder = scratch.subfolder("samba")?;
        let samba = Self {
            address: free_address()?,
            ca_file: certificates.ca_file(),
            server: Mutex::new(None),
            folder,
        };
        let address = samba.address.to_string();
        let name = samba.folder.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let certificate = certificates.issue_for(&name, &[&address], &Account::own())?;
        samba.provision()?;
        fs::write(samba.conf(), samba.smb_conf(&certificate))?;
        write_secret(&samba.folder.join("admin-password"), ADMIN_PASSWORD)?;
        write_secret(&samba.service_password_file(), SERVICE_PASSWORD)?;
        samba.start_again()?;
        samba.add_person(SERVICE_NAME, SERVICE_PASSWORD)?;
        Ok(samba)
    }

    /// Starts a stopped server on its old data and address.
    ///
    /// # Errors
    /// If it runs already or does not start; the message quotes its log.
    pub fn start_again(&self) -> Result<()> {
        let mut slot = self.slot();
        if slot.is_some() {
            bail!("Samba runs already");
        }
        let program = needs::program("samba").context("samba is not installed")?;
        let mut command = Account::own().command(&program, "KILL");
        command.args([
            "-F",
            "-M",
            "single",
            "--no-process-group",
            "--debug-stdout",
            "-s",
        ]);
        command.arg(self.conf());
        let mut server = Server::spawn("Samba", command, &self.log_file(), Signal::SIGTERM)?;
        let address = self.address.to_string();
        server.wait_ready(START_LIMIT, || Ok(accepts(&address, TLS_PORT)))?;
        *slot = Some(server);
        Ok(())
    }

    /// Ends it; [`Samba::start_again`] starts it again.
    ///
    /// # Errors
    /// If it does not run or does not end.
    pub fn stop(&self) -> Result<()> {
        let server = self.slot().take();
        server.context("Samba does not run")?.stop()?;
        Ok(())
    }

    /// Stops it where it is: connections are accepted by the kernel and then hang.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self) -> Result<()> {
        let slot = self.slot();
        slot.as_ref().context("Samba does not run")?.pause()
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self) -> Result<()> {
        let slot = self.slot();
        slot.as_ref().context("Samba does not run")?.resume()
    }

    /// Adds, changes or deletes entries as the administrator: LDIF change records (RFC 2849);
    /// a record without `changetype` is added.
    ///
    /// # Errors
    /// If the server refuses one; those before it are done.
    pub fn ldif(&self, records: &str) -> Result<()> {
        let output = run_with_input(self.client("ldapmodify").arg("-a"), records)?;
        if !output.status.success() {
            bail!("ldapmodify: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Searches the domain as the administrator and returns LDIF without line folding.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn search(&self, filter: &str, attributes: &[&str]) -> Result<String> {
        let mut command = self.client("ldapsearch");
        command.args(["-LLL", "-o", "ldif-wrap=no", "-b", BASE_DN, filter]);
        run(command.args(attributes))
    }

    /// Runs `samba-tool` on the domain's own data: `["user", "disable", "nina"]`.
    ///
    /// # Errors
    /// If it does not succeed; the message has what it wrote.
    pub fn tool(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("samba-tool");
        command.args(arguments).arg("-s").arg(self.conf());
        run(command.arg("-H").arg(self.data_file()))
    }

    /// Lets the service principal see what has been deleted, which only administrators may do at
    /// first.
    ///
    /// # Errors
    /// If the domain's data cannot be changed.
    pub fn show_deletions(&self) -> Result<()> {
        let filter = format!("sAMAccountName={SERVICE_NAME}");
        let data = self.data_file();
        let found = run(Command::new("ldbsearch")
            .arg("-H")
            .arg(&data)
            .args([&filter, "objectSid"]))?;
        let sid = found.lines().find_map(|it| it.strip_prefix("objectSid: "));
        let sid = sid.context("the service principal has no objectSid")?;
        // What it is at first, and list and read for the principal.
        let access =
            format!("O:SYG:SYD:PAI(A;;RPWPCCDCLCRCWOWDSDSW;;;SY)(A;;RPLC;;;BA)(A;;RPLC;;;{sid})");
        let change = format!(
            "dn: CN=Deleted Objects,{BASE_DN}\nchangetype: modify\n\
             replace: nTSecurityDescriptor\nnTSecurityDescriptor: {access}\n"
        );
        let mut command = Command::new("ldbmodify");
        let output = run_with_input(command.arg("--show-deleted").arg("-H").arg(&data), &change)?;
        if !output.status.success() {
            bail!("ldbmodify: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// The DN of a person or group.
    #[must_use]
    pub fn dn(name: &str) -> String {
        format!("CN={name},{USERS_DN}")
    }

    /// The URL for LDAPS.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ldaps://{}:{TLS_PORT}", self.address)
    }

    /// The URL for StartTLS.
    #[must_use]
    pub fn plain_url(&self) -> String {
        format!("ldap://{}:{PORT}", self.address)
    }

    /// The domain's data. A program that changes it (`ldbmodify`) is to the server what one of
    /// its other processes is, or another domain controller.
    #[must_use]
    pub fn data_file(&self) -> PathBuf {
        self.data().join("private/sam.ldb")
    }

    /// The loopback address that is this server's alone.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
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

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn conf(&self) -> PathBuf {
        self.folder.join("smb.conf")
    }

    /// One of OpenLDAP's clients, as the administrator.
    fn client(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.args(["-x", "-H", &self.url(), "-D", ADMIN_LOGIN, "-y"]);
        command.arg(self.folder.join("admin-password"));
        // Ahead of the machine's own ldap.conf.
        command.env("LDAPTLS_CACERT", &self.ca_file);
        command
    }

    fn provision(&self) -> Result<()> {
        let version = run(Command::new("samba-tool").arg("--version"))?;
        let address = self.address.to_string();
        template::fill(&format!("samba-{}", version.trim()), &self.data(), |data| {
            // Without a file of our own, the machine's smb.conf would become part of it.
            let base = self.folder.join("base.conf");
            let text = format!(
                "[global]\nnetbios name = {HOST}\ninterfaces = {address}/8\n\
                 bind interfaces only = yes\nlog file = {}\n",
                self.log_file().display()
            );
            fs::write(&base, text)?;
            let mut command = Command::new("samba-tool");
            command.args([
                "domain",
                "provision",
                "--server-role=dc",
                "--dns-backend=NONE",
            ]);
            command
                .arg(format!("--realm={REALM}"))
                .arg(format!("--domain={DOMAIN}"));
            command
                .arg(format!("--host-name={HOST}"))
                .arg(format!("--host-ip={address}"));
            command.arg(format!("--adminpass={ADMIN_PASSWORD}"));
            command.arg("--use-rfc2307").arg("-s").arg(&base);
            run(command.arg(format!("--targetdir={}", data.display())))?;
            Ok(())
        })
    }

    /// The whole `smb.conf`: LDAP only, in our folder and on our address.
    ///
    /// By default a domain controller, Windows' too, takes the old password for an hour after a
    /// change; tests want to see the change.
    fn smb_conf(&self, certificate: &ServerCertificate) -> String {
        let data = self.data().display().to_string();
        let mut conf = format!(
            "[global]\nnetbios name = {HOST}\nworkgroup = {DOMAIN}\nrealm = {REALM}\n\
             server role = active directory domain controller\nserver services = ldap\n\
             interfaces = {}/8\nbind interfaces only = yes\n\
             log level = 1 auth_audit:3\n\
             old password allowed period = 0\n\
             private dir = {data}/private\nlock directory = {data}\n\
             state directory = {data}/state\ncache directory = {data}/cache\n\
             binddns dir = {data}/bind-dns\npid directory = {data}\n\
             ncalrpc dir = {data}/ncalrpc\ntls enabled = yes\n",
            self.address
        );
        for (key, file) in [
            ("cafile", &self.ca_file),
            ("certfile", &certificate.cert_file),
            ("keyfile", &certificate.key_file),
        ] {
            conf += &format!("tls {key} = {}\n", file.display());
        }
        conf
    }

    fn slot(&self) -> MutexGuard<'_, Option<Server>> {
        // A test that panicked while it held the lock left a server or none, both whole.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_member(&self, verb: &str, group: &str, member: Member<'_>) -> Result<()> {
        let (Member::Person(name) | Member::Group(name)) = member;
        let (group, member) = (Self::dn(group), Self::dn(name));
        self.ldif(&format!(
            "dn: {group}\nchangetype: modify\n{verb}: member\nmember: {member}\n"
        ))
    }
}

impl DirectoryServer for Samba {
    fn name(&self) -> &'static str {
        "Samba AD"
    }

    fn add_person(&self, login: &str, password: &str) -> Result<()> {
        let (dn, secret) = (Self::dn(login), unicode_password(password));
        // 512 is NORMAL_ACCOUNT of userAccountControl: enabled.
        self.ldif(&format!(
            "dn: {dn}\nobjectClass: user\nsAMAccountName: {login}\n\
             userPrincipalName: {login}@corp.example\nuserAccountControl: 512\n\
             unicodePwd:: {secret}\n"
        ))
    }

    fn remove_person(&self, login: &str) -> Result<()> {
        let dn = Self::dn(login);
        self.ldif(&format!("dn: {dn}\nchangetype: delete\n"))
    }

    fn set_password(&self, login: &str, password: &str) -> Result<()> {
        let (dn, secret) = (Self::dn(login), unicode_password(password));
        self.ldif(&format!(
            "dn: {dn}\nchangetype: modify\nreplace: unicodePwd\nunicodePwd:: {secret}\n"
        ))
    }

    fn add_group(&self, group: &str) -> Result<()> {
        let dn = Self::dn(group);
        self.ldif(&format!(
            "dn: {dn}\nobjectClass: group\nsAMAccountName: {group}\n"
        ))
    }

    fn add_member(&self, group: &str, member: Member<'_>) -> Result<()> {
        self.change_member("add", group, member)
    }

    fn remove_member(&self, group: &str, member: Member<'_>) -> Result<()> {
        self.change_member("delete", group, member)
    }

    fn binds(&self) -> Result<Option<u64>> {
        let log = fs::read(self.log_file())?;
        let log = String::from_utf8_lossy(&log);
        let others = [ADMIN_LOGIN, SERVICE_LOGIN].map(|it| format!("\\[{it}]"));
        let binds = log.lines().filter(|it| {
            it.contains("Auth: [LDAP,simple bind") && !others.iter().any(|other| it.contains(other))
        });
        Ok(Some(u64::try_from(binds.count())?))
    }

    fn configure(&self, config: &mut ConfigFile) {
        config
            .set("directory", "kind", "ldap")
            .set("directory", "flavor", "active-directory")
            .set("directory", "urls", vec![self.url()])
            .set("directory", "tls_ca_file", &self.ca_file)
            .set("directory", "base_dn", BASE_DN)
            .set("directory", "service_dn", SERVICE_LOGIN)
            .set(
                "directory",
                "service_password_file",
                &self.service_password_file(),
            )
            .set("directory", "domains", ["corp.example", "CORP"])
            .set("directory", "nested", true);
    }
}

/// The value of `unicodePwd` in base64: the password in quotes and in UTF-16,
/// <https://learn.microsoft.com/openspecs/windows_protocols/ms-adts/6e803168-f140-4d23-b2d3-c3a8ab5917d2>.
fn unicode_password(password: &str) -> String {
    let quoted = format!("\"{password}\"");
    base64(
        &quoted
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect::<Vec<u8>>(),
    )
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = (0..3).fold(0_usize, |sum, index| {
            sum << 8 | usize::from(chunk.get(index).copied().unwrap_or_default())
        });
        for letter in 0..4 {
            let value = group >> (18 - 6 * letter) & 63;
            text.push(if letter <= chunk.len() {
                char::from(LETTERS[value])
            } else {
                '='
            });
        }
    }
    text
}

/// A loopback address on which nobody serves LDAP.
fn free_address() -> Result<Ipv4Addr> {
    static HANDED_OUT: AtomicU8 = AtomicU8::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    for _ in 0..100 {
        let number = 100 + HANDED_OUT.fetch_add(1, Ordering::Relaxed) % 100;
        let address = Ipv4Addr::new(127, number, high, low.clamp(1, 254));
        if TcpListener::bind((address, TLS_PORT)).is_ok() {
            return Ok(address);
        }
    }
    bail!("no loopback address with a free port {TLS_PORT}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_agrees_with_the_examples_of_the_rfc() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
