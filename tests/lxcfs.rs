//! Promise: with an lxcfs on the host, a container's /proc shows the container's limits.

use std::path::Path;
use std::sync::Mutex;

use serde_json::json;

use crate::harness::{Bundle, Outcome, Stage, machine};
use crate::{skip, stage};

/// A bundle with the host's free(1), and half a gigabyte at most.
fn bundle(stage: &Stage) -> Bundle {
    let mut bundle = stage.own_bundle();
    let rootfs = bundle.folder.join("rootfs");
    std::fs::remove_dir_all(rootfs.join("usr")).unwrap();
    std::fs::create_dir(rootfs.join("usr")).unwrap();
    for name in ["lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), rootfs.join(name)).unwrap();
    }
    bundle
        .bind(Path::new("/usr"), "/usr", &["rbind", "ro"])
        .set("/linux/resources/memory/limit", json!(512 << 20))
        .set("/linux/resources/cpu/cpus", json!("0"))
        .set("/linux/resources/cpu/mems", json!("0"));
    bundle.sh(
        "/usr/bin/free --bytes | awk '/^Mem:/ {print $2}'; grep -c ^processor /proc/cpuinfo; \
         cat /sys/devices/system/cpu/online; grep -c fuse.lxcfs /proc/mounts; touch /proc/uptime 2>/dev/null || echo refused",
    );
    bundle
}

/// Every lxcfs keeps something in /run/lxcfs.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs the script with lxcfs mounted on `$lxcfs`, in a mount namespace of its own; lxcfs ends with it.
/// `$capsid` is the runtime with its state root, `$1` and further are the arguments.
fn with_lxcfs(stage: &Stage, script: &str, args: &[&str]) -> Outcome {
    let _turn = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(|broken| broken.into_inner());
    let folder = stage.path("lxcfs");
    std::fs::create_dir_all(&folder).unwrap();
    let script = format!(
        "lxcfs --foreground --pidfile=$log.pid $lxcfs >$log 2>&1 & daemon=$!
         tries=0
         until mountpoint -q $lxcfs && [ -e $lxcfs/proc/meminfo ]; do
           tries=$((tries + 1)); [ $tries -lt 500 ] && kill -0 $daemon || {{ cat $log >&2; exit 99; }}; sleep 0.02
         done
         {script}
         status=$?; kill $daemon; wait $daemon; rm -rf /run/lxcfs; exit $status"
    );
    Outcome::of(
        stage
            .in_own_mounts(&script)
            .args(args)
            .env("lxcfs", &folder)
            .env("log", stage.path("lxcfs.log")),
    )
}

/// Why lxcfs can't serve here, if so.
fn obstacle() -> Option<&'static str> {
    match () {
        () if !machine::has_program("lxcfs") => Some("lxcfs is not installed"),
        () if !Path::new("/dev/fuse").exists() => Some("no /dev/fuse here"),
        () if machine::cgroups() == machine::Cgroups::V2 => Some("cpuset is not everywhere on v2"),
        () => None,
    }
}

#[test]
fn a_container_sees_its_limits_where_an_lxcfs_serves_them() {
    let stage = stage!();
    if let Some(reason) = obstacle() {
        skip!("{reason}");
    }
    let (plain, mut user, mut engine) = (bundle(&stage), bundle(&stage), bundle(&stage));
    user.user_namespace(100_000, 65_536);
    let place = stage.path("lxcfs").to_string_lossy().into_owned();
    engine.set("/annotations", json!({"capsid.lxcfs": place}));
    let mut args = Vec::new();
    for bundle in [&plain, &user, &engine] {
        let id = stage.id();
        bundle.write(&id);
        args.extend([bundle.folder.to_string_lossy().into_owned(), id]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let script = "\
        $capsid run --bundle $1 $2-without && $capsid run --lxcfs=$lxcfs --bundle $1 $2 && \
        $capsid run --lxcfs=$lxcfs --bundle $3 $4 && $capsid run --bundle $5 $6";
    stage.adopt(&format!("{}-without", args[1]));
    let outcome = with_lxcfs(&stage, script, &args).ok();
    let seen: Vec<&str> = outcome.stdout.lines().collect();
    let limited = ["536870912", "1", "0", "9", "refused"];
    assert_eq!(seen[4..], [limited, limited, limited].concat(), "{outcome}");
    // Without it, the machine shows.
    assert_ne!(seen[0], limited[0], "{outcome}");
    assert_eq!(seen[3], "0", "{outcome}");
    assert!(!outcome.stderr.contains("level=warning"), "{outcome}");
}

#[test]
fn lxcfs_files_of_the_configuration_itself_are_mounted_and_count_more() {
    let stage = stage!();
    if let Some(reason) = obstacle() {
        skip!("{reason}");
    }
    let mut bundle = bundle(&stage);
    let own = stage.path("uptime");
    std::fs::write(&own, "1.00 1.00\n").unwrap();
    let meminfo = stage.path("lxcfs/proc/meminfo");
    bundle
        .bind(&meminfo, "/proc/meminfo", &["ro"])
        .bind(&own, "/proc/uptime", &["ro"])
        .sh("/usr/bin/free --bytes | awk '/^Mem:/ {print $2}'; cat /proc/uptime");
    let (id, other) = (stage.id(), stage.id());
    bundle.write(&id);
    let folder = bundle.folder.to_string_lossy();
    let script = "$capsid run --bundle $1 $2 && $capsid run --lxcfs=$lxcfs --bundle $1 $3";
    let outcome = with_lxcfs(&stage, script, &[&folder, &id, &other]).ok();
    let twice = "536870912\n1.00 1.00\n".repeat(2);
    assert_eq!(outcome.stdout, twice, "{outcome}");
}

#[test]
fn without_an_lxcfs_the_wish_for_one_is_refused() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    let folder = stage.folder.to_string_lossy();
    let asked = format!("--lxcfs={folder}");
    let refused = stage.try_create_with(&bundle, &[&asked]).1;
    refused.refuses(&[
        "look for lxcfs in",
        "start lxcfs",
        "no lxcfs is mounted there",
    ]);
    stage
        .try_create_with(&bundle, &["--lxcfs=/no/such/place"])
        .1
        .refuses(&["/no/such/place", "no such file or directory"]);
    bundle.set("/annotations", json!({"capsid.lxcfs": "maybe"}));
    stage.try_create(&bundle).refuses(&[
        "/annotations/capsid.lxcfs",
        "true, false or an absolute path",
    ]);
    // A directory is only a directory after an equals sign: what follows is the id.
    bundle.set("/annotations", json!({"capsid.lxcfs": "false"}));
    stage.try_create(&bundle).ok();
}
