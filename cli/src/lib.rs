//! The command line: verbs, flags, and the log and exit-code contract that engines rely on.
#![forbid(unsafe_code)]

/// Runs one command line and says how the process ends.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(1)
}
