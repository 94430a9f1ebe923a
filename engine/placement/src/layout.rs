//! How queues and shards share CPUs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How queues and shards share CPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Layout {
    /// Queue `i` is served on the CPU of shard `i`: the best locality; the softirq takes its time from the shard's.
    #[default]
    Aligned,
    /// This many CPUs serve only interrupts, and the shards have the others.
    Split(u32),
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aligned => f.write_str("aligned"),
            Self::Split(count) => write!(f, "split:{count}"),
        }
    }
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "aligned" {
            return Ok(Self::Aligned);
        }
        match text.strip_prefix("split:").map(str::parse) {
            Some(Ok(count)) if count > 0 => Ok(Self::Split(count)),
            _ => Err(format!("`{text}` is neither `aligned` nor `split:N` with N of 1 or more")),
        }
    }
}

impl TryFrom<String> for Layout {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Layout> for String {
    fn from(layout: Layout) -> Self {
        layout.to_string()
    }
}
