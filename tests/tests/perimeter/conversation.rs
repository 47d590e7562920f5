//! Connections that an actor holds, or makes over and over.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::actor;
use crate::origin::Origin;
use crate::stage::ECHO_PORT;

/// A connection that stays open.
#[derive(Debug)]
pub(crate) struct Conversation {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Conversation {
    /// Connects to the echo.
    pub(crate) fn begin(origin: &Origin, address: IpAddr) -> Result<Self> {
        let address = SocketAddr::new(address, ECHO_PORT).to_string();
        let mut conversation = Self::start(origin, &["converse", &address])?;
        let line = conversation.line()?;
        ensure!(line == "connected", "{line}");
        Ok(conversation)
    }

    /// Connects to addresses over and over; see [`Conversation::end`].
    pub(crate) fn hammer(origin: &Origin, addresses: &[SocketAddr]) -> Result<Self> {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let addresses = addresses.iter().map(String::as_str);
        let words: Vec<&str> = ["hammer"].into_iter().chain(addresses).collect();
        let mut hammer = Self::start(origin, &words)?;
        ensure!(hammer.line()? == "hammering");
        Ok(hammer)
    }

    fn start(origin: &Origin, words: &[&str]) -> Result<Self> {
        let mut command = origin.command(&actor::command(words)?);
        // It ends with its standard input, which ends with us.
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self {
            input: child.stdin.take().context("no standard input")?,
            output: BufReader::new(child.stdout.take().context("no standard output")?),
            child,
        })
    }

    /// Sends something; whether it comes back.
    pub(crate) fn is_answered(&mut self) -> Result<bool> {
        writeln!(self.input, "say")?;
        match self.line()?.as_str() {
            "answered" => Ok(true),
            "silent" => Ok(false),
            line => bail!("it said {line:?}"),
        }
    }

    /// Ends it by SIGKILL.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends it, and returns its last line.
    pub(crate) fn end(self) -> Result<String> {
        let Self {
            mut child,
            input,
            mut output,
        } = self;
        drop(input);
        let mut line = String::new();
        output.read_line(&mut line)?;
        ensure!(child.wait()?.success(), "the actor failed");
        Ok(line.trim_end().to_owned())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}
