//! The probe: a static program that tests run inside containers. It prints
//! what it sees as one line of JSON, then does at most one action.
//!
//! It must not need anything of the container: no libraries, no /proc, no
//! writable file system. A section that cannot be read says so in its place
//! (`{"error": "ENOENT"}`) and the others are still printed.
#![forbid(unsafe_code)]

mod action;
mod cgroups;
mod devices;
mod errno;
mod files;
mod mounts;
mod process;
mod status;
mod terminals;
mod userns;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

/// What a section answers: its value, or the name of an errno.
pub(crate) type Answer = Result<Value, errno::Name>;

/// Reads one section.
type Section = fn() -> Answer;

/// Reads what the words after its name ask for.
type Question = fn(&[OsString]) -> Value;

/// Every section by its name, in the order in which they are read. The file
/// descriptors come first: the sections after them open files of their own.
const SECTIONS: &[(&str, Section)] = &[
    ("fds", files::descriptors),
    ("process", process::identity),
    ("uname", process::uname),
    ("ids", process::ids),
    ("cwd", process::cwd),
    ("args", process::args),
    ("env", process::env),
    ("umask", process::umask),
    ("rlimits", process::rlimits),
    ("personality", process::personality),
    ("scheduling", process::scheduling),
    ("oom_score_adj", process::oom_score_adj),
    ("clocks", process::clocks),
    ("pids", process::visible_pids),
    ("status", status::whole),
    ("capabilities", status::capabilities),
    ("security", status::security),
    ("keyring", status::keyring),
    ("namespaces", userns::namespaces),
    ("userns", userns::maps),
    ("mounts", mounts::mounts),
    ("cgroup", cgroups::membership),
    ("cgroup_files", cgroups::limits),
    ("devices", devices::nodes),
    ("ttys", terminals::standard),
    ("network", process::network),
];

/// Sections that take the words after them as their subjects.
const ASKED: &[(&str, Question)] = &[
    ("sysctl", files::sysctls),
    ("stat", files::stats),
    ("read", files::contents),
];

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    match see(&words) {
        Ok(code) => code,
        Err(reason) => {
            // Nothing is left to tell it to when stderr is closed too.
            let _ = writeln!(std::io::stderr(), "probe: {reason}");
            ExitCode::from(2)
        }
    }
}

/// Prints the sections that the words name (all of them when there is no
/// word), then does the action that they end in, if any.
fn see(words: &[OsString]) -> Result<ExitCode, String> {
    let mut seen = Map::new();
    if words.is_empty() {
        for (name, read) in SECTIONS {
            seen.insert((*name).to_owned(), answer(*read));
        }
    }
    let mut rest = words;
    while let Some((word, after)) = rest.split_first() {
        let name = word.to_string_lossy();
        if let Some((name, read)) = SECTIONS.iter().find(|(known, _)| *known == name) {
            seen.insert((*name).to_owned(), answer(*read));
        } else if let Some((name, ask)) = ASKED.iter().find(|(known, _)| *known == name) {
            seen.insert((*name).to_owned(), ask(after));
            break;
        } else if let Some(act) = action::named(&name) {
            print(seen)?;
            return act(after);
        } else {
            return Err(format!("{name}: no such section or action"));
        }
        rest = after;
    }
    print(seen)?;
    Ok(ExitCode::SUCCESS)
}

fn answer(read: Section) -> Value {
    read().unwrap_or_else(|errno| json!({ "error": errno.to_string() }))
}

/// One line by one write, so that lines of several probes on one pipe do not mix.
fn print(seen: Map<String, Value>) -> Result<(), String> {
    if seen.is_empty() {
        return Ok(());
    }
    line(&Value::Object(seen))
}

/// Prints a value as one line on stdout.
pub(crate) fn line(value: &Value) -> Result<(), String> {
    let text = format!("{value}\n");
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| format!("stdout: {error}"))
}
