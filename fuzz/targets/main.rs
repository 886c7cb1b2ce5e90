//! The targets; README.md tells what each of them holds its input against.
#![forbid(unsafe_code)]

mod documents;
mod ids;
mod layouts;
mod mount_options;
mod processes;
mod resources;
mod seccomp;
mod state_files;
mod sysctls;
