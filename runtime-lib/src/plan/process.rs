//! What is executed and with what: arguments, environment, candidates along PATH, limits,
//! sysctls. It must not look for the program: only the child sees the container's files.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

use oci_spec::runtime::{PosixRlimitType, Process, Spec};

use super::draft::{c_string, target};
use super::validate::sysctl;
use super::{ParentAction, Plan, Program, Scorer};
use crate::error::{Code, Error, Result};
use crate::spec::join;
use crate::step::{Barrier, Step, Target, Terminal};

/// The umask of a process that asks for none.
const UMASK: u32 = 0o022;

/// setrlimit(2)
const LIMITS: [(PosixRlimitType, libc::__rlimit_resource_t); 16] = [
    (PosixRlimitType::RlimitCpu, libc::RLIMIT_CPU),
    (PosixRlimitType::RlimitFsize, libc::RLIMIT_FSIZE),
    (PosixRlimitType::RlimitData, libc::RLIMIT_DATA),
    (PosixRlimitType::RlimitStack, libc::RLIMIT_STACK),
    (PosixRlimitType::RlimitCore, libc::RLIMIT_CORE),
    (PosixRlimitType::RlimitRss, libc::RLIMIT_RSS),
    (PosixRlimitType::RlimitNproc, libc::RLIMIT_NPROC),
    (PosixRlimitType::RlimitNofile, libc::RLIMIT_NOFILE),
    (PosixRlimitType::RlimitMemlock, libc::RLIMIT_MEMLOCK),
    (PosixRlimitType::RlimitAs, libc::RLIMIT_AS),
    (PosixRlimitType::RlimitLocks, libc::RLIMIT_LOCKS),
    (PosixRlimitType::RlimitSigpending, libc::RLIMIT_SIGPENDING),
    (PosixRlimitType::RlimitMsgqueue, libc::RLIMIT_MSGQUEUE),
    (PosixRlimitType::RlimitNice, libc::RLIMIT_NICE),
    (PosixRlimitType::RlimitRtprio, libc::RLIMIT_RTPRIO),
    (PosixRlimitType::RlimitRttime, libc::RLIMIT_RTTIME),
];

/// What execve(2) gets.
pub(super) fn program(process: &Process, further: &[String], pointer: &str) -> Result<Program> {
    let args = process.args().as_deref().unwrap_or_default();
    let here = format!("{pointer}/args");
    let Some(name) = args.first() else {
        return Err(Error::new(Code::InvalidConfig, "args must not be empty").at(here));
    };
    let argv = args
        .iter()
        .enumerate()
        .map(|(n, arg)| c_string(arg.as_str(), &format!("{here}/{n}")));
    let environment = Environment::resolve(process, further, pointer)?;
    Ok(Program {
        candidates: candidates(name, environment.path, &format!("{here}/0"))?,
        argv: argv.collect::<Result<_>>()?,
        envp: environment.envp,
        home: environment.home,
    })
}

struct Environment<'a> {
    envp: Vec<CString>,
    /// Nobody gave a home directory that isn't empty.
    home: bool,
    path: Option<&'a str>,
}

impl<'a> Environment<'a> {
    /// The last of several entries with one name counts, the order stays.
    fn resolve(
        process: &'a Process,
        further: &'a [String],
        pointer: &str,
    ) -> Result<Environment<'a>> {
        let own = process.env().as_deref().unwrap_or_default();
        let entries = || own.iter().chain(further);
        let (mut home, mut path) = (true, None);
        let mut seen = HashSet::with_capacity(own.len());
        let mut envp = Vec::with_capacity(own.len());
        for (n, entry) in entries().enumerate().collect::<Vec<_>>().into_iter().rev() {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            if !seen.insert(name) {
                continue;
            }
            match name {
                "HOME" if value.is_empty() => continue,
                "HOME" => home = false,
                "PATH" => path = Some(value),
                _ => {}
            }
            envp.push(c_string(entry.as_str(), &format!("{pointer}/env/{n}"))?);
        }
        envp.reverse();
        Ok(Environment { envp, home, path })
    }
}

/// A name with a slash is the path itself. A relative directory of PATH would depend on cwd,
/// which the container's files decide: it is left out.
fn candidates(name: &str, path: Option<&str>, pointer: &str) -> Result<Vec<CString>> {
    if name.is_empty() {
        // With a directory before it, it would be that.
        return Ok(Vec::new());
    }
    if name.contains('/') {
        return Ok(vec![c_string(name, pointer)?]);
    }
    let directories = path.unwrap_or_default().split(':');
    let absolute = directories.filter(|directory| directory.starts_with('/'));
    absolute
        .map(|directory| {
            c_string(
                format!("{}/{name}", directory.trim_end_matches('/')),
                pointer,
            )
        })
        .collect()
}

/// The working directory, and its pointer: cleaned, as the directory is that is made for it.
pub(super) fn cwd(process: &Process, pointer: &str) -> Result<(Target, String)> {
    let here = format!("{pointer}/cwd");
    let cwd = target(process.cwd().as_os_str().as_bytes(), &here)?;
    Ok((cwd, here))
}

/// The umask, which is never inherited from the caller.
pub(super) fn umask(process: &Process) -> Step {
    Step::Umask(process.user().umask().unwrap_or(UMASK))
}

/// The OOM score. Before anything else by the child of an ordinary user: a process that is
/// undumpable or has changed its ids has files of root's below /proc.
pub(super) fn oom_score(score: Option<i32>, scorer: Scorer, pointer: &str, plan: &mut Plan) {
    let Some(score) = score else {
        return;
    };
    let pointer = format!("{pointer}/oomScoreAdj");
    if scorer == Scorer::Child {
        plan.step_for(Step::OomScoreAdj(score), pointer.clone());
    }
    let action = ParentAction::OomScoreAdj {
        score,
        scorer,
        pointer,
    };
    plan.act(Barrier::Ready, action);
}

/// A limit, with the resource as setrlimit(2) calls it.
pub(crate) fn limit_words(resource: i32, soft: u64, hard: u64) -> String {
    let found = LIMITS.iter().find(|(_, number)| *number as i32 == resource);
    let name = found.map_or_else(|| resource.to_string(), |(kind, _)| kind.to_string());
    let amount = |n: u64| match n {
        u64::MAX => "unlimited".to_owned(),
        n => n.to_string(),
    };
    format!("set {name} to {}, at most {}", amount(soft), amount(hard))
}

/// Who sets the limits, when the child has done everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limiter {
    /// The parent, which has CAP_SYS_RESOURCE over the child: it may also raise them.
    Parent,
    /// The child. Without that capability nobody may limit a process of another user, and
    /// lowering its own is what any process may do.
    Child,
}

/// The limits.
pub(super) fn limits(process: &Process, pointer: &str, limiter: Limiter, plan: &mut Plan) {
    let limits = process.rlimits().as_deref().unwrap_or_default();
    for (n, limit) in limits.iter().enumerate() {
        let Some((_, resource)) = LIMITS.iter().find(|(kind, _)| *kind == limit.typ()) else {
            continue;
        };
        let (resource, soft, hard) = (*resource as i32, limit.soft(), limit.hard());
        let pointer = format!("{pointer}/rlimits/{n}");
        match limiter {
            Limiter::Parent => {
                let action = ParentAction::Limit {
                    resource,
                    soft,
                    hard,
                    pointer,
                };
                plan.act(Barrier::Ready, action);
            }
            Limiter::Child => {
                let step = Step::Limit {
                    resource,
                    soft,
                    hard,
                };
                plan.step_for(step, pointer);
            }
        }
    }
}

/// The process's terminal, if it has one.
pub(super) fn terminal(process: &Process, console: bool) -> Option<Terminal> {
    let size = process.console_size().and_then(|size| {
        let cells = |n: u64| u16::try_from(n).ok().filter(|n| *n != 0);
        cells(size.height()).zip(cells(size.width()))
    });
    process.terminal().unwrap_or(false).then(|| Terminal {
        console,
        size,
        owner: process.user().uid(),
    })
}

/// The kernel parameters, by name: an object of JSON has no order.
pub(super) fn sysctls(config: &Spec, plan: &mut Plan) -> Result<()> {
    let linux = config.linux().as_ref();
    let Some(sysctl) = linux.and_then(|linux| linux.sysctl().as_ref()) else {
        return Ok(());
    };
    let mut sorted: Vec<_> = sysctl.iter().collect();
    sorted.sort_unstable();
    for (name, value) in sorted {
        let pointer = join("/linux/sysctl", name);
        let Some(path) = sysctl::path(name) else {
            let tail = format!("sysctl {name:?} is not a name below /proc/sys");
            return Err(Error::new(Code::InvalidConfig, tail).at(pointer));
        };
        let step = Step::Sysctl {
            name: c_string(path, &pointer)?,
            value: value.clone().into_bytes(),
        };
        plan.step_for(step, pointer);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(args: &[&str], env: &[&str]) -> Program {
        let text = serde_json::json!({"user": {}, "cwd": "/", "args": args, "env": env});
        program(&serde_json::from_value(text).unwrap(), &[], "/process").unwrap()
    }

    fn text(list: &[CString]) -> Vec<&str> {
        list.iter().map(|item| item.to_str().unwrap()).collect()
    }

    #[test]
    fn of_several_entries_with_one_name_the_last_counts_and_the_order_stays() {
        let program = planned(&["/a"], &["A=1", "B=2", "A=3", "C=", "HOME=/h", "B=x=y"]);
        assert_eq!(text(&program.envp), ["A=3", "C=", "HOME=/h", "B=x=y"]);
        assert!(!program.home);
    }

    #[test]
    fn a_home_that_is_empty_or_absent_is_looked_up() {
        for env in [
            &["A=1"][..],
            &["HOME=", "A=1"],
            &["HOME=/x", "A=1", "HOME="],
        ] {
            let program = planned(&["/a"], env);
            assert_eq!(text(&program.envp), ["A=1"], "{env:?}");
            assert!(program.home);
        }
    }

    #[test]
    fn a_program_without_a_slash_is_looked_up_along_path() {
        let program = planned(&["sh"], &["PATH=/a:/b//:relative::/c"]);
        assert_eq!(text(&program.candidates), ["/a/sh", "/b/sh", "/c/sh"]);
        assert_eq!(text(&planned(&["./sh"], &["PATH=/a"]).candidates), ["./sh"]);
        assert!(planned(&["sh"], &["A=1"]).candidates.is_empty());
    }

    #[test]
    fn a_terminal_has_a_size_only_when_both_sides_have() {
        let process = |size: &str| {
            let text = format!(
                r#"{{"user": {{"uid": 7}}, "cwd": "/", "terminal": true, "consoleSize": {size}}}"#
            );
            terminal(&serde_json::from_str(&text).unwrap(), true).unwrap()
        };
        assert_eq!(
            process(r#"{"height": 24, "width": 80}"#).size,
            Some((24, 80))
        );
        assert_eq!(process(r#"{"height": 0, "width": 80}"#).size, None);
        assert_eq!(process(r#"{"height": 1, "width": 65536}"#).size, None);
        assert_eq!(process("null").owner, 7);
    }
}
