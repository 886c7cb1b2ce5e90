//! Why a program was not executed, in the words that engines match on.

use nix::errno::Errno;

use super::filter_advice;
use crate::error::{Code, Error, errno_text, missing};
use crate::plan::{Plan, Program, seccomp};
use crate::report::Needs;

/// The refusal of the plan's program.
pub(super) fn of_plan(plan: &Plan, call: &str, errno: Errno, note: &str) -> Error {
    let error = program(&name_of_program(plan), call, errno, note);
    match error.code() {
        Code::ExecNotFound if has_no_path(plan) => error.hint("its environment has no PATH"),
        _ => error,
    }
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
fn program(name: &str, call: &str, errno: Errno, note: &str) -> Error {
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
