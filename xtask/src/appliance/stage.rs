//! What is outside of the machine: PostgreSQL, OpenLDAP and the settings that it is given.
//!
//! QEMU's network of its own leads from one address in the guest to the loopback of this machine:
//! <https://www.qemu.org/docs/master/system/devices/net.html>.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use postern_tests::account::Account;
use postern_tests::postgres::SUPERUSER;
use postern_tests::process::run;
use postern_tests::{
    Certificates, ConfigFile, DirectoryServer, OpenLdap, Postern, Postgres, Psql, Scratch, cast,
    free_port, openldap, postern,
};

use super::guest::{Settings, shell_setting};

/// This machine, as the guest sees it.
pub(super) const OUTSIDE: &str = "10.0.2.2";
/// The label of the drive with the settings.
const LABEL: &str = "postern";
/// The secrets of the machine.
const SECRETS: [&str; 4] = [
    "cluster-key",
    "provisioner-password",
    "directory-password",
    "listener-key",
];

/// The servers. The fields end in this order, the folder last.
pub(super) struct Stage {
    pub(super) directory: OpenLdap,
    pub(super) postgres: Postgres,
    pub(super) certificates: Certificates,
    pub(super) scratch: Scratch,
}

impl Stage {
    /// Starts the servers; people, databases and group roles are there afterwards.
    ///
    /// # Errors
    /// If one does not start.
    pub(super) fn start(program: &Path) -> Result<Self> {
        let scratch = Scratch::new()?;
        let certificates = Certificates::for_hosts(&scratch, &[OUTSIDE])?;
        let postgres = Postgres::start(&scratch, &certificates)?;
        let directory = OpenLdap::start(&scratch, &certificates)?;
        cast::make_databases(&postgres)?;
        cast::populate(&directory)?;
        // The schema is installed from outside, as an administrator does.
        let outside = Postern::prepare(&scratch, &certificates, &postgres, free_port()?)?;
        let mut text = String::new();
        outside.configure(|config| {
            directory.configure(config);
            text = config.to_string();
        });
        fs::write(outside.config_file(), text)?;
        let mut install = Command::new(program);
        install.args(["init-sql", "--admin-user", SUPERUSER, "--config"]);
        install.arg(outside.config_file()).arg("--admin-host");
        install.arg(postgres.socket_folder()).arg("--admin-port");
        run(install.arg(postgres.port().to_string()))?;
        cast::prepare_groups(&postgres)?;
        let stage = Self {
            directory,
            postgres,
            certificates,
            scratch,
        };
        stage.write_settings(&outside)?;
        Ok(stage)
    }

    /// The drive that a machine is given.
    pub(super) fn drive(&self) -> Settings {
        Settings::Drive(LABEL, self.settings())
    }

    /// psql through the machine whose proxy has a port here.
    pub(super) fn psql(&self, port: u16, person: cast::Person) -> Psql {
        let ca_file = self.certificates.ca_file();
        Psql::new(port, &ca_file, person.login, person.password).database(cast::HR_DATABASE)
    }

    /// The folder of the settings.
    pub(super) fn settings(&self) -> PathBuf {
        self.scratch.path().join("settings")
    }

    /// The settings as credentials of a machine, <https://systemd.io/CREDENTIALS/>.
    ///
    /// # Errors
    /// If a file of them cannot be read.
    pub(super) fn credentials(&self) -> Result<Vec<(String, String)>> {
        let settings = self.settings();
        let credential = |file: PathBuf| {
            let name = file.strip_prefix(&settings)?.display().to_string();
            let name = match (name.as_str(), name.strip_prefix("secrets/")) {
                (_, Some(secret)) => format!("postern.secret.{secret}"),
                ("postern.toml", _) => name,
                ("shell", _) => "postern.shell".to_owned(),
                _ => format!("postern.file.{name}"),
            };
            Ok((name, fs::read_to_string(file)?))
        };
        files(&settings)?.into_iter().map(credential).collect()
    }

    fn write_settings(&self, outside: &Postern) -> Result<()> {
        let folder = self.settings();
        fs::create_dir_all(folder.join("secrets"))?;
        let certificate = self.certificates.issue("appliance", &Account::own())?;
        fs::copy(self.certificates.ca_file(), folder.join("ca.pem"))?;
        fs::copy(certificate.cert_file, folder.join("listen.pem"))?;
        fs::write(folder.join("shell"), shell_setting())?;
        let of_outside = outside.config_file();
        let of_outside = of_outside.parent().unwrap_or(Path::new("/"));
        let sources = [
            of_outside.join("cluster-key"),
            of_outside.join("provisioner-password"),
            self.scratch
                .secret_file("reader", openldap::SERVICE_PASSWORD)?,
            certificate.key_file,
        ];
        for (name, source) in SECRETS.iter().zip(sources) {
            fs::copy(source, folder.join("secrets").join(name))?;
        }
        fs::write(
            folder.join("postern.toml"),
            self.configuration().to_string(),
        )?;
        Ok(())
    }

    /// The configuration of the machine.
    pub(super) fn configuration(&self) -> ConfigFile {
        let mut config = ConfigFile::new();
        let port = self.postgres.port();
        self.directory.configure(&mut config);
        config
            .set(
                "directory",
                "urls",
                vec![format!("ldaps://{OUTSIDE}:{}", self.directory.tls_port())],
            )
            .set("directory", "tls_ca_file", "ca.pem")
            .set(
                "directory",
                "service_password_file",
                "credential:directory-password",
            )
            .set("listen", "addresses", ["0.0.0.0:5050"])
            .set("listen", "tls_cert_file", "listen.pem")
            .set("listen", "tls_key_file", "credential:listener-key")
            .set("role_store", "host", OUTSIDE)
            .set("role_store", "port", port)
            .set("role_store", "tls_ca_file", "ca.pem")
            .set("role_store", "user", postern::PROVISIONER)
            .set(
                "role_store",
                "password_file",
                "credential:provisioner-password",
            )
            .begin("backend")
            .set("backend", "host", OUTSIDE)
            .set("backend", "port", port)
            .set("backend", "tls_ca_file", "ca.pem")
            .begin("group_rule")
            .set("group_rule", "prefix", cast::GROUP_PREFIX)
            .set("credential", "cluster_key_file", "credential:cluster-key")
            .set("audit", "file", "/var/log/postern/audit.jsonl")
            .set("metrics", "listen", "0.0.0.0:9187")
            .set("perimeter", "place", "proxy-host")
            .set("perimeter", "cgroup", "/postern.slice")
            .begin("perimeter.protect")
            .set(
                "perimeter.protect",
                "prefixes",
                vec![format!("{OUTSIDE}/32")],
            )
            .set("perimeter.protect", "ports", [port]);
        config
    }
}

/// The files in a folder and its subfolders.
///
/// # Errors
/// If a folder cannot be read.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
