//! Podman, root's and an ordinary user's own, where systemd makes the cgroups and there is nothing but cgroup v2.
//! A command costs ten times as much in the guest that has it so: all behaviours look at one container.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::boxes::{Boxes, IMAGE};
use crate::harness::{Outcome, until, user};
use crate::left;
use crate::podman::begins;
use crate::session::{self, Begin, program};

/// What the sessions need beside the snippet.
const HERE: &str = r#"
[engine]
cgroup_manager = "systemd"
events_logger = "file"
[containers]
netns = "none"
"#;

/// Where systemd.sh has the user's systemd: a login's cgroup below it.
const LOGIN: &str = "/sys/fs/cgroup/user.slice/tester.service/login";

const LIMITS: [&str; 8] = [
    "--memory",
    "64m",
    "--memory-swap",
    "96m",
    "--cpus",
    "0.5",
    "--pids-limit",
    "40",
];

engine! { ROOTS, "podman-systemd", Podman, ["podman", "conmon"],
    limits_are_the_scopes_and_the_kernels
    exec_is_in_the_containers_cgroup
    stats_count_what_it_uses
    pause_and_unpause
    an_update_reaches_systemd_and_the_kernel
    nothing_is_left_of_it
}

engine! { USERS, "podman-rootless-systemd", Rootless, ["podman", "conmon", "newuidmap"],
    limits_are_the_scopes_and_the_kernels
    exec_is_in_the_containers_cgroup
    stats_count_what_it_uses
    pause_and_unpause
    an_update_reaches_systemd_and_the_kernel
    nothing_is_left_of_it
}

/// An engine and the one container that it runs.
pub struct Managed {
    podman: Boxes,
    id: String,
}

pub struct Podman(Managed);
pub struct Rootless(Managed);

impl Begin for Podman {
    fn begin(runtime: &str) -> Podman {
        Podman(Managed::of(begins(runtime, Boxes::of("podman"), HERE)))
    }

    fn said(&self) -> String {
        String::new()
    }
}

impl Begin for Rootless {
    fn begin(runtime: &str) -> Rootless {
        let boxes = Boxes::of_login("podman", LOGIN);
        Rootless(Managed::of(begins(runtime, boxes, HERE)))
    }

    fn said(&self) -> String {
        String::new()
    }
}

impl Deref for Podman {
    type Target = Managed;

    fn deref(&self) -> &Managed {
        &self.0
    }
}

impl Deref for Rootless {
    type Target = Managed;

    fn deref(&self) -> &Managed {
        &self.0
    }
}

impl Managed {
    fn of(podman: Boxes) -> Managed {
        let words = [&["run", "--detach"], &LIMITS[..], &[IMAGE, "sleep", "600"]];
        let id = podman.call(&words.concat()).ok().line().to_owned();
        Managed { podman, id }
    }

    fn call(&self, verb: &str, options: &[&str]) -> Outcome {
        self.podman
            .call(&[&[verb], options, &[self.id.as_str()]].concat())
            .ok()
    }

    /// What systemd says of the container's scope, in the order of its own.
    fn scope(&self, properties: &str) -> Vec<String> {
        let unit = format!("libpod-{}.scope", self.id);
        let words = ["show", "--property", properties, &unit];
        shown(&mut if self.podman.is_users() {
            let words = [&["--user"], &words[..]].concat();
            self.podman.program("systemctl", &words)
        } else {
            program("systemctl", &words)
        })
    }

    /// Its cgroups below the scope's own, and the scope's own.
    fn cgroups(&self) -> Vec<PathBuf> {
        let name = format!("libpod-{}.scope", self.id);
        let find = ["/sys/fs/cgroup", "-name", &name];
        let found = Outcome::of(&mut program("find", &find)).ok();
        found.stdout.lines().map(PathBuf::from).collect()
    }

    fn files(&self, names: &[&str]) -> Vec<String> {
        let [scope] = &self.cgroups()[..] else {
            panic!("not one scope: {:?}", self.cgroups());
        };
        written(scope, names)
    }
}

/// What the kernel has in these files, wherever below the scope the runtime put the container.
pub fn written(scope: &Path, names: &[&str]) -> Vec<String> {
    let inner = scope.join("container");
    let cgroup = if inner.exists() { &inner } else { scope };
    let read = |name: &&str| {
        let either = [cgroup.join(name), scope.join(name)];
        let text = either.map(|path| std::fs::read_to_string(path).unwrap_or_default());
        let set = text.iter().find(|text| !text.starts_with("max"));
        set.unwrap_or(&text[0]).trim_end().to_owned()
    };
    names.iter().map(read).collect()
}

/// The lines of what systemctl(1) shows, in the order of our own.
pub fn shown(systemctl: &mut Command) -> Vec<String> {
    let outcome = Outcome::of(systemctl).ok();
    let mut lines: Vec<String> = outcome.stdout.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn limits_are_the_scopes_and_the_kernels(managed: &Managed) {
    let names = ["memory.max", "memory.swap.max", "cpu.max", "pids.max"];
    let values = ["67108864", "33554432", "50000 100000", "40"];
    assert_eq!(managed.files(&names), values);
    let properties = "ActiveState,MemoryMax,TasksMax,CPUQuotaPerSecUSec";
    let lines = [
        "ActiveState=active",
        "CPUQuotaPerSecUSec=500ms",
        "MemoryMax=67108864",
        "TasksMax=40",
    ];
    assert_eq!(managed.scope(properties), lines);
}

fn exec_is_in_the_containers_cgroup(managed: &Managed) {
    let words = ["exec", &managed.id, "cat", "/proc/self/cgroup"];
    let outcome = managed.podman.call(&words).ok();
    assert_eq!(outcome.stdout, "0::/\n");
}

fn stats_count_what_it_uses(managed: &Managed) {
    let format = "{{.PIDs}} {{.MemUsage}}";
    let stats = managed.call("stats", &["--no-stream", "--format", format]);
    let line = stats.line();
    assert!(
        line.starts_with("1 ") && line.ends_with("/ 67.11MB") && !line.contains(" 0B"),
        "{stats}"
    );
}

fn pause_and_unpause(managed: &Managed) {
    let frozen = || {
        let events = managed.files(&["cgroup.events"]);
        events[0].contains("frozen 1")
    };
    managed.call("pause", &[]);
    assert!(frozen());
    managed.call("unpause", &[]);
    assert!(!frozen());
}

fn an_update_reaches_systemd_and_the_kernel(managed: &Managed) {
    let options = ["--memory", "48m", "--memory-swap", "48m", "--cpus", "0.25"];
    managed.call("update", &options);
    let names = ["memory.max", "cpu.max", "pids.max"];
    assert_eq!(managed.files(&names), ["50331648", "25000 100000", "40"]);
    let lines = [
        "CPUQuotaPerSecUSec=250ms",
        "MemoryMax=50331648",
        "TasksMax=40",
    ];
    let properties = "MemoryMax,TasksMax,CPUQuotaPerSecUSec";
    assert_eq!(managed.scope(properties), lines);
}

fn nothing_is_left_of_it(managed: &Managed) {
    managed.call("rm", &["--force", "--time", "0"]);
    let runtime = session::runtime();
    left::no_state(&format!("/run/{runtime}"));
    left::no_state(&format!("/run/user/{}/{runtime}", user::UID));
    if managed.podman.is_users() {
        // It ends the process that holds the user namespace, in a scope of its own.
        managed.podman.call(&["system", "migrate"]).ok();
    }
    // systemd.sh looks at what else is left of all of them.
    until("its cgroups are gone", || managed.cgroups().is_empty());
}
