//! What the tests of the builder share: loud skips, programs run to their end,
//! and a runc container whose cgroups are gone when the test is over.
#![allow(dead_code, reason = "each test file is a crate and uses its own part")]

pub mod archive;

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use capsid_rootfs_builder::{Recipe, Source};

/// Prints that a test cannot run, and appends its name and the reason to `$CAPSID_SKIPS`.
pub fn skip(test: &str, reason: &str) {
    println!("SKIP {test}: {reason}");
    let Some(list) = std::env::var_os("CAPSID_SKIPS") else {
        return;
    };
    let file = OpenOptions::new().append(true).create(true).open(list);
    let written = file.and_then(|mut file| writeln!(file, "{test}\t{reason}"));
    assert!(written.is_ok(), "$CAPSID_SKIPS: {written:?}");
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether the program can be started at all.
pub fn has(program: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok()
}

/// Runs a program to its end and returns its stdout; a failure fails the test.
pub fn stdout(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", told(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn told(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    format!("{}\n{out}\n{errors}", output.status)
}

/// A scratch directory that other users may enter.
pub fn scratch() -> tempfile::TempDir {
    scratch_in(&std::env::temp_dir())
}

pub fn scratch_in(parent: &Path) -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    let made = builder.prefix("capsid-test-rootfs-").tempdir_in(parent);
    let directory = made.unwrap_or_else(|error| panic!("a scratch directory: {error}"));
    chmod(directory.path(), 0o755);
    directory
}

pub fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    let set = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    assert!(set.is_ok(), "chmod {}: {set:?}", path.display());
}

/// A recipe for a command in a root filesystem that it may write to.
pub fn recipe(source: Source, args: &[&str]) -> Recipe {
    let mut recipe = Recipe::new(source);
    recipe.settings.args = Some(args.iter().map(|&arg| arg.to_owned()).collect());
    recipe
}

/// A cgroup path that no other test has; its cgroups go when it is dropped.
pub struct Cgroup(String);

impl Cgroup {
    pub fn new(test: &str) -> Self {
        Self(format!("/capsid-test-rootfs-{}/{test}", std::process::id()))
    }

    /// Writes the path into the bundle's configuration.
    pub fn enter(&self, bundle: &Path) {
        let file = bundle.join("config.json");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        config["linux"]["cgroupsPath"] = serde_json::json!(self.0);
        let written = fs::write(&file, config.to_string());
        assert!(written.is_ok(), "{}: {written:?}", file.display());
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let inside = Path::new(self.0.trim_start_matches('/'));
        let mut hierarchies = vec![PathBuf::from("/sys/fs/cgroup")];
        let listed = fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        hierarchies.extend(
            listed
                .map(|entry| entry.path())
                .filter(|path| path.is_dir()),
        );
        for hierarchy in hierarchies {
            // Most hierarchies have none; a parent that another test still
            // uses stays until that one is dropped.
            let own = hierarchy.join(inside);
            let _ = fs::remove_dir(&own);
            let _ = own.parent().map(fs::remove_dir);
        }
    }
}

/// `runc run` of a bundle, in a state directory and cgroups of its own.
pub fn runc_run(bundle: &Path, test: &str) -> Output {
    let cgroup = Cgroup::new(test);
    cgroup.enter(bundle);
    let state = scratch();
    let id = format!("capsid-test-rootfs-{}-{test}", std::process::id());
    let mut runc = Command::new("runc");
    runc.arg("--root")
        .arg(state.path())
        .args(["run", "--bundle"])
        .arg(bundle)
        .arg(id);
    let ran = runc.stdin(Stdio::null()).output();
    ran.unwrap_or_else(|error| panic!("runc: {error}"))
}

/// An ordinary user that no account file names.
pub const ORDINARY: u32 = 54_321;

/// A copy of a program where an ordinary user can run it: the original may lie
/// where only root can go.
pub fn copied(directory: &Path, program: &str) -> PathBuf {
    let copy = directory.join("program");
    let copied = fs::copy(program, &copy);
    assert!(copied.is_ok(), "{}: {copied:?}", copy.display());
    copy
}

/// A command of an ordinary user, who owns the directory.
pub fn as_ordinary_user(directory: &Path, program: impl AsRef<OsStr>) -> Command {
    use std::os::unix::process::CommandExt;
    let owned = std::os::unix::fs::chown(directory, Some(ORDINARY), Some(ORDINARY));
    assert!(owned.is_ok(), "{}: {owned:?}", directory.display());
    let mut command = Command::new(program);
    command
        .uid(ORDINARY)
        .gid(ORDINARY)
        .env_remove("XDG_RUNTIME_DIR")
        .env("HOME", directory);
    command
}
