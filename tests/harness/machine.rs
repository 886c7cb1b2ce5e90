//! What this machine offers to the tests: where the binary is, which cgroups there are, who we are.
//! It looks and never changes anything, except for the folder that the enclosure keeps until the end.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// How cgroups are mounted at /sys/fs/cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cgroups {
    V1,
    /// v1 hierarchies, and cgroup2 at /sys/fs/cgroup/unified.
    Hybrid,
    V2,
}

/// The cgroup path, below each hierarchy, that the enclosure made for this run.
pub fn enclosure() -> Option<&'static str> {
    static PATH: OnceLock<Option<String>> = OnceLock::new();
    PATH.get_or_init(|| std::env::var("CAPSID_ENCLOSURE").ok())
        .as_deref()
}

/// A folder for what all tests share (root filesystems); the enclosure throws it away.
pub fn shared() -> PathBuf {
    PathBuf::from(std::env::var_os("CAPSID_WORK").expect("the enclosure sets CAPSID_WORK"))
}

/// The binary under test: $CAPSID, else the one that cargo built beside this test.
pub fn capsid() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        std::env::var_os("CAPSID")
            .map_or_else(|| env!("CARGO_BIN_EXE_capsid").into(), PathBuf::from)
    })
}

/// A copy of the binary that an ordinary user can reach: /root is closed to them.
pub fn readable_capsid() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let folder = shared().join("bin");
        std::fs::create_dir_all(&folder).expect("a folder for the binary");
        let path = folder.join("capsid");
        // By a process of its own: a child that another test forks while this one writes would hold the file
        // open for writing, and nobody can execute it then.
        let copied = Command::new("cp").arg(capsid()).arg(&path).status();
        assert!(
            copied.is_ok_and(|status| status.success()),
            "a copy of the binary"
        );
        path
    })
}

/// The static probe: $CAPSID_PROBE, else built now.
pub fn probe() -> PathBuf {
    std::env::var_os("CAPSID_PROBE").map_or_else(
        || {
            capsid_rootfs_builder::probe::path()
                .expect("the probe")
                .into()
        },
        PathBuf::from,
    )
}

/// Why no container can be made by root here, if so.
pub fn obstacle() -> Option<&'static str> {
    static REASON: OnceLock<Option<&str>> = OnceLock::new();
    *REASON.get_or_init(|| {
        if !nix::unistd::geteuid().is_root() {
            return Some("not root");
        }
        enclosure()
            .is_none()
            .then_some("not inside tests/enclosure.sh: use `make test`")
    })
}

/// Whether systemd makes the cgroups of all containers here: in guests of its own (tests/vm/systemd.sh).
pub fn systemd() -> bool {
    static SAID: OnceLock<bool> = OnceLock::new();
    *SAID.get_or_init(|| std::env::var_os("CAPSID_SYSTEMD").is_some())
}

pub fn cgroups() -> Cgroups {
    static KIND: OnceLock<Cgroups> = OnceLock::new();
    *KIND.get_or_init(|| {
        if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            Cgroups::V2
        } else if Path::new("/sys/fs/cgroup/unified/cgroup.controllers").exists() {
            Cgroups::Hybrid
        } else {
            Cgroups::V1
        }
    })
}

/// Whether a v1 hierarchy (or, on v2, a controller) of this name is here.
pub fn has_controller(name: &str) -> bool {
    match cgroups() {
        Cgroups::V2 => std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
            .is_ok_and(|list| list.split_whitespace().any(|c| c == name)),
        Cgroups::V1 | Cgroups::Hybrid => Path::new("/sys/fs/cgroup").join(name).is_dir(),
    }
}

/// The major and minor number of a disk.
pub fn disk() -> Option<(u64, u64)> {
    let number = |disk: std::fs::DirEntry| {
        let text = std::fs::read_to_string(disk.path().join("dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let mut disks: Vec<_> = std::fs::read_dir("/sys/block").ok()?.flatten().collect();
    disks.sort_by_key(std::fs::DirEntry::file_name);
    disks.into_iter().find_map(number)
}

/// Whether a program can be started at all.
pub fn has_program(name: &str) -> bool {
    Command::new(name)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// Counts from the environment: more of them in `make soak`.
pub fn count(variable: &str, usual: usize, soak: usize) -> usize {
    let default = if std::env::var_os("CAPSID_SOAK").is_some() {
        soak
    } else {
        usual
    };
    std::env::var(variable)
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(default)
}

/// Tells the reader, and the file that `make test` counts, that a test had no verdict.
pub fn record_skip(name: &str, reason: &str) {
    println!("SKIP {name}: {reason}");
    let Some(path) = std::env::var_os("CAPSID_SKIPS") else {
        return;
    };
    let prefix = std::env::var("CAPSID_SKIP_PREFIX").unwrap_or_default();
    let file = OpenOptions::new().append(true).create(true).open(path);
    if let Ok(mut file) = file {
        let _ = file.write_all(format!("{prefix}{name}\t{reason}\n").as_bytes());
    }
}

/// A shell script in a mount namespace of its own: nobody else sees what it mounts. Its arguments come next.
pub fn in_own_mounts(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "--"])
        .args(["/bin/sh", "-c", script, "sh"]);
    command
}
