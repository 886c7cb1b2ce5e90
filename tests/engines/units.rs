//! containerd, by its own client, where systemd makes the cgroups and there is nothing but cgroup v2: the runtime is
//! called as `SystemdCgroup = true` has it. A command costs ten times as much in the guest that has it so: all
//! behaviours look at one container.

use std::path::Path;

use crate::containerd::{Daemon, LOG};
use crate::goods::ROOTFS;
use crate::harness::{Outcome, until};
use crate::left;
use crate::managed::{shown, written};
use crate::session::{Begin, program, tail};

const ROOT: &str = "/opt/units";
const SCOPE: &str = "/sys/fs/cgroup/system.slice/test-units.scope";

engine! { ENGINE, "containerd-systemd", Units, ["containerd", "ctr"],
    limits_are_the_scopes_and_the_kernels
    exec_is_in_the_containers_cgroup
    pause_and_unpause
    nothing_is_left_of_it
}

pub struct Units(Daemon);

impl Begin for Units {
    fn begin(runtime: &str) -> Units {
        let units = Units(Daemon::start(runtime));
        std::fs::create_dir_all(ROOT).expect("a folder");
        Outcome::of(&mut program("tar", &["-C", ROOT, "-xf", ROOTFS])).ok();
        let path = format!("/usr/local/bin/{runtime}");
        let unit = [
            "--runc-systemd-cgroup",
            "--cgroup",
            "system.slice:test:units",
        ];
        let limits = ["--memory-limit", "67108864", "--cpus", "0.5"];
        let detached = ["run", "--detach", "--null-io", "--runc-binary", &path];
        let words = [
            &detached[..],
            &unit,
            &limits,
            &["--rootfs", ROOT, "units"],
            &SLEEPS,
        ];
        Outcome::of(&mut program("ctr", &words.concat())).ok();
        units
    }

    fn said(&self) -> String {
        tail(LOG)
    }
}

const SLEEPS: [&str; 3] = ["/bin/sh", "-c", "while :; do /bin/sleep 600; done"];

impl Drop for Units {
    fn drop(&mut self) {
        ctr("task", &["delete", "--force", "units"]);
        self.0.stop();
    }
}

fn ctr(kind: &str, words: &[&str]) -> Outcome {
    Outcome::of(&mut program("ctr", &[&[kind], words].concat()))
}

fn limits_are_the_scopes_and_the_kernels(_: &Units) {
    let values = ["67108864", "50000 100000"];
    let names = ["memory.max", "cpu.max"];
    assert_eq!(written(Path::new(SCOPE), &names), values);
    let properties = "ActiveState,MemoryMax,CPUQuotaPerSecUSec";
    let words = ["show", "--property", properties, "test-units.scope"];
    let lines = [
        "ActiveState=active",
        "CPUQuotaPerSecUSec=500ms",
        "MemoryMax=67108864",
    ];
    assert_eq!(shown(&mut program("systemctl", &words)), lines);
}

fn exec_is_in_the_containers_cgroup(_: &Units) {
    // ctr gives it no cgroup namespace.
    let words = [
        "exec",
        "--exec-id",
        "e",
        "units",
        "/bin/cat",
        "/proc/self/cgroup",
    ];
    let outcome = ctr("task", &words).ok();
    let its = "0::/system.slice/test-units.scope";
    assert!(outcome.stdout.starts_with(its), "{outcome}");
}

fn pause_and_unpause(_: &Units) {
    let frozen = || written(Path::new(SCOPE), &["cgroup.events"])[0].contains("frozen 1");
    ctr("task", &["pause", "units"]).ok();
    assert!(frozen());
    ctr("task", &["resume", "units"]).ok();
    assert!(!frozen());
}

fn nothing_is_left_of_it(_: &Units) {
    ctr("task", &["delete", "--force", "units"]);
    ctr("container", &["delete", "units"]).ok();
    left::no_state("/run/containerd/runc/default");
    // systemd.sh looks at what else is left.
    until("its cgroup is gone", || !Path::new(SCOPE).exists());
}
