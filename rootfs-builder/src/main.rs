//! The command `rootfs-builder`: reads its arguments into a `Recipe`, builds,
//! and says in one line why it could not. All the work is the library's.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use capsid_rootfs_builder::{Addition, Layout, Notices, Recipe, Settings, Source, build_probe};
use clap::{Args, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  rootfs-builder bundle /tmp/web --busybox
  rootfs-builder bundle /tmp/tools --add /etc/hosts:/etc/hosts --host ls cat
  docker save -o debian.tar debian && rootfs-builder bundle /tmp/debian --oci debian.tar
  rootfs-builder rootfs /tmp/rootfs --tar rootfs.tar.gz";

const BUNDLE_USAGE: &str = "rootfs-builder bundle <DIR> [OPTIONS]";
const ROOTFS_USAGE: &str = "rootfs-builder rootfs <DIR> [OPTIONS]";

/// Builds root filesystems and OCI bundles
#[derive(Parser)]
#[command(name = "rootfs-builder", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make DIR a bundle that any OCI runtime can run
    #[command(override_usage = BUNDLE_USAGE)]
    Bundle {
        /// The bundle's directory; it may exist but must not hold a bundle
        dir: PathBuf,
        #[command(flatten)]
        source: SourceArgs,
        /// Keep the layers apart, in DIR/layers/N, and name them in DIR/layers.json
        #[arg(long)]
        layers: bool,
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Make DIR a root filesystem, without a configuration
    #[command(override_usage = ROOTFS_USAGE)]
    Rootfs {
        /// The root filesystem's directory; it must be absent or empty
        dir: PathBuf,
        #[command(flatten)]
        source: SourceArgs,
    },
    /// Build the static probe that tests run inside containers
    Probe {
        /// Where to put the program
        file: PathBuf,
    },
}

#[derive(Args)]
struct SourceArgs {
    #[command(flatten)]
    one: OneSource,
    /// Which image of --oci, by its reference name or tag
    #[arg(long = "ref", value_name = "NAME", requires = "oci", conflicts_with_all = ["busybox", "host", "tar"])]
    reference: Option<String>,
    /// Add FILE of the host as PATH; may repeat
    #[arg(long, value_name = "FILE:PATH", value_parser = addition)]
    add: Vec<Addition>,
}

#[derive(Args)]
#[group(multiple = false)]
struct OneSource {
    /// A static busybox, of the host or of Debian's busybox-static
    #[arg(long)]
    busybox: bool,
    /// Programs of the host with their libraries; without any, the usual ones; the default source
    #[arg(long, value_name = "PROGRAM", num_args = 0..)]
    host: Option<Vec<String>>,
    /// A tar of a root filesystem; gzip and zstd are read too
    #[arg(long, value_name = "FILE")]
    tar: Option<PathBuf>,
    /// An image: an OCI layout, a tar of one, or an archive of `docker save`
    #[arg(long, value_name = "LAYOUT")]
    oci: Option<PathBuf>,
}

#[derive(Args)]
struct SettingsArgs {
    /// A container for an ordinary user, in a user namespace
    #[arg(long)]
    rootless: bool,
    /// Give the container a terminal
    #[arg(long)]
    terminal: bool,
    /// Let the container write to its root filesystem, or with --overlay to a layer above it
    #[arg(long)]
    writable: bool,
    /// The container's host name [default: capsid]
    #[arg(long, value_name = "NAME", value_parser = hostname)]
    hostname: Option<String>,
    /// The command to run [default: sh]; takes all that follows
    #[arg(long, value_name = "ARG", num_args = 1.., allow_hyphen_values = true)]
    args: Option<Vec<String>>,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(notices) => {
            eprint!("{notices}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("rootfs-builder: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<Notices> {
    match cli.verb {
        Verb::Bundle {
            dir,
            source,
            layers,
            settings,
        } => {
            let mut recipe = recipe(source);
            if layers {
                recipe.layout = Layout::Layers;
            }
            recipe.settings = settings.into();
            recipe.bundle(&dir)
        }
        Verb::Rootfs { dir, source } => recipe(source).rootfs(&dir),
        Verb::Probe { file } => build_probe(&file).map(|()| Notices::default()),
    }
}

fn recipe(args: SourceArgs) -> Recipe {
    let reference = args.reference;
    let source = match args.one {
        OneSource { busybox: true, .. } => Source::Busybox,
        OneSource {
            tar: Some(file), ..
        } => Source::Tar(file),
        OneSource {
            oci: Some(layout), ..
        } => Source::Oci { layout, reference },
        OneSource { host, .. } => Source::Host(host.unwrap_or_default()),
    };
    let mut recipe = Recipe::new(source);
    recipe.additions = args.add;
    recipe
}

impl From<SettingsArgs> for Settings {
    fn from(args: SettingsArgs) -> Self {
        let ids = || {
            let uid = rustix::process::geteuid().as_raw();
            (uid, rustix::process::getegid().as_raw())
        };
        Self {
            args: args.args,
            hostname: args.hostname,
            terminal: args.terminal,
            writable: args.writable,
            rootless: args.rootless.then(ids),
            ..Self::default()
        }
    }
}

/// hostname(7): letters, digits, hyphens and dots; sethostname(2) takes 64 bytes.
fn hostname(text: &str) -> Result<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
        anyhow::bail!("1 to 64 letters, digits, - and .");
    }
    Ok(text.to_owned())
}

fn addition(text: &str) -> Result<Addition> {
    let (file, path) = text.split_once(':').context("not FILE:PATH")?;
    Ok(Addition {
        file: file.into(),
        path: path.into(),
    })
}
