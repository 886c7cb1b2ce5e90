//! The probe itself, run where the tests run: its sections, its actions, and
//! that it prints an errno where something is missing.

mod scene;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result};
use capsid_rootfs_builder::probe;
use rustix::process::{Pid, Signal, kill_process};
use scene::{is_root, scratch, skip, told};
use serde_json::Value;

/// The one that the suite has built, else one built now.
fn program() -> Result<PathBuf> {
    match std::env::var_os("CAPSID_PROBE") {
        Some(path) => Ok(path.into()),
        None => Ok(probe::path()?.to_path_buf()),
    }
}

fn run(words: &[&str]) -> Result<Output> {
    Ok(Command::new(program()?).args(words).output()?)
}

/// The line that it prints, of which there is one.
fn seen(words: &[&str]) -> Result<Value> {
    let output = run(words)?;
    assert!(output.status.success(), "{words:?}: {}", told(&output));
    let text = String::from_utf8(output.stdout)?;
    assert_eq!(text.lines().count(), 1, "{text}");
    Ok(serde_json::from_str(&text)?)
}

#[test]
fn without_words_every_section_is_printed() -> Result<()> {
    let seen = seen(&[])?;
    let sections = [
        "args",
        "capabilities",
        "cgroup",
        "cgroup_files",
        "clocks",
        "cwd",
        "devices",
        "env",
        "fds",
        "ids",
        "keyring",
        "mounts",
        "namespaces",
        "network",
        "oom_score_adj",
        "personality",
        "pids",
        "process",
        "rlimits",
        "scheduling",
        "security",
        "status",
        "ttys",
        "umask",
        "uname",
        "userns",
    ];
    let names: Vec<&str> = seen
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| &**name)
        .collect();
    assert_eq!(names, sections);
    assert_eq!(
        seen["ids"]["uid"]["fs"],
        rustix::process::geteuid().as_raw()
    );
    assert_eq!(seen["network"]["lo"]["loopback"], true);
    let mounts = seen["mounts"].as_array().context("mounts")?;
    assert!(
        mounts
            .iter()
            .any(|row| row["mount_point"] == "/proc" && row["fstype"] == "proc")
    );
    Ok(())
}

#[test]
fn descriptors_are_listed_with_their_flags() -> Result<()> {
    let output = Command::new("sh")
        .args(["-c", "exec \"$0\" fds 7</dev/null"])
        .arg(program()?)
        .stdin(Stdio::null())
        .output()?;
    let seen: Value = serde_json::from_slice(&output.stdout)?;
    let rows = seen["fds"].as_array().context("fds")?;
    let row = rows
        .iter()
        .find(|row| row["fd"] == 7)
        .context("descriptor 7")?;
    assert_eq!(
        (&row["target"], &row["cloexec"]),
        (&"/dev/null".into(), &false.into())
    );
    Ok(())
}

#[test]
fn environment_and_words_keep_their_order() -> Result<()> {
    let mut command = Command::new("env");
    command
        .args(["-i", "B=2", "A=1"])
        .arg(program()?)
        .args(["env", "args", "umask"]);
    let seen: Value = serde_json::from_slice(&command.output()?.stdout)?;
    assert_eq!(seen["env"], serde_json::json!(["B=2", "A=1"]));
    assert_eq!(seen["args"][1], "env");
    assert!(seen["umask"].as_str().is_some_and(|mask| mask.len() == 4));
    Ok(())
}

#[test]
fn what_is_asked_for_is_answered_or_named_by_errno() -> Result<()> {
    let found = seen(&["stat", "/", "/dev/null", "/no/such"])?;
    assert_eq!(found["stat"]["/"]["type"], "dir");
    assert_eq!(found["stat"]["/"]["mount_root"], true);
    assert_eq!(found["stat"]["/dev/null"]["rdev"], "1:3");
    assert_eq!(found["stat"]["/no/such"]["error"], "ENOENT");
    let found = seen(&["sysctl", "kernel.ostype", "no.such"])?;
    assert_eq!(found["sysctl"]["kernel.ostype"], "Linux");
    assert_eq!(found["sysctl"]["no.such"]["error"], "ENOENT");
    let found = seen(&["read", "/proc/sys/kernel/ostype", "/"])?;
    assert_eq!(found["read"]["/proc/sys/kernel/ostype"], "Linux\n");
    assert_eq!(found["read"]["/"]["error"], "EISDIR");
    Ok(())
}

#[test]
fn it_ends_as_it_is_told() -> Result<()> {
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(run(&["exit", "42"])?.status.code(), Some(42));
    assert_eq!(run(&["signal", "9"])?.status.signal(), Some(9));
    assert_eq!(run(&["signal", "15"])?.status.signal(), Some(15));
    assert_eq!(seen(&["signal", "17"])?["survived"], 17);
    let refused = run(&["no-such-section"])?;
    assert_eq!(refused.status.code(), Some(2));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(text, "probe: no-such-section: no such section or action\n");
    Ok(())
}

/// Starts the probe and waits for its first line.
fn ready(word: &str) -> Result<(Child, BufReader<std::process::ChildStdout>)> {
    let mut command = Command::new(program()?);
    let mut child = command
        .arg(word)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut out = BufReader::new(child.stdout.take().context("stdout")?);
    let mut line = String::new();
    out.read_line(&mut line)?;
    assert_eq!(line, "{\"ready\":true}\n");
    Ok((child, out))
}

#[test]
fn it_waits_for_a_signal() -> Result<()> {
    let (mut child, mut out) = ready("sleep-until-term")?;
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("pid")?;
    kill_process(pid, Signal::TERM)?;
    let mut line = String::new();
    out.read_line(&mut line)?;
    assert_eq!(line, "{\"signal\":15}\n");
    assert!(child.wait()?.success());
    Ok(())
}

#[test]
fn it_waits_for_the_end_of_its_input() -> Result<()> {
    let (mut child, _out) = ready("hold")?;
    let mut stdin = child.stdin.take().context("stdin")?;
    stdin.write_all(b"still there")?;
    assert!(child.try_wait()?.is_none());
    drop(stdin);
    assert!(child.wait()?.success());
    Ok(())
}

#[test]
fn what_it_tries_is_told_by_errno() -> Result<()> {
    let directory = scratch();
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    assert_eq!(seen(&["write", &path("f"), "text"])?["write"], "ok");
    assert_eq!(fs::read_to_string(path("f"))?, "text");
    assert_eq!(seen(&["open", &path("f"), "rw"])?["open"], "ok");
    assert_eq!(seen(&["open", &path("g"), "r"])?["open"], "ENOENT");
    assert_eq!(seen(&["mkdir", &path("f")])?["mkdir"], "EEXIST");
    assert_eq!(seen(&["mknod", &path("p"), "p"])?["mknod"], "ok");
    assert_eq!(seen(&["alloc", "1000000"])?["alloc"], "ok");
    let threads = seen(&["threads", "3"])?;
    assert_eq!(
        (&threads["threads"], &threads["error"]),
        (&3.into(), &Value::Null)
    );
    Ok(())
}

#[test]
fn without_proc_the_other_sections_are_still_printed() -> Result<()> {
    if !is_root() {
        skip(
            "without_proc_the_other_sections_are_still_printed",
            "it needs root",
        );
        return Ok(());
    }
    let directory = scratch();
    fs::copy(program()?, directory.path().join("probe"))?;
    let output = Command::new("chroot")
        .arg(directory.path())
        .arg("/probe")
        .output()?;
    assert!(output.status.success(), "{}", told(&output));
    let seen: Value = serde_json::from_slice(&output.stdout)?;
    for section in [
        "mounts",
        "status",
        "capabilities",
        "namespaces",
        "devices",
        "fds",
    ] {
        assert_eq!(seen[section]["error"], "ENOENT", "{section}");
    }
    assert_eq!(seen["cwd"], "/");
    assert_eq!(seen["process"]["is_init"], false);
    assert_eq!(seen["ids"]["uid"]["fs"], Value::Null);
    Ok(())
}

#[test]
fn the_command_writes_a_static_program() -> Result<()> {
    let directory = scratch();
    let file = directory.path().join("probe");
    let output = Command::new(env!("CARGO_BIN_EXE_rootfs-builder"))
        .arg("probe")
        .arg(&file)
        .output()?;
    assert!(output.status.success(), "{}", told(&output));
    assert!(!needs_a_loader(&file)?);
    Ok(())
}

/// Whether the program headers have a PT_INTERP (elf(5)).
fn needs_a_loader(path: &Path) -> Result<bool> {
    let bytes = fs::read(path)?;
    Ok(goblin::elf::Elf::parse(&bytes)?.interpreter.is_some())
}
