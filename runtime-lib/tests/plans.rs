//! Goldens: the plan that each fixture gives on each kind of machine, word for word as
//! `explain` prints it. `CAPSID_BLESS=1 cargo test --test plans` writes them anew.

use std::path::{Path, PathBuf};

use capsid_runtime::cgroup::{CgroupPlan, Group, Hierarchy, Layout};
use capsid_runtime::container::{CgroupDriver, CreateOptions};
use capsid_runtime::plan::{CreateRequest, Host, Start, create};

const ALL_CAPABILITIES: u64 = (1 << 41) - 1;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn v1() -> Layout {
    let hierarchy = |controllers: &[&str], name: &str| Hierarchy {
        controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
        mount: Path::new("/sys/fs/cgroup").join(name),
        root: "/".into(),
        own: "/".into(),
    };
    Layout::Legacy {
        hierarchies: vec![
            hierarchy(&["cpu", "cpuacct"], "cpu,cpuacct"),
            hierarchy(&["memory"], "memory"),
            hierarchy(&["name=systemd"], "systemd"),
        ],
        unified: None,
    }
}

fn v2() -> Layout {
    Layout::Unified {
        mount: "/sys/fs/cgroup".into(),
        own: "/".into(),
    }
}

fn privileged(layout: Layout) -> Host {
    Host {
        euid: 0,
        egid: 0,
        capabilities: ALL_CAPABILITIES,
        own_ids: None,
        subordinate: None,
        layout,
        kcore: true,
    }
}

fn cgroups(layout: &Layout) -> CgroupPlan {
    let group = |controllers: &[String], mount: &Path| Group {
        controllers: controllers.to_vec(),
        mount: mount.to_path_buf(),
        path: "/web".into(),
    };
    match layout {
        Layout::Unified { mount, .. } => CgroupPlan {
            unified: Some(group(&[], mount)),
            ..CgroupPlan::default()
        },
        Layout::Legacy {
            hierarchies,
            unified,
        } => CgroupPlan {
            legacy: hierarchies
                .iter()
                .map(|h| group(&h.controllers, &h.mount))
                .collect(),
            unified: unified.as_ref().map(|h| group(&h.controllers, &h.mount)),
        },
        Layout::None => CgroupPlan::default(),
    }
}

fn plan_of(fixture: &str, host: &Host) -> String {
    let path = root().join("fixtures/good").join(fixture);
    let text = std::fs::read_to_string(&path).unwrap();
    let config: oci_spec::runtime::Spec = serde_json::from_str(&text).unwrap();
    let options = CreateOptions {
        cgroups: CgroupDriver::Cgroupfs,
        ..CreateOptions::default()
    };
    let request = CreateRequest {
        id: "web",
        bundle: Path::new("/bundle"),
        rootfs: Path::new("/bundle/rootfs"),
        state_dir: Path::new("/run/capsid/web"),
        cgroup: &cgroups(&host.layout),
        options: &options,
        start: Start::WhenTold,
    };
    create(&config, host, &request).unwrap().to_string()
}

fn golden(name: &str, actual: &str) {
    let path = root().join(format!("runtime-lib/tests/golden/{name}.txt"));
    if std::env::var_os("CAPSID_BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if expected == actual {
        return;
    }
    let line = |text: &str, n: usize| text.lines().nth(n).unwrap_or("(nothing)").to_owned();
    let count = expected.lines().count().max(actual.lines().count());
    for n in (0..count).filter(|n| line(&expected, *n) != line(actual, *n)) {
        println!("{}: - {}", n + 1, line(&expected, n));
        println!("{}: + {}", n + 1, line(actual, n));
    }
    panic!("the plan {name} has changed; CAPSID_BLESS=1 takes it over");
}

#[test]
fn the_default_configuration_on_cgroup_v1() {
    golden(
        "runc-spec-v1",
        &plan_of("runc-spec.json", &privileged(v1())),
    );
}

#[test]
fn the_default_configuration_on_cgroup_v2() {
    golden(
        "runc-spec-v2",
        &plan_of("runc-spec.json", &privileged(v2())),
    );
}
