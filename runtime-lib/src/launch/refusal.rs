//! A child's numbers in the words of its plan: which step, which setting, why, and runc's
//! tail where engines match on it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use crate::error::{Code, Error, errno_text, missing};
use crate::plan::{Plan, Planned, Program, instead_of_data, seccomp};
use crate::report::{NOT_PROCFS, Needs};
use crate::step::{Label, Mount, Root, Source, Step, Target, words};

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
        Step::FindProgram | Step::Execute => {
            let error = program(&name_of_program(plan), call, errno, note);
            match error.code() {
                Code::ExecNotFound if has_no_path(plan) => {
                    error.hint("its environment has no PATH")
                }
                _ => error,
            }
        }
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

/// argv[0], as runc's messages quote it.
fn name_of_program(plan: &Plan) -> String {
    let program = plan
        .program
        .as_ref()
        .and_then(|program| program.argv.first());
    program.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Whether the program is looked for by a name, with nothing that says where.
fn has_no_path(plan: &Plan) -> bool {
    let has = |program: &Program| {
        let mut variables = program.envp.iter().map(|entry| entry.to_bytes());
        variables.any(|entry| entry.starts_with(b"PATH="))
    };
    !name_of_program(plan).contains('/') && !plan.program.as_ref().is_some_and(has)
}

/// What could not be executed, in the words that engines map to exit codes 126 and 127.
pub fn program(name: &str, call: &str, errno: Errno, note: &str) -> Error {
    let code = match errno {
        Errno::ENOENT | Errno::ENOTDIR => Code::ExecNotFound,
        Errno::EACCES | Errno::EPERM | Errno::EISDIR => Code::ExecDenied,
        _ => Code::ExecFailed,
    };
    let why = errno_text(errno);
    let (note, needs) = Needs::read(note);
    let path = if note.is_empty() { name } else { note };
    let lacking = needs.map(lacking);
    let told = |error: Error| match lacking {
        Some(lacking) => error.hint(lacking),
        None => error,
    };
    match (call, errno) {
        ("stat", Errno::ENOENT | Errno::ENOTDIR) if !name.contains('/') => Error::new(
            code,
            format!("exec: {name:?}: executable file not found in $PATH"),
        ),
        ("stat", Errno::ENOENT | Errno::ENOTDIR) => {
            Error::new(code, format!("exec: {name:?}: stat {path}: {why}"))
        }
        ("access", Errno::EACCES) => told(Error::new(code, format!("exec: {name:?}: {why}")))
            .hint("its mode doesn't let this user execute it"),
        // Engines of before and after Go's own change of mind look for either text.
        ("stat", Errno::EISDIR) => {
            let refused = errno_text(Errno::EACCES);
            Error::new(code, format!("exec: {name:?}: {why}: {refused}"))
        }
        ("stat" | "access", _) => Error::new(code, format!("exec: {name:?}: {why}")),
        (_, Errno::ENOENT) => told(Error::new(code, format!("exec {path}: {why}")))
            .hint("the file exists: the interpreter or loader that it names does not"),
        (_, Errno::ENOEXEC) => told(Error::new(code, format!("exec {path}: {why}")))
            .hint("it is no program, or a script without a #! line"),
        _ => told(Error::new(code, format!("exec {path}: {why}"))),
    }
}

/// What init was refused after its start, when its plan is no longer at hand: the filter that
/// stands right before the program, or the program.
pub fn after_start(name: &str, call: &str, errno: Errno, note: &str) -> Error {
    let error = match call {
        "seccomp" => {
            let error = Error::new(Code::Process, errno_text(errno))
                .doing("install the seccomp filter")
                .at(seccomp::POINTER);
            match (errno, filter_advice(errno)) {
                (Errno::ENOSYS, _) => error.hint(missing(call)),
                (_, Some(advice)) => error.hint(advice),
                (_, None) => error,
            }
        }
        call => program(name, call, errno, note)
            .doing("execute the program")
            .at("/process/args"),
    };
    error.errno(errno).syscall(call.to_owned())
}

/// What a program lacks, in words. An interpreter that may not be executed is its own story.
fn lacking((what, name): (Needs, &str)) -> String {
    match what {
        Needs::Interpreter => {
            format!("the interpreter {name} of its first line is missing or can't be executed")
        }
        Needs::Loader => {
            format!(
                "the loader {name} that it needs is missing: a dynamic program without its libraries"
            )
        }
        Needs::Machine => format!(
            "it is built for {name}, and this machine is {}",
            std::env::consts::ARCH
        ),
        Needs::ExecMount => "the mount that it lies on has the option noexec".to_owned(),
    }
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
        (_, Errno::EMFILE) => Some("the caller's limit of open files (ulimit -n) is too low"),
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
        Errno::EAGAIN => error.hint("the cgroup's limit of pids, or RLIMIT_NPROC, is reached"),
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
