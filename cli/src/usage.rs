//! The answer to a command line that is no command: the help that was asked for, or what is
//! wrong with it, on stderr for people and as one record in the log for engines.

use capsid_runtime::{Code, Error};
use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::global::CommandLine;
use crate::log::{Format, Log, LogOptions};
use crate::output;

const WRONG_USAGE: u8 = 2;

pub fn answer(problem: &clap::Error, options: &LogOptions) -> u8 {
    let mut text = problem.render().to_string();
    if let Some(tip) = tip(problem) {
        text.push_str(&format!("\n  tip: {tip}\n"));
    }
    let log = Log::open_or_stderr(options);
    match problem.kind() {
        ErrorKind::DisplayHelp => match output::print(&text) {
            Ok(()) => 0,
            Err(error) => log.failed(&error, 1),
        },
        _ if options.file.is_none() && options.format == Format::Json => {
            log.failed(&one_line(&text), WRONG_USAGE)
        }
        _ => {
            if options.file.is_some() {
                log.record_error(&one_line(&text));
            }
            log.say(&text);
            WRONG_USAGE
        }
    }
}

/// What the parser can't know: where an option of another place belongs.
fn tip(problem: &clap::Error) -> Option<String> {
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
    let digits = name
        .strip_prefix('-')
        .filter(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    let number = digits.filter(|digits| !digits.is_empty())?;
    Some(format!(
        "a signal comes after the id: capsid kill ID {number}"
    ))
}

/// The first paragraph, without the parser's "error: ".
fn one_line(text: &str) -> Error {
    let first = text.split("\n\n").next().unwrap_or(text);
    let words: Vec<&str> = first.split_whitespace().collect();
    let line = words.join(" ");
    Error::new(
        Code::InvalidArgument,
        line.strip_prefix("error: ").unwrap_or(&line),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            let problem = CommandLine::try_parse_from(line.split(' '))
                .err()
                .expect(line);
            let told = tip(&problem).unwrap_or_default();
            assert!(told.contains(expected), "{line}: {told:?} of {problem}");
        }
        let other = CommandLine::try_parse_from(["capsid", "list", "--forse"])
            .err()
            .unwrap();
        assert_eq!(tip(&other), None);
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
    }
}
