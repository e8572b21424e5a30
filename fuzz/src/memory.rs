//! An allocator that counts: bytes held, and the most that were held since it was asked to look.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn grow(bytes: usize) {
    // One thread: a load and a store are enough, and cost less than an exchange.
    let held = HELD.load(Relaxed) + bytes;
    HELD.store(held, Relaxed);
    if held > MOST.load(Relaxed) {
        MOST.store(held, Relaxed);
    }
}

fn shrink(bytes: usize) {
    HELD.store(HELD.load(Relaxed).wrapping_sub(bytes), Relaxed);
}

// SAFETY: the system's allocator does the work; this counts beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: as the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both are held while the bytes are moved.
        grow(size);
        shrink(layout.size());
        // SAFETY: as the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Bytes held now.
pub fn held() -> usize {
    HELD.load(Relaxed)
}

/// The most bytes that were held at a time while `work` ran, less those held before.
pub fn most_while(work: impl FnOnce()) -> usize {
    let before = held();
    MOST.store(before, Relaxed);
    work();
    MOST.load(Relaxed) - before
}
