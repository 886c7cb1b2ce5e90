//! What outlives a lost boot, and what is left in the end.

use std::process::Command;

use crate::boxes::{Boxes, IMAGE, Running};
use crate::harness::{Outcome, until, user};
use crate::left;
use crate::power::{self, Run, Stranger};
use crate::session;

pub(super) fn a_container_comes_back_after_a_power_loss(podman: &Boxes) {
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

pub(super) fn a_stranger_with_a_pid_of_the_boot_before_is_spared(podman: &Boxes) {
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

pub(super) fn nothing_is_left_of_them(podman: &Boxes) {
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
