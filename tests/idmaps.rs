//! Promise: the files of an id-mapped mount have the owners that its maps say, inside and on the host; what
//! can't be mapped is refused with the reason.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::Bundle;
use crate::stage;

fn map(host: u32) -> Value {
    json!([{"containerID": 0, "hostID": host, "size": 1000}])
}

/// A mount whose files' owners are seen through maps of its own.
pub fn mapped(bundle: &mut Bundle, place: &str, kind: &str, source: &Path, options: &[&str]) {
    bundle.push(
        "/mounts",
        json!({"destination": place, "type": kind, "source": source, "options": options,
            "uidMappings": map(5000), "gidMappings": map(7000)}),
    );
}

/// Who owns each path, as the probe saw it.
fn owners(seen: &Value, paths: &[&str]) -> Vec<(u64, u64)> {
    let of = |path: &&str| {
        let row = &seen["stat"][*path];
        let id = |key: &str| row[key].as_u64().unwrap_or_else(|| panic!("{path}: {row}"));
        (id("uid"), id("gid"))
    };
    paths.iter().map(of).collect()
}

/// Files of root and of 7:8, at the top and in the mount below.
const OWNED: &str = r#"mkdir -p "$SOURCES"; mount -t tmpfs top "$SOURCES"; mkdir "$SOURCES/below"
mount -t tmpfs below "$SOURCES/below"
for f in "$SOURCES/of-7" "$SOURCES/below/of-7"; do touch "$f"; chown 7:8 "$f"; done"#;

#[test]
fn idmap_and_ridmap_show_other_owners() {
    let stage = stage!();
    let sources = stage.path("owned");
    let mut bundle = stage.own_bundle();
    mapped(
        &mut bundle,
        "/mnt/idmap",
        "bind",
        &sources,
        &["rbind", "idmap"],
    );
    mapped(
        &mut bundle,
        "/mnt/ridmap",
        "bind",
        &sources,
        &["rbind", "ridmap", "ro"],
    );
    mapped(&mut bundle, "/mnt/implied", "bind", &sources, &["bind"]);
    mapped(
        &mut bundle,
        "/mnt/fs",
        "tmpfs",
        Path::new("tmpfs"),
        &["idmap", "uid=7", "gid=8"],
    );
    let inline = "ridmap=uids=0-100-1#7-200-1;gids=0-300-100";
    let source = sources.to_string_lossy().into_owned();
    bundle.mount("/mnt/inline", "none", &source, &["rbind", inline]);
    let paths = [
        "/mnt/idmap",
        "/mnt/idmap/of-7",
        "/mnt/idmap/below/of-7",
        "/mnt/ridmap/of-7",
        "/mnt/ridmap/below/of-7",
        "/mnt/implied/of-7",
        "/mnt/fs",
        "/mnt/inline/of-7",
        "/mnt/inline/below",
    ];
    bundle.args(&[&["/bin/probe", "stat"][..], &paths].concat());
    let seen = stage.run_after(&bundle, OWNED, &sources).ok().json();
    let expected = [
        (5000, 7000),
        (5007, 7008),
        (7, 8),
        (5007, 7008),
        (5007, 7008),
        (5007, 7008),
        (5007, 7008),
        (200, 308),
        (100, 300),
    ];
    assert_eq!(owners(&seen, &paths), expected);
}

#[test]
fn in_a_user_namespace_idmap_takes_its_maps_when_there_are_no_others() {
    let stage = stage!();
    let sources = stage.path("owned");
    let mut bundle = stage.own_bundle();
    let source = sources.to_string_lossy().into_owned();
    bundle.give_to_mapped_root();
    bundle
        .user_namespace(100_000, 65_536)
        .mount("/mnt/plain", "bind", &source, &["rbind"])
        .mount("/mnt/idmap", "bind", &source, &["rbind", "idmap"])
        .mount("/mnt/ridmap", "bind", &source, &["rbind", "ridmap"])
        .mount(
            "/mnt/relative",
            "bind",
            &source,
            &["bind", "idmap=uids=@0-20-10;gids=@0-30-10"],
        );
    let paths = [
        "/mnt/plain/of-7",
        "/mnt/idmap/of-7",
        "/mnt/idmap/below/of-7",
        "/mnt/ridmap/below/of-7",
        "/mnt/relative/of-7",
    ];
    bundle.args(&[&["/bin/probe", "stat"][..], &paths].concat());
    let seen = stage.run_after(&bundle, OWNED, &sources).ok().json();
    let nobody = (65_534, 65_534);
    let expected = [nobody, (7, 8), nobody, (7, 8), (27, 38)];
    assert_eq!(owners(&seen, &paths), expected);
}

#[test]
fn in_a_user_namespace_a_new_file_system_is_idmapped_too() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    bundle.give_to_mapped_root();
    let rootfs = bundle.folder.join("rootfs");
    let place = rootfs.join("place");
    std::fs::create_dir(&place).unwrap();
    std::fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o2751)).unwrap();
    let other = "idmap=uids=@5-0-1;gids=@6-0-1";
    bundle
        .user_namespace(100_000, 65_536)
        .capabilities(&["CAP_CHOWN"])
        .set("/root/readonly", json!(false))
        .mount("/place", "tmpfs", "tmpfs", &["idmap", "size=64k"])
        .mount("/other", "tmpfs", "tmpfs", &[other, "uid=5,gid=6", "ro"])
        .mount("/other/below", "tmpfs", "tmpfs", &["mode=700"]);
    let script = "touch /place/own /place/given && chown 7:8 /place/given; \
                  stat -c '%n %a %u:%g' /place /place/own /place/given /other /other/below; \
                  touch /other/x 2>/dev/null || echo refused; grep -c ' /place tmpfs .*size=64k' /proc/mounts";
    let expected = "/place 2751 0:0\n/place/own 644 0:0\n/place/given 644 7:8\n\
                    /other 1777 0:0\n/other/below 700 0:0\nrefused\n1";
    assert_eq!(stage.prints(&mut bundle, script), expected);
    bundle.mount("/more", "tmpfs", "tmpfs", &["idmap", "size=many"]);
    stage
        .run(&bundle)
        .refuses(&["/mounts/10", "tmpfs", "size", "invalid argument"]);
    bundle.set("/mounts/10/options", json!(["idmap", "tmpcopyup"]));
    stage.run(&bundle).refuses(&["/mounts/10", "tmpcopyup"]);
}

#[test]
fn idmap_takes_the_maps_of_a_user_namespace_that_is_joined() {
    let stage = stage!();
    let source = stage.path("owned");
    std::fs::create_dir(&source).unwrap();
    std::os::unix::fs::chown(&source, Some(7), Some(8)).unwrap();
    let mut first = stage.bundle();
    first.user_namespace(100_000, 65_536).sleeps();
    let first = stage.create(&first);
    let path = format!("/proc/{}/ns/user", first.pid());
    let mut bundle = stage.own_bundle();
    bundle.give_to_mapped_root();
    bundle
        .namespace("user", Some(&path))
        .bind(&source, "/mnt/idmap", &["idmap"])
        .args(&["/bin/probe", "stat", "/mnt/idmap"]);
    let seen = stage.run(&bundle).ok().json();
    assert_eq!(owners(&seen, &["/mnt/idmap"]), [(7, 8)]);
}

#[test]
fn a_file_written_through_an_idmapped_mount_has_its_owner_mapped_back() {
    let stage = stage!();
    let source = stage.path("written");
    std::fs::create_dir(&source).unwrap();
    std::os::unix::fs::chown(&source, Some(1), Some(1)).unwrap();
    let mut bundle = stage.bundle();
    let maps = json!([{"containerID": 1, "hostID": 0, "size": 1}]);
    bundle.push(
        "/mounts",
        json!({"destination": "/mnt", "type": "bind", "source": source,
            "options": ["bind", "idmap"], "uidMappings": maps, "gidMappings": maps}),
    );
    assert_eq!(
        stage.prints(&mut bundle, "echo x > /mnt/file; stat -c %u:%g /mnt/file"),
        "0:0"
    );
    let made = std::fs::metadata(source.join("file")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((made.uid(), made.gid()), (1, 1));
}

#[test]
fn a_mount_of_the_containers_own_is_idmapped_without_a_user_namespace_and_else_refused() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let inside = bundle.folder.join("rootfs/tmp/first");
    std::fs::create_dir(&inside).unwrap();
    bundle.give_to_mapped_root();
    bundle.mount("/tmp/first", "tmpfs", "tmpfs", &["uid=0,gid=0"]);
    mapped(&mut bundle, "/mnt", "bind", &inside, &["bind", "idmap"]);
    let seen = stage.prints(&mut bundle, "stat -c %u:%g /tmp/first /mnt");
    assert_eq!(seen, "0:0\n5000:7000");
    bundle.user_namespace(100_000, 65_536);
    let words = [
        "/mounts/8/options/1",
        "an earlier mount of the container",
        "give that mount the maps",
    ];
    stage.try_create(&bundle).refuses(&words);
}

#[test]
fn what_cannot_be_idmapped_is_refused_with_the_reason() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    mapped(&mut bundle, "/mnt", "ramfs", Path::new("ramfs"), &["idmap"]);
    let words = ["/mounts/7", "can't be id-mapped", "invalid argument"];
    stage.try_create(&bundle).refuses(&words);
    let mut bundle = stage.bundle();
    mapped(
        &mut bundle,
        "/mnt",
        "bind",
        Path::new("/proc"),
        &["bind", "idmap"],
    );
    stage.try_create(&bundle).refuses(&words);
    // The parent opens it.
    bundle.user_namespace(100_000, 65_536);
    let words = [
        "/mounts/7",
        "can't be id-mapped",
        "invalid argument",
        "/proc",
    ];
    stage.try_create(&bundle).refuses(&words);
    let mut bundle = stage.bundle();
    bundle.mount("/mnt", "bind", "/etc", &["bind", "idmap"]);
    stage
        .try_create(&bundle)
        .refuses(&["/mounts/7/options/1", "needs uidMappings"]);
}
