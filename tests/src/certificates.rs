//! A certificate authority for tests, and server certificates signed by it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, date_time_ymd,
};

use crate::account::Account;
use crate::scratch::{Scratch, write_secret};

/// The names that a server on this machine is reached by.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A certificate authority with files in a folder of its own.
#[derive(Debug)]
pub struct Certificates {
    folder: PathBuf,
    ca: CertifiedIssuer<'static, KeyPair>,
    /// The names of its servers' certificates.
    hosts: Vec<String>,
}

/// A server's certificate and key, as PEM files.
#[derive(Debug, Clone)]
pub struct ServerCertificate {
    /// The chain, leaf first.
    pub cert_file: PathBuf,
    /// The private key, readable by its owner only.
    pub key_file: PathBuf,
}

impl Certificates {
    /// Makes an authority (ECDSA P-256); each call makes another one.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn new(scratch: &Scratch) -> Result<Self> {
        Self::for_hosts(scratch, &[])
    }

    /// As [`Certificates::new`], for servers that are reached by other names or addresses too.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn for_hosts(scratch: &Scratch, hosts: &[&str]) -> Result<Self> {
        let folder = scratch.subfolder("certificates")?;
        let mut params = params("Postern test authority", &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let ca = CertifiedIssuer::self_signed(params, key)?;
        fs::write(folder.join("ca.pem"), ca.pem())?;
        let hosts = LOOPBACK_NAMES.iter().chain(hosts);
        let hosts = hosts.map(|&it| it.to_owned()).collect();
        let certificates = Self { folder, ca, hosts };
        open_folder(&certificates.folder)?;
        Ok(certificates)
    }

    /// The authority's certificate, which clients trust.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A certificate for `localhost`, 127.0.0.1, ::1 and the other names; its key belongs to
    /// `account`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn issue(&self, name: &str, account: &Account) -> Result<ServerCertificate> {
        let hosts: Vec<&str> = self.hosts.iter().map(String::as_str).collect();
        self.issue_for(name, &hosts, account)
    }

    /// A certificate for other host names or addresses.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn issue_for(
        &self,
        name: &str,
        hosts: &[&str],
        account: &Account,
    ) -> Result<ServerCertificate> {
        self.sign(name, params(name, hosts)?, account)
    }

    /// A certificate for `localhost` that ends then.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn issue_until(&self, name: &str, end: SystemTime) -> Result<ServerCertificate> {
        let mut params = params(name, &LOOPBACK_NAMES)?;
        params.not_after = end.into();
        self.sign(name, params, &Account::own())
    }

    fn sign(
        &self,
        name: &str,
        mut params: CertificateParams,
        account: &Account,
    ) -> Result<ServerCertificate> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.ca)?;
        let files = ServerCertificate {
            cert_file: self.folder.join(format!("{name}.pem")),
            key_file: self.folder.join(format!("{name}.key")),
        };
        fs::write(&files.cert_file, certificate.pem())?;
        write_secret(&files.key_file, &key.serialize_pem())?;
        account.own_path(&files.key_file)?;
        Ok(files)
    }

    /// A certificate for `localhost`, signed with Ed25519 by an authority of its own, whose
    /// certificate stands behind it in the same file.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn issue_ed25519(&self, name: &str) -> Result<ServerCertificate> {
        let mut params = params(&format!("{name} authority"), &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let issuer = CertifiedIssuer::self_signed(params, key)?;
        let mut params = self::params(name, &LOOPBACK_NAMES)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let leaf = params.signed_by(&key, &issuer)?;
        let files = ServerCertificate {
            cert_file: self.folder.join(format!("{name}.pem")),
            key_file: self.folder.join(format!("{name}.key")),
        };
        fs::write(&files.cert_file, leaf.pem() + &issuer.pem())?;
        write_secret(&files.key_file, &key.serialize_pem())?;
        Account::own().own_path(&files.key_file)?;
        Ok(files)
    }
}

/// What an authority's and a server's certificate have in common.
fn params(name: &str, hosts: &[&str]) -> Result<CertificateParams> {
    let hosts: Vec<String> = hosts.iter().map(|&it| it.to_owned()).collect();
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    // The last year that a UTCTime can hold (RFC 5280, 4.1.2.5).
    params.not_after = date_time_ymd(2049, 12, 31);
    Ok(params)
}

/// Lets other accounts pass through a folder and read what its files' modes allow.
fn open_folder(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
