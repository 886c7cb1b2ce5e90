//! Builds root filesystems and OCI bundles, for the tests, the demo, the bench,
//! and anyone who wants to try a container without an image store.
#![forbid(unsafe_code)]

mod busybox;
mod config;
mod elf;
mod errno;
mod host;
mod inner;
mod ldcache;
mod notice;
pub mod probe;
mod recipe;
mod skeleton;
mod stack;
mod target;

pub use config::{Settings, config};
pub use host::DEFAULT_PROGRAMS;
pub use inner::InnerPath;
pub use notice::{Loss, Notices};
pub use probe::build_probe;
pub use recipe::{Addition, Recipe, Source};
pub use stack::Layout;
