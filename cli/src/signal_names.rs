//! Signals as people and engines write them: `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+3`.

use std::str::FromStr;

use capsid_runtime::{Code, Error, Result};
use nix::libc::{SIGRTMAX, SIGRTMIN};
use nix::sys::signal::Signal;

/// Second names that signal(7) lists and nix does not know.
const ALIASES: [(&str, Signal); 3] = [
    ("CLD", Signal::SIGCHLD),
    ("IOT", Signal::SIGABRT),
    ("POLL", Signal::SIGIO),
];

/// The number of a signal, 0 to SIGRTMAX; 0 only asks whether there is a process.
pub fn parse(text: &str) -> Result<i32> {
    number(text).ok_or_else(|| {
        Error::new(Code::InvalidArgument, format!("unknown signal {text:?}"))
            .hint("give a name such as TERM, a number, or RTMIN+n")
    })
}

fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (0..=SIGRTMAX()).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return real_time(SIGRTMIN(), offset, '+');
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return real_time(SIGRTMAX(), offset, '-');
    }
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    let signal = match alias {
        Some((_, signal)) => *signal,
        None => Signal::from_str(&format!("SIG{name}")).ok()?,
    };
    Some(signal as i32)
}

fn real_time(end: i32, offset: &str, sign: char) -> Option<i32> {
    let distance = match offset {
        "" => 0,
        _ => i32::from(offset.strip_prefix(sign)?.parse::<u8>().ok()?),
    };
    let number = if sign == '+' {
        end + distance
    } else {
        end - distance
    };
    (SIGRTMIN()..=SIGRTMAX())
        .contains(&number)
        .then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_mean_the_same() {
        for (text, expected) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("term", 15),
            ("sigKill", 9),
            ("9", 9),
            ("0", 0),
            ("HUP", 1),
            ("USR1", 10),
            ("CLD", 17),
            ("SIGIOT", 6),
            ("POLL", 29),
            ("WINCH", 28),
            ("SYS", 31),
            ("64", 64),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn real_time_signals_count_from_both_ends() {
        for (text, expected) in [
            ("RTMIN", SIGRTMIN()),
            ("SIGRTMIN+3", SIGRTMIN() + 3),
            ("rtmax", SIGRTMAX()),
            ("RTMAX-1", SIGRTMAX() - 1),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused_in_runcs_words() {
        for text in [
            "",
            "FOO",
            "SIG",
            "-1",
            "65",
            "99999999999",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN+x",
            "TERM ",
            "SIGSIGTERM",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("unknown signal {text:?}")),
                "{error}"
            );
        }
    }
}
