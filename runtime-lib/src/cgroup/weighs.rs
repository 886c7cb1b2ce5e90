//! Whether anything shares disks out by weights here: the kernel takes a weight also where nothing does.

use std::fs;
use std::path::Path;

use super::file;
use super::limits::{Limits, Version};
use super::plan::CgroupPlan;
use crate::Notice;

const WEIGHT: &str = "/linux/resources/blockIO/weight";
const DISKS: &str = "/sys/block";

impl CgroupPlan {
    /// What is to be said of a weight that no disk knows. (A weight for one disk alone is refused by
    /// the kernel.) It looks at the disks only where one is asked for.
    pub(super) fn unweighed(&self, limits: &Limits) -> Option<Notice> {
        let asked = limits.settings.iter().any(|s| s.row.pointer == WEIGHT);
        if !asked || self.is_empty() || scheduled_by_weight(Path::new(DISKS)) != Some(false) {
            return None;
        }
        let costs = match (self.version(), &self.unified) {
            (Version::V2, Some(group)) => costs_counted(&group.mount)?,
            _ => false,
        };
        let text = "has no effect: no disk has a scheduler that weighs (bfq, in queue/scheduler of \
                    /sys/block), nor are the costs of one counted (io.cost.qos)";
        (!costs).then(|| Notice::new(WEIGHT, text))
    }
}

/// Whether one of the disks has a scheduler that weighs. None: they can't be seen.
fn scheduled_by_weight(disks: &Path) -> Option<bool> {
    let weighs = |disk: fs::DirEntry| {
        let scheduler = file::read_line(&disk.path().join("queue/scheduler"));
        scheduler.is_ok_and(|list| list.contains("[bfq]") || list.contains("[cfq]"))
    };
    Some(fs::read_dir(disks).ok()?.flatten().any(weighs))
}

/// Whether the cost of one of the disks is counted, which only the root of cgroup2 tells. None: the
/// root can't be seen.
fn costs_counted(mount: &Path) -> Option<bool> {
    match file::read_whole(&mount.join("io.cost.qos")) {
        Ok(text) => Some(String::from_utf8_lossy(&text).contains("enable=1")),
        // Every other directory has a type.
        Err(_) => (!mount.join("cgroup.type").exists()).then_some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_weighs_by_the_scheduler_that_it_has_and_not_by_those_it_could_have() {
        let place = tempfile::tempdir().unwrap();
        let disk = |name: &str, schedulers: &str| {
            let queue = place.path().join(name).join("queue");
            fs::create_dir_all(&queue).unwrap();
            fs::write(queue.join("scheduler"), schedulers).unwrap();
        };
        assert_eq!(scheduled_by_weight(place.path()), Some(false));
        disk("vda", "[none] mq-deadline kyber bfq\n");
        assert_eq!(scheduled_by_weight(place.path()), Some(false));
        disk("sda", "none mq-deadline [bfq]\n");
        assert_eq!(scheduled_by_weight(place.path()), Some(true));
        assert_eq!(scheduled_by_weight(&place.path().join("none")), None);
    }

    #[test]
    fn costs_are_counted_where_the_root_says_so() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        assert_eq!(costs_counted(root), Some(false));
        fs::write(root.join("io.cost.qos"), "8:0 enable=0 ctrl=auto\n").unwrap();
        assert_eq!(costs_counted(root), Some(false));
        fs::write(root.join("io.cost.qos"), "8:0 enable=0\n8:16 enable=1\n").unwrap();
        assert_eq!(costs_counted(root), Some(true));
        fs::remove_file(root.join("io.cost.qos")).unwrap();
        fs::write(root.join("cgroup.type"), "domain\n").unwrap();
        assert_eq!(costs_counted(root), None);
    }
}
