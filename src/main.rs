//! The `capsid` binary: hands the process over to the command line's crate.
#![no_main]
#![deny(unsafe_code)]

#[allow(
    unsafe_code,
    reason = "what runs before and instead of std's own start"
)]
mod sys;

#[allow(unsafe_code, reason = "a global allocator is")]
mod arena;

#[global_allocator]
static ARENA: arena::Arena = arena::Arena::new();
