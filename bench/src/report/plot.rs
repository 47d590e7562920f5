//! Plots of the page, as SVG that takes its colours from the page's style.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::figures::Cell;
use crate::report::format::number;
use crate::report::table::wrapped;

/// The size of a plot, in units of its own: the page stretches it to its column.
const SIZE: (u32, u32) = (480, 300);

/// The room beside the vertical axis, for its numbers and its title.
const LEFT: u32 = 70;

/// The height of a line of text; the backend makes letters of four fifths of it.
const TEXT_HEIGHT: u32 = 16;

/// How wide a letter is, on average.
const LETTER_WIDTH: usize = 7;

/// How many colours the page's style has for routes; further routes begin anew.
pub const COLOURS: usize = 8;

/// How much of the space of a point its routes take together.
const POINT_SHARE: f64 = 0.72;

/// The widest bar, from its middle to its side, as a share of the space of a point.
const BAR_MAX: f64 = 0.12;

/// About how many lines a vertical axis has.
const TICKS: f64 = 5.0;

/// What a plot shows.
#[derive(Debug)]
pub struct Plot {
    /// Below the horizontal axis; nothing where its points say what they are.
    pub x_axis: String,
    /// Beside the vertical axis, with the unit.
    pub y_axis: String,
    /// The points, from left to right.
    pub points: Vec<String>,
    /// Whether the points are steps of one scale, so that a line between them says something.
    pub is_scale: bool,
    /// A value that all others are compared with.
    pub reference: Option<f64>,
    /// Each route's figures.
    pub lines: Vec<Line>,
}

/// The figures of one route.
#[derive(Debug)]
pub struct Line {
    /// Which of the page's colours it has.
    pub colour: usize,
    /// Which of the points, and the figure there.
    pub cells: Vec<(usize, Cell)>,
}

/// Draws a plot.
///
/// # Errors
/// If there is no figure in it.
pub fn svg(plot: &Plot) -> Result<String> {
    let up = scale(plot).ok_or_else(|| anyhow!("nothing to plot"))?;
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        draw(&area, plot, up).map_err(|error| anyhow!("{error}"))?;
        area.present().map_err(|error| anyhow!("{error}"))?;
    }
    Ok(with_style(&text))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;
type DrawError = DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>;

fn draw(area: &Area<'_>, plot: &Plot, up: Axis) -> Result<(), DrawError> {
    let across = Axis {
        from: -0.5,
        to: as_float(plot.points.len()) - 0.5,
        ticks: (0..plot.points.len()).map(as_float).collect(),
    };
    let names = names(plot);
    let lines = names.iter().map(Vec::len).max().unwrap_or_default() + usize::from(plot.is_scale);
    let below = TEXT_HEIGHT * u32::try_from(lines).unwrap_or(1) + 12;
    let ticks = up.ticks.len();
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .margin_right(14)
        .x_label_area_size(below)
        .y_label_area_size(LEFT)
        .build_cartesian_2d(across, up)?;
    let label = ("sans-serif", TEXT_HEIGHT).into_font().color(&TEXT);
    chart
        .configure_mesh()
        .disable_x_mesh()
        .axis_style(GRID)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|_| String::new())
        .y_labels(ticks)
        .y_label_formatter(&|y| short(*y))
        .label_style(label.clone())
        .axis_desc_style(label.clone())
        .y_desc(plot.y_axis.as_str())
        .draw()?;
    if let Some(value) = plot.reference {
        let ends = [(-0.5, value), (as_float(plot.points.len()) - 0.5, value)];
        let style = colour(0).stroke_width(1);
        chart.draw_series([DashedPathElement::new(ends, 5, 4, style)])?;
    }
    for (index, line) in plot.lines.iter().enumerate() {
        draw_line(&mut chart, plot, (index, line))?;
    }
    let centred = label.pos(Pos::new(HPos::Center, VPos::Top));
    let base = i32::try_from(SIZE.1 - below).unwrap_or_default();
    for (at, name) in names.iter().enumerate() {
        let (x, _) = chart.backend_coord(&(as_float(at), 0.0));
        for (row, text) in (0..).zip(name) {
            let y = base + row * i32::try_from(TEXT_HEIGHT).unwrap_or_default();
            area.draw_text(text, &centred, (x, y))?;
        }
    }
    if plot.is_scale {
        let (x, _) = chart.backend_coord(&(as_float(plot.points.len()) / 2.0 - 0.5, 0.0));
        let y = i32::try_from(SIZE.1 - TEXT_HEIGHT - 4).unwrap_or_default();
        area.draw_text(&plot.x_axis, &centred, (x, y))?;
    }
    Ok(())
}

/// The figures of one route: a path or bars, and whiskers.
fn draw_line(
    chart: &mut Chart<'_, '_>,
    plot: &Plot,
    (index, line): (usize, &Line),
) -> Result<(), DrawError> {
    let count = plot.lines.len();
    let colour = colour(line.colour);
    let place = |at: usize| as_float(at) + offset(index, count, plot.is_scale);
    if plot.is_scale {
        let path = line
            .cells
            .iter()
            .map(|(at, cell)| (place(*at), cell.median));
        chart.draw_series(LineSeries::new(path, colour.stroke_width(2)))?;
    } else {
        let half = (POINT_SHARE / as_float(count.max(1)) / 2.0 * 0.86).min(BAR_MAX);
        let bars = line.cells.iter().map(|(at, cell)| {
            let x = place(*at);
            Rectangle::new([(x - half, 0.0), (x + half, cell.median)], bar(line.colour))
        });
        chart.draw_series(bars)?;
    }
    let whiskers = line.cells.iter().map(|(at, cell)| {
        let (least, most) = (cell.least, cell.most);
        ErrorBar::new_vertical(place(*at), least, cell.median, most, colour.filled(), 7)
    });
    chart.draw_series(whiskers)?;
    Ok(())
}

/// The names of the points, in as many lines as each needs.
fn names(plot: &Plot) -> Vec<Vec<String>> {
    let width = usize::try_from(SIZE.0 - LEFT).unwrap_or_default();
    let letters = width / plot.points.len().max(1) / LETTER_WIDTH;
    plot.points.iter().map(|it| wrapped(it, letters)).collect()
}

/// The vertical axis: from nothing, or from below, to a round number above everything.
fn scale(plot: &Plot) -> Option<Axis> {
    let cells = || plot.lines.iter().flat_map(|it| &it.cells).map(|it| it.1);
    let least = cells().map(|it| it.least).min_by(f64::total_cmp)?;
    let most = cells().map(|it| it.most).max_by(f64::total_cmp)?;
    let reference = plot.reference.unwrap_or_default();
    Some(Axis::linear(least.min(0.0), most.max(reference).max(0.0)))
}

/// An axis whose labels stand exactly where they should.
#[derive(Debug)]
struct Axis {
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Axis {
    fn linear(least: f64, most: f64) -> Self {
        let span = if most > least { most - least } else { 1.0 };
        let power = 10f64.powf((span / TICKS).log10().floor());
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|it| it * power);
        let fitting = steps.into_iter().find(|it| span / it <= TICKS);
        let step = fitting.unwrap_or(span);
        let first = (least / step).floor();
        let last = ((least + span) / step).ceil();
        let mut ticks = Vec::new();
        let mut tick = first;
        while tick <= last {
            ticks.push(tick * step);
            tick += 1.0;
        }
        Self {
            from: first * step,
            to: last * step,
            ticks,
        }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.from..self.to).map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match hint.weight().allow_light_points() {
            // Between the ticks there are no lines.
            true => Vec::new(),
            false => self.ticks.clone(),
        }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.from..self.to
    }
}

/// How far to the side of its point a route stands, so that whiskers do not cover each other.
fn offset(index: usize, count: usize, is_scale: bool) -> f64 {
    let share = if is_scale {
        POINT_SHARE / 3.0
    } else {
        POINT_SHARE
    };
    let step = share / as_float(count.max(1));
    step * (as_float(index) - (as_float(count) - 1.0) / 2.0)
}

/// A label of the vertical axis.
fn short(value: f64) -> String {
    match value.abs() {
        size if size < 1e-12 => "0".to_owned(),
        size if size >= 1e6 => format!("{} M", plain(value / 1e6)),
        size if size >= 1e4 => format!("{} k", plain(value / 1e3)),
        _ => plain(value),
    }
}

/// A number without zeros at its end.
fn plain(value: f64) -> String {
    let text = number(value);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn as_float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

// The backend writes colours as hexadecimal numbers, and the page has a light and a dark style:
// these numbers stand for the style's variables, and are replaced at the end.
const TEXT: RGBColor = RGBColor(1, 0, 0);
const GRID: RGBColor = RGBColor(2, 0, 0);

fn colour(index: usize) -> RGBColor {
    RGBColor(3, 0, u8::try_from(index % COLOURS).unwrap_or_default())
}

fn bar(index: usize) -> ShapeStyle {
    colour(index).mix(0.55).filled()
}

fn with_style(svg: &str) -> String {
    let mut svg = svg.replace("#010000", "var(--dim)");
    svg = svg.replace("#020000", "var(--line)");
    for index in 0..COLOURS {
        svg = svg.replace(&format!("#03000{index}"), &format!("var(--route-{index})"));
    }
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(median: f64) -> Cell {
        Cell {
            median,
            least: median * 0.9,
            most: median * 1.1,
            to_direct: None,
        }
    }

    fn plot(lines: Vec<Line>) -> Plot {
        Plot {
            x_axis: "clients".to_owned(),
            y_axis: "p99, ratio to direct".to_owned(),
            points: vec!["1".to_owned(), "16".to_owned()],
            is_scale: true,
            reference: Some(1.0),
            lines,
        }
    }

    #[test]
    fn a_plot_has_its_axes_and_only_the_page_has_its_colours() -> Result<()> {
        let line = Line {
            colour: 1,
            cells: vec![(0, cell(1.1)), (1, cell(1.5))],
        };
        let svg = svg(&plot(vec![line]))?;
        let parts = [
            "clients",
            "p99, ratio to direct",
            "var(--route-1)",
            "var(--line)",
            "16",
        ];
        for part in parts {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains("#0"), "{svg}");
        Ok(())
    }

    #[test]
    fn nothing_is_not_plotted() {
        assert!(svg(&plot(Vec::new())).is_err());
    }

    #[test]
    fn the_names_of_many_points_take_several_lines() {
        let mut plot = plot(Vec::new());
        plot.points = vec!["while strangers log in elsewhere".to_owned(); 5];
        let names = names(&plot);
        let first: Vec<&str> = names.iter().flatten().map(String::as_str).take(4).collect();
        assert_eq!(first, ["while", "strangers", "log in", "elsewhere"]);
    }

    #[test]
    fn an_axis_begins_at_nothing_and_holds_every_figure() {
        for (least, most, from, to) in [
            (0.0, 43_000.0, 0.0, 50_000.0),
            (-1_200.0, 4_300.0, -2_000.0, 6_000.0),
            (0.0, 0.0, 0.0, 1.0),
        ] {
            let axis = Axis::linear(least, most);
            assert_eq!((axis.from, axis.to), (from, to));
            assert!(axis.ticks.len() >= 4, "{axis:?}");
        }
    }
}
