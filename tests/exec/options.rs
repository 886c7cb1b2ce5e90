//! What the options of an exec say: its working directory, environment, capabilities, process file, descriptors
//! and cgroup.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use serde_json::{Value, json};

use crate::harness::{Bundle, View};
use crate::stage;

#[test]
fn exec_takes_a_working_directory_byte_by_byte() {
    let stage = stage!();
    let container = stage.running();
    let odd = OsStr::from_bytes(b"/dev/shm/\xe9t\xe9");
    let in_it = || {
        let words = ["exec", "--cwd", "", &container.id, "stat", "-c", "%i", "."];
        let words = words.map(|word| match word {
            "" => odd,
            word => OsStr::new(word),
        });
        stage.call(&words)
    };
    // No other directory in its place.
    in_it().fails_with(255, &["no such file or directory"]);
    let made = container.sh("cd /dev/shm && mkdir $(printf '\\351t\\351') && stat -c %i *t*");
    assert_eq!(in_it().ok().stdout.trim(), made);
}

#[test]
fn exec_sets_the_working_directory_and_the_environment() {
    let stage = stage!();
    let container = stage.running();
    container
        .exec_with(&["--cwd", "/tmp"], &["pwd"])
        .ok()
        .prints("/tmp");
    container
        .exec_with(
            &["--env", "A=1", "-e", "B=two words"],
            &["sh", "-c", "echo $A $B"],
        )
        .ok()
        .prints("1 two words");
    container
        .exec_with(&["--env", "TERM=dumb"], &["sh", "-c", "echo $TERM"])
        .ok()
        .prints("dumb");
}

#[test]
fn s09_exec_adds_capabilities_and_never_inheritable_ones() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .sleeps()
        .set("/process/capabilities/ambient", json!([]));
    let container = stage.create(&bundle);
    container.start().ok();
    let status = container
        .exec_with(
            &["--cap", "CAP_SYS_PTRACE", "--cap", "CAP_CHOWN"],
            &["cat", "/proc/self/status"],
        )
        .ok()
        .stdout;
    let set = |name: &str| {
        let line = status
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{status}"));
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    let (ptrace, chown) = (1 << 19, 1);
    for name in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(
            set(name) & (ptrace | chown),
            ptrace | chown,
            "{name}: {status}"
        );
    }
    assert_eq!(set("CapInh"), 0, "{status}");
}

#[test]
fn exec_sets_no_new_privileges() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .sleeps()
        .set("/process/noNewPrivileges", json!(false));
    let container = stage.create(&bundle);
    container.start().ok();
    assert_eq!(
        container.sh("grep NoNewPrivs /proc/self/status"),
        "NoNewPrivs:\t0"
    );
    container
        .exec_with(
            &["--no-new-privs"],
            &["grep", "NoNewPrivs", "/proc/self/status"],
        )
        .ok()
        .prints("NoNewPrivs:\t1");
}

#[test]
fn exec_takes_a_process_file() {
    let stage = stage!();
    let container = stage.running();
    let file = stage.path("process.json");
    let mut process: Value =
        Bundle::new(&stage.path("other"), "/".as_ref()).config["process"].clone();
    process["args"] = json!(["/bin/sh", "-c", "echo $X; pwd; id -u; exit 7"]);
    process["env"] = json!(["PATH=/bin", "X=from the file"]);
    process["cwd"] = json!("/tmp");
    process["user"]["uid"] = json!(1000);
    std::fs::write(&file, process.to_string()).unwrap();
    let outcome = container
        .exec_with(&["--process", &file.to_string_lossy()], &[])
        .exits(7);
    assert_eq!(outcome.stdout, "from the file\n/tmp\n1000\n");
    process["cwd"] = json!("relative");
    std::fs::write(&file, process.to_string()).unwrap();
    container
        .exec_with(&["--process", &file.to_string_lossy()], &[])
        .fails_with(255, &["/cwd"]);
    process["args"] = json!([]);
    process["seccomp"] = json!({});
    std::fs::write(&file, process.to_string()).unwrap();
    container
        .exec_with(&["--process", &file.to_string_lossy()], &[])
        .fails_with(
            255,
            &[
                "one of 2 problems: /cwd, /args: ",
                "/seccomp: setting \"seccomp\" is ignored here: it belongs at /linux/seccomp",
            ],
        );
    std::fs::write(&file, "{\"args\": 5, \"noNewPriviliges\": true}").unwrap();
    container
        .exec_with(&["--process", &file.to_string_lossy()], &[])
        .fails_with(
            255,
            &["/args", "process.json", "noNewPrivileges may be meant"],
        );
    std::fs::remove_file(&file).unwrap();
    container
        .exec_with(&["--process", &file.to_string_lossy()], &[])
        .fails_with(255, &["process.json", "not found"]);
}

#[test]
fn exec_keeps_the_descriptors_it_was_asked_to_and_no_others() {
    let stage = stage!();
    let container = stage.running();
    let list = "ls /proc/self/fd | wc -l";
    let script = r#"exec 3</etc/passwd 4</etc/group 5</; exec $capsid exec "$@""#;
    // 0, 1, 2 and the one that ls reads the folder through.
    stage
        .shell(script, &[&container.id, "sh", "-c", list])
        .ok()
        .prints("4");
    stage
        .shell(
            script,
            &["--preserve-fds", "2", &container.id, "sh", "-c", list],
        )
        .ok()
        .prints("6");
    let script = r#"exec 3<&- ; exec $capsid exec "$@""#;
    assert_ne!(
        stage
            .shell(script, &["--preserve-fds", "1", &container.id, "true"])
            .code,
        0
    );
}

#[test]
fn exec_enters_a_cgroup_below_the_containers() {
    for view in View::versions() {
        let stage = stage!(view);
        let container = stage.running();
        let controller = match view {
            View::V1 => "memory",
            _ => "",
        };
        let own = container.cgroup(controller);
        let sub = own.join("sub");
        std::fs::create_dir(&sub).unwrap();
        let line = |options: &[&str]| {
            let outcome = container.exec_with(options, &["cat", "/proc/self/cgroup"]);
            let outcome = outcome.ok().stdout;
            let own = |line: &&str| line.contains(&format!(":{controller}:"));
            outcome.lines().find(own).unwrap().to_owned()
        };
        let named = format!("{controller}:sub");
        let wanted = match view {
            View::V1 => named.as_str(),
            _ => "sub",
        };
        let inside = line(&["--cgroup", wanted]);
        assert!(inside.ends_with("/sub"), "{inside}");
        assert!(!line(&[]).ends_with("/sub") && !line(&["--cgroup", "/"]).ends_with("/sub"));
        container
            .exec_with(&["--cgroup", "missing"], &["true"])
            .fails_with(
                255,
                &["into the cgroup missing", "has to exist: no such file"],
            );
        for path in ["../other", "a/../../b", "/..", "sub/.."] {
            container
                .exec_with(&["--cgroup", path], &["true"])
                .fails_with(255, &["bad sub cgroup path"]);
        }
        container
            .exec_with(&["--cgroup", "nosuch"], &["true"])
            .fails_with(255, &["nosuch", "no such file or directory"]);
        container
            .exec_with(&["--cgroup", "nosuch:sub"], &["true"])
            .fails_with(255, &["unknown controller nosuch"]);
        std::fs::remove_dir(&sub).unwrap();
    }
}
