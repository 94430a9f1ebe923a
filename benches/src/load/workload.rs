//! The workloads that every contender is measured with, and the two ways of waiting.

use std::fmt;

use serde::Serialize;

/// A closed-loop load: how large the bodies are, and how many calls are in flight at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// The letter that names it.
    pub name: char,
    /// Bytes of each body, without any framing.
    pub payload: usize,
    /// Connections.
    pub conns: usize,
    /// Calls in flight on each connection.
    pub inflight: usize,
}

/// All workloads. A is a lone caller, B one that pipelines, C many that do, D moves bulk data, and E is many lone
/// callers.
pub const ALL: [Workload; 5] = [
    Workload { name: 'A', payload: 64, conns: 1, inflight: 1 },
    Workload { name: 'B', payload: 64, conns: 1, inflight: 64 },
    Workload { name: 'C', payload: 64, conns: 32, inflight: 8 },
    Workload { name: 'D', payload: 64 << 10, conns: 8, inflight: 4 },
    Workload { name: 'E', payload: 1 << 10, conns: 32, inflight: 1 },
];

impl Workload {
    /// The workload of that letter, in either case.
    #[must_use]
    pub fn named(name: char) -> Option<Self> {
        ALL.into_iter().find(|workload| workload.name == name.to_ascii_uppercase())
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, payload, conns, inflight } = self;
        if *payload >= 1 << 10 && payload % (1 << 10) == 0 {
            write!(f, "{name}: {} KiB, {conns} x {inflight}", payload >> 10)
        } else {
            write!(f, "{name}: {payload} B, {conns} x {inflight}")
        }
    }
}

/// Workloads in the order in which they were asked for.
pub type Workloads = Vec<Workload>;

/// Reads a list of letters, such as `A,C`; the order is kept.
///
/// # Errors
///
/// One sentence that names the letter that is no workload or that comes twice.
pub fn parse_list(text: &str) -> Result<Workloads, String> {
    let mut list = Workloads::new();
    for part in text.split(',').map(str::trim) {
        let mut letters = part.chars();
        let workload = match (letters.next(), letters.next()) {
            (Some(letter), None) => Workload::named(letter),
            _ => None,
        };
        let Some(workload) = workload else {
            return Err(format!(
                "\"{part}\" is no workload: give letters from A to E, as in A,B,C"
            ));
        };
        if list.contains(&workload) {
            return Err(format!("workload {} is given twice: give each once", workload.name));
        }
        list.push(workload);
    }
    Ok(list)
}

/// How both sides of a run wait for the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// Asleep until the kernel wakes them: the normal case, in which CPU per call means something.
    Parked,
    /// Polling all the time, so that no wake-up is in the latency.
    Spinning,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Parked => "parked",
            Self::Spinning => "spinning",
        })
    }
}

/// A workload under one way of waiting: one row of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// The load.
    pub workload: Workload,
    /// How both sides wait; in an open loop, how the server does.
    pub wait: Wait,
    /// The load of an open loop, in percent of what the contender itself answered in the closed one; `None` is the closed
    /// loop.
    pub percent: Option<u8>,
}

impl Cell {
    /// A closed loop.
    #[must_use]
    pub fn closed(workload: Workload, wait: Wait) -> Self {
        Self { workload, wait, percent: None }
    }

    /// The text in the first column of tables.
    #[must_use]
    pub fn load(&self) -> String {
        self.percent.map_or_else(
            || self.workload.to_string(),
            |percent| format!("{percent} % of {}", self.workload.name),
        )
    }
}

/// The loads of an open loop, in percent.
pub const PERCENTS: [u8; 3] = [50, 70, 90];

/// The workload that gives the open loop its bodies, its connections and each contender's peak: small bodies over many
/// connections.
pub const OPEN: char = 'C';

/// The most calls in flight on each connection of an open loop. Less than any contender refuses by itself.
pub const OPEN_IN_FLIGHT: usize = 128;

/// The cells of the open loop, for both ways in which servers wait. The load generators always spin, so that they are not
/// late themselves.
#[must_use]
pub fn open_cells(workload: Workload) -> Vec<Cell> {
    let both = |percent| {
        [Wait::Parked, Wait::Spinning].map(|wait| Cell { workload, wait, percent: Some(percent) })
    };
    PERCENTS.into_iter().flat_map(both).collect()
}

/// Every workload under both ways of waiting.
#[must_use]
pub fn both_ways(workloads: &[Workload]) -> Vec<Cell> {
    let both = |&workload: &Workload| {
        [Wait::Parked, Wait::Spinning].map(|wait| Cell::closed(workload, wait))
    };
    workloads.iter().flat_map(both).collect()
}

/// The cells for these workloads. Spinning is measured with one connection only (A and B): with many, both sides are
/// busy all the time, and a side that spins only asks sockets that have nothing.
#[must_use]
pub fn cells(workloads: &[Workload]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for &workload in workloads {
        cells.push(Cell::closed(workload, Wait::Parked));
        if workload.conns == 1 {
            cells.push(Cell::closed(workload, Wait::Spinning));
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_order_and_takes_either_case() {
        let names: Vec<char> =
            parse_list("c, A").into_iter().flatten().map(|workload| workload.name).collect();
        assert_eq!(names, ['C', 'A']);
    }

    #[test]
    fn a_wrong_list_is_named() {
        for wrong in ["", "A,", "F", "AB", "A,a"] {
            let error = parse_list(wrong).expect_err("it is no list of workloads");
            assert!(error.contains("workload"), "{error}");
        }
    }

    #[test]
    fn only_single_connections_spin() {
        let cells = cells(&ALL);
        assert_eq!(cells.len(), 7);
        assert!(cells.iter().all(|cell| cell.wait == Wait::Parked || cell.workload.conns == 1));
    }

    #[test]
    fn an_open_loop_has_three_loads_for_both_ways_of_waiting() {
        let cells = open_cells(ALL[2]);
        assert_eq!(cells.len(), 6);
        assert_eq!(cells[0].load(), "50 % of C");
        assert_eq!(both_ways(&ALL).len(), 10);
    }

    #[test]
    fn a_workload_says_its_measures() {
        assert_eq!(ALL[1].to_string(), "B: 64 B, 1 x 64");
        assert_eq!(ALL[3].to_string(), "D: 64 KiB, 8 x 4");
    }
}
