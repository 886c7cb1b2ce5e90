//! The memory of a command that ends soon: taken from one array, which the kernel maps page by
//! page, and given back to lists of one size each. malloc(3) takes what doesn't fit.
//!
//! A run makes some 1600 allocations, most of them for a moment: a quarter of its instructions
//! outside of the kernel (0.1 ms) and a dozen brk(2) less than with malloc alone, which sorts
//! and merges what it gets back. What a long command keeps in here
//! is bounded by the array.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::{null_mut, write_bytes};
#[cfg(target_env = "gnu")]
use std::sync::atomic::AtomicU8;
use std::sync::atomic::{AtomicBool, Ordering};

const SIZE: usize = 512 << 10;
/// The alignment of malloc(3).
const UNIT: usize = 16;
/// Sizes up to here are 16 bytes apart, larger ones a quarter of a power of two.
const SMALL: usize = 1024;
const SMALL_LISTS: usize = SMALL / UNIT;
const LISTS: usize = SMALL_LISTS + 4 * (SIZE / SMALL).ilog2() as usize;
/// What a run touches: mapped at once, with one call instead of a page fault for each page.
const USUAL: usize = 128 << 10;

/// Of whole pages, for madvise(2).
#[repr(C, align(4096))]
struct Memory([u8; SIZE]);

/// See the module.
pub struct Arena {
    memory: UnsafeCell<Memory>,
    /// Somebody is at the fields below: anyone else does without the arena. Not asked where there
    /// is one thread: an atomic exchange takes longer than all else that is done for a block.
    busy: AtomicBool,
    used: UnsafeCell<usize>,
    /// Blocks of one size each, the first word of each being the address of the next.
    free: UnsafeCell<[*mut u8; LISTS]>,
}

// SAFETY: `busy` lets one thread at a time at the cells, unless there is only one; blocks are
// their owners'.
unsafe impl Sync for Arena {}

impl Arena {
    pub const fn new() -> Arena {
        Arena {
            memory: UnsafeCell::new(Memory([0; SIZE])),
            busy: AtomicBool::new(false),
            used: UnsafeCell::new(0),
            free: UnsafeCell::new([null_mut(); LISTS]),
        }
    }

    fn start(&self) -> *mut u8 {
        self.memory.get().cast()
    }

    fn holds(&self, block: *mut u8) -> bool {
        (block as usize).wrapping_sub(self.start() as usize) < SIZE
    }

    /// Does something with the cells, unless another thread is at it.
    #[inline(always)]
    fn alone<T>(&self, act: impl FnOnce(&mut usize, &mut [*mut u8; LISTS]) -> T) -> Option<T> {
        let shared = !is_single_threaded();
        if shared && self.busy.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: nobody else is between the two lines with `busy`, and `act` starts no thread.
        let done = act(unsafe { &mut *self.used.get() }, unsafe {
            &mut *self.free.get()
        });
        if shared {
            self.busy.store(false, Ordering::Release);
        }
        Some(done)
    }

    /// Asks for the pages of what is usually taken.
    pub fn populate(&self) {
        // SAFETY: the advice changes nothing that is there; without it, pages come one by one.
        unsafe { libc::madvise(self.start().cast(), USUAL, libc::MADV_POPULATE_WRITE) };
    }

    #[inline(always)]
    fn take(&self, size: usize, list: usize) -> Option<*mut u8> {
        self.alone(|used, free| {
            if let Some(first) = free.get_mut(list).filter(|first| !first.is_null()) {
                let block = *first;
                // SAFETY: a block in a list holds the address of the next.
                *first = unsafe { block.cast::<*mut u8>().read() };
                return Some(block);
            }
            let end = used.checked_add(size).filter(|end| *end <= SIZE)?;
            // SAFETY: inside of the array, and given to nobody yet.
            let block = unsafe { self.start().add(*used) };
            *used = end;
            Some(block)
        })?
    }

    /// None: it is malloc's to give.
    #[inline(always)]
    fn take_for(&self, layout: Layout) -> Option<*mut u8> {
        if layout.align() > UNIT || layout.size() > SIZE {
            return None;
        }
        let (size, list) = rounded(layout.size());
        self.take(size, list)
    }

    #[inline(always)]
    fn give_back(&self, block: *mut u8, size: usize, list: usize) {
        // Where another thread is at it, the block is lost to the arena.
        let _ = self.alone(|used, free| {
            let at = block as usize - self.start() as usize;
            if at + size == *used {
                *used = at;
            } else if let Some(first) = free.get_mut(list) {
                // SAFETY: the block is nobody's any more, and has room for an address.
                unsafe { block.cast::<*mut u8>().write(*first) };
                *first = block;
            }
        });
    }

    /// Makes the last block larger or smaller where it is.
    fn resize(&self, block: *mut u8, old: usize, new: usize) -> bool {
        let resized = self.alone(|used, _| {
            let at = block as usize - self.start() as usize;
            let last = at + old == *used && at + new <= SIZE;
            if last {
                *used = at + new;
            }
            last
        });
        resized == Some(true)
    }
}

/// What glibc knows of it; false until it has looked.
#[cfg(target_env = "gnu")]
fn is_single_threaded() -> bool {
    unsafe extern "C" {
        static __libc_single_threaded: AtomicU8;
    }
    // SAFETY: a char of glibc's since 2.32, which only the thread that starts another one changes
    // while there is one.
    unsafe { __libc_single_threaded.load(Ordering::Relaxed) != 0 }
}

#[cfg(not(target_env = "gnu"))]
fn is_single_threaded() -> bool {
    false
}

/// How large the block for so many bytes is, at most [`SIZE`] and at least one, and which list it
/// goes to. Most blocks are small, and then these are a few instructions of whoever asks.
#[inline(always)]
fn rounded(size: usize) -> (usize, usize) {
    if size <= SMALL {
        let size = size.next_multiple_of(UNIT);
        return (size, size / UNIT - 1);
    }
    large(size)
}

fn large(size: usize) -> (usize, usize) {
    let power = (size - 1).ilog2();
    let quarter = 1 << (power - 2);
    let size = size.next_multiple_of(quarter);
    let list = 4 * (power - SMALL.ilog2()) as usize + (size >> (power - 2)) - 5;
    (size, SMALL_LISTS + list)
}

// SAFETY: a block is given to one owner at a time, is as large and as aligned as was asked, and
// goes back to where it came from, which its address tells.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.take_for(layout) {
            Some(block) => block,
            // SAFETY: the caller's promise.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(block) = self.take_for(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc_zeroed(layout) };
        };
        // SAFETY: the block is as large as that, and nobody's else.
        unsafe { write_bytes(block, 0, layout.size()) };
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.holds(block) {
            true => {
                let (size, list) = rounded(layout.size());
                self.give_back(block, size, list);
            }
            // SAFETY: then it is malloc's.
            false => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.holds(block) {
            // SAFETY: then it is malloc's.
            return unsafe { System.realloc(block, layout, size) };
        }
        if size <= SIZE {
            let ((old, _), (new, _)) = (rounded(layout.size()), rounded(size));
            // What became smaller goes to the list of its new size next.
            if new == old || self.resize(block, old, new) || new < old {
                return block;
            }
        }
        // SAFETY: the caller's promise; the blocks are two, and both as large as what is copied.
        unsafe {
            let other = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !other.is_null() {
                block.copy_to_nonoverlapping(other, layout.size().min(size));
                self.dealloc(block, layout);
            }
            other
        }
    }
}
