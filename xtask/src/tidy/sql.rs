//! Rules for SQL: one routine a file, with a pinned search path, closed to the public.

use std::path::Path;

use super::{Finding, words};

/// The longest line, in characters.
const COLUMNS_MAX: usize = 100;
/// The longest file, in lines.
const FILE_LINES_MAX: usize = 500;

/// Checks one file of `sql/`.
pub(super) fn check(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings = words::check_text(path, text);
    for (index, line) in text.lines().enumerate() {
        if line.chars().count() > COLUMNS_MAX && !line.contains("://") {
            findings.push(Finding::new(path, index + 1, "longer than 100 columns"));
        }
        if index == FILE_LINES_MAX {
            findings.push(Finding::new(path, index + 1, "longer than 500 lines"));
        }
    }
    if !path.components().any(|it| it.as_os_str() == "tests") {
        findings.extend(check_routines(path, text));
    }
    findings
}

fn check_routines(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |number, message: &str| findings.push(Finding::new(path, number, message));
    let code = without_comments(text).to_lowercase();
    let routines: Vec<(usize, String)> = code
        .lines()
        .enumerate()
        .filter_map(|(index, line)| Some((index + 1, routine(line)?)))
        .collect();
    if let Some((number, _)) = routines.get(1) {
        find(*number, "one routine a file");
    }
    let Some((number, name)) = routines.first() else {
        return findings;
    };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    if *name != stem.to_lowercase() {
        find(*number, &format!("the routine is {name}, the file is not"));
    }
    if !code.contains("set search_path") {
        find(
            *number,
            "the search_path is not pinned (SET search_path = ...)",
        );
    }
    let revokes = code
        .split(';')
        .any(|it| it.contains("revoke") && it.contains("from public"));
    if !revokes {
        find(*number, "no REVOKE ... FROM PUBLIC in the same file");
    }
    findings
}

/// The routine that a line creates, without its schema.
fn routine(line: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix("create ")?;
    let rest = rest.strip_prefix("or replace ").unwrap_or(rest);
    let rest = rest
        .strip_prefix("function ")
        .or_else(|| rest.strip_prefix("procedure "))?;
    let name = rest.split('(').next()?.trim();
    Some(name.rsplit('.').next()?.trim_matches('"').to_owned())
}

/// SQL without what follows `--`; a dash in a string is rare enough in a schema.
fn without_comments(text: &str) -> String {
    let lines = text
        .lines()
        .map(|it| it.split("--").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "-- Adds.\nCREATE OR REPLACE FUNCTION postern.add(a int)\nRETURNS int\n\
        SET search_path = pg_catalog, pg_temp\nAS $$ select 1 $$;\n\
        REVOKE ALL ON FUNCTION\n    postern.add(int) FROM PUBLIC;\n";

    fn messages(path: &str, text: &str) -> Vec<String> {
        let findings = check(Path::new(path), text);
        findings.into_iter().map(|it| it.to_string()).collect()
    }

    #[test]
    fn a_good_file_is_accepted() {
        assert_eq!(
            messages("sql/functions/add.sql", GOOD),
            Vec::<String>::new()
        );
    }

    #[test]
    fn each_rule_is_checked() {
        let bad = GOOD.replace("SET search_path", "-- SET search_path");
        assert!(messages("sql/functions/add.sql", &bad)[0].contains("not pinned"));
        let bad = GOOD.replace("FROM PUBLIC", "FROM alice");
        assert!(messages("sql/functions/add.sql", &bad)[0].contains("REVOKE"));
        assert!(messages("sql/functions/sub.sql", GOOD)[0].contains("the file is not"));
        let two = format!("{GOOD}create procedure postern.more()\n");
        assert!(messages("sql/functions/add.sql", &two)[0].contains("one routine a file"));
        assert_eq!(
            messages("sql/tests/add.sql", "create function a()"),
            Vec::<String>::new()
        );
    }
}
