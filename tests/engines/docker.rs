//! Docker: dockerd with capsid as its default runtime, on a bridge and iptables of the session's own.

use std::cell::RefCell;
use std::fs::File;
use std::ops::Deref;
use std::process::{Child, Command, Stdio};

use crate::alike::confined::*;
use crate::alike::kept::*;
use crate::alike::life::*;
use crate::alike::limited::*;
use crate::alike::shared::*;
use crate::boxes::{Boxes, Running};
use crate::docs::snippet;
use crate::goods::ROOTFS;
use crate::harness::{Outcome, until};
use crate::left;
use crate::power::{self, Run, Stranger};
use crate::session::{self, Begin, program, tail};

const LOG: &str = "/run/dockerd.log";

pub struct Docker {
    boxes: Boxes,
    /// Of the daemon, beside its file.
    options: &'static [&'static str],
    daemon: RefCell<Option<Child>>,
}

engine! { ENGINE, "docker", Docker, ["dockerd", "docker", "containerd", "iptables"],
    the_daemon_knows_its_runtime
    a_container_prints_and_ends_with_its_status
    a_missing_program_ends_with_127
    a_program_that_may_not_be_executed_ends_with_126
    a_terminal_has_its_size_its_keys_and_its_status
    a_terminal_is_left_and_taken_up_again
    stdin_reaches_the_program
    logs_and_attach_show_what_was_printed
    exec_has_its_own_status_user_folder_and_environment
    exec_of_what_can_not_be_executed_says_so
    a_program_of_no_known_format_is_told
    exec_with_a_terminal
    pause_and_unpause
    a_paused_container_is_ended
    stats_and_top_show_the_processes
    kill_and_stop_send_their_signals
    restart_begins_anew
    a_failing_container_is_restarted_as_often_as_allowed
    a_healthcheck_becomes_healthy_and_unhealthy
    events_tell_a_containers_life
    a_published_port_is_reached
    containers_find_each_other_by_name
    network_none_host_and_another_containers
    volumes_and_binds_keep_what_is_written
    mounts_go_in_and_out_as_asked
    a_folder_bound_on_a_file_is_refused
    init_reaps_and_forwards
    users_and_groups
    capabilities_are_added_and_dropped
    a_read_only_root_with_a_tmpfs
    no_new_privileges
    seccomp_profiles_of_the_engine_and_of_the_user
    masked_paths_are_masked
    memory_limit_and_oom_kill
    cpu_pids_and_ulimit
    what_the_kernel_has_of_memory_and_time_is_the_given
    disks_are_slowed_as_asked
    the_cgroups_of_a_container_are_shown_or_hidden
    a_score_and_the_cgroups_parent_are_the_given
    an_update_changes_what_it_names_and_nothing_else
    sysctl_shm_size_and_hostname
    a_device_is_given
    the_hosts_name_and_its_ipc_are_shared
    pid_and_ipc_of_another_container
    files_are_copied_in_and_out
    a_stopped_container_gives_and_takes_files
    a_container_becomes_an_image
    an_image_is_built
    a_container_is_created_renamed_and_started_later
    ten_containers_at_once
    a_container_outlives_its_daemon
    a_private_daemon_is_tried_as_the_page_says
    privileged
    nothing_is_left_of_them
    a_stranger_with_a_pid_of_the_boot_before_is_spared
    a_container_comes_back_after_a_power_loss
}

impl Begin for Docker {
    fn begin(runtime: &str) -> Docker {
        Docker::begins(runtime, Boxes::of("docker"), &[])
    }

    fn said(&self) -> String {
        tail(LOG)
    }
}

impl Deref for Docker {
    type Target = Boxes;

    fn deref(&self) -> &Boxes {
        &self.boxes
    }
}

impl Docker {
    pub fn begins(runtime: &str, boxes: Boxes, options: &'static [&'static str]) -> Docker {
        std::fs::create_dir_all("/etc/docker").expect("a folder");
        // dockerd knows runc under its own name already, and takes no other under it.
        let text = if runtime == "runc" {
            "{}".to_owned()
        } else {
            snippet("docker", runtime)
        };
        std::fs::write("/etc/docker/daemon.json", text).expect("daemon.json");
        let engine = Docker {
            boxes,
            options,
            daemon: RefCell::default(),
        };
        engine.starts();
        engine.imports();
        engine
    }

    fn starts(&self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(LOG)
            .expect("a log");
        let errors = log.try_clone().expect("dup");
        let child = Command::new("dockerd")
            .arg("--live-restore")
            .args(self.options)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("dockerd");
        *self.daemon.borrow_mut() = Some(child);
        until("dockerd answers", || self.call(&["version"]).code == 0);
    }
}

/// By what its `--version` says, and by its name.
fn the_daemon_knows_its_runtime(docker: &Docker) {
    let runtime = session::runtime();
    let format = "{{.DefaultRuntime}} {{.RuncCommit.ID}}";
    let info = docker.call(&["info", "--format", format]).ok();
    let (name, commit) = info.line().split_once(' ').expect("two words");
    assert!(name == runtime && !["", "N/A"].contains(&commit), "{info}");
    docker.runs(&["--runtime", &runtime], "exit 3").exits(3);
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

fn events_tell_a_containers_life(docker: &Docker) {
    let running = docker.sleeps(&[]);
    running.exec(&[], &["true"]).ok();
    running.call("pause", &[]).ok();
    running.call("unpause", &[]).ok();
    running.call("stop", &["--time", "20"]).ok();
    let filter = format!("container={}", running.name);
    let options = ["--since", "10m", "--until", "0s", "--filter", &filter];
    let format = ["--format", "{{.Action}} {{.Actor.Attributes.exitCode}}"];
    let words = [
        "create",
        "start",
        "exec_die 0",
        "pause",
        "unpause",
        "kill",
        "die 5",
        "stop",
    ];
    // Up to a whole second of the past.
    until("all is told, in turn", || {
        let told = docker.call(&[&["events"], &options[..], &format[..]].concat());
        let text = told.ok().stdout;
        let mut lines = text.lines();
        words
            .iter()
            .all(|word| lines.any(|line| line.starts_with(word)))
    });
}

fn containers_find_each_other_by_name(docker: &Docker) {
    docker.call(&["network", "create", "net"]).ok();
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
    docker.call(&["network", "rm", "net"]).ok();
}

pub fn a_container_outlives_its_daemon(docker: &Docker) {
    let running = docker.sleeps(&[]);
    let mut child = docker.daemon.borrow_mut().take().expect("a daemon");
    Outcome::of(&mut program("kill", &[&child.id().to_string()])).ok();
    child.wait().expect("wait");
    docker.starts();
    running.exec(&[], &["echo", "alive"]).ok().prints("alive");
    running.call("stop", &["--time", "20"]).ok();
    assert_eq!(running.inspect("{{.State.ExitCode}}"), "5");
}

fn a_private_daemon_is_tried_as_the_page_says(docker: &Docker) {
    let script = snippet("a private Docker", &session::runtime());
    let mut command = program("sh", &["-e", "-c", &script.replace("rootfs.tar", ROOTFS)]);
    Outcome::of(&mut command).ok().prints("it ended with 42\n");
    // What it made is not the other daemon's.
    let list = docker.call(&["image", "ls", "--quiet", "busybox:1"]).ok();
    assert_eq!(list.stdout, "");
}

fn a_container_comes_back_after_a_power_loss(docker: &Docker) {
    let running = docker.sleeps(&["--restart", "always"]);
    power::fails(Run::Emptied);
    power::boots_anew();
    docker.starts();
    comes_back(&running);
    drop(running);
    nothing_is_left_of_them(docker);
}

fn a_stranger_with_a_pid_of_the_boot_before_is_spared(docker: &Docker) {
    let running = docker.sleeps(&["--restart", "always"]);
    let pid = running.inspect("{{.State.Pid}}").parse().expect("a pid");
    power::fails(Run::Kept);
    let mut stranger = Stranger::with(pid);
    docker.starts();
    comes_back(&running);
    stranger.lives();
    drop(running);
    nothing_is_left_of_them(docker);
}

/// It runs again, and ends as it should.
fn comes_back(running: &Running<'_>) {
    running.becomes("{{.State.Running}}", "true");
    until("the script waits", || {
        running.exec(&[], &["pidof", "sleep"]).code == 0
    });
    running.call("stop", &["--time", "20"]).ok();
    assert_eq!(running.inspect("{{.State.ExitCode}}"), "5");
}

pub fn nothing_is_left_of_them(docker: &Docker) {
    assert_eq!(docker.call(&["ps", "--all", "--quiet"]).ok().line(), "");
    left::no_cgroup("docker");
    left::no_state("/run/docker/runtime-runc/moby");
}
