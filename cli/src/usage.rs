//! The answer to a command line that is no command: the help that was asked for, or what is
//! wrong with it, on stderr for people and as one record in the log for engines.

use capsid_runtime::{Code, Error};
use clap::error::ErrorKind;

use crate::log::{Format, Log, LogOptions};
use crate::output;

const WRONG_USAGE: u8 = 2;

pub fn answer(problem: &clap::Error, options: &LogOptions) -> u8 {
    let text = problem.render().to_string();
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
