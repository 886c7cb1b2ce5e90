//! The flags that create, run and explain share: how a bundle becomes a container.

use std::path::PathBuf;

use capsid_runtime::lxcfs::USUAL_PLACE;
use capsid_runtime::{CreateOptions, Overlay, Result};
use clap::Args;

use super::activation::Activation;
use super::process_flags::{ProcessFlags, Stay, console, preserved, seccomp_receiver};
use crate::global::Global;
use crate::terminal;

#[derive(Args)]
pub struct CreateFlags {
    /// Read the configuration from FILE [default: config.json in the bundle]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Never change the bundle's root filesystem: what the container writes goes into a layer
    /// of its own above it, and goes away with the container. Where config.json has root.readonly,
    /// it writes nothing
    #[arg(long)]
    overlay: bool,

    /// As --overlay, but keep what the container writes in DIR/upper, beside overlayfs' own DIR/work;
    /// DIR is made when it is missing, and may be of one container at a time
    #[arg(long, value_name = "DIR")]
    overlay_dir: Option<PathBuf>,

    /// As --overlay, but over DIR instead of the bundle's root filesystem; give it once for
    /// each layer, the lowest first
    #[arg(long, value_name = "DIR")]
    overlay_lower: Vec<PathBuf>,

    /// Show the files of the lxcfs mounted on DIR in the container's /proc and /sys, so that `free`,
    /// `top` and a JVM see its limits [default of DIR: /var/lib/lxcfs]
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = USUAL_PLACE)]
    lxcfs: Option<PathBuf>,

    #[command(flatten)]
    pub process: ProcessFlags,

    /// Enter the root filesystem without pivot_root(2), for one that lies on a ramdisk; the
    /// container can then undo more than it should
    #[arg(long)]
    no_pivot: bool,

    /// Leave the caller's session keyring to the container instead of a new one
    #[arg(long)]
    no_new_keyring: bool,

    /// Refuse a configuration with a setting that will not act as written, where there is else
    /// a warning
    #[arg(long)]
    strict: bool,
}

impl CreateFlags {
    /// `doing` is what an error says was being done.
    pub fn options(
        self,
        doing: String,
        bundle: PathBuf,
        stay: Stay,
        global: &Global,
    ) -> Result<CreateOptions> {
        let read = self.read(bundle, stay, global);
        read.map_err(|error| error.during(doing))
    }

    fn read(self, bundle: PathBuf, stay: Stay, global: &Global) -> Result<CreateOptions> {
        let activation = Activation::of_this_process();
        let wanted = self.overlay || self.overlay_dir.is_some() || !self.overlay_lower.is_empty();
        Ok(CreateOptions {
            bundle,
            config: self.config,
            overlay: wanted.then_some(Overlay {
                keep: self.overlay_dir,
                lower: self.overlay_lower,
            }),
            lxcfs: self.lxcfs,
            console: console(self.process.console_socket, stay)?,
            console_size: match stay {
                Stay::Foreground => Some(terminal::size),
                Stay::Detached => None,
            },
            pid_file: self.process.pid_file,
            pidfd_socket: self.process.pidfd_socket,
            seccomp_receiver: seccomp_receiver(),
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: preserved(activation.count.saturating_add(self.process.preserve_fds))?,
            env: activation.env,
            notify: crate::notify::wanted(),
            cgroups: global.cgroup_driver(),
            rootless: global.rootless(),
            strict: self.strict,
            cancel: None,
        })
    }
}
