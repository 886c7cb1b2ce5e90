//! A root filesystem of one static busybox and a link for each of its applets.
//! The program is the host's; without one, or with a dynamic one, it comes out
//! of Debian's package, which is unpacked and not installed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::elf;
use crate::entry::Attributes;
use crate::errno::{At, shown};
use crate::host;
use crate::inner::InnerPath;
use crate::layer::Unpacker;

const PACKAGE: &str = "busybox-static";

/// Without a network apt gives up at once, and not after its two minutes.
const IMPATIENT: &[&str] = &[
    "-oAcquire::Retries=0",
    "-oAcquire::http::Timeout=20",
    "-oAcquire::https::Timeout=20",
];

/// Where the package has the program: /bin before Debian 13, /usr/bin since.
const IN_PACKAGE: &[&str] = &["bin/busybox", "usr/bin/busybox"];

/// All programs lie in /bin; the other directories that scripts name are links to it.
const LINKS: &[(&str, &str)] = &[
    ("sbin", "bin"),
    ("usr/bin", "../bin"),
    ("usr/sbin", "../bin"),
];

/// Fills the top layer.
///
/// # Errors
/// There is no static busybox on the host and the package cannot be had.
pub(crate) fn copy(files: &mut Unpacker) -> Result<()> {
    let scratch = tempfile::tempdir().context("a temporary directory")?;
    let program = match on_host() {
        Some(path) => path,
        None => from_package(scratch.path())?,
    };
    install(files, &program)
}

/// The host's busybox, if it has one without a loader and libraries.
pub(crate) fn on_host() -> Option<PathBuf> {
    let path = host::find("busybox").ok()?;
    is_static(&path).then_some(path)
}

fn is_static(path: &Path) -> bool {
    elf::read(path).is_ok_and(|needs| needs.loader.is_none() && needs.libraries.is_empty())
}

/// Downloads and unpacks the package below `scratch`.
pub(crate) fn from_package(scratch: &Path) -> Result<PathBuf> {
    run(Command::new("apt-get")
        .args(IMPATIENT)
        .args(["download", PACKAGE])
        .current_dir(scratch))?;
    let mut packages = fs::read_dir(scratch)
        .at(scratch)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension() == Some(OsStr::new("deb")));
    let Some(package) = packages.next() else {
        bail!("apt-get download {PACKAGE}: no package came");
    };
    let tree = scratch.join("tree");
    run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&tree))?;
    let found = IN_PACKAGE
        .iter()
        .map(|path| tree.join(path))
        .find(|path| path.is_file());
    match found {
        Some(path) if is_static(&path) => Ok(path),
        Some(path) => bail!("{}: not a static program", shown(path)),
        None => bail!("{PACKAGE}: the package holds no busybox"),
    }
}

fn install(files: &mut Unpacker, program: &Path) -> Result<()> {
    let bin = InnerPath::parse("bin")?;
    let target = files.stack.top()?;
    target.directories(&bin)?;
    let mut content = File::open(program).at(program)?;
    let inner = bin.child(OsStr::new("busybox"));
    target.file(&inner, &mut content, &Attributes::mode(0o755))?;
    for (link, text) in LINKS {
        let link = InnerPath::parse(link)?;
        if let Some((parent, _)) = link.split() {
            files.stack.top()?.directories(&parent)?;
        }
        files.symlink(&link, OsStr::new(text))?;
    }
    let list = run(Command::new(program).arg("--list"))?;
    for applet in list.lines().filter(|applet| *applet != "busybox") {
        let link = bin.child(OsStr::new(applet));
        files.symlink(&link, OsStr::new("busybox"))?;
    }
    Ok(())
}

/// Runs a program to its end; its output, or one line that says how it ended.
fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_os_string();
    let output = command.output().at(&program)?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or_default();
        bail!("{}: {}: {}", shown(&program), output.status, shown(last));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
