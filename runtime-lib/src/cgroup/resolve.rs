//! From a config and a layout to the directories a container gets and the limits in them.
//!
//! Pure but for one question: a rootless caller's permission to make a directory. Where the
//! directories go is a contract with engines, which look for a container's figures there.

use std::path::{Component, Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use oci_spec::runtime::LinuxResources;

use super::devices::{DevicePolicy, DeviceRules};
use super::layout::{Hierarchy, Layout};
use super::limits::{Limits, Version};
use super::plan::{CgroupPlan, Group, below};
use super::refused;
use crate::Notice;
use crate::container::CgroupDriver;
use crate::error::{Code, Error, Result};

const PATH: &str = "/linux/cgroupsPath";
const DEVICES: &str = "/linux/resources/devices";
const ROOTLESS: &str =
    "rootless needs no limits + no cgrouppath when no permission is granted for cgroups";

/// What a container asks for, and who asks.
#[derive(Clone, Copy, Debug)]
pub struct CgroupRequest<'a> {
    /// The driver.
    pub driver: CgroupDriver,
    /// linux.cgroupsPath. Empty is as good as absent.
    pub path: Option<&'a Path>,
    /// The container's id: the name of the default cgroup.
    pub id: &'a str,
    /// linux.resources.
    pub resources: Option<&'a LinuxResources>,
    /// linux.resources as it was written, for what the types cannot tell apart.
    pub raw: Option<&'a serde_json::Value>,
    /// The caller is not root, or root of a user namespace only: a cgroup that cannot be
    /// had is then no error, as long as nothing was asked of it.
    pub rootless: bool,
}

impl CgroupPlan {
    /// The directories and limits for one container.
    ///
    /// Without `cgroupsPath` a container lands in `ID` below the caller's own cgroup (v1), or
    /// beside the caller's own cgroup (v2); a relative path likewise; an absolute one counts
    /// from the mount.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] and [`Code::Unsupported`] with a JSON pointer, and
    /// [`Code::Cgroup`] when there is no cgroup to put the container in, though one is needed.
    pub fn resolve(
        layout: &Layout,
        request: &CgroupRequest<'_>,
    ) -> Result<(CgroupPlan, Limits, Vec<Notice>)> {
        let version = match layout {
            Layout::Legacy { .. } => Version::V1,
            Layout::Unified { .. } | Layout::None => Version::V2,
        };
        let mut notices = match request.resources {
            Some(resources) => refused::check(version, resources)?,
            None => Vec::new(),
        };
        let mut limits = Limits::read(version, request.resources, request.raw)?;
        let rules = DeviceRules::read(request.resources)?;
        let place = Place::read(request)?;
        let wanted = match (request.driver, layout) {
            (CgroupDriver::Disabled, _) => {
                disabled(&limits, &place, request, &mut notices)?;
                return Ok((CgroupPlan::default(), Limits::default(), notices));
            }
            (CgroupDriver::Cgroupfs, Layout::None) => CgroupPlan::default(),
            (CgroupDriver::Cgroupfs, Layout::Unified { mount, own }) => CgroupPlan {
                legacy: Vec::new(),
                unified: Some(group(mount, Vec::new(), place.beside(own))),
            },
            (
                CgroupDriver::Cgroupfs,
                Layout::Legacy {
                    hierarchies,
                    unified,
                },
            ) => CgroupPlan {
                legacy: hierarchies.iter().map(|h| place.in_legacy(h)).collect(),
                unified: unified.as_ref().map(|h| place.in_unified(h)),
            },
        };
        let plan = match request.rootless {
            true => permitted(wanted, &limits, &place, &mut notices)?,
            false if wanted.is_empty() => {
                return Err(
                    Error::new(Code::Cgroup, "cgroup mountpoint does not exist").hint(
                        "mount cgroup2 on /sys/fs/cgroup, or use the cgroup manager `disabled`",
                    ),
                );
            }
            false => wanted,
        };
        if version == Version::V1 {
            limits.need_mounted(&plan)?;
        }
        limits.devices = device_policy(&plan, rules, request, &mut notices)?;
        Ok((plan, limits, notices))
    }
}

/// The path that was asked for.
enum Place {
    /// From the mount.
    Absolute(PathBuf),
    /// From the caller's own cgroup or its parent. The default is the id.
    Relative { path: PathBuf, asked: bool },
}

impl Place {
    fn read(request: &CgroupRequest<'_>) -> Result<Place> {
        let refuse = |tail: &str| Err(Error::new(Code::InvalidConfig, tail).at(PATH));
        let Some(path) = request.path.filter(|p| !p.as_os_str().is_empty()) else {
            let path = PathBuf::from(request.id);
            return Ok(Place::Relative { path, asked: false });
        };
        let Some(text) = path.to_str() else {
            return refuse("not valid UTF-8");
        };
        if text.contains(['\0', '\n']) {
            return refuse("a NUL or a newline cannot be part of a cgroup's name");
        }
        let mut clean = PathBuf::new();
        for component in path.components() {
            match component {
                Component::Normal(name) if name.len() > 255 => return refuse("file name too long"),
                Component::Normal(name) => clean.push(name),
                Component::ParentDir => return refuse("`..` is not allowed in a cgroup path"),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        if clean.as_os_str().is_empty() {
            return refuse("the root of a hierarchy cannot be a container's cgroup");
        }
        if clean.as_os_str().len() > 3072 {
            return refuse("file name too long");
        }
        Ok(match path.is_absolute() {
            true => Place::Absolute(Path::new("/").join(clean)),
            false => Place::Relative {
                path: clean,
                asked: true,
            },
        })
    }

    fn asked(&self) -> bool {
        !matches!(self, Place::Relative { asked: false, .. })
    }

    /// v1's place: below the caller's own cgroup.
    fn within(&self, own: &Path) -> PathBuf {
        match self {
            Place::Absolute(path) => path.clone(),
            Place::Relative { path, .. } => own.join(path),
        }
    }

    /// cgroup2's: beside it, for a cgroup2 with processes has no limited children.
    fn beside(&self, own: &Path) -> PathBuf {
        self.within(own.parent().unwrap_or(own))
    }

    fn in_legacy(&self, hierarchy: &Hierarchy) -> Group {
        let path = self.within(&hierarchy.own_below_mount());
        group(&hierarchy.mount, hierarchy.controllers.clone(), path)
    }

    fn in_unified(&self, hierarchy: &Hierarchy) -> Group {
        group(
            &hierarchy.mount,
            Vec::new(),
            self.beside(&hierarchy.own_below_mount()),
        )
    }
}

fn group(mount: &Path, controllers: Vec<String>, path: PathBuf) -> Group {
    Group {
        controllers,
        mount: mount.to_path_buf(),
        path,
    }
}

/// No driver: whatever needs one is refused.
fn disabled(
    limits: &Limits,
    place: &Place,
    request: &CgroupRequest<'_>,
    notices: &mut Vec<Notice>,
) -> Result<()> {
    if let Some(setting) = limits.settings.first() {
        return Err(
            Error::new(Code::InvalidConfig, "the cgroup manager is disabled")
                .at(setting.row.pointer)
                .hint("a limit needs a cgroup"),
        );
    }
    if place.asked() {
        notices.push(Notice::new(PATH, "ignored: the cgroup manager is disabled"));
    }
    if lists_devices(request) {
        notices.push(Notice::new(
            DEVICES,
            "not enforced: the cgroup manager is disabled",
        ));
    }
    Ok(())
}

fn lists_devices(request: &CgroupRequest<'_>) -> bool {
    let devices = request.resources.and_then(|r| r.devices().as_ref());
    devices.is_some_and(|list| !list.is_empty())
}

/// What of the plan a rootless caller can have: everything that something was asked of, or an
/// error; of the rest what is permitted.
fn permitted(
    wanted: CgroupPlan,
    limits: &Limits,
    place: &Place,
    notices: &mut Vec<Notice>,
) -> Result<CgroupPlan> {
    let (may, may_not): (Vec<_>, Vec<_>) = wanted.legacy.into_iter().partition(may_make);
    let (unified, no_unified) = match wanted.unified {
        Some(group) if may_make(&group) => (Some(group), None),
        other => (None, other),
    };
    let plan = CgroupPlan {
        legacy: may,
        unified,
    };
    let refused: Vec<Group> = may_not.into_iter().chain(no_unified).collect();
    if refused.is_empty() && !plan.is_empty() {
        return Ok(plan);
    }
    let needed = limits
        .settings
        .iter()
        .find(|s| plan.is_empty() || refused.iter().any(|group| group.has(s.row.controller)));
    let pointer = needed
        .map(|s| s.row.pointer)
        .or(place.asked().then_some(PATH));
    if let Some(pointer) = pointer {
        let error = Error::new(Code::Cgroup, ROOTLESS).at(pointer);
        return Err(match refused.first() {
            Some(group) => error.path(parent(group)),
            None => error.hint("no cgroup file system is mounted"),
        });
    }
    let names: Vec<String> = refused.iter().map(name).collect();
    let names = names.join(", ");
    let text = format!("no permission to make a cgroup: it stays in its creator's ({names})");
    notices.push(Notice::new(PATH, text));
    Ok(plan)
}

fn name(group: &Group) -> String {
    match group.controllers.is_empty() {
        true => "cgroup2".to_owned(),
        false => group.controllers.join(","),
    }
}

fn parent(group: &Group) -> PathBuf {
    below(&group.mount, group.path.parent().unwrap_or(&group.path))
}

/// Whether the caller may make the directory, by its nearest parent that exists.
fn may_make(group: &Group) -> bool {
    let dir = group.dir();
    let existing = dir
        .ancestors()
        .skip(1)
        .find(|a| access(*a, AccessFlags::F_OK).is_ok());
    existing.is_some_and(|a| {
        a.starts_with(&group.mount) && access(a, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
    })
}

/// How the device rules are enforced here.
fn device_policy(
    plan: &CgroupPlan,
    rules: DeviceRules,
    request: &CgroupRequest<'_>,
    notices: &mut Vec<Notice>,
) -> Result<Option<DevicePolicy>> {
    if request.rootless {
        // Neither bpf(2) nor devices.allow is open to it, and mknod(2) is not either.
        if lists_devices(request) {
            let text = "not enforced: a rootless container cannot make device nodes anyway";
            notices.push(Notice::new(DEVICES, text));
        }
        return Ok(None);
    }
    if plan.legacy.iter().any(|group| group.has("devices")) {
        return Ok(Some(DevicePolicy::Files(rules.exceptions()?)));
    }
    match plan.unified {
        Some(_) => Ok(Some(DevicePolicy::Program(rules))),
        None => Err(Error::new(Code::Cgroup, "devices cgroup isn't mounted").at(DEVICES)),
    }
}

impl Limits {
    /// v1: a limit whose controller has no hierarchy cannot be set.
    fn need_mounted(&self, plan: &CgroupPlan) -> Result<()> {
        let homeless = |row: &str| !plan.legacy.iter().any(|group| group.has(row));
        match self.settings.iter().find(|s| homeless(s.row.controller)) {
            Some(setting) => {
                let controller = setting.row.controller;
                let tail = format!("{controller} cgroup isn't mounted");
                Err(Error::new(Code::Cgroup, tail).at(setting.row.pointer))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::mounts::CgroupMounts;
    use super::*;

    fn hierarchy(controllers: &[&str], mount: &str, own: &str) -> Hierarchy {
        Hierarchy {
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
            mount: mount.into(),
            root: "/".into(),
            own: own.into(),
        }
    }

    fn hybrid() -> Layout {
        Layout::Legacy {
            hierarchies: vec![
                hierarchy(&["cpu", "cpuacct"], "/cg/cpu,cpuacct", "/job"),
                hierarchy(&["memory"], "/cg/memory", "/job"),
                hierarchy(&["devices"], "/cg/devices", "/"),
                hierarchy(&["cpuset"], "/cg/cpuset", "/"),
                hierarchy(&["name=systemd"], "/cg/systemd", "/job"),
            ],
            unified: Some(hierarchy(&[], "/cg/unified", "/job")),
        }
    }

    fn v2() -> Layout {
        Layout::Unified {
            mount: "/cg".into(),
            own: "/a/own".into(),
        }
    }

    struct Ask {
        path: Option<&'static str>,
        resources: serde_json::Value,
        driver: CgroupDriver,
        rootless: bool,
    }

    fn ask() -> Ask {
        Ask {
            path: None,
            resources: json!({}),
            driver: CgroupDriver::Cgroupfs,
            rootless: false,
        }
    }

    impl Ask {
        fn of(&self, layout: &Layout) -> Result<(CgroupPlan, Limits, Vec<Notice>)> {
            let resources = serde_json::from_value(self.resources.clone()).unwrap();
            let request = CgroupRequest {
                driver: self.driver,
                path: self.path.map(Path::new),
                id: "web",
                resources: Some(&resources),
                raw: Some(&self.resources),
                rootless: self.rootless,
            };
            CgroupPlan::resolve(layout, &request)
        }

        fn refusal(&self, layout: &Layout) -> Error {
            self.of(layout).map(|(plan, ..)| plan).unwrap_err()
        }
    }

    fn dirs(plan: &CgroupPlan) -> Vec<String> {
        plan.groups()
            .map(|g| g.dir().display().to_string())
            .collect()
    }

    #[test]
    fn the_default_is_below_the_own_cgroup_on_v1_and_beside_it_on_v2() {
        let (plan, ..) = ask().of(&hybrid()).unwrap();
        assert_eq!(
            dirs(&plan),
            [
                "/cg/cpu,cpuacct/job/web",
                "/cg/memory/job/web",
                "/cg/devices/web",
                "/cg/cpuset/web",
                "/cg/systemd/job/web",
                "/cg/unified/web",
            ]
        );
        assert_eq!(plan.tasks_files().len(), 5);
        assert_eq!(plan.clone_into().unwrap(), Path::new("/cg/unified/web"));
        let (plan, ..) = ask().of(&v2()).unwrap();
        assert_eq!(dirs(&plan), ["/cg/a/web"]);
        assert!(plan.tasks_files().is_empty());
    }

    #[test]
    fn an_absolute_path_counts_from_the_mount_and_a_relative_one_from_the_default_place() {
        let absolute = Ask {
            path: Some("/pods//x/./y"),
            ..ask()
        };
        let (plan, ..) = absolute.of(&hybrid()).unwrap();
        assert_eq!(dirs(&plan)[1], "/cg/memory/pods/x/y");
        assert_eq!(dirs(&plan)[5], "/cg/unified/pods/x/y");
        let relative = Ask {
            path: Some("pods/x"),
            ..ask()
        };
        let (plan, ..) = relative.of(&hybrid()).unwrap();
        assert_eq!(dirs(&plan)[1], "/cg/memory/job/pods/x");
        assert_eq!(dirs(&plan)[5], "/cg/unified/pods/x");
        let (plan, ..) = relative.of(&v2()).unwrap();
        assert_eq!(dirs(&plan), ["/cg/a/pods/x"]);
        let empty = Ask {
            path: Some(""),
            ..ask()
        };
        assert_eq!(dirs(&empty.of(&v2()).unwrap().0), ["/cg/a/web"]);
    }

    #[test]
    fn b33_paths_that_leave_their_place_are_refused() {
        let long: &'static str = "/0123456789".repeat(300).leak();
        for path in ["../x", "/a/../b", "/", ".", "/a\nb", "/a\0b", long] {
            let error = Ask {
                path: Some(path),
                ..ask()
            }
            .refusal(&v2());
            assert_eq!(error.pointer(), Some("/linux/cgroupsPath"), "{path}");
        }
    }

    #[test]
    fn the_plan_survives_its_journal() {
        for layout in [hybrid(), v2()] {
            let (plan, ..) = ask().of(&layout).unwrap();
            let text = serde_json::to_string(&plan).unwrap();
            assert_eq!(serde_json::from_str::<CgroupPlan>(&text).unwrap(), plan);
        }
        assert_eq!(
            serde_json::from_str::<CgroupPlan>("{}").unwrap(),
            CgroupPlan::default()
        );
    }

    #[test]
    fn every_action_is_printed() {
        let resources = json!({"cpu": {"shares": 512}, "memory": {"limit": 4194304}});
        let (plan, limits, _) = Ask { resources, ..ask() }.of(&hybrid()).unwrap();
        let lines = plan.describe(&limits);
        let expected = [
            "mkdir /cg/cpu,cpuacct/job/web",
            "write 512 to /cg/cpu,cpuacct/job/web/cpu.shares",
            "mkdir /cg/memory/job/web",
            "write 4194304 to /cg/memory/job/web/memory.limit_in_bytes",
            "mkdir /cg/devices/web",
            "write a to /cg/devices/web/devices.deny",
            "write b *:* m to /cg/devices/web/devices.allow",
        ];
        assert_eq!(lines[..7], expected);
        let tail = [
            "mkdir /cg/cpuset/web",
            "copy cpuset.cpus and cpuset.mems from the parent to /cg/cpuset/web",
            "mkdir /cg/systemd/job/web",
            "mkdir /cg/unified/web",
        ];
        assert_eq!(lines[lines.len() - 4..], tail);
        let (plan, limits, _) = ask().of(&v2()).unwrap();
        let attach = "attach a program of 11 device rules to /cg/a/web";
        assert_eq!(plan.describe(&limits), ["mkdir /cg/a/web", attach]);
    }

    #[test]
    fn fields_of_later_versions_are_refused_and_neutral_values_are_not() {
        let rows = [
            (json!({"cpu": {"burst": 1}}), "/linux/resources/cpu/burst"),
            (json!({"cpu": {"idle": 1}}), "/linux/resources/cpu/idle"),
            (
                json!({"cpu": {"realtimeRuntime": 1}}),
                "/linux/resources/cpu/realtimeRuntime",
            ),
            (
                json!({"memory": {"swappiness": 60}}),
                "/linux/resources/memory/swappiness",
            ),
            (
                json!({"memory": {"disableOOMKiller": true}}),
                "/linux/resources/memory/disableOOMKiller",
            ),
            (
                json!({"blockIO": {"weight": 10}}),
                "/linux/resources/blockIO/weight",
            ),
            (
                json!({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}]}}),
                "/linux/resources/blockIO/throttleReadBpsDevice",
            ),
            (
                json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}),
                "/linux/resources/hugepageLimits",
            ),
            (
                json!({"network": {"classID": 1}}),
                "/linux/resources/network/classID",
            ),
            (
                json!({"rdma": {"mlx": {"hcaHandles": 1}}}),
                "/linux/resources/rdma",
            ),
            (
                json!({"unified": {"memory.high": "1"}}),
                "/linux/resources/unified",
            ),
            (
                json!({"unified": {"a/b": "1"}}),
                "/linux/resources/unified/a~1b",
            ),
        ];
        for (resources, pointer) in rows {
            assert_eq!(
                Ask { resources, ..ask() }.refusal(&v2()).pointer(),
                Some(pointer)
            );
        }
        let docker = json!({
            "cpu": {"shares": 0, "idle": 0, "burst": 0},
            "memory": {"disableOOMKiller": false, "swappiness": null, "kernel": 0},
            "blockIO": {"weight": 0, "leafWeight": 0, "weightDevice": []},
            "hugepageLimits": [], "network": {"classID": 0}, "rdma": {}, "unified": {},
        });
        let (_, limits, notices) = Ask {
            resources: docker,
            ..ask()
        }
        .of(&v2())
        .unwrap();
        assert!(limits.settings.is_empty() && notices.is_empty());
    }

    #[test]
    fn b42_unified_is_refused_on_v1() {
        let resources = json!({"unified": {"memory.high": "1"}});
        let error = Ask { resources, ..ask() }.refusal(&hybrid());
        assert_eq!(
            error.tail(),
            "invalid configuration: cannot use unified on cgroup v1"
        );
    }

    #[test]
    fn kernel_memory_is_ignored_with_a_notice() {
        let resources = json!({"memory": {"kernel": 1, "kernelTCP": 1}});
        let (_, _, notices) = Ask { resources, ..ask() }.of(&v2()).unwrap();
        let pointers: Vec<_> = notices.iter().map(|n| n.pointer.as_str()).collect();
        let expected = [
            "/linux/resources/memory/kernel",
            "/linux/resources/memory/kernelTCP",
        ];
        assert_eq!(pointers, expected);
    }

    #[test]
    fn a_limit_without_its_controller_is_refused() {
        let resources = json!({"pids": {"limit": 5}});
        let error = Ask { resources, ..ask() }.refusal(&hybrid());
        assert_eq!(error.pointer(), Some("/linux/resources/pids/limit"));
        assert_eq!(error.tail(), "pids cgroup isn't mounted");
    }

    #[test]
    fn a_disabled_driver_refuses_limits_and_mentions_the_rest() {
        let driver = CgroupDriver::Disabled;
        let limit = Ask {
            driver,
            resources: json!({"pids": {"limit": 5}}),
            ..ask()
        };
        assert_eq!(
            limit.refusal(&v2()).pointer(),
            Some("/linux/resources/pids/limit")
        );
        let devices = json!({"devices": [{"allow": false, "access": "rwm"}]});
        let rest = Ask {
            driver,
            path: Some("/x"),
            resources: devices,
            ..ask()
        };
        let (plan, _, notices) = rest.of(&v2()).unwrap();
        assert!(plan.is_empty());
        assert_eq!(notices.len(), 2);
    }

    #[test]
    fn rootless_without_permission_runs_without_a_cgroup_when_nothing_is_asked_of_it() {
        // /cg does not exist here, which is as good as no permission.
        let (plan, _, notices) = Ask {
            rootless: true,
            ..ask()
        }
        .of(&hybrid())
        .unwrap();
        assert!(plan.is_empty());
        assert_eq!(notices[0].pointer, "/linux/cgroupsPath");
        let limits = json!({"memory": {"limit": 4194304}});
        let limit = Ask {
            rootless: true,
            resources: limits,
            ..ask()
        }
        .refusal(&hybrid());
        assert_eq!(
            (limit.pointer(), limit.tail()),
            (Some("/linux/resources/memory/limit"), ROOTLESS)
        );
        let path = Ask {
            rootless: true,
            path: Some("/x"),
            ..ask()
        }
        .refusal(&v2());
        assert_eq!(
            (path.pointer(), path.tail()),
            (Some("/linux/cgroupsPath"), ROOTLESS)
        );
    }

    #[test]
    fn without_a_cgroup_mount_root_is_refused() {
        let error = ask().refusal(&Layout::None);
        assert_eq!(error.tail(), "cgroup mountpoint does not exist");
    }

    #[test]
    fn a_containers_cgroup_mounts_show_its_own_directories() {
        let (plan, ..) = ask().of(&hybrid()).unwrap();
        let CgroupMounts::Legacy(mounts) = plan.mounts(&hybrid()) else {
            panic!("v1")
        };
        assert_eq!(mounts[0].name, "cpu,cpuacct");
        assert_eq!(mounts[0].links, ["cpu", "cpuacct"]);
        assert_eq!(mounts[0].options, "cpu,cpuacct");
        assert_eq!(mounts[4].options, "none,name=systemd");
        assert_eq!(mounts[4].dir, Path::new("/cg/systemd/job/web"));
        let none = CgroupPlan::default();
        let dir = PathBuf::from("/cg/a/own");
        assert_eq!(
            none.mounts(&v2()),
            CgroupMounts::Unified {
                mount: "/cg".into(),
                dir
            }
        );
    }
}
