//! Promise S03: no file descriptor of the caller's reaches the container, nor any process in it, but the
//! standard streams and those that were asked for.

use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;

use crate::harness::{end, until};
use crate::stage;

/// Where each descriptor of a process leads.
fn descriptors(pid: i32) -> Vec<(i32, String)> {
    let mut list: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .map(|entry| {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            (
                entry.file_name().to_string_lossy().parse().unwrap(),
                target.to_string_lossy().into_owned(),
            )
        })
        .collect();
    list.sort_unstable();
    list
}

const LEAKS: &str = r#"exec 3</ 4</etc/passwd 9</tmp; exec $capsid "$@""#;

#[test]
fn s03_the_program_gets_the_standard_streams_alone() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sh("for fd in /proc/self/fd/*; do [ -e $fd ] && echo ${fd##*/}; done; true");
    let id = stage.id();
    bundle.write(&id);
    // The shell reads the folder through one more, which is closed when the names are printed.
    stage
        .shell(
            LEAKS,
            &["run", "--bundle", &bundle.folder.to_string_lossy(), &id],
        )
        .ok()
        .prints("0\n1\n2\n");
}

#[test]
fn s03_a_created_container_holds_nothing_of_the_host() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps();
    let id = stage.id();
    bundle.write(&id);
    stage
        .shell(
            LEAKS,
            &["create", "--bundle", &bundle.folder.to_string_lossy(), &id],
        )
        .ok();
    let pid = stage.call(&["state", &id]).ok().json()["pid"]
        .as_i64()
        .unwrap() as i32;
    for (fd, target) in descriptors(pid) {
        let fine = fd <= 2
            || target.starts_with("socket:")
            || target.starts_with("pipe:")
            || target.contains(&format!("/{id}/"));
        assert!(fine, "{fd} -> {target}");
        if fd > 2 {
            let kind = std::fs::metadata(format!("/proc/{pid}/fd/{fd}"))
                .unwrap()
                .file_type();
            assert!(!kind.is_dir() && !kind.is_file(), "{fd} -> {target}");
        }
    }
}

/// As long as somebody holds the clone that it is sealed by, that could be made writable again.
#[test]
fn s18_who_waits_for_the_program_holds_the_executable_no_more() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps();
    let id = stage.id();
    bundle.write(&id);
    let mut run = stage.capsid();
    run.args(["run", "--bundle", &bundle.folder.to_string_lossy(), &id]);
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = run.spawn().unwrap();
    until("the program runs", || {
        let state = stage.call(&["state", &id]);
        state.stdout.contains("\"running\"")
    });
    let file = |name: String| {
        let about = std::fs::metadata(format!("/proc/{}/{name}", run.id())).unwrap();
        (about.dev(), about.ino())
    };
    let executable = file("exe".to_owned());
    for (fd, target) in descriptors(run.id() as i32) {
        assert_ne!(file(format!("fd/{fd}")), executable, "{fd} -> {target}");
    }
    stage.call(&["kill", &id, "KILL"]).ok();
    end(run);
}

#[test]
fn descriptors_that_were_asked_for_are_kept() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sh("cat <&3; cat <&4; ls /proc/self/fd | wc -l");
    let (one, two) = (stage.path("one"), stage.path("two"));
    std::fs::write(&one, "one\n").unwrap();
    std::fs::write(&two, "two\n").unwrap();
    for verb in ["run", "create"] {
        let id = stage.id();
        bundle.write(&id);
        let script = r#"exec 3<$1 4<$2 5</; shift 2; exec $capsid "$@""#;
        let (one, two) = (one.to_string_lossy(), two.to_string_lossy());
        let outcome = stage
            .shell(
                script,
                &[
                    &one,
                    &two,
                    verb,
                    "--preserve-fds",
                    "2",
                    "--bundle",
                    &bundle.folder.to_string_lossy(),
                    &id,
                ],
            )
            .ok();
        if verb == "run" {
            assert_eq!(outcome.stdout, "one\ntwo\n6\n");
        }
    }
}

#[test]
fn a_descriptor_to_preserve_that_is_not_open_is_an_error() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.args(&["/bin/true"]);
    let id = stage.id();
    bundle.write(&id);
    let script = r#"exec 3</ 4<&-; exec $capsid "$@""#;
    let folder = bundle.folder.to_string_lossy().into_owned();
    let container = stage.running();
    let missing = "unable to stat preserved-fd 4 (of 2)";
    for verb in ["run", "create"] {
        let words = [verb, "--preserve-fds", "2", "--bundle", &folder, &id];
        stage
            .shell(script, &words)
            .refuses(&[&format!("{verb} {id}: "), missing]);
    }
    let words = ["exec", "--preserve-fds", "2", &container.id, "true"];
    stage
        .shell(script, &words)
        .fails_with(255, &[&format!("exec in {}: ", container.id), missing]);
}

#[test]
fn s01_a_descriptor_is_no_way_to_the_hosts_folders() {
    let stage = stage!();
    assert!(Path::new("/etc/hostname").exists());
    let container = stage.running();
    for fd in 3..16 {
        let outcome = stage.shell(
            LEAKS,
            &[
                "exec",
                "--cwd",
                &format!("/proc/self/fd/{fd}"),
                &container.id,
                "ls",
                "../../../../..",
            ],
        );
        assert!(
            outcome.code != 0 || !outcome.stdout.contains("enclosure"),
            "{outcome}"
        );
    }
}

#[test]
fn an_init_that_waits_for_start_shows_nothing_of_its_creator() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps();
    let id = stage.id();
    bundle.write(&id);
    stage
        .shell(
            r#"SECRET=of-the-engine; export SECRET; exec $capsid "$@""#,
            &["create", "--bundle", &bundle.folder.to_string_lossy(), &id],
        )
        .ok();
    // Without CAP_SYS_PTRACE neither the environment nor the fifos of init are within reach.
    let look = "cat /proc/1/environ | tr '\\0' ' '; ls /proc/1/fd; : <>/proc/1/fd/3 && echo opened";
    let seen = stage.call(&["exec", &id, "/bin/sh", "-c", look]);
    assert!(!seen.stdout.contains("of-the-engine"), "{seen}");
    assert!(!seen.stdout.contains("opened"), "{seen}");
    stage.call(&["start", &id]).ok();
}

#[test]
fn s19_a_process_that_has_joined_holds_no_descriptor_of_the_hosts() {
    let stage = stage!();
    let container = stage.running();
    let capsid = format!(
        "{} --root {}",
        stage.runtime.display(),
        stage.state_root().display()
    );
    let mut command = std::process::Command::new("/bin/sh");
    command
        .args(["-c", LEAKS, "sh", "exec", &container.id, "/bin/true"])
        .env("capsid", capsid);
    let inside = std::fs::read_link(format!("/proc/{}/ns/mnt", container.pid())).unwrap();
    let mut held = Vec::new();
    // setsid(2) is the first that it does in the container's namespaces.
    crate::harness::tracer::entering(&command, nix::libc::SYS_setsid, |pid| {
        let pid = pid.as_raw();
        if std::fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|own| own == inside) {
            held.push(descriptors(pid));
        }
    });
    assert!(!held.is_empty(), "nobody was seen in the container");
    for (fd, target) in held.into_iter().flatten().filter(|(fd, _)| *fd > 2) {
        let fine =
            target.starts_with("socket:") || target.contains("pidfd") || target.ends_with("/tasks");
        assert!(fine, "{fd} -> {target}");
    }
}

#[test]
fn s02_a_descriptor_is_no_program() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    for fd in 3..16 {
        bundle.args(&[&format!("/proc/self/fd/{fd}"), "--version"]);
        let id = stage.id();
        bundle.write(&id);
        let script = r#"exec 3<$1 4<$1 9<$1; shift; exec $capsid "$@""#;
        let outcome = stage.shell(
            script,
            &[
                "/bin/true",
                "run",
                "--bundle",
                &bundle.folder.to_string_lossy(),
                &id,
            ],
        );
        assert_eq!(outcome.code, 1, "{outcome}");
        assert_eq!(outcome.stdout, "", "{outcome}");
    }
}

#[test]
fn f10_few_descriptors_are_enough_for_many_devices() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    for n in 0..700 {
        bundle.push(
            "/linux/devices",
            serde_json::json!({"path": format!("/dev/many/n{n}"), "type": "c", "major": 1, "minor": 3}),
        );
    }
    bundle.sh("ls /dev/many | wc -l");
    let id = stage.id();
    bundle.write(&id);
    let script = r#"ulimit -S -n $1; shift; exec $capsid "$@""#;
    let folder = bundle.folder.to_string_lossy();
    for (limit, enough) in [("64", true), ("16", false), ("5", false)] {
        let outcome = stage.shell(script, &[limit, "run", "--bundle", &folder, &id]);
        match outcome.code {
            0 => assert_eq!(outcome.line(), "700"),
            _ if enough => panic!("{outcome}"),
            _ => drop(outcome.refuses(&["too many open files"])),
        }
    }
}

#[test]
fn f10_a_table_without_room_for_the_cgroups_ends_a_create_instead_of_hanging_it() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps();
    let folder = bundle.folder.to_string_lossy().into_owned();
    let script = r#"ulimit -S -n $1; shift; exec timeout -s KILL 20 $capsid "$@""#;
    let mut named = 0;
    for limit in 4..40 {
        let id = stage.id();
        bundle.write(&id);
        let limit = limit.to_string();
        let words = [&limit, "create", "--bundle", &folder, &id];
        let outcome = stage.shell(script, &words.map(|word| word));
        match outcome.code {
            0 => drop(stage.call(&["delete", "--force", &id]).ok()),
            _ => {
                // What is too low for the caller itself is refused before there is a child.
                named += usize::from(outcome.stderr.contains("v1 cgroups (/linux/cgroupsPath)"));
                outcome.refuses(&["too many open files"]);
            }
        }
    }
    assert!(named > 0, "no limit was too low for the child alone");
}

/// The pid of the pidfd that somebody sends to a socket.
fn sent_pid(socket: &UnixListener) -> i32 {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    // Whoever sends has connected by now.
    socket.set_nonblocking(true).unwrap();
    let (stream, _) = socket.accept().expect("a connection");
    let mut bytes = [0; 64];
    let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 2]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags).unwrap();
    let sent: Vec<i32> = message
        .cmsgs()
        .unwrap()
        .flat_map(|it| match it {
            ControlMessageOwned::ScmRights(fds) => fds,
            _ => vec![],
        })
        .collect();
    let [fd] = sent[..] else {
        panic!("{sent:?}");
    };
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
    nix::unistd::close(fd).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    line.expect("a pidfd").trim().parse().unwrap()
}

#[test]
fn a_pidfd_goes_to_the_socket_that_an_option_or_an_annotation_names() {
    let stage = stage!();
    let path = |name: &str| stage.path(name).to_string_lossy().into_owned();
    let (asked, annotated) = (path("asked"), path("annotated"));
    let bind = |path: &str| UnixListener::bind(path).unwrap();
    let (option, annotation) = (bind(&asked), bind(&annotated));
    let mut bundle = stage.bundle();
    bundle.sleeps().set(
        "/annotations",
        serde_json::json!({"run.oci.pidfd_receiver": annotated}),
    );
    let container = stage.create(&bundle);
    assert_eq!(sent_pid(&annotation), container.pid());
    // An option counts more.
    let container = stage.create_with(&bundle, &["--pidfd-socket", &asked]);
    assert_eq!(sent_pid(&option), container.pid());
    container.start().ok();
    container
        .exec_with(&["--pidfd-socket", &asked], &["true"])
        .ok();
    assert_ne!(sent_pid(&option), container.pid());
    bundle.set(
        "/annotations",
        serde_json::json!({"run.oci.pidfd_receiver": "/no/socket"}),
    );
    let words = ["/no/socket", "(/annotations/run.oci.pidfd_receiver)"];
    stage.try_create(&bundle).refuses(&words);
}
