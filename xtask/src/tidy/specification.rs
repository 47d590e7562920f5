//! SPECIFICATION.md names only what exists, and every bar of the bench.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Finding;
use super::lexer::{has_word, split};
use super::regions::tests_from;

/// The page.
const PAGE: &str = "SPECIFICATION.md";
/// Where the bars are.
const BARS: &str = "bench/src/bars/promises.rs";
/// Where the benches of core are.
const BENCHES: &str = "bench/benches/";
/// What stands where nothing makes a number yet.
const NOT_MEASURED: &str = "not measured";

/// What a table is about, by the title of its first column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Numbers that tests make.
    Promises,
    /// Numbers that the bench makes.
    Bars,
    /// Figures of criterion.
    Decisions,
}

/// The sources that the page may name.
#[derive(Debug)]
pub(super) struct Sources<'a> {
    /// Every file of the repository.
    pub(super) files: &'a [PathBuf],
    /// The text of those that have one.
    pub(super) texts: Vec<(&'a Path, &'a str)>,
    /// The files that are modules for tests only.
    pub(super) test_modules: &'a BTreeSet<PathBuf>,
}

/// Checks the page, if there is one.
pub(super) fn check(sources: &Sources<'_>) -> Vec<Finding> {
    let Some(page) = sources.text(PAGE) else {
        return Vec::new();
    };
    let tests = sources.tests();
    let bars = bars(sources.text(BARS).unwrap_or_default());
    let mut findings = Vec::new();
    let mut listed = BTreeSet::new();
    for (number, kind, cells) in rows(page) {
        let mut find = |message: String| {
            findings.push(Finding::new(Path::new(PAGE), number, &message));
        };
        let [what, value, place, maker] = cells.as_slice() else {
            find(format!("{} columns, four are needed", cells.len()));
            continue;
        };
        check_place(sources, place, &mut find);
        match kind {
            Kind::Promises => check_maker(&tests, maker, &mut find),
            Kind::Bars => {
                let name = quoted(what).next().unwrap_or_default();
                listed.insert(name.to_owned());
                match bars.iter().find(|it| it.name == name) {
                    None => find(format!("the bench has no bar {name}")),
                    Some(bar) if bar.bound != *value => {
                        find(format!(
                            "the bench has the bound {}, not {value}",
                            bar.bound
                        ));
                    }
                    Some(_) => {}
                }
            }
            Kind::Decisions => {
                for name in quoted(what).filter(|it| !sources.has_bench(it)) {
                    find(format!("there is no bench {name}"));
                }
            }
        }
    }
    for bar in bars.iter().filter(|it| !listed.contains(&it.name)) {
        let message = format!("{PAGE} does not list the bar {}", bar.name);
        findings.push(Finding::new(Path::new(BARS), bar.line, &message));
    }
    findings
}

impl Sources<'_> {
    /// What a file holds, if it is one of those.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        let mut texts = self.texts.iter();
        texts.find(|it| it.0 == Path::new(path)).map(|it| it.1)
    }

    /// The names of all functions that are tests, or that tests call.
    pub(super) fn tests(&self) -> BTreeSet<String> {
        self.tests_by_file().into_values().flatten().collect()
    }

    /// The same, by the files that they are in.
    pub(super) fn tests_by_file(&self) -> BTreeMap<&Path, BTreeSet<String>> {
        let rust = self.texts.iter();
        let rust = rust.filter(|it| it.0.extension().is_some_and(|it| it == "rs"));
        let tests = rust.map(|(path, text)| {
            let lines = split(text);
            let from = tests_from(path, &lines, self.test_modules);
            let names = lines.iter().skip(from).filter_map(|it| {
                let (_, rest) = it.code.split_once("fn ")?;
                let end = rest.find(|it: char| !it.is_alphanumeric() && it != '_')?;
                rest.get(..end)
            });
            (*path, names.map(str::to_owned).collect())
        });
        tests.collect()
    }

    /// Whether the group and the name of a bench stand in the benches.
    fn has_bench(&self, id: &str) -> bool {
        let benches = self.texts.iter().filter(|it| it.0.starts_with(BENCHES));
        let texts: Vec<&str> = benches.map(|it| it.1).collect();
        let (group, name) = id.split_once('/').unwrap_or(("", id));
        [group, name].iter().all(|part| {
            let literal = format!("\"{part}\"");
            texts.iter().any(|it| it.contains(&literal))
        })
    }
}

/// The rows of the tables that are checked: their line, kind and cells.
fn rows(page: &str) -> Vec<(usize, Kind, Vec<&str>)> {
    let mut rows = Vec::new();
    let mut kind = None;
    for (index, line) in page.lines().enumerate() {
        let Some(row) = line.strip_prefix('|').and_then(|it| it.strip_suffix('|')) else {
            kind = None;
            continue;
        };
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let heading = match cells.first().copied() {
            Some("promise") => Some(Kind::Promises),
            Some("bar") => Some(Kind::Bars),
            Some("decision") => Some(Kind::Decisions),
            _ => None,
        };
        let is_rule = row.chars().all(|it| matches!(it, '-' | '|' | ':' | ' '));
        match (kind, heading) {
            (None, _) => kind = heading,
            (Some(kind), _) if !is_rule => rows.push((index + 1, kind, cells)),
            (Some(_), _) => {}
        }
    }
    rows
}

/// What stands in backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The place is files that exist, and words that stand in them.
fn check_place(sources: &Sources<'_>, place: &str, find: &mut impl FnMut(String)) {
    let (files, words): (Vec<&str>, Vec<&str>) = quoted(place).partition(|it| it.contains('/'));
    if files.is_empty() {
        find("it is not said where the number is set".to_owned());
    }
    for file in &files {
        if !sources.files.iter().any(|it| it == Path::new(file)) {
            find(format!("there is no file {file}"));
        }
    }
    for word in words {
        let mut texts = files.iter().filter_map(|it| sources.text(it));
        if !texts.any(|it| it.lines().any(|line| has_word(line, word))) {
            find(format!("{word} is not in {}", files.join(", ")));
        }
    }
}

/// The number is made by tests that exist, or said to be not measured.
fn check_maker(tests: &BTreeSet<String>, maker: &str, find: &mut impl FnMut(String)) {
    let mut names = quoted(maker).peekable();
    if names.peek().is_none() && maker != NOT_MEASURED {
        find(format!(
            "no test is named; without one say `{NOT_MEASURED}`"
        ));
    }
    for name in names.filter(|it| !it.starts_with("cargo ")) {
        if !tests.contains(name) {
            find(format!("there is no test {name}"));
        }
    }
}

/// A bar, as its source says it.
#[derive(Debug, PartialEq, Eq)]
struct Bar {
    name: String,
    /// As the page has it: `at most 0.93`.
    bound: String,
    line: usize,
}

/// The bars of the table in the bench's source.
fn bars(source: &str) -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut rest = source;
    while let Some((_, after)) = rest.split_once("name: \"") {
        let line = source.len() - after.len();
        let line = source.get(..line).unwrap_or_default().lines().count();
        let Some((name, fields)) = after.split_once("\",\n") else {
            break;
        };
        let field = |key: &str| {
            let (_, value) = fields.split_once(key)?;
            value.split_once(',').map(|it| it.0)
        };
        let unit = field("unit: ").unwrap_or_default().trim_matches('"');
        let number = field("bound: ").unwrap_or_default().replace('_', ",");
        let sense = match field("sense: ") {
            Some("Sense::AtLeast") => "at least",
            _ => "at most",
        };
        let bound = match unit {
            "ratio" => format!("{sense} {number}"),
            unit => format!("{sense} {} {unit}", number.trim_end_matches(".0")),
        };
        bars.push(Bar {
            name: joined(name),
            bound,
            line,
        });
        rest = fields;
    }
    bars
}

/// A string whose lines end with a backslash, as the compiler reads it.
fn joined(literal: &str) -> String {
    let mut parts = literal.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
pub const PROMISES: &[Promise] = &[
    Promise {
        name: \"idle: user space\",
        bound: 2_048.0,
        sense: Sense::AtMost,
        unit: \"bytes\",
        of: idle(),
    },
    Promise {
        name: \"COPY: throughput, \\
               against direct\",
        bound: 0.95,
        sense: Sense::AtLeast,
        unit: \"ratio\",
        of: copy(),
    },
];
";

    const LIMITS: &str = "pub const A_MAX: usize = 7;\n\
                          #[cfg(test)]\nmod tests {\n    fn a_is_seven() {}\n}\n";

    const BENCH: &str = "group(\"wire\"); bench(\"startup\");\n";

    fn messages(page: &str) -> Vec<String> {
        let files = [PAGE, BARS, "core/limits.rs", "bench/benches/core.rs"].map(PathBuf::from);
        let texts = [page, SOURCE, LIMITS, BENCH];
        let texts = files.iter().map(PathBuf::as_path).zip(texts).collect();
        let sources = Sources {
            files: &files,
            texts,
            test_modules: &BTreeSet::new(),
        };
        check(&sources).iter().map(ToString::to_string).collect()
    }

    fn page(promise: &str, bars: &[&str]) -> String {
        format!(
            "# S\n| promise | value | set in | made by |\n|---|---|---|---|\n{promise}\n\n\
             | bar | value | set in | made by |\n|---|---|---|---|\n{}\n",
            bars.join("\n")
        )
    }

    const GOOD: &str = "| a | 7 | `core/limits.rs` `A_MAX` | `a_is_seven`, with 7 |";
    const GOOD_BARS: [&str; 2] = [
        "| `idle: user space` | at most 2,048 bytes | `core/limits.rs` | `cargo xtask bench` |",
        "| `COPY: throughput, against direct` | at least 0.95 | `core/limits.rs` | `cargo x` |",
    ];

    #[test]
    fn a_page_that_names_what_exists_is_right() {
        assert_eq!(messages(&page(GOOD, &GOOD_BARS)), Vec::<String>::new());
        let unmeasured = "| a | 7 | `core/limits.rs` | not measured |";
        assert_eq!(
            messages(&page(unmeasured, &GOOD_BARS)),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_does_not_exist_is_found() {
        for (promise, message) in [
            (
                "| a | 7 | `core/gone.rs` | not measured |",
                "there is no file core/gone.rs",
            ),
            (
                "| a | 7 | there | not measured |",
                "it is not said where the number is set",
            ),
            (
                "| a | 7 | `core/limits.rs` `B_MAX` | not measured |",
                "B_MAX is not in core/limits.rs",
            ),
            (
                "| a | 7 | `core/limits.rs` | `a_is_eight` |",
                "there is no test a_is_eight",
            ),
            (
                "| a | 7 | `core/limits.rs` | by hand |",
                "no test is named; without one say `not measured`",
            ),
            ("| a | 7 |", "2 columns, four are needed"),
        ] {
            let expected = [format!("{PAGE}:4: error: {message}")];
            assert_eq!(messages(&page(promise, &GOOD_BARS)), expected);
        }
    }

    #[test]
    fn a_bar_that_only_one_side_has_is_found_and_so_is_another_bound() {
        let renamed = GOOD_BARS[0].replace("idle", "idler");
        assert_eq!(
            messages(&page(GOOD, &[&renamed, GOOD_BARS[1]])),
            [
                format!("{PAGE}:8: error: the bench has no bar idler: user space"),
                format!("{BARS}:3: error: {PAGE} does not list the bar idle: user space"),
            ]
        );
        let looser = GOOD_BARS[0].replace("2,048", "4,096");
        assert_eq!(
            messages(&page(GOOD, &[&looser, GOOD_BARS[1]])),
            [format!(
                "{PAGE}:8: error: the bench has the bound at most 2,048 bytes, \
                 not at most 4,096 bytes"
            )]
        );
    }

    #[test]
    fn a_figure_of_a_bench_that_is_gone_is_found() {
        let good = page(GOOD, &GOOD_BARS);
        let figures = |name: &str| {
            format!(
                "{good}\n| decision | seen | set in | made by |\n|---|---|---|---|\n\
                 | `{name}` | 1 µs | `bench/benches/core.rs` | `cargo bench` |\n"
            )
        };
        assert_eq!(messages(&figures("wire/startup")), Vec::<String>::new());
        assert_eq!(
            messages(&figures("wire/gone")),
            [format!("{PAGE}:13: error: there is no bench wire/gone")]
        );
    }

    #[test]
    fn a_repository_without_the_page_has_nothing_to_check() {
        let sources = Sources {
            files: &[],
            texts: Vec::new(),
            test_modules: &BTreeSet::new(),
        };
        assert_eq!(check(&sources), Vec::new());
    }
}
