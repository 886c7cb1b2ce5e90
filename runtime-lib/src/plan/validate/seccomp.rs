//! The seccomp filter (config-linux.md, "Seccomp").

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction as Action};

use super::{linux, refuse};
use crate::error::Error;
use crate::spec::Spec;

/// The greatest errno that a system call returns (linux/err.h: MAX_ERRNO).
const MOST_ERRNO: u32 = 4095;

/// What fits beside an action (linux/seccomp.h: SECCOMP_RET_DATA).
const MOST_DATA: u32 = 0xffff;

/// A system call has six arguments.
const ARGUMENTS: usize = 6;

fn profile(spec: &Spec) -> Option<&LinuxSeccomp> {
    linux(spec).and_then(|linux| linux.seccomp().as_ref())
}

/// config-linux.md: when the action does not support an errno, the runtime MUST fail.
pub(super) fn errnos_belong_to_actions(spec: &Spec) -> Vec<Error> {
    let Some(profile) = profile(spec) else {
        return vec![];
    };
    let judge = |pointer: String, action: Action, errno: Option<u32>| {
        let errno = errno?;
        let most = match action {
            Action::ScmpActErrno => MOST_ERRNO,
            Action::ScmpActTrace => MOST_DATA,
            _ => return Some(refuse(pointer, format!("errnoRet is not for {action}"))),
        };
        (errno > most).then(|| refuse(pointer, format!("errnoRet {errno} is above {most}")))
    };
    let default = "/linux/seccomp/defaultErrnoRet".to_owned();
    let default = judge(
        default,
        profile.default_action(),
        profile.default_errno_ret(),
    );
    let entries = profile.syscalls().iter().flatten().enumerate();
    let entries = entries.filter_map(|(n, entry)| {
        let pointer = format!("/linux/seccomp/syscalls/{n}/errnoRet");
        judge(pointer, entry.action(), entry.errno_ret())
    });
    default.into_iter().chain(entries).collect()
}

/// config-linux.md, args: index is that of the argument.
pub(super) fn arguments_exist(spec: &Spec) -> Vec<Error> {
    let entries = profile(spec).into_iter();
    let entries = entries.flat_map(|profile| profile.syscalls().iter().flatten());
    let wrong = entries.enumerate().flat_map(|(n, entry)| {
        let args = entry.args().iter().flatten().enumerate();
        let wrong = args.filter(|(_, arg)| arg.index() >= ARGUMENTS);
        let errors = wrong.map(move |(m, arg)| {
            let tail = format!(
                "a system call has no argument {}, the last is 5",
                arg.index()
            );
            refuse(format!("/linux/seccomp/syscalls/{n}/args/{m}/index"), tail)
        });
        errors.collect::<Vec<_>>()
    });
    wrong.collect()
}

/// Whoever listens has to be somewhere, and must not be asked about everything, nor about the
/// call by which the runtime gives it its descriptor.
pub(super) fn listeners_can_listen(spec: &Spec) -> Vec<Error> {
    let Some(profile) = profile(spec) else {
        return vec![];
    };
    let mut errors = Vec::new();
    if profile.default_action() == Action::ScmpActNotify {
        let tail = "SCMP_ACT_NOTIFY cannot be used as default action";
        errors.push(refuse("/linux/seccomp/defaultAction", tail));
    }
    let mut asked = false;
    for (n, entry) in profile.syscalls().iter().flatten().enumerate() {
        if entry.action() != Action::ScmpActNotify {
            continue;
        }
        asked = true;
        for (m, _) in entry
            .names()
            .iter()
            .enumerate()
            .filter(|(_, name)| *name == "write")
        {
            let tail = "SCMP_ACT_NOTIFY cannot be used for the write syscall";
            errors.push(refuse(
                format!("/linux/seccomp/syscalls/{n}/names/{m}"),
                tail,
            ));
        }
    }
    if asked && profile.listener_path().is_none() {
        let tail = "seccomp listenerPath is not set: SCMP_ACT_NOTIFY needs somebody who listens";
        errors.push(refuse("/linux/seccomp/listenerPath", tail));
    }
    if profile.listener_metadata().is_some() && profile.listener_path().is_none() {
        let tail = "listenerMetadata must not be set without listenerPath";
        errors.push(refuse("/linux/seccomp/listenerMetadata", tail));
    }
    errors
}
