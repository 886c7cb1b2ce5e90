//! What a container may use, in Docker's words, which are Podman's too: pause, figures, limits, settings of the kernel.

use crate::boxes::Boxes;

pub fn pause_and_unpause(boxes: &Boxes) {
    let running = boxes.sleeps(&[]);
    running.call("pause", &[]).ok();
    assert_eq!(running.inspect("{{.State.Status}}"), "paused");
    let refused = running.exec(&[], &["true"]);
    assert!(refused.code != 0, "{refused}");
    running.call("unpause", &[]).ok();
    running.exec(&[], &["true"]).ok();
}

pub fn stats_and_top_show_the_processes(boxes: &Boxes) {
    let running = boxes.sleeps(&[]);
    let stats = running
        .call(
            "stats",
            &["--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}"],
        )
        .ok();
    assert!(
        stats.line().starts_with("2 ") && !stats.line().contains(" 0B"),
        "{stats}"
    );
    let top = running.call("top", &[]).ok();
    assert_eq!(top.stdout.lines().count(), 3, "{top}");
    running.call("top", &[]).ok().prints("sleep 600");
}

pub fn memory_limit_and_oom_kill(boxes: &Boxes) {
    let running = boxes.running(
        &["--memory", "20m", "--memory-swap", "20m"],
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes; until [ -e /tmp/go ]; do sleep 0.1; done; exec tail /dev/zero",
    );
    // Docker's shim listens for it when the runtime's start has returned: who is killed before that was not seen.
    running.exec(&[], &["touch", "/tmp/go"]).ok();
    let status = running.waits();
    // Debian's Podman doesn't learn of it, whatever the runtime.
    let known = running.inspect("{{.State.OOMKilled}}");
    assert!(boxes.is_podman() || known == "true", "status {status}");
    running.says("20971520");
    assert_eq!(status, "137");
    if boxes.is_podman() {
        return;
    }
    let tiny = boxes.runs(&["--memory", "1m"], "true");
    assert!(
        tiny.code == 125 && tiny.stderr.contains("Minimum memory limit"),
        "{tiny}"
    );
}

pub fn an_update_changes_what_it_names_and_nothing_else(boxes: &Boxes) {
    let running = boxes.sleeps(&[
        "--memory",
        "128m",
        "--cpu-shares",
        "200",
        "--pids-limit",
        "50",
    ]);
    let limits = || {
        let script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.shares pids/pids.max; echo x >/dev/null && echo y >/dev/zero && echo devices";
        running
            .exec(&[], &["sh", "-c", script])
            .ok()
            .stdout
            .replace('\n', " ")
    };
    assert_eq!(limits(), "134217728 200 50 devices ");
    running
        .call("update", &["--memory", "64m", "--memory-swap", "64m"])
        .ok();
    assert_eq!(limits(), "67108864 200 50 devices ");
    running
        .call("update", &["--cpu-shares", "300", "--cpuset-cpus", "0"])
        .ok();
    assert_eq!(limits(), "67108864 300 50 devices ");
}

pub fn cpu_pids_and_ulimit(boxes: &Boxes) {
    let options = [
        "--cpus",
        "0.5",
        "--cpu-shares",
        "512",
        "--cpuset-cpus",
        "0",
        "--pids-limit",
        "20",
        "--ulimit",
        "nofile=100:200",
        // Without it, Podman raises it to more than root of this machine may.
        "--ulimit",
        "nproc=5000:5000",
    ];
    let script = "cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us cpu/cpu.shares cpuset/cpuset.cpus pids/pids.max; ulimit -n; ulimit -Hn; for i in $(seq 30); do sleep 1 & done 2>/dev/null";
    boxes
        .runs(&options, script)
        .prints("50000\n512\n0\n20\n100\n200\n");
}

pub fn a_score_and_the_cgroups_parent_are_the_given(boxes: &Boxes) {
    let score = boxes.runs(&["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj");
    assert_eq!(score.ok().line(), "500");
    if boxes.is_users() {
        return; // Nobody gives the user cgroups here.
    }
    let options = ["--cgroup-parent", "/given", "--cgroupns", "host"];
    boxes
        .runs(&options, "cat /proc/self/cgroup")
        .ok()
        .prints(":/given/");
}

/// What is left of it where nobody gives the user cgroups.
pub fn ulimits_of_a_process(boxes: &Boxes) {
    let options = ["--ulimit", "nofile=100:200", "--ulimit", "core=0:0"];
    boxes
        .runs(&options, "ulimit -n; ulimit -Hn; ulimit -c; ulimit -Hc")
        .ok()
        .prints("100\n200\n0\n0\n");
}

pub fn sysctl_shm_size_and_hostname(boxes: &Boxes) {
    let options = [
        "--sysctl",
        "net.ipv4.ip_default_ttl=77",
        "--shm-size",
        "1m",
        "--hostname",
        "named",
        "--add-host",
        "other:10.1.2.3",
        "--dns",
        "10.9.8.7",
    ];
    let script = "cat /proc/sys/net/ipv4/ip_default_ttl; df -k /dev/shm; hostname; cat /etc/hosts /etc/resolv.conf";
    boxes
        .runs(&options, script)
        .ok()
        .prints("77\n")
        .prints(" 1024 ")
        .prints("named\n")
        .prints("10.1.2.3\tother")
        .prints("nameserver 10.9.8.7");
}
