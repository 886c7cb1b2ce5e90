//! What a container sees, may and gets: its root, mounts, limits, capabilities, namespaces.

use std::fs::File;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Containerd, NAME, Running, SLEEPS, heard};
use crate::goods::ROOTFS;
use crate::harness::{Outcome, until};
use crate::session::program;

pub(super) fn the_root_is_read_only_when_asked(engine: &Containerd) {
    engine
        .runs(
            &["--read-only"],
            "touch /new 2>&1; touch /dev/shm/new && echo shm",
        )
        .ok()
        .prints("Read-only file system")
        .prints("shm");
    engine
        .runs(&[], "touch /new && echo made")
        .ok()
        .prints("made");
}

pub(super) fn the_root_is_entered_without_pivot(engine: &Containerd) {
    let script = "ls /; grep -c '' /etc/passwd; grep ' / ' /proc/self/mountinfo";
    engine
        .runs(&["--no-pivot"], script)
        .ok()
        .prints("etc\n")
        .prints(" / / ");
}

pub(super) fn a_device_and_the_cgroups_path_are_the_given(engine: &Containerd) {
    let options = ["--device", "/dev/net/tun", "--cgroup", "/default/named"];
    let script = "grep ':memory:' /proc/self/cgroup; : </dev/net/tun && echo opened";
    engine
        .runs(&options, script)
        .ok()
        .prints(":/default/named\nopened\n");
    engine.runs(&[], "ls /dev/net").exits(1);
}

pub(super) fn a_mount_and_the_environment_arrive(engine: &Containerd) {
    std::fs::create_dir_all("/run/given").expect("a folder");
    std::fs::write("/run/given/file", "content").expect("a file");
    let options = [
        "--mount",
        "type=bind,src=/run/given,dst=/mnt,options=rbind:ro",
        "--env",
        "A=b c",
        "--cwd",
        "/mnt",
    ];
    let outcome = engine
        .runs(&options, "cat file; echo \"$A\"; touch new 2>&1; hostname")
        .ok();
    outcome
        .prints("content")
        .prints("b c\n")
        .prints("Read-only file system");
}

pub(super) fn memory_and_cpu_limits_are_written(engine: &Containerd) {
    let limited = engine.running(
        &[
            "--memory-limit",
            "67108864",
            "--cpu-quota",
            "50000",
            "--cpu-period",
            "100000",
            "--cpu-shares",
            "256",
        ],
        "sleep 600",
    );
    assert_eq!(
        limited.cgroup("memory", "memory.limit_in_bytes"),
        "67108864"
    );
    assert_eq!(limited.cgroup("cpu", "cpu.cfs_quota_us"), "50000");
    assert_eq!(limited.cgroup("cpu", "cpu.shares"), "256");
}

pub(super) fn the_default_seccomp_profile_acts(engine: &Containerd) {
    engine
        .runs(
            &["--seccomp"],
            "grep Seccomp: /proc/self/status; mount -t tmpfs t /mnt 2>&1",
        )
        .prints("Seccomp:\t2");
    engine
        .runs(&[], "grep Seccomp: /proc/self/status")
        .ok()
        .prints("Seccomp:\t0");
}

pub(super) fn capabilities_are_added_and_dropped(engine: &Containerd) {
    engine
        .runs(
            &["--cap-add", "CAP_SYS_ADMIN"],
            "mount -t tmpfs t /mnt && echo mounted",
        )
        .ok()
        .prints("mounted");
    engine
        .runs(
            &["--cap-drop", "CAP_CHOWN"],
            "chown 1:1 /tmp 2>&1 || echo refused",
        )
        .ok()
        .prints("refused");
}

/// A configuration that no engine would write.
pub(super) fn a_configuration_of_ones_own_is_run(engine: &Containerd) {
    let root = "/run/own-root";
    std::fs::create_dir_all(root).expect("a folder");
    Outcome::of(&mut program("tar", &["-C", root, "-xf", ROOTFS])).ok();
    let mut config: Value = engine.ctr(&["oci", "spec"]).ok().json();
    config["root"] = json!({ "path": root, "readonly": true });
    config["process"]["args"] = json!(["sh", "-c", "cat /told; touch /new 2>&1; exit 6"]);
    config["process"]["env"] = json!(["PATH=/bin"]);
    let script = format!("cat >/dev/null; echo told >{root}/told");
    config["linux"]["cgroupsPath"] = json!("/default/own");
    config["hooks"] =
        json!({ "createRuntime": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
    std::fs::write("/run/own.json", config.to_string()).expect("config.json");
    let path = format!("/usr/local/bin/{}", engine.runtime);
    let words = ["run", "--rm", "--runc-binary", &path, "--config"];
    let run = || engine.ctr(&[&words[..], &["/run/own.json", &engine.id()]].concat());
    heard(run)
        .exits(6)
        .prints("told\n")
        .prints("Read-only file system");
}

/// Those that call the runtime in ways of their own, up to containerd 1.7.
pub(super) fn the_older_shims_run_it(engine: &Containerd) {
    // ctr names them no program: they take the `runc` of the PATH.
    for shim in ["io.containerd.runtime.v1.linux", "io.containerd.runc.v1"] {
        let id = engine.id();
        let words = ["run", "--detach", "--runtime", shim, NAME, &id, "sh", "-c"];
        engine.ctr(&[&words[..], &[SLEEPS]].concat()).ok();
        let running = Running { engine, id }.ready();
        running
            .exec_says(&["sh", "-c", "echo inside; exit 3"])
            .exits(3);
        running.task("pause", &[]).ok();
        assert_eq!(running.status(), "PAUSED", "{shim}");
        running.task("resume", &[]).ok();
        running.task("ps", &[]).ok();
        running.task("metrics", &[]).ok().prints("memory");
        running.task("kill", &["--signal", "SIGTERM"]).ok();
        running.becomes("STOPPED");
        running.ended_with(5);
    }
}

pub(super) fn the_host_is_shared_as_asked(engine: &Containerd) {
    let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
    let options = ["--net-host", "--allow-new-privs", "--pid-file=/run/own.pid"];
    let script = "readlink /proc/self/ns/net; grep NoNewPrivs /proc/self/status";
    let outcome = engine.runs(&options, script).ok();
    let lines = format!("{}\nNoNewPrivs:\t0\n", own.display());
    assert_eq!(outcome.stdout, lines);
    let pid = std::fs::read_to_string("/run/own.pid").expect("a pid file");
    assert!(pid.parse::<u32>().is_ok(), "{pid}");
}

pub(super) fn a_user_namespace_maps_root(engine: &Containerd) {
    // ctr gives this task options of its own, which name no program: the shim takes the `runc` of the PATH.
    let outcome = engine
        .runs(
            &["--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"],
            "cat /proc/self/uid_map; id -u; ls -nd / /bin",
        )
        .ok();
    let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
    assert_eq!(words[..4], ["0", "100000", "65536", "0"], "{outcome}");
}

pub(super) fn a_namespace_of_another_container_is_joined(engine: &Containerd) {
    let first = engine.sleeps();
    let pid = first.pid();
    let option = |kind: &str| {
        format!(
            "{kind}:/proc/{pid}/ns/{}",
            if kind == "network" { "net" } else { kind }
        )
    };
    let (pid_option, network, ipc) = (option("pid"), option("network"), option("ipc"));
    let outcome = engine
        .runs(
            &[
                "--with-ns",
                &pid_option,
                "--with-ns",
                &network,
                "--with-ns",
                &ipc,
            ],
            "ps; readlink /proc/self/ns/net",
        )
        .ok();
    let theirs = std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("a namespace");
    outcome
        .prints("sleep 600")
        .prints(&theirs.to_string_lossy());
    assert_eq!(first.status(), "RUNNING");
}

pub(super) fn metrics_count_memory_and_processes(engine: &Containerd) {
    let running = engine.sleeps();
    let metrics = running.task("metrics", &[]).ok();
    let value = |name: &str| -> u64 {
        let line = metrics.stdout.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1))
            .and_then(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("{name}: {metrics}"))
    };
    assert!(value("memory.usage_in_bytes") > 0);
    assert_eq!(value("pids.current"), 2);
}

pub(super) fn more_memory_than_allowed_is_an_oom_kill(engine: &Containerd) {
    let log = File::create("/run/events").expect("a file");
    let mut events = Command::new("ctr")
        .arg("events")
        .stdin(Stdio::null())
        .stdout(log)
        .spawn()
        .expect("ctr events");
    let id = engine.id();
    // The shell is not who is killed, and does it again until the listener has come.
    let script = "while :; do (echo 1000 >/proc/self/oom_score_adj; head -c 100m /dev/zero | tail); echo $? >/tmp/ended; sleep 0.2; done";
    Outcome::of(&mut engine.command(
        &["--detach", "--memory-limit", "20971520"],
        &id,
        &["sh", "-c", script],
    ))
    .ok();
    let running = Running { engine, id };
    until("an OOM event", || {
        std::fs::read_to_string("/run/events").is_ok_and(|text| text.contains("/tasks/oom"))
    });
    until("the end is known", || {
        running.exec(&["cat", "/tmp/ended"]).stdout.trim() == "137"
    });
    events.kill().expect("kill");
    events.wait().expect("wait");
}
