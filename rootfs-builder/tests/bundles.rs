//! The bundles of `--busybox` and `--host` run: under chroot, and under an
//! installed runtime as root and as an ordinary user.

mod scene;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use capsid_rootfs_builder::{Addition, Layout, Recipe, Source, probe};
use scene::{has, is_root, recipe, runc_run, scratch, skip, stdout, told};
use serde_json::Value;

fn builder() -> Command {
    Command::new(env!("CARGO_BIN_EXE_rootfs-builder"))
}

fn config_of(bundle: &Path) -> Result<Value> {
    Ok(serde_json::from_str(&fs::read_to_string(
        bundle.join("config.json"),
    )?)?)
}

/// Where a bundle's own settings differ, and the ambient set, which runc 1.1
/// writes although nothing in it is inheritable, so that it never acts.
const OURS: &[&str] = &[
    "/ociVersion",
    "/hostname",
    "/process/terminal",
    "/process/capabilities/ambient",
];

/// Without the values of `OURS`, and with the namespaces in one order.
fn comparable(mut config: Value) -> Value {
    for pointer in OURS {
        let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
        let parent = config.pointer_mut(parent).and_then(Value::as_object_mut);
        parent.and_then(|parent| parent.remove(key));
    }
    if let Some(rows) = config["linux"]["namespaces"].as_array_mut() {
        rows.sort_by_key(ToString::to_string);
    }
    config
}

#[test]
fn the_configuration_is_the_one_of_runc_spec() -> Result<()> {
    if !has("runc") {
        skip(
            "the_configuration_is_the_one_of_runc_spec",
            "runc is not installed",
        );
        return Ok(());
    }
    for variant in [&[][..], &["--rootless"]] {
        let directory = scratch();
        let (ours, theirs) = (
            directory.path().join("ours"),
            directory.path().join("theirs"),
        );
        stdout(
            builder()
                .arg("bundle")
                .arg(&ours)
                .arg("--busybox")
                .args(variant),
        );
        fs::create_dir(&theirs)?;
        stdout(
            Command::new("runc")
                .arg("spec")
                .args(variant)
                .current_dir(&theirs),
        );
        assert_eq!(
            comparable(config_of(&ours)?),
            comparable(config_of(&theirs)?)
        );
    }
    Ok(())
}

#[test]
fn a_flag_that_can_not_act_is_refused_and_the_usage_is_one_that_works() -> Result<()> {
    let directory = scratch();
    let bundle = directory.path().join("b");
    for (flags, told) in [
        (&["--busybox", "--ref", "x"][..], "cannot be used with"),
        (&["--busybox", "--hostname", "a b"], "letters, digits"),
        (&["--bogus"], "Usage: rootfs-builder bundle <DIR> [OPTIONS]"),
    ] {
        let refused = builder().arg("bundle").arg(&bundle).args(flags).output()?;
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(told), "{said}");
        assert!(!bundle.exists());
    }
    Ok(())
}

#[test]
fn flags_change_the_configuration() -> Result<()> {
    let directory = scratch();
    let bundle = directory.path().join("b");
    let flags = [
        "--terminal",
        "--writable",
        "--hostname",
        "box",
        "--args",
        "ls",
        "-l",
        "--all",
    ];
    stdout(
        builder()
            .arg("bundle")
            .arg(&bundle)
            .arg("--busybox")
            .args(flags),
    );
    let config = config_of(&bundle)?;
    assert_eq!(config["process"]["terminal"], true);
    assert_eq!(config["root"]["readonly"], false);
    assert_eq!(config["hostname"], "box");
    assert_eq!(
        config["process"]["args"],
        serde_json::json!(["ls", "-l", "--all"])
    );
    Ok(())
}

#[test]
fn a_busybox_bundle_is_built_at_once() -> Result<()> {
    let directory = scratch();
    let start = Instant::now();
    Recipe::new(Source::Busybox).bundle(&directory.path().join("b"))?;
    let took = start.elapsed();
    // Ten times the promise, as a guard against hangs; the figure is some 60 ms.
    assert!(took.as_secs() < 10, "{took:?}");
    Ok(())
}

#[test]
fn a_busybox_bundle_runs_under_runc() -> Result<()> {
    if !is_root() || !has("runc") {
        skip("a_busybox_bundle_runs_under_runc", "it needs root and runc");
        return Ok(());
    }
    let directory = scratch();
    let bundle = directory.path().join("b");
    recipe(
        Source::Busybox,
        &["/usr/bin/env", "sh", "-c", "hostname; id -u; exit 7"],
    )
    .bundle(&bundle)?;
    let output = runc_run(&bundle, "busybox");
    assert_eq!(output.status.code(), Some(7), "{}", told(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "capsid\n0\n");
    Ok(())
}

#[test]
fn without_a_busybox_debians_package_is_unpacked_and_not_installed() -> Result<()> {
    const TEST: &str = "without_a_busybox_debians_package_is_unpacked_and_not_installed";
    let directory = scratch();
    // A PATH with what unpacking takes, and no busybox.
    let programs = directory.path().join("programs");
    fs::create_dir(&programs)?;
    for name in ["apt-get", "dpkg", "dpkg-deb", "sh", "tar"] {
        std::os::unix::fs::symlink(Path::new("/usr/bin").join(name), programs.join(name))?;
    }
    let bundle = directory.path().join("b");
    let mut command = builder();
    command
        .arg("bundle")
        .arg(&bundle)
        .arg("--busybox")
        .env("PATH", &programs);
    let output = command.output()?;
    let text = told(&output);
    if text.contains("rootfs-builder: apt-get: ") {
        skip(
            TEST,
            &format!("no package to be had: {}", text.trim().replace('\n', " ")),
        );
        return Ok(());
    }
    assert!(output.status.success(), "{text}");
    let busybox = bundle.join("rootfs/bin/busybox");
    assert!(stdout(Command::new(busybox).args(["echo", "works"])) == "works\n");
    Ok(())
}

#[test]
fn programs_of_the_host_run_under_chroot() -> Result<()> {
    if !is_root() {
        skip("programs_of_the_host_run_under_chroot", "it needs root");
        return Ok(());
    }
    let directory = scratch();
    let rootfs = directory.path().join("rootfs");
    Recipe::new(Source::Host(Vec::new())).rootfs(&rootfs)?;
    let script = "id -u; cat /etc/group | head -n 1; echo /bin/l*";
    let output = stdout(
        Command::new("chroot")
            .arg(&rootfs)
            .args(["/bin/sh", "-c", script]),
    );
    assert_eq!(output, "0\nroot:x:0:\n/bin/ln /bin/ls\n");
    Ok(())
}

#[test]
fn a_script_brings_its_interpreter() -> Result<()> {
    if !is_root() {
        skip("a_script_brings_its_interpreter", "it needs root");
        return Ok(());
    }
    let directory = scratch();
    let script = directory.path().join("hello");
    fs::write(&script, "#!/bin/sh\necho hello from $0\n")?;
    scene::chmod(&script, 0o755);
    let rootfs = directory.path().join("rootfs");
    let name = script.to_string_lossy().into_owned();
    Recipe::new(Source::Host(vec![name.clone()])).rootfs(&rootfs)?;
    let output = stdout(Command::new("chroot").arg(&rootfs).arg(&script));
    assert_eq!(output, format!("hello from {name}\n"));
    Ok(())
}

#[test]
fn a_missing_program_is_named_and_nothing_is_left() {
    let directory = scratch();
    let bundle = directory.path().join("deep/er");
    let built = Recipe::new(Source::Host(vec!["no-such-program".into()])).bundle(&bundle);
    let text = built.map_or_else(|error| error.to_string(), |_| "built".into());
    assert_eq!(text, "no-such-program: no such program on this host");
    assert!(!directory.path().join("deep").exists());
}

#[test]
fn a_bundle_is_never_overwritten() -> Result<()> {
    let directory = scratch();
    let bundle = directory.path().join("b");
    Recipe::new(Source::Busybox).bundle(&bundle)?;
    let before = fs::read(bundle.join("config.json"))?;
    let again = builder()
        .arg("bundle")
        .arg(&bundle)
        .arg("--host")
        .output()?;
    let expected = format!(
        "rootfs-builder: name another directory, or remove what is there: {}: file exists\n",
        bundle.join("rootfs").display()
    );
    assert_eq!(String::from_utf8_lossy(&again.stderr), expected);
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(fs::read(bundle.join("config.json"))?, before);
    Ok(())
}

#[test]
fn layers_lie_apart_and_are_named_lowest_first() -> Result<()> {
    let directory = scratch();
    let mut recipe = Recipe::new(Source::Busybox);
    recipe.layout = Layout::Layers;
    recipe.bundle(directory.path())?;
    let list: Value =
        serde_json::from_str(&fs::read_to_string(directory.path().join("layers.json"))?)?;
    assert_eq!(list, serde_json::json!(["layers/0"]));
    assert!(directory.path().join("layers/0/bin/busybox").is_file());
    assert_eq!(fs::read_dir(directory.path().join("rootfs"))?.count(), 0);
    Ok(())
}

#[test]
fn the_usual_directories_have_their_modes() -> Result<()> {
    let directory = scratch();
    let rootfs = directory.path().join("rootfs");
    Recipe::new(Source::Busybox).rootfs(&rootfs)?;
    for (path, mode) in [
        ("", 0o755),
        ("tmp", 0o1777),
        ("root", 0o700),
        ("etc/passwd", 0o644),
    ] {
        let seen = fs::metadata(rootfs.join(path))?.permissions().mode() & 0o7777;
        assert_eq!(seen, mode, "/{path}");
    }
    Ok(())
}

#[test]
fn the_probe_is_static_and_sees_the_container() -> Result<()> {
    if !is_root() || !has("runc") {
        skip(
            "the_probe_is_static_and_sees_the_container",
            "it needs root and runc",
        );
        return Ok(());
    }
    let directory = scratch();
    let bundle = directory.path().join("b");
    let mut recipe = recipe(Source::Busybox, &["/probe"]);
    recipe.additions = vec![Addition {
        file: probe::path()?.to_path_buf(),
        path: "/probe".into(),
    }];
    recipe.bundle(&bundle)?;
    let output = runc_run(&bundle, "probe");
    assert!(output.status.success(), "{}", told(&output));
    let seen: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(seen["process"]["pid"], 1);
    assert_eq!(seen["process"]["is_init"], true);
    assert_eq!(seen["uname"]["hostname"], "capsid");
    assert_eq!(seen["pids"], serde_json::json!([1]));
    assert_eq!(seen["security"]["no_new_privs"], 1);
    assert_eq!(seen["rlimits"]["RLIMIT_NOFILE"]["hard"], 1024);
    assert_eq!(seen["env"][1], "TERM=xterm");
    assert_eq!(seen["devices"]["/dev/null"]["rdev"], "1:3");
    assert_eq!(
        seen["capabilities"]["bounding"],
        serde_json::json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"])
    );
    let root = seen["mounts"].as_array().into_iter().flatten();
    let root = root.filter(|row| row["mount_point"] == "/").count();
    assert_eq!(root, 1, "{}", seen["mounts"]);
    Ok(())
}
