//! One of the runtimes that are compared, and what it makes of a bundle: the program's view of its
//! container, the exit status, and what is left in the root filesystem.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::Value;

use super::seen::Seen;
use crate::harness::terminal::{ConsoleSocket, Screen};
use crate::harness::{Bundle, Outcome, Stage, View, machine, until};

pub struct Peer {
    pub name: &'static str,
    program: PathBuf,
    state: PathBuf,
    pub view: View,
}

/// How the program is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `run` in the foreground: the process of the configuration is watched.
    Run,
    /// create, start, exec: the further process is watched.
    Exec,
    /// create, start: the process has a terminal, which a console socket takes.
    Terminal,
}

impl Peer {
    pub fn new(name: &'static str, stage: &Stage, view: View) -> Peer {
        let program = match name {
            "capsid" => machine::capsid().to_owned(),
            _ => PathBuf::from(name),
        };
        let state = stage.path(&format!("state-{name}"));
        std::fs::create_dir_all(&state).expect("a state root");
        Peer {
            name,
            program,
            state,
            view,
        }
    }

    pub fn command(&self) -> Command {
        let mut command = match self.view {
            View::Host => Command::new(&self.program),
            view => {
                let mut command = Command::new("nsenter");
                command
                    .arg(format!("--mount=/proc/{}/ns/mnt", room(view)))
                    .arg("--")
                    .arg(&self.program);
                command
            }
        };
        command
            .arg("--root")
            .arg(&self.state)
            // Not /dev/null: it would become the container user's under some runtimes.
            .stdin(nothing());
        command
    }

    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Outcome {
        Outcome::of(self.command().args(args))
    }

    /// What becomes of the bundle, in a root filesystem of its own.
    #[track_caller]
    pub fn see(&self, stage: &Stage, bundle: &Bundle, id: &str, way: Way) -> Seen {
        let rootfs = Rootfs::new(&bundle.folder.join("rootfs"));
        if bundle.config.pointer("/linux/uidMappings").is_some() {
            rootfs.open_to_all();
        }
        bundle.write(id);
        let outcome = match way {
            Way::Run => self.run(bundle, id),
            Way::Exec => self.exec(bundle, id),
            Way::Terminal => self.terminal(bundle, id),
        };
        if self.name != "capsid" {
            // What a peer's failure leaves is not ours to judge.
            for group in stage.remains(id) {
                let _ = std::fs::remove_dir(group);
            }
        }
        let mut seen = Seen::default();
        seen.add_line("exit", outcome.code.to_string());
        if outcome.code != 0 && outcome.stdout.is_empty() {
            seen.add_line("error", class(&outcome.stderr).to_owned());
        }
        // A refusal has a text, and no program to watch.
        if let Ok(probe) = serde_json::from_str::<Value>(&outcome.stdout) {
            seen.add_probe(&probe);
        } else {
            seen.add_line("stdout", outcome.stdout.clone());
        }
        if outcome.code == 0 || !outcome.stdout.is_empty() {
            seen.add_files(&rootfs.files());
        }
        seen.said = outcome.stderr;
        seen
    }

    fn run(&self, bundle: &Bundle, id: &str) -> Outcome {
        let folder = bundle.folder.to_string_lossy();
        let outcome = self.call(&["run", "--bundle", &folder, id]);
        if outcome.code != 0 {
            // What could not start leaves nothing, as far as the runtime lets it.
            self.call(&["delete", "--force", id]);
        }
        outcome
    }

    fn exec(&self, bundle: &Bundle, id: &str) -> Outcome {
        let folder = bundle.folder.to_string_lossy();
        let created = self.call(&["create", "--bundle", &folder, id]);
        if created.code != 0 {
            self.call(&["delete", "--force", id]);
            return created;
        }
        self.call(&["start", id]).ok();
        let outcome = self.call(&["exec", id, "/bin/probe"]);
        self.call(&["kill", id, "KILL"]).ok();
        self.await_stop(id);
        self.call(&["delete", id]).ok();
        outcome
    }

    fn terminal(&self, bundle: &Bundle, id: &str) -> Outcome {
        let folder = bundle.folder.to_string_lossy();
        let socket = ConsoleSocket::at(&bundle.folder.join(self.name));
        let path = socket.path.to_string_lossy();
        let mut outcome =
            self.call(&["create", "--bundle", &folder, "--console-socket", &path, id]);
        if outcome.code != 0 {
            self.call(&["delete", "--force", id]);
            return outcome;
        }
        let (master, _) = socket.receive();
        self.call(&["start", id]).ok();
        outcome.stdout = Screen::of(master).rest();
        self.await_stop(id);
        self.call(&["delete", id]).ok();
        outcome
    }

    #[track_caller]
    pub fn await_stop(&self, id: &str) {
        until(&format!("{} stops {id}", self.name), || {
            self.call(&["state", id]).ok().json()["status"] == "stopped"
        });
    }
}

/// What kind of refusal a text tells of: the kernel's own words, where it has them.
fn class(text: &str) -> &'static str {
    const WORDS: [&str; 9] = [
        "no such file or directory",
        "invalid argument",
        "not a directory",
        "operation not permitted",
        "permission denied",
        "no such device",
        "read-only file system",
        "device or resource busy",
        "too many",
    ];
    let text = text.to_lowercase();
    let said = WORDS
        .into_iter()
        .filter_map(|word| Some((text.rfind(word)?, word)));
    said.max().map_or("its own words", |(_, word)| word)
}

/// A process in the view, whose mount namespace all calls enter: making the view anew takes longer than
/// most containers. It ends with this process, whose end its standard input is.
pub fn room(view: View) -> u32 {
    static ROOMS: OnceLock<Child> = OnceLock::new();
    let child = ROOMS.get_or_init(|| {
        let mut child = view
            .command("/bin/sh".as_ref())
            .args(["-c", "echo ready; read end"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a view");
        let mut ready = [0; 6];
        let out = child.stdout.as_mut().expect("its stdout");
        out.read_exact(&mut ready).expect("ready");
        child
    });
    child.id()
}

/// An empty file, as standard input.
fn nothing() -> Stdio {
    let fd = memfd_create("stdin", MFdFlags::MFD_CLOEXEC).expect("memfd");
    File::from(fd).into()
}

/// A small root filesystem that one run may change; it goes with the value.
pub struct Rootfs(PathBuf);

impl Rootfs {
    pub fn new(path: &Path) -> Rootfs {
        for folder in [
            "bin",
            "etc",
            "proc",
            "sys",
            "dev",
            "tmp",
            "mnt",
            "root",
            "home/user",
            "var",
        ] {
            std::fs::create_dir_all(path.join(folder)).expect("a folder");
        }
        std::fs::copy(machine::probe(), path.join("bin/probe")).expect("the probe");
        for (link, target) in [
            ("link", "mnt"),
            ("absolute", "/etc/../var"),
            ("intoproc", "/proc/self/environ"),
            ("procdir", "tmp"),
            ("loop", "loop"),
        ] {
            std::os::unix::fs::symlink(target, path.join(link)).expect("a link");
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
        for (name, text) in [
            ("etc/passwd", passwd),
            ("etc/group", "root:x:0:\nuser:x:1000:\nmore:x:2000:user\n"),
            ("etc/text", "text\n"),
        ] {
            std::fs::write(path.join(name), text).expect(name);
        }
        Rootfs(path.to_owned())
    }

    /// Lets the root of a user namespace make mount points in what isn't its own.
    fn open_to_all(&self) {
        for folder in ["", "mnt", "etc", "root", "home", "home/user", "tmp"] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            std::fs::set_permissions(self.0.join(folder), mode).expect("a mode");
        }
    }

    /// Every file by its path, with type, mode and owner.
    fn files(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let Ok(meta) = path.symlink_metadata() else {
                    continue;
                };
                let kind = meta.file_type();
                if kind.is_dir() {
                    folders.push(path.clone());
                }
                let word = match () {
                    () if kind.is_dir() => "dir",
                    () if kind.is_symlink() => "symlink",
                    () if kind.is_file() => "file",
                    () if kind.is_char_device() || kind.is_block_device() => "device",
                    () => "other",
                };
                let name = path.strip_prefix(&self.0).unwrap_or(&path);
                files.insert(
                    name.display().to_string(),
                    format!(
                        "{word} {:04o} {}:{}",
                        meta.mode() & 0o7777,
                        meta.uid(),
                        meta.gid()
                    ),
                );
            }
        }
        files
    }
}

impl Drop for Rootfs {
    fn drop(&mut self) {
        // A mount that a runtime left below it would be found by the enclosure.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
