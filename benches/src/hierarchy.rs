//! The cgroup hierarchies of this host, and the benchmark's own cgroup in each of
//! them: made before, removed after, whatever happened in between. It must not
//! touch a cgroup that the benchmark did not make, but for taking back what the
//! runtimes enabled in the root's `cgroup.subtree_control`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where a host mounts its cgroups.
pub const CGROUP_ROOT: &str = "/sys/fs/cgroup";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// One mounted cgroup hierarchy.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    pub version: Version,
    pub mount: PathBuf,
}

impl Hierarchy {
    /// The hierarchies mounted at or below `/sys/fs/cgroup`.
    pub fn all() -> Result<Vec<Hierarchy>> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
        Ok(mounts.lines().filter_map(Self::from_mount).collect())
    }

    fn from_mount(line: &str) -> Option<Hierarchy> {
        let mut fields = line.split(' ').skip(1);
        let (mount, kind) = (PathBuf::from(fields.next()?), fields.next()?);
        let version = match kind {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        mount
            .starts_with(CGROUP_ROOT)
            .then_some(Hierarchy { version, mount })
    }

    /// The directory's name below `/sys/fs/cgroup`, such as `cpu,cpuacct`.
    pub fn name(&self) -> String {
        let name = self.mount.strip_prefix(CGROUP_ROOT).unwrap_or(&self.mount);
        name.to_string_lossy().into_owned()
    }

    fn has_cpuset(&self) -> bool {
        self.version == Version::V1 && self.mount.join("cpuset.cpus").exists()
    }

    fn enabled(&self) -> Vec<String> {
        fs::read_to_string(self.mount.join("cgroup.subtree_control"))
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    }
}

/// The benchmark's cgroup in every hierarchy. The measuring process lives in its
/// child `self`, the containers in children beside that: cgroup v2 allows no
/// processes in a cgroup that hands controllers to its children.
pub struct Home {
    /// Path below each hierarchy, such as `/capsid-bench-4711`.
    pub path: String,
    hierarchies: Vec<Hierarchy>,
    enabled_before: Vec<Vec<String>>,
}

const PREFIX: &str = "capsid-bench-";

impl Home {
    /// Makes the cgroup everywhere. What an earlier benchmark left when it was
    /// killed is removed first.
    pub fn make() -> Result<Home> {
        let hierarchies = Hierarchy::all()?;
        anyhow::ensure!(
            !hierarchies.is_empty(),
            "no cgroup hierarchy is mounted below {CGROUP_ROOT}"
        );
        sweep(&hierarchies);
        let home = Home {
            path: format!("/{PREFIX}{}", std::process::id()),
            enabled_before: hierarchies.iter().map(Hierarchy::enabled).collect(),
            hierarchies,
        };
        for hierarchy in &home.hierarchies {
            for directory in [
                home.directory(hierarchy),
                home.directory(hierarchy).join("self"),
            ] {
                fs::create_dir(&directory)
                    .with_context(|| format!("mkdir {}", directory.display()))?;
                if hierarchy.has_cpuset() {
                    inherit_cpuset(&directory)?;
                }
            }
        }
        Ok(home)
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
            remove_tree(&self.directory(hierarchy))?;
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

fn sweep(hierarchies: &[Hierarchy]) {
    for hierarchy in hierarchies {
        for child in children(&hierarchy.mount) {
            let name = child
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let Some(pid) = name.strip_prefix(PREFIX) else {
                continue;
            };
            if !Path::new("/proc").join(pid).exists() {
                kill_all(&child);
                let _ = remove_tree(&child);
            }
        }
    }
}

/// Sends SIGKILL to every process in the tree.
pub fn kill_all(directory: &Path) {
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
pub fn remove_tree(directory: &Path) -> Result<()> {
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
