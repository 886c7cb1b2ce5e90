//! Promise: a configuration that can't mean what it says is refused before anything is made, in one line
//! with the JSON path. One test a row of the list of bad configurations, by its number.

use serde_json::{Value, json};

use crate::harness::{Bundle, Outcome, Stage};
use crate::stage;

/// Creates each of the changed bundles; each must be refused with all of its words, leaving nothing.
#[track_caller]
fn refused(stage: &Stage, change: impl FnOnce(&mut Bundle), words: &[&str]) {
    let mut bundle = stage.bundle();
    change(&mut bundle);
    let (id, outcome) = stage.try_create_with(&bundle, &[]);
    let outcome = outcome.refuses(words);
    let errors = outcome.stderr.matches("level=error").count();
    assert_eq!(
        (errors, outcome.stderr.contains("\n\n")),
        (1, false),
        "{outcome}"
    );
    assert_eq!(
        stage.remains(&id),
        Vec::<std::path::PathBuf>::new(),
        "{outcome}"
    );
}

/// One test a row: its name, then the pointer to set, the value, and words of the message.
macro_rules! rows {
    ($($name:ident: $([$pointer:expr, $value:expr, $($word:expr),+]),+;)+) => {$(
        #[test]
        fn $name() {
            let stage = stage!();
            $(
                refused(&stage, |bundle| { bundle.set($pointer, json!($value)); }, &[$($word),+]);
            )+
        }
    )+};
}

/// One test a row: its name, the change, and words of the message.
macro_rules! changes {
    ($($name:ident: $($change:expr => [$($word:expr),+]),+;)+) => {$(
        #[test]
        fn $name() {
            let stage = stage!();
            $(refused(&stage, $change, &[$($word),+]);)+
        }
    )+};
}

rows! {
    b03_relative_cwd: ["/process/cwd", "tmp", "/process/cwd"], ["/process/cwd", "", "/process/cwd"];
    b03_more_additional_groups_than_a_process_can_have:
        ["/process/user/additionalGids", (1..=70_000).collect::<Vec<u32>>(), "/process/user/additionalGids", "70000 groups", "65536 at the most"];
    b05_unknown_namespace_type: ["/linux/namespaces/0/type", "planet", "/linux/namespaces/0/type", "planet"];
    b08_path_too_long_or_with_nul:
        ["/process/cwd", format!("/{}", "x/".repeat(3000)), "/process/cwd"],
        ["/process/cwd", "/a\u{0}b", "/process/cwd"],
        ["/mounts/1/destination", "/a\u{0}b", "/mounts/1/destination"],
        ["/root/path", "/a\u{0}b", "/root/path"];
    b13_sysctl_that_is_not_namespaced:
        ["/linux/sysctl", json!({"vm.swappiness": "1"}), "/linux/sysctl", "sysctl \"vm.swappiness\" is not in a separate kernel namespace"],
        ["/linux/sysctl", json!({"net/../vm/x": "1"}), "/linux/sysctl"],
        ["/linux/sysctl", json!({"kernel.shm/../../vm/x": "1"}), "/linux/sysctl"],
        ["/linux/sysctl", json!({"kernel.hostname": "x"}), "/linux/sysctl"];
    b17_unknown_rlimit: ["/process/rlimits/0/type", "RLIMIT_FOO", "/process/rlimits/0", "RLIMIT_FOO"];
    b18_soft_above_hard: ["/process/rlimits/0", json!({"type": "RLIMIT_NOFILE", "soft": 10, "hard": 5}), "/process/rlimits/0"];
    b19_duplicate_rlimits:
        ["/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 10}, {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 10}]), "/process/rlimits/1"];
    b20_oom_score_out_of_range: ["/process/oomScoreAdj", 1001, "/process/oomScoreAdj"], ["/process/oomScoreAdj", -1001, "/process/oomScoreAdj"];
    b25_bad_device:
        ["/linux/devices", json!([{"path": "/dev/x", "type": "z", "major": 1, "minor": 3}]), "/linux/devices/0"],
        ["/linux/devices", json!([{"path": "/dev/x", "type": "c", "major": -5, "minor": 3}]), "/linux/devices/0"];
    b27_ids_out_of_range:
        ["/process/user/uid", 4294967296_u64, "/process/user/uid"],
        ["/process/user/uid", 4294967295_u64, "/process/user/uid"],
        ["/process/user/gid", -1, "/process/user/gid"],
        ["/process/user/additionalGids", json!([4294967295_u64]), "/process/user/additionalGids/0"];
    b33_cgroups_path_with_dots: ["/linux/cgroupsPath", "/a/../../b", "/linux/cgroupsPath"];
    b36_oci_version:
        ["/ociVersion", Value::Null, "/ociVersion"],
        ["/ociVersion", "2.0.0", "/ociVersion", "2.0.0"],
        ["/ociVersion", "1", "/ociVersion"],
        ["/ociVersion", "", "/ociVersion"];
    b39_env: ["/process/env/0", "NOEQUALS", "/process/env/0"], ["/process/env/1", "A=\u{0}", "/process/env/1"];
    b40_empty_device_access: ["/linux/resources/devices/0/access", "", "/linux/resources/devices/0"];
}

changes! {
    b01_missing_args_or_cwd:
        |b: &mut Bundle| { b.remove("/process/args"); } => ["/process/args"],
        |b: &mut Bundle| { b.args(&[]); } => ["/process/args"],
        |b: &mut Bundle| { b.remove("/process/cwd"); } => ["/process/cwd"];
    b02_missing_root: |b: &mut Bundle| { b.remove("/root"); } => ["/root"];
    b04_root_is_no_folder:
        |b: &mut Bundle| { b.set("/root/path", json!("/etc/passwd")); } => ["/root/path", "not a directory"],
        |b: &mut Bundle| { b.set("/root/path", json!("no-such-rootfs")); } => ["/root/path", "no such file or directory"];
    b06_duplicate_namespace: |b: &mut Bundle| { b.push("/linux/namespaces", json!({"type": "pid"})); } => ["/linux/namespaces/5"];
    b09_maps_without_a_user_namespace:
        |b: &mut Bundle| { b.set("/linux/uidMappings", json!([{"containerID": 0, "hostID": 0, "size": 1}])); }
            => ["/linux/uidMappings", "user namespace mappings specified, but user namespace isn't enabled in the config"];
    b11_time_offsets_without_a_time_namespace:
        |b: &mut Bundle| { b.set("/linux/timeOffsets", json!({"monotonic": {"secs": 1, "nanosecs": 0}})); }
            => ["/linux/timeOffsets", "time namespace offsets specified, but time namespace isn't enabled in the config"];
    b12_hostname_without_uts:
        |b: &mut Bundle| { b.without_namespace("uts"); } => ["/hostname", "unable to set hostname without a private UTS namespace"],
        |b: &mut Bundle| { b.without_namespace("uts").remove("/hostname").set("/domainname", json!("x")); } => ["/domainname"];
    b13_sysctl_of_the_hosts_namespace:
        |b: &mut Bundle| { b.without_namespace("network").set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"})); }
            => ["/linux/sysctl", "sysctl \"net.ipv4.ip_forward\" not allowed in host network namespace"],
        |b: &mut Bundle| { b.without_namespace("ipc").set("/linux/sysctl", json!({"kernel.shmmax": "1"})); } => ["/linux/sysctl"];
    b14_masks_without_a_mount_namespace: |b: &mut Bundle| { b.without_namespace("mount"); } => ["mount", "/linux/"];
    b15_file_system_options_on_a_bind:
        |b: &mut Bundle| { b.bind("/etc".as_ref(), "/mnt", &["size=5"]); } => ["/mounts/7/options"];
    b37_lsm_label_that_can_not_be_set:
        |b: &mut Bundle| { b.set("/process/selinuxLabel", json!("system_u:system_r:x:s0")); } => ["/process/selinuxLabel"];
    b41_swap_below_the_limit:
        |b: &mut Bundle| { b.set("/linux/resources/memory", json!({"limit": 200_000_000, "swap": 100_000_000})); } => ["/linux/resources/memory/swap"],
        |b: &mut Bundle| { b.set("/linux/resources/memory", json!({"swap": 100_000_000})); } => ["/linux/resources/memory/swap"];
    s14_root_is_a_link_to_the_host:
        |b: &mut Bundle| { link_to_root(b); } => ["/root/path"];
    fields_of_later_issues_are_refused_and_not_ignored:
        |b: &mut Bundle| { b.set("/process/commandLine", json!("cmd.exe")); } => ["/process/commandLine"];
    b34_relative_hook_path:
        |b: &mut Bundle| { b.set("/hooks", json!({"poststop": [{"path": "bin/true"}]})); }
            => ["/hooks/poststop/0/path", "hook path \"bin/true\" is not absolute"];
    b35_hook_timeout_of_zero:
        |b: &mut Bundle| { b.set("/hooks", json!({"poststart": [{"path": "/bin/true", "timeout": 0}]})); }
            => ["/hooks/poststart/0/timeout", "hook timeout 0 is not greater than zero"];
}

fn link_to_root(bundle: &mut Bundle) {
    let link = bundle.folder.join("link");
    std::os::unix::fs::symlink("/", &link).expect("a link");
    bundle.set("/root/path", json!("link"));
}

#[test]
fn b10_a_namespace_path_and_other_maps() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.user_namespace(100_000, 1000).sleeps();
    let first = stage.create(&bundle);
    let path = format!("/proc/{}/ns/user", first.pid());
    refused(
        &stage,
        |bundle| {
            bundle
                .user_namespace(200_000, 1000)
                .namespace("user", Some(&path));
        },
        &["/linux/uidMappings"],
    );
}

#[test]
fn b10_the_callers_own_user_namespace() {
    let stage = stage!();
    for mapped in [false, true] {
        refused(
            &stage,
            |bundle| {
                if mapped {
                    bundle.user_namespace(100_000, 10);
                }
                bundle.namespace("user", Some("/proc/self/ns/user"));
            },
            &[
                "/linux/namespaces/",
                "/path",
                "the caller's own",
                "leave it out",
            ],
        );
    }
}

#[test]
fn b26_an_existing_device_that_is_another() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    Outcome::of(
        std::process::Command::new("mknod")
            .arg(bundle.folder.join("rootfs/other"))
            .args(["c", "1", "5"]),
    )
    .ok();
    bundle
        .set(
            "/linux/devices",
            json!([{"path": "/other", "type": "c", "major": 1, "minor": 3}]),
        )
        .set("/root/readonly", json!(false));
    stage
        .try_create(&bundle)
        .refuses(&["/linux/devices/0", "other"]);
    bundle.set("/linux/devices/0/minor", json!(5));
    stage.create(&bundle);
}

#[test]
fn b43_a_terminal_and_a_console_socket_that_do_not_fit() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.set("/process/terminal", json!(true));
    stage
        .try_create(&bundle)
        .refuses(&["cannot allocate tty if runc will detach without setting console socket"]);
    bundle.set("/process/terminal", json!(false));
    stage
        .try_create_with(&bundle, &["--console-socket", "/no/such/socket"])
        .1
        .refuses(&["cannot use console socket if runc will not detach or allocate tty"]);
}

#[test]
fn s15_huge_input_is_refused_or_works_in_time() {
    let stage = stage!();
    let mut huge = Vec::new();
    let mut bundle = stage.bundle();
    bundle.namespace("network", Some(&format!("/{}", "n/".repeat(35_000))));
    huge.push((bundle, 1));
    let mut bundle = stage.bundle();
    bundle.bind(format!("/{}", "m/".repeat(35_000)).as_ref(), "/mnt", &[]);
    huge.push((bundle, 1));
    let mut bundle = stage.bundle();
    bundle.push(
        "/process/env",
        json!(format!("BIG={}", "x".repeat(200_000))),
    );
    huge.push((bundle, 1)); // MAX_ARG_STRLEN is 128 KiB
    for (bundle, code) in huge {
        let outcome = stage.run(&bundle).exits(code);
        assert!(outcome.took.as_secs() < 20, "{:?}", outcome.took);
        assert!(!outcome.stderr.contains("panicked"));
    }
    let mut bundle = stage.bundle();
    for number in 0..1500 {
        bundle.mount(&format!("/tmp/{number}"), "tmpfs", "tmpfs", &["size=4k"]);
    }
    bundle.mount("/tmp", "tmpfs", "tmpfs", &[]);
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    let tmp = mounts.pop().unwrap();
    mounts.insert(0, tmp);
    let outcome = stage.run(&bundle).ok();
    assert!(outcome.took.as_secs() < 20, "{:?}", outcome.took);
}

#[test]
fn s15_a_config_that_is_deep_endless_or_a_fifo_is_refused_in_time() {
    let stage = stage!();
    let bundle = stage.bundle();
    let file = bundle.folder.join("config.json");
    let folder = bundle.folder.to_string_lossy().into_owned();
    let create = || {
        let outcome = stage
            .call(&["create", "--bundle", &folder, &stage.id()])
            .refuses(&["config.json"]);
        assert!(outcome.took.as_secs() < 20, "{:?}", outcome.took);
        std::fs::remove_file(&file).unwrap();
    };
    std::fs::write(
        &file,
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
    )
    .unwrap();
    create();
    std::fs::write(&file, format!("{{\"x\": {}", "{\"a\":".repeat(100_000))).unwrap();
    create();
    Outcome::of(std::process::Command::new("mkfifo").arg(&file)).ok();
    create();
    std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
    create();
    std::fs::File::create(&file)
        .and_then(|f| f.set_len(1 << 30))
        .unwrap();
    create();
}

#[test]
fn unknown_keys_capabilities_and_newer_versions_only_warn() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .set("/x-unknown", json!({"deep": [1]}))
        .push(
            "/process/capabilities/bounding",
            json!("CAP_NEWER_THAN_KERNEL"),
        )
        .args(&["/bin/true"]);
    let outcome = stage.run(&bundle).ok();
    assert!(
        outcome.stderr.contains("CAP_NEWER_THAN_KERNEL"),
        "{outcome}"
    );
    let mut bundle = stage.bundle();
    bundle
        .set("/ociVersion", json!("1.9.0"))
        .args(&["/bin/true"]);
    stage.run(&bundle).ok();
    for version in ["1.0.0", "1.0.2-dev", "1.1.0", "1.2.1", "1.3.0"] {
        bundle.set("/ociVersion", json!(version));
        stage.run(&bundle).ok();
    }
}

#[test]
fn a_config_without_a_process_is_created_and_start_says_so() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.remove("/process");
    let container = stage.create(&bundle);
    assert_eq!(container.status(), "created");
    container.start().refuses(&["process"]);
}
