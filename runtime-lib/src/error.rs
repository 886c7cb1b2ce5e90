//! The one error type of the library: which operation, on which object, named by which part
//! of config.json, refused by which call with which errno, and what to do about it.
//!
//! `Display` is the one line that the command line prints: our context first, the tail that
//! engines match on last and unchanged, in Go's lower-case wording. It must not print, log
//! or decide an exit code: errors are returned or logged, never both, and the caller chooses.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::notice::Notice;

/// The result of every operation of this library.
pub type Result<T> = std::result::Result<T, Error>;

/// The oldest Linux that capsid runs on.
pub(crate) const KERNEL_FLOOR: (u32, u32) = (5, 14);

/// What to say where the kernel doesn't know a call.
pub(crate) fn missing(call: &str) -> String {
    let (major, minor) = KERNEL_FLOOR;
    format!("this kernel lacks {call}, or a filter hides it; capsid needs Linux {major}.{minor}")
}

/// What has run out, and how there is more of it: for errors that have no better hint. A call that is
/// named comes before any other call.
const SCARCE: [(Errno, &[&str], &str); 12] = [
    (
        Errno::EMFILE,
        &["inotify_init", "inotify_init1"],
        "the user's limit of inotify instances is reached: sysctl fs.inotify.max_user_instances",
    ),
    (
        Errno::EMFILE,
        &[],
        "the caller's limit of open files is too low: raise it with ulimit -n",
    ),
    (
        Errno::ENFILE,
        &[],
        "the machine's limit of open files is reached: sysctl fs.file-max",
    ),
    (
        Errno::EFBIG,
        &[],
        "the caller's limit of the size of files is too low: raise it with ulimit -f",
    ),
    (
        Errno::ENOSPC,
        &["inotify_add_watch"],
        "the user's limit of inotify watches is reached: sysctl fs.inotify.max_user_watches",
    ),
    (
        Errno::ENOSPC,
        &["fsmount", "mount", "move_mount", "open_tree", "pivot_root"],
        "a mount namespace has as many mounts as it may: sysctl fs.mount-max",
    ),
    (
        Errno::ENOSPC,
        WRITING,
        "the file system is full, or has no inode left: see df and df -i",
    ),
    (
        Errno::EDQUOT,
        &["add_key", "keyctl"],
        "the user's quota of keys is used up: sysctl kernel.keys.maxkeys and kernel.keys.maxbytes",
    ),
    (
        Errno::EDQUOT,
        &[],
        "the disk quota of the files' owner is used up: see quota(1)",
    ),
    (
        Errno::EAGAIN,
        &["clone", "clone3", "fork", "vfork"],
        "the cgroup's limit of pids, or the user's of processes (ulimit -u), is reached",
    ),
    (
        Errno::ENOMEM,
        &["clone3", "setns"],
        "memory has run out, or the pid namespace's first process has ended",
    ),
    (
        Errno::ENOMEM,
        &[],
        "memory has run out: the machine's, or the limit of the caller's cgroup",
    ),
];

/// The calls that take room of a file system.
const WRITING: &[&str] = &[
    "copy_file_range",
    "fallocate",
    "fsync",
    "ftruncate",
    "link",
    "linkat",
    "mkdir",
    "mkdirat",
    "mkfifo",
    "mkfifoat",
    "mknod",
    "mknodat",
    "open",
    "openat",
    "openat2",
    "rename",
    "renameat",
    "renameat2",
    "symlink",
    "symlinkat",
    "write",
];

/// What kind of failure it was, for programs to match on. The words of [`Code::as_str`]
/// are stable; new ones may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The container id breaks the rules of [`crate::ContainerId`].
    InvalidId,
    /// No container has this id.
    NotFound,
    /// A container with this id exists.
    Exists,
    /// The operation does not fit the container's status.
    WrongStatus,
    /// The container is not running, and the operation needs it to be.
    NotRunning,
    /// config.json (or process.json) is malformed or breaks a rule of the specification.
    InvalidConfig,
    /// A field is set whose feature this version does not have.
    Unsupported,
    /// An option or argument of the caller is wrong.
    InvalidArgument,
    /// The kernel lacks a call that capsid needs (the floor is Linux 5.14).
    KernelMissing,
    /// A file or directory of the bundle or the state directory could not be used.
    Io,
    /// A state file does not hold what capsid writes.
    StateCorrupt,
    /// A cgroup could not be made, limited, joined or removed.
    Cgroup,
    /// A namespace or an id mapping could not be made or joined.
    Namespace,
    /// A mount, device node or path of the root filesystem could not be made.
    Filesystem,
    /// The process could not be given its identity, limits or terminal.
    Process,
    /// The program to execute does not exist.
    ExecNotFound,
    /// The program to execute may not be executed.
    ExecDenied,
    /// The program could not be executed for another reason.
    ExecFailed,
    /// The container's process died before it could execute the program.
    Died,
    /// The caller gave up before it was done.
    Cancelled,
    /// A hook failed.
    Hook,
    /// Something did not happen within its deadline.
    Deadline,
    /// A defect of the program itself.
    Internal,
}

impl Code {
    /// The stable word, as in the `code` key of a JSON log record.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::InvalidId => "id.invalid",
            Code::NotFound => "container.not_found",
            Code::Exists => "container.exists",
            Code::WrongStatus => "container.wrong_status",
            Code::NotRunning => "container.not_running",
            Code::InvalidConfig => "config.invalid",
            Code::Unsupported => "config.unsupported",
            Code::InvalidArgument => "argument.invalid",
            Code::KernelMissing => "kernel.missing",
            Code::Io => "io",
            Code::StateCorrupt => "state.corrupt",
            Code::Cgroup => "cgroup",
            Code::Namespace => "namespace",
            Code::Filesystem => "filesystem",
            Code::Process => "process",
            Code::ExecNotFound => "exec.not_found",
            Code::ExecDenied => "exec.denied",
            Code::ExecFailed => "exec.failed",
            Code::Died => "process.died",
            Code::Cancelled => "cancelled",
            Code::Hook => "hook",
            Code::Deadline => "deadline",
            Code::Internal => "internal",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One failed operation with its arguments.
///
/// Build it where the failure is seen, and let each level above add what only it knows:
/// [`Error::doing`] the step, [`Error::at`] the JSON pointer, [`Error::during`] the verb.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.line())]
pub struct Error(Box<Facts>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    code: Code,
    verb: Option<String>,
    step: Option<String>,
    pointer: Option<String>,
    path: Option<PathBuf>,
    syscall: Option<Cow<'static, str>>,
    errno: Option<Errno>,
    hint: Option<String>,
    tail: String,
    notices: Vec<Notice>,
}

impl Error {
    /// A failure that ends in `tail`, the wording that callers of runc may match on.
    pub fn new(code: Code, tail: impl Into<String>) -> Error {
        Error(Box::new(Facts {
            code,
            verb: None,
            step: None,
            pointer: None,
            path: None,
            syscall: None,
            errno: None,
            hint: None,
            tail: bounded(tail.into(), LONGEST_TAIL),
            notices: Vec::new(),
        }))
    }

    /// A system call that refused; the tail is the errno in Go's wording.
    pub fn call(code: Code, syscall: &'static str, errno: Errno) -> Error {
        let mut error = Error::new(code, errno_text(errno));
        error.0.syscall = Some(syscall.into());
        error.0.errno = Some(errno);
        if errno == Errno::ENOSYS {
            error.0.code = Code::KernelMissing;
            error.0.hint = Some(missing(syscall));
        }
        error
    }

    /// As [`Error::call`], for an error of std or of a library over it.
    pub fn io(code: Code, syscall: &'static str, error: &std::io::Error) -> Error {
        match error.raw_os_error() {
            Some(raw) => Error::call(code, syscall, Errno::from_raw(raw)),
            None => Error::new(code, lower_first(&error.to_string())),
        }
    }

    /// The verb and the container: `create web`. The outermost call wins.
    pub fn during(mut self, verb: impl Into<String>) -> Error {
        self.0.verb = Some(verb.into());
        self
    }

    /// The step that failed, with its object: `mount proc on /proc`. Kept when set already.
    pub fn doing(mut self, step: impl Into<String>) -> Error {
        self.0.step.get_or_insert(bounded(step.into(), LONGEST));
        self
    }

    /// The JSON pointer (RFC 6901) of the setting that asked for it. Kept when set already;
    /// an empty one, the whole document, is no place to name.
    pub fn at(mut self, pointer: impl Into<String>) -> Error {
        let pointer = pointer.into();
        if !pointer.is_empty() {
            self.0.pointer.get_or_insert(bounded(pointer, LONGEST));
        }
        self
    }

    /// The same about a part of a document that stands alone: the pointer begins there.
    pub(crate) fn within(mut self, part: &str) -> Error {
        let pointer = self.0.pointer.take();
        self.0.pointer = match pointer
            .as_deref()
            .map(|at| at.strip_prefix(part).unwrap_or(at))
        {
            None | Some("") => None,
            Some(inner) => Some(inner.to_owned()),
        };
        self
    }

    /// The file or directory it was about. Kept when set already.
    pub fn path(mut self, path: impl AsRef<Path>) -> Error {
        let path = path.as_ref();
        self.0
            .path
            .get_or_insert_with(|| match path.as_os_str().len() {
                ..=LONGEST => path.to_path_buf(),
                _ => bounded(path.to_string_lossy().into_owned(), LONGEST).into(),
            });
        self
    }

    /// The errno, where the tail says it in other words.
    pub fn errno(mut self, errno: Errno) -> Error {
        self.0.errno = Some(errno);
        self
    }

    /// The call that refused, where the error was not built by [`Error::call`].
    pub fn syscall(mut self, syscall: impl Into<Cow<'static, str>>) -> Error {
        self.0.syscall = Some(syscall.into());
        self
    }

    /// What to do about it, as a clause without a full stop. The innermost hint is kept.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint.get_or_insert(bounded(hint.into(), LONGEST));
        self
    }

    /// As [`Error::hint`], and where there is one already, after it.
    pub(crate) fn also(mut self, more: String) -> Error {
        let hint = match self.advice() {
            Some(hint) => format!("{hint}; {more}"),
            None => more,
        };
        self.0.hint = None;
        self.hint(hint)
    }

    /// What was noticed before it failed, which may be why. Kept when there is some already.
    pub fn noticing(mut self, notices: &[Notice]) -> Error {
        if self.0.notices.is_empty() {
            self.0.notices = notices.to_vec();
        }
        self
    }

    /// Settings that would not have acted as they were written: warn of them before the error.
    pub fn notices(&self) -> &[Notice] {
        &self.0.notices
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The verb and the container, when known.
    pub fn verb(&self) -> Option<&str> {
        self.0.verb.as_deref()
    }

    /// The step, when known.
    pub fn step(&self) -> Option<&str> {
        self.0.step.as_deref()
    }

    /// The JSON pointer into config.json (or process.json), when the failure has one.
    pub fn pointer(&self) -> Option<&str> {
        self.0.pointer.as_deref()
    }

    /// The file or directory it was about, when there is one.
    pub fn file(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The system call that refused, when one did.
    pub fn failed_call(&self) -> Option<&str> {
        self.0.syscall.as_deref()
    }

    /// The errno, when a system call refused.
    pub fn os_error(&self) -> Option<Errno> {
        self.0.errno
    }

    /// What to do about it, when capsid knows.
    pub fn advice(&self) -> Option<&str> {
        let own = self.0.hint.as_deref();
        own.or_else(|| scarce(self.0.code, self.0.errno?, self.failed_call()))
    }

    /// The last part of the line: what engines match on.
    pub fn tail(&self) -> &str {
        &self.0.tail
    }

    fn line(&self) -> String {
        let facts = &*self.0;
        let mut line = String::new();
        let mut part = |text: Cow<'_, str>| {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&printable(&text));
        };
        if let Some(verb) = &facts.verb {
            part(verb.into());
        }
        match (&facts.step, &facts.pointer) {
            (Some(step), Some(pointer)) => part(format!("{step} ({pointer})").into()),
            (Some(step), None) => part(step.into()),
            (None, Some(pointer)) => part(pointer.into()),
            (None, None) => {}
        }
        if let Some(path) = &facts.path {
            let path = path.to_string_lossy();
            let said = |text: &Option<String>| text.as_deref().is_some_and(|t| t.contains(&*path));
            if !said(&facts.step) && !facts.tail.contains(&*path) {
                part(path);
            }
        } else if let (None, Some(call)) = (&facts.step, &facts.syscall) {
            // Better than an errno of nothing.
            part(call.as_ref().into());
        }
        if let Some(hint) = self.advice() {
            part(hint.into());
        }
        part(facts.tail.as_str().into());
        line
    }
}

/// The files of a cgroup take no room: there ENOSPC says something about a value.
fn scarce(code: Code, errno: Errno, call: Option<&str>) -> Option<&'static str> {
    if (code, errno) == (Code::Cgroup, Errno::ENOSPC) {
        return None;
    }
    let told = SCARCE.iter().find(|(scarce, calls, _)| {
        let is_of = |call| calls.contains(&call);
        *scarce == errno && (calls.is_empty() || call.is_some_and(is_of))
    });
    told.map(|(_, _, hint)| *hint)
}

/// The errno as Go's syscall package words it: glibc's text with a small first letter.
pub fn errno_text(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno as i32).to_string();
    lower_first(text.split(" (os error").next().unwrap_or(&text))
}

/// "Bad address" becomes "bad address"; an initialism such as "STREAMS" stays.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().collect::<String>() + &text[first.len_utf8()..]
        }
        _ => text.to_owned(),
    }
}

/// A part of an error is repeated up to here, in bytes: what the kernel takes as a path fits.
const LONGEST: usize = 4200;
/// The tail may hold what a hook has said.
const LONGEST_TAIL: usize = 3 * LONGEST;

/// A text that is too long for a message, cut in the middle: its ends say most.
fn bounded(text: String, longest: usize) -> String {
    if text.len() <= longest {
        return text;
    }
    let half = longest / 2;
    let start = text.floor_char_boundary(half);
    let end = text.ceil_char_boundary(text.len() - half);
    let (start, end) = (text.get(..start), text.get(end..));
    format!("{}…{}", start.unwrap_or_default(), end.unwrap_or_default())
}

/// One line stays one line whatever a config put into a name: control characters are escaped.
fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        let escape = |c: char| match c {
            c if c.is_control() => c.escape_default().to_string(),
            c => c.to_string(),
        };
        text.chars().map(escape).collect::<String>().into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_context_first_and_the_tail_last() {
        let error = Error::call(Code::Filesystem, "fsmount", Errno::EPERM)
            .doing("mount proc on /proc")
            .at("/mounts/0")
            .hint("give the container a pid namespace of its own")
            .during("create web");
        assert_eq!(
            error.to_string(),
            "create web: mount proc on /proc (/mounts/0): give the container a pid namespace \
             of its own: operation not permitted"
        );
    }

    #[test]
    fn errnos_are_worded_as_go_words_them() {
        assert_eq!(errno_text(Errno::ENOENT), "no such file or directory");
        assert_eq!(errno_text(Errno::EIO), "input/output error");
        assert_eq!(errno_text(Errno::ENOEXEC), "exec format error");
    }

    #[test]
    fn a_newline_in_a_name_does_not_make_a_second_line() {
        let error = Error::new(Code::InvalidConfig, "no such file").path("/a\nb");
        assert_eq!(error.to_string(), "/a\\nb: no such file");
    }

    #[test]
    fn no_part_of_a_line_is_endless() {
        let long = "é".repeat(50_000);
        let error = Error::new(Code::InvalidConfig, long.as_str())
            .doing(long.as_str())
            .at(long.as_str())
            .hint(long.as_str())
            .path(&long);
        let line = error.to_string();
        assert!(
            line.len() < 7 * LONGEST && line.contains("é…é"),
            "{} bytes",
            line.len()
        );
    }

    #[test]
    fn what_has_run_out_is_told_with_how_there_is_more_of_it() {
        for (errno, call, expected) in [
            (Errno::EMFILE, "openat", "ulimit -n"),
            (Errno::EMFILE, "inotify_init1", "max_user_instances"),
            (Errno::ENFILE, "pidfd_open", "fs.file-max"),
            (Errno::EFBIG, "write", "ulimit -f"),
            (Errno::ENOSPC, "mkdir", "df -i"),
            (Errno::ENOSPC, "inotify_add_watch", "max_user_watches"),
            (Errno::ENOSPC, "move_mount", "fs.mount-max"),
            (Errno::EDQUOT, "write", "quota(1)"),
            (Errno::EDQUOT, "keyctl", "maxkeys"),
            (Errno::EAGAIN, "clone3", "ulimit -u"),
            (Errno::ENOMEM, "setns", "the pid namespace's first process"),
            (Errno::ENOMEM, "mmap", "the limit of the caller's cgroup"),
        ] {
            let error = Error::call(Code::Io, call, errno);
            let line = error.to_string();
            assert!(line.contains(expected), "{line}");
            assert!(line.ends_with(&errno_text(errno)), "{line}");
            // What was seen on the spot is better.
            let line = error.hint("as it is").to_string();
            assert!(!line.contains(expected), "{line}");
        }
        for (code, call, errno) in [
            (Code::Io, "read", Errno::EAGAIN),
            (Code::Process, "bpf", Errno::ENOSPC),
            (Code::Cgroup, "write", Errno::ENOSPC),
        ] {
            assert_eq!(Error::call(code, call, errno).advice(), None);
        }
        let both = Error::call(Code::Io, "open", Errno::EMFILE).also("and more".to_owned());
        assert!(both.to_string().contains("ulimit -n; and more: too many"));
    }

    #[test]
    fn a_missing_call_names_the_kernel_floor() {
        let error = Error::call(Code::Filesystem, "fsopen", Errno::ENOSYS);
        assert_eq!(error.code(), Code::KernelMissing);
        assert!(error.to_string().contains("5.14"));
    }
}
