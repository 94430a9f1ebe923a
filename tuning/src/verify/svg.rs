//! What was watched, as a picture: CPUs down, time across, packets as shade, softirq time as a bar. Plain SVG without scripts, and
//! the same bytes for the same report.

use super::VerifyReport;

const CELL: usize = 18;
const LEFT: usize = 70;
const TOP: usize = 46;
const BAR: usize = 120;

/// Draws one report.
#[must_use]
pub fn svg(report: &VerifyReport) -> String {
    let columns = report.cpus.iter().map(|cpu| cpu.packets_by_sample.len()).max().unwrap_or(0);
    let (width, height) =
        (LEFT + columns * CELL + 30 + BAR + 20, TOP + report.cpus.len() * CELL + 30);
    let most = report
        .cpus
        .iter()
        .flat_map(|cpu| cpu.packets_by_sample.iter().copied())
        .max()
        .unwrap_or(0)
        .max(1);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"16\" font-size=\"13\">{}: Jain {:.3}, max/mean {:.2} (bar {:.2})</text>\n\
         <text x=\"8\" y=\"34\" fill=\"#555\">packets by CPU and second, darkest = {most}</text>\n",
        report.verdict, report.jain, report.max_over_mean, report.max_over_mean_bar
    );
    let bar_at = LEFT + columns * CELL + 30;
    text.push_str(&format!("<text x=\"{bar_at}\" y=\"34\" fill=\"#555\">softirq time</text>\n"));
    for (cpu, row) in report.cpus.iter().zip(0..) {
        let y = TOP + row * CELL;
        let weight = if cpu.is_target { "bold" } else { "normal" };
        text.push_str(&format!(
            "<text x=\"8\" y=\"{}\" font-weight=\"{weight}\">cpu{}</text>\n",
            y + 13,
            cpu.cpu
        ));
        for (count, column) in cpu.packets_by_sample.iter().zip(0..) {
            // From white to a dark blue: red and green fall together, blue stays higher.
            let dark = u128::from(*count) * 200 / u128::from(most);
            text.push_str(&format!(
                "<rect x=\"{}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" fill=\"rgb({},{},{})\" stroke=\"#ddd\"/>\n",
                LEFT + column * CELL,
                255 - dark,
                255 - dark,
                255 - dark / 3
            ));
        }
        let permille = share_permille(cpu.softirq_share);
        text.push_str(&format!(
            "<rect x=\"{bar_at}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"#c60\"/>\n",
            y + 3,
            permille * BAR / 1000,
            CELL - 6
        ));
    }
    text.push_str("</svg>\n");
    text
}

/// A share of 0 to 1 in thousandths.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=1000 first"
)]
fn share_permille(share: f64) -> usize {
    (share * 1000.0).clamp(0.0, 1000.0) as usize
}
