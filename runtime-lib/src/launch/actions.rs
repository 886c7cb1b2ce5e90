//! What only the parent may do to its child: map its ids, limit it, score it, give it devices.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::devices::Moved;
use super::{Launched, RunHook, StartUnit};
use crate::error::{Code, Error, Result, errno_text};
use crate::plan::{IdMap, IdMaps, ParentAction, Plan, Scorer};
use crate::step::Barrier;
use crate::sys::process;

/// Everything that the plan has for this barrier, in the plan's order.
pub fn perform(
    plan: &Plan,
    barrier: Barrier,
    newborn: &Launched,
    hooks: Option<RunHook<'_>>,
    start_unit: Option<StartUnit<'_>>,
    devices: &mut Moved,
) -> Result<()> {
    let pid = newborn.pid;
    let due = plan.parent.iter().filter(|(when, _)| *when == barrier);
    for (_, action) in due {
        match action {
            ParentAction::MapIds(maps) => map_ids(maps, pid)?,
            ParentAction::CompareMaps(maps) => compare_ids(maps, pid)?,
            ParentAction::Limit {
                resource,
                soft,
                hard,
                pointer,
            } => process::prlimit(pid, *resource, *soft, *hard).map_err(|errno| {
                Error::new(
                    Code::Process,
                    format!("error setting rlimit: {}", errno_text(errno)),
                )
                .syscall("prlimit")
                .errno(errno)
                .at(pointer.as_str())
                .hint("a hard limit above the caller's own needs CAP_SYS_RESOURCE")
            })?,
            ParentAction::Hook(hook) => match hooks {
                Some(run) => run(hook, newborn)?,
                None => return Err(Error::new(Code::Hook, format!("{hook}: nobody runs it"))),
            },
            ParentAction::StartUnit(unit) => match start_unit {
                Some(start) => start(newborn)?,
                None => {
                    return Err(Error::new(
                        Code::Cgroup,
                        format!("{unit}: nobody starts it"),
                    ));
                }
            },
            ParentAction::Attach(unit) => unit.attach(pid)?,
            ParentAction::MoveDevices(asked) => *devices = Moved::take(asked, pid)?,
            ParentAction::OomScoreAdj {
                score,
                scorer,
                pointer,
            } => score_oom(*score, *scorer, pointer, pid)?,
        }
    }
    Ok(())
}

fn score_oom(score: i32, scorer: Scorer, at: &str, pid: i32) -> Result<()> {
    let lowers = || format!("{score} is below the caller's own, which takes CAP_SYS_RESOURCE");
    let set = || write(pid, "oom_score_adj", &score.to_string());
    let unprivileged = |error: &Error| error.os_error() == Some(Errno::EACCES);
    let refused = match scorer {
        Scorer::Child => {
            let is = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj"));
            is.is_ok_and(|is| is.trim_end() != score.to_string())
        }
        Scorer::LenientParent => match set() {
            Err(error) if unprivileged(&error) => true,
            result => result.map_err(|error| error.at(at)).map(|()| false)?,
        },
        Scorer::Parent => {
            return set().map_err(|error| match unprivileged(&error) {
                true => error.at(at).hint(lowers()),
                false => error.at(at),
            });
        }
    };
    if refused {
        tracing::warn!(pointer = at, "{at}: it stays as it is: {}", lowers());
    }
    Ok(())
}

fn map_ids(maps: &IdMaps, pid: i32) -> Result<()> {
    if maps.deny_setgroups {
        write(pid, "setgroups", "deny")?;
    }
    let (uid, gid) = match &maps.helpers {
        Some((newuidmap, newgidmap)) => (Some(newuidmap), Some(newgidmap)),
        None => (None, None),
    };
    map(
        pid,
        "uid_map",
        &maps.uid,
        uid.map(|p| p.as_path()),
        "/linux/uidMappings",
    )?;
    map(
        pid,
        "gid_map",
        &maps.gid,
        gid.map(|p| p.as_path()),
        "/linux/gidMappings",
    )
}

fn map(pid: i32, file: &str, maps: &[IdMap], helper: Option<&Path>, at: &str) -> Result<()> {
    let Some(helper) = helper else {
        let line = |map: &IdMap| format!("{} {} {}\n", map.container, map.host, map.size);
        let text: String = maps.iter().map(line).collect();
        return write(pid, file, &text).map_err(|error| error.at(at));
    };
    let numbers = maps
        .iter()
        .flat_map(|map| [map.container, map.host, map.size]);
    // Its environment is emptied: it is a program with privileges of its own.
    let output = Command::new(helper)
        .arg(pid.to_string())
        .args(numbers.map(|number| number.to_string()))
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Error::io(Code::Namespace, "execve", &error)
                .path(helper)
                .at(at)
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(Code::Namespace, said.trim().to_owned())
        .doing(format!("run {}", helper.display()))
        .at(at)
        .hint("see subuid(5) and subgid(5)"))
}

/// Maps beside the path of a user namespace would be ignored: they have to be its own.
fn compare_ids(maps: &IdMaps, pid: i32) -> Result<()> {
    for (file, expected, at) in [
        ("uid_map", &maps.uid, "/linux/uidMappings"),
        ("gid_map", &maps.gid, "/linux/gidMappings"),
    ] {
        let path = format!("/proc/{pid}/{file}");
        let text = fs::read_to_string(&path).map_err(|error| {
            Error::io(Code::Namespace, "read", &error)
                .path(&path)
                .at(at)
        })?;
        if !same(expected, &text) {
            let tail = "user namespaces enabled, but both namespace path and non-matching \
                        mappings specified -- you may only provide one";
            return Err(Error::new(Code::InvalidConfig, tail).at(at));
        }
    }
    Ok(())
}

/// Whether a file says what the maps say; the kernel may give the lines in another order.
fn same(maps: &[IdMap], text: &str) -> bool {
    let mut expected: Vec<Vec<u32>> = maps
        .iter()
        .map(|map| vec![map.container, map.host, map.size])
        .collect();
    let mut found: Vec<Vec<u32>> = text
        .lines()
        .map(|line| {
            line.split_whitespace()
                .map_while(|word| word.parse().ok())
                .collect()
        })
        .collect();
    expected.sort_unstable();
    found.sort_unstable();
    expected == found
}

/// One write of a file of /proc/PID: the pid is an unreaped child's, so it can't be another's,
/// and what is opened has to be of a procfs.
fn write(pid: i32, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    let doing = || format!("write {} to {path}", text.trim());
    let opened = fs::OpenOptions::new().write(true).open(&path);
    let written = opened.and_then(|mut file| {
        match fstatfs(&file)?.filesystem_type() {
            PROC_SUPER_MAGIC => {}
            _ => return Err(Errno::ENODEV.into()),
        }
        io::Write::write_all(&mut file, text.as_bytes())
    });
    written.map_err(|error| {
        let refused = Error::io(Code::Process, "write", &error).doing(doing());
        match refused.os_error() {
            Some(Errno::ENODEV) => refused.hint("/proc is not a procfs"),
            _ => refused,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_the_same_in_any_order() {
        let map = |container, host, size| IdMap {
            container,
            host,
            size,
        };
        let maps = [map(1, 100_000, 65_536), map(0, 1000, 1)];
        let text = "         0       1000          1\n         1     100000      65536\n";
        assert!(same(&maps, text));
        assert!(!same(&maps[..1], text));
        assert!(!same(&maps, &text.replace("1000 ", "1001 ")));
        assert!(!same(&maps, ""));
    }
}
