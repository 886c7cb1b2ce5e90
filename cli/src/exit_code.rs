//! What capsid ends with: the one place that knows; docs/engines.md says it to the reader.
//!
//! | what happened | runc's map | docker's map |
//! |---|---|---|
//! | it worked | 0 | 0 |
//! | a foreground run or exec: its process has ended | its status, or 128 and the signal | the same |
//! | the program isn't there | [`FAILURE`]; [`EXEC_FAILURE`] from exec | [`DOCKER_NOT_FOUND`] |
//! | the program can't be executed | [`FAILURE`]; [`EXEC_FAILURE`] from exec | [`DOCKER_NOT_EXECUTABLE`] |
//! | any other failure, a panic too | [`FAILURE`]; [`EXEC_FAILURE`] from exec | [`DOCKER_FAILURE`] |
//! | the command line is wrong | [`WRONG_USAGE`] | [`DOCKER_FAILURE`] |

use capsid_runtime::{Code, Error};
use clap::ValueEnum;

const FAILURE: u8 = 1;
const WRONG_USAGE: u8 = 2;
/// It tells "exec never ran the command" from the command's own statuses.
const EXEC_FAILURE: u8 = 255;
const DOCKER_FAILURE: u8 = 125;
const DOCKER_NOT_EXECUTABLE: u8 = 126;
const DOCKER_NOT_FOUND: u8 = 127;

/// What `capsid --help` says of them.
pub const HELP: &str = "\
Exit codes: 0 success; 1 failure; 2 wrong usage; 255 exec failed before the command ran.
A foreground run or exec ends with the status of its process, or 128 plus its signal.";

/// The exit code of a failure in runc's map.
pub fn of_failure(verb: Option<&str>) -> u8 {
    match verb {
        Some("exec") => EXEC_FAILURE,
        _ => FAILURE,
    }
}

/// Whose exit codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExitCodeMap {
    #[default]
    Runc,
    Docker,
}

impl ExitCodeMap {
    /// `usual`: what runc's map has for the verb ([`of_failure`]).
    pub fn code_of(self, error: &Error, usual: u8) -> u8 {
        match (self, error.code()) {
            (ExitCodeMap::Runc, _) => usual,
            (ExitCodeMap::Docker, Code::ExecNotFound) => DOCKER_NOT_FOUND,
            (ExitCodeMap::Docker, Code::ExecDenied | Code::ExecFailed) => DOCKER_NOT_EXECUTABLE,
            (ExitCodeMap::Docker, _) => DOCKER_FAILURE,
        }
    }

    /// What a panic ends with, which is a failure of the runtime's.
    pub fn of_panic(self, usual: u8) -> u8 {
        match self {
            ExitCodeMap::Runc => usual,
            ExitCodeMap::Docker => DOCKER_FAILURE,
        }
    }

    /// What a command line ends with that is no command.
    pub fn wrong_usage(self) -> u8 {
        match self {
            ExitCodeMap::Runc => WRONG_USAGE,
            ExitCodeMap::Docker => DOCKER_FAILURE,
        }
    }
}
