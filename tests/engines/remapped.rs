//! Docker with `userns-remap`: every container's ids are subordinate ones of an ordinary user, whom the enclosure
//! has made in the session's own /etc.

use std::ops::Deref;

use crate::alike::confined::*;
use crate::alike::kept::*;
use crate::alike::life::*;
use crate::alike::limited::*;
use crate::alike::shared::*;
use crate::boxes::Boxes;
use crate::docker::{Docker, a_container_outlives_its_daemon, nothing_is_left_of_them};
use crate::harness::user;
use crate::session::Begin;

pub struct Remapped(Docker);

engine! { ENGINE, "docker-userns-remap", Remapped, ["dockerd", "docker", "containerd", "iptables"],
    a_container_prints_and_ends_with_its_status
    a_missing_program_ends_with_127
    a_program_that_may_not_be_executed_ends_with_126
    a_terminal_has_its_size_its_keys_and_its_status
    exec_has_its_own_status_user_folder_and_environment
    exec_with_a_terminal
    pause_and_unpause
    stats_and_top_show_the_processes
    kill_and_stop_send_their_signals
    a_published_port_is_reached
    volumes_and_binds_keep_what_is_written
    users_and_groups
    capabilities_are_added_and_dropped
    a_read_only_root_with_a_tmpfs
    seccomp_profiles_of_the_engine_and_of_the_user
    memory_limit_and_oom_kill
    cpu_pids_and_ulimit
    an_update_changes_what_it_names_and_nothing_else
    sysctl_shm_size_and_hostname
    a_device_of_the_same_name_is_given
    files_are_copied_in_and_out
    an_image_is_built
    the_ids_outside_are_subordinate_ones
    what_a_containers_root_makes_is_the_subordinate_ids
    one_container_has_the_hosts_ids
    a_container_outlives_its_daemon
    nothing_is_left_of_them
}

impl Begin for Remapped {
    fn begin(runtime: &str) -> Remapped {
        let boxes = Boxes::of_root_as("docker", user::SUBUID);
        Remapped(Docker::begins(
            runtime,
            boxes,
            &["--userns-remap", "capsid-tester"],
        ))
    }

    fn said(&self) -> String {
        self.0.said()
    }
}

impl Deref for Remapped {
    type Target = Docker;

    fn deref(&self) -> &Docker {
        &self.0
    }
}

/// A node can't be made in a user namespace: the machine's own is shown.
fn a_device_of_the_same_name_is_given(docker: &Boxes) {
    let script = "ls /dev/net; : </dev/net/tun && echo opened";
    docker
        .runs(&["--device", "/dev/net/tun"], script)
        .ok()
        .prints("tun\nopened\n");
    docker.runs(&[], "ls /dev/net").exits(1);
}

fn the_ids_outside_are_subordinate_ones(docker: &Boxes) {
    let running = docker.sleeps(&["--user", "1000:1000"]);
    let maps = running
        .exec(&[], &["cat", "/proc/self/uid_map", "/proc/self/gid_map"])
        .ok();
    let words: Vec<&str> = maps.stdout.split_whitespace().collect();
    let (uid, gid) = (user::SUBUID.to_string(), user::SUBGID.to_string());
    assert_eq!(words, ["0", &uid, "65536", "0", &gid, "65536"]);
    let pid = running.inspect("{{.State.Pid}}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let uid = format!("Uid:\t{}\t", user::SUBUID + 1000);
    let gid = format!("Gid:\t{}\t", user::SUBGID + 1000);
    assert!(status.contains(&uid) && status.contains(&gid), "{status}");
}

fn what_a_containers_root_makes_is_the_subordinate_ids(docker: &Boxes) {
    docker
        .runs(
            &["--volume", "vol:/data"],
            "echo x >/data/file; stat -c %u:%g /data/file",
        )
        .ok()
        .prints("0:0\n");
    let template = ["--format", "{{.Mountpoint}}", "vol"];
    let place = docker.call(&[&["volume", "inspect"], &template[..]].concat());
    let file = std::fs::metadata(format!("{}/file", place.ok().line())).expect("the file");
    let owner = std::os::unix::fs::MetadataExt::uid(&file);
    assert_eq!(owner, user::SUBUID);
    docker.call(&["volume", "rm", "vol"]).ok();
}

fn one_container_has_the_hosts_ids(docker: &Boxes) {
    let map = std::fs::read_to_string("/proc/self/uid_map").expect("a map");
    docker
        .runs(&["--userns", "host"], "cat /proc/self/uid_map")
        .ok()
        .prints(&map);
}
