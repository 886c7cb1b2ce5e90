//! Pods: made by words, and played from a file.

use crate::boxes::{Boxes, IMAGE};
use crate::harness::until;

pub(super) fn a_pod_shares_its_namespaces(podman: &Boxes) {
    podman
        .call(&[
            "pod",
            "create",
            "--name",
            "pod",
            "--share",
            "net,ipc,uts,pid",
            "--hostname",
            "podded",
            "--network",
            "none",
        ])
        .ok();
    podman
        .call(&[
            "run",
            "--detach",
            "--pod",
            "pod",
            "--name",
            "first",
            IMAGE,
            "sh",
            "-c",
            "echo x >/dev/shm/shared; echo ready; exec sleep 618",
        ])
        .ok();
    until("the first is ready", || {
        podman.call(&["logs", "first"]).stdout.contains("ready")
    });
    podman
        .call(&[
            "run",
            "--rm",
            "--pod",
            "pod",
            IMAGE,
            "sh",
            "-c",
            "ps; cat /dev/shm/shared",
        ])
        .ok()
        .prints("sleep 618")
        .prints("x\n");
    podman.call(&["exec", "first", "true"]).ok();
    podman.call(&["pod", "stop", "--time", "1", "pod"]).ok();
    podman.call(&["pod", "rm", "--force", "pod"]).ok();
}

/// Its first step ends before the others begin.
pub(super) fn a_pod_takes_a_first_step_and_is_paused(podman: &Boxes) {
    let words = ["pod", "create", "--name", "pod", "--network", "none"];
    podman.call(&words).ok();
    let made = |options: &[&str], script: &str| {
        let words = [&["create", "--pod", "pod"], options, &[IMAGE, "sh", "-c"]];
        podman.call(&[&words.concat()[..], &[script]].concat()).ok();
    };
    made(&["--init-ctr=once"], "echo step >/dev/shm/step");
    made(&["--name", "main"], "cat /dev/shm/step; exec sleep 600");
    podman.call(&["pod", "start", "pod"]).ok();
    until("it has printed", || {
        podman.call(&["logs", "main"]).stdout == "step\n"
    });
    let status = || {
        let words = ["inspect", "--format", "{{.State.Status}}", "main"];
        podman.call(&words).ok().line().to_owned()
    };
    if !podman.is_users() {
        podman.call(&["pod", "pause", "pod"]).ok();
        assert_eq!(status(), "paused");
        podman.call(&["pod", "unpause", "pod"]).ok();
    }
    podman.call(&["pod", "kill", "pod"]).ok();
    until("it has ended", || status() == "exited");
    podman.call(&["pod", "rm", "--force", "pod"]).ok();
}

pub(super) fn a_pod_file_is_played(podman: &Boxes) {
    // An ordinary user has no cgroups of their own here.
    let file = match podman.is_users() {
        true => POD.replace(LIMITED, ""),
        false => POD.to_owned(),
    };
    std::fs::write("/run/pod.yaml", file).expect("a pod file");
    podman.call(&["kube", "play", "/run/pod.yaml"]).ok();
    until("it has printed", || {
        podman
            .call(&["logs", "played-main"])
            .stdout
            .contains("value 1000")
    });
    let inside = |words: &[&str]| podman.call(&[&["exec", "played-main"], words].concat());
    inside(&["cat", "/shared/file"])
        .ok()
        .prints("from the other");
    if !podman.is_users() {
        inside(&["cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"])
            .ok()
            .prints("33554432");
    }
    podman.call(&["kube", "down", "/run/pod.yaml"]).ok();
}

/// A line of POD.
const LIMITED: &str = "      resources: { limits: { memory: 32Mi } }\n";

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: played
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  volumes:
    - name: shared
      emptyDir: {}
  containers:
    - name: main
      image: localhost/busybox:test
      command: ["sh", "-c", "trap 'exit 0' TERM; echo $A $(id -u); while :; do sleep 1; done"]
      env: [{ name: A, value: value }]
      securityContext: { runAsUser: 1000, readOnlyRootFilesystem: true }
      resources: { limits: { memory: 32Mi } }
      volumeMounts: [{ name: shared, mountPath: /shared }]
    - name: other
      image: localhost/busybox:test
      command: ["sh", "-c", "trap 'exit 0' TERM; echo from the other >/shared/file; while :; do sleep 1; done"]
      volumeMounts: [{ name: shared, mountPath: /shared }]
"#;
