//! The table that a person reads.

use std::fmt::Write as _;

use super::{Outcome, Probe, failed};
use crate::printable::printable;

/// The widest first columns, in characters; a longer text moves its result to the next line.
const WHAT_CHARS_MAX: usize = 44;

/// The table, and a last line with the sum.
pub(super) fn text(probes: &[Probe]) -> String {
    let width = |of: fn(&Probe) -> &str, max: usize| {
        let lengths = probes.iter().map(|probe| of(probe).chars().count());
        lengths.filter(|length| *length <= max).max().unwrap_or(0)
    };
    let leg = width(|probe| &probe.leg, WHAT_CHARS_MAX);
    let what = width(|probe| &probe.what, WHAT_CHARS_MAX);
    let indent = 6 + leg + 2 + what + 2;
    let mut text = String::new();
    for probe in probes {
        let (mark, result, cure) = match &probe.outcome {
            Outcome::Ok { detail } => ("ok", detail, ""),
            Outcome::Warning { why, cure } => ("warn", why, cure.as_str()),
            Outcome::Failed { why, cure } => ("FAIL", why, cure.as_str()),
        };
        let mut line = format!("{mark:<4}  {:<leg$}  {:<what$}  ", probe.leg, probe.what);
        if probe.what.chars().count() > what {
            push(&mut text, &line);
            line = " ".repeat(indent);
        }
        push_result(&mut text, line, result, indent);
        if !cure.is_empty() {
            let arrow = format!("{}-> ", " ".repeat(indent));
            push_result(&mut text, arrow, cure, indent + 3);
        }
    }
    let warned = probes
        .iter()
        .filter(|probe| matches!(probe.outcome, Outcome::Warning { .. }));
    let (failed, warned) = (failed(probes), warned.count());
    let passed = probes.len() - failed - warned;
    let warnings = if warned == 1 { "warning" } else { "warnings" };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n{passed} ok, {warned} {warnings}, {failed} failed");
    text
}

/// Adds a result; its further lines start below its first one.
fn push_result(text: &mut String, first: String, result: &str, indent: usize) {
    let mut line = first;
    for part in result.lines() {
        line.push_str(&printable(part));
        push(text, &line);
        line = " ".repeat(indent);
    }
    if result.is_empty() {
        push(text, &line);
    }
}

fn push(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_and_says_what_to_do() {
        let probes = [
            Probe::ok("kernel", "io_uring", "works"),
            Probe::warning("listener", "certificate", "ends in 9 days", "renew it"),
            Probe::failed(
                "directory",
                "ldaps://dc1: bind",
                "49\nsecond \u{1b}[1m",
                "look",
            ),
            Probe::ok("audit", "x".repeat(50), "fine"),
        ];
        let long = "x".repeat(50);
        let expect = format!(
            "\
ok    kernel     io_uring           works
warn  listener   certificate        ends in 9 days
                                    -> renew it
FAIL  directory  ldaps://dc1: bind  49
                                    second \\u{{1b}}[1m
                                    -> look
ok    audit      {long}
                                    fine

2 ok, 1 warning, 1 failed
"
        );
        assert_eq!(text(&probes), expect);
    }
}
