//! Promise: a mount of type cgroup shows the container its own cgroups, in the layout of the host, and
//! never more than read-only where the container could reach those of others.

use std::os::unix::fs::chown;

use serde_json::{Value, json};

use crate::harness::machine::{self, Cgroups};
use crate::harness::{Bundle, Outcome, Stage, View};
use crate::{skip, stage};

/// How a container's cgroup mount is asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    read_only: bool,
    cgroup_namespace: bool,
    user_namespace: bool,
}

impl Asked {
    fn all() -> impl Iterator<Item = Asked> {
        (0..8).map(|bits| Asked {
            read_only: bits & 1 != 0,
            cgroup_namespace: bits & 2 != 0,
            user_namespace: bits & 4 != 0,
        })
    }

    fn bundle(self, stage: &Stage) -> Bundle {
        let mut bundle = stage.bundle();
        let write = if self.read_only { "ro" } else { "rw" };
        let mounts = bundle.config["mounts"].as_array().unwrap().clone();
        let others = mounts.into_iter().filter(|mount| mount["type"] != "cgroup");
        bundle.set("/mounts", Value::Array(others.collect()));
        bundle.mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "nodev", "noexec", write],
        );
        if self.cgroup_namespace {
            bundle.namespace("cgroup", None);
        }
        if self.user_namespace {
            bundle.user_namespace(100_000, 65_536);
        }
        bundle
    }

    /// Whether the container may write there, as far as the mounts are concerned.
    fn writable(self) -> bool {
        !self.read_only && (self.cgroup_namespace || !self.user_namespace)
    }
}

/// Runs the bundle in a cgroup that belongs to the container's root in every hierarchy.
fn run_owned(stage: &Stage, bundle: &Bundle, owner: u32) -> (String, Outcome) {
    let id = stage.id();
    bundle.write(&id);
    let path = Stage::cgroups_path(&id);
    for hierarchy in hierarchies(stage) {
        let folder = stage.view.cgroup(&hierarchy, &path);
        std::fs::create_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        chown(&folder, Some(owner), Some(owner)).unwrap();
    }
    let folder = bundle.folder.to_string_lossy().into_owned();
    let outcome = stage.call(&["run", "--bundle", &folder, &id]);
    (path, outcome)
}

/// The v1 hierarchies of the view by their folders; one without a name for cgroup2.
fn hierarchies(stage: &Stage) -> Vec<String> {
    if stage.view.is_v2() {
        return vec![String::new()];
    }
    let entries = std::fs::read_dir("/sys/fs/cgroup")
        .expect("/sys/fs/cgroup")
        .flatten();
    let v1 = entries.filter(|entry| {
        let link = entry.path().is_symlink();
        !link && entry.path().join("cgroup.clone_children").exists()
    });
    v1.map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn mounts_below<'a>(seen: &'a Value, place: &str) -> Vec<(&'a str, &'a Value)> {
    let rows = seen["mounts"].as_array().expect("mounts").iter();
    let named = rows.filter_map(|row| Some((row["mount_point"].as_str()?, row)));
    named
        .filter(|(point, _)| point.starts_with(place))
        .collect()
}

fn has(row: &Value, word: &str) -> bool {
    row["options"]
        .as_array()
        .expect("options")
        .contains(&json!(word))
}

/// Checks one container; None where all is as it should be.
fn wrong(stage: &Stage, asked: Asked) -> Option<String> {
    let mut bundle = asked.bundle(stage);
    bundle.args(&["/bin/probe", "mounts"]);
    let owner = if asked.user_namespace { 100_000 } else { 0 };
    let (path, outcome) = run_owned(stage, &bundle, owner);
    if outcome.code != 0 {
        return Some(outcome.stderr);
    }
    let seen = outcome.json();
    let rows = mounts_below(&seen, "/sys/fs/cgroup");
    let whole = stage.view.is_v2();
    let hierarchies = hierarchies(stage);
    let expected = if whole { 1 } else { 1 + hierarchies.len() };
    if rows.len() != expected {
        return Some(format!("{expected} mounts expected: {rows:#?}"));
    }
    for (point, row) in rows {
        let below = point.strip_prefix("/sys/fs/cgroup").unwrap_or_default();
        let fstype = match (whole, below) {
            (true, _) => "cgroup2",
            (false, "") => "tmpfs",
            (false, name) if hierarchies.iter().any(|h| name[1..] == **h) => "cgroup",
            _ => return Some(format!("{point} is no hierarchy")),
        };
        // Without a cgroup namespace a v1 mount shows the container's own cgroup only.
        let own = match fstype {
            "cgroup" if !asked.cgroup_namespace => path.as_str(),
            _ => "/",
        };
        let right = row["fstype"] == fstype
            && row["root"] == own
            && ["nosuid", "nodev", "noexec"]
                .iter()
                .all(|word| has(row, word))
            && has(row, if asked.writable() { "rw" } else { "ro" });
        if !right {
            return Some(format!("{fstype} rooted at {own} expected: {row:#?}"));
        }
    }
    None
}

fn every_combination(view: View) -> Vec<String> {
    let name = "cgroup_mounts::every_combination";
    let stage = Stage::new(name, view).expect("a stage");
    let wrong = |asked| wrong(&stage, asked).map(|found| format!("{asked:?}: {found}"));
    Asked::all().filter_map(wrong).collect()
}

#[test]
fn a_v1_host_gives_a_tmpfs_with_each_hierarchy() {
    drop(stage!(View::V1));
    assert_eq!(every_combination(View::V1), Vec::<String>::new());
}

#[test]
fn a_v2_host_gives_one_cgroup2() {
    drop(stage!(View::V2));
    assert_eq!(every_combination(View::V2), Vec::<String>::new());
}

#[test]
fn a_hybrid_host_gives_its_v1_hierarchies_as_runc_does() {
    if machine::cgroups() != Cgroups::Hybrid {
        skip!("no hybrid cgroups here");
    }
    drop(stage!(View::Host));
    assert_eq!(every_combination(View::Host), Vec::<String>::new());
}

#[test]
fn s24_cgroups_are_read_only_without_a_cgroup_namespace() {
    for view in View::versions() {
        let stage = stage!(view);
        for cgroup_namespace in [false, true] {
            let asked = Asked {
                read_only: false,
                cgroup_namespace,
                user_namespace: true,
            };
            let mut bundle = asked.bundle(&stage);
            // On v1 the tmpfs at the top is nobody's cgroup.
            let top = if stage.view.is_v2() { 0 } else { 1 };
            let script = format!(
                "d=$(find /sys/fs/cgroup -mindepth {top} -user 0 -type d | head -n 1); \
                 mkdir $d/escape 2>&1 && rmdir $d/escape && echo made; true"
            );
            bundle.sh(&script);
            let (path, outcome) = run_owned(&stage, &bundle, 100_000);
            let said = outcome.ok();
            match cgroup_namespace {
                true => assert_eq!(said.line(), "made", "{view:?}"),
                false => {
                    let line = said.line();
                    assert!(
                        line.ends_with("Read-only file system"),
                        "{view:?} {path}: {line}"
                    );
                    let notice = "it is made read-only";
                    assert!(said.stderr.contains(notice), "{view:?}: {}", said.stderr);
                }
            }
        }
    }
}

#[test]
fn s24_the_hosts_sys_in_a_user_namespace_is_read_only_with_the_cgroups_below_it() {
    let stage = stage!();
    let asked = Asked {
        read_only: true,
        cgroup_namespace: false,
        user_namespace: true,
    };
    let mut bundle = asked.bundle(&stage);
    let mounts = bundle.config["mounts"].as_array().unwrap().clone();
    let others = mounts.into_iter().filter(|mount| {
        let place = mount["destination"].as_str().unwrap();
        !place.starts_with("/sys")
    });
    bundle.set("/mounts", Value::Array(others.collect()));
    bundle.mount(
        "/sys",
        "none",
        "/sys",
        &["rbind", "nosuid", "nodev", "noexec", "ro"],
    );
    bundle.args(&["/bin/probe", "mounts"]);
    let (_, outcome) = run_owned(&stage, &bundle, 100_000);
    let seen = outcome.ok().json();
    let rows = mounts_below(&seen, "/sys");
    assert!(rows.len() > 1, "{rows:#?}");
    for (point, row) in rows {
        assert!(has(row, "ro"), "{point}: {row:#?}");
    }
}

#[test]
fn s24_by_a_link_or_from_above_the_hosts_cgroups_are_read_only_in_a_user_namespace_too() {
    let stage = stage!();
    let asked = Asked {
        read_only: true,
        cgroup_namespace: false,
        user_namespace: true,
    };
    let mut bundle = asked.bundle(&stage);
    let link = stage.path("link");
    std::os::unix::fs::symlink("/sys/fs", &link).unwrap();
    bundle
        .bind(&link, "/mnt", &["rbind", "ro"])
        .bind("/".as_ref(), "/home", &["rbind", "ro"])
        .args(&["/bin/probe", "mounts"]);
    let (_, outcome) = run_owned(&stage, &bundle, 100_000);
    let outcome = outcome.ok();
    for pointer in ["/mounts/", "read-only all the way down"] {
        assert!(outcome.stderr.contains(pointer), "{outcome}");
    }
    let seen = outcome.json();
    for place in ["/mnt", "/home/sys"] {
        let rows = mounts_below(&seen, place);
        assert!(rows.len() > 1, "{rows:#?}");
        for (point, row) in rows {
            assert!(has(row, "ro"), "{point}: {row:#?}");
        }
    }
    // Nothing else has changed what it means.
    let mut plain = stage.bundle();
    plain
        .bind("/".as_ref(), "/home", &["rbind", "ro"])
        .args(&["/bin/probe", "mounts"]);
    let seen = stage.run(&plain).ok().json();
    let rows = mounts_below(&seen, "/home/run");
    assert!(rows.iter().any(|(_, row)| !has(row, "ro")), "{rows:#?}");
}
