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
    /// What an open loop says beyond the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) open: Option<Figures>,
    /// The first failure, in words; for people only.
    #[serde(skip)]
    pub(crate) first_error: Option<String>,
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
    }
}
