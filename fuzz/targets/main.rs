//! The targets; README.md tells what each of them holds its input against.
#![forbid(unsafe_code)]

mod documents;
mod ids;
mod mount_options;
mod seccomp;
