//! Promise: a JVM in a container, which sizes its heap and its pools by its cgroup, sees the limits of memory
//! and processor time, on cgroup v1 and on v2.

use std::path::{Path, PathBuf};
use std::process::Command;

use capsid_rootfs_builder::{Recipe, Source};
use serde_json::json;

use crate::harness::{Bundle, Outcome, Stage, machine};
use crate::{skip, stage};

/// The folder of the machine's JVM.
fn home() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut found = std::env::split_paths(&path).map(|folder| folder.join("java"));
    let program = found.find_map(|java| java.canonicalize().ok())?;
    Some(program.parent()?.parent()?.to_owned())
}

/// `java` and its libraries by rootfs-builder; its modules are too large to copy, and mounted.
fn bundle(stage: &Stage, home: &Path) -> Bundle {
    let folder = stage.path("jvm");
    let rootfs = folder.join("rootfs");
    let java = home.join("bin/java");
    Recipe::new(Source::Host(vec![java.to_string_lossy().into_owned()]))
        .rootfs(&rootfs)
        .expect("a root filesystem");
    // What is loaded only once it runs, no header of the program names.
    let virtual_machine = home.join("lib/server/libjvm.so");
    let needed = Outcome::of(Command::new("ldd").arg(virtual_machine))
        .ok()
        .stdout;
    for library in needed
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        let place = rootfs.join(library.trim_start_matches('/'));
        if !place.exists() {
            std::fs::create_dir_all(place.parent().expect("a folder")).expect("a folder");
            std::fs::copy(library, &place).expect(library);
        }
    }
    let mut bundle = Bundle::new(&folder, &rootfs);
    bundle.bind(home, &home.to_string_lossy(), &["ro"]);
    // Debian's configuration of it lies there.
    for entry in std::fs::read_dir("/etc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("java-") && name.ends_with("-openjdk") {
            bundle.bind(&entry.path(), &format!("/etc/{name}"), &["ro"]);
        }
    }
    bundle.args(&[
        &java.to_string_lossy(),
        "-XX:TieredStopAtLevel=1",
        "-XshowSettings:system",
        "-version",
    ]);
    bundle.namespace("cgroup", None);
    bundle
}

#[test]
fn a_jvm_sees_the_limits_of_memory_and_processor_time() {
    let stage = stage!();
    let Some(home) = home() else {
        skip!("no java here");
    };
    if !machine::has_controller("memory") || !machine::has_controller("cpu") {
        skip!("no memory and cpu controllers here");
    }
    let mut bundle = bundle(&stage, &home);
    bundle
        .set("/linux/resources/memory", json!({"limit": 268_435_456}))
        .set(
            "/linux/resources/cpu",
            json!({"quota": 50_000, "period": 100_000}),
        );
    let outcome = stage.run(&bundle).ok();
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    for (name, value) in [
        ("Memory Limit", "256.00M"),
        ("CPU Quota", "50000us"),
        ("Effective CPU Count", "1"),
    ] {
        let line = format!("{name}: {value}");
        assert!(said.lines().any(|it| it.trim() == line), "{line}: {said}");
    }
}
