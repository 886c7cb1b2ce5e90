//! Which directories and limits come out of which config on which host.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::json;

use super::super::layout::Hierarchy;
use super::super::mounts::CgroupMounts;
use super::super::permission::ROOTLESS;
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
            devices: &[],
            rootless: self.rootless,
            lenient: self.rootless,
            systemd: None,
            annotations: None,
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
    let actions = plan.describe(&limits);
    assert_eq!(actions.begin, ["mkdir /cg/unified/web"]);
    let lines = actions.finish;
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
    ];
    assert_eq!(lines[lines.len() - 3..], tail);
    let (plan, limits, _) = ask().of(&v2()).unwrap();
    let attach = "attach a program of 11 device rules to /cg/a/web";
    let actions = plan.describe(&limits);
    assert_eq!(actions.begin, ["mkdir /cg/a/web"]);
    assert_eq!(actions.finish, [attach]);
}

#[test]
fn the_neutral_values_that_engines_write_ask_for_nothing() {
    let docker = json!({
        "cpu": {"shares": 0},
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
    assert_eq!(plan.version(), Version::V1);
    let kept: CgroupPlan = serde_json::from_value(serde_json::to_value(&plan).unwrap()).unwrap();
    assert_eq!(kept, plan);
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

/// The plan, with systemd where it is said, of these annotations.
fn nested(
    layout: &Layout,
    systemd: bool,
    pairs: &[(&str, &str)],
) -> Result<(CgroupPlan, Vec<Notice>)> {
    let pairs = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let annotations = pairs.collect();
    let facts = SystemdFacts::of_system();
    let resources = json!({});
    let typed = serde_json::from_value(resources.clone()).unwrap();
    let request = CgroupRequest {
        driver: match systemd {
            true => CgroupDriver::Systemd,
            false => CgroupDriver::Cgroupfs,
        },
        path: None,
        id: "web",
        resources: Some(&typed),
        raw: Some(&resources),
        devices: &[],
        rootless: false,
        lenient: false,
        systemd: systemd.then_some(&facts),
        annotations: Some(&annotations),
    };
    CgroupPlan::resolve(layout, &request).map(|(plan, _, notices)| (plan, notices))
}

const SUBGROUP: &str = "run.oci.systemd.subgroup";
const DELEGATE: &str = "run.oci.delegate-cgroup";

#[test]
fn annotations_put_a_cgroup_below_the_units_and_one_below_that() {
    let scope = "/cg/system.slice/capsid-web.scope";
    for (annotations, own, delegated) in [
        (&[][..], scope.to_owned(), None),
        (&[(SUBGROUP, "")], scope.to_owned(), None),
        (&[(SUBGROUP, "box")], format!("{scope}/box"), None),
        (&[(SUBGROUP, "/a//b/")], format!("{scope}/a/b"), None),
        (
            &[(DELEGATE, "in")],
            scope.to_owned(),
            Some(format!("{scope}/in")),
        ),
        (
            &[(SUBGROUP, "box"), (DELEGATE, "in")],
            format!("{scope}/box"),
            Some(format!("{scope}/box/in")),
        ),
    ] {
        let (plan, notices) = nested(&v2(), true, annotations).unwrap();
        assert_eq!((dirs(&plan), notices), (vec![own.clone()], Vec::new()));
        assert_eq!(
            plan.given_away().map(|group| group.dir()),
            delegated.clone().map(PathBuf::from)
        );
        let unit = plan.systemd.as_ref().unwrap();
        assert_eq!(unit.dir(Path::new(&own)), Path::new(scope));
        let actions = plan.describe(&Limits::default());
        assert!(actions.begin.is_empty() && actions.finish.is_empty());
        assert!(
            actions
                .delegate
                .iter()
                .all(|line| line.starts_with("mkdir "))
        );
        let lines = [actions.place, actions.delegate].concat();
        let made = |dir: &str| {
            lines
                .iter()
                .any(|line| line.split(',').next() == Some(&format!("mkdir {dir}")))
        };
        assert_eq!(made(&own), own != scope, "{lines:?}");
        assert!(delegated.iter().all(|dir| made(dir)), "{lines:?}");
        // What the state keeps is what was planned.
        let kept = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<CgroupPlan>(&kept).unwrap(), plan);
    }
}

#[test]
fn explain_says_who_attaches_the_device_program() {
    let (mut plan, _) = nested(&v2(), true, &[]).unwrap();
    let (_, limits, _) = ask().of(&v2()).unwrap();
    let devices = |plan: &CgroupPlan| {
        let lines = plan.describe(&limits).place.into_iter();
        let about: Vec<_> = lines
            .filter(|line| line.contains(" device rules "))
            .collect();
        about
    };
    let scope = "/cg/system.slice/capsid-web.scope";
    let attached = format!("attach a program of 11 device rules to {scope}");
    plan.systemd.as_mut().unwrap().program = None;
    assert_eq!(devices(&plan), [attached]);
    plan.systemd.as_mut().unwrap().program = Some("/bpf/web".into());
    let kept = "keep a program of 11 device rules in /bpf/web, for systemd to attach";
    assert_eq!(devices(&plan), [kept]);
}

#[test]
fn without_systemd_a_cgroup_is_delegated_and_the_subgroup_is_a_notice() {
    let both = [(SUBGROUP, "box"), (DELEGATE, "in")];
    let (plan, notices) = nested(&v2(), false, &both).unwrap();
    assert_eq!(dirs(&plan), ["/cg/a/web"]);
    assert_eq!(
        plan.given_away().map(|group| group.dir()),
        Some("/cg/a/web/in".into())
    );
    let pointers: Vec<_> = notices.iter().map(|it| it.pointer.as_str()).collect();
    assert_eq!(pointers, [format!("/annotations/{SUBGROUP}")]);
}

#[test]
fn on_v1_a_cgroup_below_and_a_path_that_leads_elsewhere_are_refused() {
    for (layout, systemd, key, value, code) in [
        (hybrid(), true, SUBGROUP, "box", Code::Unsupported),
        (hybrid(), true, DELEGATE, "in", Code::Unsupported),
        (hybrid(), false, DELEGATE, "in", Code::Unsupported),
        (v2(), true, SUBGROUP, "../box", Code::InvalidConfig),
        (v2(), false, DELEGATE, "a/../../b", Code::InvalidConfig),
        (v2(), false, DELEGATE, "a\nb", Code::InvalidConfig),
    ] {
        let refused = nested(&layout, systemd, &[(key, value)]).unwrap_err();
        let pointer = format!("/annotations/{key}");
        assert_eq!(
            (refused.code(), refused.pointer()),
            (code, Some(pointer.as_str())),
            "{value}"
        );
    }
    assert!(nested(&hybrid(), true, &[(SUBGROUP, ""), (DELEGATE, "")]).is_ok());
}

proptest! {
    #[test]
    fn whatever_the_path_the_directory_is_below_the_mount(path in "[a/.\\\\ é]{0,12}") {
        let resources = json!({});
        let typed = serde_json::from_value(resources.clone()).unwrap();
        let request = CgroupRequest {
            driver: CgroupDriver::Cgroupfs,
            path: Some(Path::new(&path)),
            id: "web",
            resources: Some(&typed),
            raw: Some(&resources),
            devices: &[],
            rootless: false,
            lenient: false,
            systemd: None,
            annotations: None,
        };
        if let Ok((plan, ..)) = CgroupPlan::resolve(&v2(), &request) {
            let dir = plan.clone_into().unwrap();
            prop_assert!(dir.starts_with("/cg") && dir != Path::new("/cg"));
            prop_assert!(!dir.components().any(|c| c == std::path::Component::ParentDir));
        }
    }
}
