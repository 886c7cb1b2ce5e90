//! A container's life by Podman's own words, Buildah's, and a private store's.

use crate::boxes::{Boxes, IMAGE};
use crate::docs::snippet;
use crate::goods::ROOTFS;
use crate::harness::Outcome;
use crate::session;

/// By what its `--version` says.
pub(super) fn the_engine_knows_its_runtime(podman: &Boxes) {
    let format = "{{.Host.OCIRuntime.Name}} {{.Host.OCIRuntime.Version}}";
    let info = podman.call(&["info", "--format", format]).ok();
    let runtime = session::runtime();
    let begins = format!("{runtime} {runtime} version ");
    assert!(info.line().starts_with(&begins), "{info}");
}

pub(super) fn top_by_the_containers_own_columns(podman: &Boxes) {
    let running = podman.sleeps(&["--user", "user"]);
    let columns = podman
        .call(&["top", &running.name, "pid", "user", "args"])
        .ok();
    columns.prints("user").prints("sleep 600");
}

pub(super) fn a_healthcheck_is_run(podman: &Boxes) {
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

pub(super) fn a_root_filesystem_needs_no_image(podman: &Boxes) {
    let root = podman.folder("root");
    let mut unpack = podman.program("tar", &["-C", &root, "-xf", ROOTFS]);
    Outcome::of(&mut unpack).ok();
    let words = ["run", "--rm", "--rootfs", &root, "sh", "-c"];
    let script = "touch /made; exit 6";
    podman.call(&[&words[..], &[script]].concat()).exits(6);
    assert!(std::path::Path::new(&root).join("made").exists());
}

pub(super) fn buildah_runs_a_command(podman: &Boxes) {
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

pub(super) fn a_private_store_is_tried_as_the_page_says(podman: &Boxes) {
    let script = snippet("a private Podman", &session::runtime());
    let script = script.replace("rootfs.tar", ROOTFS);
    let outcome = Outcome::of(&mut podman.program("sh", &["-e", "-c", &script]));
    outcome.ok().prints("it ended with 42\n");
    let exists = ["image", "exists", "localhost/busybox:1"];
    podman.call(&exists).exits(1);
}
