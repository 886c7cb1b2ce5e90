//! Promise: what a service manager gives and wants to know passes through: sockets by LISTEN_FDS, and a container's
//! READY=1 by NOTIFY_SOCKET, with the process that it is.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command};

use serde_json::json;

use crate::harness::{Bundle, Outcome, Stage, end, until};
use crate::stage;

/// A service manager's end of NOTIFY_SOCKET.
struct Manager {
    socket: UnixDatagram,
    path: String,
}

impl Manager {
    fn new(stage: &Stage) -> Manager {
        let path = stage.path("manager");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(crate::harness::outcome::LIMIT))
            .unwrap();
        let path = path.to_string_lossy().into_owned();
        Manager { socket, path }
    }

    /// The next message; a descriptor that comes with it is closed, as a barrier wants.
    fn hears(&self) -> String {
        use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};
        let mut bytes = [0; 4096];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [std::io::IoSliceMut::new(&mut bytes)];
        let receive = || recvmsg(&self.socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC);
        let message = rustix::io::retry_on_intr(receive).expect("a message");
        let fds = control.drain().count();
        let text = String::from_utf8_lossy(&bytes[..message.bytes]).into_owned();
        match fds {
            0 => text,
            _ => format!("{text} with a descriptor"),
        }
    }
}

/// A container whose program says this to its NOTIFY_SOCKET, when there is one, and then sleeps.
fn saying(stage: &Stage, said: &str) -> Bundle {
    let mut bundle = stage.bundle();
    let probe = format!(
        "[ -z \"$NOTIFY_SOCKET\" ] || /bin/probe say \"$NOTIFY_SOCKET\" '{said}'; exec sleep 619"
    );
    bundle.sh(&probe);
    bundle
}

fn with(manager: &Manager, mut command: Command) -> Child {
    command.env("NOTIFY_SOCKET", &manager.path).spawn().unwrap()
}

#[test]
fn start_waits_for_the_containers_readiness_and_passes_it_on() {
    let stage = stage!();
    let manager = Manager::new(&stage);
    let bundle = saying(&stage, "STATUS=up\nMAINPID=1\nREADY=1\nFDSTORE=1");
    let (id, create) = stage.command(&["create"], &bundle);
    assert_eq!(end(with(&manager, create)), Some(0));
    let pid = stage.call(&["state", &id]).ok().json()["pid"].clone();
    let mut start = stage.capsid();
    start.args(["start", &id]);
    let starting = with(&manager, start);
    assert_eq!(manager.hears(), "STATUS=up\nREADY=1");
    assert_eq!(manager.hears(), format!("MAINPID={pid}"));
    assert_eq!(manager.hears(), "BARRIER=1 with a descriptor");
    assert_eq!(end(starting), Some(0));
}

#[test]
fn run_passes_on_what_the_container_says_in_the_foreground_and_detached() {
    let stage = stage!();
    for options in [&["--detach"][..], &[]] {
        let manager = Manager::new(&stage);
        let bundle = saying(&stage, "READY=1");
        let (id, run) = stage.command(&[&["run"], options].concat(), &bundle);
        let running = with(&manager, run);
        assert_eq!(manager.hears(), "READY=1");
        assert!(manager.hears().starts_with("MAINPID="));
        assert_eq!(manager.hears(), "BARRIER=1 with a descriptor");
        if options.is_empty() {
            stage.call(&["kill", &id, "KILL"]).ok();
            assert_eq!(end(running), Some(137));
        } else {
            assert_eq!(end(running), Some(0));
        }
        stage.call(&["delete", "--force", &id]).ok();
        std::fs::remove_file(&manager.path).unwrap();
    }
}

#[test]
fn a_container_that_ends_without_being_ready_keeps_nobody_waiting() {
    let stage = stage!();
    let manager = Manager::new(&stage);
    let mut bundle = stage.bundle();
    bundle.args(&["/bin/true"]);
    let (_, run) = stage.command(&["run", "--detach"], &bundle);
    assert_eq!(end(with(&manager, run)), Some(0));
    assert!(manager.socket.as_raw_fd() >= 0);
}

#[test]
fn a_service_manager_that_goes_away_is_no_failure_of_a_container_that_runs() {
    let stage = stage!();
    let out = stage.path("out");
    std::fs::create_dir(&out).unwrap();
    let go = out.join("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for verb in ["run", "start"] {
        let manager = Manager::new(&stage);
        let mut bundle = stage.bundle();
        bundle
            .sh("read go </out/go; /bin/probe say \"$NOTIFY_SOCKET\" READY=1; exec sleep 619")
            .bind(&out, "/out", &[]);
        let id = stage.id();
        bundle.write(&id);
        let mut made = stage.capsid();
        match verb {
            "run" => made.args(["run", "--detach"]),
            _ => made.arg("create"),
        };
        made.arg("--bundle").arg(&bundle.folder).arg(&id);
        let mut child = with(&manager, made);
        if verb == "start" {
            assert_eq!(end(child), Some(0));
            let mut start = stage.capsid();
            start.args(["start", &id]);
            child = with(&manager, start);
        }
        let mut said = None;
        until("the program waits", || {
            let mut open = std::fs::OpenOptions::new();
            let open = open.write(true).custom_flags(nix::libc::O_NONBLOCK);
            said = open.open(&go).ok();
            said.is_some()
        });
        std::fs::remove_file(&manager.path).unwrap();
        drop(manager);
        said.unwrap().write_all(b"on\n").unwrap();
        assert_eq!(end(child), Some(0), "{verb}");
        let state = stage.call(&["state", &id]).ok();
        assert_eq!(state.json()["status"], "running", "{verb}");
        stage.call(&["delete", "--force", &id]).ok();
    }
}

#[test]
fn sockets_of_a_service_manager_come_first_and_are_named() {
    let stage = stage!();
    let (one, two) = (stage.path("one"), stage.path("two"));
    std::fs::write(&one, "one\n").unwrap();
    std::fs::write(&two, "two\n").unwrap();
    let mut bundle = stage.bundle();
    bundle
        .sh("cat <&3; cat <&4; echo $LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES; ls /proc/self/fd | wc -l")
        .push("/process/env", json!("LISTEN_FDS=of the config"));
    let id = stage.id();
    bundle.write(&id);
    let script = r#"exec 3<$1 4<$2 5</; shift 2; export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=web; exec $capsid "$@""#;
    let arguments = [
        &*one.to_string_lossy(),
        &*two.to_string_lossy(),
        "run",
        "--preserve-fds",
        "1",
        "--bundle",
        &bundle.folder.to_string_lossy(),
        &id,
    ];
    stage
        .shell(script, &arguments)
        .ok()
        .prints("one\ntwo\n1 1 web\n6\n");
    // Those of another process are not ours.
    let id = stage.id();
    bundle.sh("echo [$LISTEN_FDS]").write(&id);
    let script = script.replace("$$", "1");
    let arguments = [
        &*one.to_string_lossy(),
        &*two.to_string_lossy(),
        "run",
        "--bundle",
        &bundle.folder.to_string_lossy(),
        &id,
    ];
    stage
        .shell(&script, &arguments)
        .ok()
        .prints("[of the config]");
}

#[test]
fn more_descriptors_than_can_be_are_refused_beside_those_of_a_service_manager() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.args(&["/bin/true"]);
    let id = stage.id();
    bundle.write(&id);
    let script = r#"exec 3</; export LISTEN_FDS=1 LISTEN_PID=$$
        exec $capsid run --preserve-fds 4294967295 --bundle $1 $2"#;
    stage
        .shell(script, &[&bundle.folder.to_string_lossy(), &id])
        .refuses(&["unable to stat preserved-fd 4 (of 4294967295)"]);
}

#[test]
fn a_service_manager_that_is_not_there_is_named_before_anything_runs() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    let out = stage.path("out");
    std::fs::create_dir(&out).unwrap();
    bundle.sh("echo ran > /out/marker").bind(&out, "/out", &[]);
    let id = stage.id();
    bundle.write(&id);
    let nowhere = stage.path("nobody").to_string_lossy().into_owned();
    let call = |words: &[&str]| {
        let mut command = stage.capsid();
        command.env("NOTIFY_SOCKET", &nowhere).args(words);
        Outcome::of(&mut command)
    };
    let folder = bundle.folder.to_string_lossy().into_owned();
    let words = ["/nobody: nobody listens there: unset NOTIFY_SOCKET: no such file or directory"];
    for run in [&["run", "--bundle"][..], &["run", "--detach", "--bundle"]] {
        call(&[run, &[&folder, &id]].concat()).refuses(&words);
        assert!(!out.join("marker").exists(), "{run:?}: it ran");
        assert_eq!(
            stage.call(&["list", "--quiet"]).ok().stdout,
            "",
            "{run:?}: it is left"
        );
    }
    call(&["create", "--bundle", &folder, &id]).ok();
    call(&["start", &id]).refuses(&words);
    assert_eq!(stage.call(&["state", &id]).ok().json()["status"], "created");
}
