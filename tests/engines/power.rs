//! A node that loses its power, as far as a session can: every process is killed at once, no mount and no cgroup
//! outlasts it, and the kernel says that it is another boot. What comes next may get the pids of what was.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::harness::until;

/// What becomes of /run, /tmp and /dev/shm.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// They are file systems in memory.
    Emptied,
    /// They lie on a disk, and the engines' and the runtime's state with them.
    Kept,
}

/// The session's own (place.rs).
const OWN: &str = "/run/etc";

pub fn fails(run: Run) {
    // The session is the first of its pid namespace: it is spared, and inherits whoever is not.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    while waitpid(None, None) != Err(Errno::ECHILD) {}
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let points: Vec<&str> = points
        .filter(|point| {
            ["/run/", "/var/lib/"]
                .iter()
                .any(|folder| point.starts_with(folder))
        })
        .collect();
    for point in points.iter().rev() {
        // Those that a file system of the session covers are the machine's, and out of reach.
        let _ = umount2(*point, MntFlags::MNT_DETACH);
    }
    until("every cgroup is removed", || {
        let hierarchies = entries(Path::new("/sys/fs/cgroup"));
        hierarchies
            .iter()
            .flat_map(|h| entries(h))
            .filter(|path| path.is_dir())
            .all(|path| crate::place::remove(&path))
    });
    if run == Run::Emptied {
        for folder in ["/run", "/tmp", "/dev/shm"] {
            for path in entries(Path::new(folder)) {
                if path != Path::new(OWN) {
                    let removed = if path.is_dir() && !path.is_symlink() {
                        std::fs::remove_dir_all(&path)
                    } else {
                        std::fs::remove_file(&path)
                    };
                    removed.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                }
            }
        }
    }
}

/// The kernel says that it is another boot, from now on. A user namespace gets no file system of processes of
/// its own while one of its files is covered: not for ordinary users.
pub fn boots_anew() {
    const ID: &str = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("a uuid");
    std::fs::write("/run/boot_id", &text).expect("an id");
    let bound = Command::new("mount")
        .args(["--bind", "/run/boot_id", ID])
        .status();
    assert!(
        bound.is_ok_and(|status| status.success()),
        "mount --bind on {ID}"
    );
    assert_eq!(std::fs::read_to_string(ID).ok(), Some(text));
}

fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
    let list = std::fs::read_dir(folder).into_iter().flatten().flatten();
    list.map(|entry| entry.path()).collect()
}

/// A process that nobody may signal, with the pid of one that is gone.
pub struct Stranger(Child);

impl Stranger {
    pub fn with(pid: u32) -> Stranger {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).expect("ns_last_pid");
        let child = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::null())
            .spawn()
            .expect("sleep");
        let stranger = Stranger(child);
        assert_eq!(stranger.0.id(), pid);
        stranger
    }

    #[track_caller]
    pub fn lives(&mut self) {
        assert_eq!(
            self.0.try_wait().expect("wait"),
            None,
            "the stranger was signalled"
        );
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
