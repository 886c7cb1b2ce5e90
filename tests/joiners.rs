//! Promise S18 (CVE-2019-5736): a container that gets hold of the runtime's executable, while a process of the
//! runtime's is on its way into it, can't write it, whatever its capabilities.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::sys::stat::Mode;

use serde_json::json;

use crate::harness::{Container, Outcome, Stage, end, until};
use crate::stage;

/// Holds the executable of every process that comes, and opens it for writing when nobody executes it any more.
const ATTACK: &str = r#"echo begun > /out/begun; while [ ! -e /out/over ]; do for p in /proc/[0-9]*; do
    case $(readlink $p/exe) in *busybox*|'') continue ;; esac
    ( exec 8<$p/exe || exit; echo seen >> /out/seen; while [ ! -e /out/over ]; do sleep 0.05; done
      (echo overwritten >/proc/self/fd/8); echo tried >> /out/tried ) 2>/dev/null &
  done; done; sleep 621"#;

/// Copies an executable. By a program of its own: what this one holds open for writing, a child that another test
/// forks meanwhile holds as well, and it could not be executed.
fn put(from: &Path, to: &Path) {
    Outcome::of(
        std::process::Command::new("cp")
            .arg("--remove-destination")
            .arg(from)
            .arg(to),
    )
    .ok();
}

/// Lets those who hold an executable write it, and says what it is then.
fn strike(out: &Path, copy: &Path) -> Vec<u8> {
    let lines = |name: &str| {
        std::fs::read_to_string(out.join(name))
            .unwrap_or_default()
            .lines()
            .count()
    };
    std::fs::write(out.join("over"), "").unwrap();
    until("everybody who holds one has tried", || {
        lines("tried") >= lines("seen")
    });
    let after = std::fs::read(copy).unwrap();
    // What is left of the test needs it whole.
    std::fs::remove_file(copy).unwrap();
    put(crate::harness::machine::capsid(), copy);
    after
}

/// A runtime of its own, which may be spoilt, and a container that attacks it.
fn attacked<'a>(stage: &'a Stage, out: &Path, hooks: bool) -> Container<'a> {
    let mut bundle = stage.own_bundle();
    let script = PathBuf::from(bundle.config["root"]["path"].as_str().unwrap()).join("bin/evil");
    std::fs::write(&script, "#!/proc/self/exe\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bundle
        .bind(out, "/out", &[])
        .capabilities(&[
            "CAP_SYS_PTRACE",
            "CAP_SYS_ADMIN",
            "CAP_DAC_OVERRIDE",
            "CAP_KILL",
        ])
        .set("/process/noNewPrivileges", json!(false))
        .sh(ATTACK);
    if hooks {
        let hook = json!({"path": "/bin/true"});
        bundle.set("/hooks/startContainer", json!(vec![hook; 200]));
    }
    stage.create(&bundle)
}

/// A stage whose runtime is a copy, and the copy; what it holds; a folder that the container sees.
fn with_a_copy(mut stage: Stage) -> (Stage, PathBuf, Vec<u8>, PathBuf) {
    let copy = stage.path("capsid");
    put(&stage.runtime, &copy);
    let before = std::fs::read(&copy).unwrap();
    stage.runtime = copy.clone();
    let out = stage.path("out");
    std::fs::create_dir(&out).unwrap();
    (stage, copy, before, out)
}

#[test]
fn s18_the_executable_can_not_be_written_through_those_who_join() {
    let (stage, copy, before, out) = with_a_copy(stage!());
    let container = attacked(&stage, &out, false);
    container.start().ok();
    until("the attack has begun", || out.join("begun").exists());
    for round in 0..50 {
        match round % 2 {
            0 => drop(container.exec(&["/bin/true"])),
            _ => drop(container.exec(&["/bin/evil", "--help"])),
        }
    }
    let after = strike(&out, &copy);
    container.delete_force().ok();
    assert!(out.join("seen").exists(), "no joiner was ever seen");
    assert!(after == before, "the runtime's executable was written");
}

#[test]
fn s18_nor_through_the_hooks_of_start() {
    let (stage, copy, before, out) = with_a_copy(stage!());
    // The attacker is exec'd before the container is started.
    let container = attacked(&stage, &out, true);
    container
        .exec_with(&["--detach"], &["/bin/sh", "-c", ATTACK])
        .ok();
    until("the attack has begun", || out.join("begun").exists());
    container.start().ok();
    let after = strike(&out, &copy);
    container.delete_force().ok();
    assert!(out.join("seen").exists(), "no hook was ever seen");
    assert!(after == before, "the runtime's executable was written");
}

#[test]
fn s18_nor_through_a_live_mount() {
    // Nobody else executes this one meanwhile: busy, it could not be written either.
    let (stage, ..) = with_a_copy(stage!());
    let container = stage.running();
    let directory = stage.state_root().join(&container.id);
    let state = std::fs::File::open(&directory).unwrap();
    let lock = Flock::lock(state, FlockArg::LockExclusive).unwrap();
    let mut add = stage.capsid();
    add.args(["mounts", "add", &container.id, "/srv", "/mnt"]);
    add.stdout(Stdio::null()).stderr(Stdio::null());
    let add = add.spawn().unwrap();
    let pid = add.id().to_string();
    until("it waits for the container", || {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let mut links = files.flatten().flat_map(|file| file.path().read_link());
        links.any(|link| link == directory)
    });
    let path = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let seen = open(format!("/proc/{pid}/exe").as_str(), path, Mode::empty()).unwrap();
    drop(lock);
    end(add);
    // Busy while it is executed, and from now on only as safe as what was seen.
    let again = format!("/proc/self/fd/{}", seen.as_raw_fd());
    let written = open(
        again.as_str(),
        OFlag::O_WRONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    );
    assert!(
        matches!(written, Err(Errno::EROFS | Errno::EPERM)),
        "{written:?}"
    );
}
