//! Promise: every mount option that `capsid features` names does what the specification says, as
//! the kernel shows it inside. An option without a row here fails.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::idmaps::mapped;
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

/// Options that need more than a row: each has a test of its own, here, in idmaps and in tmpcopyup.
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
    let outcome = stage.run_after(&bundle, TREES, &sources).ok();
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
            bundle.give_to_mapped_root();
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
            bundle.give_to_mapped_root();
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
