//! The nodes of /dev: what each is, and what it may be used for.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sys::stat::{major, minor};
use serde_json::{Map, Value, json};

use crate::Answer;
use crate::errno::Name;

/// A directory that holds more is not a container's /dev; the rest is left out.
const MAX_NODES: usize = 400;

pub(crate) fn nodes() -> Answer {
    let mut nodes = Map::new();
    for entry in fs::read_dir("/dev")?.take(MAX_NODES) {
        let path = entry?.path();
        nodes.insert(path.to_string_lossy().into_owned(), describe(&path));
    }
    Ok(Value::Object(nodes))
}

/// Type, permissions, owner, and the link target or the device number.
/// A symbolic link is not followed.
pub(crate) fn describe(path: &Path) -> Value {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) => return json!({ "error": Name::from(error).to_string() }),
    };
    let kind = kind(meta.file_type());
    let mut node = Map::new();
    node.insert("type".to_owned(), json!(kind));
    node.insert(
        "mode".to_owned(),
        json!(format!("{:04o}", meta.mode() & 0o7777)),
    );
    node.insert("uid".to_owned(), json!(meta.uid()));
    node.insert("gid".to_owned(), json!(meta.gid()));
    match kind {
        "char" | "block" => {
            node.insert("rdev".to_owned(), json!(numbers(meta.rdev())));
        }
        "symlink" => {
            let target = fs::read_link(path).ok();
            let target = target.map(|target| target.to_string_lossy().into_owned());
            node.insert("target".to_owned(), json!(target));
        }
        _ => {}
    }
    Value::Object(node)
}

/// `MAJOR:MINOR`
pub(crate) fn numbers(device: u64) -> String {
    format!("{}:{}", major(device), minor(device))
}

fn kind(kind: fs::FileType) -> &'static str {
    let kinds = [
        (kind.is_file(), "file"),
        (kind.is_dir(), "dir"),
        (kind.is_symlink(), "symlink"),
        (kind.is_char_device(), "char"),
        (kind.is_block_device(), "block"),
        (kind.is_fifo(), "fifo"),
        (kind.is_socket(), "socket"),
    ];
    let found = kinds.into_iter().find(|(is, _)| *is);
    found.map_or("unknown", |(_, name)| name)
}
