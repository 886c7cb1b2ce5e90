//! The benchmark's own cgroup in every hierarchy: made before, removed after,
//! whatever happened in between. It must not touch a cgroup that no benchmark
//! made, but for taking back what the runtimes enabled in the root's
//! `cgroup.subtree_control`.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::hierarchy::{CGROUP_ROOT, Hierarchy};

const PREFIX: &str = "capsid-bench-";

/// The measuring process lives in the child `self`, the containers in children
/// beside that: cgroup v2 allows no processes in a cgroup that hands controllers
/// to its children.
pub struct Home {
    /// Path below each hierarchy, such as `/capsid-bench-4711-18c2f3a9`.
    pub path: String,
    hierarchies: Vec<Hierarchy>,
    enabled_before: Vec<Vec<String>>,
    /// Held as long as this benchmark lives: tells its cgroups from abandoned ones,
    /// also for a benchmark in another pid namespace.
    locks: Vec<Flock<File>>,
}

impl Home {
    /// Makes the cgroup everywhere. What an earlier benchmark left when it was
    /// killed outright is removed first.
    pub fn make() -> Result<Home> {
        let hierarchies = Hierarchy::all()?;
        let first = hierarchies
            .first()
            .with_context(|| format!("no cgroup is mounted below {CGROUP_ROOT}"))?;
        // Until the locks are taken, another benchmark would take our cgroups for abandoned.
        let _gate = lock(&first.mount, FlockArg::LockExclusive)?;
        sweep(&hierarchies);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u32);
        let mut home = Home {
            path: format!("/{PREFIX}{}-{now:x}", std::process::id()),
            enabled_before: hierarchies.iter().map(Hierarchy::enabled).collect(),
            hierarchies,
            locks: Vec::new(),
        };
        if let Err(error) = home.fill() {
            home.remove(|| ())?;
            return Err(error);
        }
        Ok(home)
    }

    fn fill(&mut self) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let home = self.directory(hierarchy);
            for directory in [&home, &home.join("self")] {
                fs::create_dir(directory)
                    .with_context(|| format!("mkdir {}", directory.display()))?;
                if hierarchy.has_cpuset() {
                    inherit_cpuset(directory)?;
                }
            }
            self.locks
                .push(lock(&home, FlockArg::LockExclusiveNonblock)?);
        }
        Ok(())
    }

    fn directory(&self, hierarchy: &Hierarchy) -> PathBuf {
        hierarchy.mount.join(self.path.trim_start_matches('/'))
    }

    /// Kills what is left in the cgroups and lets `reap` wait for it, so that the
    /// cgroups are empty when they are removed.
    pub fn remove(&self, reap: impl Fn()) -> Result<()> {
        for hierarchy in &self.hierarchies {
            kill_all(&self.directory(hierarchy));
        }
        reap();
        for (hierarchy, before) in self.hierarchies.iter().zip(&self.enabled_before) {
            clear_tree(&self.directory(hierarchy), || ())?;
            for controller in hierarchy.enabled().iter().filter(|c| !before.contains(c)) {
                // Refused when another program's cgroup uses it by now; then it is theirs.
                let _ = fs::write(
                    hierarchy.mount.join("cgroup.subtree_control"),
                    format!("-{controller}"),
                );
            }
        }
        Ok(())
    }
}

/// Moves the calling process into `self` of the benchmark's cgroup everywhere.
pub fn enter(path: &str) -> Result<()> {
    for hierarchy in Hierarchy::all()? {
        let procs = hierarchy
            .mount
            .join(path.trim_start_matches('/'))
            .join("self/cgroup.procs");
        fs::write(&procs, "0").with_context(|| format!("write {}", procs.display()))?;
    }
    Ok(())
}

fn inherit_cpuset(directory: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let from = directory.join("..").join(file);
        let value =
            fs::read_to_string(&from).with_context(|| format!("read {}", from.display()))?;
        fs::write(directory.join(file), value)
            .with_context(|| format!("write {}/{file}", directory.display()))?;
    }
    Ok(())
}

fn lock(directory: &Path, how: FlockArg) -> Result<Flock<File>> {
    let file = File::open(directory).with_context(|| format!("open {}", directory.display()))?;
    Flock::lock(file, how)
        .map_err(|(_, error)| error)
        .with_context(|| format!("lock {}", directory.display()))
}

fn sweep(hierarchies: &[Hierarchy]) {
    for child in hierarchies
        .iter()
        .flat_map(|hierarchy| children(&hierarchy.mount))
    {
        let name = child
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with(PREFIX) && lock(&child, FlockArg::LockExclusiveNonblock).is_ok() {
            // What resists is not in this benchmark's way.
            let _ = clear_tree(&child, || ());
        }
    }
}

/// Kills what runs in the tree and removes it. `reap` waits for those of the
/// killed that are the caller's children, without blocking.
pub fn clear_tree(directory: &Path, reap: impl Fn()) -> Result<()> {
    /// 5 ms apart.
    const TRIES: u32 = 200;
    for _ in 1..TRIES {
        kill_all(directory);
        reap();
        if remove_tree(directory).is_ok() {
            return Ok(());
        }
        // Not measured, and cgroup v1 has no event for "the last process has left".
        thread::sleep(Duration::from_millis(5));
    }
    remove_tree(directory)
}

/// Sends SIGKILL to every process in the tree.
fn kill_all(directory: &Path) {
    for child in children(directory) {
        kill_all(&child);
    }
    // SIGKILL does not reach a process in a frozen v1 cgroup.
    let _ = fs::write(directory.join("freezer.state"), "THAWED");
    let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in procs
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter(|pid| *pid > 0)
    {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Removes the tree, leaves first.
fn remove_tree(directory: &Path) -> Result<()> {
    for child in children(directory) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("rmdir {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
