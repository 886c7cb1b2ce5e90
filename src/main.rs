//! The `capsid` binary: hands the process over to the command line's crate.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    capsid_cli::main()
}
