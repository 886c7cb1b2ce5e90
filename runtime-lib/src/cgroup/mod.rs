//! Where a container's processes are counted and limited.
