//! The public API: a [`Runtime`] over one state root, and a [`Container`] with a verb per file.

mod options;

pub use options::{CgroupDriver, Console, CreateOptions, ExecOptions, Overlay, Seal};
