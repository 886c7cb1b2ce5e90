//! Switches as runc's command line takes them as well: `--debug=true`, and `--debug=false` for none.

use std::borrow::Cow;
use std::ffi::OsString;

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
            parsed => return parsed,
        };
        // One switch less with a value each time.
        let Some(barer) = bare(&problem, &words) else {
            return Err(problem);
        };
        parsed = CommandLine::try_parse_from(&barer);
        words = Cow::Owned(barer);
    }
}

/// The words with the switch that is complained about written without its value.
fn bare(problem: &clap::Error, words: &[OsString]) -> Option<Vec<OsString>> {
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
    let on = is_on(value)?;
    let given = OsString::from(format!("{name}={value}"));
    let place = words.iter().position(|word| *word == given)?;
    let (before, rest) = words.split_at_checked(place)?;
    let after = rest.get(1..)?;
    let switch = on.then(|| OsString::from(name));
    Some(
        before
            .iter()
            .cloned()
            .chain(switch)
            .chain(after.iter().cloned())
            .collect(),
    )
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
    fn what_a_command_is_given_stays_as_it_is() {
        let line = "c exec --tty=true web prog --tty=true --debug=false";
        assert!(parsed(line).is_ok());
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let problem = CommandLine::try_parse_from(&words).err().unwrap();
        let barer = bare(&problem, &words).unwrap();
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
