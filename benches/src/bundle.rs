//! The bundles: one root filesystem with two static programs, and the config.json
//! that `runc spec` writes, with the few fields that the benchmark sets. Every
//! contender gets the same but for `cgroupsPath`. It must not run anything.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::view::View;

/// Fills `directory` with a root filesystem in which /bin/true and /bin/pause
/// are the guest program.
pub fn write_rootfs(directory: &Path, guest: &Path) -> Result<()> {
    for name in ["bin", "dev", "etc", "proc", "sys"] {
        fs::create_dir_all(directory.join(name))?;
    }
    for name in ["true", "pause"] {
        let program = directory.join("bin").join(name);
        fs::copy(guest, &program).with_context(|| format!("copy {}", guest.display()))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// What the bundles of one benchmark differ in.
pub struct Bundle<'a> {
    pub view: View,
    pub rootfs: &'a Path,
    pub program: &'a str,
    pub cgroups_path: &'a str,
    /// In bytes.
    pub memory_limit: Option<u64>,
}

impl Bundle<'_> {
    pub fn write(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory).with_context(|| format!("mkdir {}", directory.display()))?;
        fs::write(directory.join("config.json"), self.config().to_string())
            .context("write config.json")
    }

    fn config(&self) -> Value {
        let safe = ["nosuid", "noexec", "nodev"];
        let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
        let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount"];
        // On a hybrid host the v2 hierarchy has no controller to set a limit in, and
        // Debian's crun cannot load a device filter without CAP_SYS_RESOURCE.
        let mut resources = json!({});
        match self.view {
            View::V1 => resources["devices"] = json!([{ "allow": false, "access": "rwm" }]),
            View::V2 => namespaces.push("cgroup"),
        }
        if let Some(bytes) = self.memory_limit {
            resources["memory"] = json!({ "limit": bytes });
        }
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": { "uid": 0, "gid": 0 },
                "args": [self.program],
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
                "cwd": "/",
                "capabilities": {
                    "bounding": capabilities, "effective": capabilities, "permitted": capabilities
                },
                "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
                "noNewPrivileges": true
            },
            "root": { "path": self.rootfs, "readonly": true },
            "hostname": "runc",
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                  "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                  "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
                { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                  "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
                { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": safe },
                { "destination": "/sys", "type": "sysfs", "source": "sysfs",
                  "options": ["nosuid", "noexec", "nodev", "ro"] },
                { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                  "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }
            ],
            "linux": {
                "cgroupsPath": self.cgroups_path,
                "resources": resources,
                "namespaces": namespaces.iter().map(|kind| json!({ "type": kind })).collect::<Vec<_>>(),
                "maskedPaths": [
                    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"
                ],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
            }
        })
    }
}
