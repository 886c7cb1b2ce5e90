//! Tests only: an allocator under which no forked process may allocate or free. Between clone
//! and execve the heap is a copy that another thread may have been changing.
//!
//! A process that does so says so and ends with [`STATUS`], which the parent reports.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI32, Ordering};

/// The exit status of a child that allocated.
pub const STATUS: i32 = 99;

const COMPLAINT: &[u8] = b"a child allocated between clone and execve\n";

struct Watched;

#[global_allocator]
static WATCHED: Watched = Watched;

/// The process that began to allocate: the test.
static OWNER: AtomicI32 = AtomicI32::new(0);

fn check() {
    // SAFETY: the call takes nothing; libc keeps no copy of the answer.
    let pid = unsafe { libc::getpid() };
    let owner = OWNER.compare_exchange(0, pid, Ordering::Relaxed, Ordering::Relaxed);
    if owner.is_err_and(|owner| owner != pid) {
        // SAFETY: the pointer and the length are those of a constant.
        unsafe { libc::write(2, COMPLAINT.as_ptr().cast(), COMPLAINT.len()) };
        // SAFETY: ends the process; nothing of it is used afterwards.
        unsafe { libc::_exit(STATUS) };
    }
}

// SAFETY: all of the work is the system allocator's.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        check();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
