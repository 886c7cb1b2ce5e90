//! The loop against real processes on real ptys. The host's side is pipes, or a pty whose
//! master the test holds.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::thread;

use nix::fcntl::OFlag;
use nix::pty::{OpenptyResult, openpty};
use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::signal::Signal;
use nix::unistd::pipe2;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::termios::{Winsize, tcsetwinsize};

use super::*;

/// A shell command with a pty of its own, and that pty's master.
#[expect(
    clippy::zombie_processes,
    reason = "the loop waits for it, by its pidfd"
)]
fn on_a_pty(script: &str) -> (Process, OwnedFd) {
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    let stdio = || Stdio::from(slave.try_clone().unwrap());
    let child = Command::new("sh")
        .args(["-c", script])
        .stdin(stdio())
        .stdout(stdio())
        .stderr(stdio())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    let process = Process {
        pid: pid.as_raw_nonzero().get(),
        pidfd: pidfd_open(pid, PidfdFlags::empty()).unwrap(),
        terminal: None,
    };
    (process, master)
}

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe2(OFlag::O_CLOEXEC).unwrap()
}

/// Runs the loop on this thread; `meanwhile` has the host's ends of the pipes.
fn attend_on_pipes<T: Send + 'static>(
    script: &str,
    size_of: Option<OwnedFd>,
    meanwhile: impl FnOnce(File, File) -> T + Send + 'static,
) -> (u8, T) {
    let (process, master) = on_a_pty(&format!("stty -onlcr; {script}"));
    let ((input, typed), (shown, output)) = (pipe(), pipe());
    let host = Host::new(input, output, size_of).unwrap();
    let proxy = Proxy::new(master, host).unwrap();
    let signals = Signals::catch().unwrap();
    let other = thread::spawn(move || meanwhile(typed.into(), shown.into()));
    let code = attend(&process, Some(proxy), &signals, Reap::ItsProcess, None).unwrap();
    (code, other.join().unwrap())
}

fn all_of(mut file: File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn everything_that_was_written_arrives_though_the_process_has_ended() {
    let (code, text) = attend_on_pipes("seq 1 20000; exit 3", None, |_typed, shown| all_of(shown));
    assert_eq!(code, 3);
    let expected: String = (1..=20000).map(|n| format!("{n}\n")).collect();
    assert_eq!(text, expected);
}

#[test]
fn piped_input_arrives_and_so_does_its_end() {
    for (input, expected) in [("one\ntwo\n", "one\ntwo\n"), ("no newline", "no newline")] {
        let script = "stty -echo; echo ready; cat";
        let (code, text) = attend_on_pipes(script, None, move |mut typed, mut shown| {
            // Typed earlier, it would be echoed.
            let mut ready = [0; 6];
            shown.read_exact(&mut ready).unwrap();
            assert_eq!(&ready, b"ready\n");
            typed.write_all(input.as_bytes()).unwrap();
            drop(typed);
            all_of(shown)
        });
        assert_eq!((code, text.as_str()), (0, expected));
    }
}

#[test]
fn the_end_also_reaches_a_program_that_reads_keys() {
    // What was typed before it took over may come as a NUL.
    let key = "dd bs=1 count=1 2>/dev/null | od -An -tu1";
    let script =
        format!("stty -icanon; echo ready; until [ $({key}) -eq 4 ]; do :; done; echo end");
    let (code, text) = attend_on_pipes(&script, None, |typed, shown| {
        drop(typed);
        all_of(shown)
    });
    assert_eq!(code, 0);
    // Typed and shown once more, where it took over between our look at the mode and the key.
    let text = text.strip_suffix("^D").unwrap_or(&text);
    assert!(text.ends_with("end\n"), "{text}");
}

#[test]
fn an_unread_output_holds_back_neither_signals_nor_the_end() {
    let this = pthread_self();
    let (code, ()) = attend_on_pipes("exec yes", None, move |_typed, mut shown| {
        shown.read_exact(&mut [0; 4096]).unwrap();
        pthread_kill(this, Signal::SIGTERM).unwrap();
    });
    assert_eq!(code, 128 + Signal::SIGTERM as u8);
}

#[test]
fn the_window_has_the_hosts_size_and_follows_it() {
    let OpenptyResult {
        master: _master,
        slave,
    } = openpty(None, None).unwrap();
    let size = |rows, columns| Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&slave, size(33, 99)).unwrap();
    let host_terminal = slave.try_clone().unwrap();
    let this = pthread_self();
    let script = "stty -echo; stty size; read line; stty size";
    let (code, sizes) = attend_on_pipes(script, Some(host_terminal), move |mut typed, shown| {
        let mut lines = BufReader::new(shown).lines();
        let before = lines.next().unwrap().unwrap();
        tcsetwinsize(&slave, size(44, 111)).unwrap();
        pthread_kill(this, Signal::SIGWINCH).unwrap();
        typed.write_all(b"\n").unwrap();
        (before, lines.next().unwrap().unwrap())
    });
    assert_eq!(code, 0);
    assert_eq!(sizes, ("33 99".to_owned(), "44 111".to_owned()));
}

#[test]
fn a_process_that_outlives_the_waited_for_one_does_not_keep_us() {
    let (code, text) = attend_on_pipes("yes & echo $! >&2; exit 0", None, |_typed, shown| {
        let mut lines = BufReader::new(shown);
        let mut pid = String::new();
        lines.read_line(&mut pid).unwrap();
        let mut rest = Vec::new();
        lines.read_to_end(&mut rest).unwrap();
        pid
    });
    // The pty has lost its master, so the leftover gets EIO or SIGHUP; make sure of it.
    if let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    assert_eq!(code, 0);
}
