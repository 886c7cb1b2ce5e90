//! Configurations that nobody would think of: random mounts with random options, many in each bundle.

use std::path::Path;

use serde_json::{Value, json};

use super::{VIEW, bundle, try_compare};
use crate::harness::Bundle;
use crate::harness::machine;

/// Numbers from a seed (splitmix64): a configuration that failed can be made again.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    pub(super) fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// One word of some of the groups.
    fn some(&mut self, groups: &[&[&str]]) -> Vec<String> {
        let chosen = groups.iter().filter_map(|group| match self.below(3) {
            0 => Some(self.of(group).to_owned()),
            _ => None,
        });
        chosen.collect()
    }
}

/// Options of which a mount gets at most one: what contradicts what is another promise's.
const FLAGS: &[&[&str]] = &[
    &["ro", "rw"],
    &["nosuid", "suid"],
    &["nodev", "dev"],
    &["noexec", "exec"],
    &["noatime", "atime", "relatime", "norelatime", "strictatime"],
    &["nodiratime", "diratime"],
    &["sync", "async"],
    &["dirsync"],
    &["mand", "nomand"],
];
const TMPFS: &[&[&str]] = &[
    &["size=64k", "size=1m"],
    &["mode=755", "mode=1777", "mode=0700"],
    &["nr_inodes=50"],
    &["uid=5"],
    &["gid=7"],
];
const PROPAGATION: &[&[&str]] = &[&[
    "private",
    "rprivate",
    "slave",
    "rslave",
    "shared",
    "rshared",
    "unbindable",
]];
const PLACES: &[&str] = &[
    "/mnt/a",
    "/mnt/b/c",
    "/tmp",
    "/home/user",
    "/opt/deep/er",
    "/etc/text",
    "/mnt//d/",
    "/root/../srv",
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

/// One mount on `place`; what can't be mounted there is tried all the same.
fn mount(random: &mut Random, place: &str, sources: &Path) -> Value {
    let mut options = random.some(FLAGS);
    let kind = random.below(10);
    let file = place == "/etc/text";
    if kind < 4 && !file {
        options.extend(random.some(TMPFS));
        options.extend(random.some(PROPAGATION));
        json!({"destination": place, "type": "tmpfs", "source": "tmpfs", "options": options})
    } else {
        options.push(random.of(&["bind", "rbind"]).to_owned());
        options.extend(random.some(PROPAGATION));
        let source = match file {
            true => sources.join("file"),
            false => sources.join(random.of(&["folder", "folder/in", "tree"])),
        };
        let kind = random.of(&["bind", "none", ""]);
        match kind {
            "" => json!({"destination": place, "source": source, "options": options}),
            kind => {
                json!({"destination": place, "type": kind, "source": source, "options": options})
            }
        }
    }
}

fn fill(random: &mut Random, bundle: &mut Bundle, sources: &Path) {
    for &place in PLACES {
        if random.below(3) != 0 {
            continue;
        }
        let mount = mount(random, place, sources);
        bundle.push("/mounts", mount);
    }
    if random.below(3) == 0 {
        // The recursive ones overrule what the mounts have asked for.
        let propagation = random.of(&["private", "slave", "shared"]);
        bundle.set("/linux/rootfsPropagation", json!(propagation));
    }
    bundle.set("/root/readonly", json!(random.below(3) == 0));
    if random.below(4) == 0 {
        bundle.user_namespace(100_000, 65_536);
    }
}

/// CAPSID_SEED=N looks at that one configuration again.
fn round(half: usize) {
    let stage = stage_with_peers!(VIEW);
    let sources = stage.path("sources");
    for folder in ["folder/in", "tree/deep"] {
        std::fs::create_dir_all(sources.join(folder)).expect("a folder");
    }
    std::fs::write(sources.join("file"), "text\n").expect("a file");
    let seeds: Vec<usize> = match std::env::var("CAPSID_SEED")
        .ok()
        .and_then(|n| n.parse().ok())
    {
        Some(seed) => vec![seed],
        None => (0..machine::count("CAPSID_GENERATED", 40, 400))
            .filter(|n| n % 2 == half)
            .collect(),
    };
    let mut failed = Vec::new();
    for seed in seeds {
        let mut bundle = bundle(&stage);
        fill(&mut Random::new(seed as u64), &mut bundle, &sources);
        bundle.args(&[&["/bin/probe"], SECTIONS, &["stat"], PLACES].concat());
        let name = format!("generated-{seed}");
        if let Err(found) = try_compare(&stage, &name, &bundle) {
            failed.push(format!("{found}\nmounts: {}", bundle.config["mounts"]));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn generated_mounts_of_even_seeds() {
    round(0);
}

#[test]
fn generated_mounts_of_odd_seeds() {
    round(1);
}
