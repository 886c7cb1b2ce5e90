//! New limits for cgroups that exist: what is asked for, made whole with the values that are
//! in force, and what to write to have those back.
//!
//! Reads the files and writes none: that is the manager's business.

use std::borrow::Cow;
use std::path::Path;

use super::limits::{Limits, Setting, Version};
use super::oom::never_kills;
use super::plan::{CgroupPlan, Group};
use super::{CgroupManager, file};
use crate::Notice;
use crate::error::{Code, Error, Result};
use crate::spec::Resources;

/// From here on v1 means no limit: the most that its counters hold, in pages.
const UNLIMITED: i64 = 1 << 62;

/// A change of the limits that can be taken back.
#[derive(Debug)]
pub struct Change<'a> {
    plan: &'a CgroupPlan,
    limits: Limits,
    before: Limits,
    /// Settings that will not act as they were written.
    pub notices: Vec<Notice>,
}

impl Change<'_> {
    /// Writes the new limits. On an error the old ones are in force again.
    ///
    /// # Errors
    /// [`Code::Cgroup`], with the setting's pointer.
    pub fn make(&self, manager: &dyn CgroupManager) -> Result<()> {
        manager
            .apply(&self.limits)
            .inspect_err(|_| self.take_back(manager))
    }

    /// Writes the old limits.
    pub fn take_back(&self, manager: &dyn CgroupManager) {
        if manager.apply(&self.before).is_ok() {
            return;
        }
        // One that can't be had must not keep the others; and some can be had after others.
        let alone = |setting: &Setting| manager.apply(&self.before.instead(vec![setting.clone()]));
        let again = self.before.settings.iter().filter(|s| alone(s).is_err());
        for setting in again.collect::<Vec<_>>() {
            if let Err(error) = alone(setting)
                && !self.is_in_force(setting)
            {
                tracing::warn!("{}", error.hint("a limit did not get its old value back"));
            }
        }
    }

    /// Whether this old value needs no writing: what would have taken its place was refused.
    fn is_in_force(&self, setting: &Setting) -> bool {
        let holds = |group: &&Group| self.before.is_for(setting, group);
        let now = |group: &Group| restoring(&group.dir(), setting);
        let mut now = self.plan.groups().filter(holds).filter_map(now);
        now.any(|now| now.value == setting.value)
    }
}

impl CgroupPlan {
    /// What it takes to give these cgroups the resources that are asked for.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] and [`Code::Unsupported`] with the JSON pointer; limits for a
    /// container without cgroups.
    pub fn change(&self, resources: &Resources) -> Result<Change<'_>> {
        let version = self.version();
        let live = Live {
            plan: self,
            version,
        };
        let mut resources = resources.clone();
        live.complete(&mut resources)?;
        let typed = resources.typed()?;
        let mut limits = Limits::read(version, Some(&typed), Some(resources.asked()))?;
        let control = live.read("memory", "memory.oom_control");
        if !control.is_some_and(|control| never_kills(&control)) {
            limits.leave_oom_killer_on();
        }
        if self.is_empty()
            && let Some(setting) = limits.settings.first()
        {
            return Err(Error::new(Code::Cgroup, "cgroup not exist")
                .at(setting.pointer())
                .hint(
                    "the container was created without a cgroup, and only a cgroup can be limited: \
                     delete it and create it with this limit in its config.json, which says what \
                     a cgroup takes here",
                ));
        }
        if version == Version::V1 {
            limits.need_mounted(self)?;
        }
        let mut notices = std::mem::take(&mut limits.notices);
        notices.extend(self.unweighed(&limits));
        Ok(Change {
            plan: self,
            notices,
            before: live.of(&limits),
            limits,
        })
    }
}

/// The values that are in force.
struct Live<'a> {
    plan: &'a CgroupPlan,
    version: Version,
}

impl Live<'_> {
    /// Adds what can't be left out, from the values in force.
    fn complete(&self, resources: &mut Resources) -> Result<()> {
        let asked = |resources: &Resources, pointer| resources.number(pointer).is_some();
        let (quota, period) = ("/cpu/quota", "/cpu/period");
        if asked(resources, quota) != asked(resources, period)
            && let Some((live_quota, live_period)) = self.bandwidth()
        {
            match asked(resources, quota) {
                true => resources.complete(period, live_period),
                false => resources.complete(quota, live_quota),
            }
        }
        let (limit, swap) = ("/memory/limit", "/memory/swap");
        if resources.number(swap).is_some_and(|swap| swap > 0)
            && !asked(resources, limit)
            && let Some(live) = self.bytes("memory.limit_in_bytes", "memory.max")
        {
            resources.complete(limit, live);
        }
        match (self.version, resources.number(limit)) {
            (Version::V1, Some(wanted)) if !asked(resources, swap) => {
                match self.bytes("memory.memsw.limit_in_bytes", "") {
                    Some(both) if wanted > both => {
                        let tail = "memory+swap limit should be >= memory limit";
                        Err(Error::new(Code::InvalidConfig, tail)
                            .at(limit)
                            .hint(format!(
                                "memory and swap together are limited to {both}: change both"
                            )))
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// The quota and the period of the cpu controller.
    fn bandwidth(&self) -> Option<(i64, i64)> {
        match self.version {
            Version::V1 => {
                let number = |name| self.read("cpu", name)?.trim().parse().ok();
                Some((number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?))
            }
            Version::V2 => {
                let text = self.read("cpu", "cpu.max")?;
                let (quota, period) = text.trim().split_once(' ')?;
                Some((quota.parse().unwrap_or(-1), period.parse().ok()?))
            }
        }
    }

    /// A limit of the memory controller; None: there is none.
    fn bytes(&self, v1: &str, v2: &str) -> Option<i64> {
        let name = match self.version {
            Version::V1 => v1,
            Version::V2 => v2,
        };
        let bytes: i64 = self.read("memory", name)?.trim().parse().ok()?;
        (bytes < UNLIMITED).then_some(bytes)
    }

    /// The values of the files that `limits` would write. Of what is written twice, the first write
    /// clears the way: it does so on the way back too.
    fn of(&self, limits: &Limits) -> Limits {
        let mut before = Vec::new();
        for group in self.plan.groups() {
            let settings = limits.of(group);
            for (n, setting) in settings.iter().enumerate() {
                let mut later = settings.iter().skip(n + 1);
                before.extend(match later.any(|other| is_same(setting, other)) {
                    true => Some((*setting).clone()),
                    false => restoring(&group.dir(), setting),
                });
            }
        }
        limits.instead(before)
    }

    fn read(&self, controller: &str, name: &str) -> Option<String> {
        let group = self.plan.group_of(controller)?;
        let bytes = file::read_whole(&group.dir().join(name)).ok()?;
        String::from_utf8(bytes).ok()
    }
}

/// Whether two writes are of one value: of one file, and there of one device or whatever it has a
/// line for.
fn is_same(one: &Setting, other: &Setting) -> bool {
    let line = |setting: &Setting| {
        let (key, _) = setting.value.split_once(' ')?;
        // Quota and period are one value.
        let names = key != "max" && key.contains(|c: char| !c.is_ascii_digit());
        names.then(|| key.to_owned())
    };
    one.file == other.file && line(one) == line(other)
}

/// The write that takes back the writing of `setting`. A file that is not there yet has no
/// value to go back to.
fn restoring(dir: &Path, setting: &Setting) -> Option<Setting> {
    let other = setting.otherwise.as_ref();
    let other = other.map(|(file, value)| (Cow::Borrowed(*file), value.as_str()));
    let first = (setting.file.clone(), setting.value.as_str());
    [Some(first), other]
        .into_iter()
        .flatten()
        .find_map(|(file, value)| {
            let now = file::read_whole(&dir.join(&*file)).ok()?;
            let now = String::from_utf8(now).ok()?;
            let lines = value.trim_end().split('\n');
            let before: Vec<String> = lines.map(|line| value_before(&file, line, &now)).collect();
            let mut back = setting.clone();
            (back.file, back.value, back.otherwise) = (file, before.join("\n"), None);
            Some(back)
        })
}

/// What to write to a file that says `now`, to take back the writing of `value`.
fn value_before(name: &str, value: &str, now: &str) -> String {
    if name == "memory.oom_control" {
        return i32::from(never_kills(now)).to_string();
    }
    if name == "cgroup.subtree_control" {
        return value
            .split_whitespace()
            .map(|word| switched_before(word, now))
            .collect::<Vec<_>>()
            .join(" ");
    }
    // Of a file with a line for each device, one line was written.
    if let Some((key, _)) = value.split_once(' ') {
        let line = now.lines().find(|line| line.split(' ').next() == Some(key));
        return match (line, name) {
            (Some(line), _) => line.to_owned(),
            (None, "io.max") => format!("{key} rbps=max wbps=max riops=max wiops=max"),
            (None, "io.weight" | "io.bfq.weight") => format!("{key} default"),
            (None, _) if key.contains(':') => format!("{key} 0"),
            (None, _) => whole(now),
        };
    }
    whole(now)
}

/// What takes back `+controller` or `-controller`, where those that `now` names are on.
fn switched_before(word: &str, now: &str) -> String {
    let controller = word.trim_start_matches(['+', '-']);
    let sign = match now.split_whitespace().any(|on| on == controller) {
        true => '+',
        false => '-',
    };
    format!("{sign}{controller}")
}

/// An empty write is none: to empty a file takes a line break.
fn whole(now: &str) -> String {
    match now.trim_end() {
        "" => "\n".to_owned(),
        now => now.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_before_is_what_the_file_said_of_the_same_thing() {
        for (name, value, now, before) in [
            ("pids.max", "20", "max\n", "max"),
            ("cpu.max", "20000 50000", "max 100000\n", "max 100000"),
            ("cpu.max", "20000 50000", "20000 100000\n", "20000 100000"),
            ("cpuset.cpus", "0", "\n", "\n"),
            (
                "io.max",
                "8:0 rbps=5",
                "8:16 rbps=1 wbps=max\n8:0 rbps=2 wbps=max\n",
                "8:0 rbps=2 wbps=max",
            ),
            (
                "io.max",
                "8:0 rbps=5",
                "",
                "8:0 rbps=max wbps=max riops=max wiops=max",
            ),
            (
                "io.weight",
                "default 50",
                "default 100\n8:0 7\n",
                "default 100",
            ),
            ("io.weight", "8:0 50", "default 100\n", "8:0 default"),
            (
                "blkio.throttle.read_bps_device",
                "8:0 5",
                "8:0 9\n",
                "8:0 9",
            ),
            ("blkio.throttle.read_bps_device", "8:0 5", "", "8:0 0"),
            ("net_prio.ifpriomap", "lo 5", "lo 0\neth0 3\n", "lo 0"),
            (
                "rdma.max",
                "mlx hca_handle=5",
                "mlx hca_handle=max hca_object=max\n",
                "mlx hca_handle=max hca_object=max",
            ),
            (
                "memory.oom_control",
                "1",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
                "0",
            ),
            (
                "cgroup.subtree_control",
                "+pids -cpu",
                "cpu io\n",
                "-pids +cpu",
            ),
            ("cgroup.subtree_control", "+io", "cpu io\n", "+io"),
            (
                "memory.oom_control",
                "0",
                "oom_kill_disable 1\nunder_oom 0\noom_kill 0\n",
                "1",
            ),
        ] {
            assert_eq!(value_before(name, value, now), before, "{name}: {value}");
        }
    }
}
