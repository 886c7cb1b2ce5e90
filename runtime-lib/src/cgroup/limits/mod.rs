//! The limits of linux.resources: what is asked for (asked.rs), the table that says what each
//! setting is called and becomes (table.rs, which names what else a setting needs), and the writes
//! that come out of them.
//!
//! Values are computed here once, before anything is made; writing them is the managers'
//! business.

mod asked;
mod convert;
mod table;
mod unified;
mod usage;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use oci_spec::runtime::LinuxResources;

use self::asked::Asked;
use self::table::{Column, IDLE_FILE, OOM_CONTROL, Row, TABLE, WEIGHTS, Write};
use self::usage::UsageCheck;
use super::devices::DevicePolicy;
use super::plan::Group;
use super::systemd::Property;
use crate::Notice;
use crate::error::{Code, Error, Result};
use crate::spec::join;

/// Which of the two interfaces holds the controllers. A hybrid host is `V1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    #[default]
    V2,
}

/// What is written into a container's cgroups.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    version: Version,
    pub(super) settings: Vec<Setting>,
    /// What the version has no file for, and what happens instead.
    pub(super) notices: Vec<Notice>,
    /// `memory.checkBeforeUpdate`: what is refused when more is in use already.
    usage: Option<UsageCheck>,
    /// `None`: nothing is restricted (no cgroup, or not permitted to).
    pub(super) devices: Option<DevicePolicy>,
    /// The user that gets the directory of cgroup2, and may make cgroups below it.
    pub(super) owner: Option<u32>,
    /// What systemd is told when it starts the unit.
    pub(super) unit: Vec<Property>,
}

/// One file to be written.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub row: &'static Row,
    /// What follows the row's pointer: a key, or the index of an element.
    part: String,
    pub file: Cow<'static, str>,
    /// Each line is one write.
    pub value: String,
    /// The file and the value where the kernel lacks the first.
    pub otherwise: Option<(&'static str, String)>,
}

impl Limits {
    /// The limits that `resources` asks for. `raw` is the JSON that it was read from, for
    /// what the types cannot say (an absent `pids.limit`).
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] with the JSON pointer: values out of range, and swap without
    /// or below the memory limit. [`Code::Unsupported`]: what the version cannot do, and the
    /// container may not be left without.
    pub(super) fn read(
        version: Version,
        resources: Option<&LinuxResources>,
        raw: Option<&serde_json::Value>,
    ) -> Result<Limits> {
        let mut limits = Limits {
            version,
            ..Limits::default()
        };
        let Some(resources) = resources else {
            return Ok(limits);
        };
        let asked = Asked::read(resources, raw);
        asked.check(version)?;
        for row in TABLE {
            let column = match version {
                Version::V1 => &row.v1,
                Version::V2 => &row.v2,
            };
            limits.take(row, column, &asked)?;
        }
        limits.spare_idle();
        limits.usage = UsageCheck::of(&asked);
        Ok(limits)
    }

    /// Leaves out the weights of a group that is to be idle: it has none, and the kernel refuses to
    /// write one once it is idle, which systemd may have made it before.
    fn spare_idle(&mut self) {
        let last = self.settings.iter().rfind(|s| s.file == IDLE_FILE);
        if last.is_some_and(|s| s.value.trim() == "1") {
            self.settings.retain(|s| !WEIGHTS.contains(&&*s.file));
        }
    }

    fn take(&mut self, row: &'static Row, column: &Column, asked: &Asked<'_>) -> Result<()> {
        match column {
            Column::One(file, convert) => {
                let setting = |value| Setting {
                    row,
                    part: String::new(),
                    file: Cow::Borrowed(*file),
                    value,
                    otherwise: None,
                };
                self.settings.extend(convert(asked).map(setting));
            }
            Column::Many(convert) => {
                let setting = |write: Write| Setting {
                    row,
                    part: write.part,
                    file: Cow::Owned(write.file),
                    value: write.value,
                    otherwise: write.otherwise,
                };
                self.settings
                    .extend(convert(asked).into_iter().map(setting));
            }
            Column::Lacks(asks, text) if asks(asked) => {
                self.notices.push(Notice::new(row.pointer, *text));
            }
            Column::Refuses(asks, text) if asks(asked) => {
                return Err(Error::new(Code::Unsupported, *text).at(row.pointer));
            }
            Column::Lacks(..) | Column::Refuses(..) | Column::Elsewhere => {}
        }
        Ok(())
    }

    /// Leaves out what is so anyway where the kernel's OOM killer is at work, as in a new cgroup.
    pub(super) fn leave_oom_killer_on(&mut self) {
        self.settings
            .retain(|setting| setting.file != OOM_CONTROL || setting.value != "0");
    }

    /// Other writes of the same version, which nothing forbids.
    pub(super) fn instead(&self, settings: Vec<Setting>) -> Limits {
        Limits {
            version: self.version,
            settings,
            ..Limits::default()
        }
    }

    /// Gives the container's cgroup to a user of the host.
    pub(crate) fn give_to(&mut self, owner: u32) {
        self.owner = Some(owner);
    }

    /// What is written into this directory.
    pub(super) fn of<'a>(&'a self, group: &Group) -> Vec<&'a Setting> {
        let here = |s: &&Setting| self.is_for(s, group);
        self.settings.iter().filter(here).collect()
    }

    /// Whether the setting's file is in this directory.
    pub(super) fn is_for(&self, setting: &Setting, group: &Group) -> bool {
        match self.version {
            Version::V1 => group.has(setting.controller()),
            Version::V2 => true,
        }
    }

    /// Whether both halves of a v1 cpuset are given, so that nothing is to be copied.
    pub(super) fn sets_whole_cpuset(&self) -> bool {
        let cpuset = |s: &&Setting| s.controller() == "cpuset";
        self.settings.iter().filter(cpuset).count() == 2
    }

    /// The writes into a directory, as `explain` prints them.
    pub(super) fn describe_writes(&self, group: &Group) -> Vec<String> {
        let dir = group.dir();
        let write = |s: &Setting| {
            let path = dir.join(&*s.file);
            let value = s.value.trim_end().replace('\n', "\\n");
            let line = format!("write {value} to {}", path.display());
            match &s.otherwise {
                Some((file, value)) => format!("{line}, or {value} to {file}"),
                None => line,
            }
        };
        self.of(group).into_iter().map(write).collect()
    }

    /// What is done to it for the devices.
    pub(super) fn describe_devices(&self, group: &Group) -> Vec<String> {
        let policy = self.devices.as_ref();
        policy.map_or_else(Vec::new, |policy| policy.describe(group))
    }

    /// Whom it is given to.
    pub(super) fn describe_gift(&self, group: &Group) -> Option<String> {
        let owner = self.owner.filter(|_| self.version == Version::V2)?;
        let dir = group.dir();
        Some(format!("give {} to the user {owner}", dir.display()))
    }
}

impl Setting {
    /// The JSON pointer of what asks for it.
    pub(super) fn pointer(&self) -> String {
        match self.part.as_str() {
            "" => self.row.pointer.to_owned(),
            part => join(self.row.pointer, part),
        }
    }

    /// The controller that has the file, as v1 calls it; `cgroup` for a file that every
    /// cgroup2 directory has.
    pub(super) fn controller(&self) -> &str {
        match self.row.controller {
            "" => self.file.split('.').next().unwrap_or_default(),
            controller => controller,
        }
    }

    /// The same as cgroup v2 calls it.
    pub(super) fn controller_v2(&self) -> &str {
        match self.controller() {
            "blkio" => "io",
            controller => controller,
        }
    }

    /// Whether the file was named by the config.
    pub(super) fn is_unified(&self) -> bool {
        self.row.controller.is_empty()
    }

    /// Whether the file may be missing, and that is no loss: what is asked for is what a
    /// kernel without it does.
    pub(super) fn may_be_absent(&self) -> bool {
        (self.row.dispensable)(&self.file, &self.value)
    }
}
