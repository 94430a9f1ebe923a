//! What one run of a load generator said, and the figures drawn from it.

use std::fmt;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

/// The one JSON line that every load generator here prints: `floor_client`, `corewire bench` and the peers' clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Bytes of each body.
    pub payload: usize,
    /// Connections.
    pub conns: usize,
    /// Calls in flight on each connection.
    pub inflight: usize,
    /// The measured seconds, as they really were.
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
}

impl Sample {
    /// Reads what a load generator wrote to its standard output.
    ///
    /// # Errors
    ///
    /// When that is not exactly one line of JSON with the keys of a sample, or when it speaks of no call or of failed
    /// ones: such a run proves nothing about speed.
    pub fn parse(stdout: &str) -> Result<Self> {
        let mut lines = stdout.lines().filter(|line| !line.trim().is_empty());
        let (Some(line), None) = (lines.next(), lines.next()) else {
            bail!("the load generator printed {} lines instead of one", stdout.lines().count());
        };
        let sample: Self =
            serde_json::from_str(line).with_context(|| format!("this is no sample: {line}"))?;
        if sample.errors > 0 {
            bail!("{} calls failed", sample.errors);
        }
        if sample.calls == 0 || sample.secs <= 0.0 {
            bail!("no call was answered in the measured seconds");
        }
        Ok(sample)
    }
}

/// A figure of merit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Median latency.
    P50,
    /// 99th percentile of latency.
    P99,
    /// Server CPU time per call.
    ServerCpuPerCall,
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
        match self {
            Self::P50 => Some(sample.p50_us),
            Self::P99 => Some(sample.p99_us),
            Self::ServerCpuPerCall => cpu.map(|cpu| cpu * 1e6 / calls),
            Self::CallsPerServerCpuSecond => cpu.map(|cpu| calls / cpu / 1e6),
            Self::BytesPerSecond => Some(calls * sample.payload as f64 / sample.secs / 1e6),
            Self::ServerMemory => sample.server_rss_mb,
        }
    }

    /// The unit of its values.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::P50 | Self::P99 | Self::ServerCpuPerCall => "µs",
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
            Self::P99 => "p99",
            Self::ServerCpuPerCall => "server CPU per call",
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
    fn figures_have_the_stated_units() {
        let sample = example(50.0, 0.02);
        assert_eq!(Figure::ServerCpuPerCall.of(&sample), Some(20.0));
        assert_eq!(Figure::CallsPerServerCpuSecond.of(&sample), Some(0.05));
        assert_eq!(Figure::BytesPerSecond.of(&sample), Some(0.032));
    }
}
