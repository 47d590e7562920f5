//! The files that a configuration names, and the secrets in them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use postern_core::secret::Secret;
use zeroize::Zeroizing;

use crate::limits::SECRET_FILE_BYTES_MAX;

/// What a path of a systemd credential starts with.
///
/// The rest is the file's name in `$CREDENTIALS_DIRECTORY`,
/// <https://systemd.io/CREDENTIALS/>.
pub(crate) const CREDENTIAL_PREFIX: &str = "credential:";

/// Reads the secret that a file holds, without the line ends after it.
///
/// # Errors
///
/// The file cannot be read, is longer than [`SECRET_FILE_BYTES_MAX`], is not UTF-8, holds a NUL
/// byte, or holds nothing.
pub(crate) fn secret_file(path: &Path) -> Result<Secret<String>, SecretFileError> {
    let fail = |why| SecretFileError {
        path: path.to_owned(),
        why,
    };
    let facts = fs::metadata(path).map_err(|error| fail(SecretFileWhy::Read(error)))?;
    if !facts.is_file() {
        return Err(fail(SecretFileWhy::NotAFile));
    }
    let file = File::open(path).map_err(|error| fail(SecretFileWhy::Read(error)))?;
    // The whole capacity is there from the start: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_FILE_BYTES_MAX + 1));
    file.take(SECRET_FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fail(SecretFileWhy::Read(error)))?;
    if bytes.len() > SECRET_FILE_BYTES_MAX {
        return Err(fail(SecretFileWhy::TooLong));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| fail(SecretFileWhy::NotUtf8))?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(fail(SecretFileWhy::Empty));
    }
    if text.contains('\0') {
        return Err(fail(SecretFileWhy::Nul));
    }
    Ok(Secret::new(text.to_owned()))
}

/// Why a file gives no secret.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub(crate) struct SecretFileError {
    /// The file.
    pub(crate) path: PathBuf,
    /// The reason.
    pub(crate) why: SecretFileWhy,
}

/// The reason why a file gives no secret; none carries a part of the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretFileWhy {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    /// It is a folder, a pipe or a device.
    #[error("is not a regular file")]
    NotAFile,
    /// It is longer than any secret.
    #[error("is longer than {SECRET_FILE_BYTES_MAX} bytes")]
    TooLong,
    /// It is not text.
    #[error("is not UTF-8 text")]
    NotUtf8,
    /// There is nothing in it but line ends.
    #[error("is empty")]
    Empty,
    /// PostgreSQL and LDAP libraries would cut the secret at the NUL byte.
    #[error("contains a NUL byte")]
    Nul,
}

/// Where paths of a configuration file start.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// The folder of the configuration file.
    pub(super) folder: PathBuf,
    /// `$CREDENTIALS_DIRECTORY`, which systemd sets.
    pub(super) credentials: Option<PathBuf>,
    /// `$RUNTIME_DIRECTORY`, which systemd sets; of several the first.
    pub(super) runtime: Option<PathBuf>,
}

impl Places {
    /// Those of a configuration file, and of this process's environment.
    pub(super) fn of(file: &Path) -> Self {
        let runtime = std::env::var_os("RUNTIME_DIRECTORY");
        Self {
            folder: file.parent().unwrap_or(Path::new("")).to_owned(),
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(Into::into),
            // systemd.exec(5): the folders are separated by colons.
            runtime: runtime.and_then(|folders| std::env::split_paths(&folders).next()),
        }
    }

    /// The path that a text of the configuration file means, or why it means none.
    pub(super) fn resolve(&self, text: &str) -> Result<PathBuf, String> {
        let Some(name) = text.strip_prefix(CREDENTIAL_PREFIX) else {
            return Ok(self.folder.join(text));
        };
        if name.is_empty() || name.contains('/') || name == "." || name == ".." {
            return Err("the name after `credential:` is not a file name".to_owned());
        }
        match &self.credentials {
            Some(folder) => Ok(folder.join(name)),
            None => Err(
                "$CREDENTIALS_DIRECTORY is not set: `credential:` works only in a \
                         service that systemd started with LoadCredential="
                    .to_owned(),
            ),
        }
    }
}

/// Why a file cannot be read, or nothing.
pub(super) fn unreadable(path: &Path) -> Option<String> {
    // Opening a pipe would wait for its other end, so its kind is looked at first.
    let facts = match fs::metadata(path) {
        Ok(facts) if facts.is_dir() => return Some("is a folder, not a file".to_owned()),
        Ok(facts) if !facts.is_file() => return Some("is not a regular file".to_owned()),
        facts => facts,
    };
    match facts.and_then(|_| File::open(path)) {
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some("does not exist".to_owned()),
        Err(error) => Some(format!("cannot be read: {error}")),
    }
}

/// Whether everybody on the machine can read or write a file; false when it cannot be told.
pub(super) fn open_to_all(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|facts| facts.permissions().mode() & 0o006 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<String, String> {
        let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
        fs::write(file.path(), content).map_err(|error| error.to_string())?;
        secret_file(file.path())
            .map(|secret| secret.expose().clone())
            .map_err(|error| error.why.to_string())
    }

    #[test]
    fn a_secret_loses_its_line_end_and_nothing_else() {
        assert_eq!(read(b"pass word \r\n"), Ok("pass word ".to_owned()));
        assert_eq!(read("  p\u{e4}ss".as_bytes()), Ok("  p\u{e4}ss".to_owned()));
    }

    #[test]
    fn a_file_without_a_usable_secret_is_refused() {
        assert_eq!(read(b""), Err("is empty".to_owned()));
        assert_eq!(read(b"\n\n"), Err("is empty".to_owned()));
        assert_eq!(read(b"a\0b"), Err("contains a NUL byte".to_owned()));
        assert_eq!(read(b"\xff\xfe"), Err("is not UTF-8 text".to_owned()));
        let long = vec![b'x'; SECRET_FILE_BYTES_MAX + 1];
        assert_eq!(
            read(&long),
            Err(format!("is longer than {SECRET_FILE_BYTES_MAX} bytes"))
        );
        assert!(read(&long[1..]).is_ok());
    }

    #[test]
    fn a_folder_is_no_secret() {
        let error = secret_file(Path::new("/"))
            .map(|_| ())
            .map_err(|error| error.to_string());
        assert_eq!(error, Err("/: is not a regular file".to_owned()));
    }

    #[test]
    fn paths_start_at_the_folder_of_the_file_or_of_the_credentials() {
        let mut places = Places {
            folder: "/etc/postern".into(),
            credentials: None,
            runtime: None,
        };
        assert_eq!(places.resolve("a/b"), Ok("/etc/postern/a/b".into()));
        assert_eq!(places.resolve("/x"), Ok("/x".into()));
        assert!(places.resolve("credential:key").is_err());
        places.credentials = Some("/run/credentials/postern".into());
        assert_eq!(
            places.resolve("credential:key"),
            Ok("/run/credentials/postern/key".into())
        );
        assert!(places.resolve("credential:../key").is_err());
        assert!(places.resolve("credential:").is_err());
    }
}
