//! Random mounts with random options, many in each bundle; in some, one that can't be.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{Random, compare_all, seeds};
use crate::differential::{VIEW, peer};
use crate::harness::{Bundle, Outcome, Stage, machine};

/// How many mounts each configuration begins with.
const USUAL: usize = 7;

/// Options of which a mount gets at most one: what contradicts what is another promise's.
const FLAGS: &[&[&str]] = &[
    &["ro", "rw"],
    &["nosuid", "suid"],
    &["nodev", "dev"],
    &["noexec", "exec"],
    &["noatime", "atime", "relatime", "norelatime", "strictatime"],
    &["nodiratime", "diratime"],
];
/// For file systems of their own.
const SUPERBLOCK: &[&[&str]] = &[&["sync", "async"], &["dirsync"], &["mand", "nomand"]];
const RECURSIVE: &[&[&str]] = &[
    &["rro", "rrw"],
    &["rnosuid", "rsuid"],
    &["rnodev", "rdev"],
    &["rnoexec", "rexec"],
];
const RECURSIVE_TIMES: &[&[&str]] = &[
    &["rnoatime", "rrelatime", "rstrictatime"],
    &["rnodiratime", "rdiratime"],
];
const TMPFS: &[&[&str]] = &[
    &["size=64k", "size=1m", "size=10%"],
    &["mode=755", "mode=1777", "mode=0700"],
    &["nr_inodes=50"],
    &["uid=5"],
    &["gid=7"],
    &["huge=never"],
];
const PROPAGATION: &[&[&str]] = &[&[
    "private",
    "rprivate",
    "slave",
    "rslave",
    "shared",
    "rshared",
    "unbindable",
    "runbindable",
]];
const PLACES: &[&str] = &[
    "/mnt/a",
    "/mnt/b/c",
    "/mnt/b/c/deeper",
    "/tmp",
    "/home/user",
    "/opt/deep/er",
    "/etc/text",
    "/mnt//d/",
    "/root/../srv",
    "/link/below",
    "/absolute",
    "relative/place",
];
/// What may be hidden, and what protected, whether it is there or not. No path of one list lies below one of
/// the other: which of the two comes first shows in the layers, and in nothing else.
const HIDDEN: &[&str] = &[
    "/etc/text",
    "/home",
    "/missing/path",
    "/proc/kcore",
    "/sys/firmware",
    "/sys/kernel",
];
const PROTECTED: &[&str] = &[
    "/missing",
    "/bin",
    "/proc/sys",
    "/dev/shm",
    "/root",
    "/sys/block",
];

/// What the probe shows; after these, the modes of the places.
const SECTIONS: &[&str] = &[
    "fds",
    "ids",
    "cwd",
    "security",
    "namespaces",
    "mounts",
    "devices",
];

/// The host's side: folders with another mount below one of them, in the view's mount namespace.
struct Sources {
    folder: PathBuf,
    room: String,
}

impl Sources {
    fn new(stage: &Stage) -> Sources {
        let folder = stage.path("sources");
        for name in ["folder/in", "tree/deep"] {
            std::fs::create_dir_all(folder.join(name)).expect("a folder");
        }
        std::fs::write(folder.join("file"), "text\n").expect("a file");
        let sources = Sources {
            folder,
            room: format!("--mount=/proc/{}/ns/mnt", peer::room(VIEW)),
        };
        sources.call(&["mount", "-t", "tmpfs", "-o", "nodev,size=64k", "below"]);
        sources
    }

    fn call(&self, command: &[&str]) {
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(&self.room).args(command);
        Outcome::of(nsenter.arg(self.folder.join("tree/deep"))).ok();
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        self.call(&["umount"]);
    }
}

fn tmpfs(random: &mut Random, place: &str) -> Value {
    let mut options = random.some(FLAGS);
    options.extend(random.some(SUPERBLOCK));
    options.extend(random.some(TMPFS));
    options.extend(random.some(PROPAGATION));
    let source = random.of(&["tmpfs", "none", "a name", ""]);
    json!({"destination": place, "type": "tmpfs", "source": source, "options": options})
}

fn bind(random: &mut Random, place: &str, sources: &Path) -> Value {
    let mut options = random.some(FLAGS);
    let how = random.of(&["bind", "rbind"]);
    options.push(how.to_owned());
    if random.once_in(2) {
        options.extend(random.some(RECURSIVE));
    }
    if random.once_in(6) {
        options.extend(random.some(RECURSIVE_TIMES));
    }
    options.extend(random.some(PROPAGATION));
    let source = match place {
        "/etc/text" => sources.join("file"),
        _ => sources.join(random.of(&["folder", "folder/in", "tree", "tree"])),
    };
    match random.of(&["bind", "none", ""]) {
        "" => json!({"destination": place, "source": source, "options": options}),
        kind => json!({"destination": place, "type": kind, "source": source, "options": options}),
    }
}

/// A file system that shows something of the kernel's, in an unusual place.
fn special(random: &mut Random, place: &str) -> Value {
    let (kind, groups): (&str, &[&[&str]]) = random.of(&[
        ("mqueue", &[] as &[&[&str]]),
        (
            "devpts",
            &[
                &["newinstance"],
                &["mode=620", "mode=600"],
                &["ptmxmode=666"],
            ],
        ),
    ]);
    let mut options = random.some(FLAGS);
    options.extend(random.some(groups));
    json!({"destination": place, "type": kind, "source": kind, "options": options})
}

fn mount(random: &mut Random, place: &str, sources: &Path) -> Value {
    match random.below(12) {
        _ if place == "/etc/text" => bind(random, place, sources),
        0..5 => tmpfs(random, place),
        5 => special(random, place),
        _ => bind(random, place, sources),
    }
}

/// Mounts that not every runtime makes: what isn't there, what doesn't fit, what must not be covered.
fn doubtful(sources: &Path) -> Vec<Value> {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| {
        let source = match source.strip_prefix("sources/") {
            Some(name) => sources.join(name),
            None => source.into(),
        };
        json!({"destination": destination, "type": kind, "source": source, "options": options})
    };
    vec![
        mount("/mnt/w", "bind", "sources/missing", &["bind"]),
        mount("/mnt/w", "bind", "sources/file/below", &["bind"]),
        mount("/mnt/w", "tmpfs", "t", &["size=many"]),
        mount("/mnt/w", "tmpfs", "t", &["mode=9"]),
        mount("/mnt/w", "tmpfs", "t", &["nonsense"]),
        mount("/mnt/w", "tmpfs", "t", &["uid=70000"]),
        mount("/mnt/w", "nofs", "t", &[]),
        mount("/mnt", "bind", "sources/file", &["bind"]),
        mount("/etc/text", "bind", "sources/folder", &["bind"]),
        mount("/etc/text/below", "tmpfs", "t", &[]),
        mount("/etc/text", "tmpfs", "t", &[]),
        mount(
            "/proc/sys/kernel/hostname",
            "bind",
            "sources/file",
            &["bind"],
        ),
        mount("/proc/self/attr", "tmpfs", "t", &[]),
        mount("/proc/uptime", "bind", "sources/file", &["bind", "ro"]),
        mount("/proc/meminfo", "bind", "sources/file", &["bind"]),
        mount("/intoproc", "bind", "sources/file", &["bind"]),
        mount("/proc", "tmpfs", "t", &[]),
        mount("/mnt/w", "bind", "sources/folder", &["bind", "size=1m"]),
        mount("/loop", "tmpfs", "t", &[]),
        mount("/mnt/w", "proc", "proc", &["hidepid=9"]),
        mount("/mnt/w", "proc", "proc", &["nosuid"]),
        mount("/mnt/w", "sysfs", "sysfs", &["ro"]),
        mount("/procdir", "proc", "proc", &[]),
        mount("/mnt/w", "", "t", &[]),
        mount("/mnt/w", "none", "", &["bind"]),
        mount("/tmp", "bind", "sources/tree", &["remount", "bind", "ro"]),
        mount("/mnt/./../mnt/w", "tmpfs", "t", &["ro"]),
        mount("/../../mnt/w", "bind", "sources/file", &["bind"]),
    ]
}

fn fill(random: &mut Random, bundle: &mut Bundle, sources: &Path) {
    for &place in PLACES {
        if !random.once_in(3) {
            continue;
        }
        let made = mount(random, place, sources);
        bundle.push("/mounts", made);
        let read_only = bundle.config["mounts"]
            .as_array()
            .and_then(|all| all.last().cloned());
        let read_only =
            read_only.is_some_and(|last| last["options"].to_string().contains("\"ro\""));
        // One over a read-only tmpfs has a comparison of its own.
        if random.once_in(8) && !read_only {
            let above = mount(random, place, sources);
            bundle.push("/mounts", above);
        }
    }
    if random.once_in(3) {
        // The recursive ones overrule what the mounts have asked for.
        let propagation = random.of(&["private", "slave", "shared"]);
        bundle.set("/linux/rootfsPropagation", json!(propagation));
    }
    for (list, paths) in [("maskedPaths", HIDDEN), ("readonlyPaths", PROTECTED)] {
        if random.once_in(2) {
            let paths: Vec<_> = paths.iter().filter(|_| random.once_in(3)).collect();
            bundle.set(&format!("/linux/{list}"), json!(paths));
        }
    }
    bundle.set("/root/readonly", json!(random.once_in(3)));
    if random.once_in(4) {
        bundle.user_namespace(100_000, 65_536);
    }
}

fn round(half: usize) {
    let stage = stage_with_peers!(VIEW);
    let sources = Sources::new(&stage);
    let make = |seed: usize, bundle: &mut Bundle| {
        fill(&mut Random::new(seed as u64), bundle, &sources.folder);
        bundle.args(&[&["/bin/probe"], SECTIONS, &["stat"], PLACES].concat());
    };
    compare_all(&stage, "mounts", &seeds(half), make, added);
}

#[test]
fn generated_mounts_of_even_seeds() {
    round(0);
}

#[test]
fn generated_mounts_of_odd_seeds() {
    round(1);
}

/// Each alone, so that what is refused is refused because of it; the second time in a user namespace.
#[test]
fn doubtful_mounts() {
    let stage = stage_with_peers!(VIEW);
    let sources = Sources::new(&stage);
    let list = doubtful(&sources.folder);
    let step = machine::count("CAPSID_DOUBTFUL_STEP", 7, 1);
    let seeds: Vec<usize> = (0..list.len() * 2).step_by(step).collect();
    let make = |seed: usize, bundle: &mut Bundle| {
        bundle.push("/mounts", list[seed % list.len()].clone());
        if seed >= list.len() {
            bundle.user_namespace(100_000, 65_536);
        }
        bundle.set("/root/readonly", json!(false));
        bundle.args(&[&["/bin/probe"], SECTIONS, &["stat", "/mnt", "/etc/text"]].concat());
    };
    compare_all(&stage, "doubtful", &seeds, make, added);
}

/// What a configuration has more than all others.
fn added(config: &Value) -> Value {
    let mounts = config["mounts"].as_array().expect("mounts");
    let linux = &config["linux"];
    json!([
        mounts[USUAL..],
        config["root"]["readonly"],
        linux["rootfsPropagation"],
        linux["maskedPaths"],
        linux["readonlyPaths"],
        linux["uidMappings"],
    ])
}
