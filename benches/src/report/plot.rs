//! A comparison as a picture: groups of bars that rise from 1 or fall below it on a logarithmic axis, and lines over a
//! load, written as SVG.

mod drawing;
mod lines;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
pub use lines::{Line, Panel, Point};

use crate::load::toolbox;
use drawing::{
    BOTTOM, CHART_HEIGHT, Drawing, LEFT, LEGEND_HEIGHT, RIGHT, TOP, WIDTH, colour, ticks_between,
};

/// One chart; several are stacked in one picture.
#[derive(Debug, Clone)]
pub struct Chart {
    /// What it shows, with the unit.
    pub title: String,
    /// One group of bars per workload.
    pub groups: Vec<Group>,
}

/// Bars side by side.
#[derive(Debug, Clone)]
pub struct Group {
    /// What they have in common.
    pub label: String,
    /// The bars, each under the name that gives its colour.
    pub bars: Vec<Bar>,
}

/// One bar with its range.
#[derive(Debug, Clone)]
pub struct Bar {
    /// The contender.
    pub name: String,
    /// The ratio that it shows; one that is not above zero is not drawn.
    pub value: f64,
    /// The lowest value of all rounds.
    pub low: f64,
    /// The highest value of all rounds.
    pub high: f64,
}

/// Draws the charts and then the panels below each other, with one legend for all.
#[must_use]
pub fn svg(charts: &[Chart], panels: &[Panel]) -> String {
    let names = names(charts, panels);
    let heights = charts.iter().map(|_| CHART_HEIGHT).chain(panels.iter().map(|_| CHART_HEIGHT));
    let height = LEGEND_HEIGHT + heights.sum::<f64>();
    let mut out = Drawing::default();
    out.line(&format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">"#
    ));
    out.line(&format!(r##"<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>"##));
    legend(&mut out, &names);
    let mut top = LEGEND_HEIGHT;
    for chart in charts {
        draw(&mut out, chart, &names, top);
        top += CHART_HEIGHT;
    }
    for panel in panels {
        lines::draw(&mut out, panel, &names, top);
        top += CHART_HEIGHT;
    }
    out.line("</svg>");
    out.0
}

/// Draws them into the file that was asked for, or otherwise into `name` in cargo's target folder; returns which
/// file it was.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write(
    asked: Option<&Path>,
    name: &str,
    charts: &[Chart],
    panels: &[Panel],
) -> Result<PathBuf> {
    let path = asked.map_or_else(|| toolbox::target().join(name), Path::to_path_buf);
    std::fs::write(&path, svg(charts, panels))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// All names, in the order in which they first appear.
fn names<'a>(charts: &'a [Chart], panels: &'a [Panel]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    let bars = charts.iter().flat_map(|chart| &chart.groups).flat_map(|group| &group.bars);
    let lines = panels.iter().flat_map(|panel| &panel.lines);
    for name in bars.map(|bar| &bar.name).chain(lines.map(|line| &line.name)) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

fn legend(out: &mut Drawing, names: &[&str]) {
    let mut x = LEFT;
    for name in names {
        out.rect(x, 14.0, 12.0, 12.0, colour(names, name));
        out.text(x + 17.0, 24.0, "", name);
        let letters: f64 = name.chars().map(|_| 7.0).sum();
        x += 17.0 + letters + 22.0;
    }
}

/// The powers of ten, and their doubles and fives, between which all values lie: the lowest and the highest line of the axis.
fn axis(chart: &Chart) -> Vec<f64> {
    let drawn = || chart.groups.iter().flat_map(|group| &group.bars).filter(|bar| bar.value > 0.0);
    let low = drawn().map(|bar| bar.low.max(f64::MIN_POSITIVE)).fold(1.0, f64::min);
    let high = drawn().map(|bar| bar.high).fold(1.0, f64::max);
    ticks_between(low, high)
}

fn draw(out: &mut Drawing, chart: &Chart, names: &[&str], top: f64) {
    let ticks = axis(chart);
    let (Some(&first), Some(&last)) = (ticks.first(), ticks.last()) else {
        return;
    };
    let (ceiling, ground) = (top + TOP, top + CHART_HEIGHT - BOTTOM);
    let height_of = |value: f64| {
        let part = (value.clamp(first, last) / first).ln() / (last / first).ln();
        ground - part * (ground - ceiling)
    };
    out.text(LEFT, top + 22.0, r#"font-weight="bold" font-size="14""#, &chart.title);
    for &tick in &ticks {
        let y = height_of(tick);
        out.stroke((LEFT, y), (WIDTH - RIGHT, y), if tick == 1.0 { "#888888" } else { "#e2e2e2" });
        out.text(LEFT - 6.0, y + 4.0, r#"text-anchor="end" font-size="10""#, &tick.to_string());
    }
    let groups: f64 = chart.groups.iter().map(|_| 1.0).sum();
    let group_width = (WIDTH - LEFT - RIGHT) / groups.max(1.0);
    let mut left = LEFT;
    for group in &chart.groups {
        let bars: f64 = group.bars.iter().map(|_| 1.0).sum();
        let width = (group_width * 0.86 / bars.max(1.0)).min(60.0);
        let mut x = left + (group_width - width * bars) / 2.0;
        for bar in group.bars.iter().filter(|bar| bar.value > 0.0) {
            let (y, one) = (height_of(bar.value), height_of(1.0));
            // A ratio of exactly 1 has no height, but still a place.
            let (upper, height) = (y.min(one), (y - one).abs().max(1.0));
            out.rect(x + 1.0, upper, width - 2.0, height, colour(names, &bar.name));
            let middle = x + width / 2.0;
            out.stroke((middle, height_of(bar.low)), (middle, height_of(bar.high)), "#222222");
            let label = crate::report::short(bar.value);
            out.text(
                middle,
                height_of(bar.high) - 4.0,
                r#"text-anchor="middle" font-size="10""#,
                &label,
            );
            x += width;
        }
        out.text(left + group_width / 2.0, ground + 18.0, r#"text-anchor="middle""#, &group.label);
        left += group_width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(name: &str, value: f64) -> Bar {
        Bar { name: name.to_owned(), value, low: value * 0.9, high: value * 1.1 }
    }

    fn chart(bars: Vec<Bar>) -> Chart {
        Chart {
            title: "CPU <x>".to_owned(),
            groups: vec![Group { label: "A & B".to_owned(), bars }],
        }
    }

    #[test]
    fn the_axis_encloses_all_values() {
        let ticks = axis(&chart(vec![bar("one", 0.8), bar("two", 15.0)]));
        assert_eq!(ticks, [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]);
        assert_eq!(axis(&chart(Vec::new())), [0.5, 1.0]);
    }

    #[test]
    fn text_is_escaped_and_every_bar_is_drawn() {
        let picture = svg(
            &[chart(vec![bar("one", 0.8), bar("two", 15.0)]), chart(vec![bar("two", 2.0)])],
            &[],
        );
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        assert!(picture.contains("CPU &lt;x&gt;") && picture.contains("A &amp; B"));
        // The background, two names in the legend, and three bars.
        assert_eq!(picture.matches("<rect ").count(), 6);
    }

    #[test]
    fn a_higher_value_is_a_higher_bar() {
        let picture = svg(&[chart(vec![bar("one", 2.0), bar("two", 4.0)])], &[]);
        let heights: Vec<f64> = picture
            .lines()
            .filter(|line| line.starts_with("<rect x=") && !line.contains("height=\"12.0\""))
            .filter_map(|line| line.split("height=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(heights.len(), 2);
        assert!(heights[0] < heights[1], "{heights:?}");
    }

    #[test]
    fn what_was_not_measured_is_left_out() {
        let picture = svg(&[chart(vec![bar("one", 0.0)])], &[]);
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
    }
}
