//! The terminal of a foreground process: the host's side, the container's side, and what
//! carries bytes between them.

mod host;
mod lane;
mod proxy;

pub use host::{Host, size};
pub use proxy::Proxy;
