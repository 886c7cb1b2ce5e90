//! ps: the processes of a container, as the host numbers them.

use super::Container;
use crate::error::Result;

impl Container {
    /// The host's pids of all processes in the container, sorted; empty when it has stopped.
    ///
    /// They come from the container's cgroup. Without one they are the processes whose pid
    /// namespace is the container's, or init alone when it has none of its own.
    ///
    /// # Errors
    /// A cgroup that can't be read.
    pub fn processes(&self) -> Result<Vec<i32>> {
        self.members()
            .map_err(|error| error.during(format!("ps {}", self.id)))
    }

    fn members(&self) -> Result<Vec<i32>> {
        if !self.journal.cgroup.is_empty() {
            return self.journal.cgroup.manager().processes();
        }
        let Some(record) = &self.record else {
            return Ok(Vec::new());
        };
        if record.init.open()?.is_none() {
            return Ok(Vec::new());
        }
        match record.shares_pids {
            true => Ok(vec![record.init.pid]),
            false => Ok(of_pid_namespace(record.init.pid)),
        }
    }
}

/// Processes that end, or belong to others, while they are looked at are left out.
fn of_pid_namespace(init: i32) -> Vec<i32> {
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(wanted) = namespace(init) else {
        return vec![init];
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut pids: Vec<i32> = pids
        .filter(|pid| namespace(*pid).as_ref() == Some(&wanted))
        .collect();
    pids.sort_unstable();
    pids
}
