//! What a bundle's configuration is made from: the caller's word, and where the
//! caller is silent the image's.

use anyhow::Result;

use crate::accounts::{self, Identity};
use crate::config::DEFAULT_PATH;
use crate::image::Process;
use crate::layer::Unpacker;

/// `None` and empty mean the image's word, or else the default of `runc spec`.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The command; the default is `sh`.
    pub args: Option<Vec<String>>,
    /// `KEY=VALUE` strings; the default is PATH and TERM.
    pub env: Option<Vec<String>>,
    /// The working directory, absolute; the default is `/`.
    pub cwd: Option<String>,
    /// uid and gid in the container; the default is 0 and 0.
    pub user: Option<(u32, u32)>,
    /// Further groups in the container.
    pub groups: Vec<u32>,
    /// The default is `capsid`.
    pub hostname: Option<String>,
    /// Whether the container gets a terminal.
    pub terminal: bool,
    /// Whether the container may write to its root filesystem.
    pub writable: bool,
    /// The host's uid and gid that root of the container is, in a user
    /// namespace; `None` for a container of real root.
    pub rootless: Option<(u32, u32)>,
}

impl Settings {
    /// These settings, with the image's (OCI image specification,
    /// conversion.md) where they say nothing.
    ///
    /// # Errors
    /// The image's user is a name that its own account files do not have.
    pub(crate) fn or_image(&self, process: &Process, files: &Unpacker) -> Result<Self> {
        let mut settings = self.clone();
        if settings.args.is_none() {
            let entrypoint = process.entrypoint.iter().flatten();
            let words = entrypoint.chain(process.cmd.iter().flatten());
            let words: Vec<String> = words.cloned().collect();
            settings.args = Some(words).filter(|words| !words.is_empty());
        }
        if settings.env.is_none() {
            settings.env = process.env.clone().map(with_path);
        }
        if settings.cwd.is_none() {
            settings.cwd = process.working_dir.as_deref().map(absolute);
        }
        if settings.user.is_none() {
            let Identity { uid, gid, groups } = identity(process, files)?;
            settings.user = Some((uid, gid));
            settings.groups = groups;
        }
        Ok(settings)
    }
}

fn identity(process: &Process, files: &Unpacker) -> Result<Identity> {
    let user = process.user.as_deref().unwrap_or_default();
    let passwd = files
        .text("etc/passwd", accounts::MAX_LENGTH)?
        .unwrap_or_default();
    let group = files
        .text("etc/group", accounts::MAX_LENGTH)?
        .unwrap_or_default();
    accounts::identity(user, &passwd, &group)
}

/// Runtimes look the command up by the container's PATH; without one nothing is found.
fn with_path(mut env: Vec<String>) -> Vec<String> {
    if !env.iter().any(|pair| pair.starts_with("PATH=")) {
        env.push(DEFAULT_PATH.to_owned());
    }
    env
}

/// An empty directory means the root, and a relative one lies below it.
fn absolute(path: &str) -> String {
    format!("/{}", path.trim_start_matches('/'))
}
