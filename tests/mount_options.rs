//! Promise: every mount option that `capsid features` names does what the specification says, as
//! the kernel shows it inside. An option without a row here fails.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Bundle, Outcome, Stage};
use crate::stage;

/// What is mounted before an option is tried: all of them trees of two mounts, the top and one
/// `below` it, and all of them shared.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// A tree without any flag.
    Plain,
    /// A tree with every flag that there is.
    Strict,
    /// A tree that keeps strict access times.
    Times,
    /// A new tmpfs.
    Tmpfs,
}
use Kind::*;

/// Option, what it is tried on, the options before it, and what the top and the mount below
/// show: `ro` it has, `-ro` it has not; `super:` is about the file system, `~` about propagation.
type Row = (
    &'static str,
    Kind,
    &'static [&'static str],
    &'static str,
    &'static str,
);

const TREE: &[&str] = &["rbind"];

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("defaults", Strict, TREE, "ro nosuid nodev noexec", "ro nosuid nodev noexec"),
    ("bind", Plain, &[], "-ro", "absent"),
    ("rbind", Plain, &[], "-ro", "-ro"),
    ("ro", Plain, TREE, "ro", "-ro"),
    ("rw", Strict, TREE, "-ro nosuid", "ro"),
    ("nosuid", Plain, TREE, "nosuid -ro", "-nosuid"),
    ("suid", Strict, TREE, "-nosuid ro", "nosuid"),
    ("nodev", Plain, TREE, "nodev", "-nodev"),
    ("dev", Strict, TREE, "-nodev", "nodev"),
    ("noexec", Plain, TREE, "noexec", "-noexec"),
    ("exec", Strict, TREE, "-noexec", "noexec"),
    ("nosymfollow", Plain, TREE, "nosymfollow", "-nosymfollow"),
    ("symfollow", Strict, TREE, "-nosymfollow", "nosymfollow"),
    ("nodiratime", Plain, TREE, "nodiratime", "-nodiratime"),
    ("diratime", Strict, TREE, "-nodiratime", "nodiratime"),
    ("noatime", Plain, TREE, "noatime -relatime", "relatime"),
    ("atime", Strict, TREE, "relatime -noatime", "noatime"),
    ("relatime", Strict, TREE, "relatime -noatime", "noatime"),
    ("norelatime", Strict, TREE, "noatime", "noatime"),
    ("strictatime", Plain, TREE, "-relatime -noatime", "relatime"),
    ("nostrictatime", Plain, &["rbind", "strictatime"], "relatime", "relatime"),
    ("rro", Plain, TREE, "ro", "ro"),
    ("rrw", Strict, TREE, "-ro nosuid", "-ro nosuid"),
    ("rnosuid", Plain, TREE, "nosuid", "nosuid"),
    ("rsuid", Strict, TREE, "-nosuid ro", "-nosuid ro"),
    ("rnodev", Plain, TREE, "nodev", "nodev"),
    ("rdev", Strict, TREE, "-nodev", "-nodev"),
    ("rnoexec", Plain, TREE, "noexec", "noexec"),
    ("rexec", Strict, TREE, "-noexec", "-noexec"),
    ("rnosymfollow", Plain, TREE, "nosymfollow", "nosymfollow"),
    ("rsymfollow", Strict, TREE, "-nosymfollow", "-nosymfollow"),
    ("rnodiratime", Plain, TREE, "nodiratime", "nodiratime"),
    ("rdiratime", Strict, TREE, "-nodiratime", "-nodiratime"),
    ("rnoatime", Times, TREE, "noatime -relatime", "noatime -relatime"),
    ("ratime", Strict, TREE, "relatime -noatime", "relatime -noatime"),
    ("rrelatime", Strict, TREE, "relatime -noatime", "relatime -noatime"),
    ("rnorelatime", Times, &["rbind", "rrelatime"], "relatime", "relatime"),
    ("rstrictatime", Strict, TREE, "-relatime -noatime", "-relatime -noatime"),
    ("rnostrictatime", Times, TREE, "relatime", "relatime"),
    ("shared", Plain, TREE, "~shared", "~-shared ~master"),
    ("slave", Plain, &["rbind", "shared"], "~master ~-shared", "~master ~-shared"),
    ("private", Plain, TREE, "~-master ~-shared", "~master"),
    ("unbindable", Plain, TREE, "~unbindable", "~-unbindable"),
    ("rshared", Plain, TREE, "~shared", "~shared"),
    ("rslave", Plain, TREE, "~master ~-shared", "~master ~-shared"),
    ("rprivate", Plain, TREE, "~-master ~-shared", "~-master ~-shared"),
    ("runbindable", Plain, TREE, "~unbindable", "~unbindable"),
    ("sync", Tmpfs, &[], "super:sync", ""),
    ("async", Tmpfs, &["sync"], "super:-sync", ""),
    ("dirsync", Tmpfs, &[], "super:dirsync", ""),
    ("lazytime", Tmpfs, &[], "super:lazytime", ""),
    ("nolazytime", Tmpfs, &["lazytime"], "super:-lazytime", ""),
    ("mand", Tmpfs, &[], "super:mand", ""),
    ("nomand", Tmpfs, &["mand"], "super:-mand", ""),
    ("iversion", Tmpfs, &[], "notice", ""),
    ("noiversion", Tmpfs, &[], "notice", ""),
    ("silent", Tmpfs, &[], "notice", ""),
    ("loud", Tmpfs, &[], "notice", ""),
];

/// Options that need more than a row: the test of each is in this file.
const ELSEWHERE: &[&str] = &[
    "remount",
    "idmap",
    "ridmap",
    "tmpcopyup",
    "copy-symlink",
    "src-nofollow",
    "dest-nofollow",
];

/// Makes the trees in a mount namespace of its own, then runs what follows it.
const TREES: &str = r#"set -e
tree() { mkdir -p "$SOURCES/$1"; mount -t tmpfs -o "$2" "$1" "$SOURCES/$1"; mkdir "$SOURCES/$1/below"
  mount -t tmpfs -o "$2" below "$SOURCES/$1/below"; }
tree plain relatime; tree times strictatime; tree strict relatime
for m in strict/below strict; do
  mount -o remount,bind,ro,nosuid,nodev,noexec,nosymfollow,noatime,nodiratime "$SOURCES/$m"; done
for t in plain times strict; do mount --make-rshared "$SOURCES/$t"; done
"#;

/// Runs the bundle where the trees are mounted.
#[track_caller]
fn run_with(stage: &Stage, bundle: &Bundle, before: &str, sources: &Path) -> Outcome {
    let id = stage.id();
    bundle.write(&id);
    let script = format!("{before}\nexec $capsid run --bundle \"$1\" \"$2\"");
    let folder = bundle.folder.to_string_lossy().into_owned();
    let outer = "exec unshare -m --propagation private sh -c \"$3\" sh \"$1\" \"$2\"";
    let outer = format!("export SOURCES={}; {outer}", sources.display());
    stage.shell(&outer, &[&folder, &id, &script])
}

/// The mounts that the probe saw, by their places.
fn seen_at<'a>(mounts: &'a Value, place: &str) -> Option<&'a Value> {
    let rows = mounts["mounts"].as_array().expect("mounts");
    rows.iter().rfind(|row| row["mount_point"] == place)
}

fn has(row: &Value, list: &str, word: &str) -> bool {
    let words = row[list].as_array().expect("a list of words");
    let is = |found: &str| found == word || found.starts_with(&format!("{word}:"));
    words.iter().any(|found| found.as_str().is_some_and(is))
}

/// What of the expectation is not so.
fn broken(row: Option<&Value>, expected: &str) -> Vec<String> {
    let wrong = |word: &&str| match row {
        None => *word != "absent",
        Some(row) => {
            let (list, word) = match (word.strip_prefix("super:"), word.strip_prefix('~')) {
                (Some(word), _) => ("super_options", word),
                (_, Some(word)) => ("optional", word),
                _ => ("options", *word),
            };
            match word.strip_prefix('-') {
                Some(word) => has(row, list, word),
                None => word != "notice" && !has(row, list, word),
            }
        }
    };
    let words = expected.split_whitespace().filter(wrong);
    words.map(|word| format!("{word}: {row:?}")).collect()
}

#[test]
fn every_option_that_features_names_does_what_it_says() {
    let stage = stage!();
    let sources = stage.path("sources");
    let mut bundle = stage.own_bundle();
    for (word, kind, before, ..) in ROWS {
        let options: Vec<&str> = before.iter().chain([word]).copied().collect();
        let place = format!("/mnt/{word}");
        let tree = match kind {
            Plain => "plain",
            Strict => "strict",
            Times => "times",
            Tmpfs => {
                bundle.mount(&place, "tmpfs", "tmpfs", &options);
                continue;
            }
        };
        let source = sources.join(tree);
        bundle.mount(&place, "none", &source.to_string_lossy(), &options);
    }
    bundle.args(&["/bin/probe", "mounts"]);
    let outcome = run_with(&stage, &bundle, TREES, &sources).ok();
    let mounts = outcome.json();
    let mut wrong = Vec::new();
    for (word, kind, _, top, below) in ROWS {
        let place = format!("/mnt/{word}");
        let mut found = broken(seen_at(&mounts, &place), top);
        if *kind != Tmpfs {
            found.extend(broken(seen_at(&mounts, &format!("{place}/below")), below));
        }
        if *top == "notice" && !outcome.stderr.contains(&format!("{word} has no effect")) {
            found.push("no notice".to_owned());
        }
        wrong.extend(found.into_iter().map(|found| format!("{word}: {found}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_option_that_features_names_has_a_row() {
    let stage = stage!();
    let features = stage.call(&["features"]).ok().json();
    let named = features["mountOptions"].as_array().expect("options").iter();
    let named: BTreeSet<&str> = named.filter_map(Value::as_str).collect();
    let rows = ROWS.iter().map(|(word, ..)| *word);
    let tested: BTreeSet<&str> = rows.chain(ELSEWHERE.iter().copied()).collect();
    let difference: Vec<_> = named.symmetric_difference(&tested).collect();
    assert!(difference.is_empty(), "{difference:?}");
    let recursive = [
        "rro",
        "rrw",
        "ratime",
        "rnoatime",
        "rnosymfollow",
        "rnostrictatime",
    ];
    assert!(recursive.iter().all(|word| named.contains(word)));
}

#[test]
fn a_remount_gives_other_flags_and_other_options_of_the_file_system() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    bundle
        .mount("/mnt", "tmpfs", "tmpfs", &["size=1m", "lazytime"])
        .mount(
            "/mnt",
            "tmpfs",
            "tmpfs",
            &["remount", "noexec", "size=2m", "nolazytime"],
        )
        .mount("/srv", "tmpfs", "tmpfs", &["nosuid"])
        .mount("/srv", "", "", &["bind", "remount", "ro"])
        .args(&["/bin/probe", "mounts"]);
    let mounts = stage.run(&bundle).ok().json();
    let (first, second) = (seen_at(&mounts, "/mnt"), seen_at(&mounts, "/srv"));
    let expected = "noexec -ro super:size=2048k super:-lazytime";
    assert_eq!(broken(first, expected), Vec::<String>::new());
    assert_eq!(broken(second, "ro nosuid super:rw"), Vec::<String>::new());
    let mut bundle = stage.bundle();
    bundle.mount("/dev/shm", "tmpfs", "tmpfs", &["remount", "size=nonsense"]);
    let words = ["/mounts/7", "size=nonsense", "Bad value for 'size'"];
    stage.try_create(&bundle).refuses(&words);
    let mut bundle = stage.bundle();
    bundle.mount("/etc", "tmpfs", "tmpfs", &["remount", "size=1m"]);
    let words = ["/mounts/7", "nothing is mounted there"];
    stage.try_create(&bundle).refuses(&words);
}

fn map(host: u32) -> Value {
    json!([{"containerID": 0, "hostID": host, "size": 1000}])
}

/// A mount whose files' owners are seen through maps of its own.
fn mapped(bundle: &mut Bundle, place: &str, kind: &str, source: &Path, options: &[&str]) {
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
    let seen = run_with(&stage, &bundle, OWNED, &sources).ok().json();
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

/// Gives the places where missing mount points are made to root of a user namespace.
fn own_root(bundle: &Bundle) {
    let root = bundle.folder.join("rootfs");
    for folder in [root.clone(), root.join("etc"), root.join("mnt")] {
        std::os::unix::fs::chown(folder, Some(100_000), Some(100_000)).unwrap();
    }
}

#[test]
fn in_a_user_namespace_idmap_takes_its_maps_when_there_are_no_others() {
    let stage = stage!();
    let sources = stage.path("owned");
    let mut bundle = stage.own_bundle();
    let source = sources.to_string_lossy().into_owned();
    own_root(&bundle);
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
    let seen = run_with(&stage, &bundle, OWNED, &sources).ok().json();
    let nobody = (65_534, 65_534);
    let expected = [nobody, (7, 8), nobody, (7, 8), (27, 38)];
    assert_eq!(owners(&seen, &paths), expected);
}

#[test]
fn in_a_user_namespace_a_new_file_system_is_idmapped_too() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    own_root(&bundle);
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
    own_root(&bundle);
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
    own_root(&bundle);
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

#[test]
fn tmpcopyup_begins_with_a_copy_of_what_it_covers() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let place = bundle.folder.join("rootfs/full");
    let script = r#"mkdir -p deep/er; echo text > deep/er/file; true
        chown 7:8 deep/er/file; chmod 4757 deep/er/file; ln -s /no/where link; mkfifo fifo; mknod null c 1 3
        head -c 300000 /dev/zero > deep/large; chmod 1777 deep; chown 9:9 deep
        touch -d @1000 deep/er/file deep; chmod 2711 .; chown 3:4 ."#;
    std::fs::create_dir(&place).unwrap();
    let made = std::process::Command::new("sh")
        .args(["-e", "-c", script])
        .current_dir(&place)
        .status();
    assert!(made.unwrap().success());
    bundle
        .mount("/full", "tmpfs", "tmpfs", &["tmpcopyup", "size=1m"])
        .mount("/made", "tmpfs", "tmpfs", &["ro", "tmpcopyup", "mode=700"])
        .mount("/etc", "tmpfs", "tmpfs", &["ro", "tmpcopyup"]);
    let look = "cd /full; stat -c '%n %F %a %u:%g %s' . deep/er/file link null fifo; \
                stat -c '%n %a %u:%g %Y' deep; stat -c %Y deep/er/file; readlink link; \
                wc -c < deep/large; echo more >> deep/er/file; cat deep/er/file; \
                stat -c %a /made; touch /made/x 2>/dev/null || echo refused; \
                test -s /etc/passwd && touch /etc/passwd 2>/dev/null || echo read-only";
    let expected = ". directory 2711 3:4 120\n\
        deep/er/file regular file 4757 7:8 5\n\
        link symbolic link 777 0:0 9\n\
        null character special file 644 0:0 0\n\
        fifo fifo 644 0:0 0\n\
        deep 1777 9:9 1000\n1000\n/no/where\n300000\ntext\nmore\n700\nrefused\nread-only";
    assert_eq!(stage.prints(&mut bundle, look), expected);
    let kept = std::fs::read_to_string(place.join("deep/er/file")).unwrap();
    assert_eq!(kept, "text\n", "the image has changed");
    bundle.mount("/full/deep", "tmpfs", "tmpfs", &["tmpcopyup", "size=64k"]);
    let words = [
        "/mounts/10",
        "no space left on device",
        "larger than its size",
        "large",
    ];
    stage.run(&bundle).refuses(&words);
}

#[test]
fn tmpcopyup_keeps_names_of_one_file_and_extended_attributes() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let place = bundle.folder.join("rootfs/full");
    let script = r#"mkdir deep .names-0; echo text > one; ln one deep/two; ln one three; echo own > four
        mkfifo fifo; ln fifo deep/fifo; ln -s nowhere link; ln -P link deep/link"#;
    std::fs::create_dir(&place).unwrap();
    let made = std::process::Command::new("sh")
        .args(["-e", "-c", script])
        .current_dir(&place)
        .status();
    assert!(made.unwrap().success());
    // Version 2: cap_net_raw+ep.
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let long = [b'x'; 3000];
    let kept: [(&str, &str, &[u8]); 3] = [
        ("one", "security.capability", &capability),
        ("deep", "trusted.mine", b"mine"),
        ("four", "trusted.long", &long),
    ];
    for (file, name, value) in kept {
        setxattr(place.join(file), name, value, XattrFlags::empty()).unwrap();
    }
    setxattr(
        place.join("four"),
        "security.other",
        b"left",
        XattrFlags::empty(),
    )
    .unwrap();
    bundle
        .mount("/full", "tmpfs", "tmpfs", &["tmpcopyup", "size=1m"])
        .sleeps();
    let container = stage.create(&bundle);
    container.start().ok();
    let look = "cd /full; stat -c '%n %h' one deep/two three four fifo link; ls -A; \
                stat -c %i one deep/two three | uniq | wc -l; stat -c %i fifo deep/fifo | uniq | wc -l";
    let expected = "one 3\ndeep/two 3\nthree 3\nfour 1\nfifo 2\nlink 2\n\
                    .names-0\ndeep\nfifo\nfour\nlink\none\nthree\n1\n1";
    assert_eq!(container.sh(look), expected);
    let copy = format!("/proc/{}/root/full", container.pid());
    let seen = |file: &str, name: &str| {
        let mut value = vec![0; 4096];
        let length = getxattr(Path::new(&copy).join(file), name, &mut value[..]).ok()?;
        value.truncate(length);
        Some(value)
    };
    for (file, name, value) in kept {
        assert_eq!(seen(file, name).as_deref(), Some(value), "{name} of {file}");
    }
    assert!(seen("deep/two", "security.capability").is_some());
    assert_eq!(seen("four", "security.other"), None);
}

#[test]
fn tmpcopyup_follows_no_link_of_the_image() {
    let stage = stage!();
    let secret = stage.path("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("key"), "secret").unwrap();
    let mut bundle = stage.own_bundle();
    let place = bundle.folder.join("rootfs/full");
    std::fs::create_dir(&place).unwrap();
    std::os::unix::fs::symlink(&secret, place.join("link")).unwrap();
    std::os::unix::fs::symlink(&secret, bundle.folder.join("rootfs/leads")).unwrap();
    bundle
        .mount("/full", "tmpfs", "tmpfs", &["tmpcopyup"])
        .mount("/leads", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let look = "cat /full/link/key /leads/key 2>/dev/null; find /full /leads";
    let expected = "/full\n/full/link\n/leads";
    assert_eq!(stage.prints(&mut bundle, look), expected);
}

#[test]
fn copy_symlink_makes_the_link_and_binds_what_is_none() {
    let stage = stage!();
    let source = stage.path("links");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "text").unwrap();
    std::os::unix::fs::symlink("../no/where", source.join("link")).unwrap();
    for user in [false, true] {
        let mut bundle = stage.own_bundle();
        if user {
            bundle.user_namespace(100_000, 65_536);
            own_root(&bundle);
        }
        bundle
            .bind(&source.join("link"), "/etc/new/link", &["copy-symlink"])
            .bind(&source.join("link"), "/etc/new/link", &["copy-symlink"])
            .bind(&source.join("file"), "/etc/file", &["copy-symlink", "ro"]);
        let text = stage.prints(&mut bundle, "readlink /etc/new/link; cat /etc/file");
        assert_eq!(text, "../no/where\ntext");
        bundle.bind(&source.join("link"), "/etc/passwd", &["copy-symlink"]);
        let words = [
            "/mounts/10",
            "what is there is not this link",
            "file exists",
        ];
        stage.run(&bundle).refuses(&words);
    }
}

#[test]
fn src_nofollow_binds_the_link_itself() {
    let stage = stage!();
    let source = stage.path("links");
    std::fs::create_dir(&source).unwrap();
    std::os::unix::fs::symlink("/no/where", source.join("link")).unwrap();
    for user in [false, true] {
        let mut bundle = stage.own_bundle();
        if user {
            bundle.user_namespace(100_000, 65_536);
            own_root(&bundle);
        }
        bundle.bind(&source.join("link"), "/etc/hosts", &["src-nofollow"]);
        let text = stage.prints(&mut bundle, "readlink /etc/hosts");
        assert_eq!(text, "/no/where");
        let image = bundle.folder.join("rootfs/etc/hosts");
        assert!(!image.is_symlink(), "the link was made in the image");
    }
    let mut bundle = stage.own_bundle();
    bundle.bind(&source.join("link"), "/etc/hosts", &[]);
    stage
        .run(&bundle)
        .refuses(&["/mounts/7", "no such file or directory"]);
}

#[test]
fn dest_nofollow_mounts_on_the_link_and_not_on_what_it_leads_to() {
    let stage = stage!();
    let source = stage.path("source");
    std::fs::write(&source, "new\n").unwrap();
    let mut bundle = stage.own_bundle();
    let rootfs = bundle.folder.join("rootfs");
    std::fs::write(rootfs.join("etc/target"), "old\n").unwrap();
    for name in ["kept", "followed"] {
        std::os::unix::fs::symlink("target", rootfs.join("etc").join(name)).unwrap();
    }
    bundle.bind(&source, "/etc/kept", &["dest-nofollow"]);
    let look = "cat /etc/kept /etc/target /etc/followed; readlink /etc/kept";
    bundle.sh(&format!("{look} || echo none"));
    assert_eq!(stage.run(&bundle).ok().line(), "new\nold\nold\nnone");
    bundle.bind(&source, "/etc/followed", &[]);
    assert_eq!(stage.run(&bundle).ok().line(), "new\nnew\nnew\nnone");
}

#[test]
fn explain_shows_how_each_mount_is_made() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.set("/mounts", json!([]));
    mapped(&mut bundle, "/mnt", "bind", Path::new("/etc"), &["ro"]);
    bundle
        .mount(
            "/tmp",
            "tmpfs",
            "tmpfs",
            &["tmpcopyup", "no-such-word", "x=1", "rslave"],
        )
        .mount("/srv", "none", "/etc", &["rbind", "sync"])
        .write("explained");
    let folder = bundle.folder.to_string_lossy().into_owned();
    let text = stage.call(&["explain", &folder]).ok().stdout;
    let maps = "map uids 0+1000 to 5000, gids 0+1000 to 7000";
    for line in [
        format!("bind /etc on /mnt (ro), id-mapped: {maps}   /mounts/0\n"),
        "     by open_tree, mount_setattr MOUNT_ATTR_IDMAP, mount_setattr, move_mount\n".to_owned(),
        "mount tmpfs on /tmp with no-such-word,x=1, with a copy of what it covers (rslave)"
            .to_owned(),
        "     by fsopen, fsconfig, fsmount, getdents64, sendfile, move_mount, mount_setattr\n"
            .to_owned(),
        "rbind /etc on /srv   /mounts/2\n     by open_tree, move_mount\n".to_owned(),
        "notice: /mounts/2/options/1: sync has no effect on a bind".to_owned(),
    ] {
        assert!(text.contains(&line), "no {line:?}:\n{text}");
    }
    let json = stage
        .call(&["explain", "--format", "json", &folder])
        .ok()
        .json();
    let steps = json["steps"].as_array().expect("steps");
    let mount = steps
        .iter()
        .find(|step| step["pointer"] == "/mounts/2")
        .expect("the mount");
    assert_eq!(mount["calls"], json!(["open_tree", "move_mount"]));
}

#[test]
fn tmpcopyup_makes_no_program_of_roots_of_one_whose_owner_has_no_id() {
    let stage = stage!();
    let volume = stage.path("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("theirs"), "program").unwrap();
    std::os::unix::fs::chown(volume.join("theirs"), Some(54_321), Some(54_321)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o6755);
    std::fs::set_permissions(volume.join("theirs"), mode).unwrap();
    let mut bundle = stage.bundle();
    bundle
        .user_namespace(100_000, 1000)
        .bind(&volume, "/mnt", &[])
        .mount("/mnt", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let said = stage.prints(&mut bundle, "stat -c '%a %u' /mnt/theirs");
    assert_eq!(said, "755 0");
}
