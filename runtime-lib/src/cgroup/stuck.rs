//! Who keeps a cgroup from being frozen: threads in a wait of the kernel's that a signal does not end,
//! and the freezer, which wakes them as a signal would, does not either. Only looks.
//!
//! A frozen thread of v2 sleeps; one of v1 is in the state D, wherever it was before: there the others
//! are known only by a second look, when all may run again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::freezer::Freezer;
use super::{file, members};

/// The threads that were not stopped, as far as one look can tell.
pub(super) struct Suspects {
    freezer: Freezer,
    /// By process and thread, each with its state.
    threads: BTreeMap<(i32, i32), char>,
}

/// How many are named.
const NAMED: usize = 3;

impl Suspects {
    /// Looks at `dir` and below, while its processes should stop.
    pub fn of(dir: &Path, freezer: Freezer) -> Suspects {
        let pids = members::pids(dir).unwrap_or_default();
        let threads = pids.into_iter().flat_map(threads);
        let moving = threads.filter_map(|(pid, tid)| {
            let state = state(pid, tid).filter(|state| "DR".contains(*state))?;
            Some(((pid, tid), state))
        });
        Suspects {
            freezer,
            threads: moving.collect(),
        }
    }

    /// Who it was, now that all may run again. None: it has gone on meanwhile.
    pub fn name(&self) -> Option<String> {
        let stuck = self.threads.iter().filter(|((pid, tid), before)| {
            // One that ran while it should stop can be anything by now; and v2 has woken all of them.
            let certain = **before == 'R' || self.freezer == Freezer::V2;
            certain || state(*pid, *tid) == Some('D')
        });
        let stuck: Vec<_> = stuck.collect();
        let named = stuck.iter().take(NAMED);
        let mut named: Vec<_> = named
            .map(|((pid, tid), state)| describe(*pid, *tid, **state))
            .collect();
        let rest = stuck.len().saturating_sub(NAMED);
        if rest > 0 {
            named.push(format!("{rest} more"));
        }
        (!named.is_empty()).then(|| named.join(", "))
    }
}

fn describe(pid: i32, tid: i32, state: char) -> String {
    let process = match pid == tid {
        true => format!("process {}", members::describe(pid)),
        false => format!("thread {tid} of process {}", members::describe(pid)),
    };
    if state == 'R' {
        return format!("{process} was running (R)");
    }
    let place = file::read_line(&of(pid, tid).join("wchan")).unwrap_or_default();
    match place.as_str() {
        "" | "0" => format!("{process} is in an uninterruptible wait (D)"),
        "mem_cgroup_oom_synchronize" => format!(
            "{process} is in an uninterruptible wait (D, {place}): it is out of memory, and its OOM killer \
             is disabled; a higher limit lets it go on"
        ),
        place => format!("{process} is in an uninterruptible wait (D, {place})"),
    }
}

fn of(pid: i32, tid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/task/{tid}"))
}

fn threads(pid: i32) -> Vec<(i32, i32)> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task"));
    let tids = entries.into_iter().flatten().flatten();
    let tids = tids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    tids.map(|tid| (pid, tid)).collect()
}

/// The letter of proc(5); a command's name may have anything in it, brackets too.
fn state(pid: i32, tid: i32) -> Option<char> {
    let text = file::read_line(&of(pid, tid).join("stat")).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_thread_is_read() {
        let pid = std::process::id().cast_signed();
        let own = nix::unistd::gettid().as_raw();
        assert!(threads(pid).contains(&(pid, own)));
        assert_eq!(state(pid, own), Some('R'));
        assert_eq!(state(pid, -1), None);
        // By now it runs: on v1 it was frozen.
        for (freezer, named) in [(Freezer::V1, false), (Freezer::V2, true)] {
            let threads = BTreeMap::from([((pid, own), 'D')]);
            let suspects = Suspects { freezer, threads };
            assert_eq!(suspects.name().is_some(), named, "{freezer:?}");
        }
    }
}
