//! The program `corewire-tune`: see `tuning/README.md`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    corewire_tune::cli::main()
}
