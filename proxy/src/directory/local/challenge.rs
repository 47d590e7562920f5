//! Names of the file that prove themselves by SCRAM.

use postern_core::credential::SCRAM_ITERATIONS;
use postern_core::principal::Principal;
use postern_core::scram::{Decoys, Shape, Verifier};
use ring::digest::{SHA256, digest};

use super::LocalFile;
use crate::directory::DirectoryError;

/// What an unknown name is challenged with where there are no accounts: what `postern local passwd`
/// makes.
const USUAL_SHAPE: Shape = Shape {
    iterations: SCRAM_ITERATIONS,
    salt_bytes: 16,
};

/// A name that is to prove itself.
pub(crate) struct LocalChallenge {
    /// The name in lower case.
    key: String,
    /// The identifier of the account that has it, if one does.
    account: Option<String>,
    verifier: Verifier,
}

impl LocalChallenge {
    /// What the proof is checked with.
    pub(crate) fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Whether nobody has the name: for the audit file, and never for the client.
    pub(crate) fn is_of_nobody(&self) -> bool {
        self.account.is_none()
    }
}

impl LocalFile {
    /// What a name is challenged with, which tells nothing about whether an account has it: an
    /// unknown name costs the same work, and gets a decoy.
    ///
    /// # Errors
    ///
    /// When the file cannot be used.
    pub(crate) fn challenge(
        &self,
        name: &str,
        decoys: &Decoys,
    ) -> Result<LocalChallenge, DirectoryError> {
        let accounts = self.accounts()?;
        let key = name.to_lowercase();
        let decoy = decoys.verifier(&key, &accounts.shapes, USUAL_SHAPE);
        let account = accounts.accounts.get(&key);
        Ok(LocalChallenge {
            key,
            account: account.map(|it| it.id.clone()),
            verifier: account.map_or(decoy, |it| it.verifier.clone()),
        })
    }

    /// The account that was challenged, and its groups, as the file has them now.
    ///
    /// # Errors
    ///
    /// [`DirectoryError`]: there was none, it has another password by now, it is refused, or the
    /// file cannot be used.
    pub(crate) fn challenged(
        &self,
        challenge: &LocalChallenge,
    ) -> Result<Principal, DirectoryError> {
        let accounts = self.accounts()?;
        let account = accounts.accounts.get(&challenge.key);
        let same = account.filter(|it| challenge.account.as_ref() == Some(&it.id));
        let account = same.ok_or(DirectoryError::UnknownLogin)?;
        if version_of(&account.verifier) != version_of(&challenge.verifier) {
            return Err(DirectoryError::WrongPassword);
        }
        accounts.principal(account)
    }
}

/// Another one for another password: a digest of what is kept of it.
pub(super) fn version_of(verifier: &Verifier) -> String {
    let kept = verifier.to_string();
    let kept = digest(&SHA256, kept.as_bytes());
    let first = kept.as_ref().iter().take(8);
    first.map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

    use postern_core::secret::Secret;

    use super::*;

    /// Two accounts, written as `postern local passwd` does, one of them disabled.
    fn file(folder: &tempfile::TempDir) -> LocalFile {
        let path = folder.path().join("accounts.toml");
        let iterations = SCRAM_ITERATIONS;
        let verifier = Verifier::from_password(b"right", b"0123456789abcdef", iterations);
        let text = format!(
            "[[account]]\nname = \"Alice\"\nid = \"1\"\nverifier = \"{verifier}\"\n\
             [[account]]\nname = \"carol\"\nid = \"2\"\nverifier = \"{verifier}\"\n\
             disabled = true\n"
        );
        super::super::super::replace::replace_file(&path, text.as_bytes()).unwrap();
        LocalFile::new(&path).unwrap()
    }

    fn decoys() -> Decoys {
        Decoys::new(Secret::new([7; 32]))
    }

    #[test]
    fn a_challenge_does_not_tell_whether_an_account_has_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        let mut salts = Vec::new();
        for name in ["alice", "ALICE", "carol", "nobody", "Nobody", "nobody"] {
            let challenge = file.challenge(name, &decoys()).unwrap();
            let verifier = challenge.verifier();
            assert_eq!(verifier.iterations(), SCRAM_ITERATIONS);
            assert_eq!(verifier.salt().len(), 16);
            salts.push(verifier.salt().to_vec());
        }
        let [alice, again, carol, nobody, other_case, later] = salts.try_into().unwrap();
        assert!(alice == again && nobody == other_case && nobody == later);
        assert!(carol != nobody);
    }

    #[test]
    fn only_an_account_that_may_log_in_comes_of_a_challenge() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        let outcome = |name| file.challenged(&file.challenge(name, &decoys()).unwrap());
        assert_eq!(outcome("aLICE").unwrap().name, "Alice");
        assert!(matches!(outcome("bob"), Err(DirectoryError::UnknownLogin)));
        let disabled = outcome("carol");
        assert!(matches!(disabled, Err(DirectoryError::AccountRefused(_))));
    }

    #[test]
    fn a_password_that_is_changed_during_the_exchange_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        let challenge = file.challenge("alice", &decoys()).unwrap();
        let other = Verifier::from_password(b"other", b"0123456789abcdef", SCRAM_ITERATIONS);
        super::super::set_password(file.path(), "alice", None, &other, "3").unwrap();
        let outcome = file.challenged(&challenge);
        assert!(matches!(outcome, Err(DirectoryError::WrongPassword)));
    }
}
