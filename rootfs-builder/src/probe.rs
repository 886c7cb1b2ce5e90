//! Builds the static probe that tests run inside containers. It runs cargo on
//! this crate's own source, so it works in a checkout only.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};

use crate::elf;
use crate::errno::{At, shown};

const PACKAGE: &str = "capsid-probe";

/// A glibc program is static only with this, and only for a target that was
/// named: else proc macros are built static too, which cannot be loaded.
const STATIC: &str = "-C target-feature=+crt-static";

/// Where the probe lies; the first call in a process has it built.
///
/// # Errors
/// As `build_probe`.
pub fn path() -> Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.as_deref().map_err(|error| anyhow!("{error}"))
}

/// Builds the probe and copies it to `out`, mode 0755.
///
/// # Errors
/// cargo or the source is missing, or the build fails: cargo's last lines.
pub fn build_probe(out: &Path) -> Result<()> {
    let built = path()?;
    fs::copy(built, out).at(out)?;
    fs::set_permissions(out, fs::Permissions::from_mode(0o755)).at(out)
}

fn build() -> Result<PathBuf> {
    let crate_directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = crate_directory.parent().unwrap_or(crate_directory);
    if !crate_directory.join("probe/Cargo.toml").is_file() {
        bail!(
            "{}: the probe's source is not here",
            shown(crate_directory.join("probe"))
        );
    }
    let triple = host_triple(workspace)?;
    let target_directory = target_directory(workspace);
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--package",
            PACKAGE,
        ])
        .args(["--target", &triple])
        .arg("--target-dir")
        .arg(&target_directory)
        .current_dir(workspace)
        // Under `cargo test` these name the flags of the build around this one.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env("RUSTFLAGS", STATIC);
    let output = cargo.output().context("cargo")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!(
            "building the probe: cargo: {}:\n{}",
            output.status,
            text.trim_end()
        );
    }
    let built = target_directory.join(&triple).join("release").join(PACKAGE);
    if elf::read(&built)?.loader.is_some() {
        bail!("{}: not a static program", shown(&built));
    }
    Ok(built)
}

/// A directory of its own, so that it never waits for the lock of the build
/// that runs the tests.
fn target_directory(workspace: &Path) -> PathBuf {
    let base = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    workspace
        .join(base.unwrap_or_else(|| "target".into()))
        .join("probe")
}

/// The `host:` line of `rustc -vV`.
fn host_triple(workspace: &Path) -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let output = Command::new(&rustc)
        .arg("-vV")
        .current_dir(workspace)
        .output()
        .at(&rustc)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.with_context(|| format!("{} -vV: no host line", shown(&rustc)))?;
    Ok(host.to_owned())
}
