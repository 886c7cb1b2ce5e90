//! What has to be known of the command line before it is parsed: the verb, because those that
//! enter a container first protect the executable, and where the log goes, because an engine also
//! looks there for the complaint about a wrong flag.
//!
//! It reads only the options before the verb, never fails, and decides nothing else.

use std::ffi::{CStr, OsStr, OsString};
use std::path::PathBuf;

use crate::exit_code::{self, ExitCodeMap};
use crate::log::{Format, LogOptions};

/// The verbs that execute a program of the container's, or enter its namespaces, and so first protect
/// this one; start does when it finds that it has to.
pub const SEALED: [&CStr; 4] = [c"create", c"run", c"exec", c"mounts"];

/// The global options that take a value. A test holds this list against the parser's own.
const WITH_VALUE: [&str; 8] = [
    "--root",
    "--log",
    "--log-format",
    "--log-level",
    "--cgroup-manager",
    "--criu",
    "--exit-code-map",
    "--rootless",
];

/// The verb, the log options and whose exit codes, as far as they can be told.
pub struct Early {
    verb: Option<String>,
    pub log: LogOptions,
    pub exit_code_map: ExitCodeMap,
}

impl Early {
    pub fn read(arguments: &[OsString]) -> Early {
        let mut early = Early {
            verb: None,
            log: LogOptions::default(),
            exit_code_map: ExitCodeMap::default(),
        };
        let mut words = arguments.iter().skip(1);
        while let Some(word) = words.next() {
            let text = word.to_string_lossy();
            if !text.starts_with('-') {
                early.verb = Some(text.into_owned());
                break;
            }
            match text.split_once('=') {
                Some((name, value)) => early.set(name, OsStr::new(value)),
                None if WITH_VALUE.contains(&&*text) => match words.next() {
                    Some(value) => early.set(&text, value),
                    None => break,
                },
                None => {}
            }
        }
        early
    }

    fn set(&mut self, name: &str, value: &OsStr) {
        match name {
            "--log" => self.log.file = Some(PathBuf::from(value)),
            "--log-format" if value == "json" => self.log.format = Format::Json,
            "--exit-code-map" if value == "docker" => self.exit_code_map = ExitCodeMap::Docker,
            _ => {}
        }
    }

    /// The verb, whether there is such a one or not.
    pub fn verb(&self) -> Option<&str> {
        self.verb.as_deref()
    }

    /// Whether the verb is one of [`SEALED`].
    pub fn starts_a_process(&self) -> bool {
        let verb = self.verb.as_deref().unwrap_or_default();
        SEALED
            .iter()
            .any(|sealed| sealed.to_bytes() == verb.as_bytes())
    }

    /// Whether the verb makes a container, and so enters none.
    pub fn makes_a_container(&self) -> bool {
        matches!(self.verb(), Some("create" | "run"))
    }

    /// The exit code of a failure in runc's map.
    pub fn failure_code(&self) -> u8 {
        exit_code::of_failure(self.verb())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::global::CommandLine;

    fn read(line: &str) -> Early {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        Early::read(&words)
    }

    #[test]
    fn the_options_with_a_value_are_the_parsers() {
        let command = CommandLine::command();
        let mut parsers: Vec<String> = command
            .get_arguments()
            .filter(|argument| argument.get_action().takes_values())
            .filter_map(|argument| Some(format!("--{}", argument.get_long()?)))
            .collect();
        parsers.sort();
        let mut ours = WITH_VALUE.map(String::from);
        ours.sort();
        assert_eq!(parsers, ours);
    }

    #[test]
    fn the_verb_is_found_after_global_options() {
        for line in [
            "capsid exec web ls",
            "capsid --root /r exec web",
            "capsid --debug --root=/r --log create exec web",
            "runc --log-format=json --log /l exec web",
        ] {
            assert_eq!(read(line).verb.as_deref(), Some("exec"), "{line}");
        }
        for line in [
            "capsid",
            "capsid --root",
            "capsid -v",
            "capsid --root create",
        ] {
            assert_eq!(read(line).verb, None, "{line}");
        }
    }

    #[test]
    fn only_create_run_exec_and_mounts_start_a_process() {
        for (line, starts) in [
            ("c create a", true),
            ("c run a", true),
            ("c exec a b", true),
            ("c mounts add a /b /c", true),
        ]
        .into_iter()
        .chain([
            ("c state create", false),
            ("c delete a", false),
            ("c", false),
        ]) {
            assert_eq!(read(line).starts_a_process(), starts, "{line}");
        }
    }

    #[test]
    fn the_log_is_known_though_the_rest_is_wrong() {
        let early = read("capsid --log=/l --log-format json create --bundel x");
        assert_eq!(early.log.file, Some(PathBuf::from("/l")));
        assert!(matches!(early.log.format, Format::Json));
    }
}
