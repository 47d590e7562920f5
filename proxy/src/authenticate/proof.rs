//! Accounts of the local file that proved, by SCRAM, that they know their password.

use std::net::IpAddr;
use std::sync::Arc;

use postern_core::audit::Source;
use postern_core::principal::Principal;
use postern_core::scram::{ClientScramError, ClientVerified};

use super::{Authenticated, Authenticator};
use crate::ask::Asked;
use crate::directory::local::LocalFile;
use crate::directory::{Directories, DirectoryError, LocalChallenge};
use crate::error::{ClientError, Denied, LoginError};

impl Authenticator {
    /// Looks at the proof of an exchange, and returns with whose it is what the client has to be
    /// told, so that it knows that it is talked to by who has the verifier.
    ///
    /// Nothing waits, and no directory is asked: wrong proofs count against the address that they
    /// came from and not against the account, or whoever knows its name could keep the account of
    /// the last resort out.
    ///
    /// # Errors
    ///
    /// The proof is wrong, nobody has the name, the account may not log in, or too many wrong ones
    /// came from there.
    pub(crate) fn prove(
        &self,
        directories: &Directories,
        asked: Asked,
        client: IpAddr,
    ) -> Result<(Authenticated, Vec<u8>), LoginError> {
        let asked_at = self.memory.started.elapsed();
        let (challenge, verified, server_final) = self.judge(asked, client)?;
        let proven = directories.proven(&challenge, verified).map_err(failed)?;
        self.wrong.was_right_from(client);
        let told = self.memory.proven(proven.into_principal(), asked_at);
        let authenticated = Authenticated {
            principal: told.principal,
            source: Source::Local,
            asked_at: self.memory.started + told.asked_at,
            password: None,
        };
        Ok((authenticated, server_final))
    }

    /// The same for an account of another file, which nothing remembers.
    ///
    /// # Errors
    ///
    /// As [`Authenticator::prove`].
    pub(crate) fn prove_to(
        &self,
        file: &LocalFile,
        asked: Asked,
        client: IpAddr,
    ) -> Result<(Principal, Vec<u8>), LoginError> {
        let (challenge, _verified, server_final) = self.judge(asked, client)?;
        let principal = file.challenged(&challenge).map_err(failed)?;
        self.wrong.was_right_from(client);
        Ok((principal, server_final))
    }

    /// Looks at a proof, which counts as a wrong one until something else is said.
    fn judge(
        &self,
        asked: Asked,
        client: IpAddr,
    ) -> Result<(LocalChallenge, ClientVerified, Vec<u8>), LoginError> {
        let Asked {
            challenge,
            challenged,
            last,
        } = asked;
        if !self.wrong.take_from(client) {
            return Err(LoginError::Denied(Denied::PasswordTriedTooOften));
        }
        let proof = challenged.client_final(&last);
        let (verified, server_final) = proof.map_err(|error| {
            match (
                error == ClientScramError::WrongProof,
                challenge.is_of_nobody(),
            ) {
                (true, true) => failed(DirectoryError::UnknownLogin),
                (true, false) => failed(DirectoryError::WrongPassword),
                (false, _) => ClientError::Scram(error).into(),
            }
        })?;
        Ok((challenge, verified, server_final))
    }

    /// Whether a password that the database is to be asked about may come from an address.
    ///
    /// # Errors
    ///
    /// Too many wrong ones came from there.
    pub(crate) fn may_try_from(&self, client: IpAddr) -> Result<(), LoginError> {
        if !self.wrong.take_from(client) {
            return Err(LoginError::Denied(Denied::PasswordTriedTooOften));
        }
        // Many connections of one program come at once, and none of them is wrong until the
        // database says so.
        self.wrong.was_right_from(client);
        Ok(())
    }

    /// The database refused a password that came from an address.
    pub(crate) fn was_wrong_from(&self, client: IpAddr) {
        // There was room a moment ago; those that came together may find none, and count less.
        let _ = self.wrong.take_from(client);
    }
}

fn failed(error: DirectoryError) -> LoginError {
    LoginError::Directory(Arc::new(error))
}
