//! capsid's runtime as a library.

pub mod cgroup;
mod child;
pub mod container;
pub mod error;
mod launch;
mod notice;
pub mod plan;
mod report;
pub mod spec;
pub mod step;
pub mod sys;

pub use error::{Code, Error, Result};
pub use notice::Notice;
