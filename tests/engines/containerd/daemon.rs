//! The daemon, and where it lies.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use crate::docs::snippet;
use crate::harness::{Outcome, until};
use crate::session::program;

pub const LOG: &str = "/run/containerd.log";

pub const SOCKET: &str = "/run/containerd/containerd.sock";

const IN_PLACE: &str = "/run/in-place";

/// The daemon, with docs/engines.md's configuration.
pub struct Daemon(Child);

impl Daemon {
    pub fn start(runtime: &str) -> Daemon {
        std::fs::create_dir_all("/etc/containerd").expect("a folder");
        std::fs::write(
            "/etc/containerd/config.toml",
            snippet("containerd", runtime),
        )
        .expect("config.toml");
        // Where whoever looks for runc finds this runtime.
        let (link, path) = (
            format!("{IN_PLACE}/runc"),
            std::env::var("PATH").expect("PATH"),
        );
        std::fs::create_dir_all(IN_PLACE).expect("a folder");
        let _ = std::fs::remove_file(&link);
        symlink(format!("/usr/local/bin/{runtime}"), link).expect("a link");
        let log = File::options()
            .create(true)
            .append(true)
            .open(LOG)
            .expect("a log");
        let errors = log.try_clone().expect("dup");
        let child = Command::new("containerd")
            .env("PATH", format!("{IN_PLACE}:{path}"))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("containerd");
        until("containerd answers", || {
            Outcome::of(&mut program("ctr", &["version"])).code == 0
        });
        Daemon(child)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn stop(&mut self) {
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }
}
