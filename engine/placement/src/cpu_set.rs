//! Sets of CPUs, in the two notations the kernel uses: the list `0-3,8` and the mask `00000001,0000000f`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The largest CPU number that is accepted, exclusive. Linux supports 8192 CPUs at most on any architecture; the limit
/// keeps a hostile `0-4294967295` from asking for memory.
pub(super) const CPU_NUMBER_MAX: u32 = 8192;

/// A set of CPU numbers, ordered, printed as a kernel CPU list.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuSet(BTreeSet<u32>);

/// Why a text is neither a CPU list nor a CPU mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuSetError {
    text: String,
    why: &'static str,
}

impl fmt::Display for CpuSetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a CPU set: {}", self.text, self.why)
    }
}

impl std::error::Error for CpuSetError {}

impl CpuSet {
    /// The set without any CPU.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The set of this one CPU.
    #[must_use]
    pub fn single(cpu: u32) -> Self {
        Self(BTreeSet::from([cpu]))
    }

    /// Reads the kernel's hexadecimal mask: groups of 32 bits, the most significant first, separated by commas.
    ///
    /// # Errors
    ///
    /// When a group is not hexadecimal, is wider than 32 bits, or names a CPU of 8192 or above.
    pub fn from_mask(text: &str) -> Result<Self, CpuSetError> {
        let fail = |why| CpuSetError { text: clip(text), why };
        let text = text.trim();
        if text.is_empty() {
            return Err(fail("the mask is empty"));
        }
        let mut cpus = BTreeSet::new();
        let mut base = 0_u32;
        for group in text.rsplit(',') {
            if group.is_empty()
                || group.len() > 8
                || !group.bytes().all(|byte| byte.is_ascii_hexdigit())
            {
                return Err(fail("a group is not one to eight hexadecimal digits"));
            }
            let bits =
                u32::from_str_radix(group, 16).map_err(|_| fail("a group is not hexadecimal"))?;
            for bit in (0..32).filter(|bit| bits & (1 << bit) != 0) {
                if base + bit >= CPU_NUMBER_MAX {
                    return Err(fail("a CPU number is 8192 or above"));
                }
                cpus.insert(base + bit);
            }
            base = base.saturating_add(32);
        }
        Ok(Self(cpus))
    }

    /// Writes the set as the kernel's mask, without leading empty groups. The empty set is `0`. A CPU of 8192 or above
    /// does not fit in a mask and is left out.
    #[must_use]
    pub fn to_mask(&self) -> String {
        let Some(last) = self.0.range(..CPU_NUMBER_MAX).last() else {
            return "0".to_owned();
        };
        let group_count = last / 32 + 1;
        let group = |index: u32| -> u32 {
            self.0.range(index * 32..(index + 1) * 32).fold(0, |bits, cpu| bits | 1 << (cpu % 32))
        };
        let mut text = format!("{:x}", group(group_count - 1));
        for index in (0..group_count - 1).rev() {
            text.push_str(&format!(",{:08x}", group(index)));
        }
        text
    }

    /// Whether the CPU is in the set.
    #[must_use]
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// Whether there is no CPU in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many CPUs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The CPU with the lowest number.
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        self.0.first().copied()
    }

    /// Adds a CPU.
    pub fn insert(&mut self, cpu: u32) {
        self.0.insert(cpu);
    }

    /// The CPUs in rising order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// The CPUs that are in both sets.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    /// The CPUs that are in either set.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0).copied().collect())
    }

    /// The CPUs of this set that are not in the other.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }

    /// Whether every CPU of this set is in the other.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }
}

/// CPUs in the order in which they were named: `3,1,0-2` is CPU 3 first. None is named twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuOrder(pub Vec<u32>);

impl CpuOrder {
    /// The same CPUs without their order.
    #[must_use]
    pub fn set(&self) -> CpuSet {
        self.0.iter().copied().collect()
    }
}

impl FromStr for CpuOrder {
    type Err = CpuSetError;

    fn from_str(text: &str) -> Result<Self, CpuSetError> {
        let mut order = Vec::new();
        for part in text.split(',') {
            let part: CpuSet = part.parse()?;
            for cpu in part.iter() {
                if order.contains(&cpu) {
                    return Err(CpuSetError { text: clip(text), why: "a CPU is named twice" });
                }
                order.push(cpu);
            }
        }
        if order.is_empty() {
            return Err(CpuSetError { text: clip(text), why: "no CPU is named" });
        }
        Ok(Self(order))
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

/// Reads a kernel CPU list. The empty text is the empty set, as in `/sys/devices/system/cpu/isolated`.
impl FromStr for CpuSet {
    type Err = CpuSetError;

    fn from_str(text: &str) -> Result<Self, CpuSetError> {
        let fail = |why| CpuSetError { text: clip(text), why };
        let trimmed = text.trim();
        // `(null)` is what some kernels print for an unset mask.
        if trimmed.is_empty() || trimmed == "(null)" {
            return Ok(Self::new());
        }
        let number = |digits: &str| -> Result<u32, CpuSetError> {
            let cpu: u32 =
                digits.trim().parse().map_err(|_| fail("a CPU number is not a number"))?;
            if cpu < CPU_NUMBER_MAX { Ok(cpu) } else { Err(fail("a CPU number is 8192 or above")) }
        };
        let mut cpus = BTreeSet::new();
        for part in trimmed.split(',') {
            match part.split_once('-') {
                None => {
                    cpus.insert(number(part)?);
                }
                Some((low, high)) => {
                    let (low, high) = (number(low)?, number(high)?);
                    if low > high {
                        return Err(fail("a range runs backwards"));
                    }
                    cpus.extend(low..=high);
                }
            }
        }
        Ok(Self(cpus))
    }
}

/// Writes the shortest kernel CPU list: `0-3,8`.
impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(low) = cpus.next() {
            let mut high = low;
            while cpus.next_if(|cpu| Some(*cpu) == high.checked_add(1)).is_some() {
                high += 1;
            }
            if low == high {
                write!(f, "{separator}{low}")?;
            } else {
                write!(f, "{separator}{low}-{high}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

impl TryFrom<String> for CpuSet {
    type Error = CpuSetError;

    fn try_from(text: String) -> Result<Self, CpuSetError> {
        text.parse()
    }
}

impl From<CpuSet> for String {
    fn from(set: CpuSet) -> Self {
        set.to_string()
    }
}

/// The start of a text, so that an error about a hostile file stays short.
fn clip(text: &str) -> String {
    text.trim().chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_and_masks_of_the_kernel_are_read() {
        let set: CpuSet = "0-3,8\n".parse().unwrap();
        assert_eq!(set.to_string(), "0-3,8");
        assert_eq!(set.to_mask(), "10f");
        assert_eq!(CpuSet::from_mask("00000000,00000003\n").unwrap().to_string(), "0-1");
        assert_eq!(CpuSet::single(32).to_mask(), "1,00000000");
        assert_eq!("".parse::<CpuSet>().unwrap(), CpuSet::new());
        assert_eq!(CpuSet::new().to_mask(), "0");
    }

    #[test]
    fn a_number_that_no_cpu_has_is_written_without_harm() {
        let set: CpuSet = [3, u32::MAX - 1, u32::MAX].into_iter().collect();
        assert_eq!(set.to_mask(), "8");
        assert_eq!(set.to_string(), "3,4294967294-4294967295");
    }

    #[test]
    fn an_order_is_kept() {
        assert_eq!("8,3,0-2".parse::<CpuOrder>().unwrap().0, [8, 3, 0, 1, 2]);
        for bad in ["", "1,1", "0-2,1", "x"] {
            assert!(bad.parse::<CpuOrder>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_a_set_is_named() {
        for bad in ["x", "3-1", "0-", "-", "0,,1", "9999", "0-99999999999", "1 2"] {
            assert!(bad.parse::<CpuSet>().is_err(), "{bad}");
        }
        for bad in ["", "g", "123456789", "1,,2", "0x3"] {
            assert!(CpuSet::from_mask(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn both_notations_round_trip(cpus in proptest::collection::btree_set(0_u32..400, 0..60)) {
            let set = CpuSet(cpus);
            prop_assert_eq!(&set.to_string().parse::<CpuSet>().unwrap(), &set);
            prop_assert_eq!(&CpuSet::from_mask(&set.to_mask()).unwrap(), &set);
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<CpuSet>();
            let _ = CpuSet::from_mask(&text);
        }
    }
}
