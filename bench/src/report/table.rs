//! The report as text for a terminal.

use crate::bars;
use crate::report::figures::{self, Cell, Place};
use crate::report::format::{figure, in_unit, ratio};
use crate::report::{Bar, Report, Sense};
use crate::sample::Metric;

/// The most metrics of a table: more than four do not fit beside the names in a terminal.
const COLUMNS_MAX: usize = 4;

/// How wide the notes below the bars are, in characters.
const NOTE_CHARACTERS: usize = 92;

/// What stands where there is no figure.
const NONE: &str = "–";

/// The whole report.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for place in figures::places(report) {
        text.push_str(&table(report, &place));
        text.push('\n');
    }
    if !text.is_empty() {
        text.push_str("Medians of the rounds; ± how far the farthest round is from it;\n");
        text.push_str("× the ratio to direct, + what is added to direct, round by round.\n\n");
    }
    text.push_str(&bar_lines(&report.bars));
    text.push_str(&gaps(&report.gaps));
    text
}

/// `9 are met, 2 missed, 10 not measured`; stand-ins are no bars, and are counted by themselves.
pub fn counts(bars: &[Bar]) -> String {
    let count = |met, is_stand_in| {
        let alike = |it: &&Bar| it.met == met && bars::is_stand_in(it) == is_stand_in;
        bars.iter().filter(alike).count()
    };
    let [met, missed, unmeasured] = [Some(true), Some(false), None].map(|it| count(it, false));
    let mut text = format!("{met} are met, {missed} missed, {unmeasured} not measured");
    let [met, missed, unmeasured] = [Some(true), Some(false), None].map(|it| count(it, true));
    if met + missed + unmeasured > 0 {
        text.push_str(&format!(
            "; of their stand-ins {met} would be met, {missed} missed"
        ));
    }
    text
}

/// `at most 0.93`.
pub fn bound(bar: &Bar) -> String {
    let words = match bar.sense {
        Sense::AtMost => "at most",
        Sense::AtLeast => "at least",
    };
    format!("{words} {}", in_unit(&bar.unit, bar.bound))
}

/// `met`, `missed` or `not measured`.
pub fn verdict(bar: &Bar) -> &'static str {
    match bar.met {
        Some(true) => "met",
        Some(false) => "missed",
        None => "not measured",
    }
}

/// The metrics that stand in a table; the page has all.
fn main_metrics(place: &Place) -> Vec<Metric> {
    let has = |metric| place.metrics.contains(&metric);
    // Busy time only says more coarsely what instructions say.
    let is_coarse = |metric: Metric| {
        metric == Metric::BusyPerTransactionUs && has(Metric::InstructionsPerTransaction)
            || metric == Metric::BusyPerByteNs && has(Metric::InstructionsPerByte)
    };
    let metrics = place.metrics.iter().copied().filter(|it| !is_coarse(*it));
    metrics.take(COLUMNS_MAX).collect()
}

fn table(report: &Report, place: &Place) -> String {
    let metrics = main_metrics(place);
    let mut rows = vec![vec![String::new()]];
    if let Some(head) = rows.first_mut() {
        let titles = metrics
            .iter()
            .map(|it| figures::about(*it, &place.scenario));
        head.extend(titles.map(|it| it.title.to_owned()));
    }
    for point in &place.points {
        if !point.is_empty() {
            rows.push(vec![format!("  {point}")]);
        }
        for route in &report.routes {
            let cells = metrics.iter().map(|metric| {
                let cell = place.cell(report, point, &route.name, *metric)?;
                let added = place.added(report, point, &route.name, *metric);
                Some(show(*metric, &cell, added))
            });
            let cells: Vec<Option<String>> = cells.collect();
            if cells.iter().any(Option::is_some) {
                let mut row = vec![format!("    {}", route.name)];
                row.extend(
                    cells
                        .into_iter()
                        .map(|it| it.unwrap_or_else(|| NONE.to_owned())),
                );
                rows.push(row);
            }
        }
    }
    format!("{}\n{}", place.title(), aligned(&rows))
}

/// A figure, its spread, and the ratio to direct; what is added instead, where it is a cost.
fn show(metric: Metric, cell: &Cell, added: Option<Cell>) -> String {
    let mut text = figure(metric, cell.median);
    if let Some(percent) = cell.spread_percent() {
        text.push_str(&format!(" ±{percent:.0} %"));
    }
    let beside = match added.filter(|_| figures::is_cost(metric)) {
        Some(added) if added.median >= 0.0 => format!("+{}", figure(metric, added.median)),
        Some(added) => figure(metric, added.median),
        None => cell
            .to_direct
            .map_or(String::new(), |it| format!("×{}", ratio(it))),
    };
    format!("{text} {beside:>6}")
}

/// Rows with their first column to the left and the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|it| it.get(column));
        cells.map(|it| it.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            line.push_str(&match index {
                0 => format!("{cell:<width$}"),
                _ => format!("   {cell:>width$}"),
            });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn bar_lines(bars: &[Bar]) -> String {
    let mut text = format!("Of the bars {}.\n", counts(bars));
    for bar in bars {
        let found = bar.value.map_or(String::new(), |it| {
            format!("{}, {}: ", in_unit(&bar.unit, it), bound(bar))
        });
        text.push_str(&format!("  {:<12}  {}\n", verdict(bar), bar.name));
        for line in wrapped(&format!("{found}{}", bar.note), NOTE_CHARACTERS) {
            text.push_str(&format!("{:16}{line}\n", ""));
        }
    }
    text
}

fn gaps(gaps: &[String]) -> String {
    if gaps.is_empty() {
        return String::new();
    }
    let mut text = "\nNot measured here:\n".to_owned();
    for gap in gaps {
        for (index, line) in wrapped(gap, NOTE_CHARACTERS).iter().enumerate() {
            let mark = if index == 0 { "-" } else { " " };
            text.push_str(&format!("  {mark} {line}\n"));
        }
    }
    text
}

/// Lines of whole words, each no longer than `characters` unless one word is.
pub(crate) fn wrapped(text: &str, characters: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= characters => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn the_columns_of_a_table_are_aligned() {
        let rows = [
            vec!["a".to_owned(), "12 µs".to_owned()],
            vec!["long name".to_owned(), "3".to_owned()],
            vec!["  group".to_owned()],
        ];
        assert_eq!(
            aligned(&rows),
            "a           12 µs\nlong name       3\n  group\n"
        );
    }

    #[test]
    fn the_text_has_every_scenario_bar_and_gap() {
        let report = example::report();
        let text = text(&report);
        for place in figures::places(&report) {
            assert!(text.contains(&place.title()), "{}", place.title());
        }
        for bar in &report.bars {
            assert!(text.contains(&bar.name), "{}", bar.name);
        }
        for gap in &report.gaps {
            assert!(text.contains(gap), "{gap}");
        }
        assert!(text.contains(&counts(&report.bars)));
    }

    #[test]
    fn a_figure_stands_with_its_spread_and_its_relation_to_direct() {
        let cell = Cell {
            median: 50.0,
            least: 49.0,
            most: 55.0,
            to_direct: Some(1.25),
        };
        let added = Cell {
            median: 10.0,
            ..cell
        };
        assert_eq!(
            show(Metric::P50Us, &cell, Some(added)),
            "50.0 µs ±10 %  ×1.25"
        );
        let metric = Metric::BusyPerTransactionUs;
        assert_eq!(show(metric, &cell, Some(added)), "50.0 µs ±10 % +10.0 µs");
    }

    #[test]
    fn a_note_is_wrapped_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("", 7), Vec::<String>::new());
    }
}
