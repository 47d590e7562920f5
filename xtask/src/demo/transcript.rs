//! What the demonstration prints: headings, command lines, their output, and whether each claim
//! holds.

use postern_tests::Answer;

/// Prints, and counts the claims.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    steps: u32,
    passed: u32,
    failed: u32,
}

impl Transcript {
    /// Begins a step.
    pub(super) fn heading(&mut self, title: &str) {
        self.steps += 1;
        println!("\n── {}. {title}\n", self.steps);
    }

    /// A sentence between two commands.
    pub(super) fn say(&self, text: &str) {
        println!("{text}");
    }

    /// A command line as a person would type it.
    pub(super) fn command(&self, line: &str) {
        println!("$ {line}");
    }

    /// What a command printed, messages first as a terminal shows them when nothing else comes.
    pub(super) fn output(&self, answer: &Answer) {
        for line in answer.stderr.lines().chain(answer.stdout.lines()) {
            println!("    {line}");
        }
    }

    /// Lines of other output.
    pub(super) fn lines(&self, text: &str) {
        for line in text.lines() {
            println!("    {line}");
        }
    }

    /// Whether a claim holds.
    pub(super) fn check(&mut self, holds: bool, claim: &str) {
        if holds {
            self.passed += 1;
            println!("ok      {claim}");
        } else {
            self.failed += 1;
            println!("FAILED  {claim}");
        }
    }

    pub(super) fn passed(&self) -> u32 {
        self.passed
    }

    pub(super) fn failed(&self) -> u32 {
        self.failed
    }
}
