//! The cgroups of the process and the limits that it can read below
//! /sys/fs/cgroup, whatever is mounted there: one v2 tree, v1 hierarchies, or both.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::Answer;

const ROOT: &str = "/sys/fs/cgroup";

/// The files looked for, in the root of the mount and of each hierarchy below it.
const FILES: &[&str] = &[
    // v1
    "memory.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "cpu.shares",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "devices.list",
    // both
    "pids.max",
    "cpuset.cpus",
    "cpuset.mems",
    // v2
    "memory.max",
    "memory.low",
    "memory.high",
    "memory.swap.max",
    "cpu.max",
    "cpu.weight",
    "cgroup.controllers",
];

/// Rows of /proc/self/cgroup: `{hierarchy, controllers, path}`; v2 is hierarchy 0.
pub(crate) fn membership() -> Answer {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let mut rows = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        rows.push(json!({
            "hierarchy": fields.next().and_then(|text| text.parse::<u32>().ok()),
            "controllers": fields.next(),
            "path": fields.next(),
        }));
    }
    Ok(json!(rows))
}

/// Contents by path. Where the process is not in the root of what it sees (no
/// cgroup namespace), its own directory is looked into as well.
pub(crate) fn limits() -> Answer {
    let mut directories = vec![PathBuf::from(ROOT)];
    for entry in fs::read_dir(ROOT)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            directories.push(path);
        }
    }
    for path in own_paths() {
        let own: Vec<PathBuf> = directories.iter().map(|root| root.join(&path)).collect();
        directories.extend(own);
    }
    let mut files = Map::new();
    for directory in &directories {
        for name in FILES {
            let path = directory.join(name);
            if let Ok(text) = fs::read_to_string(&path) {
                let key = path.to_string_lossy().into_owned();
                files.insert(key, Value::String(text.trim_end().to_owned()));
            }
        }
    }
    Ok(Value::Object(files))
}

/// The distinct paths of /proc/self/cgroup that are not a root, made relative.
fn own_paths() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut paths: Vec<PathBuf> = text
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .filter(|path| *path != "/")
        .filter_map(|path| Path::new(path).strip_prefix("/").ok())
        .map(Path::to_path_buf)
        .collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}
