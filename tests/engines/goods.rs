//! What every session finds below /usr/local: the runtimes under their names, this very program, and the image
//! of the tests as a root filesystem's tar and as an OCI layout's. Nothing comes from the network.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Outcome, machine, stage};
use crate::place;

pub struct Goods {
    /// What becomes /usr/local.
    pub local: PathBuf,
}

pub const ROOTFS: &str = "/usr/local/share/rootfs.tar";
pub const IMAGE: &str = "/usr/local/share/image.tar";

pub fn prepare() -> Goods {
    let local = machine::shared().join("engines");
    let (bin, share) = (local.join("bin"), local.join("share"));
    for folder in [&bin, &share] {
        std::fs::create_dir_all(folder).expect("a folder");
    }
    std::fs::copy(machine::capsid(), bin.join("capsid")).expect("a copy of capsid");
    let own = std::env::current_exe().expect("the path of this program");
    std::fs::copy(own, bin.join("engines")).expect("a copy of this program");
    symlink("/usr/sbin/runc", bin.join("runc")).expect("a link");
    symlink("/usr/bin/crun", bin.join("crun")).expect("a link");

    let tar = |of: &Path, name: &str| {
        Outcome::of(
            Command::new("tar")
                .arg("-C")
                .arg(of)
                .arg("-cf")
                .arg(share.join(name))
                .arg("."),
        )
        .ok();
    };
    tar(stage::busybox(), "rootfs.tar");
    if place::is_systemds() || !Path::new("/usr/bin/umoci").exists() {
        return Goods { local }; // Nobody there needs the layout; who needs it elsewhere is skipped.
    }
    let layout = local.join("layout");
    let image = format!("{}:1", layout.display());
    for words in [
        vec!["init", "--layout", &layout.display().to_string()],
        vec!["new", "--image", &image],
        vec![
            "insert",
            "--image",
            &image,
            &stage::busybox().display().to_string(),
            "/",
        ],
        vec![
            "config",
            "--image",
            &image,
            "--config.cmd",
            "/bin/sh",
            "--config.env",
            "PATH=/usr/local/bin:/bin:/sbin:/usr/bin:/usr/sbin",
        ],
        // A pod's first container, which only has to stay.
        vec![
            "config",
            "--image",
            &image,
            "--tag",
            "pause",
            "--config.cmd",
            "/bin/sleep",
            "--config.cmd",
            "86400",
        ],
    ] {
        Outcome::of(Command::new("umoci").args(words)).ok();
    }
    tar(&layout, "image.tar");
    Goods { local }
}
