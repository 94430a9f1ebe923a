//! Lines over a load: how long calls take as more of them come.

use super::drawing::{
    BOTTOM, CHART_HEIGHT, Drawing, LEFT, RIGHT, TOP, WIDTH, colour, ticks_between,
};

/// A panel of lines; several are stacked below the charts.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What it shows, with the units of both axes.
    pub title: String,
    /// One line per name.
    pub lines: Vec<Line>,
}

/// One contender's line.
#[derive(Debug, Clone)]
pub struct Line {
    /// The contender.
    pub name: String,
    /// The points from left to right; those that are not above zero in both directions are not drawn.
    pub points: Vec<Point>,
}

/// One point with its range.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Its place from left to right.
    pub x: f64,
    /// Its height.
    pub y: f64,
    /// The lowest value of all rounds.
    pub low: f64,
    /// The highest value of all rounds.
    pub high: f64,
}

fn drawn(line: &Line) -> impl Iterator<Item = &Point> {
    line.points.iter().filter(|point| point.x > 0.0 && point.y > 0.0)
}

/// Where a value lies between the ends of a logarithmic axis, from 0 to 1.
fn part(value: f64, ticks: &[f64]) -> f64 {
    let (Some(&first), Some(&last)) = (ticks.first(), ticks.last()) else {
        return 0.0;
    };
    (value.clamp(first, last) / first).ln() / (last / first).ln()
}

/// Draws the panel below `top`. Both axes are logarithmic.
pub(super) fn draw(out: &mut Drawing, panel: &Panel, names: &[&str], top: f64) {
    let points = || panel.lines.iter().flat_map(drawn);
    let least = |of: fn(&Point) -> f64| points().map(of).fold(f64::INFINITY, f64::min);
    let most = |of: fn(&Point) -> f64| points().map(of).fold(0.0, f64::max);
    out.text(LEFT, top + 22.0, r#"font-weight="bold" font-size="14""#, &panel.title);
    if points().next().is_none() {
        return;
    }
    let (across, up) = (
        ticks_between(least(|p| p.x), most(|p| p.x)),
        ticks_between(least(|p| p.low), most(|p| p.high)),
    );
    let (ceiling, ground) = (top + TOP, top + CHART_HEIGHT - BOTTOM);
    let x_of = |x: f64| LEFT + part(x, &across) * (WIDTH - LEFT - RIGHT);
    let y_of = |y: f64| ground - part(y, &up) * (ground - ceiling);
    for &tick in &up {
        out.stroke((LEFT, y_of(tick)), (WIDTH - RIGHT, y_of(tick)), "#e2e2e2");
        let label = tick.to_string();
        out.text(LEFT - 6.0, y_of(tick) + 4.0, r#"text-anchor="end" font-size="10""#, &label);
    }
    for &tick in &across {
        out.stroke((x_of(tick), ceiling), (x_of(tick), ground), "#e2e2e2");
        let label = tick.to_string();
        out.text(x_of(tick), ground + 14.0, r#"text-anchor="middle" font-size="10""#, &label);
    }
    for line in &panel.lines {
        let colour = colour(names, &line.name);
        let mut before: Option<(f64, f64)> = None;
        for point in drawn(line) {
            let place = (x_of(point.x), y_of(point.y));
            out.stroke((place.0, y_of(point.low)), (place.0, y_of(point.high)), colour);
            if let Some(before) = before.replace(place) {
                out.stroke(before, place, colour);
            }
            out.circle(place, 3.5, colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::report::plot::svg;

    use super::*;

    fn point(x: f64, y: f64) -> Point {
        Point { x, y, low: y * 0.9, high: y * 1.1 }
    }

    #[test]
    fn every_point_is_drawn_and_more_is_higher_and_further_right() {
        let line = Line {
            name: "one".to_owned(),
            points: vec![point(1000.0, 50.0), point(9000.0, 700.0)],
        };
        let panel = Panel { title: "p99".to_owned(), lines: vec![line] };
        let picture = svg(&[], &[panel]);
        let circles: Vec<(f64, f64)> = picture
            .lines()
            .filter(|line| line.starts_with("<circle "))
            .filter_map(|line| {
                let of = |key: &str| line.split(key).nth(1)?.split('"').next()?.parse().ok();
                Some((of("cx=\"")?, of("cy=\"")?))
            })
            .collect();
        assert_eq!(circles.len(), 2, "{picture}");
        assert!(circles[0].0 < circles[1].0 && circles[0].1 > circles[1].1, "{circles:?}");
    }

    #[test]
    fn a_panel_of_nothing_has_a_title_and_no_strange_numbers() {
        let line = Line { name: "one".to_owned(), points: vec![point(0.0, 0.0)] };
        let picture = svg(&[], &[Panel { title: "p99".to_owned(), lines: vec![line] }]);
        assert!(picture.contains("p99") && !picture.contains("NaN") && !picture.contains("inf"));
    }
}
