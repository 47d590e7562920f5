//! The report as one HTML file that needs nothing else.

mod parts;

use crate::report::figures::{self, Place};
use crate::report::{Report, table};

use parts::{bar_rows, capitalized, configurations, figure_table, findings, legend, list, plots};

const STYLE: &str = include_str!("page/style.css");

/// How the figures were made, for a reader who was not there.
const METHOD: [&str; 7] = [
    "Everything ran on one machine in one run: the load, the proxy and PostgreSQL share its cores, \
     on loopback.",
    "Routes took turns, round by round, and a ratio or a difference is of two figures of one \
     round. Shown is the median over the rounds; the whiskers reach from the least round to the \
     most.",
    "What a transaction of pgbench costs is what it costs everybody, not the proxy alone, at \
     steady state: of 4N transactions a client the 2N in the middle count, so that connecting and \
     the first touches of memory are left out.",
    "Instructions, context switches and segments are those of the whole machine. Busy time is the \
     time that its cores spent on the bench; where they do not count instructions, it stands in \
     for them.",
    "What a proxy adds is its figure less direct's. Where a median of added costs is not above \
     nothing, the noise is larger than the cost, and no ratio is made of it.",
    "pgbench waits for each answer before it asks again. The generator of open-loop keeps its rate \
     whether or not answers come, and counts a latency from when the request was to begin.",
    "The best peer is the one that adds least, or has most, at that point of this run. Every \
     route's configuration is above, whole.",
];

/// The page. `json` is the name of the file beside it that has every raw figure.
pub fn html(report: &Report, json: Option<&str>) -> String {
    let mut page = String::new();
    page.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    page.push_str("<meta name=\"color-scheme\" content=\"light dark\">\n");
    page.push_str("<title>What Postern costs</title>\n<style>\n");
    page.push_str(STYLE);
    page.push_str("</style>\n</head>\n<body>\n");
    page.push_str(&head(report, json));
    page.push_str(&findings(&report.bars));
    page.push_str("<h2 id=\"bars\">Bars</h2>\n");
    page.push_str(&bar_rows(&report.bars));
    let places = figures::places(report);
    page.push_str(&contents(&places));
    for place in &places {
        page.push_str(&section(report, place));
    }
    page.push_str(&end(report, json));
    page.push_str("</body>\n</html>\n");
    page
}

/// A text that stands for itself in HTML.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn head(report: &Report, json: Option<&str>) -> String {
    let machine = |key: &str| report.machine.get(key).map(String::as_str);
    let machine = ["cores", "memory", "kernel", "postgresql"]
        .into_iter()
        .filter_map(|key| Some(format!("{key} {}", machine(key)?)));
    let machine: Vec<String> = machine.collect();
    let json = json.map_or(String::new(), |it| {
        format!(" · <a href=\"{0}\">every raw figure</a>", escape(it))
    });
    format!(
        "<header>\n<h1>What Postern costs</h1>\n\
         <p>Beside its peers, on one machine, in one {} run. Of the bars {}.</p>\n\
         <p class=\"dim\">{} · commit {} · {:.0} minutes · {}{json}</p>\n</header>\n",
        escape(&report.extent),
        escape(&table::counts(&report.bars)),
        escape(&report.began),
        escape(&report.commit),
        report.took_s / 60.0,
        escape(&machine.join(" · ")),
    )
}

fn contents(places: &[Place]) -> String {
    if places.is_empty() {
        return String::new();
    }
    let links = places.iter().map(|it| {
        let title = escape(&it.title());
        format!("<a href=\"#{}\">{title}</a>", anchor(it))
    });
    let links: Vec<String> = links.collect();
    format!("<h2>Measurements</h2>\n<nav>{}</nav>\n", links.join("\n"))
}

fn section(report: &Report, place: &Place) -> String {
    let mut text = format!(
        "<section id=\"{}\">\n<h3>{}</h3>\n<p>{}</p>\n",
        anchor(place),
        escape(&place.title()),
        place
            .about()
            .map_or(String::new(), |it| escape(&sentence(it)))
    );
    text.push_str(&legend(report, place));
    text.push_str(&plots(report, place));
    text.push_str("<details><summary>Figures</summary>\n");
    text.push_str(&figure_table(report, place));
    text.push_str("</details>\n</section>\n");
    text
}

/// A text with a capital letter and a full stop.
fn sentence(text: &str) -> String {
    format!("{}.", capitalized(text))
}

/// What a link to the place ends with: only letters, digits and hyphens.
fn anchor(place: &Place) -> String {
    let title = place.title();
    let kept = title.chars().map(|it| match it {
        it if it.is_ascii_alphanumeric() => it.to_ascii_lowercase(),
        _ => '-',
    });
    kept.collect()
}

fn end(report: &Report, json: Option<&str>) -> String {
    let mut text = "<h2>What could not be measured here</h2>\n".to_owned();
    text.push_str(&match report.gaps.as_slice() {
        [] => "<p>Nothing was left out.</p>\n".to_owned(),
        gaps => list(gaps),
    });
    text.push_str("<h2>The routes</h2>\n");
    text.push_str(&configurations(&report.routes));
    text.push_str("<h2>How it was measured</h2>\n");
    text.push_str(&list(&METHOD));
    text.push_str("<h2>The machine</h2>\n<table class=\"plain\">\n");
    for (name, value) in &report.machine {
        text.push_str(&format!(
            "<tr><th>{}</th><td>{}</td></tr>\n",
            escape(name),
            escape(value)
        ));
    }
    text.push_str("</table>\n<h2>The command</h2>\n");
    text.push_str(&format!("<pre>{}</pre>\n", escape(&report.command)));
    if let Some(json) = json {
        text.push_str(&format!(
            "<p>Every raw figure is in <a href=\"{0}\">{0}</a>.</p>\n",
            escape(json)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn what_a_configuration_says_is_never_markup() {
        let mut report = example::report();
        for route in &mut report.routes {
            route.configuration = "</pre><script>alert('1 & \"2\"')</script>".to_owned();
            route.version = "<em>1</em>".to_owned();
        }
        report.gaps = vec!["<u>no</u>".to_owned()];
        report.command = "a <b> & c".to_owned();
        let page = html(&report, Some("\"out\".json"));
        for markup in ["<script", "<em>1", "<u>no", "a <b>", "href=\"\"out"] {
            assert!(!page.contains(markup), "{markup}");
        }
        let text =
            "&lt;/pre&gt;&lt;script&gt;alert(&#39;1 &amp; &quot;2&quot;&#39;)&lt;/script&gt;";
        assert!(page.contains(text));
    }

    #[test]
    fn the_page_names_every_bar_route_and_gap_and_loads_nothing() {
        let report = example::report();
        let page = html(&report, Some("out.json"));
        for bar in &report.bars {
            assert!(page.contains(&escape(&bar.name)), "{}", bar.name);
        }
        for route in &report.routes {
            assert!(page.contains(&escape(&route.configuration)));
        }
        for gap in &report.gaps {
            assert!(page.contains(&escape(gap)), "{gap}");
        }
        assert!(page.contains("href=\"out.json\""));
        for loads in ["<script", "<link", "src=", "@import", "url("] {
            assert!(!page.contains(loads), "{loads}");
        }
    }

    #[test]
    fn a_report_of_nothing_is_still_a_page() {
        let report = example::nothing();
        let page = html(&report, None);
        assert!(page.contains("not run"));
        assert!(page.ends_with("</html>\n"));
    }
}
