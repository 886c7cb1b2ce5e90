//! The answer to a command line that is no command: the help that was asked for, or what is
//! wrong with it, on stderr for people and as one record in the log for engines.

use std::ffi::OsString;

use capsid_runtime::{Code, Error};
use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::early::Early;
use crate::global::CommandLine;
use crate::log::{Format, Log};
use crate::output;

pub fn answer(mut problem: clap::Error, early: &Early, words: &[OsString]) -> u8 {
    if problem.kind() == ErrorKind::UnknownArgument {
        // "to pass '--x' as a value, use '-- --x'": no value of ours begins with a dash.
        problem.remove(ContextKind::Suggested);
    }
    // What Rust says of a number.
    let mut text = problem
        .render()
        .to_string()
        .replace("invalid digit found in string", "not a whole number");
    if let Some(tip) = tip(&problem, early.verb(), words) {
        text.push_str(&format!("\n  tip: {tip}\n"));
    }
    let options = &early.log;
    let map = early.exit_code_map;
    let log = Log::open_or_stderr(options);
    match problem.kind() {
        ErrorKind::DisplayHelp => match output::print(&text) {
            Ok(()) => 0,
            Err(error) => log.failed(&error, map.code_of(&error, 1)),
        },
        _ if options.file.is_none() && options.format == Format::Json => {
            log.failed(&one_line(&text), map.wrong_usage())
        }
        _ => {
            if options.file.is_some() {
                log.record_error(&one_line(&text));
            }
            log.say(&text);
            map.wrong_usage()
        }
    }
}

/// What the parser can't know: where an option of another place belongs, and what to do where
/// another program has an option.
fn tip(problem: &clap::Error, verb: Option<&str>, words: &[OsString]) -> Option<String> {
    let Some(ContextValue::String(word)) = problem.get(ContextKind::InvalidArg) else {
        return None;
    };
    if problem.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let name = word.split('=').next().unwrap_or(word);
    let command = CommandLine::command();
    let mut before = command
        .get_arguments()
        .filter(|argument| !argument.is_positional());
    let global = before.find(|argument| {
        argument
            .get_long()
            .is_some_and(|long| name == format!("--{long}"))
    });
    if let Some(argument) = global {
        let value = if argument.get_action().takes_values() {
            " …"
        } else {
            ""
        };
        return Some(format!(
            "{name} stands before the verb: capsid {name}{value} VERB"
        ));
    }
    if !name.starts_with('-') && words.iter().any(|word| word == "--lxcfs") {
        return Some("a directory follows --lxcfs with a =: --lxcfs=DIR".to_owned());
    }
    habit(name, verb?).map(str::to_owned)
}

/// What people bring along from other programs.
fn habit(name: &str, verb: &str) -> Option<&'static str> {
    Some(match (verb, name) {
        ("kill", "--signal" | "-s") => "a signal comes after the id: capsid kill ID KILL",
        ("kill", name) => {
            let first = name.strip_prefix('-')?.chars().next()?;
            if !first.is_ascii_digit() && !first.is_ascii_uppercase() {
                return None;
            }
            "a signal comes after the id, without a dash: capsid kill ID KILL, or capsid kill ID 9"
        }
        ("run" | "create" | "exec", "-i" | "--interactive") => {
            "standard input is always connected: leave it out"
        }
        ("run", "--rm") => "run deletes the container when its process ends; --keep leaves it",
        ("run" | "create", "--name") => "the id is an argument: capsid run --bundle DIR ID",
        ("run" | "create", "-e" | "--env") => {
            "the environment is in config.json: /process/env of the bundle"
        }
        ("run" | "create", "-t" | "--tty") => {
            "whether there is a terminal is in config.json: /process/terminal of the bundle"
        }
        ("run" | "create", "-u" | "--user") => {
            "the user is in config.json: /process/user of the bundle"
        }
        ("run" | "create", "-v" | "--volume" | "--mount") => {
            "mounts are in config.json: /mounts of the bundle; mounts add makes one later"
        }
        ("create", "-d" | "--detach") => {
            "create always returns; start lets the program run, and run --detach does both"
        }
        _ => return None,
    })
}

/// The first paragraph without the parser's "error: ", and what the tips say.
fn one_line(text: &str) -> Error {
    let first = text.split("\n\n").next().unwrap_or(text);
    let words: Vec<&str> = first.split_whitespace().collect();
    let line = words.join(" ");
    let error = Error::new(
        Code::InvalidArgument,
        line.strip_prefix("error: ").unwrap_or(&line),
    );
    let tips = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("tip: "));
    match tips.collect::<Vec<_>>().join("; ") {
        tips if tips.is_empty() => error,
        tips => error.hint(tips),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn verb(line: &str) -> Option<&str> {
        line.split(' ').nth(1)
    }

    #[test]
    fn an_option_in_the_wrong_place_is_told_its_own() {
        use clap::Parser;
        for (line, expected) in [
            (
                "capsid list --log-format json",
                "--log-format stands before the verb",
            ),
            (
                "capsid state --root=/r web",
                "--root stands before the verb",
            ),
            ("capsid start --debug web", "--debug stands before the verb"),
            ("capsid kill -9 web", "capsid kill ID 9"),
            ("capsid kill -KILL web", "capsid kill ID KILL"),
            ("capsid kill --signal 9 web", "after the id"),
            ("capsid run -it web", "standard input"),
            ("capsid run --rm web", "--keep"),
            ("capsid create -d web", "run --detach"),
            ("capsid run --lxcfs /var/lib/lxcfs web", "--lxcfs=DIR"),
        ] {
            let problem = CommandLine::try_parse_from(line.split(' '))
                .err()
                .expect(line);
            let told = tip(&problem, verb(line), &words(line)).unwrap_or_default();
            assert!(told.contains(expected), "{line}: {told:?} of {problem}");
        }
        for line in ["capsid list --forse", "capsid run --preserve-fds -1 web"] {
            let problem = CommandLine::try_parse_from(line.split(' '));
            let problem = problem.err().expect(line);
            assert_eq!(tip(&problem, verb(line), &words(line)), None, "{line}");
        }
    }

    #[test]
    fn the_record_is_the_first_paragraph_on_one_line() {
        let error = one_line(
            "error: the following required arguments were not provided:\n  <ID>\n\nUsage: capsid",
        );
        assert_eq!(
            error.to_string(),
            "the following required arguments were not provided: <ID>"
        );
        let error =
            one_line("error: unexpected argument 'x'\n\n  tip: leave it out\n\nUsage: capsid");
        assert_eq!(error.to_string(), "leave it out: unexpected argument 'x'");
    }
}
