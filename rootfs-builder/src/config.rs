//! The config.json of a bundle: what `runc spec` writes, with the command, the
//! user and the environment of the image put in. One function, and no tie to
//! the runtime: its own `spec` verb is tested against the same model.

use serde_json::{Value, json};

use crate::settings::Settings;

/// Kept at a version that every runtime of today reads.
const OCI_VERSION: &str = "1.0.2";

pub(crate) const DEFAULT_PATH: &str =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const DEFAULT_ENV: &[&str] = &[DEFAULT_PATH, "TERM=xterm"];

const CAPABILITIES: &[&str] = &["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];

const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The whole configuration.
#[must_use]
pub fn config(settings: &Settings) -> Value {
    let default_env = || DEFAULT_ENV.iter().map(|&pair| pair.to_owned()).collect();
    let (uid, gid) = settings.user.unwrap_or((0, 0));
    let mut user = json!({ "uid": uid, "gid": gid });
    if !settings.groups.is_empty() {
        user["additionalGids"] = json!(settings.groups);
    }
    json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": settings.terminal,
            "user": user,
            "args": settings.args.clone().unwrap_or_else(|| vec!["sh".to_owned()]),
            "env": settings.env.clone().unwrap_or_else(default_env),
            "cwd": settings.cwd.as_deref().unwrap_or("/"),
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": !settings.writable },
        "hostname": settings.hostname.as_deref().unwrap_or("capsid"),
        "mounts": mounts(settings.rootless.is_some()),
        "linux": linux(settings.rootless),
    })
}

fn mounts(rootless: bool) -> Value {
    // Root of a user namespace with one id: gid 5 (tty) has no mapping there,
    // and without a network namespace of its own it may not mount sysfs.
    let mut devpts = vec![
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
    ];
    let sys = if rootless {
        json!({
            "destination": "/sys", "type": "none", "source": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
        })
    } else {
        devpts.push("gid=5");
        json!({
            "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"],
        })
    };
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        {
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": devpts },
        {
            "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        },
        {
            "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"],
        },
        sys,
        {
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
        },
    ])
}

fn linux(rootless: Option<(u32, u32)>) -> Value {
    let types =
        |names: &[&str]| -> Value { names.iter().map(|name| json!({ "type": name })).collect() };
    let map = |id: u32| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
    match rootless {
        Some((uid, gid)) => json!({
            "uidMappings": map(uid),
            "gidMappings": map(gid),
            "namespaces": types(&["pid", "ipc", "uts", "mount", "user"]),
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        }),
        None => json!({
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": types(&["pid", "network", "ipc", "uts", "mount"]),
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        }),
    }
}
