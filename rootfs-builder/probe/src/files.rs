//! Open descriptors, and the files, paths and sysctls that a test asks about.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::makedev;
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use serde_json::{Map, Value, json};

use crate::Answer;
use crate::devices;
use crate::errno::Name;

/// A file asked for is shown up to here.
const MAX_CONTENT: u64 = 64 * 1024;

/// Every open descriptor but the one that lists them.
pub(crate) fn descriptors() -> Answer {
    let mut names = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        names.push(entry?.file_name());
    }
    let mut rows = Vec::new();
    for name in names {
        let link = Path::new("/proc/self/fd").join(&name);
        // The directory that was just read is closed by now.
        let Ok(target) = fs::read_link(&link) else {
            continue;
        };
        let flags = open_flags(&Path::new("/proc/self/fdinfo").join(&name));
        rows.push(json!({
            "fd": name.to_string_lossy().parse::<i32>().ok(),
            "target": target.to_string_lossy(),
            "flags": flags.map(|flags| format!("{flags:#o}")),
            "cloexec": flags.map(|flags| flags & OFlag::O_CLOEXEC.bits() != 0),
        }));
    }
    rows.sort_by_key(|row| row.get("fd").and_then(Value::as_i64));
    Ok(json!(rows))
}

/// The `flags` line of fdinfo: octal, close-on-exec included.
fn open_flags(fdinfo: &Path) -> Option<i32> {
    let text = fs::read_to_string(fdinfo).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
    i32::from_str_radix(line.trim(), 8).ok()
}

/// Values by key; a key's dots stand for slashes (sysctl(8)).
pub(crate) fn sysctls(keys: &[OsString]) -> Value {
    answers(keys, |key| {
        let path = Path::new("/proc/sys").join(key.to_string_lossy().replace('.', "/"));
        let text = fs::read_to_string(path)?;
        Ok(json!(text.trim_end()))
    })
}

/// What each path is, by statx(2), with the id of the mount it is on.
pub(crate) fn stats(paths: &[OsString]) -> Value {
    answers(paths, |path| {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let seen = rustix::fs::statx(CWD, path.as_os_str(), AtFlags::SYMLINK_NOFOLLOW, mask)?;
        let mut value = devices::describe(&PathBuf::from(path));
        if let Some(value) = value.as_object_mut() {
            let attributes = seen.stx_attributes;
            value.insert("mount_id".to_owned(), json!(seen.stx_mnt_id));
            value.insert("inode".to_owned(), json!(seen.stx_ino));
            value.insert("size".to_owned(), json!(seen.stx_size));
            let device = makedev(seen.stx_dev_major.into(), seen.stx_dev_minor.into());
            value.insert("device".to_owned(), json!(devices::numbers(device)));
            value.insert("links".to_owned(), json!(seen.stx_nlink));
            value.insert(
                "mount_root".to_owned(),
                json!(attributes.contains(StatxAttributes::MOUNT_ROOT)),
            );
        }
        Ok(value)
    })
}

/// The text of each file, up to 64 KiB.
pub(crate) fn contents(paths: &[OsString]) -> Value {
    answers(paths, |path| {
        let mut bytes = Vec::new();
        fs::File::open(path)?
            .take(MAX_CONTENT)
            .read_to_end(&mut bytes)?;
        Ok(json!(String::from_utf8_lossy(&bytes)))
    })
}

fn answers(subjects: &[OsString], ask: impl Fn(&OsString) -> Result<Value, Name>) -> Value {
    let rows = subjects.iter().map(|subject| {
        let answer = ask(subject).unwrap_or_else(|errno| json!({ "error": errno.to_string() }));
        (subject.to_string_lossy().into_owned(), answer)
    });
    Value::Object(rows.collect::<Map<_, _>>())
}
