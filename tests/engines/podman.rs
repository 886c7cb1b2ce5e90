//! Podman, root's and an ordinary user's own: conmon drives the runtime, with next to no environment.

use std::ops::Deref;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use crate::alike::confined::*;
use crate::alike::life::*;
use crate::alike::limited::*;
use crate::alike::shared::*;
use crate::boxes::{Boxes, IMAGE, Running};
use crate::docs::snippet;
use crate::goods::ROOTFS;
use crate::harness::{Outcome, outcome, until, user};
use crate::left;
use crate::power::{self, Run, Stranger};
use crate::session::{self, Begin};

/// What the sessions need beside the snippet: no systemd, no image from elsewhere.
const HERE: &str = r#"
[containers]
init_path = "/usr/bin/tini-static"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
init_path = "/usr/bin/tini-static"
infra_image = "localhost/pause:test"
infra_command = ""
"#;

engine! { ROOTS, "podman", Podman, ["podman", "conmon", "iptables"],
    the_engine_knows_its_runtime
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
    top_by_the_containers_own_columns
    kill_and_stop_send_their_signals
    restart_begins_anew
    a_failing_container_is_restarted_as_often_as_allowed
    a_healthcheck_is_run
    a_published_port_is_reached
    a_network_with_a_name_gives_addresses
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
    a_score_and_the_cgroups_parent_are_the_given
    an_update_changes_what_it_names_and_nothing_else
    sysctl_shm_size_and_hostname
    a_device_is_given
    the_hosts_name_and_its_ipc_are_shared
    pid_and_ipc_of_another_container
    files_are_copied_in_and_out
    an_image_is_built
    a_container_is_created_renamed_and_started_later
    ten_containers_at_once
    a_user_namespace_of_given_ids
    a_user_namespace_of_free_ids
    what_systemd_needs_inside
    without_cgroups
    descriptors_are_preserved
    a_socket_of_a_service_manager_arrives
    readiness_is_told_by_the_container
    a_pod_shares_its_namespaces
    a_pod_file_is_played
    buildah_runs_a_command
    a_private_store_is_tried_as_the_page_says
    privileged
    nothing_is_left_of_them
    a_stranger_with_a_pid_of_the_boot_before_is_spared
    a_container_comes_back_after_a_power_loss
}

engine! { USERS, "podman-rootless", Rootless, ["podman", "conmon", "newuidmap", "slirp4netns"],
    the_engine_knows_its_runtime
    a_container_prints_and_ends_with_its_status
    a_missing_program_ends_with_127
    a_program_that_may_not_be_executed_ends_with_126
    a_terminal_has_its_size_its_keys_and_its_status
    stdin_reaches_the_program
    logs_and_attach_show_what_was_printed
    exec_has_its_own_status_user_folder_and_environment
    exec_of_what_can_not_be_executed_says_so
    exec_with_a_terminal
    top_by_the_containers_own_columns
    kill_and_stop_send_their_signals
    restart_begins_anew
    a_failing_container_is_restarted_as_often_as_allowed
    a_healthcheck_is_run
    a_published_port_is_reached
    a_network_with_a_name_gives_addresses
    a_network_of_pasta
    network_none_host_and_another_containers
    volumes_and_binds_keep_what_is_written
    init_reaps_and_forwards
    users_and_groups
    capabilities_are_added_and_dropped
    a_read_only_root_with_a_tmpfs
    no_new_privileges
    seccomp_profiles_of_the_engine_and_of_the_user
    masked_paths_are_masked
    ulimits_of_a_process
    a_score_and_the_cgroups_parent_are_the_given
    sysctl_shm_size_and_hostname
    a_device_is_given
    the_hosts_name_and_its_ipc_are_shared
    pid_and_ipc_of_another_container
    files_are_copied_in_and_out
    an_image_is_built
    a_container_is_created_renamed_and_started_later
    ten_containers_at_once
    a_user_namespace_of_given_ids
    a_user_namespace_of_free_ids
    the_callers_own_id_is_kept
    what_systemd_needs_inside
    without_cgroups
    descriptors_are_preserved
    a_socket_of_a_service_manager_arrives
    readiness_is_told_by_the_container
    a_pod_shares_its_namespaces
    a_pod_file_is_played
    buildah_runs_a_command
    privileged
    nothing_is_left_of_them
    a_stranger_with_a_pid_of_the_boot_before_is_spared
    a_container_comes_back_after_a_power_loss
}

pub struct Podman(Boxes);
pub struct Rootless(Boxes);

impl Begin for Podman {
    fn begin(runtime: &str) -> Podman {
        Podman(with_a_pause(begins(runtime, Boxes::of("podman"), HERE)))
    }

    fn said(&self) -> String {
        String::new()
    }
}

impl Begin for Rootless {
    fn begin(runtime: &str) -> Rootless {
        Rootless(with_a_pause(begins(
            runtime,
            Boxes::of_user("podman"),
            HERE,
        )))
    }

    fn said(&self) -> String {
        String::new()
    }
}

impl Deref for Podman {
    type Target = Boxes;

    fn deref(&self) -> &Boxes {
        &self.0
    }
}

impl Deref for Rootless {
    type Target = Boxes;

    fn deref(&self) -> &Boxes {
        &self.0
    }
}

/// `more`: a file of settings beside the snippet's.
pub fn begins(runtime: &str, boxes: Boxes, more: &str) -> Boxes {
    std::fs::create_dir_all("/etc/containers/containers.conf.d").expect("a folder");
    std::fs::write(
        "/etc/containers/containers.conf",
        snippet("podman", runtime),
    )
    .expect("containers.conf");
    std::fs::write("/etc/containers/containers.conf.d/here.conf", more).expect("here.conf");
    // What --userns=auto gives out, for root.
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text =
            std::fs::read_to_string(file).unwrap_or_default() + "containers:1000000:200000\n";
        std::fs::write(file, text).expect(file);
    }
    boxes.imports();
    boxes
}

/// What is the first container of a pod.
fn with_a_pause(boxes: Boxes) -> Boxes {
    boxes
        .call(&[
            "import",
            "--change",
            "CMD [\"/bin/sleep\", \"3600\"]",
            ROOTFS,
            "pause:test",
        ])
        .ok();
    boxes
}

/// By what its `--version` says.
fn the_engine_knows_its_runtime(podman: &Boxes) {
    let format = "{{.Host.OCIRuntime.Name}} {{.Host.OCIRuntime.Version}}";
    let info = podman.call(&["info", "--format", format]).ok();
    let runtime = session::runtime();
    let begins = format!("{runtime} {runtime} version ");
    assert!(info.line().starts_with(&begins), "{info}");
}

fn top_by_the_containers_own_columns(podman: &Boxes) {
    let running = podman.sleeps(&["--user", "user"]);
    let columns = podman
        .call(&["top", &running.name, "pid", "user", "args"])
        .ok();
    columns.prints("user").prints("sleep 600");
}

fn a_healthcheck_is_run(podman: &Boxes) {
    let running = podman.sleeps(&[
        "--health-cmd",
        "test -e /tmp/well",
        "--health-interval",
        "disable",
    ]);
    running.call("healthcheck", &["run"]).exits(1);
    running.exec(&[], &["touch", "/tmp/well"]).ok();
    running.call("healthcheck", &["run"]).ok();
}

fn a_network_with_a_name_gives_addresses(podman: &Boxes) {
    let subnet = ["--subnet", "10.99.7.0/24", "named"];
    podman
        .call(&[&["network", "create"], &subnet[..]].concat())
        .ok();
    {
        let script = "mkdir /www; echo content >/www/page; echo ready; exec httpd -f -p 80 -h /www";
        let server = podman.running(&["--network", "named", "--ip", "10.99.7.9"], script);
        server.says("ready");
        let script = "wget -q -O - http://10.99.7.9/page; ip -o -4 addr show dev eth0";
        let outcome = podman.runs(&["--network", "named"], script).ok();
        outcome.prints("content").prints(" 10.99.7.");
    }
    podman.call(&["network", "rm", "named"]).ok();
}

/// Debian's Podman takes it for a network's name.
fn a_network_of_pasta(podman: &Boxes) {
    podman
        .runs(&["--network", "pasta"], "cat /proc/net/route")
        .ok()
        .prints("00000000");
}

fn a_user_namespace_of_given_ids(podman: &Boxes) {
    let options = [
        "--uidmap",
        "0:1:1000",
        "--gidmap",
        "0:1:1000",
        "--user",
        "33:44",
        "--network",
        "none",
    ];
    let script = "cat /proc/self/uid_map /proc/self/gid_map; id; touch /tmp/x && ls -n /tmp/x";
    let outcome = podman.runs(&options, script).ok();
    assert_eq!(
        outcome.stdout.split_whitespace().nth(2),
        Some("1000"),
        "{outcome}"
    );
    outcome.prints("uid=33").prints("33       44");
}

fn a_user_namespace_of_free_ids(podman: &Boxes) {
    let outcome = podman
        .runs(
            &["--userns", "auto:size=2000", "--network", "none"],
            "cat /proc/self/uid_map; id",
        )
        .ok();
    assert_eq!(
        outcome.stdout.split_whitespace().nth(2),
        Some("2000"),
        "{outcome}"
    );
    outcome.prints("uid=0");
}

fn the_callers_own_id_is_kept(podman: &Boxes) {
    std::fs::create_dir_all("/run/theirs").expect("a folder");
    user::owns(Path::new("/run/theirs"));
    let options = ["--userns", "keep-id", "--volume", "/run/theirs:/theirs"];
    podman
        .runs(
            &options,
            "id -u; touch /theirs/file; stat -c %u /theirs/file",
        )
        .ok()
        .prints("54321\n54321\n");
}

/// File systems of its own to write to.
fn what_systemd_needs_inside(podman: &Boxes) {
    let script = "for folder in /run /tmp /var/log/journal; do grep -c \" $folder .* tmpfs \" /proc/self/mountinfo; done; echo $container";
    let outcome = podman.runs(&["--systemd", "always"], script).ok();
    assert_eq!(outcome.stdout, "1\n1\n1\npodman\n", "{outcome}");
}

fn without_cgroups(podman: &Boxes) {
    let own = std::fs::read_to_string("/proc/self/cgroup").expect("cgroups");
    let outcome = podman
        .runs(
            &["--cgroups", "disabled", "--cgroupns", "host"],
            "cat /proc/self/cgroup; exit 4",
        )
        .exits(4);
    let memory = |text: &str| {
        text.lines()
            .find(|line| line.contains(":memory:"))
            .map(str::to_owned)
    };
    assert_eq!(memory(&outcome.stdout), memory(&own), "{outcome}");
}

fn descriptors_are_preserved(podman: &Boxes) {
    std::fs::write("/run/handed", "content").expect("a file");
    let calls = |verb: &[&str], of: &str| {
        let script = "exec 3</run/handed; exec \"$@\"";
        let open = ["-c", script, "sh", "podman"];
        let words = ["--preserve-fds", "1", of, "cat", "/proc/self/fd/3"];
        Outcome::of(&mut podman.program("sh", &[&open[..], verb, &words[..]].concat()))
    };
    calls(&["run", "--rm"], IMAGE).ok().prints("content");
    let running = podman.sleeps(&[]);
    calls(&["exec"], &running.name).ok().prints("content");
}

fn a_socket_of_a_service_manager_arrives(podman: &Boxes) {
    std::fs::write("/run/handed", "content").expect("a file");
    let script = "exec 3</run/handed; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
    let mut command = podman.program(
        "sh",
        &[
            "-c",
            script,
            "sh",
            "podman",
            "run",
            "--rm",
            IMAGE,
            "sh",
            "-c",
            "cat <&3; echo \" $LISTEN_FDS $LISTEN_PID\"",
        ],
    );
    Outcome::of(&mut command).ok().prints("content 1 1");
}

fn readiness_is_told_by_the_container(podman: &Boxes) {
    let path = "/run/manager";
    let _ = std::fs::remove_file(path);
    let socket = UnixDatagram::bind(path).expect("a socket");
    Outcome::of(Command::new("chmod").args(["666", path])).ok();
    socket
        .set_read_timeout(Some(outcome::LIMIT))
        .expect("a timeout");
    let name = podman.name();
    let mut command = podman.command(&[
        "run",
        "--rm",
        "--detach",
        "--name",
        &name,
        "--sdnotify",
        "container",
        IMAGE,
        "sh",
        "-c",
        "sleep 0.3; /bin/probe say \"$NOTIFY_SOCKET\" READY=1; exec sleep 600",
    ]);
    Outcome::of(command.env("NOTIFY_SOCKET", path)).ok();
    let mut bytes = [0; 1024];
    let mut heard = String::new();
    until("it is ready", || {
        let length = socket.recv(&mut bytes).expect("a message");
        heard.push_str(&String::from_utf8_lossy(&bytes[..length]));
        heard.contains("READY=1")
    });
    podman.call(&["rm", "--force", "--time", "0", &name]).ok();
}

fn a_pod_shares_its_namespaces(podman: &Boxes) {
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

fn a_pod_file_is_played(podman: &Boxes) {
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

fn buildah_runs_a_command(podman: &Boxes) {
    let path = format!("/usr/local/bin/{}", session::runtime());
    let call = |args: &[&str]| Outcome::of(&mut podman.program("buildah", args));
    let name = call(&["from", "--pull-never", &format!("localhost/{IMAGE}")])
        .ok()
        .line()
        .to_owned();
    call(&[
        "run",
        "--runtime",
        &path,
        "--isolation",
        "oci",
        "--network",
        "none",
        &name,
        "sh",
        "-c",
        "echo built; exit 6",
    ])
    .exits(6)
    .prints("built\n");
    call(&["rm", &name]).ok();
}

fn a_private_store_is_tried_as_the_page_says(podman: &Boxes) {
    let script = snippet("a private Podman", &session::runtime());
    let script = script.replace("rootfs.tar", ROOTFS);
    let outcome = Outcome::of(&mut podman.program("sh", &["-e", "-c", &script]));
    outcome.ok().prints("it ended with 42\n");
    let exists = ["image", "exists", "localhost/busybox:1"];
    podman.call(&exists).exits(1);
}

fn a_container_comes_back_after_a_power_loss(podman: &Boxes) {
    let running = podman.sleeps(&["--restart", "always"]);
    power::fails(Run::Emptied);
    if podman.is_users() {
        podman.signs_in();
    } else {
        power::boots_anew();
        // As Podman's file in tmpfiles.d has it: addresses are given anew.
        let _ = std::fs::remove_dir_all("/var/lib/cni/networks");
    }
    // What podman-restart.service does.
    let always = ["--all", "--filter", "restart-policy=always"];
    podman.call(&[&["start"], &always[..]].concat()).ok();
    stops(&running);
    drop(running);
    nothing_is_left_of_them(podman);
}

fn a_stranger_with_a_pid_of_the_boot_before_is_spared(podman: &Boxes) {
    let running = podman.sleeps(&[]);
    let pid = running.inspect("{{.State.Pid}}").parse().expect("a pid");
    power::fails(Run::Kept);
    let mut stranger = Stranger::with(pid);
    if podman.is_users() {
        podman.call(&["system", "migrate"]).ok();
    }
    // Podman takes it for running until the runtime has been asked to stop it, and can then remove it.
    until("it is removed", || {
        running.call("rm", &["--force", "--time", "0"]).code == 0
    });
    stranger.lives();
    let again = ["--name", &running.name, IMAGE, "echo", "again"];
    podman
        .call(&[&["run", "--rm"], &again[..]].concat())
        .ok()
        .prints("again");
    stranger.lives();
}

/// It runs again, and ends as it should.
fn stops(running: &Running<'_>) {
    until("the script waits", || {
        running.exec(&[], &["pidof", "sleep"]).code == 0
    });
    running.call("stop", &["--time", "20"]).ok();
    assert_eq!(running.inspect("{{.State.ExitCode}}"), "5");
}

fn nothing_is_left_of_them(podman: &Boxes) {
    assert_eq!(podman.call(&["ps", "--all", "--quiet"]).ok().line(), "");
    assert_eq!(podman.call(&["pod", "ps", "--quiet"]).ok().line(), "");
    let name = session::runtime();
    let roots = [
        format!("/run/{name}"),
        format!("/run/user/{}/{name}", user::UID),
    ];
    roots.iter().for_each(|root| left::no_state(root));
    let mut cgroups = String::new();
    until("no cgroup is left", || {
        cgroups = Outcome::of(Command::new("find").args([
            "/sys/fs/cgroup",
            "-name",
            "libpod-*",
            "-type",
            "d",
        ]))
        .stdout;
        cgroups.is_empty()
    });
}
