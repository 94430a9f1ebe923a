//! What a run found, for programs and for people.

use corewire_cli::open_loop::Figures;
use hdrhistogram::Histogram;
use serde::Serialize;

/// One run's figures; the names are the keys of the JSON line.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) payload: usize,
    pub(crate) conns: usize,
    pub(crate) inflight: usize,
    pub(crate) secs: f64,
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) rps: f64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    pub(crate) client_cpu_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_cpu_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_rss_mb: Option<f64>,
    /// What an open loop reports in addition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) open: Option<Figures>,
    /// The calls of the highest priority, if there were some; the figures above then cover only the
    /// others, except for the rate and the failures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) high: Option<High>,
    /// How evenly the connections were served, if that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<Spread>,
    /// The calls that were made meanwhile, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) probe: Option<Probe>,
    /// The first failure, in words; for people only.
    #[serde(skip)]
    pub(crate) first_error: Option<String>,
}

/// How evenly connections were served. A connection without a call counts as one that waited for ever.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Spread {
    /// The median, and the greatest, of the connections' own p99.
    pub(crate) p99_us_median: u32,
    pub(crate) p99_us_max: u32,
    /// Calls of the connection with the fewest, the mean of all, and of the one with the most.
    pub(crate) calls_min: usize,
    pub(crate) calls_mean: f64,
    pub(crate) calls_max: usize,
}

impl Spread {
    /// From the latencies of each connection, in µs, which are sorted by it.
    #[allow(clippy::cast_precision_loss, reason = "no run makes 2⁵³ calls")]
    pub(crate) fn of(latencies_us: &mut [Vec<u32>]) -> Self {
        let p99 = |own: &mut Vec<u32>| {
            own.sort_unstable();
            own.get(((own.len() * 99).div_ceil(100)).saturating_sub(1)).copied().unwrap_or(u32::MAX)
        };
        let mut p99s: Vec<u32> = latencies_us.iter_mut().map(p99).collect();
        p99s.sort_unstable();
        let calls = || latencies_us.iter().map(Vec::len);
        Self {
            p99_us_median: p99s.get(p99s.len() / 2).copied().unwrap_or(0),
            p99_us_max: p99s.last().copied().unwrap_or(0),
            calls_min: calls().min().unwrap_or(0),
            calls_mean: calls().sum::<usize>() as f64 / latencies_us.len().max(1) as f64,
            calls_max: calls().max().unwrap_or(0),
        }
    }
}

/// Calls of the highest priority among others.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct High {
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

/// The calls of `--probe`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Probe {
    pub(crate) payload: usize,
    pub(crate) calls: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Nanoseconds of a quantile, as microseconds.
pub(crate) fn quantile_us(latency_ns: &Histogram<u64>, quantile: f64) -> f64 {
    micros(latency_ns.value_at_quantile(quantile))
}

/// Nanoseconds as microseconds. Exact below 2⁵³ ns, which is three months.
#[allow(clippy::cast_precision_loss, reason = "no latency here lasts for months")]
pub(crate) fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

impl Report {
    /// One line of JSON.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    /// A table for people.
    pub(crate) fn table(&self) -> String {
        let mut lines = vec![
            (
                "workload",
                format!(
                    "{} B × {} connections × {}{} in flight",
                    self.payload,
                    self.conns,
                    if self.open.is_some() { "at most " } else { "" },
                    self.inflight
                ),
            ),
            ("measured", format!("{:.2} s", self.secs)),
            ("calls", format!("{} ({} failed)", self.calls, self.errors)),
            ("rate", format!("{:.0} calls/s", self.rps)),
            ("p50", format!("{:.1} µs", self.p50_us)),
            ("p90", format!("{:.1} µs", self.p90_us)),
            ("p99", format!("{:.1} µs", self.p99_us)),
            ("p99.9", format!("{:.1} µs", self.p999_us)),
            ("max", format!("{:.1} µs", self.max_us)),
            ("client CPU", format!("{:.2} s", self.client_cpu_s)),
        ];
        if let Some(cpu) = self.server_cpu_s.filter(|_| self.calls > 0) {
            let per_call = cpu * 1e6 / self.rps / self.secs;
            lines.push(("server CPU", format!("{cpu:.2} s, {per_call:.3} µs per call")));
        }
        if let Some(mib) = self.server_rss_mb {
            lines.push(("server memory", format!("{mib:.1} MiB at its peak")));
        }
        if let Some(open) = &self.open {
            lines.push((
                "offered",
                format!(
                    "{:.0} calls/s, {}; {} calls, of which {} missed",
                    open.offered_rps, open.arrivals, open.offered, open.missed
                ),
            ));
            lines.push((
                "send lateness",
                format!(
                    "p50 {:.1} µs, p99 {:.1} µs, max {:.1} µs",
                    open.late_p50_us, open.late_p99_us, open.late_max_us
                ),
            ));
            let errors = open.errors_by_status.iter();
            lines.extend(errors.map(|(status, count)| ("failed", format!("{count} {status}"))));
        }
        if let Some(high) = &self.high {
            let High { calls, errors, p50_us, p99_us, max_us } = high;
            let text = format!(
                "{calls} calls ({errors} failed), p50 {p50_us:.1} µs, p99 {p99_us:.1} µs, max {max_us:.1} µs"
            );
            lines.push(("high priority", text));
        }
        if let Some(spread) = &self.connections {
            let Spread { p99_us_median, p99_us_max, calls_min, calls_mean, calls_max } = spread;
            let text = format!(
                "p99 {p99_us_median} µs in the median and {p99_us_max} µs at most; {calls_min}, {calls_mean:.1} and {calls_max} calls at least, in the mean and at most"
            );
            lines.push(("connections", text));
        }
        if let Some(probe) = &self.probe {
            let Probe { payload, calls, p50_us, p99_us } = probe;
            let text =
                format!("{calls} calls of {payload} B, p50 {p50_us:.1} µs, p99 {p99_us:.1} µs");
            lines.push(("probe", text));
        }
        if let Some(error) = &self.first_error {
            lines.push(("first failure", error.clone()));
        }
        lines.iter().map(|(name, value)| format!("{name:<14} {value}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corewire_cli::pace::Arrivals;

    fn report() -> Report {
        Report {
            payload: 64,
            conns: 1,
            inflight: 2,
            secs: 2.0,
            calls: 10,
            errors: 1,
            rps: 5.0,
            p50_us: 1.0,
            p90_us: 2.0,
            p99_us: 3.0,
            p999_us: 4.0,
            max_us: 5.0,
            client_cpu_s: 0.5,
            server_cpu_s: None,
            server_rss_mb: None,
            open: None,
            high: None,
            connections: None,
            probe: Some(Probe { payload: 4096, calls: 3, p50_us: 6.0, p99_us: 7.0 }),
            first_error: Some("refused".into()),
        }
    }

    #[test]
    fn json_is_one_line_with_every_key() {
        let line = Report { server_cpu_s: Some(0.1), server_rss_mb: Some(2.0), ..report() }.json();
        assert!(!line.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&line).expect("it is JSON");
        for key in [
            "payload",
            "conns",
            "inflight",
            "secs",
            "calls",
            "errors",
            "rps",
            "p50_us",
            "p90_us",
            "p99_us",
            "p999_us",
            "max_us",
            "client_cpu_s",
            "server_cpu_s",
            "server_rss_mb",
        ] {
            assert!(value[key].is_number(), "{key} is missing in {line}");
        }
        let without: serde_json::Value =
            serde_json::from_str(&report().json()).expect("it is JSON");
        assert!(without.get("server_cpu_s").is_none());
        assert_eq!(without["probe"]["calls"], 3);
        let alone =
            serde_json::from_str::<serde_json::Value>(&Report { probe: None, ..report() }.json());
        assert!(alone.expect("it is JSON").get("probe").is_none());
    }

    #[test]
    fn the_spread_is_that_of_connections() {
        let mut latencies = vec![(1..=100).rev().collect(), vec![500; 10], vec![7], Vec::new()];
        let spread = Spread::of(&mut latencies);
        assert_eq!((spread.p99_us_median, spread.p99_us_max), (500, u32::MAX));
        assert_eq!((spread.calls_min, spread.calls_max), (0, 100));
        assert!((spread.calls_mean - 27.75).abs() < 1e-9);
        let spread = Spread::of(&mut latencies[..1]);
        assert_eq!((spread.p99_us_median, spread.p99_us_max), (99, 99));
        assert!(Report { connections: Some(spread), ..report() }.table().contains("p99 99 µs"));
    }

    #[test]
    fn an_open_loop_says_what_was_offered_missed_late_and_failed() {
        let open = Figures {
            rate: 5000.0,
            arrivals: Arrivals::Poisson,
            offered: 10_020,
            offered_rps: 5010.0,
            missed: 12,
            late_p50_us: 0.5,
            late_p99_us: 7.5,
            late_max_us: 80.0,
            errors_by_status: [("Internal".to_owned(), 3)].into(),
        };
        let report = Report { open: Some(open), ..report() };
        let table = report.table();
        for words in
            ["5010 calls/s, poisson; 10020 calls, of which 12 missed", "p99 7.5 µs", "3 Internal"]
        {
            assert!(table.contains(words), "{words} is not in\n{table}");
        }
        let value: serde_json::Value = serde_json::from_str(&report.json()).expect("it is JSON");
        assert_eq!(value["open"]["arrivals"], "poisson");
        assert_eq!(value["open"]["errors_by_status"]["Internal"], 3);
        assert_eq!(value["open"]["late_p99_us"], 7.5);
    }

    #[test]
    fn the_table_names_the_first_failure() {
        assert!(report().table().contains("refused"));
        assert!(report().table().contains("3 calls of 4096 B"));
    }
}
