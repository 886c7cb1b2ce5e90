//! What cgroup file systems this machine has, and where in them the caller is.
//!
//! Read once, from /proc/self/cgroup, statfs and (for v1) /proc/self/mountinfo; the parsers
//! take text, so that captured files of other machines can be tested. Decides nothing.

use std::ffi::OsStr;
use std::io::BufReader;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{AccessFlags, access};
use procfs::process::MountInfo;
use procfs::{FromBufRead, ProcessCGroup, ProcessCGroups};

use super::limits::Version;
use crate::error::{Code, Error, Result};

const ROOT: &str = "/sys/fs/cgroup";
const OWN: &str = "/proc/self/cgroup";

/// The cgroup hierarchies of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// cgroup v2 alone.
    Unified {
        /// The mount of cgroup2.
        mount: PathBuf,
        /// The caller's own cgroup, below the mount, with a leading slash.
        own: PathBuf,
    },
    /// cgroup v1, with or without a cgroup2 mount beside it.
    Legacy {
        /// The mounted v1 hierarchies; co-mounted controllers are one.
        hierarchies: Vec<Hierarchy>,
        /// Hybrid hosts: cgroup2, which has no controller that v1 has.
        unified: Option<Hierarchy>,
    },
    /// No cgroup file system is mounted.
    None,
}

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// The controllers, or `name=systemd`; empty for cgroup2.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Which of its cgroups is at the mount point: `/`, or another one in a nested container.
    pub root: PathBuf,
    /// The caller's own cgroup in the hierarchy, from its root (cgroup_namespaces(7)).
    pub own: PathBuf,
}

impl Hierarchy {
    /// The hierarchy of this line of /proc/self/cgroup, if `mount` shows all of it. Judged by
    /// the caller's own cgroup: a nested container's mount has no such path.
    fn whole(mount: PathBuf, line: ProcessCGroup) -> Option<Hierarchy> {
        let own = PathBuf::from(line.pathname);
        let up = own.components().any(|c| c == Component::ParentDir);
        let file = super::plan::below(&mount, &own).join("cgroup.procs");
        let seen = !up && access(&file, AccessFlags::F_OK).is_ok();
        seen.then_some(Hierarchy {
            controllers: line.controllers,
            mount,
            root: PathBuf::from("/"),
            own,
        })
    }

    /// The caller's own cgroup below the mount point, with a leading slash. `/` when the
    /// mount does not show it.
    pub fn own_below_mount(&self) -> PathBuf {
        let shown = self.own.strip_prefix(&self.root);
        match shown {
            Ok(rest) if !rest.starts_with("..") => Path::new("/").join(rest),
            _ => PathBuf::from("/"),
        }
    }
}

impl Layout {
    /// The version that has the controllers: v1's on a hybrid machine.
    pub(super) fn version(&self) -> Version {
        match self {
            Layout::Legacy { .. } => Version::V1,
            Layout::Unified { .. } | Layout::None => Version::V2,
        }
    }

    /// Looks at this machine: at the places where distributions mount the hierarchies, and
    /// only where those are not as usual at /proc/self/mountinfo, which takes the longer the
    /// more containers there are.
    ///
    /// # Errors
    /// [`Code::Io`] when /proc/self/cgroup or /proc/self/mountinfo cannot be read.
    pub fn probe() -> Result<Layout> {
        let text = super::file::read_piece(Path::new(OWN));
        let text = text.map_err(|errno| Error::call(Code::Io, "read", errno).path(OWN))?;
        match Layout::usual(Path::new(ROOT), parse_own(&text)?) {
            Some(layout) => Ok(layout),
            None => Layout::parse(&text, &read("/proc/self/mountinfo")?),
        }
    }

    /// The layout with every hierarchy at its usual place below `top`, whole: the caller's
    /// own cgroup can be seen in each. `None`: one cannot.
    fn usual(top: &Path, own: Vec<ProcessCGroup>) -> Option<Layout> {
        if statfs(top).is_ok_and(|s| s.filesystem_type() == CGROUP2_SUPER_MAGIC) {
            let line = own.into_iter().find(|line| line.controllers.is_empty())?;
            let whole = Hierarchy::whole(top.to_path_buf(), line)?;
            return Some(Layout::Unified {
                mount: whole.mount,
                own: whole.own,
            });
        }
        let mut hierarchies = Vec::new();
        let mut unified = None;
        for line in own.into_iter().rev() {
            match line.controllers.as_slice() {
                [] => unified = Hierarchy::whole(top.join("unified"), line),
                [name] => {
                    let mount = top.join(name.strip_prefix("name=").unwrap_or(name));
                    hierarchies.push(Hierarchy::whole(mount, line)?);
                }
                several => {
                    let mount = top.join(several.join(","));
                    hierarchies.push(Hierarchy::whole(mount, line)?);
                }
            }
        }
        (!hierarchies.is_empty()).then_some(Layout::Legacy {
            hierarchies,
            unified,
        })
    }

    /// The layout that these two files of /proc/self describe.
    ///
    /// # Errors
    /// [`Code::Io`] when a line is not what proc(5) and cgroups(7) say.
    pub fn parse(cgroup: &[u8], mountinfo: &[u8]) -> Result<Layout> {
        let own = parse_own(cgroup)?;
        let mut mounts = Vec::new();
        for line in mountinfo.split(|b| *b == b'\n') {
            if let Some(mount) = Mount::parse(line)? {
                mounts.push(mount);
            }
        }
        let mut hierarchies = Vec::new();
        let mut unified = None;
        for line in own {
            let path = PathBuf::from(&line.pathname);
            // Several mounts may show one hierarchy: the usual place wins, then the first
            // that shows the caller's own cgroup.
            let found = mounts
                .iter()
                .filter(|m| m.shows(&line.controllers))
                .min_by_key(|m| (!path.starts_with(&m.root), !m.point.starts_with(ROOT)));
            let Some(mount) = found else { continue };
            let hierarchy = Hierarchy {
                controllers: line.controllers,
                mount: mount.point.clone(),
                root: mount.root.clone(),
                own: path,
            };
            if hierarchy.controllers.is_empty() {
                unified = Some(hierarchy);
            } else {
                hierarchies.push(hierarchy);
            }
        }
        // /proc/self/cgroup counts down; the order of the hierarchies is kept as mounted.
        hierarchies.reverse();
        Ok(match unified {
            Some(only) if hierarchies.is_empty() || only.mount == Path::new(ROOT) => {
                Layout::Unified {
                    own: only.own_below_mount(),
                    mount: only.mount,
                }
            }
            None if hierarchies.is_empty() => Layout::None,
            // A cgroup2 anywhere else is somebody's own, not the host's.
            other => Layout::Legacy {
                hierarchies,
                unified: other.filter(|h| h.mount == Path::new(ROOT).join("unified")),
            },
        })
    }
}

fn read(path: &str) -> Result<Vec<u8>> {
    let read = super::file::read_whole(Path::new(path));
    read.map_err(|errno| Error::call(Code::Io, "read", errno).path(path))
}

fn parse_own(text: &[u8]) -> Result<Vec<ProcessCGroup>> {
    let groups = ProcessCGroups::from_buf_read(BufReader::new(text))
        .map_err(|e| Error::new(Code::Io, e.to_string()).path(OWN))?;
    Ok(groups.0)
}

/// A line of mountinfo that is about cgroups.
struct Mount {
    point: PathBuf,
    root: PathBuf,
    /// The controllers among the super options; none for cgroup2.
    options: Option<Vec<String>>,
}

impl Mount {
    /// `None` for a mount of another kind, without parsing it: a host has thousands.
    fn parse(line: &[u8]) -> Result<Option<Mount>> {
        let marked = line.windows(9).any(|w| w == b" - cgroup");
        let Some(line) = marked.then(|| std::str::from_utf8(line).ok()).flatten() else {
            return Ok(None);
        };
        let info = MountInfo::from_line(line)
            .map_err(|e| Error::new(Code::Io, e.to_string()).path("/proc/self/mountinfo"))?;
        let options = match info.fs_type.as_str() {
            "cgroup" => {
                let named = |(key, value): (String, Option<String>)| match value {
                    Some(value) => format!("{key}={value}"),
                    None => key,
                };
                Some(info.super_options.into_iter().map(named).collect())
            }
            "cgroup2" => None,
            _ => return Ok(None),
        };
        Ok(Some(Mount {
            point: unescape(&info.mount_point),
            root: unescape(Path::new(&info.root)),
            options,
        }))
    }

    fn shows(&self, controllers: &[String]) -> bool {
        match &self.options {
            None => controllers.is_empty(),
            Some(options) => {
                !controllers.is_empty() && controllers.iter().all(|c| options.contains(c))
            }
        }
    }
}

/// proc(5): space, tab, newline and backslash are written as three octal digits.
fn unescape(path: &Path) -> PathBuf {
    let mut rest = path.as_os_str().as_bytes();
    let mut out = Vec::with_capacity(rest.len());
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail) {
            (
                b'\\',
                [
                    a @ b'0'..=b'3',
                    b @ b'0'..=b'7',
                    c @ b'0'..=b'7',
                    after @ ..,
                ],
            ) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => out.push(byte),
        }
    }
    PathBuf::from(OsStr::from_bytes(&out))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(
            own in "([0-9:/a-z=,.\\n]|0::|cpu){0,40}",
            mounts in "([0-9:/a-z=,\\\\ \n]| - cgroup2? | - cgroup){0,60}",
        ) {
            let _ = Layout::parse(own.as_bytes(), mounts.as_bytes());
        }
    }

    fn hierarchy(controllers: &[&str], mount: &str, root: &str, own: &str) -> Hierarchy {
        Hierarchy {
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
            mount: mount.into(),
            root: root.into(),
            own: own.into(),
        }
    }

    #[test]
    fn a_v2_host_has_one_hierarchy() {
        let cgroup = b"0::/user.slice/user-0.slice/session-1.scope\n";
        let mounts = b"24 1 254:1 / / rw - ext4 /dev/vda1 rw\n\
            31 23 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(
            Layout::parse(cgroup, mounts).unwrap(),
            Layout::Unified {
                mount: "/sys/fs/cgroup".into(),
                own: "/user.slice/user-0.slice/session-1.scope".into(),
            }
        );
    }

    #[test]
    fn co_mounted_controllers_are_one_hierarchy_and_systemd_has_a_name() {
        let cgroup =
            b"3:name=systemd:/init.scope\n2:cpu,cpuacct:/\n1:memory:/a b\n0::/init.scope\n";
        let mounts =
            b"32 31 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
            33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            34 31 0:31 / /sys/fs/cgroup/memory rw shared:1 master:2 - cgroup cgroup rw,memory\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let at = "/sys/fs/cgroup";
        assert_eq!(
            Layout::parse(cgroup, mounts).unwrap(),
            Layout::Legacy {
                hierarchies: vec![
                    hierarchy(&["memory"], &format!("{at}/memory"), "/", "/a b"),
                    hierarchy(&["cpu", "cpuacct"], &format!("{at}/cpu,cpuacct"), "/", "/"),
                    hierarchy(
                        &["name=systemd"],
                        &format!("{at}/systemd"),
                        "/",
                        "/init.scope"
                    ),
                ],
                unified: Some(hierarchy(&[], &format!("{at}/unified"), "/", "/init.scope")),
            }
        );
    }

    #[test]
    fn a_nested_container_counts_from_the_root_of_its_mount() {
        let nested = hierarchy(
            &["pids"],
            "/sys/fs/cgroup/pids",
            "/docker/c1",
            "/docker/c1/sub",
        );
        assert_eq!(nested.own_below_mount(), Path::new("/sub"));
        let outside = hierarchy(&["pids"], "/sys/fs/cgroup/pids", "/docker/c1", "/other");
        assert_eq!(outside.own_below_mount(), Path::new("/"));
        let above = hierarchy(&["pids"], "/sys/fs/cgroup/pids", "/", "/../..");
        assert_eq!(above.own_below_mount(), Path::new("/"));
    }

    #[test]
    fn of_several_mounts_the_one_that_shows_the_caller_is_taken() {
        let cgroup = b"1:pids:/docker/c1\n";
        let mounts = b"1 2 0:1 /other /a rw - cgroup cgroup rw,pids\n\
            1 2 0:1 /docker/c1 /mnt/with\\040space rw - cgroup cgroup rw,pids\n\
            1 2 0:1 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let Layout::Legacy { hierarchies, .. } = Layout::parse(cgroup, mounts).unwrap() else {
            panic!("v1");
        };
        assert_eq!(hierarchies[0].mount, Path::new("/sys/fs/cgroup/pids"));
        let mounts = mounts
            .split_inclusive(|b| *b == b'\n')
            .take(2)
            .collect::<Vec<_>>()
            .concat();
        let Layout::Legacy { hierarchies, .. } = Layout::parse(cgroup, &mounts).unwrap() else {
            panic!("v1");
        };
        assert_eq!(hierarchies[0].mount, Path::new("/mnt/with space"));
    }

    #[test]
    fn a_controller_without_a_mount_is_left_out() {
        let cgroup = b"2:memory:/\n1:pids:/\n0::/\n";
        let mounts = b"1 2 0:1 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let Layout::Legacy {
            hierarchies,
            unified,
        } = Layout::parse(cgroup, mounts).unwrap()
        else {
            panic!("v1");
        };
        assert_eq!((hierarchies.len(), unified), (1, None));
        assert_eq!(Layout::parse(cgroup, b"").unwrap(), Layout::None);
    }

    #[test]
    fn the_usual_places_say_what_mountinfo_says() {
        let (own, mounts) = (read("/proc/self/cgroup"), read("/proc/self/mountinfo"));
        let parsed = Layout::parse(&own.unwrap(), &mounts.unwrap()).unwrap();
        assert_eq!(Layout::probe().unwrap(), parsed);
    }

    #[test]
    fn the_usual_places_are_not_believed_when_the_own_cgroup_is_not_there() {
        let top = std::env::temp_dir().join(format!("capsid-layout-{}", std::process::id()));
        let seen = top.join("cpu,cpuacct/job");
        std::fs::create_dir_all(&seen).unwrap();
        std::fs::write(seen.join("cgroup.procs"), "").unwrap();
        let usual = |text: &str| Layout::usual(&top, parse_own(text.as_bytes()).unwrap());
        let layout = usual("1:cpu,cpuacct:/job\n0::/job\n");
        let Some(Layout::Legacy {
            hierarchies,
            unified: None,
        }) = layout
        else {
            panic!("{layout:?}");
        };
        assert_eq!(hierarchies[0].mount, top.join("cpu,cpuacct"));
        assert_eq!(usual("2:pids:/job\n1:cpu,cpuacct:/job\n"), None);
        assert_eq!(usual("1:cpu,cpuacct:/nested/job\n"), None);
        assert_eq!(usual("1:cpu,cpuacct:/../cpu,cpuacct/job\n"), None);
        std::fs::remove_dir_all(&top).unwrap();
    }
}
