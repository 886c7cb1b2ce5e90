//! Who keeps a directory busy: for the message of a removal that failed.

use std::path::Path;

use crate::cgroup::describe;

/// The first process that has its root, its working directory or an open file below a path.
pub fn first_in(path: &Path) -> Option<String> {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let numbered = processes.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some((name.parse().ok()?, name, entry.path()))
    });
    let mut others = numbered.filter(|(_, name, _)| *name != own);
    let is_below = |link: &Path| std::fs::read_link(link).is_ok_and(|to| to.starts_with(path));
    others.find_map(|(pid, _, process): (i32, _, _)| {
        let open = std::fs::read_dir(process.join("fd"));
        let mut open = open.into_iter().flatten().flatten();
        let is_in = is_below(&process.join("cwd"))
            || is_below(&process.join("root"))
            || open.any(|entry| is_below(&entry.path()));
        is_in.then(|| describe(pid))
    })
}
