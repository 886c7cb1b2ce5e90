//! capsid's runtime as a library.

pub mod cgroup;
pub mod error;
mod notice;
mod sys;

pub use error::{Code, Error, Result};
pub use notice::Notice;
