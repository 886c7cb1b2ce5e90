//! Promise: one bundle behaves alike under capsid, Debian's runc and Debian's crun: what its program sees,
//! its exit status, what is left in its root filesystem, and what state, list and ps print. Differences are
//! only those of allowed.tsv, each with its reason.

/// A stage on which there is somebody to compare capsid with.
macro_rules! stage_with_peers {
    ($view:expr) => {{
        if let Some(reason) = $crate::differential::obstacle() {
            $crate::skip!("{reason}");
        }
        $crate::stage!($view)
    }};
}

mod allowed;
mod devices;
mod generated;
mod limits;
pub mod peer;
mod processes;
mod seen;
mod stats;
mod updates;
mod verbs;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Bundle, Stage, View, machine};
use crate::skip;
use allowed::Allowed;
use peer::{Peer, Way};

/// Why nothing can be compared here, if so.
fn obstacle() -> Option<&'static str> {
    if machine::cgroups() == machine::Cgroups::V2 {
        return Some("the table of differences is of cgroup v1");
    }
    obstacle_anywhere()
}

/// The same of what is compared on cgroup v2 as well.
fn obstacle_anywhere() -> Option<&'static str> {
    let installed = ["runc", "crun"].into_iter().any(machine::has_program);
    (!installed).then_some("neither runc nor crun is installed")
}

/// Debian's crun refuses a hybrid layout, so all of them get the v1 half of one.
const VIEW: View = View::V1;

/// The peers that are installed.
fn peers(stage: &Stage, view: View) -> Vec<Peer> {
    ["runc", "crun"]
        .into_iter()
        .filter(|name| machine::has_program(name))
        .map(|name| Peer::new(name, stage, view))
        .collect()
}

/// A bundle that runs the probe, as a peer of 2023 reads it.
fn bundle(stage: &Stage) -> Bundle {
    let folder = stage.path(&stage.id());
    let mut bundle = Bundle::new(&folder, &folder.join("rootfs"));
    bundle.args(&["/bin/probe"]);
    bundle
}

/// Fails with the differences that the table does not explain, as rows to be judged.
#[track_caller]
fn compare(stage: &Stage, configuration: &str, bundle: &Bundle, way: Way) {
    if let Err(found) = find(stage, &peers(stage, VIEW), configuration, bundle, way) {
        panic!("{found}");
    }
}

/// As `compare`, of many that one test looks at.
fn try_compare(
    stage: &Stage,
    configuration: &str,
    bundle: &Bundle,
    way: Way,
) -> Result<(), String> {
    find(stage, &peers(stage, VIEW), configuration, bundle, way)
}

fn find(
    stage: &Stage,
    peers: &[Peer],
    configuration: &str,
    bundle: &Bundle,
    way: Way,
) -> Result<(), String> {
    let id = stage.id();
    let Some(first) = peers.first() else {
        return Err("neither runc nor crun is installed".to_owned());
    };
    let ours = Peer::new("capsid", stage, first.view).see(stage, bundle, &id, way);
    let mut unexplained = Vec::new();
    for peer in peers {
        let theirs = peer.see(stage, bundle, &id, way);
        let found = Allowed::table().judge(peer.name, configuration, ours.differences(&theirs));
        if !found.is_empty() {
            unexplained.extend(found);
            unexplained.push(format!("{} said: {}", peer.name, theirs.said.trim()));
        }
    }
    match unexplained.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "peer, configuration, path, capsid's, the peer's:\n{}\ncapsid said: {}",
            unexplained.join("\n"),
            ours.said.trim()
        )),
    }
}

/// Tests that compare one configuration each, under its test's name.
macro_rules! alike {
    ($($name:ident ($way:ident) $change:expr;)*) => {$(
        #[test]
        fn $name() {
            let stage = stage_with_peers!(VIEW);
            let mut bundle = bundle(&stage);
            let change: fn(&mut Bundle) = $change;
            change(&mut bundle);
            compare(&stage, stringify!($name), &bundle, Way::$way);
        }
    )*};
}

alike! {
    the_default_configuration (Run) |_| ();
    the_default_configuration_in_exec (Exec) |b| { idle(b); };
    dockers_configuration (Run) |b| docker(b);
    dockers_configuration_in_exec (Exec) |b| { docker(b); idle(b); };
    a_terminal (Terminal) |b| {
        b.set("/process/terminal", json!(true)).set("/process/consoleSize", json!({"height": 33, "width": 111}));
    };
    a_terminal_of_a_user (Terminal) |b| {
        b.set("/process/terminal", json!(true)).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    };
    a_terminal_in_a_user_namespace (Terminal) |b| {
        b.set("/process/terminal", json!(true)).user_namespace(100_000, 65_536);
    };
    a_writable_root (Run) |b| { b.set("/root/readonly", json!(false)); };
    an_unprivileged_user (Run) |b| {
        b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    };
    an_unprivileged_user_in_exec (Exec) |b| {
        idle(b).set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [2000]}));
    };
    a_user_without_an_entry (Run) |b| {
        b.set("/process/user", json!({"uid": 4321, "gid": 8765}));
    };
    groups (Run) |b| {
        b.set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [2000, 5, 7]}));
    };
    a_umask (Run) |b| { b.set("/process/user/umask", json!(0o27)); };
    all_capability_sets (Run) |b| {
        b.capabilities(&["CAP_CHOWN", "CAP_NET_RAW", "CAP_SYS_CHROOT"]);
    };
    all_capability_sets_of_a_user (Run) |b| {
        b.capabilities(&["CAP_CHOWN", "CAP_NET_RAW", "CAP_SYS_CHROOT"])
            .set("/process/user", json!({"uid": 1000, "gid": 1000}));
    };
    no_capabilities (Run) |b| { b.capabilities(&[]); };
    capabilities_absent (Run) |b| { b.remove("/process/capabilities"); };
    a_bounding_set_alone (Run) |b| {
        b.set("/process/capabilities", json!({"bounding": ["CAP_CHOWN", "CAP_KILL"]}));
    };
    privileges_may_be_gained (Run) |b| { b.set("/process/noNewPrivileges", json!(false)); };
    a_working_directory (Run) |b| { b.set("/process/cwd", json!("/home/user")); };
    a_working_directory_that_is_missing (Run) |b| {
        b.set("/process/cwd", json!("/made/by/runtime")).set("/root/readonly", json!(false));
    };
    a_working_directory_that_is_a_file (Run) |b| { b.set("/process/cwd", json!("/etc/text")); };
    home_set (Run) |b| { b.push("/process/env", json!("HOME=/elsewhere")); };
    home_empty (Run) |b| { b.push("/process/env", json!("HOME=")); };
    an_empty_environment (Run) |b| { b.set("/process/env", json!([])); };
    an_environment_with_everything (Run) |b| {
        b.set("/process/env", json!(["B=1", "A=x=y", "B=2", "EMPTY=", "LINES=a\nb", "PATH=/bin"]));
    };
    a_program_found_in_the_path (Run) |b| {
        b.args(&["probe"]).set("/process/env", json!(["PATH=/nowhere:/bin"]));
    };
    a_program_without_a_path (Run) |b| { b.args(&["probe"]).set("/process/env", json!(["A=1"])); };
    a_relative_program (Run) |b| { b.args(&["bin/probe"]); };
    a_missing_program (Run) |b| { b.args(&["/bin/missing"]); };
    a_missing_program_of_the_path (Run) |b| { b.args(&["missing"]); };
    a_program_that_is_no_program (Run) |b| { b.args(&["/etc/text"]); };
    a_status (Run) |b| { b.args(&["/bin/probe", "exit", "42"]); };
    a_working_directory_in_exec (Exec) |b| { idle(b).set("/process/cwd", json!("/etc")); };
    a_signal (Run) |b| {
        b.args(&["/bin/probe", "signal", "15"]).without_namespace("pid");
    };
    rlimits (Run) |b| {
        b.set("/process/rlimits", json!([
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            {"type": "RLIMIT_NPROC", "soft": 300, "hard": 400},
            {"type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 8_388_608},
        ]));
    };
    rlimits_in_exec (Exec) |b| {
        idle(b).set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]));
    };
    an_oom_score (Run) |b| { b.set("/process/oomScoreAdj", json!(555)); };
    an_oom_score_in_exec (Exec) |b| { idle(b).set("/process/oomScoreAdj", json!(555)); };
    a_personality (Run) |b| { b.set("/linux/personality", json!({"domain": "LINUX32"})); };
    sysctls (Run) |b| {
        b.set("/linux/sysctl", json!({
            "net.ipv4.ip_forward": "1", "kernel.shmmax": "1048576", "net.ipv4.ping_group_range": "0 2000",
        })).args(&["/bin/probe", "network", "sysctl", "net.ipv4.ip_forward", "kernel.shmmax",
            "net.ipv4.ping_group_range", "kernel.hostname"]);
    };
    memory_limits (Run) |b| {
        b.set("/linux/resources/memory", json!({
            "limit": 67_108_864, "reservation": 33_554_432, "swap": 134_217_728,
        }));
    };
    memory_without_swap (Run) |b| {
        b.set("/linux/resources/memory", json!({"limit": 67_108_864, "swap": 67_108_864}));
    };
    cpu_limits (Run) |b| {
        b.set("/linux/resources/cpu", json!({
            "shares": 300, "quota": 25_000, "period": 50_000, "cpus": "0", "mems": "0",
        }));
    };
    a_limit_of_pids (Run) |b| { b.set("/linux/resources/pids", json!({"limit": 77})); };
    no_limit_of_pids (Run) |b| { b.set("/linux/resources/pids", json!({"limit": -1})); };
    limits_of_zero (Run) |b| {
        b.set("/linux/resources/cpu", json!({"shares": 0, "quota": 0, "period": 0}))
            .set("/linux/resources/memory", json!({"limit": 0}));
    };
    limits_in_exec (Exec) |b| {
        idle(b).set("/linux/resources/pids", json!({"limit": 77}));
    };
    device_rules (Run) |b| {
        b.set("/linux/resources/devices", json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
            {"allow": true, "type": "b", "major": 8, "access": "r"},
            {"allow": false, "type": "c", "major": 1, "minor": 11, "access": "w"},
        ]));
    };
    all_devices_allowed (Run) |b| {
        b.set("/linux/resources/devices", json!([{"allow": true, "access": "rwm"}]));
    };
    no_device_rules (Run) |b| { b.remove("/linux/resources"); };
    devices (Run) |b| {
        b.set("/linux/devices", json!([
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 5, "gid": 6},
            {"path": "/dev/deep/er/sda", "type": "b", "major": 8, "minor": 0, "fileMode": 0o600},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o622},
            {"path": "/dev/plain", "type": "c", "major": 1, "minor": 3},
        ]));
    };
    the_hosts_network (Run) |b| {
        b.without_namespace("network");
    };
    the_hosts_pids (Run) |b| { b.without_namespace("pid"); };
    the_hosts_ipc_and_uts (Run) |b| {
        b.without_namespace("ipc").without_namespace("uts").remove("/hostname");
    };
    a_cgroup_namespace (Run) |b| { b.namespace("cgroup", None); };
    a_cgroup_namespace_in_exec (Exec) |b| { idle(b).namespace("cgroup", None); };
    cgroups_that_may_be_written (Run) |b| {
        b.namespace("cgroup", None);
        let mounts = b.config["mounts"].as_array().map_or(0, Vec::len) - 1;
        b.set(&format!("/mounts/{mounts}/options"), json!(["nosuid", "noexec", "nodev"]));
    };
    a_user_namespace (Run) |b| { b.user_namespace(100_000, 65_536); };
    a_user_namespace_in_exec (Exec) |b| { idle(b).user_namespace(100_000, 65_536); };
    a_user_of_a_user_namespace (Run) |b| {
        b.user_namespace(100_000, 65_536)
            .set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [2000]}));
    };
    a_user_namespace_with_pieces (Run) |b| {
        let map = json!([
            {"containerID": 0, "hostID": 100_000, "size": 1},
            {"containerID": 1, "hostID": 200_000, "size": 65_535},
        ]);
        b.user_namespace(0, 1).set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    };
    a_user_namespace_and_the_hosts_network (Run) |b| {
        b.user_namespace(100_000, 65_536).without_namespace("network").remove("/mounts/5");
    };
    masked_paths (Run) |b| {
        b.set("/linux/maskedPaths", json!(["/etc/text", "/home", "/missing", "/proc/kcore"]))
            .args(&["/bin/probe", "mounts", "read", "/etc/text"]);
    };
    read_only_paths (Run) |b| {
        b.set("/linux/readonlyPaths", json!(["/home", "/etc/text", "/missing", "/proc/sys"]));
    };
    a_remount (Run) |b| {
        b.mount("/tmp", "tmpfs", "tmpfs", &["noexec", "mode=1777"])
            .mount("/tmp", "bind", "/tmp", &["remount", "bind", "ro"]);
    };
    a_read_only_tmpfs_with_another_mount_below_and_one_over_it (Run) |b| {
        b.mount("/mnt/a", "tmpfs", "below", &["ro"])
            .mount("/mnt/a/in", "tmpfs", "in", &[])
            .mount("/mnt/b", "tmpfs", "below", &["ro", "mode=755"])
            .mount("/mnt/b", "tmpfs", "over", &["noexec", "mode=755"]);
    };
    a_read_only_tmpfs_below_a_masked_path (Run) |b| {
        b.mount("/home/user", "tmpfs", "below", &["ro", "mode=755"]).set("/linux/maskedPaths", json!(["/home"]));
    };
    no_masks (Run) |b| { b.remove("/linux/maskedPaths").remove("/linux/readonlyPaths"); };
    a_shared_root (Run) |b| { b.set("/linux/rootfsPropagation", json!("shared")); };
    a_slave_root (Run) |b| { b.set("/linux/rootfsPropagation", json!("slave")); };
    a_private_root (Run) |b| { b.set("/linux/rootfsPropagation", json!("private")); };
    a_host_name (Run) |b| { b.set("/hostname", json!("another.name")); };
    a_newer_version (Run) |b| { b.set("/ociVersion", json!("1.0.2-dev")); };
    annotations (Run) |b| { b.set("/annotations", json!({"org.example.a": "b"})); };
}

/// `run` on the hybrid layout itself, where the peer is runc alone.
#[test]
fn a_hybrid_layout() {
    if !machine::has_program("runc") {
        skip!("runc is not installed");
    }
    let stage = stage_with_peers!(View::Host);
    let mut bundle = bundle(&stage);
    bundle.set("/linux/resources/pids", json!({"limit": 77}));
    let runc = [Peer::new("runc", &stage, View::Host)];
    let found = find(&stage, &runc, "a_hybrid_layout", &bundle, Way::Run);
    assert!(found.is_ok(), "{}", found.unwrap_err());
}

#[test]
fn namespaces_of_another_process() {
    let stage = stage_with_peers!(VIEW);
    let other = Unshared::new(&["--net", "--ipc", "--uts"]);
    let mut bundle = bundle(&stage);
    bundle.remove("/hostname");
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        bundle.namespace(kind, Some(&other.namespace(file)));
    }
    compare(&stage, "namespaces_of_another_process", &bundle, Way::Run);
}

#[test]
fn the_pid_namespace_of_another_process() {
    let stage = stage_with_peers!(VIEW);
    let other = Unshared::new(&["--pid", "--fork", "--kill-child"]);
    let mut bundle = bundle(&stage);
    bundle.namespace("pid", Some(&other.namespace("pid_for_children")));
    compare(
        &stage,
        "the_pid_namespace_of_another_process",
        &bundle,
        Way::Run,
    );
}

/// The process runs until this tells it to stop, so that a further one can be looked at.
fn idle(bundle: &mut Bundle) -> &mut Bundle {
    bundle.args(&["/bin/probe", "sleep-until-term"])
}

/// runc's mount of cgroup2 without a namespace changes the options of the one that everybody has.
fn without_cgroup_mounts(bundle: &mut Bundle) {
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|mount| mount["type"] != "cgroup");
}

/// Docker's bundle without what only Docker could give: its images, its files, its names.
fn docker(bundle: &mut Bundle) {
    let text = include_str!("../../fixtures/good/docker.json");
    let ours = bundle.config.clone();
    bundle.config = serde_json::from_str(text).expect("the fixture");
    bundle
        .set("/ociVersion", json!("1.0.2"))
        .set("/root", json!({"path": ours["root"]["path"]}))
        .set("/process/args", ours["process"]["args"].clone())
        .set("/process/terminal", json!(false))
        .set("/linux/cgroupsPath", json!("ENCLOSURE"));
    if let Some(Value::Array(mounts)) = bundle.config.pointer_mut("/mounts") {
        mounts.retain(|mount| mount["type"] != "bind");
    }
}

/// A process in namespaces of its own; it ends with the value.
struct Unshared(Child);

impl Unshared {
    fn new(namespaces: &[&str]) -> Unshared {
        let mut child = Command::new("unshare")
            .args(namespaces)
            .args(["--", "/bin/sh", "-c", "echo ready; exec sleep 600"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut ready = [0; 6];
        let out = child.stdout.as_mut().expect("its stdout");
        std::io::Read::read_exact(out, &mut ready).expect("ready");
        Unshared(child)
    }

    fn namespace(&self, file: &str) -> String {
        let path = format!("/proc/{}/ns/{file}", self.0.id());
        assert!(Path::new(&path).exists(), "{path}");
        path
    }
}

impl Drop for Unshared {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
