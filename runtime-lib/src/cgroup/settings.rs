//! Writing the settings of a v1 directory, and saying all about a write that was refused.
//!
//! The values are the planner's; here is only their order and their errors.

use std::path::Path;

use nix::errno::Errno;

use super::file;
use super::limits::Setting;
use crate::error::{Code, Error, Result, errno_text};

/// Writes the settings of one directory, in the order of the table.
///
/// # Errors
/// [`Code::Cgroup`], with the file, the value, the JSON pointer and what the kernel accepts.
pub(super) fn write_all(dir: &Path, settings: &[&Setting]) -> Result<()> {
    let mut rest = settings;
    while let [setting, after @ ..] = rest {
        rest = after;
        let path = dir.join(setting.file);
        match file::write(&path, &setting.value) {
            Err(Errno::EINVAL) if setting.row.with_next => {
                if let [next, after @ ..] = rest
                    && next.row.controller == setting.row.controller
                {
                    rest = after;
                    write_one(dir, next)?;
                }
                write_one(dir, setting)?;
            }
            result => written(setting, &path, result)?,
        }
    }
    Ok(())
}

fn write_one(dir: &Path, setting: &Setting) -> Result<()> {
    let path = dir.join(setting.file);
    written(setting, &path, file::write(&path, &setting.value))
}

/// Turns the outcome of a write into an error that says all about it.
pub(super) fn written(setting: &Setting, path: &Path, result: nix::Result<()>) -> Result<()> {
    let errno = match result {
        Ok(()) => return Ok(()),
        Err(Errno::ENOENT) if setting.may_be_absent() => return Ok(()),
        Err(errno) => errno,
    };
    let tail = format!("write {}: {}", path.display(), errno_text(errno));
    let error = Error::new(Code::Cgroup, tail)
        .syscall("write")
        .errno(errno)
        .doing(format!("set {} to {}", setting.file, setting.value))
        .at(setting.row.pointer)
        .path(path);
    Err(match errno {
        Errno::ENOENT if setting.row.pointer.ends_with("swap") => {
            error.hint("this kernel does not account swap (boot option swapaccount=1)")
        }
        Errno::ENOENT => error.hint(format!(
            "the {} controller is not available here",
            setting.row.controller
        )),
        Errno::EBUSY => error.hint("more is in use already"),
        Errno::EOPNOTSUPP => error.hint("the parent is in a threaded subtree (cgroup.type)"),
        Errno::EINVAL | Errno::ERANGE | Errno::ENOSPC => error.hint(setting.row.range),
        Errno::EACCES | Errno::EPERM => {
            error.hint(format!("{}; or no permission", setting.row.range))
        }
        _ => error,
    })
}
