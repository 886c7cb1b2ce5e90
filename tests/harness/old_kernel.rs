//! A kernel that refuses system calls: a seccomp filter on the thread that starts a command, and so on all
//! that the command starts. It must be asked for on a thread of its own: nothing takes a filter back.

use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use super::Outcome;

/// The calls that came with the mount API by descriptors, and the walk of paths.
pub const NEW_CALLS: [(&str, libc::c_long); 7] = [
    ("openat2", libc::SYS_openat2),
    ("open_tree", libc::SYS_open_tree),
    ("move_mount", libc::SYS_move_mount),
    ("fsopen", libc::SYS_fsopen),
    ("fsconfig", libc::SYS_fsconfig),
    ("fsmount", libc::SYS_fsmount),
    ("mount_setattr", libc::SYS_mount_setattr),
];

/// A call that is refused: always, or only when an argument is not zero.
pub struct Refusal {
    pub call: libc::c_long,
    pub unless_zero: Option<u8>,
}

/// Runs a command to its end where these calls fail.
#[track_caller]
pub fn where_refused(refusals: &[Refusal], errno: Errno, command: &mut Command) -> Outcome {
    let program = program(refusals, errno);
    std::thread::scope(|scope| {
        let run = || {
            apply_filter(&program).expect("a seccomp filter");
            Outcome::of(command)
        };
        scope.spawn(run).join().expect("the thread of the filter")
    })
}

/// The same for a kernel that doesn't know these calls.
#[track_caller]
pub fn without(calls: &[libc::c_long], command: &mut Command) -> Outcome {
    let always = |call: &libc::c_long| Refusal {
        call: *call,
        unless_zero: None,
    };
    let refusals: Vec<_> = calls.iter().map(always).collect();
    where_refused(&refusals, Errno::ENOSYS, command)
}

fn program(refusals: &[Refusal], errno: Errno) -> BpfProgram {
    let rule = |refusal: &Refusal| {
        let conditions = refusal.unless_zero.map(|argument| {
            let not_zero =
                SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0);
            SeccompRule::new(vec![not_zero.expect("an argument")]).expect("a rule")
        });
        (refusal.call, conditions.into_iter().collect())
    };
    let filter = SeccompFilter::new(
        refusals.iter().map(rule).collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        std::env::consts::ARCH.try_into().expect("an architecture"),
    );
    filter.and_then(TryInto::try_into).expect("a filter")
}
