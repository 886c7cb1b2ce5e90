//! What containers may leave behind: nothing, but what a runtime keeps for the next ones.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};

use crate::harness::until;

/// Waits until an engine's cgroup has none below it.
pub fn no_cgroup(name: &str) {
    let cgroup = Path::new("/sys/fs/cgroup/memory").join(name);
    until("no cgroup is left", || {
        entries(&cgroup).all(|entry| !entry.path().is_dir())
    });
}

/// Compiled filters: capsid's, and crun's.
const KEPT: [&str; 2] = [".seccomp", ".cache"];

/// Asserts that a runtime's root has no container's state.
pub fn no_state(root: &str) {
    let kept = |path: &PathBuf| KEPT.iter().any(|name| path.ends_with(name));
    let state = entries(root.as_ref()).map(|entry| entry.path());
    let state: Vec<_> = state.filter(|path| !kept(path)).collect();
    assert!(state.is_empty(), "{state:?}");
}

/// None where there is no such directory.
fn entries(directory: &Path) -> impl Iterator<Item = DirEntry> {
    let entries = std::fs::read_dir(directory);
    entries.into_iter().flatten().flatten()
}
