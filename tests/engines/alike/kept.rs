//! What goes in and out of a container's files, in Docker's words, which are Podman's too.

use crate::boxes::{Boxes, IMAGE};
use crate::harness::Outcome;

pub fn files_are_copied_in_and_out(boxes: &Boxes) {
    let running = boxes.sleeps(&[]);
    let taken = format!("{}/file", boxes.folder("taken"));
    std::fs::write("/run/sent", "content").expect("a file");
    boxes
        .call(&["cp", "/run/sent", &format!("{}:/tmp/sent", running.name)])
        .ok();
    running
        .exec(&[], &["cat", "/tmp/sent"])
        .ok()
        .prints("content");
    boxes
        .call(&["cp", &format!("{}:/etc/hostname", running.name), &taken])
        .ok();
    assert!(std::fs::metadata(&taken).is_ok_and(|file| file.len() > 0));
    running.call("diff", &[]).ok().prints("A /tmp/sent");
}

pub fn an_image_is_built(boxes: &Boxes) {
    std::fs::create_dir_all("/run/context").expect("a folder");
    std::fs::write(
        "/run/context/Dockerfile",
        format!("FROM {IMAGE}\nRUN echo built >/built && id -u\nUSER user\nENTRYPOINT [\"cat\"]\n"),
    )
    .expect("a Dockerfile");
    Outcome::of(
        boxes
            .command(&["build", "--tag", "built:test", "/run/context"])
            .env("DOCKER_BUILDKIT", "0"),
    )
    .ok();
    boxes
        .call(&["run", "--rm", "built:test", "/built"])
        .ok()
        .prints("built\n");
    boxes.call(&["image", "rm", "built:test"]).ok();
}

/// A running one is paused meanwhile.
pub fn a_container_becomes_an_image(boxes: &Boxes) {
    let running = boxes.sleeps(&[]);
    running.exec(&[], &["touch", "/made"]).ok();
    let change = ["--change", "CMD [\"ls\", \"/made\"]"];
    let words = [&["commit"], &change[..], &[&running.name, "kept:test"]];
    boxes.call(&words.concat()).ok();
    running.exec(&[], &["true"]).ok();
    let outcome = boxes.call(&["run", "--rm", "kept:test"]).ok();
    assert_eq!(outcome.stdout, "/made\n");
    boxes.call(&["image", "rm", "kept:test"]).ok();
}

pub fn a_stopped_container_gives_and_takes_files(boxes: &Boxes) {
    let stopped = boxes.running(&[], "cat /sent; echo made >/made");
    assert_eq!(stopped.waits(), "0");
    let taken = format!("{}/made", boxes.folder("taken"));
    let inside = |path: &str| format!("{}:{path}", stopped.name);
    boxes.call(&["cp", &inside("/made"), &taken]).ok();
    assert_eq!(std::fs::read_to_string(&taken).expect("the file"), "made\n");
    std::fs::write("/run/sent", "content\n").expect("a file");
    boxes.call(&["cp", "/run/sent", &inside("/sent")]).ok();
    let again = stopped.call("start", &["--attach"]).ok();
    again.prints("content\n");
}
