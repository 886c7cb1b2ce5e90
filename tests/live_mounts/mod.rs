//! Promise: a bind or a tmpfs comes into a running container and goes again, by paths that lead nowhere else,
//! and whatever happens it ends with the container.

mod hostile;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::harness::{Container, Outcome, Stage, machine, tracer, until, user};
use crate::{skip, stage};

#[track_caller]
fn add(container: &Container, args: &[&str], source: &Path, destination: &str) -> Outcome {
    let source = source.to_string_lossy();
    let words = [&container.id, &*source, destination];
    container
        .stage
        .call(&[&["mounts", "add"], args, &words].concat())
}

#[track_caller]
fn add_tmpfs(container: &Container, options: &str, destination: &str) -> Outcome {
    let options = ["--type", "tmpfs", "--options", options];
    add(container, &options, Path::new("scratch"), destination)
}

#[track_caller]
fn remove(container: &Container, args: &[&str], destination: &str) -> Outcome {
    let words = [&container.id, destination];
    container
        .stage
        .call(&[&["mounts", "remove"], args, &words].concat())
}

/// The destinations that `mounts list` shows.
#[track_caller]
fn listed(container: &Container) -> Vec<String> {
    let words = ["mounts", "list", "--format", "json", &container.id];
    let list = container.stage.call(&words).ok().json();
    let list = list.as_array().expect("a list").clone();
    list.iter()
        .map(|mount| mount["destination"].as_str().unwrap().to_owned())
        .collect()
}

/// A running container with a root filesystem of its own that it may write.
fn writable(stage: &Stage) -> Container<'_> {
    let mut bundle = stage.own_bundle();
    bundle.set("/root/readonly", json!(false)).sleeps();
    let container = stage.create(&bundle);
    container.start().ok();
    container
}

/// A folder with a file in it.
fn source(stage: &Stage) -> std::path::PathBuf {
    let folder = stage.path("source");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("file"), "text\n").unwrap();
    folder
}

fn host_mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap()
}

#[test]
fn a_folder_and_a_file_come_into_a_running_container_and_go_again() {
    let stage = stage!();
    let (before, source, container) = (host_mounts(), source(&stage), writable(&stage));
    add(&container, &[], &source, "/new/place").ok();
    add(&container, &["-o", "ro"], &source.join("file"), "/new/file").ok();
    let script = "cat /new/place/file /new/file; echo more >> /new/place/file; echo no 2>/dev/null >> /new/file || echo refused";
    assert_eq!(container.sh(script), "text\ntext\nrefused");
    assert_eq!(
        std::fs::read_to_string(source.join("file")).unwrap(),
        "text\nmore\n"
    );
    assert_eq!(listed(&container), ["/new/place", "/new/file"]);
    remove(&container, &[], "/new/place/").ok();
    assert_eq!(listed(&container), ["/new/file"]);
    assert_eq!(container.sh("ls /new/place; cat /new/file"), "text\nmore");
    remove(&container, &[], "/new/file").ok();
    assert_eq!(container.sh("wc -c < /new/file"), "0");
    assert_eq!(listed(&container), [""; 0]);
    assert_eq!(host_mounts(), before);
}

#[test]
fn a_tmpfs_has_the_options_that_were_asked_for() {
    let stage = stage!();
    let container = writable(&stage);
    add_tmpfs(&container, "size=64k,mode=1711,noexec", "/scratch").ok();
    assert_eq!(
        container.sh(
            "stat -c '%a %u' /scratch; grep ' /scratch ' /proc/self/mountinfo | cut -d' ' -f6,8-9"
        ),
        "1711 0\nrw,noexec,relatime tmpfs scratch"
    );
    let table = stage.call(&["mounts", "list", &container.id]).ok();
    assert!(
        table
            .stdout
            .contains("/scratch      tmpfs       scratch     size=64k,mode=1711,noexec"),
        "{table}"
    );
    add_tmpfs(&container, "sise=64k", "/other").refuses(&[
        "mounts add",
        "option sise=64k",
        "tmpfs",
    ]);
    add_tmpfs(&container, "sise=64k", "/far/away").refuses(&["option sise=64k"]);
    assert_eq!(container.sh("ls -d /other /far 2>/dev/null; true"), "");
}

#[test]
fn recursive_options_reach_what_is_mounted_below_the_source() {
    let stage = stage!();
    let (source, container) = (source(&stage), writable(&stage));
    std::fs::create_dir(source.join("below")).unwrap();
    let script = format!(
        "mount -t tmpfs below {0}/below && touch {0}/below/seen && \
         $capsid mounts add -o rbind,rro $1 {0} /data && $capsid mounts add $1 {0} /flat",
        source.display()
    );
    Outcome::of(stage.in_own_mounts(&script).arg(&container.id)).ok();
    let script = "ls /data/below /flat/below; touch /data/below/x 2>/dev/null || echo refused";
    assert_eq!(
        container.sh(script),
        "/data/below:\nseen\n\n/flat/below:\nrefused"
    );
    remove(&container, &[], "/data").refuses(&["/data/below", "--lazy", "busy"]);
    remove(&container, &["--lazy"], "/data").ok();
    assert_eq!(container.sh("grep -c ' /data' /proc/mounts; true"), "0");
}

#[test]
fn a_created_and_a_paused_container_take_mounts_and_a_stopped_one_does_not() {
    let stage = stage!();
    let source = source(&stage);
    let mut bundle = stage.bundle();
    bundle.sh("cat /mnt/file; trap 'exit 0' TERM; while :; do sleep 600 & wait $!; done");
    let container = stage.create(&bundle);
    add(&container, &[], &source, "/mnt").ok();
    container.start().ok();
    container.call("pause", &[]).ok();
    // The root is read-only, so that no place can be made in it.
    add(&container, &[], &source, "/no/such/place").refuses(&[
        "mounts add",
        "the place for it doesn't exist",
        "read-only file system",
    ]);
    add(&container, &[], &source, "/out").ok();
    remove(&container, &[], "/mnt").ok();
    container.call("resume", &[]).ok();
    assert_eq!(container.sh("ls /mnt /out"), "/mnt:\n\n/out:\nfile");
    container.ends_by(&["KILL"]);
    add(&container, &[], &source, "/mnt").refuses(&["mounts add", "container not running"]);
    remove(&container, &[], "/out").refuses(&["mounts remove", "container not running"]);
    stage
        .call(&["mounts", "list", "no-such-one"])
        .refuses(&["container does not exist"]);
}

#[test]
fn a_container_without_pivot_root_takes_mounts_and_one_without_a_mount_namespace_does_not() {
    let stage = stage!();
    let source = source(&stage);
    let mut bundle = stage.own_bundle();
    bundle.set("/root/readonly", json!(false)).sleeps();
    let container = stage.create_with(&bundle, &["--no-pivot"]);
    container.start().ok();
    let before = host_mounts();
    add(&container, &[], &source, "/data").ok();
    assert_eq!(container.sh("cat /data/file"), "text");
    remove(&container, &[], "/data").ok();
    assert_eq!(host_mounts(), before);
    bundle
        .without_namespace("mount")
        .set("/mounts", json!([]))
        .remove("/linux/maskedPaths")
        .remove("/linux/readonlyPaths");
    let container = stage.create(&bundle);
    add(&container, &[], &source, "/data")
        .refuses(&["mounts add", "no mount namespace of its own"]);
    assert_eq!(host_mounts(), before);
}

#[test]
fn only_what_was_added_can_be_removed() {
    let stage = stage!();
    let (source, container) = (source(&stage), writable(&stage));
    for place in ["/proc", "/dev/shm", "/", "/nothing"] {
        remove(&container, &["--lazy"], place).refuses(&[place, "only what `mounts add`"]);
    }
    add(&container, &[], &source, "/data").ok();
    // What the container has put over it is its own affair.
    let covered = container.sh("mkdir -p /cover && cat /proc/self/status | grep CapEff");
    assert!(covered.contains("CapEff"), "{covered}");
    nsenter(&container, "mount -t tmpfs cover /data");
    remove(&container, &[], "/data").refuses(&["other mounts lie on it", "busy"]);
    remove(&container, &["--lazy"], "/data").refuses(&["another mount lies over it"]);
    nsenter(&container, "umount /data");
    remove(&container, &[], "/data").ok();
    add(&container, &[], &source, "/data").ok();
    nsenter(&container, "umount /data && mount -t tmpfs mine /data");
    remove(&container, &["--lazy"], "/data").refuses(&["/data"]);
    assert_eq!(container.sh("grep -c 'mine /data' /proc/mounts"), "1");
    assert_eq!(listed(&container).len(), 0);
}

/// In the container's mount namespace, with all privileges: what its root could do with CAP_SYS_ADMIN.
#[track_caller]
fn nsenter(container: &Container, script: &str) {
    let pid = container.pid().to_string();
    let command = ["-t", &pid, "-m", "-r", "/bin/sh", "-c", script];
    Outcome::of(Command::new("nsenter").args(command)).ok();
}

#[test]
fn one_in_use_stays_unless_it_may_go_lazily() {
    let stage = stage!();
    let (source, container) = (source(&stage), writable(&stage));
    add(&container, &[], &source, "/data").ok();
    let inside = ["--detach", "--cwd", "/data"];
    container.exec_with(&inside, &["/bin/sleep", "600"]).ok();
    remove(&container, &[], "/data").refuses(&["mounts remove", "--lazy", "busy"]);
    assert_eq!(listed(&container), ["/data"]);
    remove(&container, &["--lazy"], "/data").ok();
    assert_eq!(container.sh("ls /data"), "");
    // One place, one mount of ours.
    add(&container, &[], &source, "/data").ok();
    add(&container, &[], &source, "/data").refuses(&["was added there before", "busy"]);
}

#[test]
fn in_a_user_namespace_what_is_made_belongs_to_its_root() {
    let stage = stage!();
    let source = source(&stage);
    // The container's root could not walk there itself.
    std::fs::set_permissions(
        &stage.folder,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let closed = stage.path("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::rename(&source, closed.join("source")).unwrap();
    std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut bundle = stage.own_bundle();
    bundle
        .set("/root/readonly", json!(false))
        .user_namespace(100_000, 65_536)
        .sleeps();
    let rootfs = bundle.folder.join("rootfs");
    Outcome::of(Command::new("chown").arg("100000:100000").arg(&rootfs)).ok();
    let container = stage.create(&bundle);
    container.start().ok();
    add(
        &container,
        &["-o", "ro"],
        &closed.join("source"),
        "/new/data",
    )
    .ok();
    add_tmpfs(&container, "mode=777,uid=5", "/new/scratch").ok();
    let script =
        "cat /new/data/file; stat -c '%u %g' /new /new/scratch; touch /new/scratch/x && echo made";
    assert_eq!(container.sh(script), "text\n0 0\n5 0\nmade");
    assert_eq!(rootfs.join("new").metadata().unwrap().uid(), 100_000);
    add_tmpfs(&container, "uid=70000", "/new/other").refuses(&["option uid=70000"]);
    remove(&container, &[], "/new/data").ok();
    remove(&container, &[], "/new/scratch").ok();
    assert_eq!(listed(&container).len(), 0);
}

#[test]
fn s24_the_hosts_sys_comes_into_a_user_namespace_with_its_cgroups_read_only() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    bundle.user_namespace(100_000, 65_536).sleeps();
    std::fs::create_dir(bundle.folder.join("rootfs/x")).unwrap();
    std::fs::create_dir(bundle.folder.join("rootfs/y")).unwrap();
    std::fs::create_dir(bundle.folder.join("rootfs/z")).unwrap();
    let container = stage.create(&bundle);
    container.start().ok();
    let options = |place: &str| {
        let fields =
            format!("/^[0-9]+ [0-9]+ [^ ]+ [^ ]+ \\/{place}/ {{ print substr($6, 1, 2) }}");
        container.sh(&format!("awk '{fields}' /proc/self/mountinfo"))
    };
    add(&container, &["-o", "rbind,ro"], "/sys".as_ref(), "/x").ok();
    assert!(options("x").lines().count() > 1, "{}", options("x"));
    assert!(
        options("x").lines().all(|seen| seen == "ro"),
        "{}",
        options("x")
    );
    add(&container, &["-o", "rbind,ro"], "/sys/fs/".as_ref(), "/y").ok();
    assert!(options("y").lines().count() > 1, "{}", options("y"));
    assert!(
        options("y").lines().all(|seen| seen == "ro"),
        "{}",
        options("y")
    );
    std::os::unix::fs::symlink("/sys/fs", stage.path("link")).unwrap();
    add(&container, &["-o", "rbind,ro"], &stage.path("link"), "/z").ok();
    assert!(options("z").lines().count() > 1, "{}", options("z"));
    assert!(
        options("z").lines().all(|seen| seen == "ro"),
        "{}",
        options("z")
    );
}

#[test]
fn an_ordinary_user_mounts_in_a_container_of_theirs() {
    let stage = stage!();
    if let Some(reason) = user::obstacle() {
        skip!("{reason}");
    }
    let source = source(&stage);
    let mut bundle = stage.own_bundle();
    bundle
        .set("/root/readonly", json!(false))
        .remove("/linux/cgroupsPath")
        .remove("/linux/resources")
        .sleeps();
    let stage = stage.of_user();
    let container = stage.create(&bundle);
    container.start().ok();
    add(&container, &["-o", "ro"], &source, "/data").ok();
    add_tmpfs(&container, "size=64k", "/scratch").ok();
    let script =
        "cat /data/file; touch /data/x 2>/dev/null || echo refused; touch /scratch/x && echo made";
    assert_eq!(container.sh(script), "text\nrefused\nmade");
    // What they can't read, they can't show.
    let secret = stage.path("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    add(&container, &[], &secret.join("x"), "/secret").refuses(&["permission denied"]);
    remove(&container, &[], "/data").ok();
    remove(&container, &[], "/scratch").ok();
    assert_eq!(container.sh("ls /data /scratch | grep -v :"), "");
}

#[test]
fn the_host_never_sees_what_a_container_mounts_and_the_container_what_the_host_does() {
    let stage = stage!();
    let source = source(&stage);
    std::fs::create_dir_all(source.join("later")).unwrap();
    let mut bundle = stage.own_bundle();
    bundle
        .set("/root/readonly", json!(false))
        .bind(&source, "/shared", &["rshared"])
        .set("/linux/rootfsPropagation", json!("shared"))
        .sleeps();
    let id = stage.id();
    bundle.write(&id);
    let script = format!(
        "mount --bind {0} {0} && mount --make-shared {0} && \
         $capsid create --bundle $1 $2 </dev/null && $capsid start $2 && \
         $capsid mounts add -o private $2 {0} /own && $capsid mounts add -o slave $2 {0} /slave && \
         mount -t tmpfs later {0}/later && touch {0}/later/seen && \
         $capsid exec $2 ls /slave/later /own/later && \
         ! $capsid mounts add -t tmpfs $2 none /shared/later/deeper && \
         grep -c deeper /proc/self/mountinfo; ls {0}/later; umount {0}/later; $capsid delete --force $2",
        source.display()
    );
    let outcome = Outcome::of(stage.in_own_mounts(&script).arg(&bundle.folder).arg(&id));
    assert_eq!(
        outcome.line(),
        "/own/later:\n\n/slave/later:\nseen\n0\nseen",
        "{outcome}"
    );
    assert!(outcome.stderr.contains("shares with the host"), "{outcome}");
}

#[test]
fn what_no_live_mount_can_be_is_refused_by_name() {
    let stage = stage!();
    let (source, container) = (source(&stage), writable(&stage));
    for (options, place, said) in [
        ("remount,ro", "/data", "can't be changed"),
        ("size=1m", "/data", "filesystem-specific"),
        ("ro", "/", "hide the whole container"),
        ("ro", "data", "must be absolute"),
    ] {
        add(&container, &["-o", options], &source, place).refuses(&[said]);
    }
    add(&container, &[], &source.join("missing"), "/data")
        .refuses(&["missing", "no such file or directory"]);
    add(&container, &[], &source, "/etc/passwd")
        .refuses(&["/etc/passwd", "nor a file on a directory"]);
    assert_eq!(listed(&container).len(), 0);
}

#[test]
fn f01_a_mounts_add_that_was_killed_leaves_a_container_that_takes_it_again() {
    let stage = stage!();
    let (source, container) = (source(&stage), writable(&stage));
    let command = |verb: &str, words: &[&str]| {
        let mut command = stage.capsid();
        command.args(["mounts", verb, &container.id]).args(words);
        command
    };
    let text = source.to_string_lossy().into_owned();
    let adding = || command("add", &[&text, "/data"]);
    let removing = || command("remove", &["/data"]);
    let calls = tracer::calls(&adding(), &stage.runtime);
    Outcome::of(&mut removing()).ok();
    // What matters happens at the end: the record, the attaching, the farewell.
    let slow = std::env::var_os("CAPSID_GUEST").is_some();
    let rounds = machine::count(
        "CAPSID_ROUNDS",
        if slow { 4 } else { 30 },
        calls / if slow { 20 } else { 1 },
    );
    for at in (calls.saturating_sub(rounds) + 1)..=calls {
        let ended = tracer::kill_at(&adding(), &stage.runtime, at);
        let when = format!("add, at call {at} of {calls}: {ended:?}");
        assert_eq!(container.status(), "running", "{when}");
        if Outcome::of(&mut adding()).code != 0 {
            assert_eq!(listed(&container), ["/data"], "{when}");
        }
        let at = at.min(calls - 1);
        let ended = tracer::kill_at(&removing(), &stage.runtime, at);
        let when = format!("remove, at call {at}: {ended:?}");
        // The killed runtime's child holds the mount until it notices.
        until(&when, || {
            let again = Outcome::of(&mut removing());
            again.code == 0 || again.stderr.contains("no such mount")
        });
        assert_eq!(
            container.sh("grep -c ' /data ' /proc/mounts; true"),
            "0",
            "{when}"
        );
    }
}

#[test]
fn live_mounts_end_with_the_container() {
    let stage = stage!();
    let (before, source, container) = (host_mounts(), source(&stage), writable(&stage));
    add(&container, &[], &source, "/data").ok();
    add_tmpfs(&container, "size=64k", "/scratch").ok();
    container.ends_by(&["KILL"]);
    container.delete().ok();
    assert!(stage.remains(&container.id).is_empty());
    assert_eq!(host_mounts(), before);
    assert!(source.join("file").exists());
}
