//! `spec`: writes a config.json to start from, and never over one that is there.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use capsid_runtime::spec::default::{self, Owner};
use capsid_runtime::{Code, Error, Result};
use clap::Args;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{getegid, geteuid};

const NOTES: &str = "\
The configuration runs `sh` on a terminal in DIR/rootfs. Edit process.args to run something
else, and set process.terminal to false to run it without a terminal. A bundle of an image, with
its files, is made by `rootfs-builder bundle DIR --oci IMAGE`.

Examples:
  capsid spec --bundle /tmp/b
  capsid spec --rootless                   for a user other than root";

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Spec {
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,

    /// Write a configuration that an ordinary user can run, with a user namespace
    #[arg(long)]
    rootless: bool,
}

impl Spec {
    pub fn run(self) -> Result<u8> {
        let path = self.bundle.join("config.json");
        let owner = self.rootless.then(|| Owner {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
        });
        let text = default::config(owner, has_only_cgroup_v2());
        let opened = File::options().write(true).create_new(true).open(&path);
        let mut file = match opened {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::new(Code::Exists, "file exists")
                    .path(path)
                    .hint("remove it first, or name another directory with --bundle"));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::io(Code::Io, "open", &error)
                    .path(path)
                    .hint("--bundle names a directory that exists"));
            }
            opened => opened.map_err(|error| Error::io(Code::Io, "open", &error).path(&path))?,
        };
        file.write_all(text.as_bytes())
            .map_err(|error| Error::io(Code::Io, "write", &error).path(&path))?;
        Ok(0)
    }
}

/// There the container gets a cgroup namespace, as runc's does.
fn has_only_cgroup_v2() -> bool {
    statfs("/sys/fs/cgroup").is_ok_and(|stat| stat.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_that_is_there_is_kept() {
        let bundle = tempfile::tempdir().unwrap();
        let spec = |rootless| Spec {
            bundle: bundle.path().to_path_buf(),
            rootless,
        };
        assert_eq!(spec(false).run(), Ok(0));
        let path = bundle.path().join("config.json");
        let before = std::fs::read_to_string(&path).unwrap();
        let error = spec(true).run().unwrap_err();
        assert_eq!(error.code(), Code::Exists);
        assert!(error.to_string().contains("remove it first"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    }
}
