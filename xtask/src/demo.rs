//! x
use anyhow::Result;
use std::process::ExitCode;
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {}
pub(crate) fn run(_: Arguments) -> Result<ExitCode> {
    crate::signals::catch()?;
    Ok(ExitCode::SUCCESS)
}
