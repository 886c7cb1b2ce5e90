//! containerd, by its own client ctr: what a runtime is asked for when nothing else stands between.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use crate::crowd;
use crate::docs::snippet;
use crate::goods::IMAGE;
use crate::harness::terminal::Screen;
use crate::harness::{Outcome, end, until};
use crate::left;
use crate::power::{self, Run, Stranger};
use crate::session::{Begin, program, tail};

pub const LOG: &str = "/run/containerd.log";
pub const SOCKET: &str = "/run/containerd/containerd.sock";
const IN_PLACE: &str = "/run/in-place";
const NAME: &str = "test/busybox:1";

pub struct Containerd {
    runtime: String,
    daemon: RefCell<Daemon>,
    next: Cell<u32>,
}

engine! { ENGINE, "containerd", Containerd, ["containerd", "ctr", "umoci"],
    a_container_prints_and_ends_with_its_status
    a_program_that_is_not_there_is_named
    a_terminal_has_its_size_and_its_keys
    the_root_is_read_only_when_asked
    a_mount_and_the_environment_arrive
    memory_and_cpu_limits_are_written
    the_default_seccomp_profile_acts
    capabilities_are_added_and_dropped
    a_user_namespace_maps_root
    a_namespace_of_another_container_is_joined
    exec_has_its_own_status
    exec_with_a_terminal
    exec_of_a_missing_program_is_named
    a_paused_container_stands_still
    a_signal_reaches_the_program
    kill_all_ends_every_process
    a_task_that_runs_is_deleted_by_force_only
    ps_lists_the_processes
    metrics_count_memory_and_processes
    more_memory_than_allowed_is_an_oom_kill
    containers_outlive_their_daemon
    a_killed_shim_leaves_nothing_that_blocks_the_name
    a_private_daemon_is_tried_as_the_page_says
    a_crowd_comes_and_goes_without_a_trace
    nothing_is_left_of_them
    a_stranger_with_a_pid_of_the_boot_before_is_spared
    a_container_comes_back_after_a_power_loss
}

/// The daemon, with docs/engines.md's configuration.
pub struct Daemon(Child);

impl Daemon {
    pub fn start(runtime: &str) -> Daemon {
        std::fs::create_dir_all("/etc/containerd").expect("a folder");
        std::fs::write(
            "/etc/containerd/config.toml",
            snippet("containerd", runtime),
        )
        .expect("config.toml");
        // Where whoever looks for runc finds this runtime.
        let (link, path) = (
            format!("{IN_PLACE}/runc"),
            std::env::var("PATH").expect("PATH"),
        );
        std::fs::create_dir_all(IN_PLACE).expect("a folder");
        let _ = std::fs::remove_file(&link);
        symlink(format!("/usr/local/bin/{runtime}"), link).expect("a link");
        let log = File::options()
            .create(true)
            .append(true)
            .open(LOG)
            .expect("a log");
        let errors = log.try_clone().expect("dup");
        let child = Command::new("containerd")
            .env("PATH", format!("{IN_PLACE}:{path}"))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("containerd");
        until("containerd answers", || {
            Outcome::of(&mut program("ctr", &["version"])).code == 0
        });
        Daemon(child)
    }

    pub fn stop(&mut self) {
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }
}

impl Begin for Containerd {
    fn begin(runtime: &str) -> Containerd {
        let daemon = RefCell::new(Daemon::start(runtime));
        let engine = Containerd {
            runtime: runtime.to_owned(),
            daemon,
            next: Cell::new(1),
        };
        engine
            .ctr(&["image", "import", "--base-name", "test/busybox", IMAGE])
            .ok();
        engine
    }

    fn said(&self) -> String {
        tail(LOG)
    }
}

impl Containerd {
    fn ctr(&self, args: &[&str]) -> Outcome {
        Outcome::of(&mut program("ctr", args))
    }

    fn id(&self) -> String {
        self.next.set(self.next.get() + 1);
        format!("c{}", self.next.get())
    }

    /// `ctr run OPTIONS image ID sh -c SCRIPT` as a command.
    fn command(&self, options: &[&str], id: &str, program: &[&str]) -> Command {
        let path = format!("/usr/local/bin/{}", self.runtime);
        crate::session::program(
            "ctr",
            &[
                &["run", "--runc-binary", &path],
                options,
                &[NAME, id],
                program,
            ]
            .concat(),
        )
    }

    /// Runs a script in the foreground, and removes the container.
    fn runs(&self, options: &[&str], script: &str) -> Outcome {
        let id = self.id();
        Outcome::of(&mut self.command(&[&["--rm"], options].concat(), &id, &["sh", "-c", script]))
    }

    /// A container in the background.
    fn running(&self, options: &[&str], script: &str) -> Running<'_> {
        let id = self.id();
        Outcome::of(&mut self.command(
            &[&["--detach"], options].concat(),
            &id,
            &["sh", "-c", script],
        ))
        .ok();
        Running { engine: self, id }
    }

    fn sleeps(&self) -> Running<'_> {
        self.running(
            &[],
            "trap 'exit 5' TERM; echo >/tmp/ready; while :; do sleep 600 & wait $!; done",
        )
        .ready()
    }
}

/// It is removed when it goes.
struct Running<'a> {
    engine: &'a Containerd,
    id: String,
}

impl Running<'_> {
    /// The script has come to the place where it writes /tmp/ready.
    fn ready(self) -> Self {
        until("the script is ready", || {
            self.exec(&["test", "-e", "/tmp/ready"]).code == 0
        });
        self
    }

    fn exec(&self, words: &[&str]) -> Outcome {
        let name = format!("e{}", self.engine.id());
        self.engine
            .ctr(&[&["task", "exec", "--exec-id", &name, &self.id], words].concat())
    }

    fn task(&self, verb: &str, options: &[&str]) -> Outcome {
        self.engine
            .ctr(&[&["task", verb], options, &[self.id.as_str()]].concat())
    }

    fn status(&self) -> String {
        let list = self.engine.ctr(&["task", "ls"]).ok().stdout;
        let line = list
            .lines()
            .find(|line| line.split_whitespace().next() == Some(&self.id));
        line.and_then(|line| line.split_whitespace().nth(2))
            .unwrap_or("absent")
            .to_owned()
    }

    /// Its first process, as the session numbers it.
    fn pid(&self) -> u32 {
        let pids = self.task("ps", &[]).ok().stdout;
        let line = pids.lines().nth(1).unwrap_or_default();
        let pid = line.split_whitespace().next();
        pid.and_then(|pid| pid.parse().ok()).expect("a pid")
    }

    /// There is no task any more: it starts again, and ends as it should.
    fn comes_back(&self) {
        self.task("start", &["--detach"]).ok();
        until("the script waits", || {
            self.exec(&["pidof", "sleep"]).code == 0
        });
        self.task("kill", &["--signal", "SIGTERM"]).ok();
        self.becomes("STOPPED");
        self.ended_with(5);
    }

    fn becomes(&self, status: &str) {
        until(&format!("the task is {status}"), || self.status() == status);
    }

    /// Removes the task, whose status ctr says in words.
    fn ended_with(&self, status: i32) {
        let outcome = self.task("delete", &[]).ok();
        let text = format!("exit code {status}\"");
        assert!(outcome.stderr.contains(&text), "{text}: {outcome}");
    }

    /// What a file of its cgroup says.
    fn cgroup(&self, controller: &str, file: &str) -> String {
        let path = format!("/sys/fs/cgroup/{controller}/default/{}/{file}", self.id);
        std::fs::read_to_string(&path)
            .unwrap_or_else(|e| panic!("{path}: {e}"))
            .trim()
            .to_owned()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.task("kill", &["--signal", "SIGKILL"]);
        self.task("delete", &["--force"]);
        self.engine.ctr(&["container", "delete", &self.id]);
    }
}

fn a_container_prints_and_ends_with_its_status(engine: &Containerd) {
    let outcome = engine
        .runs(&[], "echo out; echo err >&2; exit 7")
        .exits(7)
        .prints("out\n");
    assert_eq!(outcome.stderr, "err\n");
    engine
        .runs(&[], "sh -c 'kill -KILL $$'; exit $?")
        .exits(137);
}

fn a_program_that_is_not_there_is_named(engine: &Containerd) {
    let id = engine.id();
    let outcome = Outcome::of(&mut engine.command(&["--rm"], &id, &["nosuch"]));
    let text = r#"exec: "nosuch": executable file not found in $PATH"#;
    assert!(
        outcome.code == 1 && outcome.stderr.contains(text),
        "{outcome}"
    );
}

fn a_terminal_has_its_size_and_its_keys(engine: &Containerd) {
    let id = engine.id();
    let command = engine.command(
        &["--rm", "--tty"],
        &id,
        &[
            "sh",
            "-c",
            "read line; echo \"<$line>\"; n=0; until [ \"$(stty size)\" = '31 97' ] || [ $n = 99 ]; do n=$((n+1)); sleep 0.05; done; stty size; tty; exit 9",
        ],
    );
    let (mut screen, child, _) = Screen::start(&command, 31, 97);
    screen.types("typed\n");
    screen.shows("<typed>");
    screen.shows("31 97");
    screen.shows("/dev/pts/0");
    screen.rest();
    assert_eq!(end(child), Some(9));
}

fn the_root_is_read_only_when_asked(engine: &Containerd) {
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

fn a_mount_and_the_environment_arrive(engine: &Containerd) {
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

fn memory_and_cpu_limits_are_written(engine: &Containerd) {
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

fn the_default_seccomp_profile_acts(engine: &Containerd) {
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

fn capabilities_are_added_and_dropped(engine: &Containerd) {
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

fn a_user_namespace_maps_root(engine: &Containerd) {
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

fn a_namespace_of_another_container_is_joined(engine: &Containerd) {
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

fn exec_has_its_own_status(engine: &Containerd) {
    let running = engine.sleeps();
    running
        .exec(&["sh", "-c", "echo inside; exit 3"])
        .exits(3)
        .prints("inside\n");
    running.exec(&["true"]).ok();
    assert_eq!(running.status(), "RUNNING");
}

fn exec_with_a_terminal(engine: &Containerd) {
    let running = engine.sleeps();
    let command = program(
        "ctr",
        &[
            "task",
            "exec",
            "--tty",
            "--exec-id",
            "term",
            &running.id,
            "sh",
            "-c",
            "read a; echo \"<$a>\"; n=0; until [ \"$(stty size)\" = '22 77' ] || [ $n = 99 ]; do n=$((n+1)); sleep 0.05; done; stty size; exit 4",
        ],
    );
    let (mut screen, child, _) = Screen::start(&command, 22, 77);
    screen.types("word\n");
    screen.shows("<word>");
    screen.shows("22 77");
    screen.rest();
    assert_eq!(end(child), Some(4));
}

fn exec_of_a_missing_program_is_named(engine: &Containerd) {
    let running = engine.sleeps();
    let outcome = running.exec(&["nosuch"]);
    let text = r#"exec: "nosuch": executable file not found in $PATH"#;
    assert!(
        outcome.code != 0 && outcome.stderr.contains(text),
        "{outcome}"
    );
    assert_eq!(running.status(), "RUNNING");
}

fn a_paused_container_stands_still(engine: &Containerd) {
    let running = engine.sleeps();
    running.task("pause", &[]).ok();
    assert_eq!(running.status(), "PAUSED");
    assert_eq!(running.cgroup("freezer", "freezer.state"), "FROZEN");
    let refused = running.exec(&["true"]);
    assert!(refused.code != 0, "{refused}");
    running.task("resume", &[]).ok();
    assert_eq!(running.status(), "RUNNING");
    assert_eq!(running.cgroup("freezer", "freezer.state"), "THAWED");
    running.exec(&["true"]).ok();
}

fn a_signal_reaches_the_program(engine: &Containerd) {
    let running = engine.sleeps();
    running.task("kill", &["--signal", "SIGTERM"]).ok();
    running.becomes("STOPPED");
    running.ended_with(5);
    let again = running.task("kill", &[]);
    assert!(
        again.code == 1 && again.stderr.contains("not found"),
        "{again}"
    );
}

fn kill_all_ends_every_process(engine: &Containerd) {
    let running = engine
        .running(
            &["--with-ns", "pid:/proc/1/ns/pid"],
            "sleep 611 & echo >/tmp/ready; sleep 612",
        )
        .ready();
    let others = || {
        let is_one = |pid: &String| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline"));
            line.is_ok_and(|line| line == b"sleep\x00611\0")
        };
        processes().iter().filter(|pid| is_one(pid)).count()
    };
    assert_eq!(others(), 1);
    running.task("kill", &["--all", "--signal", "SIGKILL"]).ok();
    until("the other process is gone", || others() == 0);
    running.becomes("STOPPED");
    running.ended_with(137);
}

fn a_task_that_runs_is_deleted_by_force_only(engine: &Containerd) {
    let running = engine.sleeps();
    let refused = running.task("delete", &[]);
    assert!(refused.code == 1, "{refused}");
    running.task("delete", &["--force"]);
    assert_eq!(running.status(), "absent");
}

fn ps_lists_the_processes(engine: &Containerd) {
    let running = engine.sleeps();
    let list = running.task("ps", &[]).ok().stdout;
    assert_eq!(
        list.lines().count(),
        3,
        "a header, the shell and its sleep: {list}"
    );
}

fn metrics_count_memory_and_processes(engine: &Containerd) {
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

fn more_memory_than_allowed_is_an_oom_kill(engine: &Containerd) {
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

fn containers_outlive_their_daemon(engine: &Containerd) {
    let running = engine.sleeps();
    engine.daemon.borrow_mut().stop();
    engine.daemon.replace(Daemon::start(&engine.runtime));
    assert_eq!(running.status(), "RUNNING");
    running.exec(&["echo", "alive"]).ok().prints("alive");
    running.task("kill", &["--signal", "SIGTERM"]).ok();
    running.becomes("STOPPED");
    running.ended_with(5);
}

fn a_killed_shim_leaves_nothing_that_blocks_the_name(engine: &Containerd) {
    let running = engine.sleeps();
    let needle = format!(
        "containerd-shim-runc-v2\0-namespace\0default\0-id\0{}\0",
        running.id
    );
    let pid = processes().into_iter().find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.contains(&needle))
    });
    let pid = pid.expect("a shim");
    Outcome::of(&mut program("kill", &["-KILL", &pid])).ok();
    until("the task is gone", || {
        matches!(&*running.status(), "absent" | "STOPPED")
    });
    running.task("delete", &["--force"]);
    engine.ctr(&["container", "delete", &running.id]).ok();
    let command = &mut engine.command(&["--rm"], &running.id, &["echo", "again"]);
    Outcome::of(command).ok().prints("again");
}

fn a_container_comes_back_after_a_power_loss(engine: &Containerd) {
    let running = engine.sleeps();
    power::fails(Run::Emptied);
    power::boots_anew();
    engine.daemon.replace(Daemon::start(&engine.runtime));
    assert_eq!(running.status(), "absent");
    running.comes_back();
    drop(running);
    nothing_is_left_of_them(engine);
}

fn a_stranger_with_a_pid_of_the_boot_before_is_spared(engine: &Containerd) {
    let running = engine.sleeps();
    let pid = running.pid();
    power::fails(Run::Kept);
    let mut stranger = Stranger::with(pid);
    engine.daemon.replace(Daemon::start(&engine.runtime));
    until("the task is gone", || {
        matches!(&*running.status(), "absent" | "STOPPED")
    });
    running.task("delete", &["--force"]);
    running.comes_back();
    stranger.lives();
    drop(running);
    nothing_is_left_of_them(engine);
}

fn a_private_daemon_is_tried_as_the_page_says(engine: &Containerd) {
    let script = snippet("a private containerd", &engine.runtime);
    let mut command = program("sh", &["-e", "-c", &script.replace("image.tar", IMAGE)]);
    Outcome::of(&mut command).ok().prints("it ended with 42\n");
    // What it made is not the other daemon's.
    let list = engine.ctr(&["container", "ls", "--quiet"]).ok();
    assert!(!list.stdout.contains("first"), "{list}");
}

fn a_crowd_comes_and_goes_without_a_trace(engine: &Containerd) {
    // Its own cgroup's parent, and what an engine makes once, are there already.
    drop(engine.sleeps());
    let daemon = engine.daemon.borrow().0.id();
    crowd::leaves_nothing(daemon, || a_crowd_comes_and_goes(engine));
}

fn a_crowd_comes_and_goes(engine: &Containerd) {
    let ids: Vec<String> = (0..crowd::size()).map(|_| engine.id()).collect();
    let one = |id: &String| Running {
        engine,
        id: id.clone(),
    };
    let removed_whatever_comes: Vec<Running<'_>> = ids.iter().map(one).collect();
    let path = format!("/usr/local/bin/{}", engine.runtime);
    let script = "while :; do sleep 600; done";
    let well = |_| 0;
    crowd::all(
        "start",
        |number| {
            let words = ["run", "--detach", "--null-io", "--runc-binary", &path, NAME];
            let its = [&ids[number], "sh", "-c", script];
            program("ctr", &[&words[..], &its[..]].concat())
        },
        well,
    );
    let list = engine.ctr(&["task", "ls"]).ok().stdout;
    let running = list.lines().filter(|line| line.contains("RUNNING"));
    assert_eq!(running.count(), crowd::size());
    // Its client may lose the last that was printed, and no status.
    let status = |number| number as i32 % 100;
    crowd::all(
        "exec",
        |number| {
            let words = ["task", "exec", "--exec-id", "e", &ids[number], "sh", "-c"];
            let script = format!("exit {}", status(number));
            program("ctr", &[&words[..], &[&script]].concat())
        },
        status,
    );
    let script = r#"ctr task delete --force "$1"; exec ctr container delete "$1""#;
    crowd::all(
        "removal",
        |number| program("sh", &["-c", script, "sh", &ids[number]]),
        well,
    );
    std::mem::forget(removed_whatever_comes);
}

fn nothing_is_left_of_them(engine: &Containerd) {
    assert_eq!(engine.ctr(&["container", "ls", "--quiet"]).ok().line(), "");
    left::no_cgroup("default");
    left::no_state("/run/containerd/runc/default");
    let lines = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!lines.contains("/rootfs"), "{lines}");
}

fn processes() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.parse::<u32>().is_ok())
        .collect()
}
