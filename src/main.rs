//! The `capsid` binary: hands the process over to the command line's crate.
#![no_main]
#![deny(unsafe_code)]

#[allow(
    unsafe_code,
    reason = "what runs before and instead of std's own start, and the allocator"
)]
mod sys;

#[global_allocator]
static ARENA: sys::Arena = sys::Arena::new();
