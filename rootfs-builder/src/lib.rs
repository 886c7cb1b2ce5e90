//! Builds root filesystems and OCI bundles, for the tests, the demo, the bench,
//! and anyone who wants to try a container without an image store.
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
pub use inner::InnerPath;
pub use notice::{Loss, Notices};
pub use probe::build_probe;
pub use recipe::{Addition, Recipe, Source};
pub use settings::Settings;
pub use stack::Layout;
