//! Other schemata for the group of a container that exists, which may have to be made first.

use std::fs;
use std::path::Path;

use oci_spec::runtime::LinuxIntelRdt;
use serde_json::{Value, json};

use super::{Group, POINTER, mounted, schemata};
use crate::error::{Code, Error, Result};

/// The schemata that an update asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schemata {
    /// Cache: `L3:0=ff;1=f`.
    pub l3_cache: Option<String>,
    /// Memory bandwidth: `MB:0=20`.
    pub memory_bandwidth: Option<String>,
}

impl Schemata {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Schemata::default()
    }

    /// Puts them into a whole configuration.
    pub(crate) fn merge_into(&self, config: &mut Value) {
        for (member, text) in [
            ("l3CacheSchema", &self.l3_cache),
            ("memBwSchema", &self.memory_bandwidth),
        ] {
            if let Some(text) = text {
                config["linux"]["intelRdt"][member] = json!(text);
            }
        }
    }

    fn asked(&self) -> LinuxIntelRdt {
        let mut asked = LinuxIntelRdt::default();
        asked
            .set_l3_cache_schema(self.l3_cache.clone())
            .set_mem_bw_schema(self.memory_bandwidth.clone());
        asked
    }

    /// What the machine can share out.
    fn check(&self, resctrl: Option<&Path>) -> Result<()> {
        let has = |names: &[&str]| {
            resctrl.is_some_and(|root| {
                names
                    .iter()
                    .any(|name| root.join("info").join(name).is_dir())
            })
        };
        let missing = |tail: &str| {
            Err(Error::new(Code::Unsupported, tail)
                .hint("no resctrl is mounted, or the processor has no such thing"))
        };
        if self.l3_cache.is_some() && !has(&["L3", "L3CODE", "L3DATA"]) {
            return missing("Intel RDT/CAT: l3 cache schema is not enabled");
        }
        if self.memory_bandwidth.is_some() && !has(&["MB"]) {
            return missing("Intel RDT/MBA: memory bandwidth schema is not enabled");
        }
        Ok(())
    }
}

/// What a group had before a change.
#[derive(Debug)]
pub struct Before(Vec<String>);

impl Group {
    /// The group that a container without one gets.
    ///
    /// # Errors
    /// As [`Group::change`], with [`Code::Unsupported`] where the machine lacks it.
    pub fn of_container(id: &str, wanted: &Schemata) -> Result<Group> {
        let resctrl = mounted();
        wanted.check(resctrl.as_deref())?;
        Group::resolve(&wanted.asked(), id, resctrl.as_deref())
    }

    /// Writes other schemata; what they don't name stays as it is.
    ///
    /// # Errors
    /// The kernel's, with its own words.
    pub fn change(&self, wanted: &Schemata) -> Result<Before> {
        wanted.check(self.directory.parent())?;
        let file = self.directory.join("schemata");
        let before = fs::read_to_string(&file).map_err(|error| {
            Error::io(Code::Cgroup, "read", &error)
                .path(&file)
                .at(POINTER)
        })?;
        self.with(schemata(&wanted.asked())).write()?;
        Ok(Before(before.lines().map(str::to_owned).collect()))
    }

    /// Writes what was there before a change.
    pub fn take_back(&self, before: Before) {
        if let Err(error) = self.with(before.0).write() {
            tracing::warn!("{error}");
        }
    }

    /// Puts a process into the group. One that has ended meanwhile is none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add(&self, pid: i32) -> Result<()> {
        for file in self.tasks() {
            let added = fs::write(&file, pid.to_string());
            match added {
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                added => {
                    added.map_err(|error| Error::io(Code::Cgroup, "write", &error).path(&file))?;
                }
            }
        }
        Ok(())
    }

    fn with(&self, schemata: Vec<String>) -> Group {
        Group {
            schemata,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake() -> (tempfile::TempDir, Group) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("info/L3")).unwrap();
        fs::create_dir(root.path().join("web")).unwrap();
        fs::write(root.path().join("web/schemata"), "L3:0=fff\n").unwrap();
        let asked = LinuxIntelRdt::default();
        let group = Group::resolve(&asked, "web", Some(root.path())).unwrap();
        (root, group)
    }

    #[test]
    fn other_schemata_are_written_and_taken_back() {
        let (root, group) = fake();
        let said = || fs::read_to_string(root.path().join("web/schemata")).unwrap();
        let wanted = Schemata {
            l3_cache: Some("L3:0=f".to_owned()),
            ..Schemata::default()
        };
        let before = group.change(&wanted).unwrap();
        assert_eq!(said(), "L3:0=f\n");
        group.take_back(before);
        assert_eq!(said(), "L3:0=fff\n");
    }

    #[test]
    fn what_the_machine_lacks_is_refused_in_runcs_words() {
        let (_root, group) = fake();
        let wanted = Schemata {
            memory_bandwidth: Some("MB:0=20".to_owned()),
            ..Schemata::default()
        };
        let error = group.change(&wanted).unwrap_err();
        let tail = "Intel RDT/MBA: memory bandwidth schema is not enabled";
        assert_eq!(error.tail(), tail);
        let wanted = Schemata {
            l3_cache: Some("L3:0=f".to_owned()),
            ..Schemata::default()
        };
        let error = wanted.check(None).unwrap_err();
        let tail = "Intel RDT/CAT: l3 cache schema is not enabled";
        assert_eq!(error.tail(), tail);
    }

    #[test]
    fn a_process_is_put_into_the_group() {
        let (root, group) = fake();
        group.add(77).unwrap();
        let tasks = fs::read_to_string(root.path().join("web/tasks")).unwrap();
        assert_eq!(tasks, "77");
    }

    #[test]
    fn they_go_into_the_configuration() {
        let mut config = json!({"linux": {"intelRdt": {"closID": "gold"}}});
        let wanted = Schemata {
            l3_cache: Some("L3:0=f".to_owned()),
            ..Schemata::default()
        };
        wanted.merge_into(&mut config);
        let expected =
            json!({"linux": {"intelRdt": {"closID": "gold", "l3CacheSchema": "L3:0=f"}}});
        assert_eq!(config, expected);
    }
}
