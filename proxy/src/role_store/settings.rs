//! How the provisioner logs in.

use std::io::Read as _;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use postern_core::secret::Secret;

use super::error::RoleStoreError;
use crate::limits::SECRET_FILE_BYTES_MAX;
use crate::random;

/// What is pinned for the whole session. Only numbers are put into the text.
/// The session runs the same few statements, so that each is planned once.
pub(super) fn session_options(statement_timeout: Duration) -> String {
    let ms = statement_timeout.as_millis();
    let instance = instance();
    format!(
        "-c search_path=pg_catalog,pg_temp -c client_min_messages=warning \
         -c statement_timeout={ms} -c lock_timeout={ms} \
         -c idle_in_transaction_session_timeout={ms} \
         -c default_transaction_isolation=read\\ committed \
         -c plan_cache_mode=force_generic_plan -c jit=off -c postern.instance={instance}"
    )
}

/// Who this process is among the proxies that share a role store: other than any other, and new
/// with every start. What it changes there is told to all of them under this name.
pub(crate) fn instance() -> &'static str {
    static INSTANCE: LazyLock<String> = LazyLock::new(random::uuid);
    &INSTANCE
}

/// The provisioner's password: the file without the line end that editors leave.
///
/// # Errors
///
/// [`RoleStoreError::Settings`] when the file cannot be read, holds nothing, or is longer than
/// [`SECRET_FILE_BYTES_MAX`].
pub(crate) fn read_password(path: &Path) -> Result<Secret<Vec<u8>>, RoleStoreError> {
    let settings = |why: String| RoleStoreError::Settings {
        what: "role_store.password_file",
        why: format!("{}{why}", path.display()),
    };
    // All at once, so that nothing is left behind where a buffer has grown.
    let limit = SECRET_FILE_BYTES_MAX + 1;
    let mut bytes = Vec::with_capacity(limit);
    let file = std::fs::File::open(path).map_err(|error| settings(format!(": {error}")))?;
    let read = file.take(limit as u64).read_to_end(&mut bytes);
    if read.map_err(|error| settings(format!(": {error}")))? == limit {
        return Err(settings(" is too long".to_owned()));
    }
    while bytes
        .last()
        .is_some_and(|byte| matches!(byte, b'\n' | b'\r'))
    {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err(settings(" is empty".to_owned()));
    }
    Ok(Secret::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_file_loses_its_line_end_and_nothing_else() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("password");
        for (text, wanted) in [("a b \r\n", Some("a b ")), ("x", Some("x")), ("\n", None)] {
            std::fs::write(&path, text)?;
            let found = read_password(&path).ok();
            assert_eq!(
                found.as_ref().map(|s| s.expose().as_slice()),
                wanted.map(str::as_bytes)
            );
        }
        assert!(read_password(&folder.path().join("missing")).is_err());
        std::fs::write(&path, "x".repeat(SECRET_FILE_BYTES_MAX))?;
        assert!(read_password(&path).is_ok());
        std::fs::write(&path, "x".repeat(SECRET_FILE_BYTES_MAX + 1))?;
        assert!(read_password(&path).is_err());
        Ok(())
    }

    #[test]
    fn the_session_is_pinned_in_milliseconds() {
        let options = session_options(Duration::from_secs(3));
        assert!(options.contains("-c statement_timeout=3000 "), "{options}");
        assert!(options.contains("read\\ committed "), "{options}");
    }
}
