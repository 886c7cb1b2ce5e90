//! Docker: dockerd with capsid as its default runtime, on a bridge and iptables of the session's own.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::process::{Child, Command, Stdio};

use crate::docs::snippet;
use crate::goods::ROOTFS;
use crate::harness::terminal::Screen;
use crate::harness::{Outcome, end, until};
use crate::session::{Begin, program, tail};

const LOG: &str = "/run/dockerd.log";
const IMAGE: &str = "busybox:test";

/// Ends with status 5 on SIGTERM, and says when it can.
const SLEEPS: &str = "trap 'exit 5' TERM; echo ready; while :; do sleep 600 & wait $!; done";

pub struct Docker {
    daemon: RefCell<Option<Child>>,
    next: Cell<u32>,
}

engine! { "docker", Docker, ["dockerd", "docker", "containerd", "iptables"],
    a_container_prints_and_ends_with_its_status
    a_missing_program_ends_with_127
    a_program_that_may_not_be_executed_ends_with_126
    a_terminal_has_its_size_its_keys_and_its_status
    stdin_reaches_the_program
    logs_and_attach_show_what_was_printed
    exec_has_its_own_status_user_folder_and_environment
    exec_of_what_can_not_be_executed_says_so
    exec_with_a_terminal
    pause_and_unpause
    stats_and_top_show_the_processes
    kill_and_stop_send_their_signals
    restart_begins_anew
    a_failing_container_is_restarted_as_often_as_allowed
    a_healthcheck_becomes_healthy_and_unhealthy
    a_published_port_is_reached
    containers_find_each_other_by_name
    network_none_host_and_another_containers
    volumes_and_binds_keep_what_is_written
    init_reaps_and_forwards
    users_and_groups
    capabilities_are_added_and_dropped
    a_read_only_root_with_a_tmpfs
    no_new_privileges
    seccomp_profiles_of_the_engine_and_of_the_user
    masked_paths_are_masked
    memory_limit_and_oom_kill
    cpu_pids_and_ulimit
    sysctl_shm_size_and_hostname
    a_device_is_given
    pid_and_ipc_of_another_container
    files_are_copied_in_and_out
    an_image_is_built
    a_container_is_created_renamed_and_started_later
    ten_containers_at_once
    a_container_outlives_its_daemon
    privileged
    nothing_is_left_of_them
}

impl Begin for Docker {
    fn begin(runtime: &str) -> Docker {
        std::fs::create_dir_all("/etc/docker").expect("a folder");
        // dockerd knows runc under its own name already, and takes no other under it.
        let text = if runtime == "runc" {
            "{}".to_owned()
        } else {
            snippet("docker", runtime)
        };
        std::fs::write("/etc/docker/daemon.json", text).expect("daemon.json");
        let engine = Docker {
            daemon: RefCell::default(),
            next: Cell::new(1),
        };
        engine.starts();
        let (path, command) = (
            "ENV PATH=/usr/local/bin:/bin:/sbin:/usr/bin:/usr/sbin",
            "CMD [\"sh\"]",
        );
        engine
            .docker(&[
                "import", "--change", path, "--change", command, ROOTFS, IMAGE,
            ])
            .ok();
        engine
    }

    fn said(&self) -> String {
        tail(LOG)
    }
}

impl Docker {
    fn starts(&self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(LOG)
            .expect("a log");
        let errors = log.try_clone().expect("dup");
        let child = Command::new("dockerd")
            .arg("--live-restore")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("dockerd");
        *self.daemon.borrow_mut() = Some(child);
        until("dockerd answers", || self.docker(&["version"]).code == 0);
    }

    fn docker(&self, args: &[&str]) -> Outcome {
        Outcome::of(&mut program("docker", args))
    }

    fn name(&self) -> String {
        self.next.set(self.next.get() + 1);
        format!("box{}", self.next.get())
    }

    /// `docker run --rm OPTIONS image sh -c SCRIPT`.
    fn runs(&self, options: &[&str], script: &str) -> Outcome {
        self.docker(&[&["run", "--rm"], options, &[IMAGE, "sh", "-c", script]].concat())
    }

    /// A container in the background.
    fn running(&self, options: &[&str], script: &str) -> Running<'_> {
        let name = self.name();
        self.docker(
            &[
                &["run", "--detach", "--name", &name],
                options,
                &[IMAGE, "sh", "-c", script],
            ]
            .concat(),
        )
        .ok();
        Running { engine: self, name }
    }

    /// One that has set its trap.
    fn sleeps(&self, options: &[&str]) -> Running<'_> {
        let running = self.running(options, SLEEPS);
        running.says("ready");
        running
    }
}

/// It is removed when it goes.
struct Running<'a> {
    engine: &'a Docker,
    name: String,
}

impl Running<'_> {
    fn exec(&self, options: &[&str], words: &[&str]) -> Outcome {
        self.engine
            .docker(&[&["exec"], options, &[self.name.as_str()], words].concat())
    }

    fn call(&self, verb: &str, options: &[&str]) -> Outcome {
        self.engine
            .docker(&[&[verb], options, &[self.name.as_str()]].concat())
    }

    fn inspect(&self, template: &str) -> String {
        self.call("inspect", &["--format", template])
            .ok()
            .line()
            .to_owned()
    }

    fn becomes(&self, template: &str, value: &str) {
        until(&format!("{template} is {value}"), || {
            self.inspect(template) == value
        });
    }

    fn says(&self, text: &str) {
        until(&format!("the log has {text:?}"), || {
            self.call("logs", &[]).stdout.contains(text)
        });
    }

    fn waits(&self) -> String {
        self.call("wait", &[]).ok().line().to_owned()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.call("rm", &["--force", "--volumes"]);
    }
}

fn a_container_prints_and_ends_with_its_status(docker: &Docker) {
    let outcome = docker.runs(&[], "echo out; echo err >&2; exit 7").exits(7);
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out\n", "err\n")
    );
    docker
        .runs(&[], "sh -c 'kill -SEGV $$'; exit $?")
        .exits(139);
}

fn a_missing_program_ends_with_127(docker: &Docker) {
    for (words, text) in [
        (
            &["nosuch"][..],
            r#"exec: "nosuch": executable file not found in $PATH"#,
        ),
        (&["/no/such"], "no such file or directory"),
    ] {
        let outcome = docker.docker(&[&["run", "--rm", IMAGE], words].concat());
        assert!(
            outcome.code == 127 && outcome.stderr.contains(text),
            "{outcome}"
        );
    }
}

fn a_program_that_may_not_be_executed_ends_with_126(docker: &Docker) {
    for program in ["/etc/passwd", "/etc"] {
        let outcome = docker.docker(&["run", "--rm", IMAGE, program]);
        assert!(outcome.code == 126, "{outcome}");
    }
}

fn a_terminal_has_its_size_its_keys_and_its_status(_: &Docker) {
    let script = "trap 'echo interrupted; exit 9' INT; n=0; until [ \"$(stty size)\" = '31 97' ] || [ $n = 99 ]; do n=$((n+1)); sleep 0.05; done; \
        stty size; tty; read line; echo \"<$line>\"; while :; do sleep 600 & wait $!; done";
    let command = program(
        "docker",
        &[
            "run",
            "--rm",
            "--interactive",
            "--tty",
            IMAGE,
            "sh",
            "-c",
            script,
        ],
    );
    let (mut screen, child, _) = Screen::start(&command, 31, 97);
    screen.shows("31 97");
    screen.shows("/dev/pts/0");
    screen.types("word\n");
    screen.shows("<word>");
    screen.types("\x03");
    screen.shows("interrupted");
    screen.rest();
    assert_eq!(end(child), Some(9));
}

fn stdin_reaches_the_program(docker: &Docker) {
    let script = "echo sent | docker run --rm --interactive busybox:test sh -c 'read x; echo \"<$x>\"; cat; echo end'";
    let _ = docker;
    Outcome::of(&mut program("sh", &["-c", script]))
        .ok()
        .prints("<sent>\nend");
}

fn logs_and_attach_show_what_was_printed(docker: &Docker) {
    let running = docker.running(
        &[],
        "echo one; echo two >&2; while [ ! -e /go ]; do sleep 0.05; done; echo three; exit 6",
    );
    running.says("one");
    let attached = program("docker", &["attach", &running.name])
        .stdout(Stdio::piped())
        .spawn()
        .expect("docker");
    until("attached", || {
        running.exec(&[], &["touch", "/go"]).code == 0
    });
    let output = attached.wait_with_output().expect("attach");
    assert_eq!(output.status.code(), Some(6));
    let logs = running.call("logs", &[]).ok();
    assert_eq!(
        (logs.stdout.as_str(), logs.stderr.as_str()),
        ("one\nthree\n", "two\n")
    );
}

fn exec_has_its_own_status_user_folder_and_environment(docker: &Docker) {
    let running = docker.sleeps(&[]);
    let options = ["--user", "user", "--workdir", "/home", "--env", "A=b c"];
    running
        .exec(
            &options,
            &["sh", "-c", "id -un; pwd; echo \"$A $HOME\"; exit 3"],
        )
        .exits(3)
        .prints("user\n/home\nb c /home/user\n");
    running
        .exec(&["--detach"], &["sh", "-c", "echo x >/tmp/detached"])
        .ok();
    until("the detached one ran", || {
        running.exec(&[], &["cat", "/tmp/detached"]).code == 0
    });
}

fn exec_of_what_can_not_be_executed_says_so(docker: &Docker) {
    let running = docker.sleeps(&[]);
    // The client's code is its own version's affair; the words are the runtime's.
    for (options, words, text) in [
        (&[][..], "nosuch", "executable file not found in $PATH"),
        (&[], "/etc/passwd", "permission denied"),
        (
            &["--workdir", "/no/such"],
            "true",
            "no such file or directory",
        ),
    ] {
        let outcome = running.exec(options, &[words]);
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(
            matches!(outcome.code, 126 | 127) && said.contains(text),
            "{text}: {outcome}"
        );
    }
    let user = running.exec(&["--user", "nobody-here"], &["true"]);
    assert!(user.code != 0, "{user}");
}

fn exec_with_a_terminal(docker: &Docker) {
    let running = docker.sleeps(&[]);
    let command = program(
        "docker",
        &[
            "exec",
            "--interactive",
            "--tty",
            &running.name,
            "sh",
            "-c",
            "tty; read a; echo \"<$a>\"; exit 4",
        ],
    );
    let (mut screen, child, _) = Screen::start(&command, 22, 77);
    screen.shows("/dev/pts/");
    screen.types("word\n");
    screen.shows("<word>");
    screen.rest();
    assert_eq!(end(child), Some(4));
}

fn pause_and_unpause(docker: &Docker) {
    let running = docker.sleeps(&[]);
    running.call("pause", &[]).ok();
    assert_eq!(running.inspect("{{.State.Status}}"), "paused");
    let refused = running.exec(&[], &["true"]);
    assert!(
        refused.code != 0 && refused.stderr.contains("paused"),
        "{refused}"
    );
    running.call("unpause", &[]).ok();
    running.exec(&[], &["true"]).ok();
}

fn stats_and_top_show_the_processes(docker: &Docker) {
    let running = docker.sleeps(&[]);
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

fn kill_and_stop_send_their_signals(docker: &Docker) {
    let running = docker.sleeps(&[]);
    running.call("stop", &["--time", "20"]).ok();
    assert_eq!(running.inspect("{{.State.ExitCode}}"), "5");
    let refused = running.call("kill", &[]);
    assert!(
        refused.code == 1 && refused.stderr.contains("is not running"),
        "{refused}"
    );
    let running = docker.sleeps(&[]);
    running.call("kill", &["--signal", "TERM"]).ok();
    assert_eq!(running.waits(), "5");
    let deaf = docker.running(&[], "trap '' TERM; echo ready; while :; do sleep 600; done");
    deaf.says("ready");
    deaf.call("stop", &["--time", "1"]).ok();
    assert_eq!(deaf.inspect("{{.State.ExitCode}}"), "137");
    let user = docker.running(
        &["--stop-signal", "USR1"],
        "trap 'exit 8' USR1; echo ready; while :; do sleep 600 & wait $!; done",
    );
    user.says("ready");
    user.call("stop", &["--time", "20"]).ok();
    assert_eq!(user.inspect("{{.State.ExitCode}}"), "8");
}

fn restart_begins_anew(docker: &Docker) {
    let running = docker.running(
        &[],
        "echo >>/count; trap 'exit 5' TERM; echo ready; while :; do sleep 600 & wait $!; done",
    );
    running.says("ready");
    running.call("restart", &[]).ok();
    until("it counts two", || {
        running.exec(&[], &["wc", "-l", "/count"]).line() == "2 /count"
    });
    running.call("stop", &["--time", "20"]).ok();
    running.call("start", &[]).ok();
    until("it counts three", || {
        running.exec(&[], &["wc", "-l", "/count"]).line() == "3 /count"
    });
}

fn a_failing_container_is_restarted_as_often_as_allowed(docker: &Docker) {
    let running = docker.running(&["--restart", "on-failure:2"], "echo run; exit 1");
    running.becomes("{{.RestartCount}} {{.State.Status}}", "2 exited");
    assert_eq!(running.call("logs", &[]).ok().stdout, "run\nrun\nrun\n");
}

fn a_healthcheck_becomes_healthy_and_unhealthy(docker: &Docker) {
    let options = [
        "--health-cmd",
        "test -e /tmp/well",
        "--health-interval",
        "200ms",
        "--health-retries",
        "1",
    ];
    let running = docker.sleeps(&options);
    running.exec(&[], &["touch", "/tmp/well"]).ok();
    running.becomes("{{.State.Health.Status}}", "healthy");
    running.exec(&[], &["rm", "/tmp/well"]).ok();
    running.becomes("{{.State.Health.Status}}", "unhealthy");
}

fn a_published_port_is_reached(docker: &Docker) {
    let script = "mkdir /www; echo content >/www/page; exec httpd -f -p 80 -h /www";
    let running = docker.running(&["--publish", "127.0.0.1::80"], script);
    let port = running.inspect(r#"{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}"#);
    let address = running.inspect("{{.NetworkSettings.IPAddress}}");
    for url in [
        format!("http://127.0.0.1:{port}/page"),
        format!("http://{address}/page"),
    ] {
        until("the page is served", || {
            Outcome::of(&mut program("curl", &["--silent", &url])).stdout == "content\n"
        });
    }
}

fn containers_find_each_other_by_name(docker: &Docker) {
    docker.docker(&["network", "create", "net"]).ok();
    {
        let script = "mkdir /www; echo content >/www/page; echo ready; exec httpd -f -p 80 -h /www";
        let server = docker.running(&["--network", "net", "--network-alias", "server"], script);
        server.says("ready");
        docker
            .runs(
                &["--network", "net"],
                "for i in 1 2 3 4 5; do wget -q -O - http://server/page && break; sleep 0.2; done",
            )
            .ok()
            .prints("content");
    }
    docker.docker(&["network", "rm", "net"]).ok();
}

fn network_none_host_and_another_containers(docker: &Docker) {
    docker
        .runs(&["--network", "none"], "ls /sys/class/net")
        .ok()
        .prints("lo\n");
    let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
    docker
        .runs(
            &["--network", "host"],
            "readlink /proc/self/ns/net; hostname",
        )
        .ok()
        .prints(&own.to_string_lossy());
    let running = docker.sleeps(&[]);
    let theirs = running.exec(&[], &["readlink", "/proc/self/ns/net"]).ok();
    docker
        .runs(
            &["--network", &format!("container:{}", running.name)],
            "readlink /proc/self/ns/net",
        )
        .ok()
        .prints(theirs.line());
}

fn volumes_and_binds_keep_what_is_written(docker: &Docker) {
    docker
        .runs(&["--volume", "vol:/data"], "echo kept >/data/file")
        .ok();
    docker
        .runs(
            &["--volume", "vol:/data:ro"],
            "cat /data/file; touch /data/new 2>&1",
        )
        .exits(1)
        .prints("kept\n")
        .prints("Read-only file system");
    docker.docker(&["volume", "rm", "vol"]).ok();
    std::fs::create_dir_all("/run/given/below").expect("a folder");
    docker
        .runs(
            &["--volume", "/run/given:/given"],
            "echo x >/given/below/file",
        )
        .ok();
    assert_eq!(
        std::fs::read_to_string("/run/given/below/file").expect("the file"),
        "x\n"
    );
    docker.runs(&["--mount", "type=bind,src=/run/given,dst=/given,readonly,bind-propagation=rslave"], "cat /given/below/file; grep -q ' /given .* master:' /proc/self/mountinfo; touch /given/x").exits(1).prints("x\n");
    // What the image has in the volume's place is in the volume.
    docker
        .runs(
            &["--volume", "/etc"],
            "cat /etc/passwd; grep ' /etc ' /proc/self/mountinfo",
        )
        .ok()
        .prints("root:")
        .prints(" /etc ");
}

fn init_reaps_and_forwards(docker: &Docker) {
    docker
        .runs(&["--init"], "cat /proc/1/comm; (sleep 0 &); exit 3")
        .exits(3)
        .prints("init");
    let running = docker.sleeps(&["--init"]);
    running.call("stop", &["--time", "20"]).ok();
    assert_eq!(running.inspect("{{.State.ExitCode}}"), "5");
}

fn users_and_groups(docker: &Docker) {
    docker
        .runs(&["--user", "user", "--group-add", "4321"], "id; pwd")
        .ok()
        .prints("uid=1000(user) gid=1000")
        .prints("4321");
    docker
        .runs(
            &["--user", "2000:3000", "--workdir", "/made/anew"],
            "id; pwd; echo $HOME",
        )
        .ok()
        .prints("uid=2000 gid=3000")
        .prints("/made/anew\n/\n");
    let refused = docker.runs(&["--user", "nobody-here"], "id");
    assert!(refused.code != 0, "{refused}");
}

fn capabilities_are_added_and_dropped(docker: &Docker) {
    docker
        .runs(
            &["--cap-add", "SYS_ADMIN"],
            "mount -t tmpfs t /mnt && echo mounted",
        )
        .ok()
        .prints("mounted");
    docker
        .runs(&[], "mount -t tmpfs t /mnt 2>&1 || echo refused")
        .ok()
        .prints("refused");
    docker
        .runs(
            &["--cap-drop", "ALL"],
            "grep Cap /proc/self/status; chown 1:1 /tmp 2>/dev/null || echo refused",
        )
        .ok()
        .prints("CapEff:\t0000000000000000")
        .prints("refused");
    docker
        .runs(
            &["--cap-drop", "ALL", "--cap-add", "CHOWN"],
            "grep CapBnd /proc/self/status",
        )
        .ok()
        .prints("CapBnd:\t0000000000000001");
}

fn a_read_only_root_with_a_tmpfs(docker: &Docker) {
    let options = [
        "--read-only",
        "--tmpfs",
        "/scratch:size=1m,mode=1700,noexec",
    ];
    let script = "touch /new 2>&1; grep ' /scratch ' /proc/self/mountinfo; stat -c %a /scratch; head -c 2m /dev/zero >/scratch/big; ls -l /scratch/big";
    docker
        .runs(&options, script)
        .ok()
        .prints("Read-only file system")
        .prints("noexec")
        .prints("1700")
        .prints("1048576");
}

fn no_new_privileges(docker: &Docker) {
    docker
        .runs(
            &["--security-opt", "no-new-privileges"],
            "grep NoNewPrivs /proc/self/status",
        )
        .ok()
        .prints("NoNewPrivs:\t1");
    docker
        .runs(&[], "grep NoNewPrivs /proc/self/status")
        .ok()
        .prints("NoNewPrivs:\t0");
}

fn seccomp_profiles_of_the_engine_and_of_the_user(docker: &Docker) {
    docker
        .runs(&[], "grep Seccomp: /proc/self/status; unshare -U true 2>&1")
        .prints("Seccomp:\t2")
        .prints("Operation not permitted");
    docker
        .runs(
            &["--security-opt", "seccomp=unconfined"],
            "grep Seccomp: /proc/self/status",
        )
        .ok()
        .prints("Seccomp:\t0");
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":71}]}"#;
    std::fs::write("/run/profile.json", profile).expect("a profile");
    docker
        .runs(
            &["--security-opt", "seccomp=/run/profile.json"],
            "mkdir /made 2>&1",
        )
        .exits(1)
        .prints("Protocol error");
}

fn masked_paths_are_masked(docker: &Docker) {
    let script =
        "wc -c </proc/keys; ls /proc/acpi /sys/firmware | wc -l; echo 1 >/proc/sys/kernel/panic";
    let outcome = docker.runs(&[], script);
    assert!(
        outcome.code != 0 && outcome.stdout.starts_with("0\n"),
        "{outcome}"
    );
    docker
        .runs(
            &["--security-opt", "systempaths=unconfined"],
            "grep -c ' /proc/' /proc/self/mountinfo",
        )
        .exits(1)
        .prints("0\n");
}

fn memory_limit_and_oom_kill(docker: &Docker) {
    let running = docker.running(&["--memory", "20m", "--memory-swap", "20m"], "cat /sys/fs/cgroup/memory/memory.limit_in_bytes; exec sh -c 'x=$(head -c 100m /dev/zero | tail); sleep 1'");
    let status = running.waits();
    assert_eq!(
        running.inspect("{{.State.OOMKilled}}"),
        "true",
        "status {status}"
    );
    running.says("20971520");
    let tiny = docker.runs(&["--memory", "1m"], "true");
    assert!(
        tiny.code == 125 && tiny.stderr.contains("Minimum memory limit"),
        "{tiny}"
    );
}

fn cpu_pids_and_ulimit(docker: &Docker) {
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
    ];
    let script = "cd /sys/fs/cgroup; cat cpu/cpu.cfs_quota_us cpu/cpu.shares cpuset/cpuset.cpus pids/pids.max; ulimit -n; ulimit -Hn; for i in $(seq 30); do sleep 1 & done 2>/dev/null";
    docker
        .runs(&options, script)
        .prints("50000\n512\n0\n20\n100\n200\n");
}

fn sysctl_shm_size_and_hostname(docker: &Docker) {
    let options = [
        "--sysctl",
        "net.ipv4.ip_default_ttl=77",
        "--shm-size",
        "1m",
        "--hostname",
        "named",
        "--domainname",
        "example",
        "--add-host",
        "other:10.1.2.3",
        "--dns",
        "10.9.8.7",
    ];
    let script = "cat /proc/sys/net/ipv4/ip_default_ttl; df -k /dev/shm; hostname; cat /etc/hosts /etc/resolv.conf";
    docker
        .runs(&options, script)
        .ok()
        .prints("77\n")
        .prints(" 1024 ")
        .prints("named\n")
        .prints("10.1.2.3\tother")
        .prints("nameserver 10.9.8.7");
}

fn a_device_is_given(docker: &Docker) {
    let script = "head -c 1 /dev/given >/dev/null && echo read; echo x >/dev/given || echo refused; ls /dev/fuse";
    docker
        .runs(&["--device", "/dev/full:/dev/given:r"], script)
        .exits(1)
        .prints("read")
        .prints("refused");
}

fn pid_and_ipc_of_another_container(docker: &Docker) {
    let running = docker.sleeps(&["--ipc", "shareable"]);
    let other = format!("container:{}", running.name);
    running.exec(&[], &["touch", "/dev/shm/shared"]).ok();
    docker
        .runs(&["--pid", &other, "--ipc", &other], "ps; ls /dev/shm")
        .ok()
        .prints("sleep 600")
        .prints("shared");
    docker
        .runs(
            &["--pid", "host"],
            "readlink /proc/1/exe; readlink /proc/self/ns/pid",
        )
        .prints(
            &std::fs::read_link("/proc/self/ns/pid")
                .expect("a namespace")
                .to_string_lossy(),
        );
    // Without a pid namespace of its own, what it leaves behind is ended with it.
    docker.runs(&["--pid", "host"], "sleep 617 & exit 0").ok();
    until("what it left is ended", || {
        Outcome::of(&mut program("pgrep", &["-f", "^sleep 617"])).code == 1
    });
}

fn files_are_copied_in_and_out(docker: &Docker) {
    let running = docker.sleeps(&[]);
    std::fs::write("/run/sent", "content").expect("a file");
    docker
        .docker(&["cp", "/run/sent", &format!("{}:/tmp/sent", running.name)])
        .ok();
    running
        .exec(&[], &["cat", "/tmp/sent"])
        .ok()
        .prints("content");
    docker
        .docker(&[
            "cp",
            &format!("{}:/etc/hostname", running.name),
            "/run/taken",
        ])
        .ok();
    assert!(std::fs::metadata("/run/taken").is_ok_and(|file| file.len() > 0));
    running.call("diff", &[]).ok().prints("A /tmp/sent");
}

fn an_image_is_built(docker: &Docker) {
    std::fs::create_dir_all("/run/context").expect("a folder");
    std::fs::write(
        "/run/context/Dockerfile",
        format!("FROM {IMAGE}\nRUN echo built >/built && id -u\nUSER user\nENTRYPOINT [\"cat\"]\n"),
    )
    .expect("a Dockerfile");
    Outcome::of(
        program("docker", &["build", "--tag", "built:test", "/run/context"])
            .env("DOCKER_BUILDKIT", "0"),
    )
    .ok();
    docker
        .docker(&["run", "--rm", "built:test", "/built"])
        .ok()
        .prints("built\n");
    docker.docker(&["image", "rm", "built:test"]).ok();
}

fn a_container_is_created_renamed_and_started_later(docker: &Docker) {
    let name = docker.name();
    docker
        .docker(&[
            "create",
            "--name",
            "early",
            IMAGE,
            "sh",
            "-c",
            "echo late; exit 2",
        ])
        .ok();
    docker.docker(&["rename", "early", &name]).ok();
    let made = Running {
        engine: docker,
        name,
    };
    made.call("start", &["--attach"]).exits(2).prints("late");
    made.call("rm", &[]).ok();
}

fn ten_containers_at_once(docker: &Docker) {
    let children: Vec<Child> = (0..10)
        .map(|n| {
            let script = format!("echo {n}; exit {n}");
            program("docker", &["run", "--rm", IMAGE, "sh", "-c", &script])
                .stdout(Stdio::null())
                .spawn()
                .expect("docker")
        })
        .collect();
    let statuses: Vec<Option<i32>> = children.into_iter().map(end).collect();
    assert_eq!(statuses, (0..10).map(Some).collect::<Vec<_>>());
    assert_eq!(docker.docker(&["ps", "--all", "--quiet"]).ok().line(), "");
}

fn a_container_outlives_its_daemon(docker: &Docker) {
    let running = docker.sleeps(&[]);
    let mut child = docker.daemon.borrow_mut().take().expect("a daemon");
    Outcome::of(&mut program("kill", &[&child.id().to_string()])).ok();
    child.wait().expect("wait");
    docker.starts();
    running.exec(&[], &["echo", "alive"]).ok().prints("alive");
    running.call("stop", &["--time", "20"]).ok();
    assert_eq!(running.inspect("{{.State.ExitCode}}"), "5");
}

fn privileged(docker: &Docker) {
    docker
        .runs(&["--privileged"], "mount -t tmpfs t /mnt && echo mounted")
        .ok()
        .prints("mounted");
}

fn nothing_is_left_of_them(docker: &Docker) {
    assert_eq!(docker.docker(&["ps", "--all", "--quiet"]).ok().line(), "");
    until("no cgroup is left", || {
        let left = std::fs::read_dir("/sys/fs/cgroup/memory/docker")
            .into_iter()
            .flatten()
            .flatten();
        left.filter(|entry| entry.path().is_dir()).count() == 0
    });
    let state = std::fs::read_dir("/run/docker/runtime-runc/moby")
        .into_iter()
        .flatten()
        .flatten();
    let state: Vec<_> = state
        .map(|entry| entry.path())
        .filter(|path| !path.ends_with(".seccomp"))
        .collect();
    assert!(state.is_empty(), "{state:?}");
}
