//! The client of Docker or of Podman, which take the same words, and the containers that a behaviour made by it.

use std::cell::Cell;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::goods::ROOTFS;
use crate::harness::{Outcome, until, user};

pub const IMAGE: &str = "busybox:test";

/// Ends with status 5 on SIGTERM, and says when it can.
const SLEEPS: &str = "trap 'exit 5' TERM; echo ready; while :; do sleep 600 & wait $!; done";

pub struct Boxes {
    program: &'static str,
    /// The ordinary user's own engine, and not root's.
    by_user: bool,
    /// Who a container's root is outside.
    root: u32,
    /// The cgroup of the user's login, below which the user's systemd makes cgroups.
    login: Option<&'static str>,
    next: Cell<u32>,
}

impl Boxes {
    pub fn of(program: &'static str) -> Boxes {
        Boxes {
            program,
            by_user: false,
            root: 0,
            login: None,
            next: Cell::new(0),
        }
    }

    /// The ordinary user's, with a home and a runtime folder of their own.
    pub fn of_user(program: &'static str) -> Boxes {
        let boxes = Boxes {
            by_user: true,
            root: user::UID,
            ..Boxes::of(program)
        };
        boxes.signs_in();
        boxes
    }

    /// The ordinary user's, where a systemd of theirs manages their cgroups.
    pub fn of_login(program: &'static str, cgroup: &'static str) -> Boxes {
        std::fs::create_dir_all(cgroup).expect("a cgroup");
        user::owns(Path::new(cgroup));
        Boxes {
            login: Some(cgroup),
            ..Boxes::of_user(program)
        }
    }

    /// Root's engine, with the ids of its containers' root outside.
    pub fn of_root_as(program: &'static str, root: u32) -> Boxes {
        Boxes {
            root,
            ..Boxes::of(program)
        }
    }

    /// The user has their folders, as after a login.
    pub fn signs_in(&self) {
        for folder in [HOME, RUNTIME_FOLDER] {
            std::fs::create_dir_all(folder).expect("a folder");
            user::owns(Path::new(folder));
        }
    }

    /// Makes the image that every container is of.
    pub fn imports(&self) {
        let path = "ENV PATH=/usr/local/bin:/bin:/sbin:/usr/bin:/usr/sbin";
        self.call(&[
            "import",
            "--change",
            path,
            "--change",
            "CMD [\"sh\"]",
            ROOTFS,
            IMAGE,
        ])
        .ok();
    }

    pub fn is_podman(&self) -> bool {
        self.program == "podman"
    }

    pub fn is_users(&self) -> bool {
        self.by_user
    }

    /// A folder of the engine's user, in which a container's root may write.
    pub fn folder(&self, name: &str) -> String {
        let folder = format!("{}/{name}", if self.by_user { HOME } else { "/run" });
        std::fs::create_dir_all(&folder).expect("a folder");
        chown(&folder, Some(self.root), None).expect("chown");
        folder
    }

    /// A command of the engine's user.
    pub fn program(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(match (self.by_user, self.login) {
            (true, Some(_)) => "sh",
            (true, None) => "setpriv",
            (false, _) => name,
        });
        if let Some(cgroup) = self.login {
            let script = format!("echo $$ >{cgroup}/cgroup.procs && exec \"$@\"");
            command.args(["-c", &script, "sh", "setpriv"]);
        }
        if self.by_user {
            // As arguments, for they are all that goes on to a new terminal.
            let (home, runtime) = (
                format!("HOME={HOME}"),
                format!("XDG_RUNTIME_DIR={RUNTIME_FOLDER}"),
            );
            command
                .args(user::arguments())
                .args(["env", "-C", HOME, &home, &runtime]);
            if self.login.is_some() {
                command.arg(format!(
                    "DBUS_SESSION_BUS_ADDRESS=unix:path={RUNTIME_FOLDER}/bus"
                ));
            }
            command.arg(name);
        }
        command.args(args).stdin(Stdio::null());
        command
    }

    pub fn command(&self, args: &[&str]) -> Command {
        self.program(self.program, args)
    }

    pub fn call(&self, args: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(args))
    }

    pub fn name(&self) -> String {
        self.next.set(self.next.get() + 1);
        format!("box{}", self.next.get())
    }

    /// `run --rm OPTIONS image sh -c SCRIPT`.
    pub fn runs(&self, options: &[&str], script: &str) -> Outcome {
        self.call(&[&["run", "--rm"], options, &[IMAGE, "sh", "-c", script]].concat())
    }

    /// A container in the background.
    pub fn running(&self, options: &[&str], script: &str) -> Running<'_> {
        let name = self.name();
        self.call(
            &[
                &["run", "--detach", "--name", &name],
                options,
                &[IMAGE, "sh", "-c", script],
            ]
            .concat(),
        )
        .ok();
        Running { boxes: self, name }
    }

    /// One that has set its trap.
    pub fn sleeps(&self, options: &[&str]) -> Running<'_> {
        let running = self.running(options, SLEEPS);
        running.says("ready");
        running
    }
}

const HOME: &str = "/opt/home/user";
const RUNTIME_FOLDER: &str = "/run/user/54321";

/// It is removed when it goes.
pub struct Running<'a> {
    pub boxes: &'a Boxes,
    pub name: String,
}

impl Running<'_> {
    pub fn exec(&self, options: &[&str], words: &[&str]) -> Outcome {
        self.boxes
            .call(&[&["exec"], options, &[self.name.as_str()], words].concat())
    }

    pub fn call(&self, verb: &str, options: &[&str]) -> Outcome {
        self.boxes
            .call(&[&[verb], options, &[self.name.as_str()]].concat())
    }

    pub fn inspect(&self, template: &str) -> String {
        self.call("inspect", &["--format", template])
            .ok()
            .line()
            .to_owned()
    }

    pub fn becomes(&self, template: &str, value: &str) {
        until(&format!("{template} is {value}"), || {
            self.inspect(template) == value
        });
    }

    pub fn says(&self, text: &str) {
        until(&format!("the log has {text:?}"), || {
            self.call("logs", &[]).stdout.contains(text)
        });
    }

    pub fn waits(&self) -> String {
        self.call("wait", &[]).ok().line().to_owned()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let at_once: &[&str] = if self.boxes.is_podman() {
            &["--time", "0"]
        } else {
            &[]
        };
        self.call("rm", &[&["--force", "--volumes"], at_once].concat());
    }
}
