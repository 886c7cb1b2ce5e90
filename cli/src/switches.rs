//! Switches as runc's command line takes them as well: `--debug=true`, and `--debug=false` for none.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::global::CommandLine;

/// The command line, whose switches may have a value; `verb`: what stands where its verb does.
pub fn parse(verb: Option<&str>, words: &[OsString]) -> clap::error::Result<CommandLine> {
    if let Some(command) = verb.and_then(|verb| CommandLine::of_an_engine(verb, words)) {
        return Ok(command);
    }
    let mut parsed = CommandLine::try_parse_from(words);
    let mut words = Cow::Borrowed(words);
    loop {
        let problem = match parsed {
            Err(problem) => problem,
            Ok(command) => return command.asking(),
        };
        // One switch less with a value each time, however often it is there.
        let Some(barer) = bare(&problem, verb, &words) else {
            return Err(problem);
        };
        parsed = CommandLine::try_parse_from(&barer);
        words = Cow::Owned(barer);
    }
}

/// The words with the switch that is complained about written once and without its value, as the last of
/// its values has it.
fn bare(problem: &clap::Error, verb: Option<&str>, words: &[OsString]) -> Option<Vec<OsString>> {
    if problem.kind() != ErrorKind::TooManyValues {
        return None;
    }
    let text = |kind| match problem.get(kind)? {
        ContextValue::String(text) => Some(text.as_str()),
        _ => None,
    };
    let (name, value) = (
        text(ContextKind::InvalidArg)?,
        text(ContextKind::InvalidValue)?,
    );
    is_on(value)?;
    let given = OsString::from(format!("{name}={value}"));
    let place = words.iter().position(|word| *word == given)?;
    let (before, rest) = words.split_at_checked(place)?;
    let end = rest.iter().position(|word| ends_options(word, verb));
    let (options, after) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
    let switched = |word: &OsString| match word.to_str()?.strip_prefix(name)? {
        "" => Some(true),
        value => is_on(value.strip_prefix('=')?),
    };
    let on = options.iter().rev().find_map(switched)?;
    let others = |words: &[OsString]| -> Vec<OsString> {
        let kept = words.iter().filter(|word| switched(word).is_none());
        kept.cloned().collect()
    };
    let mut barer = others(before);
    barer.extend(on.then(|| OsString::from(name)));
    barer.extend(others(options));
    barer.extend_from_slice(after);
    Some(barer)
}

/// Whether what comes from this word on may be no option of ours any more, whatever it looks like:
/// behind the id of these verbs stand another program's. No option's value begins with a dash.
fn ends_options(word: &OsStr, verb: Option<&str>) -> bool {
    let has_words_of_others = matches!(verb, Some("exec" | "ps"));
    word == "--" || has_words_of_others && !word.as_encoded_bytes().starts_with(b"-")
}

/// The words of Go's strconv.ParseBool.
pub fn is_on(word: &str) -> Option<bool> {
    match word {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::early::Early;

    fn parsed(line: &str) -> clap::error::Result<CommandLine> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        parse(Early::read(&words).verb(), &words)
    }

    #[test]
    fn a_switch_may_be_spelled_out() {
        let line = "c --debug=true --systemd-cgroup=FALSE run --detach=1 --keep=f --no-pivot=t web";
        let command = parsed(line).map_err(|e| e.to_string()).ok().unwrap();
        assert!(command.global.log.debug);
        assert_eq!(
            command.global.cgroup_driver(),
            capsid_runtime::CgroupDriver::Cgroupfs
        );
    }

    #[test]
    fn a_switch_takes_no_other_word() {
        for line in [
            "c --debug=maybe list",
            "c run --detach=2 web",
            "c list --quiet=",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_switch_that_is_said_a_thousand_times_is_read_once_and_the_last_word_counts() {
        for (line, on) in [
            (
                format!("c{} list --quiet=true", " --debug=true".repeat(3000)),
                1,
            ),
            (
                format!("c{} list", " --root /r --debug=true --debug=0".repeat(1000)),
                0,
            ),
            ("c --debug --root /r --debug=0 list".to_owned(), 0),
            ("c --debug=0 --root /r --debug=1 list".to_owned(), 1),
        ] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let problem = CommandLine::try_parse_from(&words).err().unwrap();
            let barer = bare(&problem, Some("list"), &words).unwrap();
            let left = |name: &str| barer.iter().filter(|word| *word == name).count();
            assert_eq!(
                left("--debug=true") + left("--debug=0") + left("--debug=1"),
                0
            );
            assert_eq!(left("--debug"), on, "{} words", words.len());
        }
        let line = "c ps --format=json web --tty=true -- --tty=true";
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        assert!(words.iter().take(3).all(|word| !ends_options(word, None)));
        assert!(ends_options(&words[3], Some("ps")) && ends_options(&words[5], None));
    }

    #[test]
    fn what_a_command_is_given_stays_as_it_is() {
        let line = "c exec --tty=true web prog --tty=true --debug=false";
        assert!(parsed(line).is_ok());
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let problem = CommandLine::try_parse_from(&words).err().unwrap();
        let barer = bare(&problem, Some("exec"), &words).unwrap();
        assert_eq!(
            barer,
            [
                "c",
                "exec",
                "--tty",
                "web",
                "prog",
                "--tty=true",
                "--debug=false"
            ]
        );
    }
}
