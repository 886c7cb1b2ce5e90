//! Goldens: the plan that each fixture gives on a kind of machine, word for word as `explain`
//! prints it. `CAPSID_BLESS=1 cargo test --test plans` writes them anew.

use std::path::{Path, PathBuf};

use capsid_runtime::Result;
use capsid_runtime::cgroup::{CgroupPlan, Group, Hierarchy, Layout};
use capsid_runtime::container::{CreateOptions, ExecOptions, Overlay};
use capsid_runtime::host::{Host, Modules, OwnIds, Subordinate};
use capsid_runtime::lxcfs::Lxcfs;
use capsid_runtime::plan::{
    AddRequest, Conditions, CreateRequest, Entrance, ExecRequest, IdMap, Limiter, Plan, Scorer,
    Start, add_mount, create, exec, remove_mount, validate,
};
use capsid_runtime::rdt;
use capsid_runtime::spec::Spec;
use nix::sched::CloneFlags;
use proptest::prelude::*;

const ALL_CAPABILITIES: u64 = (1 << 41) - 1;

/// The machines and callers that the goldens are made for.
#[derive(Clone, Copy, Debug)]
enum Machine {
    V1,
    V2,
    Hybrid,
    /// An ordinary user with subordinate ids, on v2.
    Rootless,
    /// The same without newuidmap(1).
    RootlessAlone,
    /// Root without CAP_MKNOD, on v1.
    Nested,
    /// Root of a user namespace, as rootless engines call the runtime, on v2.
    InUserNamespace,
}
use Machine::*;

/// Golden, fixture, machine, and what create is told besides.
type Case = (&'static str, &'static str, Machine, fn() -> CreateOptions);

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("runc-spec-v1", "runc-spec", V1, plain),
    ("runc-spec-v2", "runc-spec", V2, plain),
    ("runc-spec-hybrid", "runc-spec", Hybrid, plain),
    ("runc-spec-nested", "runc-spec", Nested, plain),
    ("runc-spec-rootless-user", "runc-spec", Rootless, plain),
    ("runc-spec-rootless-single-id", "runc-spec", RootlessAlone, plain),
    ("runc-spec-overlay", "runc-spec", V2, overlay),
    ("runc-spec-rootless-overlay", "runc-spec", Rootless, overlay),
    ("runc-spec-no-pivot", "runc-spec", V2, no_pivot),
    ("runc-spec-lxcfs", "runc-spec", V2, lxcfs),
    ("docker-userns-remap-lxcfs", "docker-userns-remap", V2, lxcfs),
    ("rootless-own-id", "rootless-own-id", Rootless, plain),
    ("docker-v1", "docker", V1, plain),
    ("docker-v2", "docker", V2, plain),
    ("docker-host-network", "docker-host-network", V2, plain),
    ("docker-userns-remap-v2", "docker-userns-remap", V2, plain),
    ("docker-userns-remap-v1", "docker-userns-remap", V1, plain),
    ("containerd-ctr", "containerd-ctr", V2, plain),
    ("cri-sandbox", "cri-sandbox", V2, plain),
    ("cri-container", "cri-container", V2, plain),
    ("cri-container-shared-pid", "cri-container-shared-pid", V1, plain),
    ("cri-container-pod-userns", "cri-container-pod-userns", V2, plain),
    ("podman-rootless", "podman-rootless", InUserNamespace, plain),
    ("host-namespaces", "host-namespaces", V2, plain),
    ("host-namespaces-nested", "host-namespaces", InUserNamespace, plain),
    ("userns-without-maps-nested", "userns-without-maps", InUserNamespace, plain),
    ("userns-host-pid-v1", "userns-host-pid", V1, plain),
    ("userns-host-pid-v2", "userns-host-pid", V2, plain),
    ("userns-without-maps", "userns-without-maps", V2, plain),
    ("time-offsets", "time-offsets", V2, plain),
    ("time-namespace", "time-namespace", V2, plain),
    ("shared-root", "shared-root", V2, plain),
    ("scheduled", "scheduled", V2, plain),
    ("labels", "labels", V2, plain),
    ("net-devices", "net-devices", V1, plain),
    ("intel-rdt", "intel-rdt", V2, plain),
    ("host-dev", "host-dev", V2, plain),
    ("no-process", "no-process", V2, plain),
    ("read-only-cgroups", "read-only-cgroups", V1, plain),
    ("mount-below-cgroups", "mount-below-cgroups", V1, plain),
    ("hooks-v1", "hooks", V1, plain),
    ("hooks-v2", "hooks", V2, plain),
    ("every-kind-of-mount-v1", "every-kind-of-mount", V1, plain),
    ("no-mount-namespace", "no-mount-namespace", V1, plain),
    ("every-kind-of-mount", "every-kind-of-mount", V2, plain),
    ("idmaps-in-a-userns", "idmaps-in-a-userns", V2, plain),
    ("everything-v1", "everything", V1, everything),
    ("everything-v2", "everything", V2, everything),
];

fn plain() -> CreateOptions {
    CreateOptions::default()
}

fn overlay() -> CreateOptions {
    CreateOptions {
        overlay: Some(Overlay {
            keep: None,
            lower: vec!["/layers/base".into(), "/layers/app".into()],
        }),
        ..plain()
    }
}

fn no_pivot() -> CreateOptions {
    CreateOptions {
        no_pivot: true,
        no_new_keyring: true,
        ..plain()
    }
}

fn lxcfs() -> CreateOptions {
    CreateOptions {
        lxcfs: Some("/var/lib/lxcfs".into()),
        ..plain()
    }
}

fn everything() -> CreateOptions {
    CreateOptions {
        overlay: Some(Overlay {
            keep: Some("/kept".into()),
            lower: Vec::new(),
        }),
        preserve_fds: 2,
        ..plain()
    }
}

impl Machine {
    fn host(self) -> Host {
        let root = Host {
            euid: 0,
            egid: 0,
            capabilities: ALL_CAPABILITIES,
            own_ids: None,
            subordinate: None,
            layout: self.layout(),
            modules: Modules {
                apparmor: true,
                selinux: true,
            },
            kernel_views: vec![c"/sys".to_owned(), c"/proc".to_owned()],
            shows_cgroups: Vec::new(),
            kcore: true,
        };
        let helpers = || Some(("/usr/bin/newuidmap".into(), "/usr/bin/newgidmap".into()));
        let user = |helpers| Host {
            euid: 1000,
            egid: 1000,
            capabilities: 0,
            subordinate: Some(Subordinate {
                uid: vec![(100_000, 65_536)],
                gid: vec![(100_000, 65_536)],
                helpers,
                name: Some("alice".to_owned()),
                free: 165_536,
            }),
            ..root.clone()
        };
        match self {
            V1 | V2 | Hybrid => root,
            Nested => Host {
                capabilities: ALL_CAPABILITIES
                    & !caps::Capability::CAP_MKNOD.bitmask()
                    & !caps::Capability::CAP_SYS_RESOURCE.bitmask(),
                kcore: false,
                ..root
            },
            InUserNamespace => Host {
                own_ids: Some(OwnIds {
                    uid: own_ids(1000),
                    gid: own_ids(1000),
                }),
                ..root
            },
            Rootless => user(helpers()),
            RootlessAlone => user(None),
        }
    }

    fn layout(self) -> Layout {
        let hierarchy = |controllers: &[&str], name: &str| Hierarchy {
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
            mount: Path::new("/sys/fs/cgroup").join(name),
            root: "/".into(),
            own: "/".into(),
        };
        let unified = || hierarchy(&[], "unified");
        match self {
            V1 | Hybrid | Nested => Layout::Legacy {
                hierarchies: vec![
                    hierarchy(&["cpu", "cpuacct"], "cpu,cpuacct"),
                    hierarchy(&["memory"], "memory"),
                    hierarchy(&["name=systemd"], "systemd"),
                ],
                unified: matches!(self, Hybrid).then(unified),
            },
            V2 | Rootless | RootlessAlone | InUserNamespace => Layout::Unified {
                mount: "/sys/fs/cgroup".into(),
                own: "/user.slice".into(),
            },
        }
    }
}

fn own_ids(user: u32) -> Vec<IdMap> {
    let line = |container, host, size| IdMap {
        container,
        host,
        size,
    };
    vec![line(0, user, 1), line(1, 100_000, 65_536)]
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
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
            ..CgroupPlan::default()
        },
        Layout::None => CgroupPlan::default(),
    }
}

fn spec(fixture: &str) -> Spec {
    let path = root().join(format!("fixtures/good/{fixture}.json"));
    Spec::read(&path).unwrap()
}

fn resctrl(config: &oci_spec::runtime::Spec) -> Option<rdt::Group> {
    let linux = config.linux().as_ref();
    let asked = linux.and_then(|linux| linux.intel_rdt().as_ref());
    asked.map(|asked| rdt::Group::resolve(asked, "web", Some("/resctrl".as_ref())).unwrap())
}

fn try_plan(spec: &Spec, machine: Machine, options: &CreateOptions) -> Result<Plan> {
    let host = machine.host();
    let lxcfs = Lxcfs {
        directory: "/var/lib/lxcfs".into(),
        files: vec![
            "proc/meminfo",
            "proc/uptime",
            "sys/devices/system/cpu/online",
        ],
        pointer: None,
    };
    let rdt = resctrl(&spec.config);
    let request = CreateRequest {
        id: "web",
        bundle: Path::new("/bundle"),
        rootfs: Path::new("/bundle/rootfs"),
        state_dir: Path::new("/run/capsid/web"),
        cgroup: &cgroups(&host.layout),
        options,
        lxcfs: options.lxcfs.as_ref().map(|_| &lxcfs),
        rdt: rdt.as_ref(),
        conditions: &Conditions::of(&spec.config)?,
        start: Start::WhenTold,
        filter: None,
    };
    create(&spec.config, &host, &request)
}

fn exec_plan(fixture: &str, euid: u32, namespaces: CloneFlags, layout: &Layout) -> Plan {
    let config = spec(fixture).config;
    let process = config.process().clone().unwrap();
    let options = ExecOptions {
        process,
        ..ExecOptions::default()
    };
    let rdt = resctrl(&config);
    let request = ExecRequest {
        id: "web",
        scorer: match euid {
            0 => Scorer::Parent,
            _ => Scorer::Child,
        },
        init: std::fs::File::open("/dev/null").unwrap().into(),
        root: None,
        namespaces,
        groups_denied: false,
        cgroup: &cgroups(layout),
        options: &options,
        rdt: rdt.as_ref(),
        conditions: &Conditions::of(&config).unwrap(),
        modules: Modules {
            apparmor: true,
            selinux: true,
        },
        limiter: Limiter::Parent,
        inherits_keyring: false,
        filter: None,
        hook: None,
    };
    exec(request).unwrap()
}

/// The lines that differ, or nothing.
fn compare(name: &str, actual: &str) -> Vec<String> {
    let path = root().join(format!("fixtures/plans/{name}.txt"));
    if std::env::var_os("CAPSID_BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let (old, new): (Vec<_>, Vec<_>) = (expected.lines().collect(), actual.lines().collect());
    if old == new {
        return Vec::new();
    }
    let same = |pair: &(&&str, &&str)| pair.0 == pair.1;
    let head = old.iter().zip(&new).take_while(same).count();
    let (old, new) = (&old[head..], &new[head..]);
    let ends = old.iter().rev().zip(new.iter().rev());
    let tail = ends.take_while(same).count();
    let gone = old[..old.len() - tail].iter();
    let come = new[..new.len() - tail].iter();
    std::iter::once(format!("{name}, from line {}:", head + 1))
        .chain(gone.map(|line| format!("- {line}")))
        .chain(come.map(|line| format!("+ {line}")))
        .collect()
}

#[test]
fn every_fixture_gives_its_golden_plan() {
    let mut differences = Vec::new();
    for (golden, fixture, machine, options) in CASES {
        let plan = try_plan(&spec(fixture), *machine, &options()).unwrap();
        differences.extend(compare(golden, &plan.to_string()));
    }
    assert!(
        differences.is_empty(),
        "plans have changed; CAPSID_BLESS=1 takes them over\n{}",
        differences.join("\n")
    );
}

#[test]
fn every_kind_of_exec_gives_its_golden_plan() {
    use CloneFlags as F;
    let usual = F::CLONE_NEWNS | F::CLONE_NEWPID | F::CLONE_NEWNET | F::CLONE_NEWIPC;
    let user = usual | F::CLONE_NEWUSER;
    let cases = [
        ("exec-v1", "runc-spec", 0, usual, V1),
        ("exec-v2", "docker", 0, usual, V2),
        ("exec-userns", "everything", 0, user, V2),
        ("exec-rootless", "podman-rootless", 1000, user, Rootless),
        ("exec-host-pid", "containerd-ctr", 0, F::CLONE_NEWNS, V2),
        ("exec-labels", "labels", 0, usual, V2),
        ("exec-intel-rdt", "intel-rdt", 0, usual, V2),
        ("exec-scheduled-v1", "scheduled", 0, usual, V1),
        ("exec-scheduled-v2", "scheduled", 0, usual, V2),
    ];
    let mut differences = Vec::new();
    for (golden, fixture, euid, namespaces, machine) in cases {
        let plan = exec_plan(fixture, euid, namespaces, &machine.layout());
        differences.extend(compare(golden, &plan.to_string()));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn every_kind_of_live_mount_gives_its_golden_plan() {
    use CloneFlags as F;
    let user = F::CLONE_NEWNS | F::CLONE_NEWUSER;
    let place = |namespaces, may_clone| Entrance {
        init: std::fs::File::open("/dev/null").unwrap().into(),
        namespaces,
        may_clone,
    };
    let entry = |fstype: &str, options: &[&str]| {
        let mut entry = oci_spec::runtime::Mount::default();
        entry
            .set_destination("/new/place".into())
            .set_typ(Some(fstype.to_owned()))
            .set_source(Some("data".into()))
            .set_options(Some(
                options.iter().map(|word| (*word).to_owned()).collect(),
            ));
        entry
    };
    let add = |place, entry: &oci_spec::runtime::Mount| {
        let request = AddRequest {
            entry,
            source: "/srv/data".into(),
            shows_cgroups: false,
            linux: None,
            modules: Modules::default(),
        };
        add_mount(place, &request).unwrap()
    };
    let bind = entry("bind", &["rbind", "rro", "nosuid"]);
    // Read-only to the bottom, in a user namespace (CVE-2023-25809).
    let sys = |place| {
        let entry = &entry("bind", &["rbind", "ro"]);
        let request = AddRequest {
            entry,
            source: "/sys".into(),
            shows_cgroups: true,
            linux: None,
            modules: Modules::default(),
        };
        add_mount(place, &request).unwrap()
    };
    let tmpfs = entry("tmpfs", &["size=64m", "noexec"]);
    let path = Path::new("/new/place");
    let cases = [
        ("mounts-add", add(place(F::CLONE_NEWNS, true), &bind)),
        ("mounts-add-userns", add(place(user, true), &bind)),
        ("mounts-add-rootless", add(place(user, false), &bind)),
        ("mounts-add-sys", sys(place(F::CLONE_NEWNS, true))),
        ("mounts-add-sys-userns", sys(place(user, true))),
        ("mounts-add-tmpfs", add(place(user, false), &tmpfs)),
        (
            "mounts-remove",
            remove_mount(place(user, false), path, false).unwrap(),
        ),
    ];
    let mut differences = Vec::new();
    for (golden, plan) in cases {
        differences.extend(compare(golden, &plan.to_string()));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn every_good_fixture_passes_every_rule() {
    let directory = root().join("fixtures/good");
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let errors = validate::validate(&Spec::read(&path).unwrap());
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        seen += 1;
    }
    assert!(seen >= 12, "{seen} fixtures");
}

/// Where something is written into a fixture, what, and the error that it gives.
type Refusal = (&'static str, &'static str, &'static str);

#[rustfmt::skip]
const REFUSALS: &[Refusal] = &[
    ("/mounts/0", r#"{"destination": "/a", "type": "bind", "source": "/a", "options": ["bind", "size=1"]}"#,
     "\"size\" is no mount option (/mounts/0/options): bind mounts cannot have any filesystem-specific options applied"),
    ("/mounts/0", r#"{"destination": "/a", "source": "/a", "options": ["bind", "nosymfollw"]}"#,
     "\"nosymfollw\" is no mount option (/mounts/0/options): \"nosymfollow\" may be meant: bind mounts cannot have any filesystem-specific options applied"),
    ("/mounts/0", r#"{"destination": "/a", "type": "bind", "options": ["rbind"]}"#,
     "/mounts/0/source: a bind mount needs a source"),
    ("/mounts/0", r#"{"destination": "/a", "source": "x"}"#,
     "/mounts/0/type: a mount needs a type, or the option bind or rbind"),
    ("/mounts/0", r#"{"destination": "/a", "type": "bind", "source": "/a", "options": ["tmpcopyup"]}"#,
     "/mounts/0/options/0: tmpcopyup needs a mount of type tmpfs"),
    ("/mounts/0", r#"{"destination": "/..", "type": "tmpfs", "options": ["ro", "tmpcopyup"]}"#,
     "/mounts/0/options/1: tmpcopyup can't copy the whole root"),
    ("/mounts/0", r#"{"destination": "/a", "source": "/a", "options": ["bind", "remount", "size=1"]}"#,
     "\"size\" is no mount option (/mounts/0/options): bind mounts cannot have any filesystem-specific options applied"),
    ("/mounts/0", r#"{"destination": "/a", "source": "/a", "options": ["bind", "idmap"]}"#,
     "/mounts/0/options/1: an id-mapped mount needs uidMappings and gidMappings, or a container with a user namespace"),
    ("/mounts/0", r#"{"destination": "/a", "source": "/a", "options": ["bind", "idmap=uids=0-1"]}"#,
     "/mounts/0/options/1: \"0-1\" is not of the form FIRST-HOST-COUNT"),
    ("/mounts/0", r#"{"destination": "/a", "source": "/a", "options": ["bind", "idmap=uids=0-1-1"]}"#,
     "/mounts/0/options/1: id-mapped mounts must have both uid and gid mappings specified"),
    ("/mounts/0/options", r#"["idmap=uids=0-1-1;gids=0-1-1"]"#,
     "/mounts/0/options/0: proc can't be id-mapped"),
    ("/mounts/1/destination", r#""/x/../proc/self/attr""#,
     "/mounts/1/destination: \"/x/../proc/self/attr\" cannot be mounted because it is inside /proc"),
    ("/mounts/1/destination", r#""/proc/""#,
     "/mounts/1/type: its type is \"tmpfs\": \"/proc/\" cannot be mounted because it is not of type proc"),
    ("/linux/namespaces", r#"[{"type": "pid"}]"#,
     "/mounts: without a mount namespace they would be mounts of the host: mounts need a mount namespace"),
    ("/linux/devices", r#"[{"path": "/dev/x", "type": "c", "major": -1, "minor": 0}]"#,
     "/linux/devices/0/major: -1 is not a major number of a device"),
    ("/linux/devices", r#"[{"path": "/dev/..", "type": "p"}]"#,
     "/linux/devices/0/path: a device needs a path below the root"),
    ("/process/args", "[]",
     "/process/args: args must not be empty"),
    ("/process/capabilities/effective", r#"["CAP_SYS_ADMIN"]"#,
     "/process/capabilities/effective: CAP_SYS_ADMIN is not in the permitted set"),
];

#[test]
fn what_cannot_be_planned_is_refused_by_its_pointer() {
    for (pointer, value, expected) in REFUSALS {
        let mut document = spec("runc-spec").raw;
        write(&mut document, pointer, serde_json::from_str(value).unwrap());
        let spec = Spec::parse(document.to_string()).unwrap();
        let refused = try_plan(&spec, V2, &plain()).unwrap_err();
        assert_eq!(refused.to_string(), *expected);
    }
}

#[test]
fn a_root_that_is_entered_without_pivot_is_not_made_private() {
    let mut document = spec("runc-spec").raw;
    write(&mut document, "/linux/rootfsPropagation", "rprivate".into());
    let spec = Spec::parse(document.to_string()).unwrap();
    let refused = try_plan(&spec, V2, &no_pivot()).unwrap_err();
    let expected = "rootfsPropagation of [r]private is not safe without pivot_root";
    assert_eq!(refused.tail(), expected);
}

#[test]
fn the_processes_of_a_pod_are_not_replaced_by_those_of_the_host() {
    let mut document = spec("userns-host-pid").raw;
    let namespaces = serde_json::json!([
        {"type": "mount"}, {"type": "user"}, {"type": "uts"},
        {"type": "pid", "path": "/proc/1/ns/pid"}
    ]);
    write(&mut document, "/linux/namespaces", namespaces);
    let spec = Spec::parse(document.to_string()).unwrap();
    let refused = try_plan(&spec, V2, &plain()).unwrap_err();
    assert_eq!(refused.pointer(), Some("/mounts/0"));
}

/// Puts a value at a place whose parent exists.
fn write(document: &mut serde_json::Value, pointer: &str, value: serde_json::Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match document.pointer_mut(parent).unwrap() {
        serde_json::Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
        parent => parent[name] = value,
    }
}

/// Values that a careless or hostile author might write in place of another.
fn odd_values() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::json;
    let odd = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(4_294_967_295_u32),
        json!(18_446_744_073_709_551_615_u64),
        json!(""),
        json!("\u{0}"),
        json!("/"),
        json!("../../.."),
        json!("é\n/"),
        json!(["", "ro", "uid=9", "bind"]),
        json!([]),
        json!({}),
        json!("x".repeat(5000)),
    ];
    proptest::sample::select(odd.to_vec())
}

/// Replaces the `n`-th value of a document, counted in the order of a walk.
fn replace(value: &mut serde_json::Value, n: &mut usize, odd: &serde_json::Value) {
    if *n == 0 {
        *value = odd.clone();
    }
    *n = n.wrapping_sub(1);
    match value {
        serde_json::Value::Array(items) => items.iter_mut().for_each(|v| replace(v, n, odd)),
        serde_json::Value::Object(members) => members.values_mut().for_each(|v| replace(v, n, odd)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn no_mangled_configuration_makes_the_planner_panic(
        fixture in proptest::sample::select(vec!["everything", "docker-userns-remap", "cri-container"]),
        edits in proptest::collection::vec((0..400_usize, odd_values()), 1..4),
        machine in proptest::sample::select(vec![V1, V2, Rootless, InUserNamespace]),
    ) {
        let mut document = spec(fixture).raw;
        for (place, odd) in &edits {
            replace(&mut document, &mut place.clone(), odd);
        }
        if let Ok(spec) = Spec::parse(document.to_string()) {
            let _ = try_plan(&spec, machine, &plain());
            let _ = validate::validate(&spec);
        }
    }
}
