//! What a run found, for programs and for people.

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
    /// The calls that were made meanwhile, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) beside: Option<Beside>,
    /// The first failure, in words; for people only.
    #[serde(skip)]
    pub(crate) first_error: Option<String>,
}

/// Calls beside those that are measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Beside {
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
                    "{} B × {} connections × {} in flight",
                    self.payload, self.conns, self.inflight
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
        if let Some(beside) = &self.beside {
            let Beside { payload, calls, p50_us, p99_us } = beside;
            let text =
                format!("{calls} calls of {payload} B, p50 {p50_us:.1} µs, p99 {p99_us:.1} µs");
            lines.push(("beside", text));
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
            beside: Some(Beside { payload: 4096, calls: 3, p50_us: 6.0, p99_us: 7.0 }),
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
        assert_eq!(without["beside"]["calls"], 3);
        let alone =
            serde_json::from_str::<serde_json::Value>(&Report { beside: None, ..report() }.json());
        assert!(alone.expect("it is JSON").get("beside").is_none());
    }

    #[test]
    fn the_table_names_the_first_failure() {
        assert!(report().table().contains("refused"));
        assert!(report().table().contains("3 calls of 4096 B"));
    }
}
