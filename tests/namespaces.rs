//! Promise: every namespace of config.json is new, or the one that its path names.

use serde_json::json;

use crate::harness::{Container, Stage};
use crate::stage;

/// Each kind by the name of config.json and that of /proc/PID/ns.
const KINDS: [(&str, &str); 7] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

fn inode(pid: &str, kind: &str) -> Option<String> {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}"))
        .ok()
        .map(|link| link.to_string_lossy().into_owned())
}

fn with_all(stage: &Stage) -> Container<'_> {
    let mut bundle = stage.bundle();
    bundle.sleeps();
    for (name, kind) in KINDS {
        if inode("self", kind).is_some() {
            bundle.namespace(name, None);
        }
    }
    let container = stage.create(&bundle);
    container.start().ok();
    container
}

#[test]
fn every_namespace_can_be_new() {
    let stage = stage!();
    let container = with_all(&stage);
    for (name, kind) in KINDS {
        if inode("self", kind).is_some() {
            assert_ne!(
                inode(&container.pid().to_string(), kind),
                inode("self", kind),
                "{name}"
            );
        }
    }
}

#[test]
fn a_namespace_that_is_not_in_the_list_is_the_callers() {
    let stage = stage!();
    for name in ["pid", "network", "ipc"] {
        let mut bundle = stage.bundle();
        bundle.without_namespace(name).sleeps();
        let kind = KINDS.iter().find(|(long, _)| *long == name).unwrap().1;
        // mqueue can be mounted only with an ipc namespace of one's own, sysfs with a network one.
        let container = stage.create(&bundle);
        assert_eq!(
            inode(&container.pid().to_string(), kind),
            inode("self", kind),
            "{name}"
        );
    }
}

#[test]
fn namespaces_are_joined_by_path() {
    let stage = stage!();
    let first = with_all(&stage);
    let pid = first.pid();
    for (name, kind) in KINDS {
        // The mount namespace of another container has another root; it can't be joined and mounted in.
        if name == "mount" || inode("self", kind).is_none() {
            continue;
        }
        let mut bundle = stage.bundle();
        bundle
            .sleeps()
            .namespace(name, Some(&format!("/proc/{pid}/ns/{kind}")));
        let second = stage.create(&bundle);
        second.start().ok();
        assert_eq!(
            inode(&second.pid().to_string(), kind),
            inode(&pid.to_string(), kind),
            "{name}"
        );
        assert_eq!(second.sh("echo in"), "in");
        second.delete_force().ok();
    }
    assert_eq!(first.status(), "running");
}

#[test]
fn a_pod_shares_network_ipc_and_uts() {
    let stage = stage!();
    let pause = stage.running();
    let pid = pause.pid();
    let mut bundle = stage.bundle();
    for (name, kind) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        bundle.namespace(name, Some(&format!("/proc/{pid}/ns/{kind}")));
    }
    bundle.remove("/hostname");
    assert_eq!(
        stage.prints(&mut bundle, "hostname; readlink /proc/self/ns/net"),
        format!("promises\n{}", inode(&pid.to_string(), "net").unwrap())
    );
}

#[test]
fn a_path_of_another_kind_is_refused_by_its_pointer() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.namespace("network", Some("/proc/self/ns/uts"));
    let index = bundle.config["linux"]["namespaces"]
        .as_array()
        .unwrap()
        .len()
        - 1;
    stage
        .try_create(&bundle)
        .refuses(&[&format!("/linux/namespaces/{index}/path")]);
    for path in ["relative/path", "/no/such/namespace", "/etc/passwd"] {
        bundle.namespace("network", Some(path));
        stage
            .try_create(&bundle)
            .refuses(&[&format!("/linux/namespaces/{index}/path")]);
    }
}

#[test]
fn the_program_is_the_first_process_of_its_pid_namespace() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    assert_eq!(stage.prints(&mut bundle, "echo $$ $PPID"), "1 0");
}

#[test]
fn loopback_is_up_in_a_new_network_namespace() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    let text = stage.prints(&mut bundle, "ip addr show lo; ls /sys/class/net");
    assert!(
        text.contains("LOOPBACK,UP") && text.contains("127.0.0.1/8"),
        "{text}"
    );
    assert!(!text.contains("eth0"), "{text}");
}

#[test]
fn hostname_and_domainname_are_the_containers_own() {
    let stage = stage!();
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let mut bundle = stage.bundle();
    bundle
        .set("/hostname", json!("inside"))
        .set("/domainname", json!("example.org"));
    assert_eq!(
        stage.prints(&mut bundle, "hostname; cat /proc/sys/kernel/domainname"),
        "inside\nexample.org"
    );
    assert_eq!(
        std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(),
        own
    );
}

#[test]
fn time_offsets_shift_the_clocks() {
    let stage = stage!();
    if inode("self", "time").is_none() {
        crate::skip!("no time namespaces here");
    }
    let mut bundle = stage.bundle();
    bundle.namespace("time", None).set("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}, "monotonic": {"secs": 500, "nanosecs": 5}}));
    let uptime = |text: &str| {
        text.split(['.', ' '])
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let inside = uptime(&stage.prints(&mut bundle, "cat /proc/uptime"));
    let outside = uptime(&std::fs::read_to_string("/proc/uptime").unwrap());
    assert!(
        inside >= 1_000_000 && inside.abs_diff(outside + 1_000_000) < 60,
        "{inside} inside, {outside} outside"
    );
}
