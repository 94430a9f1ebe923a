//! What one run of a load generator printed, and the figures drawn from it.

use std::fmt;

use anyhow::{Context as _, Result, bail};
use corewire_cli::open_loop::Figures as Open;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::measure::clocks::Used;

/// The one JSON line that every load generator here prints: `floor_client`, `corewire bench` and the peers' clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Bytes of each body.
    pub payload: usize,
    /// Connections.
    pub conns: usize,
    /// Calls in flight on each connection.
    pub inflight: usize,
    /// The measured seconds, as they actually were.
    pub secs: f64,
    /// Calls answered in them.
    pub calls: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Calls per second.
    pub rps: f64,
    /// Median latency in µs.
    pub p50_us: f64,
    /// 90th percentile of latency in µs.
    pub p90_us: f64,
    /// 99th percentile of latency in µs.
    pub p99_us: f64,
    /// 99.9th percentile of latency in µs.
    pub p999_us: f64,
    /// The longest latency in µs.
    pub max_us: f64,
    /// CPU seconds of the client in the measured seconds.
    pub client_cpu_s: f64,
    /// CPU seconds of the server in the measured seconds.
    #[serde(default)]
    pub server_cpu_s: Option<f64>,
    /// The server's peak resident memory in MiB.
    #[serde(default)]
    pub server_rss_mb: Option<f64>,
    /// For an open loop: what was offered, missed and sent late. Its latencies count from when a call was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<Open>,
}

impl Sample {
    /// Reads what a load generator wrote to its standard output.
    ///
    /// # Errors
    ///
    /// When that is not exactly one line of JSON with the keys of a sample, or when it reports no call or failed
    /// calls: such a run proves nothing about speed.
    pub fn parse(stdout: &str) -> Result<Self> {
        let mut lines = stdout.lines().filter(|line| !line.trim().is_empty());
        let (Some(line), None) = (lines.next(), lines.next()) else {
            bail!("the load generator printed {} lines instead of one", stdout.lines().count());
        };
        let sample: Self =
            serde_json::from_str(line).with_context(|| format!("this is no sample: {line}"))?;
        sample.checked()
    }

    /// The sample, if it proves anything about speed.
    ///
    /// # Errors
    ///
    /// When it reports no call or failed calls.
    pub fn checked(self) -> Result<Self> {
        if self.errors > 0 {
            bail!("{} calls failed", self.errors);
        }
        if self.calls == 0 || self.secs <= 0.0 {
            bail!("no call was answered in the measured seconds");
        }
        Ok(self)
    }
}

/// The sample of a Rust load generator: what was asked (bytes, connections, calls in flight), what was counted, and
/// what the clocks showed over the measured seconds.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "calls and nanoseconds of some seconds are far below 2^53"
)]
pub fn of(
    (payload, conns, inflight): (usize, usize, usize),
    calls: u64,
    errors: u64,
    latency_ns: &Histogram<u64>,
    used: &Used,
) -> Sample {
    let us = |quantile| latency_ns.value_at_quantile(quantile) as f64 / 1e3;
    Sample {
        payload,
        conns,
        inflight,
        secs: used.secs,
        calls,
        errors,
        rps: calls as f64 / used.secs,
        p50_us: us(0.5),
        p90_us: us(0.9),
        p99_us: us(0.99),
        p999_us: us(0.999),
        max_us: latency_ns.max() as f64 / 1e3,
        client_cpu_s: used.client_cpu_s,
        server_cpu_s: used.server_cpu_s,
        server_rss_mb: used.server_rss_mb,
        open: None,
    }
}

/// A figure of merit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Median latency.
    P50,
    /// 90th percentile of latency.
    P90,
    /// 99th percentile of latency.
    P99,
    /// 99.9th percentile of latency.
    P999,
    /// The longest latency.
    Max,
    /// Calls answered per second.
    CallsPerSecond,
    /// Calls per second that fell due in an open loop.
    Offered,
    /// Calls that an open loop could not send, in percent of those offered.
    Missed,
    /// 99th percentile of how late an open loop sent its calls.
    SendLateness,
    /// Server CPU time in the measured seconds.
    ServerCpu,
    /// Server CPU time per call.
    ServerCpuPerCall,
    /// CPU time of the load generator per call.
    ClientCpuPerCall,
    /// Calls for each second of server CPU: the same fact as the last, seen from the other side.
    CallsPerServerCpuSecond,
    /// Bytes of bodies echoed per second.
    BytesPerSecond,
    /// Peak resident memory of the server.
    ServerMemory,
}

impl Figure {
    /// The figure's value in this run, in the unit of [`Figure::unit`]; `None` when the server's clock was not read.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "calls and bytes of a few seconds are far below 2^53"
    )]
    pub fn of(self, sample: &Sample) -> Option<f64> {
        let calls = sample.calls as f64;
        let cpu = sample.server_cpu_s.filter(|&cpu| cpu > 0.0);
        let open = sample.open.as_ref().filter(|open| open.offered > 0);
        // If every call was missed, no latency was seen, which must not look like a short one.
        let seen = |us| open.is_none_or(|open| open.missed < open.offered).then_some(us);
        match self {
            Self::P50 => seen(sample.p50_us),
            Self::P90 => seen(sample.p90_us),
            Self::P99 => seen(sample.p99_us),
            Self::P999 => seen(sample.p999_us),
            Self::Max => seen(sample.max_us),
            Self::CallsPerSecond => Some(sample.rps),
            Self::Offered => open.map(|open| open.offered_rps),
            Self::Missed => open.map(|open| 100.0 * open.missed as f64 / open.offered as f64),
            Self::SendLateness => open.map(|open| open.late_p99_us),
            Self::ServerCpu => sample.server_cpu_s,
            Self::ServerCpuPerCall => cpu.map(|cpu| cpu * 1e6 / calls),
            Self::ClientCpuPerCall => Some(sample.client_cpu_s * 1e6 / calls),
            Self::CallsPerServerCpuSecond => cpu.map(|cpu| calls / cpu / 1e6),
            Self::BytesPerSecond => Some(calls * sample.payload as f64 / sample.secs / 1e6),
            Self::ServerMemory => sample.server_rss_mb,
        }
    }

    /// The unit of its values.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::P50 | Self::P90 | Self::P99 | Self::P999 | Self::Max | Self::SendLateness => "µs",
            Self::ServerCpuPerCall | Self::ClientCpuPerCall => "µs",
            Self::CallsPerSecond | Self::Offered => "1/s",
            Self::Missed => "%",
            Self::ServerCpu => "s",
            Self::CallsPerServerCpuSecond => "M/s",
            Self::BytesPerSecond => "MB/s",
            Self::ServerMemory => "MiB",
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Max => "max",
            Self::CallsPerSecond => "calls per second",
            Self::Offered => "offered",
            Self::Missed => "missed",
            Self::SendLateness => "send lateness p99",
            Self::ServerCpu => "server CPU",
            Self::ServerCpuPerCall => "server CPU per call",
            Self::ClientCpuPerCall => "client CPU per call",
            Self::CallsPerServerCpuSecond => "calls per server CPU second",
            Self::BytesPerSecond => "bytes per second",
            Self::ServerMemory => "server memory",
        })
    }
}

/// A sample for the tests of this package, with the given latency and server CPU time.
#[cfg(test)]
pub(crate) fn example(p50_us: f64, server_cpu_s: f64) -> Sample {
    Sample {
        payload: 64,
        conns: 1,
        inflight: 1,
        secs: 2.0,
        calls: 1000,
        errors: 0,
        rps: 500.0,
        p50_us,
        p90_us: p50_us * 2.0,
        p99_us: p50_us * 3.0,
        p999_us: p50_us * 4.0,
        max_us: p50_us * 5.0,
        client_cpu_s: 0.1,
        server_cpu_s: Some(server_cpu_s),
        server_rss_mb: Some(1.5),
        open: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn one_line_is_read_and_others_are_refused() {
        let line = serde_json::to_string(&example(50.0, 0.02)).unwrap();
        assert_eq!(Sample::parse(&format!("{line}\n")).unwrap(), example(50.0, 0.02));
        for wrong in
            [String::new(), "{}".to_owned(), "no JSON".to_owned(), format!("{line}\n{line}\n")]
        {
            assert!(Sample::parse(&wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn a_run_with_failed_or_no_calls_proves_nothing() {
        let failed = Sample { errors: 3, ..example(50.0, 0.02) };
        let error = Sample::parse(&serde_json::to_string(&failed).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "3 calls failed");
        let none = Sample { calls: 0, ..example(50.0, 0.02) };
        assert!(Sample::parse(&serde_json::to_string(&none).unwrap()).is_err());
    }

    #[test]
    fn the_server_side_may_be_left_out() {
        let line = r#"{"payload":64,"conns":1,"inflight":1,"secs":1.0,"calls":10,"errors":0,"rps":10.0,"p50_us":1.0,
            "p90_us":1.0,"p99_us":1.0,"p999_us":1.0,"max_us":1.0,"client_cpu_s":0.5}"#
            .replace('\n', "");
        let sample = Sample::parse(&line).unwrap();
        assert_eq!(Figure::ServerCpuPerCall.of(&sample), None);
        assert_eq!(Figure::P50.of(&sample), Some(1.0));
    }

    #[test]
    fn an_open_loop_is_read_with_its_own_figures() {
        let mut line = serde_json::to_value(example(50.0, 0.02)).unwrap();
        assert!(line.get("open").is_none());
        line["open"] = serde_json::json!({
            "rate": 500.0, "arrivals": "constant", "offered": 1000, "offered_rps": 500.0, "missed": 20,
            "late_p50_us": 0.1, "late_p99_us": 4.0, "late_max_us": 9.0, "errors_by_status": {},
        });
        let sample = Sample::parse(&line.to_string()).unwrap();
        assert_eq!(Figure::Missed.of(&sample), Some(2.0));
        assert_eq!(Figure::SendLateness.of(&sample), Some(4.0));
        assert_eq!(Figure::Offered.of(&sample), Some(500.0));
        assert_eq!(Figure::Offered.of(&example(50.0, 0.02)), None);
        assert_eq!(Figure::P99.of(&sample), Some(150.0));
        line["open"]["missed"] = 1000.into();
        let all_missed = Sample::parse(&line.to_string()).unwrap();
        assert_eq!(Figure::P99.of(&all_missed), None);
    }

    #[test]
    fn figures_have_the_stated_units() {
        let sample = example(50.0, 0.02);
        assert_eq!(Figure::ServerCpuPerCall.of(&sample), Some(20.0));
        assert_eq!(Figure::CallsPerServerCpuSecond.of(&sample), Some(0.05));
        assert_eq!(Figure::BytesPerSecond.of(&sample), Some(0.032));
    }
}
