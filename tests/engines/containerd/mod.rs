//! containerd, by its own client ctr: what a runtime is asked for when nothing else stands between.

mod confined;
mod daemon;
mod life;
mod outlived;

use std::cell::{Cell, RefCell};
use std::process::Command;

use crate::goods::IMAGE;
use crate::harness::{Outcome, until};
use crate::session::{Begin, program, tail};
use confined::*;
pub use daemon::{Daemon, LOG, SOCKET};
use life::*;
use outlived::*;

const NAME: &str = "test/busybox:1";

/// Ends with status 5 on SIGTERM, and writes a file when it can.
const SLEEPS: &str = "trap 'exit 5' TERM; echo >/tmp/ready; while :; do sleep 600 & wait $!; done";

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
    the_root_is_entered_without_pivot
    a_mount_and_the_environment_arrive
    a_device_and_the_cgroups_path_are_the_given
    memory_and_cpu_limits_are_written
    the_default_seccomp_profile_acts
    capabilities_are_added_and_dropped
    a_user_namespace_maps_root
    a_namespace_of_another_container_is_joined
    the_host_is_shared_as_asked
    a_configuration_of_ones_own_is_run
    the_older_shims_run_it
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
        let words = [&["--rm"], options].concat();
        heard(|| Outcome::of(&mut self.command(&words, &self.id(), &["sh", "-c", script])))
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
        self.running(&[], SLEEPS).ready()
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

    /// The same of a command that prints something.
    fn exec_says(&self, words: &[&str]) -> Outcome {
        heard(|| self.exec(words))
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

/// ctr may end before it has copied what a short command printed (with runc too, in 2 of 510): it is asked again then.
fn heard(ask: impl Fn() -> Outcome) -> Outcome {
    let mut outcome = ask();
    for _ in 0..2 {
        if outcome.stdout.is_empty() && outcome.stderr.is_empty() {
            outcome = ask();
        }
    }
    outcome
}

fn processes() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.parse::<u32>().is_ok())
        .collect()
}
