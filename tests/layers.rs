//! Promise: an overlay takes the layers that rootfs-builder kept, whatever the folders are called, and is
//! never seen on the host.

use std::path::Path;
use std::process::Command;

use capsid_rootfs_builder::{Addition, Layout, Recipe, Source};
use serde_json::json;

use crate::harness::Outcome;
use crate::stage;

/// Names in which a path of an option string would end, or begin anew.
const ODD: &str = "with, comma:colon and\\space";

#[test]
fn the_layers_of_rootfs_builder_are_the_lower_folders() {
    let stage = stage!();
    let mut recipe = Recipe::new(Source::Busybox);
    recipe.layout = Layout::Layers;
    let text = stage.path("text");
    std::fs::write(&text, "of a layer\n").unwrap();
    recipe.additions = vec![Addition {
        file: text,
        path: "/layer.txt".into(),
    }];
    let folder = stage.path(ODD);
    recipe.bundle(&folder).unwrap();
    let names = std::fs::read_to_string(folder.join("layers.json")).unwrap();
    let names: Vec<String> = serde_json::from_str(&names).unwrap();
    let mut bundle = stage.bundle();
    let rootfs = folder.join("rootfs");
    bundle
        .set("/root", json!({"path": rootfs}))
        .sh("cat /layer.txt; echo x > /layer.txt; cat /layer.txt");
    let mut options = Vec::new();
    for name in &names {
        options.push("--overlay-lower".to_owned());
        options.push(folder.join(name).to_string_lossy().into_owned());
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let outcome = stage.run_with(&bundle, &options).ok();
    assert_eq!(outcome.line(), "of a layer\nx");
    let kept = std::fs::read_to_string(folder.join(names.last().unwrap()).join("layer.txt"));
    assert!(kept.is_err() || kept.unwrap() == "of a layer\n");
    assert!(
        std::fs::read_dir(&rootfs).unwrap().next().is_none(),
        "rootfs is not empty"
    );
}

#[test]
fn what_an_upper_layer_has_removed_or_replaced_is_gone() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    let (low, high) = (stage.path("low"), stage.path("high"));
    for file in ["gone", "folder/old", "kept/old"] {
        std::fs::create_dir_all(low.join(file).parent().unwrap()).unwrap();
        std::fs::write(low.join(file), "low\n").unwrap();
    }
    std::fs::create_dir_all(high.join("folder")).unwrap();
    std::fs::create_dir_all(high.join("kept")).unwrap();
    std::fs::write(high.join("folder/new"), "high\n").unwrap();
    let shell = "mknod $0/gone c 0 0 && setfattr -n trusted.overlay.opaque -v y $0/folder";
    let marked = Outcome::of(Command::new("/bin/sh").args(["-c", shell]).arg(&high));
    let opaque = marked.code == 0;
    bundle.sh("ls -d /gone 2>/dev/null; ls /folder /kept");
    let base = bundle.config["root"]["path"].as_str().unwrap().to_owned();
    let (low, high) = (low.to_string_lossy(), high.to_string_lossy());
    let options = [
        "--overlay-lower",
        &base,
        "--overlay-lower",
        &low,
        "--overlay-lower",
        &high,
    ];
    let text = stage.run_with(&bundle, &options).ok().line().to_owned();
    // setfattr(1) is no part of a small system.
    let folder = if opaque { "new" } else { "new\nold" };
    assert_eq!(text, format!("/folder:\n{folder}\n\n/kept:\nold"));
}

#[test]
fn every_folder_may_have_an_odd_name() {
    let stage = stage!();
    let odd = stage.path(ODD);
    let mut bundle = stage.bundle();
    let rootfs = odd.join("rootfs");
    std::fs::create_dir(&odd).unwrap();
    let base = bundle.config["root"]["path"].as_str().unwrap().to_owned();
    Outcome::of(Command::new("cp").arg("-a").arg(&base).arg(&rootfs)).ok();
    bundle
        .set("/root", json!({"path": rootfs}))
        .sh("echo made > /made; cat /made");
    let kept = odd.join("kept").to_string_lossy().into_owned();
    let id = stage.id();
    bundle.write(&id);
    let outcome = Outcome::of(
        stage
            .bare()
            .arg("--root")
            .arg(odd.join("state"))
            .args(["run", "--overlay-dir", &kept, "--bundle"])
            .arg(&bundle.folder)
            .arg(&id),
    );
    assert_eq!(outcome.ok().line(), "made");
    assert!(Path::new(&kept).join("upper/made").exists() && !rootfs.join("made").exists());
}

#[test]
fn the_host_has_no_mount_of_a_containers_overlay() {
    let stage = stage!();
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let overlays = |text: &str| text.matches(" - overlay ").count();
    let before = overlays(&mounts());
    let mut bundle = stage.bundle();
    bundle.sleeps();
    let container = stage.create_with(&bundle, &["--overlay"]);
    container.start().ok();
    assert_eq!(overlays(&mounts()), before);
    let inside = std::fs::read_to_string(format!("/proc/{}/mountinfo", container.pid())).unwrap();
    assert!(
        inside
            .lines()
            .any(|line| line.split(' ').nth(4) == Some("/") && line.contains(" - overlay "))
    );
    container.delete_force().ok();
}

#[test]
fn an_overlay_on_an_overlay_is_refused_by_the_name_of_the_folder() {
    let stage = stage!();
    let view = stage.path("merged");
    for folder in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(stage.path(folder)).unwrap();
    }
    let mut bundle = stage.bundle();
    bundle.args(&["/bin/true"]);
    let id = stage.id();
    bundle.write(&id);
    // In a mount namespace of its own, which takes the overlay with it.
    let script = "mount -t overlay overlay -o lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work $1/merged && \
                  exec $capsid run --overlay-dir $1/merged/kept --bundle $2 $3";
    let words = [
        &stage.folder.to_string_lossy(),
        &bundle.folder.to_string_lossy(),
        id.as_str(),
    ]
    .map(str::to_owned);
    Outcome::of(stage.in_own_mounts(script).args(&words))
        .refuses(&[&view.to_string_lossy(), "overlay"]);
    assert!(stage.remains(&id).is_empty());
}

#[test]
fn root_of_a_user_namespace_owns_what_it_writes_to_the_upper_folder() {
    use std::os::unix::fs::MetadataExt;
    let stage = stage!();
    let mut bundle = stage.bundle();
    let kept = stage.path("kept").to_string_lossy().into_owned();
    bundle
        .set("/root/readonly", json!(false))
        .user_namespace(100_000, 65_536)
        .capabilities(&["CAP_CHOWN"])
        .sh("mkdir /a && touch /a/b && chown 7:8 /a/b && stat -c '%u:%g' /a /a/b");
    let outcome = stage.run_with(&bundle, &["--overlay-dir", &kept]).ok();
    assert_eq!(outcome.line(), "0:0\n7:8");
    let owner = |file: &str| {
        let meta = std::fs::metadata(Path::new(&kept).join("upper").join(file)).unwrap();
        (meta.uid(), meta.gid())
    };
    assert_eq!(
        (owner("a"), owner("a/b")),
        ((100_000, 100_000), (100_007, 100_008))
    );
}
