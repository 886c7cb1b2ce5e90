//! Pods and their containers from the first word to the last, and what their namespaces are.

use std::path::Path;

use super::{Cri, Inside, NODE, POD, POD_NAMESPACES, options};
use crate::containerd::Daemon;
use crate::docs::snippet;
use crate::grpc::Message;
use crate::harness::{Outcome, until};
use crate::left;
use crate::session::program;

pub(super) fn a_container_of_a_pod_runs_and_ends_with_its_status(cri: &Cri) {
    let pod = cri.pod();
    assert_eq!(pod.starts("exit 7").ends(), (7, "Error".to_owned()));
    assert_eq!(pod.starts("exit 0").ends(), (0, "Completed".to_owned()));
}

pub(super) fn a_program_that_is_not_there_is_the_reason(cri: &Cri) {
    let pod = cri.pod();
    let made = pod.try_starts(
        &["nosuch"],
        &Message::default(),
        Message::default(),
        &|config| config,
    );
    let text = made.err().expect("an error");
    assert!(
        text.contains("executable file not found in $PATH"),
        "{text}"
    );
}

pub(super) fn the_handler_of_a_runtime_class_is_found(cri: &Cri) {
    // What the page's RuntimeClass hands to the kubelet.
    let class = snippet("runtime class", &cri.runtime);
    let handler = class
        .lines()
        .find_map(|line| line.strip_prefix("handler: "));
    let pod = cri.try_pod(handler.expect("a handler"), POD_NAMESPACES);
    pod.unwrap_or_else(|text| panic!("{text}"))
        .starts("exit 3")
        .ends();
    let text = cri
        .try_pod("nosuch", POD_NAMESPACES)
        .err()
        .expect("an error");
    assert!(text.contains("nosuch"), "{text}");
}

pub(super) fn containers_of_a_pod_share_its_namespaces(cri: &Cri) {
    let pod = cri.pod();
    let (first, second) = (pod.sleeps(), pod.sleeps());
    for (kind, shared) in [
        ("net", true),
        ("ipc", true),
        ("uts", true),
        ("pid", false),
        ("mnt", false),
    ] {
        let of =
            |inside: &Inside<'_>| inside.probe(&["readlink", &format!("/proc/self/ns/{kind}")]);
        assert_eq!(of(&first) == of(&second), shared, "{kind}");
    }
    assert_eq!(first.probe(&["hostname"]), (0, format!("{}\n", pod.name)));
    first.probe(&["sh", "-c", "echo shared >/dev/shm/file"]);
    assert_eq!(second.probe(&["cat", "/dev/shm/file"]).1, "shared\n");
    let (_, addresses) = second.probe(&["ip", "address", "show", "dev", "eth0"]);
    assert!(addresses.contains("10.77.0."), "{addresses}");
}

pub(super) fn a_pod_may_share_its_pid_namespace(cri: &Cri) {
    let pod = cri
        .try_pod("", [POD, POD, POD])
        .unwrap_or_else(|text| panic!("{text}"));
    let (first, second) = (pod.sleeps(), pod.sleeps());
    let (_, list) = second.probe(&["ps"]);
    assert!(
        list.contains("sleep 86400") && list.matches("sleep 600").count() >= 2,
        "{list}"
    );
    // Whoever is stopped takes only its own along.
    first.stops(30);
    let (_, list) = second.probe(&["ps"]);
    assert!(
        list.contains("sleep 600") && list.contains("sleep 86400"),
        "{list}"
    );
}

pub(super) fn a_pod_may_have_the_nodes_namespaces(cri: &Cri) {
    // A kubelet names no such pod.
    let pod = cri.try_pod_with("", options([NODE, NODE, NODE]), &|config| {
        config.text(2, "")
    });
    let pod = pod.unwrap_or_else(|text| panic!("{text}"));
    let inside = pod.sleeps();
    for kind in ["net", "pid", "ipc", "uts"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace");
        let (_, theirs) = inside.probe(&["readlink", &format!("/proc/self/ns/{kind}")]);
        assert_eq!(theirs.trim_end(), own.to_string_lossy());
    }
    inside.stops(30);
    assert_eq!(inside.ends().0, 5);
}

pub(super) fn a_container_that_runs_is_removed(cri: &Cri) {
    let pod = cri.pod();
    let inside = pod.starts("trap '' TERM; echo ready; while :; do sleep 614; done");
    inside.says("ready");
    let its = Message::default().text(1, &inside.id);
    cri.asks("RemoveContainer", &its);
    let text = cri.calls("ContainerStatus", &its).err().expect("an error");
    assert!(text.contains("not found"), "{text}");
    let outcome = Outcome::of(&mut program("pgrep", &["-f", "^sleep 614"]));
    assert_eq!(outcome.code, 1, "{outcome}");
}

pub(super) fn stop_signals_and_then_kills(cri: &Cri) {
    let pod = cri.pod();
    let inside = pod.sleeps();
    inside.stops(30);
    assert_eq!(inside.ends().0, 5);
    let deaf = pod.starts("trap '' TERM; echo ready; while :; do sleep 1; done");
    deaf.says("ready");
    deaf.stops(1);
    assert_eq!(deaf.ends().0, 137);
}

pub(super) fn pods_outlive_their_daemon(cri: &Cri) {
    let pod = cri.pod();
    let inside = pod.starts(
        "trap 'exit 5' TERM; echo ready; while :; do [ ! -e /tmp/go ] || echo heard; sleep 0.1; done",
    );
    inside.says("ready");
    cri.daemon.borrow_mut().stop();
    cri.daemon.replace(Daemon::start(&cri.runtime));
    const RUNNING: u64 = 1;
    until("the plugin has found the container", || {
        let request = Message::default().text(1, &inside.id);
        let answer = cri.calls("ContainerStatus", &request);
        answer.is_ok_and(|answer| answer.message(1).number(3) == RUNNING)
    });
    assert_eq!(
        inside.probe(&["sh", "-c", "echo >/tmp/go; exit 3"]),
        (3, String::new())
    );
    inside.says("F heard");
    inside.stops(30);
    assert_eq!(inside.ends().0, 5);
}

pub(super) fn nothing_is_left_of_the_pods(_: &Cri) {
    let list = Outcome::of(&mut program(
        "ctr",
        &["--namespace", "k8s.io", "container", "ls", "--quiet"],
    ));
    assert_eq!(list.ok().line(), "");
    left::no_cgroup("pods");
    assert!(
        !Path::new("/run/netns").exists()
            || std::fs::read_dir("/run/netns").is_ok_and(|mut left| left.next().is_none())
    );
}
