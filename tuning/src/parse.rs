//! Readers of the kernel's text files. All are total: any text gives a value or a reason, never a panic.

mod counters;
mod interrupts;
mod small;

pub use counters::{CpuTimes, SoftnetRow, Stat, netstat, softirqs, softnet, stat};
pub use interrupts::{
    IrqLine, QueueName, VectorName, VectorRole, interrupts, names_owner, vector_name,
};
pub use small::{bracketed, limit, number, thread_times};
