//! What was watched, on a terminal.

use super::VerifyReport;

/// Shades from nothing to the most.
const SHADES: [char; 9] = ['·', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One line for each CPU: packets in each sample as a shade, then the totals.
#[must_use]
pub fn heat_strip(report: &VerifyReport) -> String {
    let most =
        report.cpus.iter().flat_map(|cpu| cpu.packets_by_sample.iter().copied()).max().unwrap_or(0);
    let mut text = String::new();
    for cpu in &report.cpus {
        let strip: String = cpu.packets_by_sample.iter().map(|count| shade(*count, most)).collect();
        text.push_str(&format!(
            "cpu{:<4}{} {strip} {:>10} packets, {:>5.1} % softirq, NET_RX ran {}, dropped {}, squeezed {}, by RPS {}\n",
            cpu.cpu,
            if cpu.is_target { '*' } else { ' ' },
            cpu.packets,
            cpu.softirq_share * 100.0,
            cpu.net_rx_runs,
            cpu.dropped,
            cpu.squeezed,
            cpu.received_rps,
        ));
    }
    text.push_str(&format!(
        "{}: Jain {:.3}, max/mean {:.2} (bar {:.2} for {} flows), {} packets in {:.1} s, steal {:.1} %\n",
        report.verdict,
        report.jain,
        report.max_over_mean,
        report.max_over_mean_bar,
        report.flows,
        report.packets,
        report.seconds,
        report.steal_share * 100.0
    ));
    for reason in &report.reasons {
        text.push_str(&format!("  {reason}\n"));
    }
    text
}

fn shade(count: u64, most: u64) -> char {
    if count == 0 || most == 0 {
        return SHADES[0];
    }
    let level = (u128::from(count) * 8).div_ceil(u128::from(most));
    SHADES[usize::try_from(level).unwrap_or(8).min(8)]
}

#[cfg(test)]
mod tests {
    use super::shade;

    #[test]
    fn shades_run_from_nothing_to_full() {
        assert_eq!(
            [shade(0, 9), shade(1, 900), shade(450, 900), shade(900, 900), shade(5, 0)],
            ['·', '▁', '▄', '█', '·']
        );
    }
}
