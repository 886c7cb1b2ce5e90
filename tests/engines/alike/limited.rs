//! What a container may use, in Docker's words, which are Podman's too: pause, figures, limits, settings of the kernel.

use crate::boxes::Boxes;
use crate::harness::until;

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
    let filters = ["--filter", "event=oom", "--filter"];
    let its = format!("container={}", running.name);
    let ended = ["--since", "10m", "--until", "0s"];
    // Up to a whole second of the past.
    until("it is told", || {
        let words = [&["events"], &ended[..], &filters, &[&its]].concat();
        boxes.call(&words).ok().stdout.contains(" oom ")
    });
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

pub fn what_the_kernel_has_of_memory_and_time_is_the_given(boxes: &Boxes) {
    let options = [
        "--memory=32m",
        "--memory-reservation=16m",
        "--memory-swappiness=7",
        "--oom-kill-disable",
        "--cpu-period=50000",
        "--cpu-quota=20000",
        "--cpuset-mems=0",
    ];
    let script = "cd /sys/fs/cgroup/memory; cat memory.soft_limit_in_bytes memory.swappiness; head -n 1 memory.oom_control; cat ../cpu/cpu.cfs_period_us ../cpu/cpu.cfs_quota_us ../cpuset/cpuset.mems";
    let outcome = boxes.runs(&options, script).ok();
    let lines = "16777216\n7\noom_kill_disable 1\n50000\n20000\n0\n";
    assert_eq!(outcome.stdout, lines);
}

pub fn disks_are_slowed_as_asked(boxes: &Boxes) {
    let disks = std::fs::read_dir("/sys/block").expect("disks").flatten();
    let mut names = disks.map(|disk| disk.file_name().to_string_lossy().into_owned());
    let disk = names.find(|name| std::path::Path::new("/dev").join(name).exists());
    let disk = disk.expect("error: the machine has no disk");
    let numbers = std::fs::read_to_string(format!("/sys/block/{disk}/dev")).expect("its numbers");
    let numbers = numbers.trim();
    let options = [
        format!("--device-read-bps=/dev/{disk}:1mb"),
        format!("--device-write-iops=/dev/{disk}:77"),
    ];
    let script = "cd /sys/fs/cgroup/blkio; cat blkio.throttle.read_bps_device blkio.throttle.write_iops_device";
    let outcome = boxes
        .runs(&options.each_ref().map(String::as_str), script)
        .ok();
    let lines = format!("{numbers} 1048576\n{numbers} 77\n");
    assert_eq!(outcome.stdout, lines);
}

pub fn the_cgroups_of_a_container_are_shown_or_hidden(boxes: &Boxes) {
    let script = "grep :memory: /proc/self/cgroup; grep -c ' ro,.* - cgroup ' /proc/self/mountinfo";
    let of = |kind: &str| boxes.runs(&["--cgroupns", kind], script).ok().stdout;
    let (own, hosts) = (of("private"), of("host"));
    assert!(own.contains(":memory:/\n"), "{own}");
    assert!(!hosts.contains(":memory:/\n"), "{hosts}");
    for text in [own, hosts] {
        assert!(!text.ends_with("\n0\n"), "{text}");
    }
}

pub fn a_paused_container_is_ended(boxes: &Boxes) {
    let running = boxes.sleeps(&[]);
    running.call("pause", &[]).ok();
    let process = format!("/proc/{}", running.inspect("{{.State.Pid}}"));
    // Podman signals none that is paused.
    let (verb, options) = match boxes.is_podman() {
        true => ("rm", &["--force", "--time", "0"][..]),
        false => ("kill", &[][..]),
    };
    running.call(verb, options).ok();
    until("its process is gone", || {
        !std::path::Path::new(&process).exists()
    });
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
