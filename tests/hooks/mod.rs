//! Promise: hooks run at their points of the container's life, in their namespaces, with the container's state on
//! stdin; what fails says what, where and why, and nothing of the container is left.

mod failures;
mod given_up;

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Bundle, Stage, until, user};
use crate::{stage, user_stage};

const KINDS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// A hook that runs a shell script, with the host's shell or the container's.
fn hook(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

/// A bundle with a folder that host and container both see: at /out inside.
fn bundle_with_out(stage: &Stage) -> (Bundle, std::path::PathBuf) {
    let mut bundle = stage.bundle();
    let out = stage.path("out");
    std::fs::create_dir_all(&out).unwrap();
    bundle.bind(&out, "/out", &[]);
    (bundle, out)
}

/// The folder as the hooks of a kind see it.
fn out_of<'a>(kind: &str, out: &'a Path) -> &'a str {
    match kind {
        "startContainer" => "/out",
        _ => out.to_str().unwrap(),
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Appends its kind to `order`, and keeps its state.
fn witness(kind: &str, number: usize, out: &Path) -> Value {
    let folder = out_of(kind, out);
    hook(&format!(
        "cat > {folder}/{kind}{number}.json; echo {kind} >> {folder}/order"
    ))
}

#[test]
fn hooks_run_in_the_order_of_the_specification_and_are_told_the_state() {
    let stage = stage!();
    let (mut bundle, out) = bundle_with_out(&stage);
    bundle
        .sh("echo program >> /out/order; trap 'exit 0' TERM; while :; do sleep 600 & wait $!; done")
        .set("/annotations", json!({"a/b": "c \"d\""}));
    for kind in KINDS {
        let two = json!([witness(kind, 0, &out), witness(kind, 1, &out)]);
        bundle.set(&format!("/hooks/{kind}"), two);
    }
    let order = || read(&out.join("order")).replace('\n', " ");
    let container = stage.create(&bundle);
    let created = "prestart prestart createRuntime createRuntime createContainer createContainer ";
    assert_eq!(order(), created);
    let pid = container.pid();
    container.start().ok();
    until("the program runs", || order().contains("program"));
    let mut started: Vec<_> = order().split_whitespace().map(str::to_owned).collect();
    started.retain(|word| word != "program");
    assert_eq!(
        started.join(" "),
        format!("{created}startContainer startContainer poststart poststart")
    );
    container.kill("KILL").ok();
    container.becomes("stopped");
    container.delete().ok();
    assert!(order().ends_with("poststop poststop "), "{}", order());
    assert_eq!(stage.remains(&container.id), [] as [std::path::PathBuf; 0]);

    let expected = |status: &str, pid: Option<i32>| {
        let mut state = json!({
            "ociVersion": "1.3.0", "id": container.id, "status": status,
            "bundle": bundle.folder, "annotations": {"a/b": "c \"d\""},
        });
        if let Some(pid) = pid {
            state["pid"] = json!(pid);
        }
        state
    };
    for (kind, status, pid) in [
        ("prestart", "creating", Some(pid)),
        ("createRuntime", "creating", Some(pid)),
        ("createContainer", "creating", Some(1)),
        ("startContainer", "created", Some(1)),
        ("poststart", "running", Some(pid)),
        ("poststop", "stopped", None),
    ] {
        for number in 0..2 {
            let told: Value =
                serde_json::from_str(&read(&out.join(format!("{kind}{number}.json")))).unwrap();
            assert_eq!(told, expected(status, pid), "{kind}");
        }
    }
}

/// Which namespaces each kind of hook is in, and in which directory.
#[test]
fn each_kind_of_hook_is_in_its_namespaces_and_directory() {
    let stage = stage!();
    let (mut bundle, out) = bundle_with_out(&stage);
    bundle
        .sleeps()
        .namespace("cgroup", None)
        .set("/process/cwd", json!("/mnt"));
    let look = |kind: &str| {
        let folder = out_of(kind, &out);
        hook(&format!(
            "cd .; {{ for n in mnt pid net ipc uts cgroup user; do readlink /proc/self/ns/$n; done; pwd; }} > {folder}/{kind}.seen"
        ))
    };
    for kind in KINDS {
        bundle.set(&format!("/hooks/{kind}"), json!([look(kind)]));
    }
    let container = stage.create(&bundle);
    container.start().ok();
    let of = |pid: &str| -> Vec<String> {
        let names = ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"];
        let link = |name: &&str| {
            let link = std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
            link.to_string_lossy().into_owned()
        };
        names.iter().map(link).collect()
    };
    let inside = of(&container.pid().to_string());
    let mut outside = of("self");
    container.delete_force().ok();
    let rootfs = bundle.config["root"]["path"].as_str().unwrap().to_owned();
    let folder = bundle.folder.to_string_lossy().into_owned();
    for (kind, namespaces, cwd) in [
        ("prestart", &outside, &folder),
        ("createRuntime", &outside, &folder),
        ("createContainer", &inside, &rootfs),
        ("startContainer", &inside, &"/mnt".to_owned()),
        ("poststart", &outside, &folder),
        ("poststop", &outside, &folder),
    ] {
        let seen = read(&out.join(format!("{kind}.seen")));
        let mut seen: Vec<&str> = seen.lines().collect();
        assert_eq!(seen.pop().unwrap(), cwd, "{kind}");
        assert_eq!(seen, *namespaces, "{kind}");
    }
    outside.clear();
}

#[test]
fn what_create_container_hooks_mount_is_in_the_container() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    let file = stage.path("library");
    std::fs::write(&file, "of the host\n").unwrap();
    // The path of the hook and of what it mounts are the runtime's; cwd is the root filesystem.
    let mount = format!("mount --bind {} etc/group", file.display());
    bundle.set("/hooks/createContainer", json!([hook(&mount)]));
    bundle.set("/root/readonly", json!(true));
    assert_eq!(stage.prints(&mut bundle, "cat /etc/group"), "of the host");
    assert_ne!(
        read(&Path::new(bundle.config["root"]["path"].as_str().unwrap()).join("etc/group")),
        "of the host\n"
    );
}

#[test]
fn hooks_get_their_own_environment_and_arguments_and_nothing_else() {
    let stage = stage!();
    let (mut bundle, out) = bundle_with_out(&stage);
    bundle.push("/process/env", json!("OF=the process"));
    let script = |kind: &str, name: &str| {
        let folder = out_of(kind, &out);
        // The shell adds PWD and the like to what `env` shows, but not to its own environ.
        format!(
            "tr '\\0' '\\n' < /proc/self/environ > {folder}/{kind}.{name}; echo \"$0|$1|$2\" >> {folder}/{kind}.{name}; ls /proc/self/fd | wc -w >> {folder}/{kind}.{name}"
        )
    };
    for kind in KINDS {
        let hooks = json!([
            {"path": "/bin/sh", "args": ["sh", "-c", script(kind, "bare"), "zero", "a b", "$HOME"]},
            {"path": "/bin/sh", "args": ["sh", "-c", script(kind, "own"), "zero"], "env": ["A=1", "B=two words", "PATH=/bin:/usr/bin"]},
        ]);
        bundle.set(&format!("/hooks/{kind}"), hooks);
    }
    bundle.args(&["/bin/true"]);
    let outcome = stage.run(&bundle).ok();
    assert_eq!(outcome.stderr, "", "{outcome}");
    for kind in KINDS {
        let bare = read(&out.join(format!("{kind}.bare")));
        let lines: Vec<&str> = bare.lines().collect();
        let [environment @ .., arguments, descriptors] = lines.as_slice() else {
            panic!("{kind}: {bare}");
        };
        assert_eq!(*arguments, "zero|a b|$HOME", "{kind}");
        // 0, 1, 2; the shell and ls may have one more open each.
        assert!(
            descriptors.trim().parse::<u32>().unwrap() <= 5,
            "{kind}: {bare}"
        );
        match kind {
            "startContainer" => {
                assert!(environment.contains(&"OF=the process"), "{kind}: {bare}");
                assert!(environment.contains(&"HOME=/root"), "{kind}: {bare}");
            }
            _ => assert_eq!(environment, [""; 0], "{kind}: {bare}"),
        }
        let own = read(&out.join(format!("{kind}.own")));
        assert!(
            own.starts_with("A=1\nB=two words\nPATH=/bin:/usr/bin\nzero||\n"),
            "{kind}: {own}"
        );
    }
}

#[test]
fn the_hooks_of_an_ordinary_users_container_run_whoever_its_process_is() {
    let stage = user_stage!();
    for uid in [0, 1000] {
        let mut bundle = stage.bundle();
        bundle
            .remove("/linux/cgroupsPath")
            .set("/process/user", json!({"uid": uid, "gid": uid}))
            .set(
                "/hooks/startContainer",
                json!([hook("id -u; id -g >&2; exit 7")]),
            )
            .sleeps();
        let said = format!("exit status 7, stdout: {uid}, stderr: {uid}");
        stage.run(&bundle).refuses(&[&said]);
        let container = stage.create(&bundle);
        // The same way leads in for exec.
        let outcome = container.exec(&["/bin/id", "-u"]).ok();
        assert_eq!(outcome.line(), uid.to_string());
        container.start().refuses(&[&said]);
    }
}

#[test]
fn poststart_hooks_run_when_the_program_is_known_to_run() {
    let stage = stage!();
    let (mut bundle, out) = bundle_with_out(&stage);
    let script = format!(
        "read state; pid=${{state#*\\\"pid\\\":}}; readlink /proc/${{pid%%,*}}/exe > {0}/exe; tr '\\0' ' ' < /proc/${{pid%%,*}}/cmdline > {0}/line",
        out.display()
    );
    bundle
        .args(&["/bin/sleep", "616"])
        .set("/hooks/poststart", json!([hook(&script)]));
    let container = stage.create(&bundle);
    container.start().ok();
    assert!(
        read(&out.join("exe")).contains("busybox"),
        "{}",
        read(&out.join("exe"))
    );
    assert_eq!(read(&out.join("line")), "/bin/sleep 616 ");
}

#[test]
fn start_container_hooks_are_as_confined_as_the_process() {
    let stage = stage!();
    let (mut bundle, out) = bundle_with_out(&stage);
    std::fs::set_permissions(&out, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let report =
        "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups|Uid|Gid)' /proc/self/status; umask; ulimit -n";
    bundle
        .sh(&format!("({report}) > /out/process"))
        .set(
            "/process/user",
            json!({"uid": 1000, "gid": 1000, "umask": 0o27, "additionalGids": [10]}),
        )
        .set(
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 300}]),
        )
        .set(
            "/hooks/startContainer",
            json!([hook(&format!(
                "({report}) > /out/hook; id -u >&2; echo >/dev/stderr"
            ))]),
        );
    stage.run(&bundle).ok();
    let process = read(&out.join("process"));
    assert!(
        process.contains("Uid:\t1000") && process.contains("NoNewPrivs:\t1"),
        "{process}"
    );
    assert_eq!(read(&out.join("hook")), process);
}

#[test]
fn a_hook_of_create_finds_the_container_in_its_cgroup_and_being_created() {
    let stage = stage!();
    let (mut bundle, out) = bundle_with_out(&stage);
    let capsid = format!(
        "{} --root {}",
        stage.runtime.display(),
        stage.state_root().display()
    );
    let script = format!(
        "read state; pid=${{state#*\\\"pid\\\":}}; pid=${{pid%%,*}}; id=${{state#*\\\"id\\\":\\\"}}; \
         cat /proc/$pid/cgroup > {0}/cgroup; {capsid} state ${{id%%\\\"*}} > {0}/state",
        out.display()
    );
    bundle
        .sleeps()
        .set("/hooks/createRuntime", json!([hook(&script)]));
    let container = stage.create(&bundle);
    for line in read(&out.join("cgroup")).lines() {
        assert!(line.ends_with(&container.id), "{line}");
    }
    let state: Value = serde_json::from_str(&read(&out.join("state"))).unwrap();
    assert_eq!(state["status"], "creating");
}

#[test]
fn annotations_name_files_that_get_what_hooks_say() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    let (one, two) = (stage.path("stdout"), stage.path("stderr"));
    std::fs::write(&one, "before\n").unwrap();
    bundle
        .args(&["/bin/true"])
        .set(
            "/annotations",
            json!({"run.oci.hooks.stdout": one, "run.oci.hooks.stderr": two}),
        )
        .set(
            "/hooks/createRuntime",
            json!([hook("echo out; echo err >&2")]),
        )
        .set("/hooks/startContainer", json!([hook("echo inside")]));
    stage.run(&bundle).ok();
    assert_eq!(read(&one), "before\nout\ninside\n");
    assert_eq!(read(&two), "err\n");
}

#[test]
fn an_ordinary_users_hooks_run_as_that_user_and_inside() {
    let stage = user_stage!();
    let mut bundle = stage.bundle();
    bundle.remove("/linux/cgroupsPath");
    let out = stage.path("out");
    std::fs::create_dir(&out).unwrap();
    user::owns(&stage.folder);
    bundle.bind(&out, "/out", &[]);
    for kind in KINDS {
        let folder = out_of(kind, &out);
        let list = json!([hook(&format!("id -u > {folder}/{kind}"))]);
        bundle.set(&format!("/hooks/{kind}"), list);
    }
    bundle.args(&["/bin/true"]);
    stage.run(&bundle).ok();
    for kind in KINDS {
        let uid = read(&out.join(kind));
        let expected = match kind {
            "createContainer" | "startContainer" => "0",
            _ => "54321",
        };
        assert_eq!(uid.trim(), expected, "{kind}");
    }
}

#[test]
fn hooks_run_inside_a_user_namespace_as_its_root() {
    let stage = stage!();
    let (mut bundle, out) = bundle_with_out(&stage);
    std::fs::set_permissions(&out, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    bundle.user_namespace(100_000, 65_536).args(&["/bin/true"]);
    for kind in KINDS {
        let folder = out_of(kind, &out);
        let list = json!([hook(&format!(
            "id -u > {folder}/{kind}; cat /proc/self/uid_map >> {folder}/{kind}"
        ))]);
        bundle.set(&format!("/hooks/{kind}"), list);
    }
    stage.run(&bundle).ok();
    for kind in KINDS {
        let seen = read(&out.join(kind));
        let inside = seen.contains("100000");
        assert!(seen.starts_with("0\n"), "{kind}: {seen}");
        assert_eq!(
            inside,
            matches!(kind, "createContainer" | "startContainer"),
            "{kind}: {seen}"
        );
    }
}

#[test]
fn delete_force_runs_the_poststop_hooks_of_a_created_container() {
    let stage = stage!();
    let (mut bundle, out) = bundle_with_out(&stage);
    bundle
        .sleeps()
        .set("/hooks/poststop", json!([witness("poststop", 0, &out)]));
    let container = stage.create(&bundle);
    // The frozen copy counts, not what the bundle says later.
    bundle.remove("/hooks").write(&container.id);
    container.delete_force().ok();
    assert!(out.join("poststop0.json").exists());
}
