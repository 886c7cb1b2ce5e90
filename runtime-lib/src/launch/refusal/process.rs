//! Why there is no process to go on with: it was not cloned, or it has ended without a word.

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use crate::error::{Code, Error};
use crate::plan::{Plan, seccomp};
use crate::step::words;

/// clone3(2) itself was refused.
pub fn clone_refused(plan: &Plan, errno: Errno) -> Error {
    let doing = match plan.namespaces.is_empty() {
        true => "clone the container's process".to_owned(),
        false => format!(
            "clone the container's process with new namespaces: {}",
            words::namespaces(plan.namespaces)
        ),
    };
    let error = Error::call(Code::Namespace, "clone3", errno).doing(doing);
    match errno {
        Errno::EPERM => {
            error.hint(switched_off().unwrap_or_else(|| {
                "new namespaces need CAP_SYS_ADMIN or a user namespace".to_owned()
            }))
        }
        Errno::ENOSPC => {
            error.hint(none_allowed().unwrap_or_else(|| {
                "a limit of /proc/sys/user/max_*_namespaces is reached".to_owned()
            }))
        }
        Errno::EACCES => error.hint(
            "the caller may not move a process into this cgroup: start it inside the \
             delegated one",
        ),
        Errno::EOPNOTSUPP => error.hint("the cgroup is in a threaded subtree (cgroup.type)"),
        Errno::EBUSY => error.hint("the cgroup has controllers enabled for its children"),
        _ => error,
    }
}

/// The settings of Debian's and Ubuntu's kernels that keep user namespaces from ordinary users.
fn switched_off() -> Option<String> {
    let settings = [
        ("unprivileged_userns_clone", "0", "1"),
        ("apparmor_restrict_unprivileged_userns", "1", "0"),
    ];
    settings.into_iter().find_map(|(name, off, on)| {
        let value = std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?;
        let text = "user namespaces are switched off for ordinary users: as root, sysctl";
        (value.trim() == off).then(|| format!("{text} kernel.{name}={on}"))
    })
}

/// The kinds of namespaces of which there may be none.
fn none_allowed() -> Option<String> {
    let none = |kind: &&str| {
        std::fs::read_to_string(format!("/proc/sys/user/max_{kind}_namespaces"))
            .is_ok_and(|value| value.trim() == "0")
    };
    let kind = words::NAMESPACES
        .map(|(_, _, kind)| kind)
        .into_iter()
        .find(none)?;
    Some(format!(
        "no {kind} namespace may be made here: as root, sysctl user.max_{kind}_namespaces=15000"
    ))
}

/// The child ended without a report, before its program was executed; `filtered` where a seccomp
/// filter can be the reason.
pub fn died(how: Option<WaitStatus>, who: &str, filtered: bool) -> Error {
    let tail = match how {
        Some(WaitStatus::Signaled(_, signal, _)) => format!("{who} was killed by {signal}"),
        Some(WaitStatus::Exited(_, code)) => format!("{who} exited with status {code}"),
        _ => format!("{who} is gone"),
    };
    let error = Error::new(Code::Died, tail);
    match filtered {
        true => error.at(seccomp::POINTER).hint(
            "the program was never executed, and the seccomp filter may be why: allow execve, \
             write and exit_group",
        ),
        false => error,
    }
}

/// A filter has killed it before it could be seen whether its program was executed.
pub fn killed_at_once(who: &str) -> Error {
    let end = WaitStatus::Signaled(Pid::from_raw(0), Signal::SIGSYS, false);
    died(Some(end), who, false).at(seccomp::POINTER).hint(
        "the seccomp filter kills at once, perhaps for execve itself: allow what it starts with",
    )
}

/// The first process of a container, as runc calls it.
pub const INIT: &str = "container init";
