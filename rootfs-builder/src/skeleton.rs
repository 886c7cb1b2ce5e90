//! What every root filesystem that is not out of an image has: the directories
//! that mounts go onto, and the few files of /etc that programs read.

use anyhow::Result;

use crate::entry::Attributes;
use crate::inner::InnerPath;
use crate::target::Target;

/// Directories and their modes.
const DIRECTORIES: &[(&str, u32)] = &[
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/tmp", 0o1777),
];

/// Files of mode 0644 and their content.
const FILES: &[(&str, &str)] = &[
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost\n"),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\n",
    ),
];

pub(crate) fn write(target: &mut Target) -> Result<()> {
    for (path, mode) in DIRECTORIES {
        target.directory(&InnerPath::parse(path)?, Attributes::mode(*mode))?;
    }
    for (path, text) in FILES {
        target.file(
            &InnerPath::parse(path)?,
            &mut text.as_bytes(),
            &Attributes::mode(0o644),
        )?;
    }
    Ok(())
}
