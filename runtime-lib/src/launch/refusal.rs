//! A child's numbers in the words of its plan: which step, which setting, why, and runc's
//! tail where engines match on it.

mod process;
mod program;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::error::{Code, Error, errno_text, missing};
use crate::plan::{Plan, Planned, instead_of_data};
use crate::report::NOT_PROCFS;
use crate::step::{Label, Mount, Root, Source, Step, Target, words};

pub use process::{INIT, clone_refused, died, killed_at_once};
pub use program::after_start;

/// The refusal of one step.
pub fn refused(plan: &Plan, step: usize, errno: Errno, call: &str, note: &str) -> Error {
    let Some(planned) = plan.steps.get(step) else {
        return Error::new(Code::Process, errno_text(errno)).errno(errno);
    };
    let error = match &planned.step {
        Step::NothingToExecute => {
            Error::new(Code::InvalidConfig, "process property must not be empty")
                .at("/process")
                .doing("execute the program")
                .hint("config.json names none")
        }
        Step::Mount(mount) | Step::MakeMount(mount) if call == NOT_PROCFS => Error::new(
            Code::InvalidConfig,
            words::not_procfs(&mount.target.to_string()),
        )
        .hint(match note {
            "" => "only a whole procfs may be bound there".to_owned(),
            note => format!("{note}, where only a whole procfs may be"),
        }),
        Step::FindProgram | Step::Execute => program::of_plan(plan, call, errno, note),
        _ => {
            let tail = match (&planned.step, errno) {
                (Step::Scheduler(_), Errno::EPERM) if plan.own_cpus => {
                    "process scheduler can't be used together with AllowedCPUs".to_owned()
                }
                _ => errno_text(errno),
            };
            let error = Error::new(code_of(&planned.step, errno), tail);
            match (errno, note) {
                (Errno::ENOSYS, "") => error.hint(missing(call)),
                (Errno::ENOSYS, note) => error.hint(format!("{note}: {}", missing(call))),
                (_, "") => match full(plan, step, errno).or_else(|| unheld(&planned.step, errno)) {
                    Some(why) => error.hint(why),
                    None => error,
                },
                (_, note) => error.hint(match (&planned.step, full(plan, step, errno)) {
                    (Step::Populate(_), Some(full)) => format!("{note}: {full}"),
                    _ => match unknown_option(note).and_then(instead_of_data) {
                        Some(instead) => format!("{note}: {instead}"),
                        None => note.to_owned(),
                    },
                }),
            }
        }
    };
    let error = error.errno(errno).syscall(call.to_owned());
    located(error, planned)
}

/// The option that a file system doesn't know, in what the kernel says of it.
fn unknown_option(note: &str) -> Option<&str> {
    let (_, option) = note.split_once("Unknown parameter '")?;
    option.split('\'').next()
}

/// The file system of the container's own that has no room for what a step makes in it.
fn full(plan: &Plan, step: usize, errno: Errno) -> Option<String> {
    let made = match &plan.steps.get(step)?.step {
        Step::Mount(mount) | Step::MountOr { mount, .. } => &mount.target,
        Step::Populate(populate) => &populate.directory,
        Step::MakeDirectory(directory) => directory,
        _ => return None,
    };
    let place = |target: &Target| match target.is_root() {
        true => PathBuf::from("/"),
        false => Path::new("/").join(OsStr::from_bytes(target.path.to_bytes())),
    };
    let (true, made) = (errno == Errno::ENOSPC, place(made)) else {
        return None;
    };
    plan.steps.get(..step)?.iter().rev().find_map(|before| {
        let (Step::Mount(mount) | Step::MountOr { mount, .. }) = &before.step else {
            return None;
        };
        let on = place(&mount.target);
        match (&mount.source, &before.pointer) {
            (Source::New { fstype, .. } | Source::Made { fstype, .. }, Some(pointer))
                if made.starts_with(&on) =>
            {
                let (fstype, on) = (fstype.to_string_lossy(), on.display());
                Some(format!(
                    "the {fstype} on {on} ({pointer}) is full: its size, or its number of inodes"
                ))
            }
            _ => None,
        }
    })
}

/// The capabilities that nobody can be given who starts from the caller's.
fn unheld(step: &Step, errno: Errno) -> Option<String> {
    let (Step::SetCapabilities { permitted, .. }, Errno::EPERM) = (step, errno) else {
        return None;
    };
    let held = caps::read(None, caps::CapSet::Permitted).ok()?;
    let wanted = |capability: &caps::Capability| permitted & capability.bitmask() != 0;
    let mut unheld: Vec<_> = caps::all().into_iter().filter(wanted).collect();
    unheld.retain(|capability| !held.contains(capability));
    unheld.sort_by_key(caps::Capability::index);
    let names: Vec<String> = unheld.iter().map(ToString::to_string).collect();
    (!names.is_empty()).then(|| format!("the caller itself has no {}", names.join(", ")))
}

fn located(mut error: Error, planned: &Planned) -> Error {
    if let Some(advice) = advice(&planned.step, error.os_error(), error.failed_call()) {
        error = error.hint(advice);
    }
    if let Some(pointer) = &planned.pointer {
        error = error.at(pointer.as_str());
    }
    error.doing(planned.step.to_string())
}

fn code_of(step: &Step, errno: Errno) -> Code {
    if errno == Errno::ENOSYS {
        return Code::KernelMissing;
    }
    match step {
        Step::JoinProcess { .. }
        | Step::JoinNamespace { .. }
        | Step::Fork { .. }
        | Step::Unshare(_) => Code::Namespace,
        Step::JoinCgroup { .. }
        | Step::JoinMade { .. }
        | Step::JoinUnified { .. }
        | Step::JoinRdt { .. } => Code::Cgroup,
        Step::PropagateAll { .. }
        | Step::PrivateParent { .. }
        | Step::OpenRoot(_)
        | Step::Mount(_)
        | Step::MountOr { .. }
        | Step::HoldTree { .. }
        | Step::MakeMount(_)
        | Step::AttachMount { .. }
        | Step::ShowRoot
        | Step::FindMount { .. }
        | Step::Unmount { .. }
        | Step::Populate(_)
        | Step::Mask { .. }
        | Step::ReadOnlyPath(_)
        | Step::Attributes { .. }
        | Step::Protect { .. }
        | Step::Reconfigure { .. }
        | Step::PivotRoot
        | Step::MoveRoot { .. }
        | Step::EnterRoot
        | Step::PropagateRoot { .. }
        | Step::MakeDirectory(_)
        | Step::ChangeDirectory { .. } => Code::Filesystem,
        _ => Code::Process,
    }
}

/// What to do about the refusals that have a usual cause.
fn advice(step: &Step, errno: Option<Errno>, call: Option<&str>) -> Option<&'static str> {
    match (step, errno?) {
        (Step::PivotRoot, Errno::EINVAL) => {
            Some("the caller's own root may be an initramfs: try --no-pivot")
        }
        (Step::JoinCgroup { .. } | Step::JoinMade { .. }, errno) => match errno {
            Errno::ENODEV => Some("the cgroup was removed meanwhile"),
            Errno::ENOSPC => Some("the cgroup's cpuset is empty"),
            Errno::EAGAIN => Some("the cgroup's limit of pids is reached"),
            _ => None,
        },
        (Step::Limit { resource, .. }, Errno::EPERM) => Some(match *resource {
            LIMIT_OF_FILES => {
                "a hard limit above the caller's own needs CAP_SYS_RESOURCE, and none may be above \
                 /proc/sys/fs/nr_open"
            }
            _ => "a hard limit above the caller's own needs CAP_SYS_RESOURCE",
        }),
        (Step::SetGroups(_), Errno::EPERM) => Some("setgroups is denied in this user namespace"),
        (Step::SetIds { .. } | Step::SetGroups(_), Errno::EINVAL) => {
            Some("the id is not mapped in the user namespace")
        }
        (Step::OpenRoot(Root::Overlay { .. }), Errno::ELOOP) if call == Some("fsconfig") => {
            Some("overlapping layers: one of these directories is another, or lies in it")
        }
        (Step::MakeMount(_), Errno::EROFS) => {
            Some("the place for it doesn't exist and can't be made: name one that exists")
        }
        (Step::Unmount { .. }, Errno::EBUSY) => Some(
            "a process has files open below it, or is in it: --lazy detaches it now, and lets go \
             of it when the last of them does",
        ),
        (Step::HoldTree { .. }, Errno::EINVAL) => Some(
            "the host has mounts below it that an ordinary user must not uncover: rbind takes \
             them along",
        ),
        // A lack of privileges comes with fsopen(2) or fsconfig(2).
        (Step::Mount(mount), Errno::EPERM) if call == Some("fsmount") && is_proc(mount) => Some(
            "parts of the caller's own /proc are covered, and a user namespace may not show more \
             of it (mount_too_revealing): uncover them, or share the pid namespace",
        ),
        (Step::Mount(_) | Step::MountOr { .. } | Step::MakeMount(_), Errno::EPERM) => Some(
            "the kernel refuses this mount without privileges over the namespace that it shows",
        ),
        (
            Step::Mount(_) | Step::MountOr { .. } | Step::MakeMount(_) | Step::AttachMount { .. },
            Errno::EACCES,
        ) => Some(
            "the container's root, which is who linux.uidMappings says, can't enter the root \
             filesystem or a directory on the way: see their owners and modes",
        ),
        (Step::Label(Label::Profile(_)), Errno::ENOENT) => {
            Some("the profile is not loaded: see apparmor_parser(8)")
        }
        (Step::Label(Label::Context(_) | Label::Keyrings(_)), Errno::EINVAL) => {
            Some("the machine's policy has no such label")
        }
        (Step::CpuAffinity(_), Errno::EINVAL) => {
            Some("none of these CPUs is there, or in the container's cpuset")
        }
        (Step::MemoryPolicy(_), Errno::EINVAL) => {
            Some("none of these nodes is there, or in the container's cpuset")
        }
        (Step::Scheduler(_), Errno::EPERM) => Some(
            "it needs CAP_SYS_NICE outside of any user namespace; a real-time policy needs a \
             budget in the v1 cpu cgroup (realtimeRuntime), a deadline every CPU",
        ),
        (Step::Scheduler(_), Errno::EBUSY) => Some("the CPUs have no bandwidth left for it"),
        (Step::InstallSeccomp(filter), Errno::EINVAL) if filter.waits_killable() => Some(
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs Linux 5.19; or the kernel has no seccomp",
        ),
        (Step::InstallSeccomp(_), errno) => filter_advice(errno),
        (Step::Sysctl { .. }, Errno::ENOENT) => Some("this kernel has no such sysctl"),
        _ => None,
    }
}

fn filter_advice(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::EINVAL => Some("the kernel may have no seccomp filters"),
        Errno::EACCES => {
            Some("without noNewPrivileges it takes CAP_SYS_ADMIN: the caller has to have it")
        }
        _ => None,
    }
}

/// As the step has it: libc's type for it is another one with each C library.
const LIMIT_OF_FILES: i32 = libc::RLIMIT_NOFILE as i32;

fn is_proc(mount: &Mount) -> bool {
    matches!(&mount.source, Source::New { fstype, .. } if fstype.as_c_str() == c"proc")
}
