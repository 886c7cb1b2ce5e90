//! What Docker and Podman do alike.

pub mod confined;
pub mod kept;
pub mod life;
pub mod limited;
pub mod shared;
