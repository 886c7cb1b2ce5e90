//! Putting the device program on a cgroup2 directory, in the place of whatever is there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::device_program::assemble;
use super::devices::DeviceRules;
use crate::error::{Code, Error, Result};
use crate::sys::bpf;

/// How often the place is looked at when somebody else, such as systemd, changes it meanwhile.
const ATTEMPTS: u32 = 8;

/// Puts the program on a directory that has none.
pub(super) fn first(dir: &Path, rules: &DeviceRules) -> Result<()> {
    let Some(program) = load(dir, rules)? else {
        return Ok(());
    };
    let cgroup = open_directory(dir)?;
    bpf::attach_device_program(cgroup.as_fd(), program.as_fd()).map_err(|errno| refused(dir, errno))
}

/// Puts the program in the place of what is there. At no moment is there none: processes may be
/// in the directory.
pub(super) fn put(dir: &Path, rules: &DeviceRules) -> Result<()> {
    let program = load(dir, rules)?;
    let cgroup = open_directory(dir)?;
    let mut attempts = ATTEMPTS;
    loop {
        let exchanged = match &program {
            Some(program) => exchange(cgroup.as_fd(), program.as_fd()),
            None => clear(cgroup.as_fd()),
        };
        match exchanged {
            Err(Errno::ENOENT) if attempts > 1 => attempts -= 1,
            result => return result.map_err(|errno| refused(dir, errno)),
        }
    }
}

fn exchange(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> nix::Result<()> {
    let attached = bpf::device_programs(cgroup)?;
    let Some((old, others)) = attached.ids.split_first() else {
        return bpf::attach_device_program(cgroup, program);
    };
    bpf::replace_device_program(cgroup, program, &attached, *old)?;
    // What one of them refuses is refused: the rest has a say until it goes.
    others.iter().try_for_each(|id| gone(cgroup, *id))
}

fn clear(cgroup: BorrowedFd<'_>) -> nix::Result<()> {
    let attached = bpf::device_programs(cgroup)?;
    attached.ids.iter().try_for_each(|id| gone(cgroup, *id))
}

fn gone(cgroup: BorrowedFd<'_>, id: u32) -> nix::Result<()> {
    match bpf::detach_device_program(cgroup, id) {
        Err(Errno::ENOENT) => Ok(()),
        result => result,
    }
}

/// Whether a device program is on the directory.
pub(super) fn has_program(dir: &Path) -> Result<bool> {
    let cgroup = open_directory(dir)?;
    let attached = bpf::device_programs(cgroup.as_fd()).map_err(|errno| refused(dir, errno))?;
    Ok(!attached.ids.is_empty())
}

/// None: the rules allow everything.
fn load(dir: &Path, rules: &DeviceRules) -> Result<Option<OwnedFd>> {
    let program = assemble(rules)?.map(|program| bpf::load_device_program(&program));
    program.transpose().map_err(|errno| refused(dir, errno))
}

fn open_directory(dir: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(dir, flags, Mode::empty()).map_err(|errno| call_refused(dir, "open", errno))
}

fn refused(dir: &Path, errno: Errno) -> Error {
    call_refused(dir, "bpf", errno)
}

fn call_refused(dir: &Path, call: &'static str, errno: Errno) -> Error {
    Error::call(Code::Cgroup, call, errno)
        .doing(format!("attach device rules to {}", dir.display()))
        .at("/linux/resources/devices")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};

    use serde_json::json;

    use super::super::devices::tests::read;
    use super::*;

    /// A directory of the machine's cgroup2, removed again.
    struct Directory(PathBuf);

    impl Directory {
        fn new(test: &str) -> Option<Directory> {
            let enclosure = std::env::var("CAPSID_ENCLOSURE").ok()?;
            let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
            let root = roots
                .into_iter()
                .find(|root| Path::new(root).join("cgroup.controllers").exists())?;
            let name = format!("{test}-{}", std::process::id());
            let dir = Path::new(root)
                .join(enclosure.trim_start_matches('/'))
                .join(name);
            std::fs::create_dir(&dir).unwrap();
            Some(Directory(dir))
        }

        fn fd(&self) -> OwnedFd {
            open_directory(&self.0).unwrap()
        }

        fn ids(&self) -> Vec<u32> {
            bpf::device_programs(self.fd().as_fd()).unwrap().ids
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            std::fs::remove_dir(&self.0).unwrap();
        }
    }

    fn rules() -> DeviceRules {
        read(json!([{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}])).unwrap()
    }

    #[test]
    fn a_device_program_takes_the_place_of_another_and_there_is_never_none() {
        let Some(dir) = Directory::new("replaced") else {
            println!("SKIP: not in the enclosure, or no cgroup2");
            return;
        };
        first(&dir.0, &rules()).unwrap();
        let mut before = dir.ids();
        assert_eq!(before.len(), 1);
        let (cgroup, done) = (dir.fd(), AtomicBool::new(false));
        let least = std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut least = usize::MAX;
                while !done.load(Ordering::Relaxed) {
                    least = least.min(bpf::device_programs(cgroup.as_fd()).unwrap().ids.len());
                }
                least
            });
            for _ in 0..300 {
                put(&dir.0, &rules()).unwrap();
                let after = dir.ids();
                assert_eq!(after.len(), 1);
                assert_ne!(after, before);
                before = after;
            }
            done.store(true, Ordering::Relaxed);
            watch.join().unwrap()
        });
        assert_eq!(least, 1);
    }

    #[test]
    fn a_device_program_takes_the_place_of_several_and_of_one_that_stands_alone() {
        let Some(dir) = Directory::new("several") else {
            println!("SKIP: not in the enclosure, or no cgroup2");
            return;
        };
        for _ in 0..3 {
            first(&dir.0, &rules()).unwrap();
        }
        let before = dir.ids();
        assert_eq!(before.len(), 3);
        put(&dir.0, &rules()).unwrap();
        let after = dir.ids();
        assert_eq!(after.len(), 1);
        assert!(!before.contains(&after[0]));

        put(
            &dir.0,
            &read(json!([{"allow": true, "access": "rwm"}])).unwrap(),
        )
        .unwrap();
        assert!(dir.ids().is_empty());
        put(&dir.0, &rules()).unwrap();
        assert_eq!(dir.ids().len(), 1);

        let alone = Directory::new("alone").unwrap();
        let program = load(&alone.0, &rules()).unwrap().unwrap();
        bpf::attach_alone(alone.fd().as_fd(), program.as_fd()).unwrap();
        let before = alone.ids();
        put(&alone.0, &rules()).unwrap();
        let after = alone.ids();
        assert_eq!(after.len(), 1);
        assert_ne!(after, before);
    }
}
