//! The `capsid` binary: its entry and its `main` are in `sys`.
#![no_main]
#![deny(unsafe_code)]

#[allow(
    unsafe_code,
    reason = "what runs before and instead of std's own start, and the allocator"
)]
mod sys;

#[global_allocator]
static ARENA: sys::Arena = sys::Arena::new();
