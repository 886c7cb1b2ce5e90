//! The place of one test: a scratch folder on a tmpfs, a state root in it, and every container that the
//! test made. When it goes, all of that goes, and it says so if anything of a container is left.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use capsid_rootfs_builder::{Addition, Recipe, Source};

use super::machine::{self, Cgroups};
use super::{Bundle, Container, Outcome, View, user};

pub struct Stage {
    pub name: &'static str,
    pub folder: PathBuf,
    pub view: View,
    /// The binary under test; a differential test puts a peer here.
    pub runtime: PathBuf,
    /// Who calls the runtime: the ordinary user, or root.
    by_user: bool,
    ids: Mutex<Vec<String>>,
}

impl Stage {
    /// Err is the reason to skip.
    pub fn new(name: &'static str, view: View) -> Result<Stage, String> {
        if let Some(reason) = machine::obstacle().or_else(|| view.obstacle()) {
            return Err(reason.to_owned());
        }
        if !runs() {
            return Err(format!("{} has no `run` yet", machine::capsid().display()));
        }
        Ok(Stage::with(name, view, machine::capsid().to_owned()))
    }

    pub fn with(name: &'static str, view: View, runtime: PathBuf) -> Stage {
        let folder = PathBuf::from(format!("/tmp/t{}", number()));
        std::fs::create_dir_all(folder.join("state")).expect("a scratch folder");
        Stage {
            name,
            folder,
            view,
            runtime,
            by_user: false,
            ids: Mutex::default(),
        }
    }

    /// The same stage with the ordinary user as the caller: it is theirs, and so is the binary's copy.
    pub fn of_user(mut self) -> Stage {
        user::owns(&self.folder);
        self.runtime = machine::readable_capsid().to_owned();
        self.by_user = true;
        self
    }

    pub fn state_root(&self) -> PathBuf {
        self.folder.join("state")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The runtime, bare: no option, no stdin.
    pub fn bare(&self) -> Command {
        let mut command = match self.by_user {
            false => self.view.command(self.runtime.as_os_str()),
            true => self.view.command("setpriv".as_ref()),
        };
        if self.by_user {
            command.args(user::arguments()).arg(&self.runtime);
            command
                .env("HOME", "/")
                .env("XDG_RUNTIME_DIR", "/run/user/54321");
        }
        command.stdin(Stdio::null());
        command
    }

    /// The runtime with this stage's state root; the verb comes next.
    pub fn capsid(&self) -> Command {
        let mut command = self.bare();
        command.arg("--root").arg(self.state_root());
        if machine::systemd() {
            command.arg("--systemd-cgroup");
        }
        command
    }

    /// Runs the runtime with these arguments after `--root`.
    #[track_caller]
    pub fn call<S: AsRef<OsStr>>(&self, args: &[S]) -> Outcome {
        Outcome::of(self.capsid().args(args))
    }

    /// A shell in the stage's view; `$capsid` is the runtime with its state root.
    #[track_caller]
    pub fn shell(&self, script: &str, args: &[&str]) -> Outcome {
        let mut command = self.view.command("/bin/sh".as_ref());
        let capsid = format!(
            "{} --root {}",
            self.runtime.display(),
            self.state_root().display()
        );
        Outcome::of(
            command
                .args(["-c", script, "sh"])
                .args(args)
                .env("capsid", capsid)
                .stdin(Stdio::null()),
        )
    }

    /// The same in a mount namespace of its own; the script's arguments come next.
    pub fn in_own_mounts(&self, script: &str) -> Command {
        let (runtime, state) = (self.runtime.display(), self.state_root());
        let mut command = machine::in_own_mounts(script);
        command.env("capsid", format!("{runtime} --root {}", state.display()));
        command
    }

    /// An id that no other test uses; what has it is removed when the stage goes.
    pub fn id(&self) -> String {
        let short = self.name.rsplit("::").next().unwrap_or("test");
        let id = format!("{short}-{}", number());
        self.adopt(&id);
        id
    }

    /// An id chosen by the test itself.
    pub fn adopt(&self, id: &str) {
        self.ids.lock().expect("ids").push(id.to_owned());
    }

    /// Where the cgroup lies that a bundle gives the container `id`.
    pub fn cgroups_path(id: &str) -> String {
        match machine::systemd() {
            true => format!("/system.slice/test-{id}.scope"),
            false => format!("{}/{id}", machine::enclosure().unwrap_or_default()),
        }
    }

    /// A bundle of the busybox root filesystem that all tests share and none may change.
    pub fn bundle(&self) -> Bundle {
        Bundle::new(&self.folder.join(format!("bundle{}", number())), busybox())
    }

    /// The same without what only root may ask for: a cgroup of a certain place.
    pub fn plain_bundle(&self) -> Bundle {
        let mut bundle = self.bundle();
        bundle.remove("/linux/cgroupsPath");
        bundle
    }

    /// A bundle with a copy of the root filesystem, to be changed.
    pub fn own_bundle(&self) -> Bundle {
        let folder = self.folder.join(format!("bundle{}", number()));
        std::fs::create_dir_all(&folder).expect("a bundle folder");
        let rootfs = folder.join("rootfs");
        Outcome::of(Command::new("cp").arg("-a").arg(busybox()).arg(&rootfs)).ok();
        Bundle::new(&folder, &rootfs)
    }

    /// `run` in the foreground, to its end.
    #[track_caller]
    pub fn run(&self, bundle: &Bundle) -> Outcome {
        self.run_with(bundle, &[])
    }

    #[track_caller]
    pub fn run_with(&self, bundle: &Bundle, options: &[&str]) -> Outcome {
        let (_, mut command) = self.foreground_with(bundle, options);
        Outcome::of(&mut command)
    }

    /// The same in a mount namespace of its own, where a script has mounted what it may at $SOURCES.
    #[track_caller]
    pub fn run_after(&self, bundle: &Bundle, before: &str, sources: &Path) -> Outcome {
        let id = self.id();
        bundle.write(&id);
        let script = format!("{before}\nexec $capsid run --bundle \"$1\" \"$2\"");
        let folder = bundle.folder.to_string_lossy().into_owned();
        let outer = "exec unshare -m --propagation private sh -c \"$3\" sh \"$1\" \"$2\"";
        let outer = format!("export SOURCES={}; {outer}", sources.display());
        self.shell(&outer, &[&folder, &id, &script])
    }

    /// The same as [`Stage::run`] for whoever starts it otherwise, with the id.
    pub fn foreground(&self, bundle: &Bundle) -> (String, Command) {
        self.foreground_with(bundle, &[])
    }

    fn foreground_with(&self, bundle: &Bundle, options: &[&str]) -> (String, Command) {
        self.command(&[&["run"], options].concat(), bundle)
    }

    /// The words of a command up to the bundle and an id of its own, which comes back.
    pub fn command(&self, words: &[&str], bundle: &Bundle) -> (String, Command) {
        let id = self.id();
        bundle.write(&id);
        let mut command = self.capsid();
        command
            .args(words)
            .arg("--bundle")
            .arg(&bundle.folder)
            .arg(&id);
        (id, command)
    }

    /// What a shell script in a container prints, the container having been run in the foreground.
    #[track_caller]
    pub fn prints(&self, bundle: &mut Bundle, script: &str) -> String {
        bundle.sh(script);
        self.run(bundle).ok().line().to_owned()
    }

    #[track_caller]
    pub fn create(&self, bundle: &Bundle) -> Container<'_> {
        self.create_with(bundle, &[])
    }

    #[track_caller]
    pub fn create_with(&self, bundle: &Bundle, options: &[&str]) -> Container<'_> {
        let (id, outcome) = self.try_create_with(bundle, options);
        outcome.ok();
        Container { id, stage: self }
    }

    #[track_caller]
    pub fn try_create(&self, bundle: &Bundle) -> Outcome {
        self.try_create_with(bundle, &[]).1
    }

    #[track_caller]
    pub fn try_create_with(&self, bundle: &Bundle, options: &[&str]) -> (String, Outcome) {
        let (id, mut command) = self.command(&[&["create"], options].concat(), bundle);
        (id, Outcome::of(&mut command))
    }

    /// A container that has no cgroup of its own, and waits for its start.
    #[track_caller]
    pub fn without_cgroup(&self) -> Container<'_> {
        let mut bundle = self.bundle();
        bundle
            .sleeps()
            .remove("/linux/resources")
            .remove("/linux/cgroupsPath");
        let words = ["--cgroup-manager", "disabled", "create"];
        let (id, mut command) = self.command(&words, &bundle);
        Outcome::of(&mut command).ok();
        Container { id, stage: self }
    }

    /// A container that runs until it is killed, and takes SIGTERM with status 0.
    #[track_caller]
    pub fn running(&self) -> Container<'_> {
        let mut bundle = self.bundle();
        bundle.sleeps();
        let container = self.create(&bundle);
        container.start().ok();
        container
    }

    /// What is left of the container `id`: state, cgroups.
    pub fn remains(&self, id: &str) -> Vec<PathBuf> {
        let mut places = vec![self.state_root().join(id)];
        let path = Stage::cgroups_path(id);
        if machine::cgroups() == Cgroups::V2 {
            places.push(format!("/sys/fs/cgroup{path}").into());
        } else if let Ok(hierarchies) = std::fs::read_dir("/sys/fs/cgroup") {
            places.extend(
                hierarchies
                    .flatten()
                    .map(|h| PathBuf::from(format!("{}{path}", h.path().display()))),
            );
        }
        places.retain(|place| place.exists());
        places
    }

    fn clear(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for id in self.ids.lock().map(|ids| ids.clone()).unwrap_or_default() {
            let outcome = self.call(&["delete", "--force", &id]);
            if outcome.code != 0 {
                complaints.push(format!("delete --force {id}: {}", outcome.stderr.trim()));
            }
            complaints.extend(
                self.remains(&id)
                    .iter()
                    .map(|place| format!("left: {}", place.display())),
            );
        }
        complaints
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let complaints = self.clear();
        let removed = std::fs::remove_dir_all(&self.folder);
        if std::thread::panicking() {
            return;
        }
        assert!(complaints.is_empty(), "{}: {complaints:#?}", self.name);
        removed.unwrap_or_else(|e| panic!("{}: {e}", self.folder.display()));
    }
}

/// The shared root filesystem: rootfs-builder's busybox with the probe, a user of id 1000, and places to mount on.
pub fn busybox() -> &'static Path {
    static ROOTFS: OnceLock<PathBuf> = OnceLock::new();
    ROOTFS.get_or_init(|| {
        let rootfs = machine::shared().join(format!("busybox-{}", std::process::id()));
        let mut recipe = Recipe::new(Source::Busybox);
        recipe.additions = vec![Addition {
            file: machine::probe(),
            path: "/bin/probe".into(),
        }];
        recipe.rootfs(&rootfs).expect("a root filesystem");
        for folder in ["mnt", "out", "home/user"] {
            std::fs::create_dir_all(rootfs.join(folder)).expect("a folder");
        }
        let user = "user:x:1000:1000::/home/user:/bin/sh\n";
        std::fs::OpenOptions::new()
            .append(true)
            .open(rootfs.join("etc/passwd"))
            .and_then(|mut f| f.write_all(user.as_bytes()))
            .expect("passwd");
        // A copy by a program of its own: what this one has held open for writing, a child that
        // another test forks meanwhile holds as well, and it could not be executed.
        let copy = rootfs.with_extension("copy");
        let copied = Command::new("cp").arg("-a").args([&rootfs, &copy]).status();
        assert!(
            copied.expect("cp").success(),
            "a copy of the root filesystem"
        );
        std::fs::remove_dir_all(&rootfs).expect("the original");
        copy
    })
}

/// Whether the binary runs containers at all; until its command line has landed, tests skip.
fn runs() -> bool {
    static RUNS: OnceLock<bool> = OnceLock::new();
    *RUNS.get_or_init(|| {
        Outcome::of(
            Command::new(machine::capsid())
                .args(["run", "--help"])
                .stdin(Stdio::null()),
        )
        .code
            == 0
    })
}

fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
