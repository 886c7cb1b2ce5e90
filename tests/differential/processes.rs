//! Generated `process` sections, and the settings of `linux` that a process sees of itself: who it is, what
//! it may do, within which limits, from where and with what it is started.

use std::ops::Range;

use serde_json::{Value, json};

use super::generated::Random;
use super::peer::Way;
use super::{VIEW, bundle, try_compare};
use crate::harness::{Bundle, Stage, machine};

/// What the probe shows.
const SECTIONS: &[&str] = &[
    "process",
    "uname",
    "ids",
    "cwd",
    "args",
    "env",
    "umask",
    "rlimits",
    "scheduling",
    "oom_score_adj",
    "status",
    "capabilities",
    "security",
    "namespaces",
];

const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_CHROOT",
    "CAP_MKNOD",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
];

/// Limits that leave the probe room; none above the usual ones, which needs a capability.
const LIMITS: &[(&str, &[u64])] = &[
    ("RLIMIT_NOFILE", &[64, 256, 1024]),
    ("RLIMIT_CORE", &[0, 4096]),
    ("RLIMIT_NPROC", &[200, 1000]),
    ("RLIMIT_STACK", &[1 << 20, 4 << 20]),
    ("RLIMIT_FSIZE", &[1 << 20, 1 << 30]),
    ("RLIMIT_CPU", &[600, 6000]),
    ("RLIMIT_AS", &[1 << 30, 1 << 33]),
    ("RLIMIT_DATA", &[1 << 28, 1 << 30]),
    ("RLIMIT_LOCKS", &[10, 100]),
    ("RLIMIT_RSS", &[1 << 20, 1 << 30]),
    ("RLIMIT_RTTIME", &[100_000, 1_000_000]),
];

const SYSCTLS: &[(&str, &[&str])] = &[
    ("net.ipv4.ip_forward", &["0", "1"]),
    ("net/ipv4/ip_default_ttl", &["60", "99"]),
    ("net.ipv4.ping_group_range", &["0 0", "5 2000"]),
    ("net.core.somaxconn", &["128", "4000"]),
    ("kernel.shmmax", &["1048576"]),
    ("kernel.msgmax", &["9000"]),
    ("kernel.sem", &["32000 1024000000 500 32000"]),
    ("kernel.shm_rmid_forced", &["0", "1"]),
    ("fs.mqueue.msg_max", &["11"]),
];

/// Some of a list, each with the odds of one in `odds`.
fn some<'a>(random: &mut Random, list: &[&'a str], odds: usize) -> Vec<&'a str> {
    let all = list.iter().copied();
    all.filter(|_| random.below(odds) == 0).collect()
}

/// Sets that fit together: what doesn't is another promise's.
fn capabilities(random: &mut Random) -> Value {
    let bounding = some(random, CAPABILITIES, 2);
    let permitted = some(random, &bounding, 2);
    let effective = some(random, &permitted, 2);
    let inheritable = some(random, &bounding, 2);
    let both: Vec<&str> = permitted
        .iter()
        .copied()
        .filter(|name| inheritable.contains(name))
        .collect();
    let ambient = some(random, &both, 2);
    json!({
        "bounding": bounding, "permitted": permitted, "effective": effective,
        "inheritable": inheritable, "ambient": ambient,
    })
}

fn fill(random: &mut Random, bundle: &mut Bundle) {
    let id = |random: &mut Random| random.of(&[0_u32, 0, 1, 1000, 4321, 65_534]);
    let additional: Vec<u32> = (0..random.below(4)).map(|_| id(random)).collect();
    let user = json!({"uid": id(random), "gid": id(random), "additionalGids": additional});
    bundle.set("/process/user", user);
    if random.below(2) == 0 {
        let umask = random.of(&[0_u32, 0o22, 0o27, 0o77, 0o777]);
        bundle.set("/process/user/umask", json!(umask));
    }
    match random.below(4) {
        0 => drop(bundle.remove("/process/capabilities")),
        1 => {}
        _ => drop(bundle.set("/process/capabilities", capabilities(random))),
    }
    bundle.set("/process/noNewPrivileges", json!(random.below(2) == 0));
    let mut limits = Vec::new();
    for (name, amounts) in LIMITS {
        if random.below(3) == 0 {
            let hard = random.of(amounts);
            let soft = random.of(&[hard, hard / 2 + hard % 2]);
            limits.push(json!({"type": name, "soft": soft, "hard": hard}));
        }
    }
    bundle.set("/process/rlimits", json!(limits));
    if random.below(2) == 0 {
        let score = random.of(&[300, 700, 1000]);
        bundle.set("/process/oomScoreAdj", json!(score));
    }
    let names = ["A", "LANG", "EMPTY", "LONG", "SPACE", "Ü"];
    let values = ["b", "C.UTF-8", "", "x=y=z", " a b ", "ü\n"];
    let mut env: Vec<String> = some(random, &names, 2)
        .into_iter()
        .map(|name| format!("{name}={}", random.of(&values)))
        .collect();
    match random.below(3) {
        0 => {}
        1 => env.push("HOME=/elsewhere".to_owned()),
        _ => env.insert(0, "PATH=/nowhere:/bin".to_owned()),
    }
    bundle.set("/process/env", json!(env));
    let cwd = random.of(&["/", "/etc", "/tmp", "/home/user", "/etc/../tmp/."]);
    bundle.set("/process/cwd", json!(cwd));
    let mut sysctls = json!({});
    for (name, values) in SYSCTLS {
        if random.below(4) == 0 {
            sysctls[*name] = json!(random.of(values));
        }
    }
    bundle.set("/linux/sysctl", sysctls);
    if random.below(3) == 0 {
        bundle.set("/hostname", json!(random.of(&["a", "another.name", "x-1"])));
    }
    // What says nothing is as good as absent.
    for (pointer, nothing) in [
        ("/process/consoleSize", json!({"height": 0, "width": 0})),
        ("/process/user/username", json!("nobody")),
    ] {
        if random.below(6) == 0 {
            bundle.set(pointer, nothing);
        }
    }
    if random.below(4) == 0 {
        bundle.user_namespace(100_000, 65_536);
    }
    let names: Vec<&str> = SYSCTLS.iter().map(|(name, _)| *name).collect();
    bundle.args(&[&["/bin/probe"], SECTIONS, &["sysctl"], &names].concat());
}

/// CAPSID_SEED=N looks at that one configuration again; `word` is how the table of differences calls them.
fn compare_all(
    stage: &Stage,
    way: Way,
    word: &str,
    seeds: Range<usize>,
    change: impl Fn(&mut Bundle),
) {
    let seed = std::env::var("CAPSID_SEED").ok();
    let seeds = match seed.and_then(|n| n.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => seeds,
    };
    let mut failed = Vec::new();
    for seed in seeds {
        let mut bundle = bundle(stage);
        fill(&mut Random::new(seed as u64), &mut bundle);
        change(&mut bundle);
        let name = format!("{word}-{seed}");
        if let Err(found) = try_compare(stage, &name, &bundle, way) {
            failed.push(format!("{found}\nprocess: {}", bundle.config["process"]));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn generated_processes() {
    let stage = stage_with_peers!(VIEW);
    let count = machine::count("CAPSID_GENERATED", 30, 400);
    compare_all(&stage, Way::Run, "generated-process", 0..count, |_| ());
}

#[test]
fn generated_processes_with_a_terminal() {
    let stage = stage_with_peers!(VIEW);
    let count = machine::count("CAPSID_GENERATED", 8, 100);
    let seeds = 1000..1000 + count;
    compare_all(
        &stage,
        Way::Terminal,
        "a_terminal-generated-process",
        seeds,
        |bundle| {
            let size = json!({"height": 33, "width": 111});
            bundle
                .set("/process/terminal", json!(true))
                .set("/process/consoleSize", size);
        },
    );
}

#[test]
fn generated_processes_in_exec() {
    let stage = stage_with_peers!(VIEW);
    let count = machine::count("CAPSID_GENERATED", 8, 100);
    let seeds = 2000..2000 + count;
    compare_all(
        &stage,
        Way::Exec,
        "generated-process_in_exec",
        seeds,
        |bundle| {
            super::idle(bundle);
        },
    );
}
