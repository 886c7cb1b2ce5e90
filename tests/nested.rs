//! Promise: capsid runs in a container of its own making, privileged or not, and says what stands in its way
//! where the outer container hides too much.

use std::path::Path;

use capsid_rootfs_builder::{Recipe, Settings, Source};
use serde_json::json;

use crate::harness::{Bundle, Outcome, Stage, machine};
use crate::stage;

/// What the demo runs: what a container sees of itself.
const DEMO: &str = "hostname; echo $$; id -u; grep -c . /proc/self/mountinfo >/dev/null && echo mounts; \
                    ls /sys/class/net; echo x > /dev/null && echo null; ls -d /proc/[0-9]* | wc -l";
const SHOWN: &str = "capsid\n1\n0\nmounts\nlo\nnull\n";

/// A container that has capsid, what its binary needs, and the demo's bundle at /bundle.
fn outer(stage: &Stage, rootless: Option<(u32, u32)>) -> Bundle {
    let folder = stage.path("inner");
    let mut recipe = Recipe::new(Source::Busybox);
    recipe.settings = Settings {
        args: Some(vec!["sh".into(), "-c".into(), DEMO.into()]),
        rootless,
        ..Settings::default()
    };
    recipe.bundle(&folder).expect("the demo's bundle");
    let mut bundle = stage.own_bundle();
    let binaries = machine::capsid().parent().expect("a folder");
    bundle
        .set("/root/readonly", json!(false))
        .bind(binaries, "/capsid", &["ro"])
        .bind(&folder, "/bundle", &["rw"]);
    // A binary of `cargo build` needs the C library.
    for libraries in ["/lib", "/lib64", "/usr/lib"] {
        if Path::new(libraries).is_dir()
            && !bundle.folder.join("rootfs").join(&libraries[1..]).exists()
        {
            bundle.bind(Path::new(libraries), libraries, &["ro"]);
        }
    }
    bundle
}

/// The demo, run by the capsid inside.
fn demo(stage: &Stage, bundle: &mut Bundle) -> Outcome {
    bundle.sh("/capsid/capsid --root /tmp/state run --bundle /bundle inner; status=$?; ls /tmp/state; exit $status");
    stage.run(bundle)
}

/// All that a container can be allowed.
fn privileged(bundle: &mut Bundle) {
    bundle
        .capabilities(&every_capability())
        .set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]))
        .set(
            "/linux/resources/devices",
            json!([{"allow": true, "access": "rwm"}]),
        );
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        let of_sys = mount["destination"].as_str().unwrap().starts_with("/sys");
        if let Some(options) = mount["options"].as_array_mut().filter(|_| of_sys) {
            options.retain(|option| option != "ro");
        }
    }
}

/// Every capability that we have ourselves, by its name.
fn every_capability() -> Vec<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").expect("our status");
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = u64::from_str_radix(set.expect("a set").trim(), 16).expect("a number");
    let names = CAPABILITIES.iter().enumerate();
    names
        .filter(|(bit, _)| set & (1 << bit) != 0)
        .map(|(_, name)| *name)
        .collect()
}

/// In the order of their numbers (linux/capability.h).
#[rustfmt::skip]
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
    "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
    "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
    "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
];

#[test]
fn a_privileged_container_runs_the_demo() {
    let stage = stage!();
    let mut bundle = outer(&stage, None);
    privileged(&mut bundle);
    bundle.namespace("cgroup", None);
    let outcome = demo(&stage, &mut bundle).ok();
    println!("{outcome}");
    assert!(outcome.stdout.starts_with(SHOWN), "{outcome}");
}

/// What Docker leaves a container.
const USUAL: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// A container without power over the machine, in which nothing is hidden.
fn ordinary(bundle: &mut Bundle) {
    bundle
        .capabilities(&USUAL)
        .set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]));
}

#[test]
fn an_ordinary_container_runs_the_demo_as_root_and_as_a_user() {
    let stage = stage!();
    let mut bundle = outer(&stage, None);
    ordinary(&mut bundle);
    let outcome = demo(&stage, &mut bundle).ok();
    assert!(outcome.stdout.starts_with(SHOWN), "{outcome}");
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let outcome = demo(&stage, &mut bundle).ok();
    assert!(outcome.stdout.starts_with(SHOWN), "{outcome}");
}

#[test]
fn a_container_that_hides_parts_of_sys_hands_on_what_it_shows() {
    let stage = stage!();
    let mut bundle = outer(&stage, None);
    ordinary(&mut bundle);
    bundle
        .set(
            "/linux/maskedPaths",
            json!(["/sys/firmware", "/sys/kernel"]),
        )
        .sh("/capsid/capsid --root /tmp/state run --bundle /bundle inner");
    let file = stage.path("inner/config.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    let script = "ls -d /sys/class/net; ls /sys/kernel | wc -l; mkdir /sys/kernel/x 2>/dev/null && echo made; \
                  grep ' / /sys ' /proc/self/mountinfo | cut -d ' ' -f 6 | cut -c 1-2";
    config["process"]["args"][2] = json!(script);
    std::fs::write(&file, config.to_string()).unwrap();
    let outcome = stage.run(&bundle).ok();
    assert_eq!(outcome.line(), "/sys/class/net\n0\nro", "{outcome}");
}

#[test]
fn a_container_that_hides_parts_of_proc_is_named_as_the_reason() {
    let stage = stage!();
    let mut bundle = outer(&stage, None);
    bundle.capabilities(&USUAL);
    demo(&stage, &mut bundle).refuses(&["mount proc on /proc", "mount_too_revealing"]);
    // Root that may not hand on its own id says what it lacks.
    bundle.capabilities(&["CAP_SETUID", "CAP_SETGID"]);
    demo(&stage, &mut bundle).refuses(&["/linux/uidMappings", "CAP_SETFCAP"]);
}
