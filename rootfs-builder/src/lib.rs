//! Builds root filesystems and OCI bundles, for the tests, the demo, the bench,
//! and anyone who wants to try a container without an image store. It never runs
//! what an archive holds, and never writes outside the directory it was given.
//!
//! ```text
//! rootfs-builder bundle DIR [SOURCE] [--layers] [--rootless] [--args …]   a bundle to run
//! rootfs-builder rootfs DIR [SOURCE]                                      only its files
//! rootfs-builder probe FILE                                               the tests' probe
//!
//!                 Source                         Stack                      bundle
//!  busybox, host ─────────► files ──────┐   one Target (merged)      DIR/rootfs
//!  tar ──► Compression ──► Members ─────┼─► or one a layer     ───►  DIR/layers/N, DIR/layers.json
//!  image ─► Blobs, Digest ─► layers ────┘   (--layers)               DIR/config.json
//! ```
//!
//! # Sources
//! | | what it takes | needs |
//! |---|---|---|
//! | `--busybox` | a static busybox and a link for each applet | the host's, or Debian's mirror |
//! | `--host PROGRAM…` | programs of the host, their libraries, loader and links | nothing: the default |
//! | `--tar FILE` | a tar of a root filesystem; gzip and zstd are seen by their first bytes | the file |
//! | `--oci LAYOUT` | an OCI image layout, a tar of one, an archive of `docker save`; `--ref` among several | the image |
//!
//! `--add FILE:PATH` puts one more file of the host on top.
//!
//! # The bundle
//! `config.json` is what `runc spec` (with `--rootless`: `runc spec --rootless`)
//! writes, but for the host name `capsid`, no terminal unless `--terminal`, and
//! no ambient capabilities (without inheritable ones they cannot act).
//! Out of an image it has Entrypoint and Cmd, Env, WorkingDir and User; what is
//! asked for on the command line goes before that.
//!
//! With `--layers` `rootfs` is empty, and **`layers.json`** is a JSON array of
//! directories relative to the bundle, the lowest layer first:
//! `["layers/0", "layers/1"]`. Reversed and joined by colons it is overlayfs's
//! `lowerdir`. Whiteouts are 0/0 character devices; opaque directories bear
//! `trusted.overlay.opaque` where that is permitted and `user.overlay.opaque`
//! always, so an ordinary user mounts them with `userxattr`.
//!
//! # What an archive cannot do
//! Names are resolved against the links that the layers brought so far, within
//! the root, before they reach the kernel; the kernel then gets them relative to
//! the target's descriptor with `RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS` and
//! `RESOLVE_NO_XDEV` (openat2(2), Linux 5.6). A name with `..` is refused. Blobs
//! are checked against their digests before they are read, layers against their
//! `diff_id` while they are; when anything is wrong, what was written is removed.
//! Extension headers and JSON files have a limit; the content of files has none
//! but the disk. A directory that is made for an image is 0700: its setuid
//! programs are nobody's but the caller's.
//!
//! # As an ordinary user
//! Owners become the caller's and devices are left out, each told in one
//! [`Notices`] line. Everything else is the same.
//!
//! # As a library
//! ```no_run
//! use capsid_rootfs_builder::{Addition, Recipe, Source, probe};
//! # fn main() -> anyhow::Result<()> {
//! let mut recipe = Recipe::new(Source::Busybox);
//! recipe.additions.push(Addition {
//!     file: probe::path()?.to_path_buf(),
//!     path: "/probe".into(),
//! });
//! recipe.settings.args = Some(vec!["/probe".into(), "mounts".into()]);
//! let notices = recipe.bundle("/tmp/bundle".as_ref())?;
//! eprint!("{notices}");
//! # Ok(())
//! # }
//! ```
//!
//! # The probe
//! A static program that prints what it sees as one line of JSON. Without words
//! it prints every section; with words those (`probe mounts ids`), then answers
//! a question (`stat PATH…`, `read PATH…`, `sysctl KEY…`) or does one action:
//! `exit N`, `signal N`, `sleep-until-term`, `hold`, `write PATH TEXT`,
//! `open PATH r|w|rw`, `mkdir PATH`, `mknod PATH c|b|p MAJOR MINOR`,
//! `sethostname NAME`, `alloc BYTES`, `threads N`. The tables in
//! `probe/src/main.rs` and `probe/src/action.rs` are the whole list.
#![forbid(unsafe_code)]

mod accounts;
mod blobs;
mod busybox;
mod compression;
mod config;
mod digest;
mod elf;
mod entry;
mod errno;
mod host;
mod image;
mod inner;
mod layer;
mod ldcache;
mod links;
mod member;
mod notice;
pub mod probe;
mod recipe;
mod settings;
mod skeleton;
mod stack;
mod target;

pub use config::config;
pub use host::DEFAULT_PROGRAMS;
pub use notice::{Loss, Notices};
pub use probe::build_probe;
pub use recipe::{Addition, Recipe, Source};
pub use settings::Settings;
pub use stack::Layout;
