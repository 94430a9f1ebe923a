//! The elements of a picture.

use std::fmt::Write as _;

pub(super) const WIDTH: f64 = 960.0;
pub(super) const CHART_HEIGHT: f64 = 300.0;
pub(super) const LEFT: f64 = 60.0;
pub(super) const RIGHT: f64 = 20.0;
pub(super) const TOP: f64 = 46.0;
pub(super) const BOTTOM: f64 = 34.0;
pub(super) const LEGEND_HEIGHT: f64 = 36.0;

/// Colours that colour-blind people can tell apart, too; names take them in turn.
const COLOURS: [&str; 8] =
    ["#5b6770", "#56b4e9", "#e69f00", "#cc79a7", "#009e73", "#0072b2", "#d55e00", "#000000"];

pub(super) fn colour(names: &[&str], name: &str) -> &'static str {
    let place = names.iter().position(|known| *known == name).unwrap_or(0);
    COLOURS[place % COLOURS.len()]
}

/// The text of a picture, element by element.
#[derive(Debug, Default)]
pub(super) struct Drawing(pub(super) String);

impl Drawing {
    pub(super) fn line(&mut self, element: &str) {
        self.0.push_str(element);
        self.0.push('\n');
    }

    pub(super) fn text(&mut self, x: f64, y: f64, attributes: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        // Writing into a string cannot fail.
        let _ = writeln!(self.0, r#"<text x="{x:.1}" y="{y:.1}" {attributes}>{text}</text>"#);
    }

    pub(super) fn stroke(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(
            self.0,
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{colour}"/>"#
        );
    }

    pub(super) fn circle(&mut self, (x, y): (f64, f64), radius: f64, colour: &str) {
        let _ =
            writeln!(self.0, r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius}" fill="{colour}"/>"#);
    }

    pub(super) fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, colour: &str) {
        let _ = writeln!(
            self.0,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"/>"#
        );
    }
}

/// The powers of ten, and their doubles and fives, from the last one below `low` to the first one not below `high`.
pub(super) fn ticks_between(low: f64, high: f64) -> Vec<f64> {
    let steps = || (-6..9).flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(power)));
    let first = steps().filter(|step| *step < low).fold(1e-6, f64::max);
    let last = steps().filter(|step| *step >= high).fold(1e9, f64::min);
    steps().filter(|step| (first..=last).contains(step)).collect()
}
