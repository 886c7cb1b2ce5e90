//! The command line: verbs, flags, and the log and exit-code contract that engines rely on.
//!
//! `main` reads as the life of one command: protect the executable, read the flags, open the
//! log, run the verb, say how it ended. What a verb does is in `verbs/`, one file each; how a
//! container works is the library's business and never decided here.
#![forbid(unsafe_code)]

mod duration;
mod early;
mod exit_code;
mod foreground;
mod global;
mod log;
mod notify;
mod output;
mod signal_names;
mod switches;
mod terminal;
mod usage;
mod verbs;

use std::ffi::OsString;
use std::os::fd::OwnedFd;

use capsid_runtime::{Error, seal};

use early::Early;
pub use early::SEALED;
use global::CommandLine;
use log::Log;

/// Runs one command line and says how the process ends.
///
/// The codes are in `exit_code.rs`; a foreground `run` or `exec` ends as the container's process
/// did.
///
/// `is_sealed`: the caller has seen to it that the executable can't be written through /proc, by
/// `clone`, if that is still to be closed. `has_output`: standard output is one that its caller
/// was given.
pub fn main(is_sealed: bool, clone: Option<OwnedFd>, has_output: bool) -> u8 {
    if !has_output {
        output::was_not_given();
    }
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let early = Early::read(&arguments);
    if let Some(clone) = clone.filter(|_| early.makes_a_container()) {
        seal::hold(clone);
    }
    if early.starts_a_process()
        && !is_sealed
        && let Err(error) = protect_executable()
    {
        let code = early.exit_code_map.code_of(&error, early.failure_code());
        return Log::open_or_stderr(&early.log).failed(&error, code);
    }
    match switches::parse(early.verb(), &arguments) {
        Ok(command) => run(command, &early),
        Err(problem) => usage::answer(&problem, &early, &arguments),
    }
}

fn run(command: CommandLine, early: &Early) -> u8 {
    let map = command.global.exit_code_map;
    let failure_code = early.failure_code();
    let log = match Log::open(&command.global.log) {
        Ok(log) => log.install(map.of_panic(failure_code)),
        Err(error) => {
            let code = map.code_of(&error, failure_code);
            return Log::stderr(&command.global.log).failed(&error, code);
        }
    };
    match command.run() {
        Ok(code) => code,
        Err(error) => {
            for notice in error.notices() {
                notice.warn();
            }
            let code = map.code_of(&error, failure_code);
            let error = match (error.verb(), early.verb()) {
                (None, Some(verb)) => error.during(verb),
                _ => error,
            };
            log.failed(&error, code)
        }
    }
}

/// Goes on in a copy of this program that a container can't write (CVE-2019-5736). Returns in
/// that copy, or where there is nothing to protect.
fn protect_executable() -> Result<(), Error> {
    if seal::is_sealed() || !seal::needed() {
        return Ok(());
    }
    Err(seal::execute(seal::seal_self()?))
}
