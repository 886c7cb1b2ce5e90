//! Intel RDT and its like: a group of resctrl for the container, with its share of caches and
//! memory bandwidth, and a group in it that is monitored (Linux's
//! Documentation/filesystems/resctrl.rst; config-linux.md, "Intel RDT").
//!
//! The group is made before the container's process exists, which then writes itself into its
//! `tasks`. A group that has the container's name goes with it; one of a given name (closID)
//! stays, because others may be in it.

mod change;
mod stats;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxIntelRdt;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};
pub use change::{Before, Schemata};
pub use stats::Stats;

const POINTER: &str = "/linux/intelRdt";

/// The group of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    directory: PathBuf,
    /// What the group is to have; empty: what it has.
    schemata: Vec<String>,
    kind: Kind,
    /// The directory of the monitoring group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    monitor: Option<PathBuf>,
}

/// Whose a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// Named after the container: made with it, removed with it.
    Own,
    /// Named by closID, with schemata: made unless it is there and has just these.
    Shared,
    /// Named by closID alone: it has to be there.
    Existing,
}

/// mkdir(2) and rmdir(2), which do more in resctrl than in any other file system: a directory
/// is born with its files and goes with them. A test has to do that itself.
struct Calls {
    make: fn(&Path) -> io::Result<()>,
    remove: fn(&Path) -> io::Result<()>,
}

const RESCTRL: Calls = Calls {
    make: |path| fs::create_dir(path),
    remove: |path| fs::remove_dir(path),
};

impl Group {
    /// The group that a configuration asks for, where resctrl is mounted.
    ///
    /// # Errors
    /// resctrl is not mounted.
    pub fn resolve(asked: &LinuxIntelRdt, id: &str, resctrl: Option<&Path>) -> Result<Group> {
        let Some(resctrl) = resctrl else {
            let tail = "intelRdt is specified in config, but Intel RDT is not enabled";
            return Err(Error::new(Code::InvalidConfig, tail)
                .at(POINTER)
                .hint("no resctrl is mounted"));
        };
        let class = asked.clos_id().as_deref().filter(|name| !name.is_empty());
        let schemata = schemata(asked);
        let directory = resctrl.join(class.unwrap_or(id));
        let asks = |flag: &Option<bool>| flag.unwrap_or(false);
        // What enableMonitoring was before 1.3.
        let before = asks(asked.enable_cmt()) || asks(asked.enable_mbm());
        let monitored = before || asks(asked.enable_monitoring());
        Ok(Group {
            kind: match (class, schemata.is_empty()) {
                (None, _) => Kind::Own,
                (Some(_), false) => Kind::Shared,
                (Some(_), true) => Kind::Existing,
            },
            monitor: monitored.then(|| directory.join("mon_groups").join(id)),
            schemata,
            directory,
        })
    }

    /// What is done with it before the clone, a line each.
    pub fn describe(&self) -> Vec<String> {
        let directory = self.directory.display();
        let mut lines = vec![match self.kind {
            Kind::Own => format!("make the resctrl group {directory}"),
            Kind::Shared => format!("make the resctrl group {directory}, unless it is there"),
            Kind::Existing => format!("use the resctrl group {directory}"),
        }];
        lines.extend(
            self.schemata
                .iter()
                .map(|line| format!("  schemata: {line}")),
        );
        if let Some(monitor) = &self.monitor {
            lines.push(format!("make the monitoring group {}", monitor.display()));
        }
        lines
    }

    /// The files that a process writes itself into, in this order.
    pub fn tasks(&self) -> Vec<PathBuf> {
        let directories = [Some(&self.directory), self.monitor.as_ref()];
        let files = directories.into_iter().flatten();
        files.map(|directory| directory.join("tasks")).collect()
    }

    /// Makes what is not there; what was made is removed again when the value is dropped,
    /// unless it is kept.
    ///
    /// # Errors
    /// The kernel's, with its own words for schemata that it refuses; a group that is there and
    /// has other schemata.
    pub fn make(&self) -> Result<Made> {
        self.make_by(&RESCTRL)
    }

    /// Removes what goes with the container; what is gone already is as good.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&self) -> Result<()> {
        self.remove_by(&RESCTRL)
    }

    fn make_by(&self, calls: &Calls) -> Result<Made> {
        let mut made = Made {
            directories: Vec::new(),
            remove: calls.remove,
        };
        match self.kind {
            Kind::Existing if !self.directory.is_dir() => {
                let tail = "clos_id is set, but there is no such group and nothing to make it of";
                return Err(Error::new(Code::InvalidConfig, tail)
                    .path(&self.directory)
                    .at(format!("{POINTER}/closID")));
            }
            Kind::Existing => {}
            Kind::Own => {
                made.directory(&self.directory, calls)?;
                self.write()?;
            }
            Kind::Shared if self.directory.is_dir() => self.compare()?,
            Kind::Shared => {
                made.directory(&self.directory, calls)?;
                self.write()?;
            }
        }
        if let Some(monitor) = &self.monitor {
            made.directory(monitor, calls)?;
        }
        Ok(made)
    }

    fn remove_by(&self, calls: &Calls) -> Result<()> {
        let own = match self.kind {
            Kind::Own => Some(&self.directory),
            Kind::Shared | Kind::Existing => None,
        };
        for directory in self.monitor.iter().chain(own) {
            match (calls.remove)(directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io(Code::Cgroup, "rmdir", &error).path(directory));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// All lines at once: the kernel takes them or leaves the group as it was.
    fn write(&self) -> Result<()> {
        if self.schemata.is_empty() {
            return Ok(());
        }
        let text = self.schemata.join("\n") + "\n";
        let file = self.directory.join("schemata");
        let written = fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&file)
            .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
        written.map_err(|error| {
            let error = Error::io(Code::Cgroup, "write", &error)
                .path(&file)
                .at(POINTER);
            match self.last_words() {
                Some(said) => error.hint(said),
                None => error,
            }
        })
    }

    /// Why the kernel has refused.
    fn last_words(&self) -> Option<String> {
        let status = self.directory.parent()?.join("info/last_cmd_status");
        let said = fs::read_to_string(status).ok()?;
        let said = said.trim().replace('\n', ", ");
        (!said.is_empty() && said != "ok").then_some(said)
    }

    /// config-linux.md: the schemata of a group that is there MUST match.
    fn compare(&self) -> Result<()> {
        let file = self.directory.join("schemata");
        let text = fs::read_to_string(&file).map_err(|error| {
            Error::io(Code::Cgroup, "read", &error)
                .path(&file)
                .at(POINTER)
        })?;
        let has: BTreeMap<String, BTreeMap<String, String>> = text.lines().map(shares).collect();
        for line in &self.schemata {
            let (resource, wanted) = shares(line);
            let given = has.get(&resource);
            let same = |(domain, share): (&String, &String)| {
                given.and_then(|given| given.get(domain)) == Some(share)
            };
            if !wanted.iter().all(same) {
                let tail = format!("the group is there and its schemata are not {line:?}");
                return Err(Error::new(Code::InvalidConfig, tail)
                    .path(&file)
                    .at(POINTER));
            }
        }
        Ok(())
    }
}

/// The lines for the file `schemata`, in the order of the specification.
fn schemata(asked: &LinuxIntelRdt) -> Vec<String> {
    let text = |given: &Option<String>| given.clone().unwrap_or_default();
    let bandwidth = text(asked.mem_bw_schema());
    let cache = text(asked.l3_cache_schema());
    let replaced = |line: &&str| !bandwidth.is_empty() && line.trim_start().starts_with("MB:");
    let cache = cache.lines().filter(|line| !replaced(line));
    let lines = cache.chain(bandwidth.lines()).map(str::to_owned);
    let lines = lines.chain(asked.schemata().iter().flatten().cloned());
    lines.filter(|line| !line.trim().is_empty()).collect()
}

/// "L3:0=0ff;1=f" as ("L3", {0: ff, 1: f}): leading zeros and white space mean nothing.
fn shares(line: &str) -> (String, BTreeMap<String, String>) {
    let (resource, list) = line.split_once(':').unwrap_or((line, ""));
    let share = |item: &str| {
        let (domain, share) = item.split_once('=').unwrap_or((item, ""));
        let plain = |text: &str| {
            let text = text.trim().to_ascii_lowercase();
            match text.trim_start_matches('0') {
                "" => "0".to_owned(),
                rest => rest.to_owned(),
            }
        };
        (plain(domain), plain(share))
    };
    let items = list.split(';').filter(|item| !item.trim().is_empty());
    (resource.trim().to_owned(), items.map(share).collect())
}

/// What was made for a container that doesn't exist yet.
pub struct Made {
    directories: Vec<PathBuf>,
    remove: fn(&Path) -> io::Result<()>,
}

impl Made {
    /// The container exists.
    pub fn keep(mut self) {
        self.directories.clear();
    }

    fn directory(&mut self, path: &Path, calls: &Calls) -> Result<()> {
        match (calls.make)(path) {
            Ok(()) => {
                self.directories.push(path.to_path_buf());
                Ok(())
            }
            Err(error) => {
                let full = error.kind() == io::ErrorKind::StorageFull;
                let error = Error::io(Code::Cgroup, "mkdir", &error)
                    .path(path)
                    .at(POINTER);
                Err(match full {
                    true => error.hint("the machine has no class of service left"),
                    false => error,
                })
            }
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for directory in self.directories.drain(..).rev() {
            if let Err(error) = (self.remove)(&directory) {
                tracing::warn!("{}: {error}", directory.display());
            }
        }
    }
}

/// Where resctrl is mounted; looked for only when a configuration asks.
pub fn mounted() -> Option<PathBuf> {
    find(&fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// proc_pid_mountinfo(5): the fifth field, of the line whose type is resctrl.
fn find(mountinfo: &str) -> Option<PathBuf> {
    let line = mountinfo.lines().find(|line| {
        let (_, rest) = line.split_once(" - ").unwrap_or_default();
        rest.starts_with("resctrl ")
    })?;
    line.split(' ').nth(4).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// resctrl as the kernel has it: a new group has the files of one.
    const FAKE: Calls = Calls {
        make: |path| {
            fs::create_dir(path)?;
            fs::write(path.join("tasks"), "")?;
            fs::write(path.join("schemata"), "L3:0=fff;1=fff\nMB:0=100\n")?;
            match path.parent().and_then(Path::file_name) {
                Some(name) if name == "mon_groups" => Ok(()),
                _ => fs::create_dir(path.join("mon_groups")),
            }
        },
        remove: |path| match path.exists() {
            true => fs::remove_dir_all(path),
            false => Err(io::ErrorKind::NotFound.into()),
        },
    };

    fn fake() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("info")).unwrap();
        fs::write(root.path().join("info/last_cmd_status"), "ok\n").unwrap();
        root
    }

    fn group(root: &tempfile::TempDir, asked: serde_json::Value) -> Group {
        let asked = serde_json::from_value(asked).unwrap();
        Group::resolve(&asked, "web", Some(root.path())).unwrap()
    }

    fn said(group: &Group) -> String {
        fs::read_to_string(group.directory.join("schemata")).unwrap()
    }

    #[test]
    fn without_resctrl_it_is_refused_in_runcs_words() {
        let asked = serde_json::from_value(serde_json::json!({})).unwrap();
        let refused = Group::resolve(&asked, "web", None).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "/linux/intelRdt: no resctrl is mounted: \
             intelRdt is specified in config, but Intel RDT is not enabled"
        );
    }

    #[test]
    fn a_group_without_a_class_is_the_containers_and_goes_with_it() {
        let root = fake();
        let group = group(&root, serde_json::json!({"l3CacheSchema": "L3:0=f;1=ff0"}));
        group.make_by(&FAKE).unwrap().keep();
        assert_eq!(group.directory, root.path().join("web"));
        assert_eq!(group.tasks(), [root.path().join("web/tasks")]);
        assert_eq!(said(&group), "L3:0=f;1=ff0\n");
        group.remove_by(&FAKE).unwrap();
        assert!(!group.directory.exists());
        group.remove_by(&FAKE).unwrap();
    }

    #[test]
    fn a_group_that_is_not_kept_is_taken_back() {
        let root = fake();
        let group = group(&root, serde_json::json!({"enableMonitoring": true}));
        let made = group.make_by(&FAKE).unwrap();
        assert!(root.path().join("web/mon_groups/web").is_dir());
        drop(made);
        assert!(!group.directory.exists());
    }

    #[test]
    fn a_monitoring_group_goes_and_the_class_that_it_is_in_stays() {
        let root = fake();
        (FAKE.make)(&root.path().join("gold")).unwrap();
        let asked = serde_json::json!({"closID": "gold", "enableMonitoring": true});
        let group = group(&root, asked);
        group.make_by(&FAKE).unwrap().keep();
        let monitor = root.path().join("gold/mon_groups/web");
        assert_eq!(
            group.tasks(),
            [root.path().join("gold/tasks"), monitor.join("tasks")]
        );
        assert!(monitor.is_dir());
        group.remove_by(&FAKE).unwrap();
        assert!(!monitor.exists() && root.path().join("gold").is_dir());
    }

    #[test]
    fn a_class_alone_has_to_be_there() {
        let root = fake();
        let group = group(&root, serde_json::json!({"closID": "gold"}));
        let refused = group.make_by(&FAKE).err().unwrap();
        assert_eq!(refused.pointer(), Some("/linux/intelRdt/closID"));
        assert!(!group.directory.exists());
    }

    #[test]
    fn a_class_that_is_there_has_to_have_the_same_schemata() {
        let root = fake();
        (FAKE.make)(&root.path().join("gold")).unwrap();
        let asked = |l3: &str| serde_json::json!({"closID": "gold", "l3CacheSchema": l3});
        for same in ["L3:0=fff;1=fff", "L3:1=0FFF", " L3 : 0=0fff ; 1=fff"] {
            group(&root, asked(same)).make_by(&FAKE).unwrap().keep();
        }
        for other in ["L3:0=ff", "L3:2=fff", "L2:0=fff", "MB:0=50"] {
            let refused = group(&root, asked(other)).make_by(&FAKE).err().unwrap();
            assert_eq!(refused.pointer(), Some("/linux/intelRdt"), "{other}");
        }
        assert_eq!(
            fs::read_to_string(root.path().join("gold/schemata")).unwrap(),
            "L3:0=fff;1=fff\nMB:0=100\n"
        );
    }

    #[test]
    fn a_class_that_is_not_there_is_made_and_stays() {
        let root = fake();
        let asked = serde_json::json!({"closID": "gold", "memBwSchema": "MB:0=20"});
        let group = group(&root, asked);
        group.make_by(&FAKE).unwrap().keep();
        assert_eq!(said(&group), "MB:0=20\n");
        group.remove_by(&FAKE).unwrap();
        assert!(group.directory.is_dir());
    }

    #[test]
    fn schemata_are_written_after_the_cache_and_the_bandwidth_which_wins_over_the_caches_own() {
        let root = fake();
        let group = group(
            &root,
            serde_json::json!({
                "l3CacheSchema": "L3:0=f\nMB:0=10\n", "memBwSchema": "MB:0=70",
                "schemata": ["L3:0=ff", "SMBA:0=5"],
            }),
        );
        assert_eq!(group.schemata, ["L3:0=f", "MB:0=70", "L3:0=ff", "SMBA:0=5"]);
        let alone = serde_json::json!({"l3CacheSchema": "L3:0=f\nMB:0=10\n"});
        let alone = schemata(&serde_json::from_value(alone).unwrap());
        assert_eq!(alone, ["L3:0=f", "MB:0=10"]);
    }

    #[test]
    fn a_refusal_says_what_the_kernel_said_and_leaves_nothing() {
        const READ_ONLY: Calls = Calls {
            make: |path| {
                fs::create_dir(path)?;
                // What can't be opened for writing stands in for what is refused.
                fs::create_dir(path.join("schemata"))
            },
            remove: FAKE.remove,
        };
        let root = fake();
        let status = root.path().join("info/last_cmd_status");
        fs::write(status, "Mask f0f has non-consecutive 1-bits\n").unwrap();
        let group = group(&root, serde_json::json!({"l3CacheSchema": "L3:0=f0f"}));
        let refused = group.make_by(&READ_ONLY).err().unwrap();
        let line = refused.to_string();
        assert!(
            line.contains("Mask f0f has non-consecutive 1-bits"),
            "{line}"
        );
        assert!(line.contains("schemata") && !group.directory.exists());
    }

    proptest::proptest! {
        #[test]
        fn schemata_say_the_same_in_any_spelling(
            resource in "[A-Z0-9]{1,6}",
            list in proptest::collection::btree_map(0..64_u32, 0..u32::MAX, 0..8),
            zeros in 0..4_usize,
        ) {
            let write = |pad: usize, gap: &str| {
                let items = list.iter().map(|(domain, share)| {
                    format!("{gap}{domain}={gap}{:0pad$x}", share)
                });
                format!("{gap}{resource}:{}", items.collect::<Vec<_>>().join(";"))
            };
            proptest::prop_assert_eq!(shares(&write(0, "")), shares(&write(zeros + 8, " ")));
        }

        #[test]
        fn no_line_of_schemata_makes_it_panic(line in ".{0,60}|[A-Z0-9:=;a-f ]{0,60}") {
            let _ = shares(&line);
        }
    }

    #[test]
    fn resctrl_is_found_among_the_mounts() {
        let text = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            30 22 0:25 / /sys/fs/resctrl rw,relatime shared:9 - resctrl resctrl rw\n";
        assert_eq!(find(text), Some("/sys/fs/resctrl".into()));
        assert_eq!(find("22 1 8:1 / /resctrl rw - ext4 resctrl rw\n"), None);
    }
}
