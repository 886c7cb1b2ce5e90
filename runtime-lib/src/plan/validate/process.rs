//! The process: what is executed, as whom, within which limits (config.md, "Process").

use oci_spec::runtime::{PosixRlimit, Process, User};

use super::{refuse, scheduling};
use crate::error::Error;
use crate::spec::shorten;

/// What uid_t and gid_t keep for "leave it as it is" (setresuid(2)).
const NO_ID: u32 = u32::MAX;

/// NGROUPS_MAX of linux/limits.h.
const GROUPS_MAX: usize = 65_536;

/// The bits that umask(2) knows.
const UMASK_MAX: u32 = 0o777;

/// /proc/PID/oom_score_adj (proc(5)).
const OOM_SCORE_ADJ: std::ops::RangeInclusive<i32> = -1000..=1000;

/// struct winsize counts rows and columns in 16 bits (ioctl_tty(2)).
const CONSOLE_MAX: u64 = u16::MAX as u64;

type Rule = fn(&Process, &str) -> Vec<Error>;

const RULES: &[Rule] = &[
    cwd_is_absolute,
    args_are_given,
    strings_fit_the_kernel,
    environment_is_names_with_values,
    ids_are_in_range,
    groups_are_not_too_many,
    umask_is_in_range,
    rlimits_are_set_once,
    rlimits_are_not_above_their_own_maximum,
    oom_score_adj_is_in_range,
    scheduling::scheduler_fits_its_policy,
    scheduling::deadlines_are_in_order,
    scheduling::io_priority_is_in_range,
    scheduling::affinities_are_lists,
    console_fits_a_terminal,
];

/// Everything that is wrong with a process. `at` is the pointer of the process: "/process" in
/// config.json, "" in process.json. Each error is [`crate::Code::InvalidConfig`].
pub fn process(process: &Process, at: &str) -> Vec<Error> {
    RULES.iter().flat_map(|rule| rule(process, at)).collect()
}

/// config.md: cwd MUST be an absolute path.
fn cwd_is_absolute(process: &Process, at: &str) -> Vec<Error> {
    let pointer = format!("{at}/cwd");
    let cwd = process.cwd();
    match cwd.is_absolute() {
        true => vec![],
        false if cwd.as_os_str().is_empty() => {
            vec![refuse(pointer, "Cwd property must not be empty")]
        }
        false => vec![refuse(pointer, "Cwd must be an absolute path")],
    }
}

/// config.md: on POSIX at least one entry is required in args.
fn args_are_given(process: &Process, at: &str) -> Vec<Error> {
    match process.args().as_deref() {
        None | Some([]) => vec![refuse(format!("{at}/args"), "args must not be empty")],
        Some(_) => vec![],
    }
}

/// execve(2), "Limits on size of arguments and environment": a string holds no NUL byte and
/// has at most 32 pages with the one at its end.
fn strings_fit_the_kernel(process: &Process, at: &str) -> Vec<Error> {
    let max = 32 * page_size();
    let listed = |what, list: &Option<Vec<String>>| {
        let list = list.as_deref().unwrap_or_default().iter().enumerate();
        let judged = list.filter_map(|(n, text)| {
            let pointer = || format!("{at}/{what}/{n}");
            if text.len() >= max {
                return Some(refuse(pointer(), "argument list too long"));
            }
            let nul = what == "args" && text.contains('\0');
            nul.then(|| refuse(pointer(), "it contains a NUL byte"))
        });
        judged.collect::<Vec<_>>()
    };
    let mut errors = listed("args", process.args());
    errors.extend(listed("env", process.env()));
    let cwd = process.cwd().as_os_str().as_encoded_bytes();
    let wrong = super::strings::wrong_path(cwd);
    errors.extend(wrong.map(|tail| refuse(format!("{at}/cwd"), tail)));
    errors
}

fn page_size() -> usize {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok().flatten().map_or(4096, |size| size as usize)
}

/// config.md: env has the semantics of environ (IEEE Std 1003.1): NAME=value.
fn environment_is_names_with_values(process: &Process, at: &str) -> Vec<Error> {
    let env = process.env().as_deref().unwrap_or_default();
    let judge = |(n, entry): (usize, &String)| {
        // The value may be a secret: it is not repeated.
        let tail = match entry.split_once('=') {
            None => format!("invalid environment variable: {:?}", shorten(entry)),
            Some(("", _)) => "environment variable name can't be empty".to_owned(),
            Some((name, value)) if name.contains('\0') || value.contains('\0') => {
                let name = shorten(name);
                format!("environment variable {name:?} can't contain null(\\x00)")
            }
            Some(_) => return None,
        };
        Some(refuse(format!("{at}/env/{n}"), tail))
    };
    env.iter().enumerate().filter_map(judge).collect()
}

/// setgroups(2): no process has more (NGROUPS_MAX).
fn groups_are_not_too_many(process: &Process, at: &str) -> Vec<Error> {
    let count = process
        .user()
        .additional_gids()
        .as_ref()
        .map_or(0, Vec::len);
    match count > GROUPS_MAX {
        true => vec![refuse(
            format!("{at}/user/additionalGids"),
            format!("{count} groups are too many, a process has {GROUPS_MAX} at the most"),
        )],
        false => vec![],
    }
}

/// setresuid(2), setgroups(2): the last value of the type is not an id.
fn ids_are_in_range(process: &Process, at: &str) -> Vec<Error> {
    let user: &User = process.user();
    let mut ids = vec![
        ("uid".to_owned(), user.uid()),
        ("gid".to_owned(), user.gid()),
    ];
    let groups = user.additional_gids().iter().flatten().enumerate();
    ids.extend(groups.map(|(n, gid)| (format!("additionalGids/{n}"), *gid)));
    let wrong = ids.into_iter().filter(|(_, id)| *id == NO_ID);
    let tail = format!("{NO_ID} is not an id, the last one is {}", NO_ID - 1);
    wrong
        .map(|(name, _)| refuse(format!("{at}/user/{name}"), tail.as_str()))
        .collect()
}

/// umask(2).
fn umask_is_in_range(process: &Process, at: &str) -> Vec<Error> {
    match process.user().umask() {
        Some(umask) if umask > UMASK_MAX => {
            let tail = format!("umask 0{umask:o} is above 0{UMASK_MAX:o}");
            vec![refuse(format!("{at}/user/umask"), tail)]
        }
        _ => vec![],
    }
}

fn rlimits(process: &Process) -> impl Iterator<Item = (usize, &PosixRlimit)> {
    process.rlimits().iter().flatten().enumerate()
}

/// config.md: an error MUST be generated if there are duplicated entries with the same type.
fn rlimits_are_set_once(process: &Process, at: &str) -> Vec<Error> {
    let repeated = |(n, limit): &(usize, &PosixRlimit)| {
        rlimits(process)
            .take(*n)
            .any(|(_, earlier)| earlier.typ() == limit.typ())
    };
    let refused = |(n, limit): (usize, &PosixRlimit)| {
        let tail = format!("duplicated rlimit {}", limit.typ());
        refuse(format!("{at}/rlimits/{n}"), tail)
    };
    rlimits(process).filter(repeated).map(refused).collect()
}

/// getrlimit(2): a soft limit above the hard limit is EINVAL.
fn rlimits_are_not_above_their_own_maximum(process: &Process, at: &str) -> Vec<Error> {
    let above = |(n, limit): (usize, &PosixRlimit)| {
        let (kind, soft, hard) = (limit.typ(), limit.soft(), limit.hard());
        let tail = || format!("{kind}: the soft limit {soft} is above the hard limit {hard}");
        (soft > hard).then(|| refuse(format!("{at}/rlimits/{n}/soft"), tail()))
    };
    rlimits(process).filter_map(above).collect()
}

/// proc(5).
fn oom_score_adj_is_in_range(process: &Process, at: &str) -> Vec<Error> {
    match process.oom_score_adj() {
        Some(score) if !OOM_SCORE_ADJ.contains(&score) => {
            let (low, high) = (OOM_SCORE_ADJ.start(), OOM_SCORE_ADJ.end());
            let tail = format!("oomScoreAdj {score} is not between {low} and {high}");
            vec![refuse(format!("{at}/oomScoreAdj"), tail)]
        }
        _ => vec![],
    }
}

/// config.md: consoleSize MUST be ignored without a terminal.
fn console_fits_a_terminal(process: &Process, at: &str) -> Vec<Error> {
    let Some(size) = process
        .console_size()
        .filter(|_| process.terminal() == Some(true))
    else {
        return vec![];
    };
    let sides = [("height", size.height()), ("width", size.width())];
    let judge = |(name, side): (&str, u64)| {
        let tail = format!("{name} {side} is above {CONSOLE_MAX}");
        (side > CONSOLE_MAX).then(|| refuse(format!("{at}/consoleSize/{name}"), tail))
    };
    sides.into_iter().filter_map(judge).collect()
}
