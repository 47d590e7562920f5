//! The parts of the page.

use super::escape;
use crate::bars;
use crate::report::figures::{self, Cell, Place};
use crate::report::format::{figure, in_unit, ratio};
use crate::report::plot::{self, Line, Plot};
use crate::report::{Bar, Report, RouteSummary, table};
use crate::route::Kind;
use crate::sample::Metric;

/// The bars that a reader looks for first, by the beginning of their names.
const HEADLINES: [&str; 8] = [
    "plain, 16 clients: added instructions",
    "plain, 64 clients: added instructions",
    "plain, 64 clients: throughput",
    "plain, 1 client: added p50",
    "COPY out, plain: throughput",
    "idle session, plain: user space",
    "slow reader: bytes held",
    "warm login with TLS",
];

/// From this ratio of the largest to the least figure on, a plot shows ratios to direct.
const WIDE: f64 = 20.0;

/// What was found, in large figures.
pub(super) fn findings(bars: &[Bar]) -> String {
    let mut text = "<div class=\"cards\">\n".to_owned();
    for begin in HEADLINES {
        // A bar without a value is followed by its stand-in, if that has one.
        let mut named = bars.iter().filter(|it| it.name.starts_with(begin));
        let Some((bar, value)) = named.find_map(|it| Some((it, it.value?))) else {
            continue;
        };
        text.push_str(&format!(
            "<div class=\"card {}\"><b>{}</b><span>{}</span><small>{}, bound {}</small></div>\n",
            class(bar),
            escape(&in_unit(&bar.unit, value)),
            escape(&bar.name),
            table::verdict(bar),
            escape(&table::bound(bar)),
        ));
    }
    text.push_str("</div>\n");
    text
}

/// Every bar.
pub(super) fn bar_rows(bars: &[Bar]) -> String {
    let mut text = "<div class=\"scroll\"><table class=\"bars\">\n<thead><tr><th></th>\
                    <th>Bar</th><th>Found</th><th>Promised</th></tr></thead>\n<tbody>\n"
        .to_owned();
    for bar in bars {
        let value = bar
            .value
            .map_or("–".to_owned(), |it| in_unit(&bar.unit, it));
        text.push_str(&format!(
            "<tr class=\"{}\"><td><i>{}</i></td><td>{}<small>{}</small></td><td>{}</td>\
             <td>{}</td></tr>\n",
            class(bar),
            table::verdict(bar),
            escape(&bar.name),
            escape(&bar.note),
            escape(&value),
            escape(&table::bound(bar)),
        ));
    }
    text.push_str("</tbody></table></div>\n");
    text
}

/// Which colour is which route, of those that were measured there.
pub(super) fn legend(report: &Report, place: &Place) -> String {
    let mut text = "<p class=\"legend\">".to_owned();
    for (index, route) in report.routes.iter().enumerate() {
        let samples = report.samples.all().iter();
        let mut mine = samples.filter(|it| {
            it.route == route.name
                && it.scenario == place.scenario
                && it.encryption == place.encryption
        });
        if mine.next().is_some() {
            text.push_str(&format!(
                "<span><i style=\"background:var(--route-{})\"></i>{}</span> ",
                index % plot::COLOURS,
                escape(&route.name)
            ));
        }
    }
    text.push_str("</p>\n");
    text
}

/// A plot of every metric: of costs what is added to direct, of latencies and of figures that lie
/// far apart the ratio to direct, of all others the figure itself.
pub(super) fn plots(report: &Report, place: &Place) -> String {
    let mut text = "<div class=\"plots\">\n".to_owned();
    for metric in &place.metrics {
        let title = figures::about(*metric, &place.scenario).title;
        let (title, plot) = if figures::is_cost(*metric) {
            (format!("Added {title}"), added_plot(report, place, *metric))
        } else {
            let plot = absolute_plot(report, place, *metric);
            let is_compared = figures::is_latency(*metric) || is_wide(&plot);
            match relative_plot(report, place, *metric).filter(|_| is_compared) {
                Some(plot) => (format!("{}, against direct", capitalized(title)), plot),
                None => (capitalized(title), plot),
            }
        };
        // A metric without a figure at any point of this place has no plot.
        let Ok(svg) = plot::svg(&plot) else { continue };
        text.push_str(&format!(
            "<figure><figcaption>{}</figcaption>{svg}</figure>\n",
            escape(&title)
        ));
    }
    text.push_str("</div>\n");
    text
}

/// Whether the least figures would not be seen beside the largest.
fn is_wide(plot: &Plot) -> bool {
    let medians = || {
        plot.lines
            .iter()
            .flat_map(|it| &it.cells)
            .map(|it| it.1.median.abs())
    };
    let least = medians().min_by(f64::total_cmp).unwrap_or_default();
    let most = medians().max_by(f64::total_cmp).unwrap_or_default();
    plot.points.len() > 1 && most >= WIDE * least
}

fn absolute_plot(report: &Report, place: &Place, metric: Metric) -> Plot {
    let unit = if metric == Metric::BytesPerS {
        1e6
    } else {
        1.0
    };
    plot_of(report, place, metric, |point: &str, route: &str| {
        let cell = place.cell(report, point, route, metric)?;
        Some(Cell {
            median: cell.median / unit,
            least: cell.least / unit,
            most: cell.most / unit,
            to_direct: None,
        })
    })
}

fn added_plot(report: &Report, place: &Place, metric: Metric) -> Plot {
    let cell = |point: &str, route: &str| place.added(report, point, route, metric);
    let mut plot = plot_of(report, place, metric, cell);
    plot.y_axis = format!("added {}", plot.y_axis);
    plot
}

/// Nothing, where direct was not measured.
fn relative_plot(report: &Report, place: &Place, metric: Metric) -> Option<Plot> {
    let cell = |point: &str, route: &str| place.relative(report, point, route, metric);
    let mut plot = plot_of(report, place, metric, cell);
    plot.y_axis = format!(
        "{}, ratio to direct",
        figures::about(metric, &place.scenario).title
    );
    plot.reference = Some(1.0);
    (!plot.lines.is_empty()).then_some(plot)
}

fn plot_of(
    report: &Report,
    place: &Place,
    metric: Metric,
    cell: impl Fn(&str, &str) -> Option<Cell>,
) -> Plot {
    let lines = report
        .routes
        .iter()
        .enumerate()
        .filter_map(|(index, route)| {
            let cells = place.points.iter().enumerate();
            let cells = cells.filter_map(|(at, point)| Some((at, cell(point, &route.name)?)));
            let cells: Vec<(usize, Cell)> = cells.collect();
            (!cells.is_empty()).then_some(Line {
                colour: index % plot::COLOURS,
                cells,
            })
        });
    let mut plot = Plot {
        x_axis: "clients".to_owned(),
        y_axis: figures::about(metric, &place.scenario).axis.to_owned(),
        points: place.points.clone(),
        is_scale: false,
        reference: None,
        lines: lines.collect(),
    };
    let clients: Option<Vec<&str>> = place.points.iter().map(|it| clients(it)).collect();
    if let Some(clients) = clients.filter(|it| it.len() > 1) {
        plot.points = clients.into_iter().map(str::to_owned).collect();
        plot.is_scale = true;
    }
    keep_used(&mut plot);
    plot
}

/// Leaves out the points at which nothing was measured.
fn keep_used(plot: &mut Plot) {
    let is_used = |at: usize| {
        plot.lines
            .iter()
            .any(|it| it.cells.iter().any(|it| it.0 == at))
    };
    let used: Vec<usize> = (0..plot.points.len()).filter(|at| is_used(*at)).collect();
    for (at, _) in plot.lines.iter_mut().flat_map(|it| &mut it.cells) {
        *at = used.iter().position(|it| it == at).unwrap_or_default();
    }
    let names = used.iter().filter_map(|at| plot.points.get(*at).cloned());
    plot.points = names.collect();
}

/// The number in `16 clients`.
fn clients(point: &str) -> Option<&str> {
    let (number, word) = point.split_once(' ')?;
    let is_number = number.chars().all(|it| it.is_ascii_digit());
    (is_number && matches!(word, "client" | "clients")).then_some(number)
}

/// Every figure of a place.
pub(super) fn figure_table(report: &Report, place: &Place) -> String {
    let mut text =
        "<div class=\"scroll\"><table class=\"figures\">\n<thead><tr><th></th>".to_owned();
    for metric in &place.metrics {
        let about = figures::about(*metric, &place.scenario);
        text.push_str(&format!("<th>{}</th>", escape(&capitalized(about.title))));
    }
    text.push_str("</tr></thead>\n");
    for point in &place.points {
        text.push_str("<tbody>\n");
        if !point.is_empty() {
            let span = place.metrics.len() + 1;
            text.push_str(&format!(
                "<tr><th class=\"point\" colspan=\"{span}\">{}</th></tr>\n",
                escape(point)
            ));
        }
        for route in &report.routes {
            text.push_str(&figure_row(report, place, point, route));
        }
        text.push_str("</tbody>\n");
    }
    text.push_str(
        "</table></div>\n<p class=\"dim\">Medians; the least and the most round; \
                   × the ratio to direct, + what is added to direct.</p>\n",
    );
    text
}

fn figure_row(report: &Report, place: &Place, point: &str, route: &RouteSummary) -> String {
    let cell = |metric| place.cell(report, point, &route.name, metric);
    if !place.metrics.iter().any(|it| cell(*it).is_some()) {
        return String::new();
    }
    let mut text = format!(
        "<tr class=\"{}\"><th>{}</th>",
        kind(route.kind),
        escape(&route.name)
    );
    for metric in &place.metrics {
        let Some(found) = cell(*metric) else {
            text.push_str("<td>–</td>");
            continue;
        };
        let added = place.added(report, point, &route.name, *metric);
        let beside = match added.filter(|_| figures::is_cost(*metric)) {
            Some(added) if added.median >= 0.0 => format!("+{}", figure(*metric, added.median)),
            Some(added) => figure(*metric, added.median),
            None => found
                .to_direct
                .map_or(String::new(), |it| format!("×{}", ratio(it))),
        };
        let range = match found.least < found.most {
            true => format!(
                "{} to {}",
                figure(*metric, found.least),
                figure(*metric, found.most)
            ),
            false => String::new(),
        };
        text.push_str(&format!(
            "<td>{} <b>{}</b><small>{}</small></td>",
            escape(&figure(*metric, found.median)),
            escape(&beside),
            escape(&range),
        ));
    }
    text.push_str("</tr>\n");
    text
}

/// The routes, each with the whole of its configuration.
pub(super) fn configurations(routes: &[RouteSummary]) -> String {
    let mut text = String::new();
    for route in routes {
        text.push_str(&format!(
            "<details><summary><b>{}</b> <span class=\"dim\">{}</span></summary>\n\
             <pre>{}</pre></details>\n",
            escape(&route.name),
            escape(&route.version),
            escape(&route.configuration),
        ));
    }
    text
}

/// A list of texts.
pub(super) fn list(items: &[impl AsRef<str>]) -> String {
    let items = items
        .iter()
        .map(|it| format!("<li>{}</li>\n", escape(it.as_ref())));
    format!("<ul>\n{}</ul>\n", items.collect::<String>())
}

fn class(bar: &Bar) -> String {
    let verdict = match bar.met {
        Some(true) => "met",
        Some(false) => "missed",
        None => "unmeasured",
    };
    let stand_in = if bars::is_stand_in(bar) {
        " stand-in"
    } else {
        ""
    };
    format!("{verdict}{stand_in}")
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Direct => "direct",
        Kind::Postern => "postern",
        Kind::Peer => "peer",
    }
}

pub(super) fn capitalized(text: &str) -> String {
    // Names like `p99` are spelled as they are.
    if text.starts_with('p') && text.chars().nth(1).is_some_and(|it| it.is_ascii_digit()) {
        return text.to_owned();
    }
    let mut characters = text.chars();
    let first = characters.next().map(|it| it.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}
