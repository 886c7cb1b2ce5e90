//! capsid's runtime as a library.

pub mod cgroup;
pub mod container;
pub mod error;
mod notice;
pub mod plan;
pub mod step;
pub mod sys;

pub use error::{Code, Error, Result};
pub use notice::Notice;
