//! The answer to a command line that is no command: the help that was asked for, or what is
//! wrong with it, on stderr for people and as one record in the log for engines.

use std::ffi::OsString;

use capsid_runtime::{Code, Error};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, CommandFactory};

use crate::early::Early;
use crate::exit_code;
use crate::global::{CommandLine, MANAGERS, ROOTLESS};
use crate::log::{Format, Log};
use crate::output;
use crate::verbs::Update;

pub fn answer(problem: &clap::Error, early: &Early, words: &[OsString]) -> u8 {
    let map = early.exit_code_map;
    let mut options = early.log.clone();
    // A file of that name is not what was meant.
    options.file = options
        .file
        .filter(|file| early.verb().is_some_and(is_verb) || !file.to_str().is_some_and(is_verb));
    let log = Log::open_or_stderr(&options);
    let shows_help = options.file.is_none() && options.format == Format::Text;
    match problem.kind() {
        ErrorKind::DisplayHelp => match output::print(problem.render().to_string()) {
            Ok(()) => 0,
            Err(error) => log.failed(&error, map.code_of(&error, exit_code::of_failure(None))),
        },
        NOTHING_SAID if shows_help => {
            log.say(&problem.render().to_string());
            map.wrong_usage()
        }
        _ => log.failed(&error(problem, early.verb(), words), map.wrong_usage()),
    }
}

/// `capsid` alone, or a verb that has verbs of its own without one.
const NOTHING_SAID: ErrorKind = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

/// The complaint as every other error: its verb, what to do, and what is wrong, on one line.
fn error(problem: &clap::Error, typed: Option<&str>, words: &[OsString]) -> Error {
    let text = problem.render().to_string();
    let tail = match problem.kind() {
        NOTHING_SAID => "a verb is missing".to_owned(),
        ErrorKind::InvalidUtf8 => not_text(words),
        _ => first_paragraph(&text),
    };
    let verb = match is_about_a_global_option(problem) || comes_first(problem, typed, words) {
        true => None,
        false => verb(typed, words),
    };
    let help = match &verb {
        Some(verb) => format!("see capsid {verb} --help"),
        None => "see capsid --help".to_owned(),
    };
    let hint = match tip(problem, typed, words).or_else(|| parsers_tip(problem, &text)) {
        Some(tip) => format!("{tip}; {help}"),
        None => help,
    };
    let error = Error::new(Code::InvalidArgument, tail).hint(hint);
    match verb {
        Some(verb) => error.during(verb),
        None => error,
    }
}

/// The verb, with the verb of its own that follows it: `mounts add`.
fn verb(typed: Option<&str>, words: &[OsString]) -> Option<String> {
    let typed = typed.filter(|typed| *typed != "help")?;
    let mut command = CommandLine::command();
    command.build();
    let verb = command.find_subcommand(typed)?;
    let mut after = words.iter().skip_while(|word| *word != typed).skip(1);
    let below = after.find_map(|word| verb.find_subcommand(word));
    Some(match below {
        Some(below) => format!("{typed} {}", below.get_name()),
        None => typed.to_owned(),
    })
}

fn is_about_a_global_option(problem: &clap::Error) -> bool {
    let Some(ContextValue::String(option)) = problem.get(ContextKind::InvalidArg) else {
        return false;
    };
    let name = option.split([' ', '=', '[']).next().unwrap_or(option);
    problem.kind() != ErrorKind::UnknownArgument && global(name).is_some()
}

/// Whether the argument that nobody knows stands before the verb.
fn comes_first(problem: &clap::Error, typed: Option<&str>, words: &[OsString]) -> bool {
    let Some(ContextValue::String(name)) = problem.get(ContextKind::InvalidArg) else {
        return false;
    };
    let place = |wanted: &str| words.iter().position(|word| word == wanted);
    let verb = typed.and_then(place);
    problem.kind() == ErrorKind::UnknownArgument
        && place(name).is_some_and(|place| verb.is_none_or(|verb| place < verb))
}

/// The verb that knows an option which stands before it.
fn verb_of(name: &str, words: &[OsString]) -> Option<String> {
    let is_it = |word: &OsString| {
        let word = word.to_string_lossy();
        word.split('=').next() == Some(name)
    };
    let mut command = CommandLine::command();
    command.build();
    let place = words.iter().position(is_it)?;
    let (before, after) = words.split_at_checked(place)?;
    if before
        .iter()
        .any(|word| command.find_subcommand(word).is_some())
    {
        return None;
    }
    let verb = after
        .iter()
        .find_map(|word| command.find_subcommand(word))?;
    let knows = |option: &Arg| {
        option
            .get_long()
            .is_some_and(|long| name.strip_prefix("--") == Some(long))
            || option
                .get_short()
                .is_some_and(|short| name == format!("-{short}"))
    };
    let known = verb.get_arguments().any(knows);
    known.then(|| verb.get_name().to_owned())
}

fn is_verb(word: &str) -> bool {
    CommandLine::command().find_subcommand(word).is_some()
}

/// The option that stands before the verb.
fn global(name: &str) -> Option<Arg> {
    let command = CommandLine::command();
    let mut options = command.get_arguments();
    let option = options.find(|option| {
        option
            .get_long()
            .is_some_and(|long| name.strip_prefix("--") == Some(long))
    });
    option.cloned()
}

/// What the parser says is wrong, without its "error: ".
fn first_paragraph(text: &str) -> String {
    let first = text.split("\n\n").next().unwrap_or(text);
    let words: Vec<&str> = first.split_whitespace().collect();
    let line = words.join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    // What Rust says of a number.
    line.replace("invalid digit found in string", "not a whole number")
}

/// The words that aren't text, one of which ought to be: paths may be any bytes.
fn not_text(words: &[OsString]) -> String {
    let odd = words.iter().filter(|word| word.to_str().is_none());
    let odd: Vec<String> = odd.map(|word| format!("{word:?}")).collect();
    format!("not UTF-8, in which only paths may be: {}", odd.join(", "))
}

/// What the parser thinks was meant.
fn parsers_tip(problem: &clap::Error, text: &str) -> Option<String> {
    let lines = text.lines();
    let tips = lines.filter_map(|line| line.trim_start().strip_prefix("tip: "));
    // "to pass '--x' as a value, use '-- --x'": no value of ours begins with a dash.
    let tips = tips.filter(|tip| !tip.starts_with("to pass "));
    let tips: Vec<&str> = match problem.kind() {
        ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument | ErrorKind::InvalidValue => {
            tips.collect()
        }
        _ => Vec::new(),
    };
    (!tips.is_empty()).then(|| tips.join("; "))
}

/// What the parser can't know: where an option of another place belongs, and what to do where
/// another program has an option.
fn tip(problem: &clap::Error, verb: Option<&str>, words: &[OsString]) -> Option<String> {
    if let Some(option) = option_with_the_verb(verb, words) {
        return Some(option);
    }
    match problem.kind() {
        ErrorKind::InvalidSubcommand => return other_verb(verb?).map(str::to_owned),
        ErrorKind::TooManyValues => return Some("a switch takes true or false".to_owned()),
        _ => {}
    }
    let Some(ContextValue::String(word)) = problem.get(ContextKind::InvalidArg) else {
        return None;
    };
    if problem.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let name = word.split('=').next().unwrap_or(word);
    if let Some(argument) = global(name) {
        let value = if argument.get_action().takes_values() {
            " …"
        } else {
            ""
        };
        return Some(format!(
            "{name} stands before the verb: capsid {name}{value} VERB"
        ));
    }
    if let Some(verb) = verb_of(name, words) {
        return Some(format!(
            "{name} stands after the verb: capsid {verb} {name}"
        ));
    }
    if name == "-V" {
        return Some("capsid --version, or -v, prints the version".to_owned());
    }
    if !name.starts_with('-') && words.iter().any(|word| word == "--lxcfs") {
        return Some("a directory follows --lxcfs with a =: --lxcfs=DIR".to_owned());
    }
    let verb = verb?;
    if matches!(verb, "run" | "create") {
        if let Some(limit) = limit(name) {
            return Some(limit);
        }
        if !name.starts_with('-') {
            return Some(format!(
                "{verb} takes one id: the bundle is named by --bundle, and the program by \
                 /process/args of its config.json"
            ));
        }
    }
    habit(name, verb).map(str::to_owned)
}

/// Where a limit is written that is given to create or run.
fn limit(name: &str) -> Option<String> {
    if let Some(pointer) = Update::pointer_of(name) {
        return Some(format!(
            "a bundle has it at {pointer} of its config.json; \
             capsid update {name} … ID changes that of a container"
        ));
    }
    let is_alike = name == "-m"
        || ["--cpu", "--memory", "--pids", "--blkio", "--device-"]
            .iter()
            .any(|first| name.starts_with(first));
    is_alike.then(|| {
        "a bundle has limits at /linux/resources of its config.json; \
         capsid update changes those of a container"
            .to_owned()
    })
}

/// That an option before the verb has taken the verb for its value: no verb stands where one ought to.
fn option_with_the_verb(typed: Option<&str>, words: &[OsString]) -> Option<String> {
    if typed.is_some_and(is_verb) {
        return None;
    }
    let taken = |(n, word): (usize, &OsString)| {
        let word = word.to_str()?;
        let (name, verb) = match word.split_once('=') {
            Some(pair) => pair,
            None => (word, words.get(n + 1)?.to_str()?),
        };
        let option = global(name).filter(|option| option.get_action().takes_values())?;
        let placeholder = option.get_value_names()?.first()?.to_string();
        let values = match name {
            "--rootless" => ROOTLESS.to_owned(),
            "--cgroup-manager" => MANAGERS.to_owned(),
            name => format!("capsid {name} {placeholder} VERB"),
        };
        is_verb(verb).then(|| format!("{name} has taken {verb} for its value: {values}"))
    };
    words.iter().enumerate().find_map(taken)
}

/// Verbs of other programs, and what does the same here.
fn other_verb(name: &str) -> Option<&'static str> {
    Some(match name {
        "rm" | "remove" => "capsid delete ID removes a container",
        "ls" => "capsid list lists the containers",
        "stop" => {
            "capsid kill ID asks the program to end, capsid kill ID KILL makes it, and capsid delete ID removes what is left"
        }
        "inspect" | "status" => "capsid state ID prints a container's state",
        "top" => "capsid ps ID lists a container's processes",
        "stats" => "capsid events --stats ID prints what a container uses",
        "unpause" | "continue" => "capsid resume ID lets a paused container go on",
        "mount" | "umount" => {
            "capsid mounts add and mounts remove change what a container has mounted"
        }
        "logs" | "attach" => {
            "the program writes to where capsid create or run wrote, and capsid keeps none of it"
        }
        "checkpoint" | "restore" => "this version makes no checkpoints",
        "version" => "capsid --version prints the version",
        _ => return None,
    })
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
            "standard input is always connected: leave -i out"
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
        ("run" | "create", "-w" | "--workdir" | "--cwd") => {
            "the working directory is in config.json: /process/cwd of the bundle"
        }
        ("run" | "create", "-p" | "--publish" | "--net" | "--network") => {
            "namespaces are in config.json: /linux/namespaces of the bundle; a network in one is \
             its maker's business"
        }
        ("run" | "create", "--privileged" | "--cap-add" | "--cap-drop") => {
            "capabilities are in config.json: /process/capabilities of the bundle"
        }
        ("run" | "create", "--read-only") => {
            "whether the root can be written is in config.json: /root/readonly of the bundle"
        }
        ("exec", "-w" | "--workdir") => "the working directory is --cwd",
        ("list", "-a" | "--all") => "every container is listed, whatever its status",
        ("list", name) if !name.starts_with('-') => "capsid state ID prints one container",
        ("state" | "features", "-f" | "--format" | "--json") => "it always prints JSON",
        ("update", "--cpus") => {
            "processors are a share of each period: --cpu-quota 200000 --cpu-period 100000 are two"
        }
        ("update", "-m") => "it has no short form: --memory",
        ("create", "-d" | "--detach") => {
            "create always returns; start lets the program run, and run --detach does both"
        }
        _ => return None,
    })
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
            (
                "capsid --bundle b run web",
                "--bundle stands after the verb: capsid run --bundle",
            ),
            (
                "capsid -b b run web",
                "-b stands after the verb: capsid run -b",
            ),
            ("capsid --force delete web", "capsid delete --force"),
            ("capsid --format=json list", "capsid list --format"),
            ("capsid run --detach=maybe web", "true or false"),
            ("capsid -V", "capsid --version"),
            ("capsid run --net host web", "/linux/namespaces"),
            ("capsid list web", "capsid state ID"),
            ("capsid state --format json web", "always prints JSON"),
            ("capsid run --rm web", "--keep"),
            ("capsid create -d web", "run --detach"),
            ("capsid update --cpus 2 web", "--cpu-quota"),
            ("capsid update -m 5m web", "--memory"),
            (
                "capsid --rootless run --bundle b web",
                "true, false or auto",
            ),
            ("capsid run --lxcfs /var/lib/lxcfs web", "--lxcfs=DIR"),
        ] {
            let problem = CommandLine::try_parse_from(line.split(' '))
                .err()
                .expect(line);
            let told = tip(&problem, verb(line), &words(line)).unwrap_or_default();
            assert!(told.contains(expected), "{line}: {told:?} of {problem}");
        }
        for line in [
            "capsid list --forse",
            "capsid run --preserve-fds -1 web",
            "capsid exec --usr 1 web program --rootless run",
        ] {
            let problem = CommandLine::try_parse_from(line.split(' '));
            let problem = problem.err().expect(line);
            assert_eq!(tip(&problem, verb(line), &words(line)), None, "{line}");
        }
    }

    #[test]
    fn a_word_that_is_no_text_is_named() {
        use clap::Parser;
        use std::os::unix::ffi::OsStringExt;
        let mut words = words("capsid exec --env");
        words.push(OsString::from_vec(b"A=\xe9t\xe9".to_vec()));
        words.extend(["web".into(), "id".into()]);
        let problem = CommandLine::try_parse_from(&words).err().unwrap();
        assert_eq!(
            error(&problem, Some("exec"), &words).to_string(),
            "exec: see capsid exec --help: not UTF-8, in which only paths may be: \"A=\\xE9t\\xE9\""
        );
    }

    #[test]
    fn a_complaint_is_one_line_with_the_verb_and_what_to_do() {
        use clap::Parser;
        for (line, expected) in [
            (
                "capsid state",
                "state: see capsid state --help: the following required arguments were not provided: <ID>",
            ),
            (
                "capsid create --bundel /b web",
                "create: a similar argument exists: '--bundle'; see capsid create --help: unexpected argument '--bundel' found",
            ),
            (
                "capsid --log-format xml list",
                "see capsid --help: invalid value 'xml' for '--log-format <FORMAT>' [possible values: text, json]",
            ),
            (
                "capsid stat web",
                "some similar subcommands exist: 'start', 'state'; see capsid --help: unrecognized subcommand 'stat'",
            ),
            (
                "capsid rm web",
                "capsid delete ID removes a container; see capsid --help: unrecognized subcommand 'rm'",
            ),
            (
                "capsid run --preserve-fds 1x web",
                "run: see capsid run --help: invalid value '1x' for '--preserve-fds <N>': not a whole number",
            ),
            (
                "capsid --nope list",
                "see capsid --help: unexpected argument '--nope' found",
            ),
            (
                "capsid --format json list",
                "--format stands after the verb: capsid list --format; see capsid --help: unexpected argument '--format' found",
            ),
            (
                "capsid --root=/r mounts add web",
                "mounts add: see capsid mounts add --help: the following required arguments were not provided: <SOURCE> <DESTINATION>",
            ),
            (
                "capsid mounts",
                "mounts: see capsid mounts --help: a verb is missing",
            ),
        ] {
            let problem = CommandLine::try_parse_from(line.split(' '))
                .err()
                .expect(line);
            let words = words(line);
            let typed = Early::read(&words);
            assert_eq!(error(&problem, typed.verb(), &words).to_string(), expected);
        }
    }
}
